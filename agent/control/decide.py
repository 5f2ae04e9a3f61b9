"""Whether an order may be carried out, and if not, why: one pure decision (rules O16, O17).

What is carried out lies within the modality and within every grant that is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.control.bounds import duration_text, outside, outside_hours
from agent.control.granted import granted
from agent.control.guard import inhibited, plain, tripped
from agent.control.model import No, OrderCode, OrderState
from agent.control.quotas import quota_refusal
from agent.control.stamps import elapsed
from agent.core.clock import stamp
from agent.core.settings import written
from agent.core.units import spoken

if TYPE_CHECKING:
    from agent.control.decision_input import DecisionFacts
    from agent.control.model import ControlOrder, Modality

LONGEST = 86_400.0
"""seconds: the longest hold that any modality allows (rule H2)"""
FURTHEST = 2 * 366 * 86_400.0
"""seconds from now to the latest begin of an order: no grant is valid for longer"""
STARTABLE = 300.0
"""seconds by which the begin of an order may be past when it arrives over a slow transport"""


@dataclass(frozen=True, slots=True)
class Yes:
    """The order may be carried out, under these grants."""

    grants: tuple[str, ...]


def decide(order: ControlOrder, modality: Modality | None, facts: DecisionFacts) -> Yes | No:
    """Decide about an order, at its acceptance and again when it begins (rule H26).

    `modality`: of the control; None: there is no such control.
    """
    if modality is None:
        return No(OrderCode.ASSET, f"there is no control {order.control} here")
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


# The order of the checks is part of the answer: the first that fails gives the code.


def _clock(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del order, modality
    if facts.now.trusted:
        return None
    return No(OrderCode.CLOCK, "the gateway's clock is not trusted: nothing new begins")


def _action(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del facts
    if order.action != modality.action:
        reason = f"{modality.name} takes {modality.action} only, {order.action} was asked"
        return No(OrderCode.ACTION, reason)
    if order.emergency and not modality.limits.emergency:
        return No(OrderCode.ACTION, f"{modality.name} takes no emergency orders")
    return None


def _range(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del facts
    value = order.value
    if value is None or not value.is_finite():
        return No(OrderCode.RANGE, "the value is missing: `cmd.val` must be a number, not text")
    if order.unit is not None and order.unit != modality.unit:
        return No(
            OrderCode.RANGE,
            f"the unit of {modality.name} is {spoken(modality.unit)},"
            f" {spoken(order.unit)} was asked",
        )
    if modality.choices and value not in modality.choices:
        allowed = ", ".join(plain(one) for one in modality.choices)
        return No(
            OrderCode.RANGE, f"{modality.name} takes {allowed} only, {plain(value)} was asked"
        )
    if far := outside(value, modality.limits, modality.unit):
        return No(OrderCode.RANGE, f"{modality.name} is agreed {far}")
    if modality.step and value % modality.step:
        return No(
            OrderCode.RANGE,
            f"{modality.name} takes multiples of {plain(modality.step)} only,"
            f" {plain(value)} was asked",
        )
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
            f"its begin may be drawn from a day at most, {duration_text(order.rand)} was asked",
        )
    if order.duration < modality.on:
        return No(OrderCode.TIMER, f"it must last at least {written(modality.on)}")
    if modality.ramp is None and modality.spread >= order.duration:
        return No(
            OrderCode.DURATION,
            f"it must last longer than {written(modality.spread)}, in which its release is drawn",
        )
    return None


def _timing(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    now, limits = facts.now.wall, modality.limits
    if order.latest_end <= now:
        return No(OrderCode.EXPIRED, f"its end, {stamp(order.latest_end)}, is past")
    if order.received and order.start < order.received - STARTABLE:
        return No(OrderCode.EXPIRED, f"its begin, {stamp(order.start)}, is past")
    if order.start > now + FURTHEST:
        return No(OrderCode.NOT_YET, f"its begin, {stamp(order.start)}, is later than any grant")
    if limits.notice and order.start - order.received < limits.notice:
        return No(OrderCode.NOTICE, f"{modality.name} needs {written(limits.notice)} of notice")
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
            reason = f"a guard tripped: {modality.name} rests for {duration_text(lasts)} after that"
            return No(OrderCode.TIMER, reason)
    # while a hold is in force an order takes over from it: nothing starts anew, so no rest is due
    rested = modality.off if facts.given_back is None else elapsed(facts.given_back, facts.now)
    if rested + ahead < modality.off and not _holds_now(facts):
        return No(
            OrderCode.TIMER, f"{modality.name} rests for {written(modality.off)} after each hold"
        )
    return None


def _holds_now(facts: DecisionFacts) -> bool:
    return any(one.state is OrderState.STARTED for one in facts.events)


def _state(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del order
    if not facts.tested:
        reason = f"{modality.name} has not passed its test: gardien control test {modality.name}"
        return No(OrderCode.UNTESTED, reason)
    if facts.opted_out:
        return No(OrderCode.OVERRIDDEN, facts.opted_out)
    return tripped(modality.guards, facts.look) or inhibited(modality, facts.look)
