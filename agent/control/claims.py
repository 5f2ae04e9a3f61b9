"""What signed objects say, in the words of this part: orders, grants."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control import hours
from agent.control.model import ControlOrder, Grant, Limits
from agent.trust import claim_types

if TYPE_CHECKING:
    from agent.trust import claims
    from agent.trust.verify import Verified


def grant_of(verified: Verified, said: claims.GrantClaims) -> Grant:
    """Read a grant. Raises ValueError on windows or a season that say nothing, and on the word of
    an occupant without the occupancy with which it ends.
    """
    if said.role == "occupant" and said.occ is None:
        raise ValueError("the grant of an occupant names its occupancy (`occ`)")
    evidence = said.evid
    return Grant(
        jti=said.jti,
        role=said.role,
        by=verified.owner,
        to=said.sub,
        since=float(said.nbf if said.nbf is not None else said.iat),
        until=float(said.exp),
        assets=tuple(said.scope.assets),
        actions=tuple(said.scope.acts),
        limits=_limits(said.lim),
        unit=said.lim.unit,
        kid=verified.kid,
        occupancy=said.occ,
        evidence=f"{evidence.kind} {evidence.ref} of {evidence.date}",
    )


def _limits(lim: claims.Lim) -> Limits:
    return Limits(
        least=_number(lim.min),
        most=_number(lim.max),
        duration=_seconds(lim.max_dur),
        gap=_seconds(lim.min_gap),
        a_day=lim.max_day,
        time_a_day=_seconds(lim.max_time_day),
        notice=_seconds(lim.notice),
        windows=tuple(hours.window(one) for one in lim.windows or ()),
        season=hours.season(lim.season) if lim.season else None,
        emergency=lim.emerg,
    )


def order_of(verified: Verified, said: claims.Command, control: str, now: float) -> ControlOrder:
    """Read an order as it concerns one control; without a start it begins now."""
    cmd = said.cmd
    value = cmd.val
    return ControlOrder(
        jti=said.jti,
        control=control,
        by=verified.owner,
        role=verified.role,
        action=cmd.act,
        value=_number(value) if isinstance(value, int | Decimal) else None,
        unit=cmd.unit,
        start=float(claim_types.moment(cmd.start)) if cmd.start else now,
        duration=_seconds(cmd.dur) or 0.0,
        rand=_seconds(cmd.rand) or 0.0,
        seq=said.seq,
        prio=said.prio,
        emergency=said.emerg,
        resume=cmd.resume,
        auth=tuple(said.auth),
        ref=cmd.ref or "",
        why=said.why or "",
        kid=verified.kid,
        received=now,
    )


def _number(value: int | Decimal | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _seconds(text: str | None) -> float | None:
    return None if text is None else float(claim_types.seconds(text))
