"""Values whose factor nothing has proven, from the meter to the platform. Guards rules F15, F20."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.acquisition.directory import directory
from agent.acquisition.factors import FactorDays, needed
from agent.acquisition.slots import SlotLedger
from agent.config import parse
from agent.core.model import Quality, Why
from agent.drivers.profile import profile, profiles
from agent.registry.inputs import FactorResult, NewDuty
from hil.platform.plan import judge
from receiver.batch import of_json
from tests.contract.acquisition.world import RATE, Meter, World, utc
from tests.contract.receiver.batches import document, series
from tests.unit.acquisition.house import LONG_AGO, NOW, RECIPIENT, Town, point, sample
from tests.virtual_time import run

INDEX = point(every=900, rating=Decimal(9), to_prove="f1")
USED = replace(INDEX, name="used", derived=True, of="energy", at="")
KEY = ("m1", 900)
SLOT = NOW // 900 * 900


def prove(registry, serial="1001", factor=1, at="f1"):
    (meter,) = [one for one in registry.installations() if one.serial == serial]
    of = (meter, "elec.imp", "display", Decimal(factor), Decimal("1.01"), at, "ratio=1")
    registry.prove_factors([FactorResult(*of)], "alice", "gardien meter verify", NOW)


def ledger(town, refuses=False):
    made = SlotLedger(town.gate(), {KEY: [INDEX, USED]}, {})
    made.refuses_unproven = refuses
    return made


def close(of, slot, value="5", used="1"):
    index = sample(INDEX, value, float(slot), None if value else Why.SILENT)
    derived = sample(USED, used if value else None, float(slot), None if value else Why.SILENT)
    return of.close(KEY, slot, [index, derived], "1001", Why.BUSY)


def told(rows):
    return [(row.series.kind, row.quality, row.why, row.flags) for row in rows]


@pytest.fixture
def town(tmp_path):
    return Town(tmp_path, 1, step=900)


def test_the_index_and_what_follows_from_it_are_flagged_until_it_is_proven(town):
    of = ledger(town)
    assert told(close(of, SLOT)) == [("REG", "R", None, "UNPR"), ("INT", "R", None, "UNPR")]
    prove(town.registry, factor=10)
    assert {row.flags for row in close(of, SLOT + 900)} == {"UNPR"}
    prove(town.registry)
    assert {row.flags for row in close(of, SLOT + 1800)} == {""}


def test_what_needs_no_proof_is_not_flagged(town):
    plain = replace(INDEX, to_prove="")
    of = SlotLedger(town.gate(), {KEY: [plain]}, {})
    (row,) = of.close(KEY, SLOT, [sample(plain, "5", float(SLOT))], "1001", Why.BUSY)
    assert row.flags == ""


def test_a_factor_that_needs_no_proof_is_flagged_once_it_is_contradicted(town):
    """Rules F15, F20."""
    plain = replace(INDEX, confirmed=True)
    of = SlotLedger(town.gate(), {KEY: [plain]}, {})

    def row(slot):
        (made,) = of.close(KEY, slot, [sample(plain, "5", float(slot))], "1001", Why.BUSY)
        return made.quality, made.why, made.flags

    of_points = {"m1": [plain]}
    assert row(SLOT) == ("R", None, "")
    assert not [*needed(of_points, lambda _: "1001", town.registry, NOW)]
    prove(town.registry, factor=10)
    assert row(SLOT + 900) == ("R", None, "UNPR")
    assert [*needed(of_points, lambda _: "1001", town.registry, NOW)]
    of.refuses_unproven = True
    assert row(SLOT + 1800) == ("W", "factor", "")
    prove(town.registry)
    assert row(SLOT + 2700) == ("R", None, "")


def test_who_refuses_them_gets_the_reason_on_the_basis_of_the_row(town):
    of = ledger(town, refuses=True)
    rows = close(of, SLOT)
    assert told(rows) == [("REG", "W", "factor", ""), ("INT", "W", "factor", "")]
    assert {(row.value, bool(row.series.basis), row.series.meter) for row in rows} == {
        (None, True, "1001")
    }
    assert {one.kind for one in of.owed} == {"REG", "INT"}


def test_a_silent_meter_is_missing_and_not_withheld(town):
    of = ledger(town, refuses=True)
    close(of, SLOT)
    rows = close(of, SLOT + 1800, None)
    assert {(row.quality, row.why) for row in rows} == {("M", "busy"), ("M", "silent")}


def test_no_late_value_comes_through(town):
    of = ledger(town, refuses=True)
    close(of, SLOT, None)
    kept = sample(INDEX, "7", float(SLOT + 60))
    assert of.late(KEY, SLOT, [kept], "1001", SLOT + 61) == []
    duty = NewDuty(RECIPIENT, "contract", ("elec.imp",), LONG_AGO, None, ("01-15",))
    town.registry.oblige([duty], "test", "test", NOW)
    midnight = SLOT // 86_400 * 86_400
    index = sample(INDEX, "7", midnight)
    assert of.midnight_rows(midnight, index, "1001", SLOT) == []
    prove(town.registry)
    assert [row.value for row in of.midnight_rows(midnight, index, "1001", SLOT)] == [7]
    assert [row.value for row in of.late(KEY, SLOT, [kept], "1001", SLOT + 62)] == [7]


def test_a_late_value_is_flagged_too(town):
    of = ledger(town)
    close(of, SLOT, None)
    (row, *_) = of.late(KEY, SLOT, [sample(INDEX, "7", float(SLOT + 60))], "1001", SLOT + 61)
    assert row.flags == "LATE+UNPR"


@pytest.mark.parametrize("refuses", [False, True])
def test_every_slot_that_is_owed_has_one_row_at_the_platform(tmp_path, refuses):
    """A day with a silence, and a proof in its middle."""
    begin, end = "2026-11-10T00:00:10", "2026-11-10T06:00:10"
    points = {"m1": [INDEX], "m2": [replace(INDEX, device="m2", address="m2")]}
    world = World(tmp_path, {"m1": Meter(), "m2": Meter()}, points, utc(begin))
    world.synchronizes()

    async def day():
        async with world.agent():
            (book,) = world.keeper._books()
            book.ledger.refuses_unproven = refuses
            await world.until("2026-11-10T02:05:00")
            world.meters["m2"].silent = True
            await world.until("2026-11-10T03:05:00")
            world.meters["m2"].silent = False
            prove(world.town.registry)
            await world.until(end)

    run(day())
    plan = judge(tmp_path / "platform.db")
    assert (plan.unstated, plan.unknown, plan.unowed) == ([], [], [])
    with closing(sqlite3.connect(tmp_path / "platform.db")) as db:
        rows = db.execute("SELECT meter, t, q, why, flags, v FROM row ORDER BY t").fetchall()
    proof = utc("2026-11-10T03:05:00")
    mine = [row for row in rows if row[0] == "1001"]
    assert {(bool(v), why, flags) for _, t, _, why, flags, v in mine if t > proof} == {
        (True, None, "")
    }
    before = {(q in "MW", why, flags) for _, t, q, why, flags, _ in mine if t < proof - 900}
    assert before == ({(True, "factor", "")} if refuses else {(False, None, "UNPR")})
    others = {why for meter, _, _, why, *_ in rows if meter == "1002"}
    assert {"silent"} < others if refuses else others == {None, "silent"}


class Powered(World):
    """Its meter also says the power at which it counts; `factor`: how many times that is wrong."""

    factor = 1

    async def read(self, points):
        watts = RATE * 3_600_000 * self.factor
        samples = await super().read(points)
        return [replace(one, value=watts) if one.point.name == "power" else one for one in samples]


@pytest.mark.parametrize(("factor", "error"), [(1, "1"), (10, "0.1")])
def test_the_readings_of_a_day_prove_a_factor_as_they_come(tmp_path, factor, error):
    """Rule F17: with the agent's own poller, and a restart that begins the day again."""
    power = point(name="power", every=300, channel="elec.power", unit="W")
    world = Powered(tmp_path, {"m1": Meter()}, {"m1": [INDEX, power]}, utc("2026-11-10T00:00:10"))
    world.factor = Decimal(factor)
    world.synchronizes()

    def results():
        of = needed(world.points, lambda _: "1001", world.town.registry, int(world.wall()))
        days = world.factor_days
        return days.results(of, world.points, lambda _: "1001", world.town.registry, None)

    async def days():
        async with world.agent():
            await world.until("2026-11-10T20:00:00")
        world.factor_days = FactorDays()
        async with world.agent():
            await world.until("2026-11-11T19:59:00")
            assert results() == []
            await world.until("2026-11-11T20:20:00")
            return results()

    (result,) = run(days())
    assert (result.method, result.factor) == ("power", Decimal(error))


def test_the_directory_has_the_proofs_and_keeps_those_of_a_meter_that_is_gone(tmp_path):
    town = Town(tmp_path, 1)
    facts = (town.registry, town.policy, RECIPIENT, {})
    (meter,) = town.registry.installations()
    key = f"installations/{meter.id}"
    known = {meter.id: {"elec.imp": {"proof": "none"}}}
    first = directory(*facts, {}, "Europe/Paris", factors=known)
    assert first[key]["factors"] == {"elec.imp": {"proof": "none"}}
    assert directory(*facts, first, "Europe/Paris")[key] == first[key]
    assert "factors" not in directory(*facts, {}, "Europe/Paris")[key]


def test_a_receiver_takes_the_flag_and_the_reason():
    of = series("D1", [SLOT, SLOT + 900], [1, None], flags={"0": "LATE+UNPR"}, q="RW")
    of["why"] = {"1": "factor"}
    text = json.dumps(document(1, series=[of])).encode()
    (rows,) = of_json(text, "0" * 64, len(text)).rows.values()
    assert [(row.q, row.flags, row.why) for row in rows] == [
        (Quality.RAW, "LATE+UNPR", None),
        (Quality.WITHHELD, None, "factor"),
    ]


CONFIG = """\
building: {{name: Test, timezone: Europe/Paris}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 502}}
  heat: {{driver: mbus-tcp, host: 127.0.0.1, port: 503}}
devices:
  m: {{link: {link}, address: 1{device}}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
privacy: {{policy: FR-1}}
clock: {{source: system}}
state: /tmp/state
"""
ELECTRIC = [
    name
    for name in profiles()
    if profile(name).driver == "modbus" and "energy_import" in profile(name).defaults
]
ONE, OTHER = [name for name in ELECTRIC if not profile(name).confirmed][:2]
TWO = next(name for name in ELECTRIC if profile(name).confirmed)
"""profiles of a single source, and one that two confirm"""
HAND = "points: {e: {at: input/72/float32, channel: elec.imp, unit: kWh}}"


def asked(device, link="riser", name=None):
    config = parse(CONFIG.format(device=f", {device}", link=link), "config.yaml")
    points = {one.name: one for one in config.points()["m"]}
    point = points[name] if name else next(iter(points.values()))
    return "" if point.confirmed else point.to_prove


@pytest.mark.parametrize(
    ("device", "needed"),
    [
        (HAND, True),
        (f"profile: {ONE}", True),
        (f"profile: {TWO}", False),
        (f"profile: {TWO}, points: {{energy_import: {{scale: 0.1}}}}", True),
        (f"profile: {TWO}, points: {{energy_import: {{every: 1h}}}}", False),
        (f"profile: {ONE}, place: CZS2Y-FSTBQ-Q5WDC", False),
        ("points: {p: {at: input/12/float32, channel: elec.power, unit: W}}", False),
    ],
)
def test_what_needs_a_proof(device, needed):
    """Rule F15."""
    assert bool(asked(device)) == needed


def test_a_meter_that_states_its_unit_needs_none():
    assert asked("profile: mbus-heat, every: 1h", "heat") == ""


def test_another_register_unit_factor_profile_or_address_is_another_factor():
    """Rule F19. A device without a serial number is known by its address alone."""
    texts = [
        HAND,
        HAND.replace("72", "74"),
        HAND.replace("kWh", "Wh"),
        HAND.replace("kWh", "kWh, scale: 0.1"),
        f"profile: {ONE}",
        f"profile: {OTHER}",
    ]
    found = [asked(text) for text in texts]
    assert all(found)
    assert len(set(found)) == len(texts)
    assert asked(HAND) == asked(HAND.replace("kWh", "kWh, scale: 1.0, rating: 9, every: 1min"))
