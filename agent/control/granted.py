"""Whose word an order stands on: of each required role one grant that allows all of it. Pure.

Limits of different grants of one role are not mixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.control.bounds import at_hours, long, outside, said
from agent.control.model import No, OrderCode
from agent.control.quotas import often
from agent.trust.object_id import number_of
from agent.units import spoken

if TYPE_CHECKING:
    from agent.control.decision_input import DecisionFacts
    from agent.control.model import ControlOrder, Grant, Modality


def granted(order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> tuple[str, ...] | No:
    """One grant of each required role, or what is missing or too narrow."""
    used = []
    for role in agreed.require:
        found = _of_role(role, order, agreed, facts)
        if isinstance(found, No):
            return found
        used.append(found)
    return tuple(used)


def _of_role(role: str, order: ControlOrder, agreed: Modality, facts: DecisionFacts) -> str | No:
    of_role = [
        one
        for one in facts.grants
        if one.role == role
        and one.to == order.by
        and order.action in one.actions
        and one.covers(agreed.name, agreed.equipment)
        and (not order.auth or number_of(one.jti) in order.auth)
    ]
    if of_role and all(one.revoked is not None for one in of_role):
        return No(OrderCode.REVOKED, f"the grant of the {said(role)} was revoked", role)
    standing = [one for one in of_role if one.revoked is None]
    lived_in = [one for one in standing if _lived_in(one, order, facts)]
    if standing and not lived_in:
        words = f"the grant of the {said(role)} ends with an occupancy that does not stand then"
        return No(OrderCode.GRANT_MISSING, words, role)
    valid = [one for one in lived_in if one.since <= order.start and order.latest_end <= one.until]
    if not valid:
        words = f"the {said(role)} has not allowed {order.by} to do this"
        if order.auth:
            words += " by the grants that `auth` names (without `auth` any grant that fits counts)"
        if standing:
            first, last = stamp(standing[0].since), stamp(standing[0].until)
            words = f"the grant of the {said(role)} is for {first} to {last}"
        return No(OrderCode.GRANT_MISSING, words, role)
    refusals = []
    for one in valid:
        no = _beyond(one, order, agreed, facts)
        if no is None:
            return one.jti
        refusals.append(no)
    return refusals[0]


def _lived_in(grant: Grant, order: ControlOrder, facts: DecisionFacts) -> bool:
    """Whether those who granted live there for the whole order."""
    if grant.occupancy is None:
        return True
    home = facts.home(grant.occupancy)
    return home is not None and home[0] <= order.start and order.latest_end <= home[1]


def _beyond(  # noqa: PLR0911 -- a limit each
    grant: Grant, order: ControlOrder, agreed: Modality, facts: DecisionFacts
) -> No | None:
    """What of an order goes beyond one grant."""
    limits, role = grant.limits, grant.role
    whose = f"the grant of the {said(role)}"

    def beyond(field: str, words: str) -> No:
        return No(OrderCode.GRANT_LIMIT, f"{whose} {words}", role, field)

    if grant.unit is not None and grant.unit != agreed.unit:
        return beyond("unit", f"is in {spoken(grant.unit)}")
    if order.value is not None and (far := outside(order.value, limits, agreed.unit)):
        low = limits.least is not None and order.value < limits.least
        return beyond("min" if low else "max", f"goes {far}")
    if limits.duration is not None and order.duration > limits.duration:
        words = f"is for {long(limits.duration)}, {long(order.duration)} was asked"
        return beyond("max_dur", words)
    if limits.notice is not None and order.start - order.received < limits.notice:
        return beyond("notice", f"wants {long(limits.notice)} of notice")
    if order.emergency and not limits.emergency:
        return beyond("emerg", "allows no emergency")
    if no := at_hours(order, limits, facts, OrderCode.GRANT_LIMIT, f"{whose} is"):
        return beyond("windows", no.words.removeprefix(whose).strip())
    return often(order, limits, facts, lambda field, words: beyond(field, f"allows {words}"))
