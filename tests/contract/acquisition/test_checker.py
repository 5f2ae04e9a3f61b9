"""The checker of the day is worth something only if it finds what is planted."""

from decimal import Decimal

import pytest

from tests.contract.acquisition.checker import (
    Row,
    by_slot,
    check_index,
    check_interval,
    check_momentary,
    check_slots,
    check_state,
)
from tests.contract.acquisition.world import BORN, RATE, Meter

STEP = 900
METER = Meter("100")
T0 = BORN - BORN % STEP + STEP
NOW = T0 + 3 * STEP


def row(n, **more):
    """What the meter said in one slot, three seconds after its begin."""
    t = T0 + n * STEP
    said = Row("D1", "REG", STEP, t, str(METER.index(t + 3)), "V", 3, None, 1, -1, "")
    return said._replace(**more)


def judged(rows):
    """All that the day's tests ask of a meter's rows."""
    held = by_slot(rows)
    check_slots(held, ("D1", "REG", STEP), range(T0, T0 + 6 * STEP, STEP))
    for slot, one in held["D1", "REG", STEP].items():
        check_index(one, slot, METER, RATE)


SIX = [row(n) for n in range(6)]
LATER = {"d": 300, "v": str(METER.index(NOW + 300)), "flags": "LATE+PART", "ver": NOW + 300}
PLANTED = {
    "a slot left out": SIX[:3] + SIX[4:],
    "a slot that nobody is owed": [*SIX, row(6)],
    "a slot stated twice": [*SIX, SIX[3]],
    "a span over a slot that has a value": [
        *SIX, row(2, t=T0 + 2 * STEP, v=None, q="M", d=0, why="link", span=2)
    ],
    "the value of the slot before": [*SIX[:3], row(3, v=SIX[2].v), *SIX[4:]],
    "a digit too many": [*SIX[:3], row(3, v=f"{SIX[3].v}1"), *SIX[4:]],
    "the delay of another read": [*SIX[:3], row(3, d=90), *SIX[4:]],
    "a value that is missing all the same": [*SIX[:3], row(3, q="M", why="link"), *SIX[4:]],
    "a missing value without a reason": [*SIX[:3], row(3, v=None, q="M"), *SIX[4:]],
    "an estimate": [*SIX[:3], row(3, q="E"), *SIX[4:]],
    "a late read that does not say so": [*SIX[:3], row(3, **LATER | {"flags": ""}), *SIX[4:]],
    "a late read that comes as if it had been in time": [
        *SIX[:3], row(3, **LATER | {"ver": -1}), *SIX[4:]
    ],
    "a date made afterwards, and not told": [*SIX[:3], row(3, ver=NOW), *SIX[4:]],
}  # fmt: skip


def test_rows_as_they_should_be_pass():
    judged(SIX)
    gone = {"v": None, "q": "M", "d": 0, "why": "silent"}
    judged([*SIX[:3], row(3, **gone), row(3, **LATER), *SIX[4:]])
    judged([*SIX[:3], row(3, **gone, span=2), SIX[5]])


@pytest.mark.parametrize("fault", PLANTED)
def test_what_is_planted_is_found(fault):
    with pytest.raises(AssertionError):
        judged(PLANTED[fault])


def interval(**more):
    said = Row("D1", "INT", STEP, NOW, "0.4500", "K", 3, None, 1, -1, "")
    return said._replace(**more)


@pytest.mark.parametrize(
    "wrong",
    [{"v": "0.4501"}, {"q": "V"}, {"v": None}, {"v": "-0.4500"}],
)
def test_an_interval_that_is_not_the_difference_is_found(wrong):
    check_interval(interval(), SIX[2], SIX[3], Decimal(1000))
    with pytest.raises(AssertionError):
        check_interval(interval(**wrong), SIX[2], SIX[3], Decimal(1000))


@pytest.mark.parametrize("before", [None, SIX[2]._replace(q="S")])
def test_an_interval_over_a_gap_or_from_a_suspect_index_is_found(before):
    with pytest.raises(AssertionError):
        check_interval(interval(), before, SIX[3], Decimal(1000))


class Door:
    def index(self, t):
        return Decimal(int(t >= T0 + 2 * STEP + 400))


def state(n, v, why=None):
    return row(n, kind="EVT", v=v, q="M" if v is None else "V", d=0, why=why)


STATES = [state(0, "0"), state(3, "1"), state(4, None, "link"), state(5, "1")]


@pytest.mark.parametrize(
    "wrong",
    [
        STATES[1:],
        [STATES[0], *STATES[2:]],
        [STATES[0], state(1, "0"), *STATES[1:]],
        [STATES[0], state(4, "1"), STATES[3]],
        [STATES[0], state(1, "1"), *STATES[2:]],
        [*STATES[:2], STATES[2]._replace(span=2)],
        [*STATES[:2], state(4, None)],
    ],
)
def test_a_state_that_is_told_wrong_late_or_twice_is_found(wrong):
    slots = range(T0, T0 + 6 * STEP, STEP)
    check_state({one.t: one for one in STATES}, slots, Door())
    with pytest.raises(AssertionError):
        check_state({one.t: one for one in wrong}, slots, Door())


def test_a_suspect_value_of_a_sensor_says_why_and_others_do_not():
    said = row(0, kind="INS")
    check_momentary(said, T0, METER)
    for wrong in ({"q": "S"}, {"flags": "RNG"}, {"v": "19.9"}):
        with pytest.raises(AssertionError):
            check_momentary(said._replace(**wrong), T0, METER)
