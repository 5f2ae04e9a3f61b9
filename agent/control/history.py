"""What was done, as sentences for the building manager. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.control.model import FAILSAFE, TEST, OrderState
from agent.control.records import FINAL, Outcome
from agent.core.clock import stamp
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from zoneinfo import ZoneInfo

ENDS = {
    OrderState.COMPLETED: "released",
    OrderState.CANCELLED: "cancelled",
    OrderState.SUPERSEDED: "overruled",
    OrderState.ABORTED: "broken off",
    OrderState.OPTED_OUT: "ended by somebody in the building",
    OrderState.FAILED: "failed",
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
    return [
        _report(group)
        for group in _groups(outcomes)
        if group[0].jti and any(span[0] <= one.at <= span[1] for one in group)
    ]


def sentences(
    outcomes: Iterable[Outcome],
    zone: ZoneInfo,
    units: Mapping[str, str],
    span: tuple[float, float] | None = None,
) -> list[str]:
    """One sentence for each order and control, oldest first. `units`: by control.

    `span`: only orders of which something was recorded between these moments.
    """
    return [
        _sentence(group, zone, units.get(group[0].control, ""))
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


def _sentence(group: Sequence[Outcome], zone: ZoneInfo, unit: str) -> str:
    first = group[0]
    begun = _begun(group)
    ended = next((one for one in reversed(group) if one.state in FINAL), None)
    at = _moment((begun or first).at, zone)
    if not first.jti:  # a value that stood there without an order
        return f"{at} {first.control}: {first.words}"
    what = _what(group, unit)
    if begun is None:
        return f"{at} {first.control}: {_not_begun(what, ended, group)}"
    if ended is not None and ended.at >= begun.at:
        at = _span(begun.at, ended.at, zone)
    else:
        ended = None
        at = f"{at}–"
    return f"{at} {first.control}: {what}{_evidence(group)}{_result(begun, ended, group)}"


def _what(group: Sequence[Outcome], unit: str) -> str:
    value, by = _first(group, "value").replace("-", "−"), _first(group, "by")
    if group[0].jti == FAILSAFE:
        by, value = "", f"failsafe limit {value}"
    why = _why(group)
    asked = (f", asked by {by}" if by else "") + (f" (reason: {why})" if why else "")
    return f"{value} {spoken(unit)}".strip() + asked


def _evidence(group: Sequence[Outcome]) -> str:
    evidence = _first(group, "evidence")
    return f", on the {evidence}" if evidence else ""


def _not_begun(what: str, ended: Outcome | None, group: Sequence[Outcome]) -> str:
    if ended is None:
        return f"{what}{_evidence(group)}, not begun yet"
    reason = f"{ended.code}: {ended.words}" if ended.code else ended.words
    if ended.state is OrderState.COMPLETED:
        return f"{what}, {reason}"
    verb = "refused" if ended.state is OrderState.REJECTED else ENDS.get(ended.state, ended.state)
    return f"{what}, {verb.lower()}: {reason}"


def _result(begun: Outcome, ended: Outcome | None, group: Sequence[Outcome]) -> str:
    """The result, and whether the device has confirmed the release."""
    waits = next((one for one in group if one.state is OrderState.RELEASE_PENDING), None)
    over = any(one.closed for one in group)
    left = f", NOT RELEASED YET: {waits.words}" if waits and not over else ""
    if ended is None:
        return left or ", in force"
    seen = f", {ended.seen}" if ended.seen else ""
    if begun.before and ended.after:
        seen += f", {begun.before} before and {ended.after} after"
    guarded = ended.words.startswith("guard:")  # the rest of the text names the guard, too
    how = ended.words.partition(": ")[2] if guarded else ended.words or ENDS.get(ended.state, "")
    if ended.state is not OrderState.COMPLETED:
        how = f"{ENDS.get(ended.state, ended.state)}: {how}"
    return f"{seen}, {how}{left}"


def _span(begin: float, end: float, zone: ZoneInfo) -> str:
    first, last = _moment(begin, zone), _moment(end, zone)
    same_day = first[:10] == last[:10]
    return f"{first}–{last[11:]}" if same_day else f"{first} – {last}"


def _moment(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M")
