"""Who wins at an instant, how values go up and down, and when a limit falls back."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control import failsafe, schedule
from agent.control.failsafe import Watch
from agent.control.model import (
    AcceptedOrder,
    ControlOrder,
    Failsafe,
    Moment,
    OrderState,
    elapsed,
    hold_is_over,
)

RULE = Failsafe(Decimal(6), 7200.0, 60.0)


def event(jti="a", start=0.0, lasts=600.0, back=0.0, state=OrderState.SCHEDULED, **over):
    order = ControlOrder(
        jti, "it", "m", "grid_operator", "offset", Decimal(-2), "K", start, lasts, **over
    )
    return AcceptedOrder(order, state, start, back)


def at(second, boot="a", wall=None, trusted=True):
    return Moment(1e9 + second if wall is None else wall, second, boot, trusted)


def test_precedence_emergency_then_prio_then_the_later_seq_then_the_smaller_number():
    """Rule H8."""
    ranked = [
        event("z", emergency=True, prio=99),
        event("y", prio=1),
        event("x", prio=2, seq=9),
        event("w", prio=2, seq=8),
        event("b", prio=3, seq=1),
        event("c", prio=3, seq=1),
    ]
    left = list(reversed(ranked))
    for expected in ranked:
        assert schedule.winner(left) is expected
        left.remove(expected)
    assert schedule.winner(left) is None


def test_who_lost_while_in_time_is_back_only_if_it_asked_for_that():
    """Rule H8."""
    lost = [
        event("a", state=OrderState.SUPERSEDED),
        event("b", state=OrderState.SUPERSEDED, resume=True),
    ]
    assert [one.order.jti for one in schedule.in_time(lost, 10.0)] == ["b"]
    assert not schedule.in_time(lost, 600.0)


def test_a_value_goes_in_steps_both_ways_and_is_back_by_the_end():
    """Rule H5."""
    base, target, ramp = Decimal(0), Decimal(-2), Decimal("0.5")
    one = event()
    values = [schedule.value_at(t, one, base, target, ramp) for t in range(0, 600, 60)]
    down = [Decimal("-0.5"), Decimal(-1), Decimal("-1.5"), Decimal(-2)]
    up = [Decimal("-1.5"), Decimal(-1), Decimal("-0.5")]
    assert values == [*down, Decimal(-2), Decimal(-2), Decimal(-2), *up]
    steps = [abs(a - b) for a, b in zip([base, *values], [*values, base], strict=True)]
    assert max(steps) <= ramp


def test_a_drawn_give_back_begins_so_much_earlier():
    """Rule H5."""
    one = event(back=100.0)
    assert schedule.value_at(499.0, one, Decimal(0), Decimal(-2), None) == Decimal(-2)
    assert schedule.value_at(500.0, one, Decimal(0), Decimal(-2), None) is None


def test_no_step_of_a_takeover_is_written_before_its_minute_is_over():
    far, ramp = Decimal(1), Decimal("0.5")
    assert schedule.paced(Decimal(-2), far, ramp, 10.0) == Decimal(-2)
    assert schedule.paced(Decimal(-2), far, ramp, 60.0) == Decimal("-1.5")
    assert schedule.paced(Decimal(-2), far, None, 10.0) == far


def test_a_draw_or_a_ramp_longer_than_the_hold_leaves_half_of_it():
    one = event(back=900.0)
    for ramp, there in ((None, Decimal(-2)), (Decimal("0.2"), Decimal(-1))):
        values = [schedule.value_at(t, one, Decimal(0), Decimal(-2), ramp) for t in (299.0, 360.0)]
        assert values[0] == there
        assert values[1] is None or values[1] > there


def test_a_hold_is_over_by_the_earlier_clock():
    """Rule H28."""
    begun = at(1000.0)
    assert not hold_is_over(1e9 + 1600, begun, 600.0, at(1599.0))
    assert hold_is_over(
        1e9 + 1600, begun, 600.0, at(1600.0, wall=0.0)
    )  # the wall clock fell back to 1970
    assert hold_is_over(1e9 + 1600, begun, 600.0, at(1001.0, wall=4e9))
    assert hold_is_over(1e9 + 1600, begun, 600.0, at(1001.0, boot="b"))


def test_time_that_passed_is_what_is_certain():
    """Rule H4."""
    since = at(1000.0)
    assert elapsed(since, at(1500.0, wall=5e9)) == 500.0
    assert elapsed(since, at(30.0, boot="b", wall=1e9 + 5000)) == 4000.0
    assert elapsed(since, at(30.0, boot="b", wall=1e9 + 5000, trusted=False)) == 30.0
    assert elapsed(since, at(30.0, boot="b", wall=5.0)) == 0.0


def test_a_lost_heartbeat_falls_back_after_two_periods():
    watch = failsafe.hear(Watch(), RULE, at(0.0))
    assert failsafe.step(watch, RULE, at(120.0), limit_since=False).since is None
    assert failsafe.step(watch, RULE, at(121.0), limit_since=False).since is not None


def test_every_start_falls_back_until_the_centre_speaks_and_goes_on_where_it_was():
    """Rule H1."""
    watch = failsafe.started(Watch(), RULE, at(0.0))
    assert watch.since is not None
    later = failsafe.started(watch, RULE, at(3000.0))
    assert failsafe.applied(later, at(3100.0)) == 3100.0


@pytest.mark.parametrize(("down", "left"), [(7000.0, 200.0), (7200.0, 120.0), (1e6, 120.0)])
def test_its_time_runs_while_the_machine_is_off_but_for_two_periods_in_which_it_listens(down, left):
    """Rule H12: after a long power cut it ended at the start, as if the centre had been silent."""
    watch = failsafe.started(Watch(), RULE, at(0.0))
    begins = at(5.0, boot="b", wall=1e9 + down)
    watch = failsafe.started(watch, RULE, begins)

    def after(seconds: float, then: Watch = watch) -> Watch:
        now = at(5.0 + seconds, boot="b", wall=1e9 + down + seconds)
        return failsafe.step(then, RULE, now, limit_since=False)

    assert after(0.0).since is not None
    assert after(left - 1).since is not None
    assert after(left).spent
    soon = left - 60
    heard = failsafe.hear(watch, RULE, at(5.0 + soon, boot="b", wall=1e9 + down + soon))
    assert after(left, heard).since is not None, "the centre is heard, and not for 120 s yet"


def test_it_is_left_at_once_by_a_heartbeat_and_a_following_limit():
    watch = failsafe.started(Watch(), RULE, at(0.0))
    assert failsafe.step(watch, RULE, at(60.0), limit_since=True).since is not None  # not heard
    heard = failsafe.hear(watch, RULE, at(60.0))
    assert failsafe.step(heard, RULE, at(60.0), limit_since=True).since is None


def test_without_a_limit_it_is_left_after_its_time_and_an_unbroken_heartbeat():
    watch = failsafe.started(Watch(), RULE, at(0.0))
    now = 0.0
    while now < 7300.0:
        watch = failsafe.hear(watch, RULE, at(now))
        watch = failsafe.step(watch, RULE, at(now), limit_since=False)
        assert (watch.since is None) == (now >= 7200.0)
        now += 60.0
    broken = failsafe.hear(failsafe.started(Watch(), RULE, at(0.0)), RULE, at(7150.0))
    assert failsafe.step(broken, RULE, at(7200.0), limit_since=False).since is not None
    heard = failsafe.hear(broken, RULE, at(7260.0))
    assert failsafe.step(heard, RULE, at(7271.0), limit_since=False).since is None


def test_with_the_centre_silent_it_ends_and_is_not_entered_again_before_its_next_word():
    watch = failsafe.started(Watch(), RULE, at(0.0))
    watch = failsafe.step(watch, RULE, at(7200.0), limit_since=False)
    assert watch.since is None
    assert watch.spent
    assert failsafe.step(watch, RULE, at(9999.0), limit_since=False).since is None
    assert failsafe.started(watch, RULE, at(10_000.0)).since is None
    heard = failsafe.hear(watch, RULE, at(10_000.0))
    assert failsafe.step(heard, RULE, at(10_121.0), limit_since=False).since is not None


def test_where_no_heartbeat_is_used_there_is_no_failsafe():
    none = replace(RULE, heartbeat=0.0)
    assert failsafe.started(Watch(), none, at(0.0)).since is None
    assert failsafe.step(Watch(), none, at(9999.0), limit_since=False).since is None
