"""Grants and orders, made from the claims of signed objects."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control import hours
from agent.control.model import ControlOrder, Grant, Limits
from agent.trust import claim_types

if TYPE_CHECKING:
    from agent.trust import claims
    from agent.trust.verify import Verified


def grant_of(verified: Verified, content: claims.GrantClaims) -> Grant:
    """Read a grant.

    Raises ValueError if its windows or its season cannot be read, and if an occupant's grant does
    not name the occupancy with which it ends.
    """
    if content.role == "occupant" and content.occ is None:
        raise ValueError("an occupant's grant must name its occupancy (`occ`)")
    evidence = content.evid
    return Grant(
        jti=content.jti,
        role=content.role,
        by=verified.owner,
        to=content.sub,
        since=float(content.nbf if content.nbf is not None else content.iat),
        until=float(content.exp),
        assets=tuple(content.scope.assets),
        actions=tuple(content.scope.acts),
        limits=_limits(content.lim),
        unit=content.lim.unit,
        kid=verified.kid,
        occupancy=content.occ,
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


def order_of(verified: Verified, command: claims.Command, control: str, now: float) -> ControlOrder:
    """Read an order for one of its controls. An order without a start begins at `now`."""
    cmd = command.cmd
    value = cmd.val
    return ControlOrder(
        jti=command.jti,
        control=control,
        by=verified.owner,
        role=verified.role,
        action=cmd.act,
        value=_number(value) if isinstance(value, int | Decimal) else None,
        unit=cmd.unit,
        start=float(claim_types.moment(cmd.start)) if cmd.start else now,
        duration=_seconds(cmd.dur) or 0.0,
        rand=_seconds(cmd.rand) or 0.0,
        seq=command.seq,
        prio=command.prio,
        emergency=command.emerg,
        resume=cmd.resume,
        auth=tuple(command.auth),
        ref=cmd.ref or "",
        why=command.why or "",
        kid=verified.kid,
        received=now,
    )


def _number(value: int | Decimal | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _seconds(text: str | None) -> float | None:
    return None if text is None else float(claim_types.seconds(text))
