"""Whether an order may be carried out, and if not, why: one pure decision (rules O16, O17).

The gateway never widens: what is done lies within the modality and within every grant used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.control.bounds import duration_text, outside, outside_hours
from agent.control.granted import granted
from agent.control.guard import inhibited, plain, tripped
from agent.control.model import No, OrderCode, OrderState
from agent.control.quotas import quota_refusal
from agent.control.stamps import elapsed
from agent.settings import written
from agent.units import spoken

if TYPE_CHECKING:
    from agent.control.decision_input import DecisionFacts
    from agent.control.model import ControlOrder, Modality

LONGEST = 86_400.0
"""seconds: nothing is open-ended (rule H2)"""
FURTHEST = 2 * 366 * 86_400.0
"""seconds from now to the begin of an order: no grant stands longer"""
STARTABLE = 300.0
"""seconds by which a begin may lie in the past when an order comes: a slow transport"""


@dataclass(frozen=True, slots=True)
class Yes:
    """It may be carried out, by the word of these grants."""

    grants: tuple[str, ...]


def decide(order: ControlOrder, modality: Modality | None, facts: DecisionFacts) -> Yes | No:
    """Decide, at acceptance and again at the begin."""
    if modality is None:
        return No(OrderCode.ASSET, f"nothing called {order.control} may be commanded here")
    for check in (_clock, _action, _range, _duration, _timing):
        if no := check(order, modality, facts):
            return no
    used = granted(order, modality, facts)
    if isinstance(used, No):
        return used
    for check in (_quota, _timers, _state):
        if no := check(order, modality, facts):
            return no
    return Yes(used)


def _clock(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del order, modality
    if facts.now.trusted:
        return None
    return No(OrderCode.CLOCK, "the gateway's clock cannot be relied on: nothing new begins")


def _action(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del facts
    if order.action != modality.action:
        reason = f"{modality.name} can be given {modality.action} only, {order.action} was asked"
        return No(OrderCode.ACTION, reason)
    if order.emergency and not modality.limits.emergency:
        return No(OrderCode.ACTION, f"no emergency is agreed for {modality.name}")
    return None


def _range(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del facts
    value = order.value
    if value is None or not value.is_finite():
        return No(OrderCode.RANGE, "no value was given: `cmd.val` must be a number, not text")
    if order.unit is not None and order.unit != modality.unit:
        return No(
            OrderCode.RANGE,
            f"{spoken(order.unit)} was asked, {modality.name} counts in {spoken(modality.unit)}",
        )
    if modality.choices and value not in modality.choices:
        allowed = ", ".join(plain(one) for one in modality.choices)
        return No(OrderCode.RANGE, f"{plain(value)} is none of {allowed}")
    if far := outside(value, modality.limits, modality.unit):
        return No(OrderCode.RANGE, f"{modality.name} is agreed {far}")
    if modality.step and value % modality.step:
        return No(OrderCode.RANGE, f"{plain(value)} is no whole multiple of {plain(modality.step)}")
    return None


def _duration(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del facts
    longest = min(LONGEST, modality.limits.duration or LONGEST)
    if not 0 < order.duration <= longest:
        asked = duration_text(order.duration)
        reason = f"{modality.name} is agreed for {written(longest)}, {asked} was asked"
        return No(OrderCode.DURATION, reason)
    if not 0 <= order.rand <= LONGEST:
        return No(
            OrderCode.DURATION,
            f"its begin is drawn from {duration_text(order.rand)}, a day is the most",
        )
    if order.duration < modality.on:
        return No(OrderCode.TIMER, f"it must last {written(modality.on)} at least")
    if modality.ramp is None and modality.spread >= order.duration:
        return No(OrderCode.DURATION, f"it is given back within {written(modality.spread)} already")
    return None


def _timing(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    now, limits = facts.now.wall, modality.limits
    if order.latest_end <= now:
        return No(OrderCode.EXPIRED, f"it was over at {stamp(order.latest_end)}")
    if order.received and order.start < order.received - STARTABLE:
        return No(OrderCode.EXPIRED, f"it should have begun at {stamp(order.start)}")
    if order.start > now + FURTHEST:
        return No(OrderCode.NOT_YET, f"it is for {stamp(order.start)}, no grant stands so long")
    if limits.notice and order.start - order.received < limits.notice:
        return No(OrderCode.NOTICE, f"{modality.name} must be told {written(limits.notice)} before")
    return outside_hours(order, limits, facts, OrderCode.WINDOW, f"{modality.name} is")


def _quota(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    def no(field: str, reason: str) -> No:
        code = OrderCode.TIMER if field == "min_gap" else OrderCode.QUOTA
        return No(code, f"{modality.name} is agreed for {reason}")

    return quota_refusal(order, modality.limits, facts, no)


def _timers(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    ahead = max(0.0, order.start - facts.now.wall)
    if facts.locked is not None:
        since, lasts = facts.locked
        if elapsed(since, facts.now) + ahead < lasts:
            reason = f"a guard tripped; {modality.name} rests for {duration_text(lasts)} after that"
            return No(OrderCode.TIMER, reason)
    rested = modality.off if facts.given_back is None else elapsed(facts.given_back, facts.now)
    if rested + ahead < modality.off and not _holds_now(facts):
        return No(
            OrderCode.TIMER, f"{modality.name} rests for {written(modality.off)} after each time"
        )
    return None


def _holds_now(facts: DecisionFacts) -> bool:
    return any(one.state is OrderState.STARTED for one in facts.events)


def _state(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del order
    if not facts.tested:
        reason = (
            f"run `gardien control test {modality.name}` first: no give-back was ever seen here"
        )
        return No(OrderCode.UNTESTED, reason)
    if facts.opted_out:
        return No(OrderCode.OVERRIDDEN, facts.opted_out)
    return tripped(modality.guards, facts.look) or inhibited(modality, facts.look)
