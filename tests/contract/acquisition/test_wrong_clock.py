# ruff: noqa: N802 -- the letters are those of docs/rules/clock.md
"""Guards rules C3, C4, C5: a wrong clock costs the time that it was wrong; no row stays misdated.

The oracle knows the meters, true time and the rows of the platform, and nothing of the agent.
"""

import datetime as dt
import json
import sqlite3
import tempfile
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.registry.inputs import NewOccupancy
from tests.contract.acquisition.checker import by_slot, rows_of
from tests.contract.acquisition.test_the_day import meter_point
from tests.contract.acquisition.world import Meter, World, utc
from tests.depth import depth
from tests.virtual_time import run

BEGIN = "2026-10-26T08:00:10"
MINUTE, HOUR, DAY = 60, 3600, 86_400


def world_of(folder, begin=BEGIN, step=60):
    points = {"m1": [meter_point("m1", step)]}
    return World(folder, {"m1": Meter("100")}, points, utc(begin))


def judged(world, place, first, until, step=60):
    """By slot of true time, whether the row in force is a value; every value must be true."""
    held = by_slot(rows_of(world.folder / "platform.db"))[place, "REG", step]
    meter = world.meters["m1"]
    assert not [t for t in held if t > utc(until)], "a row of a slot that has not come"
    for slot, row in held.items():
        if row.v is not None:
            at = slot + row.d
            assert 0 <= row.d <= step
            assert meter.index(at - 1) <= Decimal(row.v) <= meter.index(at + 1), (slot, row)
    slots = range(utc(first), utc(until) + 1, step)
    assert set(slots) <= set(held), "a slot that nobody accounts for"
    return {slot: held[slot] for slot in slots}


def silent(held, step=60):
    """The longest time without a value, seconds."""
    longest = now = 0
    for row in held.values():
        now = 0 if row.v is not None else now + step
        longest = max(longest, now)
    return longest


WRONG = {"+1 day": DAY, "+10 years": 3653 * DAY, "1970": None, "-3 h": -3 * HOUR}


@pytest.mark.parametrize("restarts", [False, True], ids=["one run", "restarts"])
@pytest.mark.parametrize("wrong", WRONG)
def test_the_agent_is_silent_no_longer_than_the_clock_was_wrong(tmp_path, wrong, restarts):
    offset = WRONG[wrong]

    step = 900 if offset and offset > DAY else 60

    async def story():
        world = world_of(tmp_path, step=step)
        world.synchronizes()
        moments = ["08:20:20", "08:30:20", "08:40:20"] if restarts else []
        steps = {"08:15:30": lambda: world.lies(-world.true if offset is None else offset),
                 "08:45:30": world.synchronizes}  # fmt: skip
        todo = sorted([*steps, *moments])
        while True:
            async with world.agent():
                while todo and todo[0] in steps:
                    await world.until(f"2026-10-26T{todo[0]}")
                    steps[todo.pop(0)]()
                    await world.until(f"2026-10-26T{todo[0] if todo else '09:15:10'}")
                    world.deliver()
                if todo:
                    await world.until(f"2026-10-26T{todo.pop(0)}")
                    continue
                await world.until("2026-10-26T09:15:10")
                break
        return world, world.town.place("D1")

    world, place = run(story())
    first, last = "2026-10-26T08:00:00", "2026-10-26T09:15:00"
    held = judged(world, place, first, last, step)
    assert silent(held, step) <= 30 * MINUTE + 2 * step
    right = range(utc("2026-10-26T09:00:00"), utc(last), step)
    assert all(held[slot].v is not None for slot in right)


def after(minutes, begin=BEGIN):
    """So many minutes after the beginning of a story."""
    return (dt.datetime.fromisoformat(begin) + dt.timedelta(minutes=minutes)).isoformat()


def stamped(t):
    return dt.datetime.fromtimestamp(t, dt.UTC).replace(tzinfo=None).isoformat()


def ran(folder, *acts, step=60, minutes=75, reboots=(), restarts=()):
    """The world after a story: acts are (minute, what is done to the world). After each of
    `reboots` another boot begins, after each of `restarts` another agent.
    """

    async def story():
        world = world_of(folder, step=step)
        world.synchronizes()
        left = sorted(acts, key=lambda act: act[0])
        for end in sorted([*reboots, *restarts, minutes]):
            async with world.agent():
                while left and left[0][0] < end:
                    minute, act = left.pop(0)
                    await world.until(after(minute))
                    if (result := act(world)) is not None:
                        await result
                await world.until(after(end))
            world.boot = f"boot after {end}" if end in reboots else world.boot
        return world

    world = run(story())
    return world, world.town.place("D1")


def says(world):
    """What the status says of the clock."""
    return world.clock.distrust_reason


async def agrees(world):
    """The platform's signed word comes, and a time service says the same."""
    world.clock.take_signed_time(world.true)
    await world.keeper.look()


def wrong(offset):
    return lambda world: world.lies(offset)


def right(world):
    world.synchronizes()


def test_C_a_marks_in_the_future_are_set_back_once_a_step_and_its_reversal_prove_them_wrong(
    tmp_path,
):
    """Rule C4."""
    world, place = ran(tmp_path, (15, wrong(DAY)), (45, right))
    held = judged(world, place, after(1)[:16], after(75)[:16])
    assert silent(held) <= 32 * MINUTE
    (decision,) = world.decisions
    assert decision[0] == "clock.set_back"
    assert decision[1]["how"] == "proved"


def test_C_b_slots_that_a_wrong_clock_has_closed_get_true_values_when_they_come(tmp_path):
    """Rule C6."""
    world, place = ran(tmp_path, (15, wrong(2 * HOUR)), (45, right), step=300, minutes=200)
    held = judged(world, place, after(5)[:16], after(200)[:16], 300)
    again = [row for t, row in held.items() if utc(after(135)) <= t <= utc(after(165))]
    assert len(again) == 6
    assert all(row.v is not None and row.ver > 0 for row in again)
    assert all(row.ver == -1 for t, row in held.items() if t > utc(after(168)))


def test_C_d_slots_that_are_past_by_now_do_not_keep_the_value_of_another_slot(tmp_path):
    """Rule C5."""
    world, place = ran(tmp_path, (15, wrong(10 * MINUTE)), (45, right))
    held = judged(world, place, after(1)[:16], after(75)[:16])
    lost = [row for t, row in held.items() if utc(after(16)) <= t <= utc(after(44))]
    assert {row.why for row in lost} == {"clock"}


@pytest.mark.parametrize("reboots", [(), (20,)], ids=["one boot", "a boot in between"])
def test_C_e_a_time_server_that_is_wrong_backwards_stamps_nothing_over_what_was_closed(
    tmp_path, reboots
):
    """Rule C3."""
    said = []
    world, place = ran(
        tmp_path, (15, wrong(-3 * HOUR)), (30, lambda world: said.append(says(world))),
        (45, right), reboots=reboots,
    )  # fmt: skip
    held = judged(world, place, after(1)[:16], after(75)[:16])
    assert said[0].startswith("marks lie 2:45 h ahead of the clock")
    assert world.decisions == []
    assert all(row.v is not None for t, row in held.items() if t >= utc(after(46)))
    if not reboots:  # what was read meanwhile waited, and was dated
        assert silent(held) <= 2 * MINUTE


def test_a_slot_of_the_clock_before_is_not_closed_by_the_clock_after_a_step(tmp_path):
    def slow(world):
        world.takes = 20.0  # from 08:46:00 to :20, and the clock is put right at :10

    world, place = ran(tmp_path, (15, wrong(DAY)), (45, slow), (46, right), minutes=60)
    held = judged(world, place, after(1)[:16], after(59)[:16])
    assert all(row.v is not None for t, row in held.items() if t >= utc(after(47)))


def test_what_a_clock_that_was_behind_has_dated_once_it_had_passed_the_marks_is_taken_back(
    tmp_path,
):
    world, place = ran(
        tmp_path, (15, wrong(-HOUR)), (135, right), step=300, minutes=170, restarts=(100, 120)
    )
    held = judged(world, place, after(5)[:16], after(170)[:16], 300)
    assert silent(held, 300) <= 2 * HOUR + 600
    assert all(row.v is not None for t, row in held.items() if t >= utc(after(140)))
    assert [kind for kind, _ in world.decisions] == ["clock.set_back"]


def test_after_a_boot_one_source_alone_proves_nothing_and_two_that_agree_do(tmp_path):
    """Rule C4."""
    said = []
    world, place = ran(
        tmp_path, (15, wrong(DAY)), (45, right), (50, lambda world: said.append(says(world))),
        (60, agrees), minutes=80, reboots=(30,),
    )  # fmt: skip
    assert said[0].startswith("marks lie 23:55 h ahead of the clock")
    held = judged(world, place, after(1)[:16], after(80)[:16])
    assert all(row.v is not None for t, row in held.items() if t >= utc(after(46)))
    assert silent(held) <= 32 * MINUTE


def test_a_person_who_says_since_when_it_was_wrong_is_believed(tmp_path):
    """Rule C4."""

    async def says_so(world):
        assert world.clock.distrust_reason
        (done,) = await world.keeper.reset(utc(after(15)))
        assert (done.series, round(done.ahead / 60)) == (1, 24 * 60 - 15)
        assert world.clock.dates

    world, place = ran(
        tmp_path, (15, wrong(DAY)), (45, right), (60, says_so), minutes=90, reboots=(30,)
    )
    held = judged(world, place, after(1)[:16], after(90)[:16])
    assert all(row.v is not None for t, row in held.items() if t >= utc(after(46)))


def stated(offset):
    """There is no time service, and a person states a time, which is wrong by `offset`."""

    def act(world):
        world.set_clock(offset)
        world.clock.off_by(world.wall())
        world.clock.take_person_time()

    return act


@pytest.mark.parametrize("offset", [0, 30, -30, HOUR, -HOUR, 30 * DAY])
def test_what_a_person_dated_wrongly_is_taken_back_once_a_time_service_says_so(tmp_path, offset):
    """Rule C17."""
    step = 3600 if offset > DAY else 60

    async def story():
        world = world_of(tmp_path, step=step)
        world.boot = "first"
        async with world.agent():
            stated(offset)(world)
            await world.until(after(180))
            assert world.clock.dates
            assert world.clock.trust == "untrusted"
            right(world)
            await world.until(after(300))
        return world

    world = run(story())
    place = world.town.place("D1")
    held = by_slot(rows_of(tmp_path / "platform.db"))[place, "REG", step]
    values = {t: row for t, row in held.items() if row.v is not None}
    for slot, row in values.items():
        at = slot + row.d
        read = [world.meters["m1"].index(at + moved) for moved in (-31, 31)]
        assert read[0] <= Decimal(row.v) <= read[1], (slot, row)
    assert not [t for t in held if t > utc(after(300))]
    taken_back = [body["how"] for kind, body in world.decisions if kind == "clock.set_back"]
    assert taken_back == (["proved"] if abs(offset) > 120 else [])
    before = [t for t in values if t < utc(after(175))]
    assert bool(before) is (abs(offset) <= 120)
    assert [t for t in values if t > utc(after(190))]


def test_without_proof_it_goes_on_when_the_clock_has_passed_the_marks(tmp_path):
    """Rule C3."""
    world, place = ran(
        tmp_path, (15, wrong(HOUR)), (45, right), step=300, minutes=150, reboots=(30,)
    )
    held = by_slot(rows_of(tmp_path / "platform.db"))[place, "REG", 300]
    assert world.decisions == []
    last = [row for t, row in held.items() if t > utc(after(106))]
    assert len(last) == 9
    assert all(row.v is not None for row in last)


@pytest.mark.parametrize("proved", [False, True], ids=["unproved", "proved later"])
def test_a_move_told_while_marks_lie_ahead_leaves_no_later_row_with_those_who_moved_out(
    tmp_path, proved
):
    """Rule C16."""

    def moves(world):
        assert world.clock.ahead > HOUR
        world.deliver()  # the platform holds what the wrong clock has dated
        out = NewOccupancy("move_out", "D1", until=int(world.true))
        world.town.registry.occupy([out], "test", "test", world.true)
        world.obey()

    acts = [(15, wrong(DAY)), (45, right), (50, moves)] + ([(60, agrees)] if proved else [])
    ran(tmp_path, *acts, minutes=70, reboots=(30,))
    with closing(sqlite3.connect(tmp_path / "platform.db")) as db:
        theirs = db.execute("SELECT max(t) FROM row WHERE occupancy IS NOT NULL").fetchone()[0]
        reasons = {json.loads(body)[-1] for (body,) in db.execute("SELECT body FROM retraction")}
    assert theirs < utc(after(50))
    assert reasons == ({"moved", "clock"} if proved else {"moved"})


OFFSETS = (0, 0, 40, -40, 600, -600, HOUR, -3 * HOUR, DAY)
ACTS = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.sampled_from(
            [*(("clock", one) for one in OFFSETS), ("end", ""), ("boot", ""), ("say", "")]
        ),
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=depth(8, 400), derandomize=True)
@given(ACTS)
def test_whatever_the_clock_did_all_is_right_once_a_person_has_said_so(acts):
    with tempfile.TemporaryDirectory() as folder:
        said_back(Path(folder), acts)


def said_back(folder, acts):
    """A story of any steps, ends and boots; at its end the clock is right, and where that is not
    proved by a reversal in one boot a person says since when it was not.
    """
    minute, wrongs, todo = 5, [], []
    ends = {"end": [], "boot": []}
    for minutes, (what, offset) in acts:
        minute += minutes
        if what == "clock":
            todo.append((minute, wrong(offset)))
            wrongs += [minute] if offset else []
        elif what == "say":
            todo.append((minute, lambda world: world.deliver()))
        else:
            ends[what].append(minute)

    async def proves(world):
        if ends["boot"] and wrongs:
            await world.keeper.reset(utc(after(wrongs[0])) - 1)
        assert world.clock.dates, world.clock.distrust_reason

    todo += [(minute + 1, right), (minute + 2, proves)]
    world, place = ran(
        folder, *todo, step=300, minutes=minute + 15, reboots=ends["boot"], restarts=ends["end"]
    )
    first, until = utc(after(0)) // 300 * 300, utc(after(minute + 15)) // 300 * 300
    held = judged(world, place, stamped(first), stamped(until), 300)
    late = [row for t, row in held.items() if t >= utc(after(minute + 3))]
    assert all(row.v is not None for row in late)
