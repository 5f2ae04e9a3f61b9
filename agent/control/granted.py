"""The grants of an order: one of each required role, which covers the whole order. Pure.

Limits of different grants of one role are not combined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control.bounds import duration_text, outside, outside_hours, role_name
from agent.control.model import No, OrderCode
from agent.control.quotas import quota_refusal
from agent.core.clock import stamp
from agent.core.units import spoken
from agent.trust.object_id import number_of

if TYPE_CHECKING:
    from agent.control.decision_input import DecisionFacts
    from agent.control.model import ControlOrder, Grant, Modality


def granted(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> tuple[str, ...] | No:
    """The id of one grant of each required role, or a refusal: missing, revoked or too narrow."""
    used = []
    for role in modality.require:
        grant_id = _grant_of_role(role, order, modality, facts)
        if isinstance(grant_id, No):
            return grant_id
        used.append(grant_id)
    return tuple(used)


def _grant_of_role(
    role: str, order: ControlOrder, modality: Modality, facts: DecisionFacts
) -> str | No:
    of_role = [
        grant
        for grant in facts.grants
        if grant.role == role
        and grant.to == order.by
        and order.action in grant.actions
        and grant.covers(modality.name, modality.equipment)
        and (not order.auth or number_of(grant.jti) in order.auth)
    ]
    if of_role and all(grant.revoked is not None for grant in of_role):
        return No(OrderCode.REVOKED, f"the grant of the {role_name(role)} was revoked", role)
    standing = [grant for grant in of_role if grant.revoked is None]
    lived_in = [grant for grant in standing if _occupancy_lasts(grant, order, facts)]
    if standing and not lived_in:
        reason = f"the grant of the {role_name(role)} ends with an occupancy that is over then"
        return No(OrderCode.GRANT_MISSING, reason, role)
    valid = [
        grant
        for grant in lived_in
        if grant.since <= order.start and order.latest_end <= grant.until
    ]
    if not valid:
        reason = f"{order.by} has no grant of the {role_name(role)} for this"
        if order.auth:
            reason += " among those that `auth` names (without `auth` any grant counts)"
        if standing:
            first, last = stamp(standing[0].since), stamp(standing[0].until)
            reason = f"the grant of the {role_name(role)} is valid from {first} to {last}"
        return No(OrderCode.GRANT_MISSING, reason, role)
    # each grant is tried alone, for limits of several grants must not be combined
    refusals = []
    for grant in valid:
        no = _exceeded_limit(grant, order, modality, facts)
        if no is None:
            return grant.jti
        refusals.append(no)
    return refusals[0]


def _occupancy_lasts(grant: Grant, order: ControlOrder, facts: DecisionFacts) -> bool:
    """Whether the occupancy of an occupant's grant lasts for the whole order."""
    if grant.occupancy is None:
        return True
    home = facts.home(grant.occupancy)
    return home is not None and home[0] <= order.start and order.latest_end <= home[1]


def _exceeded_limit(  # noqa: PLR0911 -- a limit each
    grant: Grant, order: ControlOrder, modality: Modality, facts: DecisionFacts
) -> No | None:
    """The first limit of a grant that an order exceeds; None: it exceeds none."""
    limits, role = grant.limits, grant.role
    whose = f"the grant of the {role_name(role)}"

    def beyond(field: str, reason: str) -> No:
        return No(OrderCode.GRANT_LIMIT, f"{whose} {reason}", role, field)

    if grant.unit is not None and grant.unit != modality.unit:
        return beyond("unit", f"is in {spoken(grant.unit)}, the control in {spoken(modality.unit)}")
    if order.value is not None and (far := outside(order.value, limits, modality.unit)):
        low = limits.least is not None and order.value < limits.least
        return beyond("min" if low else "max", f"goes {far}")
    if limits.duration is not None and order.duration > limits.duration:
        reason = (
            f"is for {duration_text(limits.duration)}, {duration_text(order.duration)} was asked"
        )
        return beyond("max_dur", reason)
    if limits.notice is not None and order.start - order.received < limits.notice:
        return beyond("notice", f"requires {duration_text(limits.notice)} of notice")
    if order.emergency and not limits.emergency:
        return beyond("emerg", "allows no emergency orders")
    if no := outside_hours(order, limits, facts, OrderCode.GRANT_LIMIT, f"{whose} is"):
        return beyond("windows", no.reason.removeprefix(whose).strip())
    return quota_refusal(
        order, limits, facts, lambda field, reason: beyond(field, f"allows {reason}")
    )
