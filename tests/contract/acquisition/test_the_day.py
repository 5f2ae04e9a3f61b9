"""Guards rules G1, G2: thirty-two hours with all that can happen to time and to meters.

A boot in 1970, a summer that ends, a line that is cut, a meter that is silent, an index that rolls
over, one that is reset, one that jumps, a meter whose own clock is wrong, sensors that are out of
range, jump and stand still, a restart, a clock set two hours ahead and three hours back; then an
independent checker goes through every row at the platform. Rule M1."""

import datetime as dt
import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal

import pytest

from agent.core.model import Point
from agent.registry.consent_policy import CommonBasis, policy
from agent.registry.inputs import NewPlace
from hil.platform.plan import judge
from tests.contract.acquisition.checker import (
    by_slot,
    check_index,
    check_interval,
    check_momentary,
    check_slots,
    check_state,
    rows_of,
)
from tests.contract.acquisition.world import BORN, RATE, ZONE, Meter, Odd, Sensor, World, utc
from tests.virtual_time import run

BEGIN, END = "2026-10-24T20:00:10", "2026-10-26T04:00:10"
NOON = utc("2026-10-25T12:07:00")
ROLLS = Decimal(100_000)
SILENT = "2026-10-25T09:00:05", "2026-10-25T11:38:00"
CUT = "2026-10-24T23:10:00", "2026-10-24T23:40:00"
DOWN = "2026-10-25T02:00:00", "2026-10-25T02:50:00"


def meter_point(name, every, **more):
    return Point(name, "energy", name, "x", every, "elec.imp", "kWh", rating=Decimal(9), **more)


def points():
    found = {f"m{n}": [meter_point(f"m{n}", 900)] for n in (1, 2)}
    rolling = meter_point("m3", 900, rolls_at=ROLLS)
    interval = Point(
        "m3", "energy-interval", "1", "", 900, "elec.imp", "kWh", rolls_at=ROLLS, derived=True
    )
    found["m3"] = [rolling, interval]
    found["m4"] = [meter_point("m4", 86_400)]
    found["m5"] = [meter_point("m5", 60)]
    found |= {name: [meter_point(name, 900)] for name in ("m6", "m7", "m8")}
    for name in SENSORS:
        found[name] = [Point(name, "air", name, "x", 900, "temp", "Cel")]
    found["m11"] = [Point("m11", "contact", "m11", "x", 60, "state.door", place=CELLAR)]
    return found


CELLAR = "CZS2YFSTBQQ5WDC"
DOOR = Sensor(
    ("2026-10-24T20:00:00", "0"), ("2026-10-24T20:03:30", "1"), ("2026-10-24T20:20:30", "0"),
    ("2026-10-24T22:10:30", "1"), ("2026-10-24T23:20:30", "0"), ("2026-10-25T05:10:30", "1"),
    ("2026-10-25T13:15:30", "0"), ("2026-10-25T20:00:30", "1"), ("2026-10-25T20:01:30", "0"),
)  # fmt: skip
"""of a common area: opened and shut while the time is unknown and the line is cut, too"""
RESET, JUMPED = "2026-10-25T06:07:00", "2026-10-25T16:07:00"
QUIET = "2026-10-24T20:00:00"
SENSORS = {
    "m9": Sensor((QUIET, "20.5"), ("2026-10-25T05:10:00", "99.5"), ("2026-10-25T05:20:00", "20.7"),
                 ("2026-10-25T17:10:00", "-39"), ("2026-10-25T17:25:00", "68"),
                 ("2026-10-25T17:40:00", "21.0")),
    "m10": Sensor((QUIET, "19.90")),
}  # fmt: skip
"""one out of range, then hotter than it can have become; one that says the very same all day"""


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    folder = tmp_path_factory.mktemp("day")
    meters = {f"m{n}": Meter(100 * n) for n in (1, 2, 4, 5)}
    meters["m3"] = Meter(ROLLS - (NOON - BORN) * RATE, ROLLS)
    meters["m6"] = Odd(600, RESET, "2027-01-01", -500)
    meters["m7"] = Odd(700, JUMPED, "2026-10-25T16:22:00", 9_000)
    meters["m8"] = Meter(800, clock=-1_500)
    meters |= SENSORS | {"m11": DOOR}

    async def story():
        world = World(folder, meters, points(), utc(BEGIN))
        cellar = NewPlace("cellar", "common", id=CELLAR, since=BORN)
        world.town.registry.add_places([cellar], "test", "test", BORN)
        world.town.policy = policy("DEMO-1", CommonBasis("vote", BORN))
        for name in SENSORS:
            world.town.consent(f"D{name[1:]}", channel="temp")
        async with world.agent():
            world.set_clock(-world.true + 30)  # it is 1970
            await world.until("2026-10-24T20:07:00")
            world.synchronizes()
            await world.until("2026-10-24T22:00:20")
        await world.until("2026-10-24T22:00:40")  # no slot of a minute went by
        async with world.agent():
            await world.until(CUT[0])
            world.cut = True
            await world.until(CUT[1])
            world.cut = False
            await world.until(DOWN[0])
        await world.until(DOWN[1])
        async with world.agent():
            await world.until(SILENT[0])
            meters["m2"].silent = True
            await world.until(SILENT[1])
            meters["m2"].silent = False
            await world.until("2026-10-25T13:05:00")
            world.set_clock(+2 * 3600)
            await world.until("2026-10-25T13:35:00")
            world.synchronizes()
            await world.until("2026-10-25T15:00:30")
            world.set_clock(-3 * 3600)
            await world.until("2026-10-25T15:20:00")
            world.synchronizes()
            await world.until(END)
        return {name: world.town.place(f"D{name[1:]}") for name in meters}

    places = run(story())
    rows = rows_of(folder / "platform.db")
    return meters, places, by_slot(rows), rows


def test_the_platform_knows_from_batches_alone_whose_each_row_is_and_what_it_is_owed(
    day, tmp_path_factory
):
    _, _, _, rows = day
    found = judge(folder_of(tmp_path_factory) / "platform.db")
    assert (found.series, found.rows) == (12, len(rows))
    assert (found.unknown, found.unstated, found.unowed, found.disorder) == ([], [], [], [])


def test_the_platform_would_notice_a_slot_that_is_not_stated(day, tmp_path, tmp_path_factory):
    _, places, _, _ = day
    copy = shutil.copy(folder_of(tmp_path_factory) / "platform.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(copy)) as db:
        slot = utc("2026-10-25T06:00:00")
        db.execute("DELETE FROM row WHERE place = ? AND t = ?", (places["m1"], slot))
        db.execute("UPDATE row SET meter = '9' WHERE place = ? AND t = ?", (places["m2"], slot))
        db.execute(
            "DELETE FROM directory WHERE list = 'series' AND id LIKE ?", (f"{places['m4']}%",)
        )
        db.commit()
    found = judge(copy)
    assert found.unstated == [f"{(places['m1'], 'elec.imp', 'REG', 900)} {slot}"]
    assert found.unknown == [f"{(places['m2'], 'elec.imp', 'REG', 900)} {slot}: meter"]
    assert found.unowed == [f"{(places['m4'], 'elec.imp', 'REG', 86400)}: not in the plan"]


def folder_of(factory):
    return factory.getbasetemp() / "day0"


def owed(step, first=BEGIN):
    start = -(-utc(first) // step) * step - step
    return range(start, utc(END) + 1, step)


def test_a_door_is_told_when_it_is_opened_and_shut_and_when_nobody_knows(day):
    _, _, held, _ = day
    rows = held[CELLAR, "EVT", 60]
    check_state(rows, owed(60), DOOR)
    said = {f"{dt.datetime.fromtimestamp(t, dt.UTC):%d %H:%M}": row for t, row in rows.items()}
    assert {at: (row.v or row.why, row.flags) for at, row in said.items()} == {
        "24 20:00": ("0", "CLK"), "24 20:03": ("1", "CLK"), "24 20:21": ("0", ""),
        "24 22:11": ("1", ""), "24 23:10": ("link", ""), "24 23:41": ("0", ""),
        "25 02:00": ("agent", ""), "25 02:50": ("0", ""), "25 05:11": ("1", ""),
        "25 13:15": ("0", "CLK"), "25 20:01": ("1", ""), "25 20:02": ("0", ""),
    }  # fmt: skip


def why_of(held):
    return {slot: row.why for slot, row in held.items() if row.why}


EVERY = [*((f"m{n}", 900) for n in (1, 2, 3, 6, 7, 8)), ("m5", 60)]


@pytest.mark.parametrize(("name", "step"), EVERY)
def test_every_slot_is_stated_once_with_what_the_meter_said_then(day, name, step):
    """Rules R5, M3."""
    meters, places, held, _ = day
    series = (places[name], "REG", step)
    check_slots(held, series, owed(step))
    for slot, row in held[series].items():
        check_index(row, slot, meters[name], RATE, own_clock_wrong=name == "m8")


@pytest.mark.parametrize("name", SENSORS)
def test_every_slot_of_a_sensor_is_stated_once_with_what_it_said_then(day, name):
    meters, places, held, _ = day
    series = (places[name], "INS", 900)
    check_slots(held, series, owed(900))
    for slot, row in held[series].items():
        check_momentary(row, slot, meters[name])


def test_what_is_missing_is_what_could_not_be_read(day):
    """Rule M4."""
    _, places, held, _ = day
    missing = why_of(held[places["m1"], "REG", 900])
    down = [utc(f"2026-10-25T02:{minute}:00") for minute in ("00", "15", "30")]
    assert missing == dict.fromkeys(down, "agent") | {utc("2026-10-24T23:15:00"): "link"}
    minutes = why_of(held[places["m5"], "REG", 60])
    cut, down = (range(utc(a), utc(b) + 60, 60) for a, b in (CUT, DOWN))
    for slot, why in minutes.items():
        assert slot in (cut if why == "link" else down), (slot, why)
    assert sum(why == "link" for why in minutes.values()) >= 29
    assert sum(why == "agent" for why in minutes.values()) in (49, 50)
    assert set(minutes.values()) == {"link", "agent"}


def test_a_line_back_within_the_slot_brings_its_values_late(day):
    """Rule R7."""
    _, places, held, rows = day
    slot = utc("2026-10-24T23:30:00")
    versions = [row for row in rows if row.place == places["m1"] and row.t == slot]
    assert sorted((row.q, row.why, row.flags) for row in versions) == [
        ("M", "link", ""), ("V", None, "LATE+PART"),
    ]  # fmt: skip
    assert held[places["m1"], "REG", 900][slot].q == "V"


def test_a_dead_meter_is_silent_until_it_answers_in_the_midst_of_a_slot(day):
    """Rule M14."""
    _, places, held, _ = day
    missing = why_of(held[places["m2"], "REG", 900])
    silent = [slot for slot, why in missing.items() if why == "silent"]
    assert silent == list(range(utc("2026-10-25T09:15:00"), utc("2026-10-25T11:30:00"), 900))
    assert "LATE" in held[places["m2"], "REG", 900][utc("2026-10-25T11:30:00")].flags


def test_what_was_read_while_the_time_was_unknown_is_dated_afterwards(day):
    """Rule C11."""
    _, places, held, _ = day
    dated = [s for s, row in held[places["m5"], "REG", 60].items() if "CLK" in row.flags]
    windows = [
        (BEGIN, "2026-10-24T20:07:00"),
        ("2026-10-25T13:05:00", "2026-10-25T13:35:00"),
        ("2026-10-25T15:00:30", "2026-10-25T15:20:00"),
    ]
    for begin, end in windows:
        within = [slot for slot in dated if utc(begin) - 60 < slot < utc(end)]
        minutes = (utc(end) - utc(begin)) / 60
        assert minutes - 1 <= len(within) <= minutes + 1
        dated = [slot for slot in dated if slot not in within]
    assert dated == []


def test_an_index_that_rolls_over_is_flagged_and_its_intervals_stay_right(day):
    _, places, held, _ = day
    indexes, flows = held[places["m3"], "REG", 900], held[places["m3"], "INT", 900]
    rolled = [slot for slot, row in indexes.items() if "ROLL" in row.flags]
    assert rolled == [utc("2026-10-25T12:15:00")]
    check_slots(held, (places["m3"], "INT", 900), owed(900))
    for slot, row in flows.items():
        check_interval(row, indexes.get(slot - 900), indexes[slot], ROLLS)
    assert flows[rolled[0]].v == "0.4500"
    assert sum(row.v is not None for row in flows.values()) >= 110


def test_wherever_two_good_indexes_follow_each_other_it_is_told_what_flowed(day):
    """But for the first after a start: the index before it is on the disk alone, or sent."""
    _, places, held, _ = day
    indexes, flows = held[places["m3"], "REG", 900], held[places["m3"], "INT", 900]
    good = {slot for slot, row in indexes.items() if row.q in "VR"}
    lost = [slot for slot, row in flows.items() if {slot, slot - 900} <= good and row.v is None]
    assert {flows[slot].why for slot in lost} <= {"agent"}
    assert len(lost) <= 2
    late = utc("2026-10-24T23:30:00")  # the line was back within the slot
    assert "LATE" in indexes[late].flags
    assert (flows[late + 900].q, flows[late + 900].ver) == ("K", -1)


def flagged(held, flag):
    return {slot: row.q for slot, row in sorted(held.items()) if flag in row.flags.split("+")}


def test_an_index_that_is_reset_is_suspect_once_and_counts_from_there_on(day):
    _, places, held, _ = day
    rows = held[places["m6"], "REG", 900]
    slot = utc("2026-10-25T06:15:00")
    assert flagged(rows, "RST") == {slot: "S"}
    assert [rows[slot + 900 * n].q for n in (-1, 1, 2)] == ["V", "R", "V"]


def test_an_index_that_jumps_beyond_its_rating_is_suspect_and_what_follows_is_not(day):
    _, places, held, _ = day
    rows = held[places["m7"], "REG", 900]
    slot = utc("2026-10-25T16:15:00")
    assert flagged(rows, "SPK") == {slot: "S"}
    assert [rows[slot + 900 * n].q for n in (-1, 1)] == ["V", "V"]


def test_a_meter_whose_own_clock_is_wrong_is_flagged_without_a_new_version(day):
    """Rule M18."""
    _, places, held, _ = day
    rows = held[places["m8"], "REG", 900].values()
    read = [row for row in rows if row.v is not None]
    at_once = [row for row in read if row.ver < 0]
    assert {"CLK" in row.flags for row in at_once} == {True}
    assert len(at_once) > 80


def test_a_sensor_out_of_range_jumping_and_standing_still_is_flagged(day):
    _, places, held, _ = day
    rows = held[places["m9"], "INS", 900]
    assert flagged(rows, "RNG") == {utc("2026-10-25T05:15:00"): "S"}
    assert flagged(rows, "SPK") == {utc("2026-10-25T17:30:00"): "S"}
    still = flagged(held[places["m10"], "INS", 900], "FRZ")
    assert min(still) == utc("2026-10-26T03:00:00")  # a day after the start of the agent
    assert len(still) == (utc(END) - min(still)) // 900 + 1
    assert set(still.values()) == {"V"}


def test_the_long_day_is_one_day_and_says_so(day):
    """Rule M9."""
    meters, places, held, _ = day
    daily = held[places["m4"], "REG", 86_400]
    midnights = [dt.datetime(2026, 10, d, tzinfo=ZONE).timestamp() for d in (24, 25, 26)]
    assert sorted(daily) == midnights
    assert ["DST" in daily[slot].flags for slot in midnights] == [False, False, True]
    for slot in midnights:
        assert Decimal(daily[slot].v) in {
            meters["m4"].index(slot + daily[slot].d + n) for n in (0, 1)
        }


def test_values_are_checked_as_soon_as_there_is_one_before(day):
    _, places, held, _ = day
    letters = [row.q for _, row in sorted(held[places["m1"], "REG", 900].items())]
    assert letters[0] == "R"
    assert letters.count("R") == 3  # at each start of the agent
    assert set(letters) == {"R", "V", "M"}


def test_no_row_says_more_than_once_what_nobody_asked(day):
    _, _, _, rows = day
    assert {row.q for row in rows} <= set("VRSMK")
    assert len(rows) < 3_600
