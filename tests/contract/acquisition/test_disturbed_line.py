"""Three of twenty-five devices disturb their line; the others keep their slots (rule G7).

In virtual time, each run a quarter of an hour of a building or more. GARDIEN_TORTURE takes every
kind by itself, for hours, at 9600 and 19200 baud, each minute and each quarter of an hour, and a
real pseudo-terminal and a real gateway's socket beside the line in memory. Rule F9.
"""

import asyncio
import random
from decimal import Decimal

import pytest

from agent.core.errors import LinkLost, WriteRefused
from agent.core.model import Point
from hil.disturber import GATEWAY, SERIAL, Disturber, Kind
from tests.contract.acquisition.disturbed import (
    METERS,
    House,
    Mbus,
    Rtu,
    Tcp,
    number,
    run,
    virtually,
)
from tests.depth import LONG

BAD = (7, 8, 17)
OTHERS = [unit for unit in range(1, METERS + 1) if unit not in BAD]
KEPT = 0.95
NEVER_NAMED = {(Tcp, Kind.LATE), (Tcp, Kind.BEHIND), (Mbus, Kind.LATE), (Mbus, Kind.TWICE)}
"""the transaction tells a late answer, and asked last it is late for nobody; a meter that is not
selected says nothing, and what one says twice falls into the selection of the next
"""


@pytest.fixture(autouse=True)
def seeded():
    random.seed(5)


def disturbers(*kinds):
    return {
        unit: Disturber(kind, other=unit + 3, seed=unit)
        for unit, kind in zip(BAD, kinds, strict=True)
    }


def named(house):
    return {name for name, _, _ in house.link.disturbed.named(house.result.ended)}


def held(house):
    """Nobody's value is another's, nobody innocent is named, the others keep their slots."""
    for row in house.result.rows:
        if row.why is None:
            assert house.result.places[int(row.value)] == row.series.place
    assert named(house) <= {house.bus.name(unit) for unit in BAD}
    return house.result.kept(OTHERS)


MIXED = [
    (Rtu, (Kind.RANDOM, Kind.TRUNCATED, Kind.TWICE)),
    (Rtu, (Kind.OTHER, Kind.LATE, Kind.OTHER)),
    (Rtu, (Kind.CHATTER, Kind.CHATTER, Kind.CHATTER)),
    (Tcp, (Kind.RANDOM, Kind.TRUNCATED, Kind.TWICE)),
    (Tcp, (Kind.OTHER, Kind.LATE, Kind.BEHIND)),
    (Tcp, (Kind.CHATTER, Kind.CLOSES, Kind.CLOSES)),
    (Mbus, (Kind.RANDOM, Kind.TRUNCATED, Kind.TWICE)),
    (Mbus, (Kind.OTHER, Kind.LATE, Kind.OTHER)),
    (Mbus, (Kind.CHATTER, Kind.CHATTER, Kind.CHATTER)),
]


@pytest.mark.parametrize(("bus", "kinds"), MIXED)
def test_the_others_keep_their_slots_and_only_those_who_disturb_are_named(tmp_path, bus, kinds):
    # the first three turns of those who go on and on are dear: half an hour makes up for them
    house = run(tmp_path, bus(), disturbers(*kinds), 1800 if kinds[2] is Kind.CHATTER else 900)
    assert held(house) >= KEPT
    disturbs = (u for u, kind in zip(BAD, kinds, strict=True) if (bus, kind) not in NEVER_NAMED)
    certain = {house.bus.name(unit) for unit in disturbs}
    assert named(house) == certain
    reasons = {
        row.why for row in house.result.rows if row.series.place == house.result.places[BAD[0]]
    }
    assert reasons <= {None, "silent", "link", "bad", "early"}


EACH = [(bus, kind) for bus in (Rtu, Mbus) for kind in SERIAL] + [(Tcp, kind) for kind in GATEWAY]


@pytest.mark.skipif(not LONG, reason="each kind by itself, for hours: GARDIEN_TORTURE=1")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kernel", [False, True], ids=["memory", "kernel"])
@pytest.mark.parametrize(("baudrate", "step"), [(9600, 60), (19_200, 60), (9600, 900)])
@pytest.mark.parametrize(("bus", "kind"), EACH)
def test_each_kind_by_itself_for_hours(  # noqa: PLR0913, PLR0917 -- all that is tried
    tmp_path, bus, kind, baudrate, step, kernel
):
    seconds = (1200 if step == 60 else 3 * step) if kernel else (7200 if step == 60 else 40 * step)
    if bus is Mbus and kernel:
        pytest.skip("an M-Bus line in memory alone")
    line = Mbus(baudrate // 4) if bus is Mbus else bus(baudrate, kernel)
    house = run(tmp_path, line, disturbers(kind, kind, kind), seconds, step)
    share = held(house)
    print(
        f"{bus.__name__} {kind} {baudrate} {step} s {'kernel' if kernel else 'memory'}: {share:.2%}"
    )
    assert share >= KEPT


def test_one_that_is_well_again_is_asked_as_before_and_named_no_more(tmp_path):
    bad = disturbers(Kind.RANDOM, Kind.RANDOM, Kind.TRUNCATED)

    async def story():
        async with (bus := Rtu()).up():
            for unit, disturber in bad.items():
                bus.disturb(unit, disturber)
            house = House(tmp_path, bus)
            async with house.running():
                await asyncio.sleep(400)
                there = {str(unit) for unit in BAD}
                assert {name for name, _, _ in house.link.disturbed.named(0)} == there
                asked = [disturber.asked for disturber in bad.values()]
                await asyncio.sleep(300)
                again = [disturber.asked for disturber in bad.values()]
                # three attempts each at most, a minute apart, then two, then four
                assert all(b - a <= 2 * 3 for a, b in zip(asked, again, strict=True))
                for disturber in bad.values():
                    disturber.kind = None
                await asyncio.sleep(1200)
            return house

    house = virtually(story())
    assert named(house) == set()
    # behind the longest rest that had grown by then, every slot
    assert house.result.kept(BAD, since=700 + 500) == 1.0
    assert house.result.kept(OTHERS) == 1.0


@pytest.mark.parametrize(("every", "lasts"), [(0.04, 170), (0.4, 45)])
def test_interference_on_the_whole_line_blames_nobody_but_the_line(tmp_path, every, lasts):
    """A lift that runs for a while, and stands still."""
    dice = random.Random(11)

    async def story():
        async with (bus := Rtu()).up():
            house = House(tmp_path, bus)
            async with house.running():
                for _ in range(720 // lasts):
                    for _ in range(int(lasts / every)):
                        bus.line.say(dice.randbytes(dice.randrange(1, 12)))
                        await asyncio.sleep(dice.uniform(0.5, 1.5) * every)
                    await asyncio.sleep(35)
            return house

    house = virtually(story())
    assert named(house) == set()
    noisy, asked = house.link.disturbed.noisy()
    assert asked == METERS
    assert noisy > METERS // 3
    assert every < 0.1 or house.result.kept(range(1, METERS + 1)) > KEPT


@pytest.mark.parametrize(
    ("kind", "unit"), [(Kind.LATE, 7), (Kind.RANDOM, 7), (Kind.TWICE, 7), (Kind.RANDOM, 1)]
)
def test_the_victim_right_behind_a_disturber_is_not_blamed(tmp_path, kind, unit):
    """It stands alone among well ones, so that each round the same one is asked behind it; the
    first of a round is asked when the line has been idle.
    """
    house = run(tmp_path, Rtu(), {unit: Disturber(kind, other=9)}, 600)
    assert named(house) == {str(unit)}
    assert house.result.kept([unit + 1, unit + 2]) == 1.0


@pytest.mark.parametrize(
    ("bus", "kinds", "bound"),
    [
        (Rtu, (Kind.RANDOM, Kind.OTHER, Kind.LATE), 15.0),
        (Tcp, (Kind.TRUNCATED, Kind.CLOSES, Kind.OTHER), 15.0),
        # nothing is heard on two wires while somebody speaks on them
        (Rtu, (Kind.CHATTER, Kind.RANDOM, Kind.TWICE), 30.0 + 15.0),
    ],
)
def test_a_release_on_the_same_line_waits_for_one_turn_of_a_disturber_at_most(
    tmp_path, bus, kinds, bound
):
    """As the keeper does it: what did not go is tried again a second later."""
    point = Point("m1", "relay", "1", "holding/5/uint16", 60, writable=True)

    async def story():
        took, now = [], asyncio.get_running_loop().time
        async with (line := bus()).up():
            for unit, disturber in disturbers(*kinds).items():
                line.disturb(unit, disturber)
            house = House(tmp_path, line)
            async with house.running():
                for n in range(60):
                    await asyncio.sleep(7.3 + n % 13)
                    began = now()
                    while True:
                        try:
                            await house.link.held(point)
                            await house.link.write(point, Decimal(n), None)
                            break
                        except (WriteRefused, LinkLost):
                            await asyncio.sleep(1)
                    took.append(now() - began)
        return took

    took = virtually(story())
    print(f"longest {max(took):.1f} s")
    assert max(took) <= bound


@pytest.mark.parametrize("late", [0.0, 400.0], ids=["at once", "behind the right one"])
def test_a_meter_that_answers_for_others_is_named_or_the_line_and_never_another_one(tmp_path, late):
    """It does not compare numbers. Heard behind the right ones it is known; at once with them it
    makes noise of all, of which a third number may come, so that the line alone is blamed.
    """

    async def story():
        async with (bus := Mbus()).up():
            bus.bus.slaves[2].ignores, bus.bus.slaves[2].late = "numbers", late
            for unit in BAD:
                bus.bus.slaves[unit - 1].silent = True
            house = House(tmp_path, bus)
            async with house.running():
                await asyncio.sleep(600)
            return house

    house = virtually(story())
    assert named(house) == ({number(3)} if late else set())
    assert late or house.link.disturbed.noisy()[0] > METERS // 3
    for row in house.result.rows:
        if row.why is None:
            assert house.result.places[int(row.value)] == row.series.place
