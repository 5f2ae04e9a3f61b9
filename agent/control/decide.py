"""Whether an order may be carried out, and if not, why: one pure decision (rules O16, O17).

The gateway never widens: what is done lies within the modality and within every grant used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.control.bounds import at_hours, long, outside
from agent.control.granted import granted
from agent.control.guard import inhibited, plain, tripped
from agent.control.model import No, OrderCode, OrderState
from agent.control.quotas import often
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


def decide(order: ControlOrder, agreed: Modality | None, facts: DecisionFacts) -> Yes | No:
    """Decide, at acceptance and again at the begin."""
    if agreed is None:
        return No(OrderCode.ASSET, f"nothing called {order.control} may be commanded here")
    for check in (_clock, _action, _range, _lasts, _when):
        if no := check(order, agreed, facts):
            return no
    used = granted(order, agreed, facts)
    if isinstance(used, No):
        return used
    for check in (_quota, _timers, _state):
        if no := check(order, agreed, facts):
            return no
    return Yes(used)


def _clock(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> No | None:
    del order, agreed
    if facts.now.trusted:
        return None
    return No(OrderCode.CLOCK, "the gateway's clock cannot be relied on: nothing new begins")


def _action(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> No | None:
    del facts
    if order.action != agreed.action:
        words = f"{agreed.name} can be given {agreed.action} only, {order.action} was asked"
        return No(OrderCode.ACTION, words)
    if order.emergency and not agreed.limits.emergency:
        return No(OrderCode.ACTION, f"no emergency is agreed for {agreed.name}")
    return None


def _range(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> No | None:
    del facts
    value = order.value
    if value is None or not value.is_finite():
        return No(OrderCode.RANGE, "no value was given: `cmd.val` must be a number, not text")
    if order.unit is not None and order.unit != agreed.unit:
        return No(
            OrderCode.RANGE,
            f"{spoken(order.unit)} was asked, {agreed.name} counts in {spoken(agreed.unit)}",
        )
    if agreed.choices and value not in agreed.choices:
        allowed = ", ".join(plain(one) for one in agreed.choices)
        return No(OrderCode.RANGE, f"{plain(value)} is none of {allowed}")
    if far := outside(value, agreed.limits, agreed.unit):
        return No(OrderCode.RANGE, f"{agreed.name} is agreed {far}")
    if agreed.step and value % agreed.step:
        return No(OrderCode.RANGE, f"{plain(value)} is no whole multiple of {plain(agreed.step)}")
    return None


def _lasts(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> No | None:
    del facts
    longest = min(LONGEST, agreed.limits.duration or LONGEST)
    if not 0 < order.duration <= longest:
        words = f"{agreed.name} is agreed for {written(longest)}, {long(order.duration)} was asked"
        return No(OrderCode.DURATION, words)
    if not 0 <= order.rand <= LONGEST:
        return No(
            OrderCode.DURATION, f"its begin is drawn from {long(order.rand)}, a day is the most"
        )
    if order.duration < agreed.on:
        return No(OrderCode.TIMER, f"it must last {written(agreed.on)} at least")
    if agreed.ramp is None and agreed.spread >= order.duration:
        return No(OrderCode.DURATION, f"it is given back within {written(agreed.spread)} already")
    return None


def _when(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> No | None:
    now, limits = facts.now.wall, agreed.limits
    if order.latest_end <= now:
        return No(OrderCode.EXPIRED, f"it was over at {stamp(order.latest_end)}")
    if order.received and order.start < order.received - STARTABLE:
        return No(OrderCode.EXPIRED, f"it should have begun at {stamp(order.start)}")
    if order.start > now + FURTHEST:
        return No(OrderCode.NOT_YET, f"it is for {stamp(order.start)}, no grant stands so long")
    if limits.notice and order.start - order.received < limits.notice:
        return No(OrderCode.NOTICE, f"{agreed.name} must be told {written(limits.notice)} before")
    return at_hours(order, limits, facts, OrderCode.WINDOW, f"{agreed.name} is")


def _quota(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> No | None:
    def no(field: str, words: str) -> No:
        code = OrderCode.TIMER if field == "min_gap" else OrderCode.QUOTA
        return No(code, f"{agreed.name} is agreed for {words}")

    return often(order, agreed.limits, facts, no)


def _timers(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> No | None:
    ahead = max(0.0, order.start - facts.now.wall)
    if facts.locked is not None:
        since, lasts = facts.locked
        if elapsed(since, facts.now) + ahead < lasts:
            words = f"a guard tripped; {agreed.name} rests for {long(lasts)} after that"
            return No(OrderCode.TIMER, words)
    rested = agreed.off if facts.given_back is None else elapsed(facts.given_back, facts.now)
    if rested + ahead < agreed.off and not _holds_now(facts):
        return No(OrderCode.TIMER, f"{agreed.name} rests for {written(agreed.off)} after each time")
    return None


def _holds_now(facts: DecisionFacts) -> bool:
    return any(one.state is OrderState.STARTED for one in facts.events)


def _state(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> No | None:
    del order
    if not facts.tested:
        words = f"run `gardien control test {agreed.name}` first: no give-back was ever seen here"
        return No(OrderCode.UNTESTED, words)
    if facts.opted_out:
        return No(OrderCode.OVERRIDDEN, facts.opted_out)
    return tripped(agreed.guards, facts.look) or inhibited(agreed, facts.look)
