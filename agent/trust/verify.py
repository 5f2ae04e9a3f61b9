"""Bytes of unknown origin become words of a known key-holder, or are refused. Pure.

In this order: bytes, header, key, signature, claims, author, audience, time. Whether it was taken
before is for `replay.py`, in the transaction that takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.clock import ClockTrust, stamp
from agent.trust import claims
from agent.trust.claim_types import fault_of
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import take_apart
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
    """An object whose author is known, and which was made for this gateway and this time."""

    typ: str
    kid: str
    role: str
    owner: str
    """of the key, by the trust list; `iss` says the same"""
    scope: Scope
    """what the key may speak of; `scope.covers` is for who knows the controls"""
    claims: Mapping[str, Any]
    """as JSON says them, checked against their model; numbers with a fraction are Decimal"""
    said: ObjectClaims
    """the same, as the model of its kind (agent.trust.claims)"""
    jti: str
    iat: int
    exp: int | None
    sha256: str
    """of its text"""
    raw: bytes
    via: str = ""
    """by what way it came: the name of an uplink, or `hand`"""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who we are, for those who address us."""

    gateway: str
    """`G…`"""
    state: str
    """of the state directory"""
    building: str | None
    """`B…`, where the building has an id"""

    @property
    def exact(self) -> str:
        """How to address this gateway in its present state: `<gateway id>.<state id>`."""
        return f"{self.gateway}.{self.state}"

    @property
    def names(self) -> frozenset[str]:
        """Whatever may be called by."""
        return frozenset({self.gateway, self.exact} | ({self.building} if self.building else set()))


@dataclass(frozen=True, slots=True)
class VerificationContext:
    """Against what an object is judged."""

    members: Mapping[str, Member]
    """who may sign, by kid"""
    audience: Audience
    now: float
    """wall time"""
    clock: ClockTrust
    revoked: Collection[str] = ()
    """kids that count no more"""
    expires: float | None = None
    """when the trust list expires; None: never"""


def verify(raw: bytes, known: VerificationContext) -> Verified:
    """What an object says, once its author, its audience and its time are right. Raises Forged."""
    compact = take_apart(raw)
    kind = kind_of(compact.typ)
    member = _signer(compact, known)
    said = _said(compact, kind)
    _may_say(member, kind, said, compact.typ, known.audience)
    _may_revoke(member, said, known.members)
    _meant_for_us(kind, said, known.audience)
    _in_time(kind, said, member, known)
    return Verified(
        typ=compact.typ,
        kid=member.key.kid,
        role=member.role,
        owner=member.name,
        scope=member.scope,
        claims=compact.claims,
        said=said,
        jti=said.jti,
        iat=said.iat,
        exp=said.exp,
        sha256=compact.sha256,
        raw=raw,
    )


def _signer(compact: Jws, known: VerificationContext) -> Member:
    member = known.members.get(compact.kid)
    if member is None:
        unknown = f"nobody in the trust list has the key {compact.kid[:43]!r}"
        raise Forged(ObjectCode.KID, unknown, unknown)
    if not member.key.signed(compact.text):
        raise Forged(ObjectCode.SIG, f"the key of {member.name} has not signed these bytes")
    if compact.kid in known.revoked:
        words = f"the key {compact.kid} of {member.name} was revoked"
        raise Forged(ObjectCode.KID, words, f"the key {compact.kid} was revoked")
    return member


def _said(compact: Jws, kind: ObjectKind) -> ObjectClaims:
    try:
        return kind.says.model_validate(compact.claims)
    except ValidationError as error:
        raise Forged(ObjectCode.FORM, f"as {compact.typ} it is wrong: {fault_of(error)}") from None


def _may_say(member: Member, kind: ObjectKind, said: ObjectClaims, typ: str, us: Audience) -> None:
    whose = f"the key of {member.name} ({member.role})"
    if said.iss != member.name:
        words = f"{whose} speaks for {said.iss[:40]!r}"
        raise Forged(
            ObjectCode.KID, words, "`iss` is not the name that the trust list gives this key"
        )
    if member.role not in roles_for(kind, said):
        words = f"a key of the role {member.role} may not issue {typ}"
        raise Forged(ObjectCode.KID, f"{whose} may not issue {typ}", words)
    if isinstance(said, claims.GrantClaims):
        speaks_as = "residents_council" if member.role == WITNESS else member.role
        if said.role != speaks_as:
            words = f"a key of the role {member.role} cannot grant as {said.role}"
            raise Forged(ObjectCode.KID, f"{whose} cannot grant as {said.role}", words)
    if not member.scope.allows(typ, us.names):
        words = f"its `scope` in the trust list does not let this key sign {typ} for this building"
        raise Forged(ObjectCode.KID, f"{whose} is not for {typ} in this building", words)


def _may_revoke(member: Member, said: ObjectClaims, members: Mapping[str, Member]) -> None:
    """A key is revoked by its owner, by another one of its role, or by root (rule O14)."""
    if not isinstance(said, claims.Revocation) or member.role == ROOT:
        return
    for one in said.rev:
        other = members.get(one.kid or "")
        if other is None or other.name == member.name:
            continue
        if other.role != member.role or other.role == OCCUPANT:
            words = f"{member.name} ({member.role}) cannot revoke a key of {other.name}"
            raise Forged(ObjectCode.KID, words, NOT_THEIRS)


def _meant_for_us(kind: ObjectKind, said: ObjectClaims, us: Audience) -> None:
    if said.aud is None and kind.addressed is Addressed.ANY:
        return
    if said.aud == us.exact or (kind.addressed is not Addressed.STATE and said.aud in us.names):
        return
    earlier = str(said.aud).startswith(f"{us.gateway}.")
    whom = "an earlier state of this gateway" if earlier else repr(str(said.aud)[:60])
    raise Forged(ObjectCode.AUD, f"it is meant for {whom}; this is {us.exact}")


def _in_time(
    kind: ObjectKind, said: ObjectClaims, member: Member, known: VerificationContext
) -> None:
    _bounded(kind, said)
    if needs_no_clock(said):
        return
    if known.clock is ClockTrust.UNTRUSTED:
        raise Forged(
            ObjectCode.CLOCK, "the clock of this gateway cannot be relied on: send it again"
        )
    now, slack = known.now, TOLERANCE[known.clock]
    if kind.widens and known.expires is not None and now > known.expires:
        expired = stamp(known.expires)
        raise Forged(
            ObjectCode.EXPIRED, f"the trust list expired on {expired}: nothing new is allowed"
        )
    if not member.since - slack <= now <= member.until + slack:
        since, until = stamp(member.since), stamp(member.until)
        words = f"the trust list lets this key sign from {since} to {until} only"
        raise Forged(
            ObjectCode.KID, f"the key of {member.name} counts from {since} to {until} only", words
        )
    if said.iat > now + slack:
        raise Forged(
            ObjectCode.NOT_YET, f"it was made on {stamp(said.iat)}, and it is {stamp(now)}"
        )
    if kind.dated is Dated.ACCEPTANCE and said.nbf is not None and said.nbf > now + slack:
        raise Forged(
            ObjectCode.NOT_YET, f"it counts from {stamp(said.nbf)}, and it is {stamp(now)}"
        )
    if kind.dated is not Dated.RECORD and said.exp is not None and said.exp < now - slack:
        raise Forged(ObjectCode.EXPIRED, f"it expired on {stamp(said.exp)}, and it is {stamp(now)}")


def _bounded(kind: ObjectKind, said: ObjectClaims) -> None:
    if said.exp is None:
        return
    begin = said.iat if said.nbf is None or kind.dated is Dated.ACCEPTANCE else said.nbf
    if said.exp <= begin or (said.nbf is not None and said.exp <= said.nbf):
        raise Forged(ObjectCode.FORM, "it ends before it begins")
    if kind.dated is Dated.ACCEPTANCE and said.exp - said.iat > LONGEST_ACCEPTANCE:
        raise Forged(ObjectCode.FORM, "it may be accepted for 48 hours at most after it was made")
    if kind.dated is Dated.STANDING and said.exp - begin > LONGEST_STANDING:
        raise Forged(ObjectCode.FORM, "it stands for 24 months at most")
