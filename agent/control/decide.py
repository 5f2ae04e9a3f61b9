"""Whether an order may be carried out, and if not, why: one pure decision (rules O16, O17).

What is carried out lies within the modality and within every grant that is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.guard import inhibited, measured, plain, tripped
from agent.control.model import ROLE_NAMES, No, OrderCode, OrderState, elapsed
from agent.core.clock import stamp
from agent.core.finding import as_text
from agent.core.i18n import Text
from agent.core.quantities import spoken
from agent.core.settings import written
from agent.trust.object_id import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from decimal import Decimal
    from zoneinfo import ZoneInfo

    from agent.control.guard import GuardReading
    from agent.control.model import AcceptedOrder, ControlOrder, Grant, Limits, Modality, Moment

LONGEST = 86_400.0
"""seconds: the longest hold that any modality allows (rule H2)"""
FURTHEST = 2 * 366 * 86_400.0
"""seconds from now to the latest begin of an order: no grant is valid for longer"""
STARTABLE = 300.0
"""seconds by which the begin of an order may be past when it arrives over a slow transport"""
NOT_COUNTED = {
    OrderState.RECEIVED,
    OrderState.REJECTED,
    OrderState.ACCEPTED,
    OrderState.CANCELLED,
    OrderState.EXPIRED,
}
"""states in which an order that has not begun holds nothing, and will hold nothing"""


@dataclass(frozen=True)
class DecisionFacts:
    """What is known of a point, and when."""

    now: Moment
    zone: ZoneInfo
    grants: Sequence[Grant]
    events: Sequence[AcceptedOrder]
    """the orders accepted at the same point before, without this one"""
    look: Callable[[str, str], GuardReading | None]
    given_back: Moment | None = None
    """when the point was last released"""
    locked: tuple[Moment, float] | None = None
    """when a guard tripped, and for how many seconds nothing may begin after that"""
    opted_out: str = ""
    """who has opted out until now, and why; empty: nobody"""
    home: Callable[[str], tuple[float, float] | None] = lambda _: None
    """begin and end of an occupancy by its id; None: it is not known here"""
    tested: bool = True
    """`gardien control test` has passed for the point as it is configured now"""
    unsigned: str = ""
    """why the sheet of the control does not count as accepted by its operator; empty: it does"""


@dataclass(frozen=True, slots=True)
class Yes:
    """The order may be carried out, under these grants."""

    grants: tuple[str, ...]


def decide(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> Yes | No:
    """Decide about an order, at its acceptance and again when it begins (rule H26)."""
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
    return No(OrderCode.CLOCK, Text("the gateway's clock is not trusted: nothing new begins"))


def _action(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del facts
    if order.action != modality.action:
        reason = Text(
            "{name} takes {action} only, {asked} was asked",
            name=modality.name, action=modality.action, asked=order.action,
        )  # fmt: skip
        return No(OrderCode.ACTION, reason)
    if order.emergency and not modality.limits.emergency:
        return No(OrderCode.ACTION, Text("{name} takes no emergency orders", name=modality.name))
    return None


def _range(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del facts
    value = order.value
    if value is None or not value.is_finite():
        reason = Text("the value is missing: `cmd.val` must be a number, not text")
        return No(OrderCode.RANGE, reason)
    if order.unit is not None and order.unit != modality.unit:
        reason = Text(
            "the unit of {name} is {unit}, {asked} was asked",
            name=modality.name, unit=spoken(modality.unit), asked=spoken(order.unit),
        )  # fmt: skip
        return No(OrderCode.RANGE, reason)
    if modality.choices and value not in modality.choices:
        allowed = ", ".join(plain(one) for one in modality.choices)
        reason = Text(
            "{name} takes the values {allowed} only, {asked} was asked",
            name=modality.name, allowed=allowed, asked=plain(value),
        )  # fmt: skip
        return No(OrderCode.RANGE, reason)
    if far := outside(value, modality.limits, modality.unit):
        return No(OrderCode.RANGE, Text("{name} is agreed {far}", name=modality.name, far=far))
    if modality.step and value % modality.step:
        reason = Text(
            "{name} takes multiples of {step} only, {asked} was asked",
            name=modality.name, step=plain(modality.step), asked=plain(value),
        )  # fmt: skip
        return No(OrderCode.RANGE, reason)
    return None


def _duration(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del facts
    longest = min(LONGEST, modality.limits.duration or LONGEST)
    if not 0 < order.duration <= longest:
        asked = duration_text(order.duration)
        reason = Text(
            "{name} is agreed for {longest}, {asked} was asked",
            name=modality.name, longest=written(longest), asked=asked,
        )  # fmt: skip
        return No(OrderCode.DURATION, reason)
    if not 0 <= order.rand <= LONGEST:
        reason = Text(
            "its begin may be drawn from a day at most, {asked} was asked",
            asked=duration_text(order.rand),
        )
        return No(OrderCode.DURATION, reason)
    if order.duration < modality.on:
        reason = Text("it must last at least {least}", least=written(modality.on))
        return No(OrderCode.TIMER, reason)
    if modality.ramp is None and modality.spread >= order.duration:
        reason = Text(
            "it must last longer than {spread}, in which its release is drawn",
            spread=written(modality.spread),
        )
        return No(OrderCode.DURATION, reason)
    return None


def _timing(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    now, limits = facts.now.wall, modality.limits
    if order.latest_end <= now:
        reason = Text("its end, {time}, is past", time=stamp(order.latest_end))
        return No(OrderCode.EXPIRED, reason)
    if order.received and order.start < order.received - STARTABLE:
        reason = Text("its begin, {time}, is past", time=stamp(order.start))
        return No(OrderCode.EXPIRED, reason)
    if order.start > now + FURTHEST:
        reason = Text("its begin, {time}, is later than any grant", time=stamp(order.start))
        return No(OrderCode.NOT_YET, reason)
    if limits.notice and order.start - order.received < limits.notice:
        reason = Text(
            "{name} needs {notice} of notice", name=modality.name, notice=written(limits.notice)
        )
        return No(OrderCode.NOTICE, reason)
    if beyond := outside_hours(order, limits, facts):
        reason = Text("{name} is not agreed for {time}", name=modality.name, time=beyond)
        return No(OrderCode.WINDOW, reason)
    return None


def _quota(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    def no(field: str, reason: Text) -> No:
        code = OrderCode.TIMER if field == "min_gap" else OrderCode.QUOTA
        return No(code, Text("{name} is agreed for {reason}", name=modality.name, reason=reason))

    return quota_refusal(order, modality.limits, facts, no)


def _timers(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    ahead = max(0.0, order.start - facts.now.wall)
    if facts.locked is not None:
        since, lasts = facts.locked
        if elapsed(since, facts.now) + ahead < lasts:
            reason = Text(
                "a guard tripped: {name} rests for {pause} after that",
                name=modality.name, pause=duration_text(lasts),
            )  # fmt: skip
            return No(OrderCode.TIMER, reason)
    # while a hold is in force an order takes over from it: nothing starts anew, so no rest is due
    rested = modality.off if facts.given_back is None else elapsed(facts.given_back, facts.now)
    if rested + ahead < modality.off and not _holds_now(facts):
        reason = Text(
            "{name} rests for {pause} after each hold",
            name=modality.name, pause=written(modality.off),
        )  # fmt: skip
        return No(OrderCode.TIMER, reason)
    return None


def _holds_now(facts: DecisionFacts) -> bool:
    return any(one.state is OrderState.STARTED for one in facts.events)


def _state(order: ControlOrder, modality: Modality, facts: DecisionFacts) -> No | None:
    del order
    if not facts.tested:
        reason = Text(
            "{name} has not passed its test: gardien control test {name}", name=modality.name
        )
        return No(OrderCode.UNTESTED, reason)
    if facts.unsigned:
        return No(OrderCode.UNSIGNED, as_text(facts.unsigned))
    if facts.opted_out:
        return No(OrderCode.OVERRIDDEN, as_text(facts.opted_out))
    return tripped(modality.guards, facts.look) or inhibited(modality, facts.look)


# -- grants: one of each required role must cover the whole order


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
        reason = Text("the grant of the {role} was revoked", role=role_name(role))
        return No(OrderCode.REVOKED, reason, role)
    standing = [grant for grant in of_role if grant.revoked is None]
    lived_in = [grant for grant in standing if _occupancy_lasts(grant, order, facts)]
    if standing and not lived_in:
        reason = Text(
            "the grant of the {role} ends with an occupancy that is over then", role=role_name(role)
        )
        return No(OrderCode.GRANT_MISSING, reason, role)
    valid = [
        grant
        for grant in lived_in
        if grant.since <= order.start and order.latest_end <= grant.until
    ]
    if not valid:
        reason = Text(
            "{sender} has no grant of the {role} for this", sender=order.by, role=role_name(role)
        )
        if order.auth:
            reason += Text(" among those that `auth` names (without `auth` any grant counts)")
        if standing:
            reason = Text(
                "the grant of the {role} is valid from {first} to {last}", role=role_name(role),
                first=stamp(standing[0].since), last=stamp(standing[0].until),
            )  # fmt: skip
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

    def beyond(field: str, reason: Text) -> No:
        whole = Text("the grant of the {role} {reason}", role=role_name(role), reason=reason)
        return No(OrderCode.GRANT_LIMIT, whole, role, field)

    if grant.unit is not None and grant.unit != modality.unit:
        reason = Text(
            "is in {unit}, the control in {other}",
            unit=spoken(grant.unit), other=spoken(modality.unit),
        )  # fmt: skip
        return beyond("unit", reason)
    if order.value is not None and (far := outside(order.value, limits, modality.unit)):
        low = limits.least is not None and order.value < limits.least
        return beyond("min" if low else "max", Text("goes {far}", far=far))
    if limits.duration is not None and order.duration > limits.duration:
        reason = Text(
            "is for {longest}, {asked} was asked",
            longest=duration_text(limits.duration), asked=duration_text(order.duration),
        )  # fmt: skip
        return beyond("max_dur", reason)
    if limits.notice is not None and order.start - order.received < limits.notice:
        reason = Text("requires {notice} of notice", notice=duration_text(limits.notice))
        return beyond("notice", reason)
    if order.emergency and not limits.emergency:
        return beyond("emerg", Text("allows no emergency orders"))
    if at := outside_hours(order, limits, facts):
        return beyond("windows", Text("is not agreed for {time}", time=at))
    return quota_refusal(
        order, limits, facts,
        lambda field, reason: beyond(field, Text("allows {reason}", reason=reason)),
    )  # fmt: skip


# -- quotas: how often, how long in a day, and how soon after others


@dataclass(frozen=True, slots=True)
class Span:
    """The time in which a point was, or will be, held."""

    begin: float
    end: float

    def meets(self, other: Span) -> bool:
        """Whether they overlap."""
        return self.begin < other.end and other.begin < self.end

    def within(self, since: float, until: float) -> float:
        """Seconds of the span between two moments."""
        return max(0.0, min(self.end, until) - max(self.begin, since))


def quota_refusal(
    order: ControlOrder, limits: Limits, facts: DecisionFacts, no: Callable[[str, Text], No]
) -> No | None:
    """Refuse an order that is too often, too long in a day, or too soon after others (rule H4).

    Orders that overlap are one event: together they may not last longer than one order may. A hold
    that is over counts for its real length, until it was released. `no` makes the refusal from the
    name of the limit and the text about it.
    """
    others = [one for one in facts.events if _counts(one, order)]
    day = schedule.day_of(order.start, facts.zone)
    that_day = sum(schedule.day_of(one.begin, facts.zone) == day for one in others)
    if limits.a_day is not None and that_day >= limits.a_day:
        reason = Text(
            "{number} a day, and that day has {had} already", number=limits.a_day, had=that_day
        )
        return no("max_day", reason)
    held, new = [_held(one, facts) for one in others], Span(order.start, order.latest_end)
    if limits.time_a_day is not None:
        for since, until in _days(new, facts):
            taken = sum(one.within(since, until) for one in held)
            if taken + min(order.duration, new.within(since, until)) > limits.time_a_day:
                reason = Text("{longest} a day in all", longest=duration_text(limits.time_a_day))
                return no("max_time_day", reason)
    if limits.duration is not None and _together(new, held) > limits.duration + order.rand:
        reason = Text(
            "{longest}, and it would last longer with the order before",
            longest=duration_text(limits.duration),
        )
        return no("max_dur", reason)
    if limits.gap and any(_apart(new, one) < limits.gap for one in held if not new.meets(one)):
        reason = Text("a rest of {pause} between two holds", pause=duration_text(limits.gap))
        return no("min_gap", reason)
    return None


def _counts(event: AcceptedOrder, order: ControlOrder) -> bool:
    """Whether an accepted order counts beside a new one.

    The new order itself does not count, and neither does the order that it replaces before that
    has begun.
    """
    replaced = event.order.jti == order.ref and not event.began
    return (
        (event.state not in NOT_COUNTED or event.began)
        and event.order.jti != order.jti
        and not replaced
    )


def _held(event: AcceptedOrder, facts: DecisionFacts) -> Span:
    if event.over is None:
        return Span(event.begin, event.end)
    # counted back from now: the wall clock may have been set since the release
    return Span(event.begin, facts.now.wall - elapsed(event.over, facts.now))


def _days(span: Span, facts: DecisionFacts) -> Iterator[tuple[float, float]]:
    """Begin and end of each local day that a span touches."""
    at = span.begin
    while at < span.end:
        since, until = schedule.bounds(schedule.day_of(at, facts.zone), facts.zone)
        yield since, until
        at = until


def _together(new: Span, held: Sequence[Span]) -> float:
    """Seconds of the event that a span would form with all spans it overlaps."""
    whole, left = new, list(held)
    # a span that joins may overlap further ones, so repeat until none is left
    while met := [one for one in left if one.meets(whole)]:
        begin, end = min(one.begin for one in met), max(one.end for one in met)
        whole = Span(min(whole.begin, begin), max(whole.end, end))
        left = [one for one in left if one not in met]
    return whole.end - whole.begin


def _apart(new: Span, other: Span) -> float:
    return other.begin - new.end if other.begin >= new.end else new.begin - other.end


# -- limits on the value and the hours, which both a modality and a grant may have


def outside(value: Decimal, limits: Limits, unit: str) -> Text | None:
    """Which limit a value exceeds, as text; None: none."""
    if limits.least is not None and value < limits.least:
        least = measured(limits.least, unit)
        return Text("down to {least}, {asked} was asked", least=least, asked=plain(value))
    if limits.most is not None and value > limits.most:
        most = measured(limits.most, unit)
        return Text("up to {most}, {asked} was asked", most=most, asked=plain(value))
    return None


def outside_hours(order: ControlOrder, limits: Limits, facts: DecisionFacts) -> datetime | None:
    """The first minute of an order, its draw included, outside the windows or the season."""
    span = (order.start, order.latest_end)
    return schedule.first_outside(limits.windows, limits.season, span, facts.zone)


def role_name(role: str) -> Text:
    """A role for people: without underscores."""
    return Text(ROLE_NAMES.get(role, role))


def duration_text(seconds: float) -> Text:
    """A duration for people, exact to the second: `1 h 30 min`."""
    if seconds >= 60 and seconds % 60 == 0:  # noqa: PLR2004 -- a minute
        hours, minutes = divmod(int(seconds) // 60, 60)
        if hours and minutes:
            return Text("{hours} h {minutes} min", hours=hours, minutes=f"{minutes:02}")
        return Text("{number} h", number=hours) if hours else Text("{number} min", number=minutes)
    return Text("{number} s", number=f"{seconds:g}")
