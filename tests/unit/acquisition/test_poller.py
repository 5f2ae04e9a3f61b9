"""Guards rule G7: a silent device costs the others one timeout a minute at most."""

import asyncio
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise

import pytest

from agent.acquisition.device import REST, Device
from agent.acquisition.ingest import Ingest, SlotAccount
from agent.acquisition.plausibility import Plausibility
from agent.acquisition.poller import Poller
from agent.acquisition.slots import SlotLedger
from agent.api.calls import _line_is_back
from agent.core.clock import Clock
from agent.core.errors import LinkLost
from agent.core.log_fields import LogEvent
from agent.core.model import Quality, Sample, SlotMark, Why
from agent.drivers.link import Link
from agent.registry.inputs import NewExchange
from tests.unit.acquisition.house import LONG_AGO, Town, point

DAY = 86_400
SERIAL = point("m1", "serial", every=0, channel=None)


class Bus:
    """A field bus in memory: what hil's meters are on a wire, with every request counted."""

    def __init__(self):
        self.asked, self.silent, self.lost = [], set(), False
        self.bad = dict.fromkeys(("m1", "m2"), 0)  # how many answers are of no use
        self.serials, self.shows = {"m1": "1001", "m2": "1002"}, "1.5"
        self.nameless = False  # whether a request for the serial number alone is not answered
        self.garbled = self.absent = False  # the answer to a request for the serial number

    @asynccontextmanager
    async def open(self):
        if self.lost:
            raise LinkLost("no carrier")
        yield self

    async def read(self, points):
        await asyncio.sleep(0)
        if self.lost:
            raise LinkLost("no carrier")
        device = points[0].device
        self.asked.append((device, [p.name for p in points]))
        if device in self.silent or (self.nameless and [p.name for p in points] == ["serial"]):
            return [Sample(p, time.time(), why=Why.SILENT, detail="no answer") for p in points]
        if self.bad[device]:
            self.bad[device] -= 1
            return [Sample(p, time.time(), why=Why.BAD, detail="another unit") for p in points]
        return [self.sample(p) for p in points]

    def sample(self, asked):
        if asked.name != "serial":
            return Sample(asked, time.time(), Decimal(self.shows))
        if self.garbled or self.absent:
            return Sample(asked, time.time(), why=Why.BAD, absent=self.absent)
        return Sample(asked, time.time(), Decimal(self.serials[asked.device]))


class Rig:
    def __init__(self, folder, devices=("m1", "m2"), serial_point=True, every=1, marks=None):
        self.town, self.bus = Town(folder, step=1), Bus()
        self.rows = []
        groups = {(name, every): [point(name, every=every)] for name in devices}
        self.ledger = ledger = SlotLedger(self.town.gate(), groups, marks or {})
        intake = Ingest(self.append, flush=0.05)
        self.intake = intake
        self.devices = [
            Device(
                name, groups[name, every], point(name, "serial", 0, None) if serial_point else None
            )
            for name in devices
        ]
        self.link = Link("riser", self.bus.open)
        self.poller = Poller(
            self.link,
            self.devices,
            [SlotAccount(ledger, intake)],
            Clock("system"),
            lambda *_: None,
            installed=self.town.registry.installed_at,
        )

    async def append(self, rows, _marks):
        self.rows += rows

    async def run(self, seconds, meanwhile=None):
        jobs = [self.link.serve(), self.poller.run(), self.intake.serve()]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            if meanwhile is not None:
                await meanwhile()
            await asyncio.sleep(seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.intake.commit()


def test_the_serial_number_is_asked_for_until_anything_is_believed(tmp_path, virtually):
    """Rule I16."""
    rig = Rig(tmp_path, devices=("m1",))
    rig.bus.bad["m1"] = 1
    virtually(rig.run(1.2))
    asked = [names for _, names in rig.bus.asked]
    assert asked[:2] == [["serial", "energy"]] * 2
    assert rig.devices[0].serial == "1001"


def test_the_serial_number_rides_in_the_first_read_only(tmp_path, virtually):
    """Rule I16."""
    rig = Rig(tmp_path)
    virtually(rig.run(2.2))
    mine = [names for device, names in rig.bus.asked if device == "m1"]
    assert mine[0] == ["serial", "energy"]
    assert all(names == ["energy"] for names in mine[1:])
    assert len(mine) >= 3
    assert rig.rows


def test_a_meter_whose_index_fell_is_asked_who_it_is_before_its_value_is_used(tmp_path, virtually):
    """Rule I16. The line stays open, and nothing is silent: a quick exchange."""
    rig = Rig(tmp_path, devices=("m1",))

    async def exchange():
        await asyncio.sleep(1.1)
        rig.bus.serials["m1"], rig.bus.shows = "9999", "0.5"

    virtually(rig.run(2.2, exchange))
    assert ["serial"] in [names for _, names in rig.bus.asked]
    assert rig.devices[0].serial == "9999"
    assert {row.value for row in rig.rows if row.why is None} == {Decimal("1.5")}


def test_a_fallen_index_is_not_used_if_the_meter_does_not_say_who_it_is(tmp_path, virtually):
    """Rule I16."""
    rig = Rig(tmp_path, devices=("m1",))

    async def exchange():
        await asyncio.sleep(1.1)
        rig.bus.serials["m1"], rig.bus.shows, rig.bus.nameless = "9999", "0.5", True

    virtually(rig.run(1.2, exchange))
    assert {row.value for row in rig.rows if row.why is None} == {Decimal("1.5")}
    assert rig.devices[0].problem.startswith("an index has fallen")
    assert rig.devices[0].asked_at_opening == 0


def test_an_index_that_rises_or_stays_costs_no_further_request(tmp_path, virtually):
    rig = Rig(tmp_path, devices=("m1",))

    async def rise():
        await asyncio.sleep(1.1)
        rig.bus.shows = "1.6"

    virtually(rig.run(2.2, rise))
    assert [names for _, names in rig.bus.asked].count(["serial"]) == 0


def test_a_device_is_asked_who_it_is_once_a_day(tmp_path, virtually):
    """Rule I16."""
    rig = Rig(tmp_path, devices=("m1",), every=DAY // 24)
    virtually(rig.run(2 * DAY))
    asked = ["serial" in names for _, names in rig.bus.asked]
    assert asked.count(True) == 3
    assert not any(asked[1:22])


@pytest.mark.parametrize(("absent", "times"), [(False, 4), (True, 1)])
def test_a_garbled_number_is_asked_again_soon_and_one_that_a_device_lacks_is_not(
    tmp_path, virtually, absent, times
):
    """Rule I16."""
    rig = Rig(tmp_path, devices=("m1",), every=60)
    rig.bus.garbled, rig.bus.absent = not absent, absent

    async def mend():
        await asyncio.sleep(800)
        rig.bus.garbled = False

    virtually(rig.run(3_600, mend))
    asked = [number for number, (_, names) in enumerate(rig.bus.asked) if "serial" in names]
    assert len(asked) == times
    assert all(later - earlier >= 5 for earlier, later in pairwise(asked))
    assert rig.devices[0].serial == (None if absent else "1001")


@pytest.mark.parametrize("serial", ["1001", "9999"])
def test_the_number_after_a_garbled_one_is_compared_with_the_one_before(
    tmp_path, caplog, virtually, serial
):
    """Rule I16."""
    rig = Rig(tmp_path, devices=("m1",), every=60)

    async def garble():
        await asyncio.sleep(200)
        rig.bus.garbled, rig.devices[0].asked_at_opening = True, 0
        await asyncio.sleep(200)
        rig.bus.garbled, rig.bus.serials["m1"] = False, serial

    virtually(rig.run(3_600, garble))
    differs = serial != "1001"
    assert rig.devices[0].serial == serial
    assert rig.devices[0].before == "1001"
    assert ("reported serial number 1001 before" in caplog.text) == differs
    assert {number for number, _ in rig.devices[0].good} == (
        {"1001", serial} if differs else {"1001", None}
    )


def test_a_device_whose_meter_changes_in_the_registry_is_asked_who_it_is(tmp_path, virtually):
    """Rule I16."""
    rig = Rig(tmp_path, devices=("m1",))

    async def assign():
        await asyncio.sleep(1.1)
        rig.town.dwelling("D7", None, LONG_AGO, device="m1", consents=False)

    virtually(rig.run(2.2, assign))
    asked = ["serial" in names for _, names in rig.bus.asked]
    assert asked.count(True) == 2, asked


def test_a_device_whose_meter_is_recorded_as_exchanged_is_asked_who_it_is(tmp_path, virtually):
    """Rules I16, I33. No installation names the device, and the new meter shows more."""
    rig = Rig(tmp_path, devices=("m1",))

    async def exchange():
        await asyncio.sleep(1.1)
        rig.bus.serials["m1"], rig.bus.shows = "9999", "2.5"
        await asyncio.sleep(1)
        old = NewExchange("D1", old="1001", serial="9999", at=int(time.time()))
        rig.town.registry.exchange([old], "test", "test", time.time())

    virtually(rig.run(2.2, exchange))
    asked = ["serial" in names for _, names in rig.bus.asked]
    assert asked.count(True) == 2, asked
    assert rig.devices[0].serial == "9999"
    assert rig.rows[-1].value == Decimal("2.5")


def test_a_silent_device_rests_and_its_slots_say_so(tmp_path, caplog, virtually):
    rig = Rig(tmp_path)
    rig.bus.silent.add("m1")
    virtually(rig.run(2.2))
    assert [device for device, _ in rig.bus.asked].count("m1") == 1
    assert rig.devices[0].failures == 1
    (record,) = [one for one in caplog.records if "is silent" in one.message]
    assert (record.MESSAGE_ID, record.DEVICE) == (LogEvent.DEVICE_SILENT, "m1")
    assert rig.poller.link.name == record.LINE
    assert [row.why for row in rig.rows if row.series.place == rig.town.place("D2")] in (
        [None] * 3,
        [None] * 4,
    )


def test_a_device_back_from_silence_is_asked_who_it_is(tmp_path, virtually):
    """Rule I16."""
    rig = Rig(tmp_path, devices=("m1",))

    async def exchange():
        await asyncio.sleep(1.1)
        rig.bus.silent.add("m1")
        await asyncio.sleep(1.1)
        rig.bus.silent.discard("m1")
        rig.bus.serials["m1"] = "9999"  # another meter stands there now

    virtually(rig.run(REST + 2, exchange))
    assert rig.devices[0].serial == "9999"
    values = [row for row in rig.rows if row.why is None]
    assert len(values) in (2, 3)


def test_the_first_index_of_another_meter_is_compared_with_nothing(tmp_path, virtually):
    rig = Rig(tmp_path, devices=("m1",))
    rig.town.dwelling("D3", "9999", LONG_AGO, consents=False)
    rig.town.consent("D3", step=1)

    async def exchange():
        await asyncio.sleep(1.1)
        rig.bus.serials["m1"], rig.bus.shows = "9999", "0.5"
        rig.devices[0].asked_at_opening = 0

    virtually(rig.run(1.2, exchange))
    after = [row for row in rig.rows if row.series.place == rig.town.place("D3")]
    assert {row.quality for row in after} == {Quality.RAW}
    assert {row.value for row in after} == {Decimal("0.5")}
    # people compare a closing index with the last one of the meter that is gone
    good = {key: sample.value for key, sample in rig.devices[0].good.items()}
    assert good == {("1001", "energy"): Decimal("1.5"), ("9999", "energy"): Decimal("0.5")}


def test_a_lost_line_closes_its_slots_with_link(tmp_path, virtually):
    rig = Rig(tmp_path, devices=("m1",))

    async def cut():
        await asyncio.sleep(1.1)
        rig.bus.lost = True

    virtually(rig.run(2.2, cut))
    whys = [row.why for row in rig.rows]
    lost = whys.index("link")
    assert lost >= 1
    assert whys == [None] * lost + ["link"] * (len(whys) - lost)
    (device,) = rig.devices
    assert (device.problem, device.lost_at_opening) == ("riser is not open: no carrier", 1)
    assert not _line_is_back(device, rig.link)
    rig.link.opened, rig.link.error = 2, ""
    assert _line_is_back(device, rig.link), "an error that has ended is not shown any more"


def test_the_first_read_waits_for_the_line_to_have_been_tried(tmp_path, virtually):
    rig = Rig(tmp_path, devices=("m1",))
    virtually(rig.run(0.2))
    assert {row.why for row in rig.rows} == {None}


def test_a_slot_that_was_read_before_a_restart_costs_no_battery_another_reading(
    tmp_path, virtually
):
    """Rule F14."""
    for name in "12":
        (tmp_path / name).mkdir()
    first = Rig(tmp_path / "1", devices=("m1",), every=DAY)
    virtually(first.run(0.3))
    again = Rig(tmp_path / "2", devices=("m1",), every=DAY, marks=first.ledger.marks)
    virtually(again.run(0.3))
    assert (len(first.bus.asked), len(again.bus.asked)) == (1, 0)


def test_a_silent_meter_on_a_battery_is_asked_again_once_and_then_as_it_bears(tmp_path, virtually):
    """Rule M14."""
    asked, slot = {}, 12 * int(REST)
    for spacing in (0.0, 10.0 * slot):
        folder = tmp_path / str(spacing)
        folder.mkdir()
        rig = Rig(folder, devices=("m1",), every=slot)
        rig.bus.silent.add("m1")
        rig.devices[0].spacing = spacing
        virtually(rig.run(1.5 * slot))
        asked[spacing] = len(rig.bus.asked)
    assert asked[0.0] > 10
    assert 2 <= asked[10.0 * slot] <= 6  # once and once again, in each of three slots at the most


class OddBus(Bus):
    """One device whose answers nobody can read, as a fault of the decoder would have it."""

    def __init__(self):
        super().__init__()
        self.odd = {"m1"}

    async def read(self, points):
        if points[0].device in self.odd:
            raise ZeroDivisionError("scale")
        return await super().read(points)


def odd_rig(folder):
    rig = Rig(folder)
    rig.bus = OddBus()
    rig.link._open_it = rig.bus.open
    return rig


def test_a_device_whose_decoder_fails_costs_its_own_values_and_no_others(tmp_path, virtually):
    rig = odd_rig(tmp_path)

    async def then():
        await asyncio.sleep(2.2)
        assert [one.text for one in rig.poller._faults.all()] == ["m1: ZeroDivisionError: scale"]
        assert "an error in gardien" in rig.devices[0].problem
        rig.bus.odd.clear()

    virtually(rig.run(1.5, then))
    assert not rig.poller._faults.all()
    mine = [one for one in rig.rows if one.series.meter == "1001" or one.value is None]
    assert {one.why for one in rig.rows if one.value is None} <= {Why.BAD, Why.EARLY}
    good = sorted(one.t for one in rig.rows if one.value is not None)
    assert len(good) >= 4, mine
    assert not rig.link.error


def test_a_recipient_whose_gate_fails_stops_no_other_and_its_slots_are_owed(tmp_path, virtually):
    rig = Rig(tmp_path)
    other, others = SlotLedger(rig.town.gate(), rig.ledger._points, {}), []

    async def append(rows, _marks):
        others.extend(rows)

    intake = Ingest(append, flush=0.05, uplink="other")
    rig.poller.accounts = [SlotAccount(other, intake), *rig.poller.accounts]
    real = other.assignment.at

    def wrong(*_):
        raise KeyError("nobody")

    async def then():
        await asyncio.sleep(1.2)
        other.assignment.at = wrong
        await asyncio.sleep(2.2)
        assert {one.component for one in rig.poller._faults.all()} == {"rows other"}
        other.assignment.at = real

    virtually(rig.run(1.5, then))
    virtually(intake.commit())
    assert not rig.poller._faults.all()
    for rows in (rig.rows, others):
        slots = sorted((one.series.meter, one.t + n) for one in rows for n in range(one.span))
        assert len(slots) == len(set(slots)) >= 6
    assert {one.why for one in others} >= {None, Why.AGENT}
    assert all(one.value is not None for one in rig.rows)
    said = {(one.series.meter, one.t + n) for one in others for n in range(one.span)}
    assert said == {(one.series.meter, one.t) for one in rig.rows}


def test_a_line_of_which_nothing_can_be_read_is_given_up_as_a_whole(tmp_path, virtually):
    rig = odd_rig(tmp_path)
    rig.bus.odd = {"m1", "m2"}

    async def scenario():
        serving = asyncio.create_task(rig.link.serve())
        await rig.link.tried()
        for _ in range(10):
            with pytest.raises(ZeroDivisionError):
                await rig.link.read([rig.devices[0].points[0]])
        with pytest.raises(ZeroDivisionError):
            await serving
        assert rig.link.error == "an error in gardien (ZeroDivisionError)"
        with pytest.raises(LinkLost, match="ZeroDivisionError"):
            await rig.link.read([rig.devices[0].points[0]])

    virtually(scenario())


def test_after_a_wrong_clock_the_mark_of_a_spool_that_is_not_open_does_not_silence_a_device(
    tmp_path, virtually
):
    """It is set back when it opens; the other accounts go on from before the wrong time."""
    now, key = int(time.time()), ("m1", 1)
    rig = Rig(
        tmp_path, devices=("m1",), marks={key: SlotMark(now + DAY, heard=True, serial="1001")}
    )
    right = SlotLedger(
        rig.town.gate(), {key: [point("m1", every=1)]}, {key: SlotMark(now, heard=True)}
    )
    rig.poller.accounts = [*rig.poller.accounts, SlotAccount(right, rig.intake)]
    rig.poller.set_back({key: now})
    virtually(rig.run(2.5))
    assert any(row.value is not None and row.t > now for row in rig.rows)


@pytest.mark.parametrize(("steps", "why"), [([], "agent"), ([600.0], "clock")])
def test_what_is_skipped_while_a_trusted_clock_waits_for_a_spool_is_not_its_fault(
    tmp_path, virtually, steps, why
):
    """Rule M3: only a step of the clock is."""
    rig = Rig(tmp_path, devices=("m1",))
    clock, real = rig.poller.clock, rig.bus.read

    async def slow(points):
        await asyncio.sleep(3)
        return await real(points)

    async def waits():
        await asyncio.sleep(1.2)
        clock.await_entry()
        clock.steps.extend(steps)
        rig.bus.read = slow
        await asyncio.sleep(7)
        clock.let_in(len(clock.steps), 0)
        rig.bus.read = real

    virtually(rig.run(4, waits))
    missing = {row.why for row in rig.rows if row.why not in {None, "busy"}}
    assert missing == {why}


def test_an_error_in_a_read_during_which_the_clock_moved_is_not_of_its_wrong_time(
    tmp_path, virtually
):
    rig = Rig(tmp_path, devices=("m1",))
    clock = rig.poller.clock

    async def moved(*_):
        await asyncio.sleep(0)
        clock.steps.append(86_400.0)
        raise RuntimeError("a fault of the driver's")

    rig.poller._reader.read = moved
    before = dict(rig.poller._closed)

    async def fails():
        await asyncio.wait_for(raised.wait(), 20)

    raised = asyncio.Event()
    real = rig.poller._pass_over

    def passed(name, slots, *, dated):
        real(name, slots, dated=dated)
        assert not dated
        raised.set()

    rig.poller._pass_over = passed
    virtually(rig.run(0, fails))
    assert raised.is_set()
    assert rig.poller._closed == before


def test_a_poller_that_goes_on_knows_why_slots_were_not_closed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = Rig(tmp_path / "a"), Rig(tmp_path / "b", devices=("m1",))
    first.poller._blank, first.poller._stepped = {("m1", 1): 5, ("m2", 1): 5}, {("m1", 1)}
    first.poller._failed = {("m1", 1), ("m2", 1)}
    second.poller.go_on_from(first.poller)
    found = second.poller._blank, second.poller._stepped, second.poller._failed
    assert found == ({("m1", 1): 5}, {("m1", 1)}, {("m1", 1)})


def test_what_contradicts_itself_in_an_answer_is_noted_until_another_meter_answers(
    tmp_path, virtually
):
    """Rule M23."""
    rig, plausibility = Rig(tmp_path), Plausibility(None, ("m1", "m2"))
    rig.poller = Poller(
        rig.link, rig.devices, [], Clock("system"), lambda *_: None, plausibility=plausibility
    )
    # what a driver saw last, also of a device that is silent by now
    rig.bus.health = lambda: {"odd": {"1": {"month_end": ["energy"]}}}
    rig.bus.silent.add("m2")
    virtually(rig.run(1.2))
    kinds = [[one["kind"] for one in plausibility.of(name, 0.0)] for name in ("m1", "m2")]
    assert kinds == [["month-end"], []]
    rig.bus.serials["m1"], rig.bus.health = "1009", dict
    rig.bus.silent.clear()
    virtually(rig.run(1.2))
    assert not list(plausibility.of("m1", 0.0))
