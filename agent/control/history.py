"""What was done, as sentences for the building manager. Pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from agent.control.model import FAILSAFE, FINAL, TEST, OrderState
from agent.core.clock import stamp
from agent.core.i18n import N_, Text, joined
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.control.records import Outcome

ENDS = {
    OrderState.REJECTED: Text("refused"),
    OrderState.COMPLETED: Text("released"),
    OrderState.CANCELLED: Text("cancelled"),
    OrderState.SUPERSEDED: Text("overruled"),
    OrderState.ABORTED: Text("broken off"),
    OrderState.OPTED_OUT: Text("ended by somebody in the building"),
    OrderState.EXPIRED: Text("expired"),
    OrderState.FAILED: Text("failed"),
}
EVIDENCE = re.compile(r"(vote|contract|form) (.*) of (\d{4}-\d\d-\d\d)")
"""what a grant is based on, as the journal has it"""
KINDS = {
    "vote": N_("vote {title} of {day}"),
    "contract": N_("contract {title} of {day}"),
    "form": N_("form {title} of {day}"),
}


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What became of one order at one control. Its fields are members of the report's JSON."""

    jti: str
    control: str
    at: float
    """when it began; if it did not begin, when it was refused or ended, or else when it arrived"""
    value: str
    by: str
    """who requested it; empty: the failsafe applied"""
    authorization: str
    """the votes and contracts on which its grants are based"""
    why: str
    """the reason that its sender stated; empty: none"""
    received: float | None
    planned: float | None
    """when it is or was to begin; None: it was not accepted"""
    begun: float | None
    """when its value was read back; None: it did not begin"""
    released: float | None
    """when the device confirmed the release; None: it did not begin, or is not released"""
    state: str
    code: str
    outcome: str
    """why it was refused, or how it ended"""
    seen: str
    """the worst values of the guards meanwhile, such as the lowest temperatures"""

    @property
    def held_s(self) -> float:
        """Seconds from its begin to its release."""
        return self.released - self.begun if self.begun and self.released else 0.0

    def document(self) -> dict[str, Any]:
        """The report as JSON, with times as texts."""
        times = {
            name: None if (at := getattr(self, name)) is None else stamp(at)
            for name in ("at", "received", "planned", "begun", "released")
        }
        return asdict(self) | times | {"held_s": round(self.held_s)}


def order_reports(outcomes: Iterable[Outcome]) -> list[OrderReport]:
    """What became of each order at each control, oldest first."""
    return [_report(group) for group in _groups(outcomes) if group[0].jti]


def _report(group: Sequence[Outcome]) -> OrderReport:
    first, begun = group[0], _begun(group)
    ended = next((one for one in reversed(group) if one.state in FINAL), None)
    released = next((one for one in reversed(group) if one.closed), None)
    at = begun or ended or first
    return OrderReport(
        jti=first.jti,
        control=first.control,
        at=at.at,
        value=_first(group, "value"),
        by="" if first.jti == FAILSAFE else _first(group, "by"),
        authorization=_first(group, "evidence"),
        why=_why(group),
        received=first.at if first.state is OrderState.RECEIVED else None,
        planned=_planned(group),
        begun=begun.at if begun else None,
        released=released.at if begun and released else None,
        state=group[-1].state.value,
        code=ended.code if ended else "",
        outcome=ended.words if ended else "",
        seen=_first(group, "seen"),
    )


def _planned(group: Sequence[Outcome]) -> float | None:
    scheduled = next((one.words for one in group if one.state is OrderState.SCHEDULED), "")
    return datetime.fromisoformat(scheduled).timestamp() if scheduled else None


def _begun(group: Sequence[Outcome]) -> Outcome | None:
    return next((one for one in group if one.state is OrderState.STARTED), None)


def _first(group: Sequence[Outcome], field: str) -> str:
    return next((text for one in group if (text := getattr(one, field))), "")


def _why(group: Sequence[Outcome]) -> str:
    """The reason that the sender of an order stated. It may have line breaks."""
    received = (one.words for one in group if one.state is OrderState.RECEIVED)
    return " ".join(next(received, "").split())


def within(outcomes: Iterable[Outcome], span: tuple[float, float]) -> list[OrderReport]:
    """What became of the orders of which something was recorded between two moments."""
    return [_report(group) for group in _groups_within(outcomes, span) if group[0].jti]


def sentences(
    outcomes: Iterable[Outcome],
    zone: ZoneInfo,
    units: Mapping[str, str],
    span: tuple[float, float] | None = None,
) -> list[Text]:
    """One sentence for each order and control, oldest first. `units`: by control.

    `span`: only orders of which something was recorded between these moments.
    """
    return [
        _sentence(group, zone, units.get(group[0].control, ""))
        for group in _groups_within(outcomes, span)
    ]


def concerned(outcomes: Iterable[Outcome], span: tuple[float, float]) -> list[tuple[str, str]]:
    """The order (its `jti`; empty: none) and the control of each of `sentences`."""
    return [(group[0].jti, group[0].control) for group in _groups_within(outcomes, span)]


def _groups_within(
    outcomes: Iterable[Outcome], span: tuple[float, float] | None
) -> list[list[Outcome]]:
    return [
        group
        for group in _groups(outcomes)
        if span is None or any(span[0] <= one.at <= span[1] for one in group)
    ]


def _groups(outcomes: Iterable[Outcome]) -> list[list[Outcome]]:
    """The outcomes in groups: one for each order at one control, and one for each failsafe."""
    groups: list[list[Outcome]] = []
    last: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        name = outcome.jti, outcome.control
        again = outcome.jti == FAILSAFE and name in last and outcome.state is OrderState.STARTED
        if outcome.jti == TEST:  # a test is not an order
            continue
        if not outcome.jti or name not in last or again:
            last[name] = []
            groups.append(last[name])
        last[name].append(outcome)
    return groups


def _sentence(group: Sequence[Outcome], zone: ZoneInfo, unit: str) -> Text:
    first = group[0]
    begun = _begun(group)
    ended = next((one for one in reversed(group) if one.state in FINAL), None)
    at: object = datetime.fromtimestamp((begun or first).at, zone)
    if not first.jti:  # a value that stood there without an order
        what: str = first.words
    elif begun is None:
        what = _not_begun(_what(group, unit), ended, group)
    else:
        ended = ended if ended is not None and ended.at >= begun.at else None
        at = _span(begun.at, ended.at, zone) if ended else Text(N_("{begin}–"), begin=at)
        what = joined("", (_what(group, unit), _evidence(group), _result(begun, ended, group)))
    return Text("{time} {control}: {what}", time=at, control=first.control, what=what)


def number(text: str) -> Decimal | str:
    """A value of the journal, which its reader sees in the notation of the language."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text
    return Text("−{number}", number=-value) if value < 0 else value


def _what(group: Sequence[Outcome], unit: str) -> Text:
    value, by, why = number(_first(group, "value")), _first(group, "by"), _why(group)
    what = Text("{value}", value=value)
    what += f" {spoken(unit)}" if unit else ""
    if group[0].jti == FAILSAFE:
        return Text("failsafe limit {value}", value=what)
    what += Text(", asked by {who}", who=by) if by else ""
    return what + (Text(" (reason: {why})", why=why) if why else "")


def evidence_text(text: str) -> Text:
    """What grants are based on; the journal has it as `vote TITLE of DAY; …`."""
    return joined(
        "; ",
        [
            Text(KINDS[found[1]], title=found[2], day=date.fromisoformat(found[3]))
            if (found := EVIDENCE.fullmatch(part))
            else part
            for part in text.split("; ")
        ],
    )


def _evidence(group: Sequence[Outcome]) -> str:
    evidence = _first(group, "evidence")
    return Text(", on the {evidence}", evidence=evidence_text(evidence)) if evidence else ""


def _not_begun(what: Text, ended: Outcome | None, group: Sequence[Outcome]) -> Text:
    if ended is None:
        return joined("", (what, _evidence(group), Text(", not begun yet")))
    reason = ended.words
    if ended.code:
        reason = Text("{reason} ({code})", reason=reason, code=ended.code)
    if ended.state is OrderState.COMPLETED:
        return joined(", ", (what, reason))
    return Text("{what}, {ended}: {why}", what=what, ended=ENDS[ended.state], why=reason)


def how_ended(text: Any) -> Any:
    """Why an order ended. The text about a guard names the guard, so its name is left out."""
    if not isinstance(text, str) or not text.startswith("guard:"):
        return text
    if not isinstance(text, Text):  # written by an earlier version
        return text.partition(": ")[2]
    inside = text.message.startswith("guard:")
    return text.values["why"] if inside else text.with_values(how_ended)


def _result(begun: Outcome, ended: Outcome | None, group: Sequence[Outcome]) -> Text:
    """The result, and whether the device has confirmed the release."""
    waits = next((one for one in group if one.state is OrderState.RELEASE_PENDING), None)
    over = any(one.closed for one in group)
    left = Text(", NOT RELEASED YET: {why}", why=waits.words) if waits and not over else Text("")
    if ended is None:
        return left or Text(", in force")
    seen = Text(", {seen}", seen=ended.seen) if ended.seen else Text("")
    if begun.before and ended.after:
        power = {"before": begun.before, "after": ended.after}
        seen += Text(", {before} before and {after} after", **power)
    how = how_ended(ended.words) or ENDS[ended.state]
    if ended.state is not OrderState.COMPLETED:
        how = Text("{ended}: {why}", ended=ENDS[ended.state], why=how)
    return joined("", (seen, Text(", {how}", how=how), left))


def _span(begin: float, end: float, zone: ZoneInfo) -> Text:
    first, last = datetime.fromtimestamp(begin, zone), datetime.fromtimestamp(end, zone)
    if first.date() == last.date():
        return Text("{begin}–{end}", begin=first, end=f"{last:%H:%M}")
    return Text("{begin} – {end}", begin=first, end=last)
