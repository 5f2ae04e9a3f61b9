"""Verify a signed object, its signer, its revocation, and that it is new; or refuse it."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from agent.core.clock import ClockTrust, stamp
from agent.core.i18n import Text, from_wire, to_wire
from agent.trust import claims
from agent.trust.claims import (
    ALONE,
    LATEST,
    LONGEST_ACCEPTANCE,
    LONGEST_STANDING,
    RECIPIENT,
    ROOT,
    WITNESS,
    Addressed,
    Dated,
    fault_of,
    kind_of,
    needs_no_clock,
    roles_for,
)
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import RECEIPT, parse_jws

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping

    from agent.trust.claims import ObjectClaims, ObjectKind, Revocation
    from agent.trust.jws import Jws, Key

TOLERANCE = {ClockTrust.TRUSTED: 60.0, ClockTrust.HOLDOVER: 120.0}
"""seconds by which two clocks may differ"""
NOT_THEIRS = "a key is revoked by its owner, by another key of its role, or by a root"
REPLAY_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    iss TEXT NOT NULL, jti TEXT NOT NULL, sha256 TEXT NOT NULL, exp INTEGER, outcome TEXT NOT NULL,
    PRIMARY KEY (iss, jti)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_exp ON seen (exp);
CREATE TABLE IF NOT EXISTS seen_pruned (one INTEGER PRIMARY KEY CHECK (one = 1), exp INTEGER);
"""
KEPT_AFTER = 86_400
"""seconds after `exp` for which a `jti` is stored"""
REVOCATION_SCHEMA = """
CREATE TABLE IF NOT EXISTS taken_back (
    what TEXT NOT NULL, key INTEGER NOT NULL, owner TEXT NOT NULL, role TEXT NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (what, key, owner, role)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Limits of a key. None: all that its role allows; empty: nothing."""

    buildings: frozenset[str] | None = None
    """ids of buildings or gateways"""
    assets: frozenset[str] | None = None
    """controls by name, or `kind:heating`"""
    kinds: frozenset[str] | None = None
    """types of objects, by typ"""

    def allows(self, typ: str, here: frozenset[str]) -> bool:
        """Whether the key may sign objects of this type for this building."""
        return (self.buildings is None or bool(self.buildings & here)) and (
            self.kinds is None or typ in self.kinds
        )

    def covers(self, control: str, equipment: str = "") -> bool:
        """Whether the key may sign objects about a control with this name or equipment."""
        return self.assets is None or control in self.assets or f"kind:{equipment}" in self.assets


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Member:
    """One key of the trust list."""

    key: Key
    name: str
    """of its owner"""
    role: str
    scope: Scope = EVERYTHING
    since: float = 0
    until: float = LATEST


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
    authentic = authenticate(raw, context)
    must_be_in_time(authentic, context)
    return authentic


def authenticate(raw: bytes, context: VerificationContext) -> Verified:
    """Verify an object's author and audience. Raises Forged.

    Its time is not checked: until `must_be_in_time` has passed it may have no effect. A copy of an
    accepted object may be answered all the same (rule O8).
    """
    compact = parse_jws(raw)
    kind = kind_of(compact.typ)
    member = _signer(compact, context)
    model = _parsed(compact, kind)
    _may_sign(member, kind, model, compact.typ, context.audience)
    _may_revoke(member, model, context.members)
    _addressed_to_us(kind, model, context.audience)
    return _verified(compact, model, raw, member.role, member.scope)


def must_be_in_time(authentic: Verified, context: VerificationContext) -> None:
    """Check that an authentic object may be accepted at this time. Raises Forged."""
    member = context.members[authentic.kid]
    _in_time(kind_of(authentic.typ), authentic.model, member, context)


def examine(raw: bytes, now: float) -> Verified:
    """Check form and dates of an object, whoever signed it, and for whichever gateway.

    Its signature is not verified, and `role` is empty. Raises Forged.
    """
    compact = parse_jws(raw)
    kind = kind_of(compact.typ)
    model = _parsed(compact, kind)
    context = VerificationContext({}, Audience("", "", None), now, ClockTrust.TRUSTED)
    _in_time(kind, model, None, context)
    return _verified(compact, model, raw, "", EVERYTHING)


def _verified(compact: Jws, model: ObjectClaims, raw: bytes, role: str, scope: Scope) -> Verified:
    return Verified(
        typ=compact.typ,
        kid=compact.kid,
        role=role,
        owner=model.iss,
        scope=scope,
        claims=compact.claims,
        model=model,
        jti=model.jti,
        iat=model.iat,
        exp=model.exp,
        sha256=compact.sha256,
        raw=raw,
    )


def must_be_signed(recipient: str, members: Iterable[Member]) -> bool:
    """Whether a trust list has a key for the receipts of a recipient (rule T35)."""
    return any((one.role, one.name) == (RECIPIENT, recipient) for one in members)


def receipt_signed_by(
    raw: bytes, recipient: str, context: VerificationContext
) -> tuple[str, bytes]:
    """Verify a signed receipt; returns the kid of its key, and the receipt. Raises Forged.

    The expiry of the trust list does not matter (rule T37).
    """
    compact = parse_jws(raw)
    if compact.typ != RECEIPT:
        raise Forged(ObjectCode.TYP, Text("it is no signed receipt"))
    member = _signer(compact, context)
    if not must_be_signed(recipient, [member]) or not member.scope.allows(
        RECEIPT, context.audience.names
    ):
        reason = Text(
            "the key of {name} is not for receipts of {recipient}",
            name=member.name,
            recipient=recipient,
        )
        raise Forged(ObjectCode.KID, reason)
    _in_its_time(member, context)
    return compact.kid, compact.payload


def _signer(compact: Jws, context: VerificationContext) -> Member:
    member = context.members.get(compact.kid)
    if member is None:
        unknown = Text("nobody in the trust list has the key {kid}", kid=compact.kid[:43])
        raise Forged(ObjectCode.KID, unknown, unknown)
    if not member.key.signed(compact.text):
        reason = Text("the key of {name} has not signed these bytes", name=member.name)
        raise Forged(ObjectCode.SIG, reason)
    if compact.kid in context.revoked:
        reason = Text("the key {kid} of {name} was revoked", kid=compact.kid, name=member.name)
        step = Text(
            "Sign it with another key of the trust list. The keys of the list: gardien trust show"
        )
        raise Forged(ObjectCode.KID, reason, f"the key {compact.kid} was revoked", step=step)
    return member


def _parsed(compact: Jws, kind: ObjectKind) -> ObjectClaims:
    try:
        return kind.model.model_validate(compact.claims)
    except ValidationError as error:
        raise Forged(
            ObjectCode.FORM,
            Text("it is not a valid {typ}: {error}", typ=compact.typ, error=fault_of(error)),
        ) from None


def _may_sign(
    member: Member, kind: ObjectKind, model: ObjectClaims, typ: str, us: Audience
) -> None:
    whose = Text("the key of {name} ({role})", name=member.name, role=member.role)
    if model.iss != member.name:
        theirs = Text("{whose} has signed in the name of {iss}", whose=whose, iss=model.iss[:40])
        raise Forged(
            ObjectCode.KID, theirs, "`iss` is not the name that the trust list gives this key"
        )
    if member.role not in roles_for(kind, model):
        reason = f"a key of the role {member.role} may not issue {typ}"
        raise Forged(
            ObjectCode.KID, Text("{whose} may not issue {typ}", whose=whose, typ=typ), reason
        )
    if isinstance(model, claims.GrantClaims):
        # the gateway as witness of a vote grants in the residents' name
        speaks_as = "residents_council" if member.role == WITNESS else member.role
        if model.role != speaks_as:
            reason = f"a key of the role {member.role} cannot grant as {model.role}"
            raise Forged(
                ObjectCode.KID,
                Text("{whose} cannot grant as {role}", whose=whose, role=model.role),
                reason,
            )
    if not member.scope.allows(typ, us.names):
        reason = f"its `scope` in the trust list does not let this key sign {typ} for this building"
        raise Forged(
            ObjectCode.KID,
            Text("{whose} is not for {typ} in this building", whose=whose, typ=typ),
            reason,
        )


def _may_revoke(member: Member, model: ObjectClaims, members: Mapping[str, Member]) -> None:
    """Check that a signer may revoke these keys: its own, of its role, or as root (rule O14)."""
    if not isinstance(model, claims.Revocation) or member.role == ROOT:
        return
    for entry in model.rev:
        other = members.get(entry.kid or "")
        # a revocation of an unknown key is kept, and its signer is checked later (rule O14)
        if other is None or other.name == member.name:
            continue
        if other.role != member.role or other.role in ALONE:
            reason = Text(
                "{name} ({role}) cannot revoke a key of {owner}",
                name=member.name,
                role=member.role,
                owner=other.name,
            )
            raise Forged(ObjectCode.KID, reason, NOT_THEIRS)


def _addressed_to_us(kind: ObjectKind, model: ObjectClaims, us: Audience) -> None:
    if model.aud is None and kind.addressed is Addressed.ANY:
        return
    if model.aud == us.exact or (kind.addressed is not Addressed.STATE and model.aud in us.names):
        return
    earlier = str(model.aud).startswith(f"{us.gateway}.")
    whom = Text("an earlier state of this gateway") if earlier else repr(str(model.aud)[:60])
    reason = Text("it is addressed to {whom}; this is {audience}", whom=whom, audience=us.exact)
    step = Text(
        "If it is meant for this gateway, sign it again with: --aud {audience}", audience=us.exact
    )
    raise Forged(ObjectCode.AUD, reason, step=step)


def _in_time(
    kind: ObjectKind, model: ObjectClaims, member: Member | None, context: VerificationContext
) -> None:
    _limited(kind, model)
    if needs_no_clock(model):
        return
    if context.clock is ClockTrust.UNTRUSTED:
        raise Forged(
            ObjectCode.CLOCK,
            Text("the clock of this gateway is not trusted at the moment: send it again"),
        )
    now, slack = context.now, TOLERANCE[context.clock]
    if kind.widens and context.expires is not None and now > context.expires:
        reason = Text(
            "the trust list expired on {expired}, so no new right is accepted",
            expired=stamp(context.expires),
        )
        step = Text("Have its roots renew the list, then: gardien trust accept FILE")
        raise Forged(ObjectCode.EXPIRED, reason, step=step)
    if member:
        _in_its_time(member, context)
    if model.iat > now + slack:
        raise Forged(
            ObjectCode.NOT_YET,
            Text("it was made on {made}, and it is {now}", made=stamp(model.iat), now=stamp(now)),
        )
    if kind.dated is Dated.ACCEPTANCE and model.nbf is not None and model.nbf > now + slack:
        reason = Text(
            "it is valid from {begin}, and it is {now}", begin=stamp(model.nbf), now=stamp(now)
        )
        raise Forged(ObjectCode.NOT_YET, reason)
    if kind.dated is not Dated.RECORD and model.exp is not None and model.exp < now - slack:
        reason = Text(
            "it expired on {expired}, and it is {now}", expired=stamp(model.exp), now=stamp(now)
        )
        step = Text(
            "It permits nothing any more, and everything else stays in force. Ask {issuer} for a"
            " new one",
            issuer=model.iss,
        )
        raise Forged(ObjectCode.EXPIRED, reason, step=step)


def _in_its_time(member: Member, context: VerificationContext) -> None:
    slack = TOLERANCE.get(context.clock)
    if slack is None or member.since - slack <= context.now <= member.until + slack:
        return
    since, until = stamp(member.since), stamp(member.until)
    for_sender = f"the trust list lets this key sign from {since} to {until} only"
    detail = Text(
        "the key of {name} is valid from {since} to {until} only",
        name=member.name,
        since=since,
        until=until,
    )
    raise Forged(ObjectCode.KID, detail, for_sender)


def _limited(kind: ObjectKind, model: ObjectClaims) -> None:
    if model.exp is None:
        return
    begin = model.iat if model.nbf is None or kind.dated is Dated.ACCEPTANCE else model.nbf
    if model.exp <= begin or (model.nbf is not None and model.exp <= model.nbf):
        raise Forged(ObjectCode.FORM, Text("it ends before it begins"))
    if kind.dated is Dated.ACCEPTANCE and model.exp - model.iat > LONGEST_ACCEPTANCE:
        raise Forged(ObjectCode.FORM, Text("`exp` is more than 48 hours after `iat`"))
    if kind.dated is Dated.STANDING and model.exp - begin > LONGEST_STANDING:
        raise Forged(ObjectCode.FORM, Text("it is valid for more than 24 months"))


def earlier_answer(db: sqlite3.Connection, verified: Verified) -> dict[str, Any] | None:
    """The first outcome of exactly these bytes; None: they were not accepted before."""
    seen = db.execute(
        "SELECT outcome FROM seen WHERE iss = ? AND jti = ? AND sha256 = ?",
        (verified.owner, verified.jti, verified.sha256),
    ).fetchone()
    if seen is None:
        return None
    outcome: dict[str, Any] = json.loads(seen[0], object_hook=from_wire)
    return outcome


def first_answer(db: sqlite3.Connection, verified: Verified) -> dict[str, Any] | None:
    """The first outcome of exactly these bytes; None: they are new.

    Raises Forged E_REPLAY if their `jti` was used for other bytes, or may have been.
    """
    answer = earlier_answer(db, verified)
    if answer is not None:
        return answer
    named = (verified.owner, verified.jti)
    if db.execute("SELECT 1 FROM seen WHERE iss = ? AND jti = ?", named).fetchone():
        reason = Text(
            "{issuer} has used the jti {jti} before", issuer=verified.owner, jti=verified.jti
        )
        raise Forged(ObjectCode.REPLAY, reason)
    _not_too_old(db, verified)
    return None


def _not_too_old(db: sqlite3.Connection, verified: Verified) -> None:
    pruned = db.execute("SELECT exp FROM seen_pruned").fetchone()
    # its jti may have been pruned, and then it would take effect a second time
    if pruned is not None and verified.exp is not None and verified.exp <= pruned[0]:
        reason = "it is older than the `jti` values that this gateway remembers"
        raise Forged(
            ObjectCode.REPLAY,
            Text("{jti} is older than the jti values remembered here", jti=verified.jti),
            reason,
        )


def keep_answer(db: sqlite3.Connection, verified: Verified, outcome: dict[str, Any]) -> None:
    """Store the `jti` and outcome of an accepted object.

    Raises sqlite3.IntegrityError if the `jti` was stored meanwhile.
    """
    db.execute(
        "INSERT INTO seen (iss, jti, sha256, exp, outcome) VALUES (?, ?, ?, ?, ?)",
        (verified.owner, verified.jti, verified.sha256, verified.exp, json.dumps(to_wire(outcome))),
    )


def forget_object(db: sqlite3.Connection, verified: Verified) -> None:
    """Remove the entry of exactly these bytes."""
    db.execute(
        "DELETE FROM seen WHERE iss = ? AND jti = ? AND sha256 = ?",
        (verified.owner, verified.jti, verified.sha256),
    )


def prune_used(db: sqlite3.Connection, now: float) -> int:
    """Delete expired entries; returns how many. Call it only while the clock is trusted.

    The highest deleted `exp` is stored, and objects that expired by then are refused as replays.
    Entries without `exp` are kept for ever.
    """
    before = int(now) - KEPT_AFTER
    highest = db.execute("SELECT max(exp) FROM seen WHERE exp < ?", (before,)).fetchone()[0]
    if highest is None:
        return 0
    # never lower: objects whose ids were pruned before would be accepted again
    db.execute(
        "INSERT INTO seen_pruned VALUES (1, ?)"
        " ON CONFLICT (one) DO UPDATE SET exp = max(exp, excluded.exp)",
        (highest,),
    )
    return db.execute("DELETE FROM seen WHERE exp < ?", (before,)).rowcount


@dataclass(frozen=True, slots=True)
class TakenBack:
    """One revoked grant or key, with the signer of the revocation."""

    what: str
    """the `jti` of a grant, or a kid"""
    key: bool
    owner: str
    """owner of the key that signed the revocation"""
    role: str
    at: float


def revoked_by(verified: Verified, revocation: Revocation) -> list[TakenBack]:
    """The grants and keys that a revocation names."""
    return [
        TakenBack(
            one.kid or one.jti or "", one.kid is not None, verified.owner, verified.role,
            float(revocation.iat if one.at is None else one.at),
        )
        for one in revocation.rev
    ]  # fmt: skip


def may_end(owner: str, role: str, whose: str, of: str) -> bool:
    """Whether `owner` in `role` may revoke what `whose` signed in the role `of`.

    Allowed are the signer itself, another key of the same role (except occupants and recipients,
    who act only for themselves) and a root key. A root key is changed by a trust list only.
    """
    if of == ROOT:
        return False
    return role == ROOT or owner == whose or (role == of and of not in ALONE)


class Revocations:
    """All revocations, in memory."""

    def __init__(self, some: Iterable[TakenBack] = ()) -> None:
        self._of: dict[tuple[str, bool], list[TakenBack]] = {}
        self.add(some)

    @classmethod
    def read(cls, db: sqlite3.Connection) -> Self:
        """Read the stored revocations."""
        rows = db.execute("SELECT what, key, owner, role, at FROM taken_back").fetchall()
        return cls(TakenBack(what, bool(key), *rest) for what, key, *rest in rows)

    def add(self, some: Iterable[TakenBack]) -> None:
        """Add revocations."""
        for revoked in some:
            self._of.setdefault((revoked.what, revoked.key), []).append(revoked)

    def all(self) -> list[TakenBack]:
        """All revocations."""
        return [one for some in self._of.values() for one in some]

    def names(self) -> frozenset[str]:
        """The ids and kids that any revocation names, whether it applies or not."""
        return frozenset(what for what, _ in self._of)

    def when(self, what: str, whose: str, of: str, *, key: bool = False) -> float | None:
        """Time since which an object of `whose` in the role `of` is revoked; None: it is valid."""
        some = self._of.get((what, key), ())
        # others may have revoked it in advance: that must have no effect (rule O14)
        hits = [one.at for one in some if may_end(one.owner, one.role, whose, of)]
        return min(hits, default=None)

    def keys_of(self, owner: str, role: str) -> frozenset[str]:
        """Kids that are revoked if they are, or were, an owner's in a role."""
        named = (what for what, key in self._of if key)
        return frozenset(kid for kid in named if self.when(kid, owner, role, key=True) is not None)

    def keys(self, members: Mapping[str, Member]) -> frozenset[str]:
        """Kids of these members' keys that are revoked."""
        named = (kid for kid, key in self._of if key and kid in members)
        return frozenset(
            kid
            for kid in named
            if self.when(kid, members[kid].name, members[kid].role, key=True) is not None
        )


def keep_revocations(db: sqlite3.Connection, some: Iterable[TakenBack]) -> None:
    """Store revocations for ever; stored ones are not changed."""
    db.executemany("INSERT OR IGNORE INTO taken_back VALUES (?, ?, ?, ?, ?)", map(astuple, some))
