"""When the failsafe of a capacity limit is entered, and when it is left. Pure (rule H12).

As EEBUS LPC has it:

- A lost heartbeat enters the failsafe, and so does every start (LPC-911).
- A heartbeat and a following limit leave it at once (LPC-916).
- A heartbeat of 120 s without a gap leaves it too, after its shortest duration (LPC-921).
- If the centre stays silent, it ends after its shortest duration (LPC-TS-012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.control.model import Moment, elapsed

if TYPE_CHECKING:
    from agent.control.model import Failsafe

UNBROKEN = 120.0
"""seconds of heartbeat without a gap after which the failsafe is left without a new limit"""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of the centre and of the failsafe of one control. It survives a restart."""

    since: Moment | None = None
    """when the failsafe was entered, or last written down; None: it is not applied"""
    age: float = 0.0
    """seconds for which it had been applied at `since`"""
    entered: float = 0.0
    """wall time at which it was entered; an order from then on counts as a following limit"""
    spent: bool = False
    """it ended while the centre was silent: it is not entered again before the centre is heard"""
    heard: Moment | None = None
    """when the centre was last heard"""
    unbroken: Moment | None = None
    """since when the centre was heard without a gap"""


def hear(watch: Watch, rule: Failsafe, now: Moment) -> Watch:
    """The state after a verified message of the centre."""
    gap = watch.heard is None or elapsed(watch.heard, now) > 2 * rule.heartbeat
    # after a boot, `elapsed` may count less than has passed, and would hide a gap
    gap = gap or watch.heard is None or watch.heard.boot != now.boot
    return replace(
        watch, heard=now, unbroken=now if gap or watch.unbroken is None else watch.unbroken,
        spent=False,
    )  # fmt: skip


def started(watch: Watch, rule: Failsafe, now: Moment) -> Watch:
    """The state at a start: the failsafe applies until the centre is heard.

    One that was applied before goes on, and its time counts. Two periods of it are left at least:
    nobody has listened while the agent was down, so only then the centre is lost.
    """
    if not rule.heartbeat:
        return Watch()
    if watch.spent:
        return replace(watch, since=None, unbroken=None)
    age = min(applied(watch, now), rule.lasts - 2 * rule.heartbeat)
    return Watch(since=now, age=age, entered=now.wall)


def applied(watch: Watch, now: Moment) -> float:
    """Seconds for which the failsafe has been applied."""
    return watch.age + elapsed(watch.since, now) if watch.since else 0.0


def lost(watch: Watch, rule: Failsafe, now: Moment) -> bool:
    """Whether the heartbeat is lost: two periods without a message."""
    return watch.heard is None or elapsed(watch.heard, now) > 2 * rule.heartbeat


def step(  # noqa: PLR0911 -- a rule each
    watch: Watch, rule: Failsafe, now: Moment, *, limit_since: bool
) -> Watch:
    """The state now. `limit_since`: an order was accepted after the failsafe was entered."""
    if not rule.heartbeat:
        return replace(watch, since=None)
    silent = lost(watch, rule, now)
    if watch.since is None:
        enters = silent and not watch.spent
        if not enters:
            return watch
        # the 120 s of heartbeat count from the entry on
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
    """The part that a start needs. It is written to the disk when it changes."""
    return watch.since, watch.age, watch.entered, watch.spent


def aged(watch: Watch, now: Moment) -> Watch:
    """The same, with the time so far added up in `age`: the monotonic clock ends with the boot."""
    return replace(watch, age=applied(watch, now), since=now) if watch.since else watch
