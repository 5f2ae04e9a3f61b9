"""Verify a signed object, or refuse it with a code. Pure.

The checks run in this order: bytes, header, key, signature, claims, author, audience, time. Replay
is checked by `replay.py`, in the transaction that accepts the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.core.clock import ClockTrust, stamp
from agent.trust import claims
from agent.trust.claim_types import fault_of
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import parse_jws
from agent.trust.object_types import (
    LONGEST_ACCEPTANCE,
    LONGEST_STANDING,
    OCCUPANT,
    ROOT,
    WITNESS,
    Addressed,
    Dated,
    kind_of,
    needs_no_clock,
    roles_for,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from agent.trust.claims import ObjectClaims
    from agent.trust.jws import Jws
    from agent.trust.object_types import ObjectKind
    from agent.trust.signer import Member, Scope

TOLERANCE = {ClockTrust.TRUSTED: 60.0, ClockTrust.HOLDOVER: 120.0}
"""seconds by which two clocks may differ"""
NOT_THEIRS = "a key is revoked by its owner, by another key of its role, or by a root"


@dataclass(frozen=True, slots=True)
class Verified:
    """A verified object: its author is known, and gateway and time are right."""

    typ: str
    kid: str
    role: str
    owner: str
    """owner of the key by the trust list, equal to `iss`"""
    scope: Scope
    """limits of the key; the caller checks `scope.covers`, since it knows the controls"""
    claims: Mapping[str, Any]
    """as JSON says them, checked against their model; numbers with a fraction are Decimal"""
    model: ObjectClaims
    """the same claims, as the model of their type (agent/trust/claims.py)"""
    jti: str
    iat: int
    exp: int | None
    sha256: str
    """of its text"""
    raw: bytes
    via: str = ""
    """its way here: the name of an uplink, or `hand`"""


@dataclass(frozen=True, slots=True)
class Audience:
    """The names by which objects address this gateway."""

    gateway: str
    """`G…`"""
    state: str
    """of the state directory"""
    building: str | None
    """`B…`, where the building has an id"""

    @property
    def exact(self) -> str:
        """The address of this gateway in its present state: `<gateway id>.<state id>`."""
        return f"{self.gateway}.{self.state}"

    @property
    def names(self) -> frozenset[str]:
        """All names that may be used."""
        return frozenset({self.gateway, self.exact} | ({self.building} if self.building else set()))


@dataclass(frozen=True, slots=True)
class VerificationContext:
    """What an object is verified against."""

    members: Mapping[str, Member]
    """who may sign, by kid"""
    audience: Audience
    now: float
    """wall time"""
    clock: ClockTrust
    revoked: Collection[str] = ()
    """kids of revoked keys"""
    expires: float | None = None
    """when the trust list expires; None: never"""


def verify(raw: bytes, context: VerificationContext) -> Verified:
    """Verify an object's author, audience and time. Raises Forged with the code of the fault."""
    compact = parse_jws(raw)
    kind = kind_of(compact.typ)
    member = _signer(compact, context)
    model = _parsed(compact, kind)
    _may_sign(member, kind, model, compact.typ, context.audience)
    _may_revoke(member, model, context.members)
    _addressed_to_us(kind, model, context.audience)
    _in_time(kind, model, member, context)
    return Verified(
        typ=compact.typ,
        kid=member.key.kid,
        role=member.role,
        owner=member.name,
        scope=member.scope,
        claims=compact.claims,
        model=model,
        jti=model.jti,
        iat=model.iat,
        exp=model.exp,
        sha256=compact.sha256,
        raw=raw,
    )


def _signer(compact: Jws, context: VerificationContext) -> Member:
    member = context.members.get(compact.kid)
    if member is None:
        unknown = f"nobody in the trust list has the key {compact.kid[:43]!r}"
        raise Forged(ObjectCode.KID, unknown, unknown)
    if not member.key.signed(compact.text):
        raise Forged(ObjectCode.SIG, f"the key of {member.name} has not signed these bytes")
    if compact.kid in context.revoked:
        reason = f"the key {compact.kid} of {member.name} was revoked"
        raise Forged(ObjectCode.KID, reason, f"the key {compact.kid} was revoked")
    return member


def _parsed(compact: Jws, kind: ObjectKind) -> ObjectClaims:
    try:
        return kind.model.model_validate(compact.claims)
    except ValidationError as error:
        raise Forged(
            ObjectCode.FORM, f"it is not a valid {compact.typ}: {fault_of(error)}"
        ) from None


def _may_sign(
    member: Member, kind: ObjectKind, model: ObjectClaims, typ: str, us: Audience
) -> None:
    whose = f"the key of {member.name} ({member.role})"
    if model.iss != member.name:
        reason = f"{whose} has signed in the name of {model.iss[:40]!r}"
        raise Forged(
            ObjectCode.KID, reason, "`iss` is not the name that the trust list gives this key"
        )
    if member.role not in roles_for(kind, model):
        reason = f"a key of the role {member.role} may not issue {typ}"
        raise Forged(ObjectCode.KID, f"{whose} may not issue {typ}", reason)
    if isinstance(model, claims.GrantClaims):
        # the gateway as witness of a vote grants in the residents' name
        speaks_as = "residents_council" if member.role == WITNESS else member.role
        if model.role != speaks_as:
            reason = f"a key of the role {member.role} cannot grant as {model.role}"
            raise Forged(ObjectCode.KID, f"{whose} cannot grant as {model.role}", reason)
    if not member.scope.allows(typ, us.names):
        reason = f"its `scope` in the trust list does not let this key sign {typ} for this building"
        raise Forged(ObjectCode.KID, f"{whose} is not for {typ} in this building", reason)


def _may_revoke(member: Member, model: ObjectClaims, members: Mapping[str, Member]) -> None:
    """Check that a signer may revoke these keys: its own, of its role, or as root (rule O14)."""
    if not isinstance(model, claims.Revocation) or member.role == ROOT:
        return
    for entry in model.rev:
        other = members.get(entry.kid or "")
        # a revocation of an unknown key is kept, and its signer is checked later (rule O14)
        if other is None or other.name == member.name:
            continue
        if other.role != member.role or other.role == OCCUPANT:
            reason = f"{member.name} ({member.role}) cannot revoke a key of {other.name}"
            raise Forged(ObjectCode.KID, reason, NOT_THEIRS)


def _addressed_to_us(kind: ObjectKind, model: ObjectClaims, us: Audience) -> None:
    if model.aud is None and kind.addressed is Addressed.ANY:
        return
    if model.aud == us.exact or (kind.addressed is not Addressed.STATE and model.aud in us.names):
        return
    earlier = str(model.aud).startswith(f"{us.gateway}.")
    whom = "an earlier state of this gateway" if earlier else repr(str(model.aud)[:60])
    raise Forged(ObjectCode.AUD, f"it is addressed to {whom}; this is {us.exact}")


def _in_time(
    kind: ObjectKind, model: ObjectClaims, member: Member, context: VerificationContext
) -> None:
    _limited(kind, model)
    if needs_no_clock(model):
        return
    if context.clock is ClockTrust.UNTRUSTED:
        raise Forged(
            ObjectCode.CLOCK,
            "the clock of this gateway is not trusted at the moment: send it again",
        )
    now, slack = context.now, TOLERANCE[context.clock]
    if kind.widens and context.expires is not None and now > context.expires:
        expired = stamp(context.expires)
        raise Forged(
            ObjectCode.EXPIRED, f"the trust list expired on {expired}, so no new right is accepted"
        )
    if not member.since - slack <= now <= member.until + slack:
        since, until = stamp(member.since), stamp(member.until)
        reason = f"the trust list lets this key sign from {since} to {until} only"
        raise Forged(
            ObjectCode.KID,
            f"the key of {member.name} is valid from {since} to {until} only",
            reason,
        )
    if model.iat > now + slack:
        raise Forged(
            ObjectCode.NOT_YET, f"it was made on {stamp(model.iat)}, and it is {stamp(now)}"
        )
    if kind.dated is Dated.ACCEPTANCE and model.nbf is not None and model.nbf > now + slack:
        raise Forged(
            ObjectCode.NOT_YET, f"it is valid from {stamp(model.nbf)}, and it is {stamp(now)}"
        )
    if kind.dated is not Dated.RECORD and model.exp is not None and model.exp < now - slack:
        raise Forged(
            ObjectCode.EXPIRED, f"it expired on {stamp(model.exp)}, and it is {stamp(now)}"
        )


def _limited(kind: ObjectKind, model: ObjectClaims) -> None:
    if model.exp is None:
        return
    begin = model.iat if model.nbf is None or kind.dated is Dated.ACCEPTANCE else model.nbf
    if model.exp <= begin or (model.nbf is not None and model.exp <= model.nbf):
        raise Forged(ObjectCode.FORM, "it ends before it begins")
    if kind.dated is Dated.ACCEPTANCE and model.exp - model.iat > LONGEST_ACCEPTANCE:
        raise Forged(ObjectCode.FORM, "`exp` is more than 48 hours after `iat`")
    if kind.dated is Dated.STANDING and model.exp - begin > LONGEST_STANDING:
        raise Forged(ObjectCode.FORM, "it is valid for more than 24 months")
