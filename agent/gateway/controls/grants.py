"""The grants that are recorded here, and whether they are valid, for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from agent.control.guard import plain
from agent.core.clock import stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.control.journal import Journal
    from agent.control.model import Grant
    from agent.control.stamps import Moment
    from agent.gateway.controls.setup import Steering
    from agent.trust.signer import Member


def grants(steering: Steering, members: Mapping[str, Member]) -> list[dict[str, Any]]:
    """Every recorded grant. `members`: the members whose keys count now, by kid."""
    journal, now = steering.controller.journal, steering.controller.dependencies.now()
    return [
        {
            "jti": one.jti,
            "by": one.by,
            "role": one.role,
            "to": one.to,
            "acts": [*one.actions],
            "assets": [*one.assets],
            "min": None if one.limits.least is None else plain(one.limits.least),
            "max": None if one.limits.most is None else plain(one.limits.most),
            "unit": one.unit,
            "since": stamp(one.since),
            "until": stamp(one.until),
            "evidence": one.evidence,
            "kid": one.kid,
            "listed": one.kid in members,
            "stands": not (why := _why_not(one, journal, now)),
            "why": why,
        }
        for one in sorted(journal.grants.values(), key=lambda one: (one.role, one.since, one.jti))
    ]


def _why_not(grant: Grant, journal: Journal, now: Moment) -> str:
    if grant.kid == journal.mute:
        return "this gateway does not witness votes"
    if grant.revoked is not None:
        return "revoked"
    if grant.until <= now.wall:
        return "expired"
    return f"not valid before {stamp(grant.since)}" if now.wall < grant.since else ""


def left_out(steering: Steering, members: Mapping[str, Member]) -> list[dict[str, Any]]:
    """Keys that are not among these members, with the number of valid or future grants of each."""
    journal, now = steering.controller.journal, steering.controller.dependencies.now()
    counts = Counter(
        (one.by, one.role, one.kid)
        for one in journal.grants.values()
        if one.kid not in members and one.revoked is None and now.wall < one.until
    )
    return [
        {"name": name, "role": role, "kid": kid, "grants": count}
        for (name, role, kid), count in sorted(counts.items())
    ]
