"""When a capacity limit falls back, and when it is left again. Pure (rule H12).

EEBUS LPC: a lost heartbeat and every start apply the failsafe value (LPC-911); it is left at once
by a heartbeat and a following limit (LPC-916), without one after 120 s of unbroken heartbeat, not
before its least duration (LPC-921), and at its end where the centre stays silent (LPC-TS-012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.control.stamps import Moment, elapsed

if TYPE_CHECKING:
    from agent.control.model import Failsafe

UNBROKEN = 120.0
"""seconds of heartbeat without a limit after which it is left"""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of the centre and of the failsafe of one control; survives a restart."""

    since: Moment | None = None
    """when it was entered; None: it is not applied"""
    age: float = 0.0
    """seconds for which it had been applied when this was last written down, and `since` with it"""
    entered: float = 0.0
    """wall time from which an order counts as a following one"""
    spent: bool = False
    """it ended with the centre silent: not entered again before the next word of it"""
    heard: Moment | None = None
    """the last word of the centre"""
    unbroken: Moment | None = None
    """since when words have come without a gap"""


def hear(watch: Watch, rule: Failsafe, now: Moment) -> Watch:
    """A verified message of the centre has come."""
    gap = watch.heard is None or elapsed(watch.heard, now) > 2 * rule.heartbeat
    gap = gap or watch.heard is None or watch.heard.boot != now.boot
    return replace(
        watch, heard=now, unbroken=now if gap or watch.unbroken is None else watch.unbroken,
        spent=False,
    )  # fmt: skip


def started(watch: Watch, rule: Failsafe, now: Moment) -> Watch:
    """The agent starts: the failsafe applies until the centre speaks; one under way goes on."""
    if not rule.heartbeat:
        return Watch()
    if watch.spent:
        return replace(watch, since=None, unbroken=None)
    age = applied(watch, now)
    return Watch(since=now, age=age, entered=now.wall)


def applied(watch: Watch, now: Moment) -> float:
    """Seconds for which it has been applied."""
    return watch.age + elapsed(watch.since, now) if watch.since else 0.0


def lost(watch: Watch, rule: Failsafe, now: Moment) -> bool:
    """Whether the centre is not heard."""
    return watch.heard is None or elapsed(watch.heard, now) > 2 * rule.heartbeat


def step(  # noqa: PLR0911 -- a rule each
    watch: Watch, rule: Failsafe, now: Moment, *, limit_since: bool
) -> Watch:
    """What is known a moment later. `limit_since`: an order came after it was entered, heard."""
    if not rule.heartbeat:
        return replace(watch, since=None)
    silent = lost(watch, rule, now)
    if watch.since is None:
        enters = silent and not watch.spent
        if not enters:
            return watch
        return replace(watch, since=now, age=0.0, entered=now.wall, unbroken=None)
    if not silent and limit_since:
        return replace(watch, since=None, age=0.0)
    if applied(watch, now) < rule.lasts:
        return watch
    if silent:
        return replace(watch, since=None, age=0.0, spent=True)
    if watch.unbroken is not None and elapsed(watch.unbroken, now) >= UNBROKEN:
        return replace(watch, since=None, age=0.0)
    return watch


def to_keep(watch: Watch) -> tuple[Moment | None, float, float, bool]:
    """What of it a start must know."""
    return watch.since, watch.age, watch.entered, watch.spent


def aged(watch: Watch, now: Moment) -> Watch:
    """The same, written down anew: what a boot would forget is added up."""
    return replace(watch, age=applied(watch, now), since=now) if watch.since else watch
