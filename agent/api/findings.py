"""The call that acknowledges a finding: somebody knows of it and works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.api.roles import INSTALLER, MANAGER, NAMES, OPERATOR, Right
from agent.core.errors import Refused
from agent.core.finding import ALWAYS_COUNT, Actor, Severity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.api.registry import Caller
    from agent.api.roles import Role
    from agent.core.finding import Finding
    from agent.gateway.gateway import Gateway

MOST_DAYS = 30
LONGEST_NOTE = 200
"""characters"""
MAY: Mapping[Actor, frozenset[Role]] = {
    Actor.INSTALLER: frozenset({INSTALLER, MANAGER}),
    Actor.MANAGER: frozenset({MANAGER}),
    Actor.PLATFORM: frozenset({INSTALLER, MANAGER}),
    Actor.NOBODY: frozenset({INSTALLER, MANAGER, OPERATOR}),
}
"""who may acknowledge a finding, by who must act: the manager has called the installer"""


async def acknowledge(  # noqa: PLR0913 -- as many options
    all_findings: Callable[[Gateway], Awaitable[list[Finding]]],
    gateway: Gateway,
    caller: Caller,
    *,
    finding: str,
    note: str,
    days: float = 7.0,
    named: str | None = None,
) -> dict[str, Any]:
    """Record that somebody knows of a finding, and of those with the same cause.

    `finding`: its `id` in `status`, or the beginning of it. `note`: what is done about it. `days`:
    at most 30; 0: it counts again. `counts`: whether it counts all the same, since readings are
    lost or equipment is concerned. Raises Refused.
    """
    from agent.api.registry import author  # noqa: PLC0415 -- the page needs only the limits
    from agent.registry import parsers  # noqa: PLC0415

    who = author(gateway, caller, named)
    written = parsers.text(note, "note", LONGEST_NOTE)
    if not 0 <= days <= MOST_DAYS:
        raise Refused("days must be 0 to {most}, not {days:g}", most=MOST_DAYS, days=days)
    findings = [one for one in await all_findings(gateway) if _sees(caller, one)]
    chosen = _chosen(findings, finding)
    _must_fit(caller, chosen)
    same = [one for one in findings if one is chosen or (one.cause and one.cause == chosen.cause)]
    by = gateway.acknowledged.add(same, who, written, days)
    gateway.audit("finding.acknowledged", {"code": chosen.code, "until": by.until, "by": who})
    return {
        "id": chosen.id,
        "until": by.until if days else None,
        "counts": not days or chosen.severity in ALWAYS_COUNT,
        "what": chosen.what if caller.may(Right.SEE_PLACES) else chosen.without_names().what,
    }


def _sees(caller: Caller, finding: Finding) -> bool:
    """Whether `status` shows a finding to this caller."""
    return caller.may(Right.SEE_PLACES) or not finding.private


def _chosen(findings: list[Finding], name: str) -> Finding:
    """Return the finding with this id, or the only one whose id begins so. Raises Refused."""
    matches = [one for one in findings if one.id == name] or [
        one for one in findings if name and one.id.startswith(name)
    ]
    if len({one.id for one in matches}) != 1:
        raise Refused(
            "{number} findings have an id that begins with {name}. To list them: gardien finding"
            " list",
            number=len(matches),
            name=name[:100],
        )
    return matches[0]


def _must_fit(caller: Caller, finding: Finding) -> None:
    may = MAY[finding.actor]
    if finding.severity is Severity.EQUIPMENT:
        may |= {OPERATOR}
    if not caller.roles & may:
        raise Refused(
            "this finding is for others to acknowledge: {roles}",
            roles=[NAMES[role] for role in NAMES if role in may],
        )
