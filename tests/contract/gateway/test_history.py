"""The small history in a gateway that runs: what is kept, what is erased, who sees what."""

import asyncio
import json
import shutil
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from agent import app
from agent.acquisition.timetable import running_slot
from agent.api.calls import CALLS
from agent.api.privacy import is_common
from agent.api.registry import Caller
from agent.api.roles import Role
from agent.app import visited
from agent.buffer.history_store import DAY, QUARTER
from agent.config import load
from agent.control.model import OrderState
from agent.control.records import Outcome, Transaction
from agent.core.clock import Clock
from agent.core.errors import Refused, StorageFailed
from agent.core.model import Sample
from agent.gateway import key_rotation, plant_history
from agent.gateway.plant_history import GRACE, keep_up, note_own, obey, serve_history
from agent.gateway.supervisor import running
from agent.registry import identity, place
from hil.modbus_server import Reply, serving
from hil.process import free_port
from hil.serial_line import Registers
from tests.command import gardien
from tests.waiting import until

CONFIG = """\
building: {{name: Les Alpins, timezone: Europe/Paris}}
links:
  plant: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}}}
devices:
  boiler:
    link: plant
    address: 7
    place: CZS2Y-FSTBQ-Q5WDC
    points:
      supply: {{at: holding/101/int16, channel: temp, unit: Cel, scale: 0.1, every: 1s}}
      offset: {{at: holding/100/int16, unit: K, scale: 0.1, every: 1s, writable: true}}
  pump:
    link: plant
    address: 8
    place: CZS2Y-FSTBQ-Q5WDC
    points:
      imp: {{at: holding/102/uint16, channel: elec.imp, unit: kWh, every: 15min}}
      power: {{at: holding/103/uint16, channel: elec.power, unit: kW, every: 1min}}
  flat:
    link: plant
    address: 9
    points: {{imp: {{at: holding/102/uint16, channel: elec.imp, unit: kWh, every: 15min}}}}
controls:
  boiler-offset:
    point: boiler/offset
    equipment: heating
    modality: {{action: offset, min: -2, max: -1, max_duration: 2h}}
    guards: [{{name: departure, point: boiler/supply, min: 18.0}}]
    measure: pump/power
    require: [building_manager]
    restore: preimage
    device_watchdog: none-accepted
uplinks:
  centre: {{recipient: r.example, transport: mqtt, url: "mqtt://127.0.0.1:{far}"}}
privacy: {{policy: DEMO-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
clock: {{source: system}}
state: {state}
spool: {{max: 50MB, flush: 200ms}}
"""
HOURS = 3600


@pytest.fixture
def config(tmp_path):
    path, state = tmp_path / "config.yaml", tmp_path / "state"
    state.mkdir(mode=0o700)
    identity.mint(state)
    path.write_text(CONFIG.format(port=free_port(), far=free_port(), state=state))
    return path


async def _nobody(_):
    """Nobody to tell."""


def who(*roles):
    return Caller("alice", _nobody, frozenset(roles or Role))


async def ask(house, call, caller=None, **args):
    return await CALLS[call](house, caller or who(), **args)


@asynccontextmanager
async def at_work(path, component=True):
    with app.opened(load(path), Clock("system", path.parent / "state" / "clock.json")) as house:
        async with running(house, path):
            if component:
                opening = partial(serve_history, house, partial(is_common, house))
                await house.jobs.open(plant_history.COMPONENT, opening)
                await obey(house, partial(is_common, house))
            yield house


def note(house, device, point, t, value, **more):
    """What the poller hands over once a slot is known."""
    of = house.config.point(f"{device}/{point}")
    raw = Decimal(str(value)) / of.scale
    house.history.values.note(int(t), [Sample(of, float(t), raw)], more.get("serial"))


def waiting(house):
    """What is not written yet, the running quarter too, of the points of devices."""
    return {
        value.name.point: value.values
        for value in house.history.values.waiting(2**40)
        if value.name.device != "@gateway"
    }


async def ids(house, caller=None):
    listed = await ask(house, "history.series", caller)
    return {row["id"] for row in listed["series"] if not row["id"].startswith("@gateway")}


async def rows(house, id_, **args):
    answer = await ask(house, "history.read", series=[id_], **args)
    return answer["series"][0]["rows"]


def test_what_the_poller_reads_of_plant_is_kept_and_shown_and_nothing_of_the_flat(config):
    """Rule L1."""
    later = {"until": "2099-01-01", "since": "2020-01-01"}
    registers = Registers({(3, 100): 0, (3, 101): 615, (3, 102): 1234})

    async def scenario():
        async with serving(lambda _, pdu: Reply(registers(pdu))) as port:
            config.write_text(
                CONFIG.format(port=port, far=free_port(), state=config.parent / "state").replace(
                    "every: 15min", "every: 1s"
                )
            )
            async with at_work(config) as house:
                flat = house.lines.devices

                async def read():
                    known = {one.name for one in flat() if one.latest}
                    return {"flat", "boiler", "pump"} <= known and len(waiting(house)) == 3

                await until(read)
                await note_own(house, time.time())
                assert waiting(house) == {"supply": (61.5,), "offset": (0.0,), "imp": (1234.0,)}
                assert not house.jobs.faults.all()
        # the end has written it: it is there without an agent, too
        async with visited(config) as house:
            assert await ids(house) == {"boiler/supply", "boiler/offset", "pump/imp"}
            assert (await rows(house, "pump/imp", **later))[-1][-1] == 1234.0
            assert (await rows(house, "boiler/supply", **later))[-1][1:] == [61.5, 61.5, 61.5]

    asyncio.run(scenario())
    listed = gardien("history", "list", "--config", config, env={"LANGUAGE": "fr"})
    assert "boiler/supply" in listed.stdout
    assert "série" in listed.stdout
    table = gardien(
        "history",
        "show",
        "boiler/supply",
        "--csv",
        "--to",
        "2099-01-01",
        "--from",
        "2020-01-01",
        "--config",
        config,
    ).stdout
    assert table.splitlines()[0] == "series;unit;at;min;mean;max;quantity;index;value"
    assert table.splitlines()[1].startswith("boiler/supply;Cel;")
    shown = gardien(
        "history",
        "show",
        "boiler/supply",
        "--to",
        "2099-01-01",
        "--from",
        "2020-01-01",
        "--config",
        config,
        env={"LANGUAGE": "fr"},
    ).stdout
    assert "61,5" in shown
    free = gardien(
        "history", "show", "@gateway/disk/free", "--to", "2099-01-01", "--from", "2020-01-01",
        "--config", config, env={"LANGUAGE": "fr"},
    ).stdout  # fmt: skip
    assert "Go" in free or "Mo" in free
    answer = json.loads(
        gardien("history", "show", "pump/imp", "--step", "1d", "--json", "--config", config).stdout
    )
    assert answer["series"][0]["columns"] == ["at", "quantity", "index"]
    assert answer["timezone"] == "Europe/Paris"


def test_a_days_rows_are_closed_and_read_by_quarter_and_by_day(config):
    async def scenario():
        async with at_work(config) as house:
            now = house.clock.now()
            today = running_slot(DAY, now, ZoneInfo("Europe/Paris"))
            begin = running_slot(DAY, today - 7200, ZoneInfo("Europe/Paris"))
            for t in range(begin, today + 1, QUARTER):
                note(house, "boiler", "supply", t, 20 + (t - begin) // QUARTER % 4)
                note(house, "pump", "imp", t, 100 + (t - begin) / 3600)
            # as if it were the next day
            await keep_up(house, max(now, today + 3 * HOURS))
            assert house.history.values.waiting(today) == []
            day = f"{time.strftime('%Y-%m-%d', time.localtime(begin + 12 * HOURS))}"
            fine = await rows(house, "boiler/supply", since=day, until=day)
            assert len(fine) == (today - begin) // QUARTER
            assert fine[0] == [begin + QUARTER, 21.0, 21.0, 21.0]
            daily = await rows(house, "boiler/supply", step="1d")
            assert [begin, 20.0, 21.5, 23.0] in daily
            index = await rows(house, "pump/imp", since=day, until=day)
            assert index[0] == [begin + QUARTER, 0.25, 100.25]
            hours = (today - begin) / 3600
            assert [begin, hours, 100 + hours] in await rows(house, "pump/imp", step="1d")

    asyncio.run(scenario())


def test_a_meter_that_goes_to_a_dwelling_leaves_nothing_behind(config):
    """Rules L1, L2."""

    async def scenario():
        async with at_work(config) as house:
            now = house.clock.now()
            note(house, "pump", "imp", now - HOURS, 7, serial="KAM-0815")
            note(house, "boiler", "supply", now - HOURS, 20)
            await keep_up(house, now)
            note(house, "pump", "imp", now, 8, serial="KAM-0815")
            assert await ids(house) == {"pump/imp", "boiler/supply"}
            await ask(
                house,
                "place.new",
                label="A-3-12",
                type="dwelling",
                since="2020-01-01",
                named="marie",
            )
            await ask(
                house,
                "meter.import",
                text="serial;dwelling\nkam 0815;A-3-12\n",
                name="m",
                named="marie",
            )
            # it is not shown from that moment on, and erased with the next look
            assert await ids(house) == {"boiler/supply"}
            with pytest.raises(Refused, match="no series"):
                await rows(house, "pump/imp")
            await obey(house, partial(is_common, house))
            store = house.history.opened.store
            assert {kept.name.device for kept in store.series} - {"@gateway"} == {"boiler"}

    asyncio.run(scenario())


def test_a_device_that_is_no_longer_common_is_erased_and_one_that_left_after_a_while(config):
    """Rule L2."""

    async def scenario():
        async with at_work(config) as house:
            now = house.clock.now()
            for device, point in (
                ("pump", "imp"),
                ("pump", "power"),
                ("boiler", "supply"),
                ("boiler", "offset"),
            ):
                note(house, device, point, now - HOURS, 7)
            await keep_up(house, now)
            common, look = partial(is_common, house), house.history.opened.store
            # the pump's meter is not of common plant any more; the boiler is not read any more
            written = load(config)
            path = config.with_name("new.yaml")
            text = config.read_text()
            pump = text[text.index("  pump:") : text.index("  flat:")]
            boiler = text[text.index("  boiler:") : text.index("  pump:")]
            controls = text[text.index("controls:") : text.index("uplinks:")]
            new = text.replace(pump, pump.replace("    place: CZS2Y-FSTBQ-Q5WDC\n", ""))
            path.write_text(new.replace(boiler, "").replace(controls, ""))
            house.config = load(path)
            await obey(house, common)
            left = {
                kept.name.point: kept.gone for kept in look.series if kept.name.device != "@gateway"
            }
            assert left.keys() == {"supply", "offset"}
            assert all(left.values())
            assert await ids(house) == {"boiler/supply", "boiler/offset"}
            house.config = written  # it comes back in time
            await obey(house, common)
            assert all(kept.gone is None for kept in look.series)
            house.config = load(path)
            await obey(house, common)
            gone = {kept.number: int(now - GRACE - 1) for kept in look.series if kept.gone}
            await house.history.opened.thread.run(look.mark_gone, gone)
            house.history.seen = ()
            await obey(house, common)
            assert await ids(house) == set()

    asyncio.run(scenario())


def test_a_total_of_a_building_with_few_dwellings_is_not_kept(config):
    """Rule L1."""
    building = place.mint("B")
    before, pump = config.read_text().split("  pump:")
    pump = pump.replace("place: CZS2Y-FSTBQ-Q5WDC", f"place: {building}", 1)
    before = before.replace("{name: Les Alpins,", f"{{name: Les Alpins, place: {building},")
    config.write_text(f"{before}  pump:{pump}")

    async def scenario():
        async with at_work(config) as house:
            await obey(house, partial(is_common, house))
            assert ("pump", "imp") in house.history.values.kept, "no dwelling is known"
            note(house, "pump", "imp", house.clock.now() - HOURS, 7)
            await ask(
                house,
                "place.import",
                named="marie",
                name="p",
                text="label;type;since\nA-1;dwelling;2020-01-01\nA-2;dwelling;2020-01-01\n",
            )
            assert ("pump", "imp") not in set(
                plant_history.kept_points(house, partial(is_common, house))
            )
            await obey(house, partial(is_common, house))
            assert await ids(house) == set()

    asyncio.run(scenario())


def test_a_reader_sees_the_gateways_own_series_only(config):
    """Rule L8."""

    async def scenario():
        async with at_work(config) as house:
            before = house.clock.now() - QUARTER
            note(house, "boiler", "supply", before, 20)
            await note_own(house, before)
            reader = who(Role.READER)
            listed = (await ask(house, "history.series", reader))["series"]
            own = {row["id"] for row in listed}
            assert own == {"@gateway/disk/free", "@gateway/waiting/centre", "@gateway/sent/centre"}
            with pytest.raises(Refused, match="no series"):
                await ask(house, "history.read", reader, series=["boiler/supply"])
            (free,) = (await ask(house, "history.read", reader, series=["@gateway/disk/free"]))[
                "series"
            ]
            assert free["rows"][0][2] == pytest.approx(
                shutil.disk_usage(house.config.state).free, rel=0.2
            )
            for role in (Role.INSTALLER, Role.MANAGER, Role.OPERATOR, Role.DPO):
                assert "boiler/supply" in await ids(house, who(role))

    asyncio.run(scenario())


BAD = {
    "an unknown series": ({"series": ["boiler/other"]}, "no series"),
    "no series": ({"series": []}, "between 1 and"),
    "too many": ({"series": [f"boiler/{n}" for n in range(13)]}, "between 1 and"),
    "an unknown step": ({"series": ["boiler/supply"], "step": "1h"}, "15m, 1d"),
    "no time": ({"series": ["boiler/supply"], "since": "yesterday"}, "since"),
    "a wrong order": (
        {"series": ["boiler/supply"], "since": "2026-02-01", "until": "2026-01-01"}, "not before"),
}  # fmt: skip


def test_bad_input_is_told(config):
    async def scenario():
        async with at_work(config) as house:
            note(house, "boiler", "supply", house.clock.now() - QUARTER, 20)
            for args, text in BAD.values():
                with pytest.raises(Refused, match=text):
                    await ask(house, "history.read", **args)
            with pytest.raises(Refused, match="no control"):
                await ask(house, "control.course", name="other")
            with pytest.raises(Refused, match="no such order"):
                await ask(house, "control.course", name="boiler-offset")

    asyncio.run(scenario())


def test_the_course_of_an_order_has_what_was_requested_done_and_measured(config):
    async def scenario():
        async with at_work(config) as house:
            await until(lambda: _true(bool(house.steering)))
            now = int(house.clock.now()) // 60 * 60
            begin, end = now - 3000, now - 1200
            steps = [
                Outcome("o-1", "boiler-offset", OrderState.RECEIVED, begin - 60, value="-1.5",
                        by="metropole"),
                Outcome("o-1", "boiler-offset", OrderState.STARTED, begin, value="-1.5", pre="0"),
                Outcome("o-1", "boiler-offset", OrderState.COMPLETED, end, closed=True),
            ]  # fmt: skip
            writer = house.steering.writer
            await writer.call(writer.journal.save, Transaction(outcomes=steps))
            for t in range(begin - 600, now, 60):
                held = begin <= t < end
                note(house, "boiler", "offset", t, -1.5 if held else 0)
                note(house, "boiler", "supply", t, 60 - held)
                note(house, "pump", "power", t, "1.234567")
            for args in ({}, {"jti": "o-1"}):
                course = await ask(house, "control.course", name="boiler-offset", **args)
                assert course["requested"] == [(begin, -1.5), (end, None)]
                assert course["written"] == [(begin, -1.5), (end, 0.0)]
                point, power, guard = course["points"]
                # in the point's own unit: the history has watts
                assert (power["role"], power["unit"]) == ("power", "kW")
                assert {row[1] for row in power["rows"]} == {1.234567}
                assert (point["role"], point["step"], point["unit"]) == ("point", "1m", "K")
                assert [begin, -1.5] in [list(row) for row in point["rows"]]
                assert (guard["role"], guard["name"], guard["min"]) == ("guard", "departure", 18.0)
                assert [begin - 60, 60.0] in [list(row) for row in guard["rows"]]
                assert [begin, 59.0] in [list(row) for row in guard["rows"]]
            # a restart forgets the minutes; the quarters are there
            house.history.values.minutes.clear()
            course = await ask(house, "control.course", name="boiler-offset", jti="o-1")
            assert course["points"][2]["step"] == "15m"
            # without the file the journal still knows
            opened, house.history.opened = house.history.opened, None
            course = await ask(house, "control.course", name="boiler-offset", jti="o-1")
            assert course["requested"] == [(begin, -1.5), (end, None)]
            assert course["written"] == [(begin, -1.5), (end, 0.0)]
            assert [(one["kept"], one["rows"]) for one in course["points"]] == [(False, [])] * 3
            assert "not open" in course["no_points"]
            house.history.opened = opened
            course = await ask(house, "control.course", name="boiler-offset", jti="o-1")
            assert course["no_points"] == ""
            assert course["points"][2]["columns"] == ["at", "min", "mean", "max"]
            assert {row[1] for row in course["points"][2]["rows"]} >= {59.0, 60.0}

    asyncio.run(scenario())
    shown = gardien(
        "history", "order", "boiler-offset", "--config", config, env={"LANGUAGE": "fr"}
    ).stdout
    assert "demandé (K)" in shown
    assert "-1,5" in shown


async def _true(value):
    return value


def test_where_the_history_fails_everything_else_goes_on_and_what_waits_is_written_later(config):
    """Rule L6."""

    async def scenario():
        async with at_work(config) as house:
            now, opened = house.clock.now(), house.history.opened
            note(house, "boiler", "supply", now - HOURS, 20)

            def fails(_):
                raise StorageFailed("the disk reports errors")

            opened.store.append = fails
            with pytest.raises(StorageFailed):
                await keep_up(house, now)

            async def again():
                return house.history.opened not in {None, opened}

            house.jobs.retry(plant_history.COMPONENT)
            await until(again)
            (fault,) = house.jobs.faults.all()
            assert (fault.component, fault.error) == ("history", "StorageFailed")
            assert house.recipients, "the spool is open"
            await keep_up(house, now)
            assert await rows(house, "boiler/supply")
            assert house.history.values.waiting(now - HOURS) == []

    asyncio.run(scenario())


def test_an_error_with_one_value_costs_neither_its_slot_nor_another_part(config):
    """Rule L6."""

    async def scenario():
        async with at_work(config) as house:
            (line,) = house.lines.values()
            point = house.config.point("boiler/supply")
            house.history.values.kept = None  # a bug
            line.poller._note(1_790_000_000, [Sample(point, 1.0, Decimal(200))], None)
            (fault,) = house.jobs.faults.all()
            assert fault.component == "history"
            house.history.values.kept = frozenset()
            line.poller._note(1_790_000_060, [Sample(point, 1.0, Decimal(200))], None)
            assert not house.jobs.faults.all()

    asyncio.run(scenario())


def test_where_it_is_not_open_people_are_told(config):
    async def scenario():
        async with at_work(config, component=False) as house:
            with pytest.raises(Refused, match="not open"):
                await ask(house, "history.series")

    asyncio.run(scenario())


def test_a_clock_that_is_set_back_takes_its_rows_along(config):
    """Rule L7."""

    async def scenario():
        async with at_work(config) as house:
            now = house.clock.now()
            note(house, "boiler", "supply", now - HOURS, 20)
            note(house, "boiler", "supply", now + 40 * DAY, 99)
            values = house.history.values.waiting(2**40)
            await house.history.opened.thread.run(house.history.opened.store.append, values)
            house.history.values.stored(values)
            note(house, "boiler", "supply", now + 5 * HOURS, 98)
            await keep_up(house, now)
            everything = await rows(house, "boiler/supply", until="2099-01-01", since="2020-01-01")
            assert [row[1] for row in everything] == [20.0]

    asyncio.run(scenario())


def test_after_a_jump_of_the_clock_nothing_is_deleted_because_of_its_age(config):
    """Rule L7."""

    async def scenario():
        async with at_work(config) as house:
            now, clock = house.clock.now(), house.clock
            note(house, "boiler", "supply", now - HOURS, 20)
            await keep_up(house, now + 2 * DAY)
            for moved_on, left in ((clock.steady(), 1), (None, 0)):
                clock._moved_on = moved_on
                await keep_up(house, now + 60 * DAY)
                assert len(await rows(house, "boiler/supply")) == left

    asyncio.run(scenario())


def test_a_rotation_of_the_spool_key_takes_the_history_along(config):
    """Rule L4."""

    async def scenario():
        async with at_work(config) as house:
            note(house, "boiler", "supply", house.clock.now() - HOURS, 20)
            await keep_up(house, house.clock.now())
            before = house.identity.spool_key
            await key_rotation.begin(house, "root")

            async def done():
                return key_rotation.standing(house) is None

            await until(done)
            assert house.identity.spool_key != before
            assert "history.db" in house.rotation.files
            assert await ids(house) == {"boiler/supply"}
        async with visited(config) as house:
            assert await ids(house) == {"boiler/supply"}

    asyncio.run(scenario())
