"""What a person of the web page sees of dwellings, against meters that answer on real sockets."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from agent import local
from agent.api import page_view
from agent.api.calls import CALLS
from agent.api.logins import caller_of
from agent.api.page_view import DECIDED, Shows, at_the_page
from agent.api.registry import Caller
from agent.api.roles import EVERY_ROLE, NEEDS, WITH_A_LOGIN, Role
from agent.app import visited
from agent.core.errors import ReasonNeeded, Refused
from agent.registry.doubts import NeedsConfirmation
from tests.contract.test_commissioning import building as building  # noqa: PLC0414 -- a fixture
from tests.contract.test_commissioning import places, valued

CONFIG = """\
building: {{name: Test, timezone: Europe/Paris}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 2s}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min}}
  w-2:
    link: riser
    address: 2
    every: 15min
    points:
      volume: {{at: input/72/float32, channel: cw, unit: m3}}
      room: {{at: input/0/float32, channel: temp, unit: Cel}}
      load: {{at: input/12/float32, channel: elec.power, unit: W}}
      raw: {{at: input/12/float32}}
  m-3: {{link: riser, address: 3, profile: eastron-sdm120, every: 15min, place: CZS2Y-FSTBQ-Q5WDC}}
clock: {{source: system}}
state: {state}
web: {{listen: ["127.0.0.1:8443"]}}
"""
WHY = "le voisin du dessus signale une fuite"


@pytest.fixture
def config(tmp_path, building):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(port=building["port"], state=tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return path


def of_the_page(*roles, reason=""):
    async def progress(_):
        pass

    roles = frozenset(roles) or EVERY_ROLE
    return Caller("Marie (web)", progress, roles, page=True, reason=reason, login="x")


ALICE = Caller("alice", None)
MARIE, WITH_A_REASON = of_the_page(), of_the_page(reason=WHY)


def at_work(config, scenario):
    """Run a scenario in a house with two dwellings, of which each has a meter."""

    async def made():
        async with visited(config) as house:
            for name, words in places("A-1", "A-2"):
                await CALLS[name](house, ALICE, **words)
            await CALLS["meter.assign"](house, ALICE, device="m-1", dwelling="A-1")
            await CALLS["meter.assign"](house, ALICE, device="w-2", dwelling="A-2", channel="cw")
            began = house.clock.now
            house.clock.now = lambda: began() + 3600
            return await scenario(house)

    return asyncio.run(made())


def looks(house):
    labels = {one.id: one.label for one in house.registry.places()}
    return [
        (one.who, one.what, labels.get(one.place, one.place), one.reason)
        for one in house.access_log.of()
    ]


def test_every_call_is_decided_on():
    """A new one must be put into the table, with what it shows of dwellings."""
    assert DECIDED.keys() == NEEDS.keys() | WITH_A_LOGIN


def test_a_call_that_nobody_has_decided_on_is_refused_at_the_page():
    async def new(*_):
        raise AssertionError

    with pytest.raises(Refused, match="not done at the page"):
        asyncio.run(at_the_page(None, MARIE, "new.call", new, {}))


def test_of_a_dwelling_only_indexes_are_read_and_only_with_a_reason(config):
    """Rules W4, W5, P19."""

    async def scenario(house):
        read = CALLS["read"]
        with pytest.raises(ReasonNeeded, match="State why"):
            await read(house, MARIE, device="m-1")
        with pytest.raises(ReasonNeeded):
            await read(house, MARIE, device="w-2", point="volume")
        assert looks(house) == []
        electricity = await read(house, WITH_A_REASON, device="m-1", everything=True)
        water = await read(house, WITH_A_REASON, device="w-2", everything=True)
        plant = await read(house, MARIE, device="m-3", everything=True)
        return electricity, water, plant, looks(house)

    electricity, water, plant, noted = at_work(config, scenario)
    assert electricity["points"]["energy_import"]["value"]
    assert electricity["points"]["serial"]["value"]
    assert electricity["objects"] == water["objects"] == []
    values = {name: point["value"] for name, point in water["points"].items()}
    assert values.pop("volume") is not None
    assert values == {"room": None, "load": None, "raw": None}
    assert sorted(water["withheld"]) == ["load", "raw", "room"]
    assert plant["points"]["energy_import"]["value"]
    assert plant["objects"]
    assert noted == [("Marie (web)", "read", "A-1", WHY), ("Marie (web)", "read", "A-2", WHY)]


def test_the_page_hears_by_a_mark_that_a_reason_is_needed_and_brings_it_beside_the_call(config):
    """Rules W2, W4."""

    async def scenario(house):
        code, _ = house.page.open_window(900)
        token = house.page.enter_setup(code, "Jean", "::1")
        read = {"call": "read", "args": {"device": "m-1"}, "login": token}
        answers = []
        for request in (read, read | {"reason": "hm"}, read | {"reason": f" {WHY} "}):
            caller = caller_of(house, replace(ALICE, who="root"), request, for_others=True)
            answers.append(await local.answer(house, request, caller, for_others=True))
        return answers, looks(house)

    (asked, again, given), noted = at_work(config, scenario)
    assert asked["reason"] is again["reason"] is True
    assert "5 to 200 characters" in asked["refused"]
    assert given["result"]["points"]["energy_import"]["value"]
    assert noted == [("Jean (web)", "read", "A-1", WHY)]


def test_a_device_that_no_dwelling_is_recorded_for_may_be_in_one(config):
    """Rules W4, W5."""

    async def scenario(house):
        await CALLS["meter.remove"](house, ALICE, place="A-2", old="w-2")
        with pytest.raises(ReasonNeeded):
            await CALLS["read"](house, MARIE, device="w-2")
        answer = await CALLS["read"](house, WITH_A_REASON, device="w-2")
        assert answer["points"]["room"]["value"] is None
        listed = await CALLS["privacy.access"](house, ALICE)
        return looks(house), listed["looks"]

    noted, (look,) = at_work(config, scenario)
    assert noted == [("Marie (web)", "read", "", WHY)]
    assert look["label"] == "a meter without a recorded dwelling"
    assert look["reason"] == WHY


def test_no_curve_is_read_by_asking_again_and_again(config):
    """Rule W4."""

    async def scenario(house):
        now = 5_000.0
        house.clock.steady = lambda: now
        for person in range(10):
            caller = replace(WITH_A_REASON, who=f"P {person} (web)")
            await CALLS["read"](house, caller, device="m-1", point="energy_import")
        with pytest.raises(Refused, match="Wait 144 min"):
            await CALLS["read"](house, WITH_A_REASON, device="m-1")
        await CALLS["read"](house, WITH_A_REASON, device="w-2")
        await CALLS["read"](house, ALICE, device="m-1")
        now += 144 * 60
        await CALLS["read"](house, WITH_A_REASON, device="m-1")
        with pytest.raises(Refused, match="Wait 144 min"):
            await CALLS["read"](house, WITH_A_REASON, device="m-1")

    at_work(config, scenario)


def test_the_status_has_no_values_of_dwellings_whatever_role_and_reason(config):
    """Rules W4, W5."""

    async def scenario(house):
        for device in ("m-1", "w-2", "m-3"):
            line, found = house.lines.find(device)
            await line.link.tried()
            for sample in await line.link.read(found.points[:1]):
                found.latest[sample.point.name] = sample
        callers = [of_the_page(role, reason=WHY) for role in Role] + [WITH_A_REASON]
        return [(await CALLS["status"](house, one))["devices"] for one in callers], looks(house)

    shown, noted = at_work(config, scenario)
    for devices in shown:
        assert valued(devices["m-3"])
        assert not any(valued(devices[name]) for name in ("m-1", "w-2") if name in devices)
    assert noted == []


def test_a_display_is_compared_with_a_reason_and_only_an_index(config):
    """Rules W4, W5."""

    async def scenario(house):
        words = {"place": "A-1", "shown": {"elec.imp": "1"}}
        with pytest.raises(ReasonNeeded):
            await CALLS["meter.verify"](house, MARIE, **words)
        with pytest.raises(Refused, match="temp is no index"):
            await CALLS["meter.verify"](house, WITH_A_REASON, place="A-2", shown={"temp": "20"})
        (result,) = (await CALLS["meter.verify"](house, WITH_A_REASON, **words))["results"]
        with pytest.raises(ReasonNeeded):
            await CALLS["meter.load"](house, MARIE, place="A-1", channel="elec.imp", seconds=1.0)
        # its minutes of waiting are left out here
        words = {"place": "A-1", "channel": "elec.imp"}
        answer = await at_the_page(house, WITH_A_REASON, "meter.load", measured, words)
        return result, answer, looks(house)

    async def measured(*_, **__):
        return {"agrees": True, "more": "0.0123"}

    result, load, noted = at_work(config, scenario)
    assert result["read"] is not None
    assert load == {"agrees": True, "more": None}
    assert noted == [("Marie (web)", "meter.verify", "A-1", WHY)]


def test_a_scan_has_values_of_common_plant_only_and_nothing_has_a_trace(config):
    """Rule W5."""

    async def scenario(house):
        scan, words = CALLS["scan"], {"link": "riser", "first": "1", "last": "3"}
        found = await scan(house, WITH_A_REASON, everything=True, **words)
        for call, args in (("scan", words), ("read", {"device": "m-3"})):
            with pytest.raises(Refused, match="a trace has the readings of all devices"):
                await CALLS[call](house, WITH_A_REASON, trace=True, **args)
        everything = await scan(
            house, replace(MARIE, who="alice", page=False), everything=True, **words
        )
        return found["devices"], everything["devices"]

    found, everything = at_work(config, scenario)
    assert {one["name"]: bool(one["objects"]) for one in everything} == dict.fromkeys(
        ("m-1", "w-2", "m-3"), True
    )
    assert {one["name"]: bool(one["objects"]) for one in found} == {
        "m-1": False, "w-2": False, "m-3": True,
    }  # fmt: skip


def test_a_second_name_for_a_dwellings_meter_shows_nothing_of_it(config):
    """Whoever may add devices could else call it common. Rule W5."""

    async def scenario(house):
        line, plant = house.lines.find("m-3")
        await line.link.tried()
        (sample,) = await line.link.read([plant.serial_point])
        await CALLS["place.new"](house, ALICE, label="A-3", type="dwelling")
        await CALLS["meter.import"](
            house, ALICE, text=f"serial;dwelling\n{sample.value};A-3\n", name="m.csv",
            join_lines=False,
        )  # fmt: skip
        assert page_view.is_plant(house, "m-3"), "it has not told its number yet"
        answer = await CALLS["read"](house, WITH_A_REASON, device="m-3")
        assert answer["points"]["energy_import"]["value"] is None
        assert answer["points"]["serial"]["value"] == str(sample.value)
        plant.serial = str(sample.value)
        assert not page_view.is_plant(house, "m-3")

    at_work(config, scenario)


def test_a_profile_is_recorded_at_common_plant_only(config):
    """Rule W5."""

    async def scenario(house):
        with pytest.raises(Refused, match="gardien profile record"):
            await CALLS["profile.record"](house, WITH_A_REASON, device="m-1")
        return await CALLS["profile.record"](house, MARIE, device="m-3")

    assert at_work(config, scenario)["by"] == "Marie (web)"


def test_indexes_at_a_change_of_meters_need_a_reason(config):
    """Rules W4, W6."""

    async def scenario(house):
        line, found = house.lines.find("m-1")
        await line.link.tried()
        (sample,) = await line.link.read([p for p in found.points if p.name == "energy_import"])
        found.good[None, "energy_import"] = sample
        words = {"place": "A-1", "old": "m-1", "closing": ["elec.imp=99999"]}
        with pytest.raises(ReasonNeeded):
            await CALLS["meter.remove"](house, MARIE, **words)
        with pytest.raises(NeedsConfirmation, match="above the last reading"):
            await CALLS["meter.remove"](house, WITH_A_REASON, **words)
        asked = looks(house)
        removed = await CALLS["meter.remove"](
            house, WITH_A_REASON, named="Eva", **words, confirm=["99999"]
        )
        without = await CALLS["meter.list"](house, MARIE)
        given = await CALLS["meter.list"](house, WITH_A_REASON)
        return asked, removed, without, given, looks(house)

    asked, removed, without, given, noted = at_work(config, scenario)
    assert asked == [("Marie (web)", "meter.remove", "A-1", WHY)]
    assert removed["meters"][0]["closed"] == {"elec.imp": "99999"}
    assert [one["closed"] for one in without["meters"]] == [{}, {}]
    assert {"elec.imp": "99999"} in [one["closed"] for one in given["meters"]]
    assert noted == [
        ("Marie (web)", "meter.remove", "A-1", WHY),
        ("Marie (web)", "meter.list", "*", WHY),
    ]


def test_what_shows_too_much_is_refused_with_the_command_for_it(config):
    """Rule W5."""

    async def scenario(house):
        for call in (name for name, shows in DECIDED.items() if shows is Shows.TOO_MUCH):
            with pytest.raises(
                Refused, match=r"not done at the page\. At the command line: gardien"
            ):
                await CALLS[call](house, WITH_A_REASON)

    at_work(config, scenario)


def test_a_report_has_indexes_only_with_a_reason(config):
    """Rule W4."""

    async def scenario(house):
        with pytest.raises(ReasonNeeded):
            await CALLS["report.commissioning"](house, MARIE)
        with pytest.raises(Refused) as refused:
            await CALLS["report.commissioning"](house, MARIE, readings=False)
        assert not isinstance(refused.value, ReasonNeeded)
        assert "gardien key new" in str(refused.value)

    at_work(config, scenario)


def test_data_about_people_is_noted_once_a_day_and_needs_no_reason(config):
    """Rule P19."""

    async def scenario(house):
        for _ in range(3):
            await CALLS["occupancy.list"](house, MARIE)
            await CALLS["consent.list"](house, of_the_page(Role.DPO))
            await CALLS["privacy.explain"](house, MARIE, place="A-1")
            await CALLS["occupancy.list"](house, ALICE)
        return looks(house)

    assert at_work(config, scenario) == [
        ("Marie (web)", "occupancy.list", "*", ""),
        ("Marie (web)", "consent.list", "*", ""),
        ("Marie (web)", "privacy.explain", "A-1", ""),
    ]


def test_the_occupants_read_who_looked_and_why(config):
    """Rule W4."""

    async def scenario(house):
        await CALLS["read"](house, WITH_A_REASON, device="m-1")
        answer = await CALLS["privacy.person"](house, ALICE, place="A-1")
        return answer["letter"], answer["csv"]

    letter, table = at_work(config, scenario)
    assert f"un compteur ({WHY})" in letter
    assert f"Marie (web) : lecture d'un compteur ({WHY})" in table


def test_a_guard_in_a_dwelling_is_not_shown(config):
    """Rule W5."""

    async def scenario(house):
        stairs = SimpleNamespace(point="m-3/relay", watched=[SimpleNamespace(point="m-3/x")])
        home = SimpleNamespace(point="m-3/relay", watched=[SimpleNamespace(point="w-2/room")])
        controls = {"stairs": stairs, "home": home}
        house.config = house.config.model_copy(update={"controls": controls})

        async def listed(*_):
            state = {"guards": {"room": "19.2 °C"}, "forbidden": "room is 17 °C, below 18"}
            return {"controls": {name: state | {"guards": dict(state["guards"])}
                                 for name in controls}}  # fmt: skip

        answer = await at_the_page(house, MARIE, "control.list", listed, {})

        async def explained(*_, **__):
            seen = {"seen": "lowest room 17 °C", "result": "room is 17 °C, below 18"}
            return {"orders": [seen | {"control": name} for name in ("stairs", "home", "gone")]}

        page = await at_the_page(house, MARIE, "privacy.explain", explained, {})
        assert ["17" in str(one) for one in page["orders"]] == [True, False, False]
        for call in ("control.history", "control.report"):
            for name in ("home", ""):
                with pytest.raises(Refused, match=r"guard of home is a sensor in a dwelling"):
                    await CALLS[call](house, MARIE, name=name)
        with pytest.raises(Refused) as refused:
            await CALLS["control.history"](house, MARIE, name="stairs")
        assert "sensor in a dwelling" not in str(refused.value)
        return answer["controls"]

    controls = at_work(config, scenario)
    assert controls["stairs"]["guards"] == {"room": "19.2 °C"}
    assert "19.2" not in str(controls["home"])
    assert "17" not in str(controls["home"])


def test_a_visit_to_400_flats_is_not_bounded_by_what_is_misspelt(config):
    """Rule W4: five values that are refused, one that differs and one that agrees, in each."""

    async def refused(*_, **__):
        raise Refused("this is no index")

    async def compared(*_, **__):
        return {"results": []}

    async def scenario(house):
        house.clock.steady = lambda: 5_000.0
        labels = [f"F-{n}" for n in range(400)]
        for name, words in places(*labels):
            await CALLS[name](house, ALICE, **words)
        for label in labels:
            args = {"place": label, "shown": {"elec.imp": "1"}}
            for _ in range(5):
                with pytest.raises(Refused, match="this is no index"):
                    await at_the_page(house, WITH_A_REASON, "meter.verify", refused, args)
            for _ in range(2):
                await at_the_page(house, WITH_A_REASON, "meter.verify", compared, args)
        # each flat by itself is bounded as before
        for _ in range(8):
            await at_the_page(house, WITH_A_REASON, "meter.verify", compared, args)
        with pytest.raises(Refused, match="Wait 144 min"):
            await at_the_page(house, WITH_A_REASON, "meter.verify", compared, args)

    at_work(config, scenario)


def test_whoever_has_no_looks_left_takes_none_from_others(config):
    async def scenario(house):
        house.clock.steady = lambda: 5_000.0
        for n in range(2_000):
            page_view.check_reason(house, WITH_A_REASON, f"D{n}")
        for _ in range(20):
            with pytest.raises(Refused, match="Wait 1 min"):
                page_view.check_reason(house, WITH_A_REASON, "D9000")
        page_view.check_reason(house, replace(WITH_A_REASON, who="Paul (web)"), "D9000")

    at_work(config, scenario)


def test_reasons_are_bounded(config):
    """Each is an entry on the disk. Rule W4."""

    async def scenario(house):
        house.clock.steady = lambda: 5_000.0
        for n in range(2_000):
            page_view.check_reason(house, WITH_A_REASON, f"D{n}")
        with pytest.raises(Refused, match="not shown so often"):
            page_view.check_reason(house, WITH_A_REASON, "D9000")
        page_view.check_reason(house, replace(WITH_A_REASON, who="Paul (web)"), "D9000")

    at_work(config, scenario)
