"""What was done, as sentences for the building manager. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from agent.control.model import FAILSAFE, TEST, OrderState
from agent.control.records import FINAL, Outcome
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


def sentences(outcomes: Iterable[Outcome], zone: ZoneInfo, units: Mapping[str, str]) -> list[str]:
    """One sentence for each order and control, oldest first. `units`: by control."""
    return [_sentence(group, zone, units.get(group[0].control, "")) for group in _groups(outcomes)]


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
    begun = next((one for one in group if one.state is OrderState.STARTED), None)
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
    value = next((one.value for one in group if one.value), "").replace("-", "−")
    by = next((one.by for one in group if one.by), "")
    if group[0].jti == FAILSAFE:
        by, value = "", f"failsafe limit {value}"
    return f"{value} {spoken(unit)}".strip() + (f", asked by {by}" if by else "")


def _evidence(group: Sequence[Outcome]) -> str:
    evidence = next((one.evidence for one in group if one.evidence), "")
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
