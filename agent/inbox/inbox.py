"""One signed object at a time: judged, done once, written down (rules O1, O8).

What it says of dwellings goes to the registry, of time to the clock, of who may sign to the book;
orders and grants go to whoever took a seat for their kind. A refusal is one exception, `Forged`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.buffer.database import Damaged
from agent.clock import ClockTrust, stamp
from agent.errors import NotRecorded, NotYet, Refused, SpoolFull
from agent.inbox.object_status import ObjectStatus
from agent.inbox.registry_adapter import contradiction
from agent.log_fields import LogEvent, fields
from agent.trust import claims, replay, revocations, set_aside, trust_list
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import MAP, take_apart
from agent.trust.object_types import REVOKES, ROOT
from agent.trust.verify import NOT_THEIRS, Audience, VerificationContext, Verified, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.clock import Clock
    from agent.inbox.registry_adapter import RegistryAdapter
    from agent.trust.signer import Member
    from agent.trust.store import TrustStore
    from agent.trust.trust_list import TrustList

log = logging.getLogger(__name__)

Seat = Callable[[Verified], Awaitable[dict[str, Any]]]
"""takes a verified object, does what it says once, and answers what became of it; it keeps its own
account of numbers used (authority/replay.py). Raises Forged or Refused"""

MOST_MARKS = 20
"""that are told of one refused consent, the last ones"""
REFUSALS_AN_HOUR = 60
"""refusals of which senders are told: a flood of forged objects must not fill the disk"""
UNSIGNED = {ObjectCode.FORM, ObjectCode.SIG, ObjectCode.KID, ObjectCode.INTERNAL}
"""codes of objects of which it may not be known who signed them"""
HOUR = 3600.0
AHEAD = 120.0
"""seconds by which the clock of who signs may be before ours"""
ORDER = "dr-command+jwt"
BY_HAND = "hand"
"""how a person brings an object"""
NO_ROOM = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.EACCES, errno.EPERM, errno.EBUSY, errno.EAGAIN,
}  # fmt: skip
"""errors of a disk or machine that takes nothing now: whatever the object, it may pass later"""
NO_THREAD = (RuntimeError, "can't start new thread")
"""how Python says that the machine gives no thread now"""
SQLITE_NO_ROOM = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip
SQLITE_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Inbox:
    """See the module."""

    def __init__(  # noqa: PLR0913, PLR0917 -- each a part of its own
        self,
        book: TrustStore,
        papers: RegistryAdapter,
        clock: Clock,
        audience: Audience,
        audit: Callable[[str, Mapping[str, Any]], None],
        least: int = 2,
        pinned: frozenset[str] = frozenset(),
        witness: Member | None = None,
    ) -> None:
        self.book, self.papers, self.clock = book, papers, clock
        self.audience, self.audit = audience, audit
        self.least, self.pinned, self.witness = least, pinned, witness
        self.told = ObjectStatus(book, papers.registry.mark)
        self.failing: Callable[[], str] = str
        """why the disk takes nothing now, in words; empty: it does"""
        self.seats: dict[str, Seat] = {}
        """by typ: who else takes objects"""
        self._one_at_a_time = asyncio.Lock()
        self._refused_at: list[float] = []
        self._pruned = 0.0

    def known(self) -> VerificationContext:
        """Against what an object is judged now."""
        standing = self.book.trust
        members: dict[str, Member] = dict(standing.members) if standing else {}
        if self.witness is not None:
            members[self.witness.key.kid] = self.witness
        return VerificationContext(
            members=members,
            audience=self.audience,
            now=self.clock.now(),
            clock=self.clock.trust,
            revoked=self.book.revoked | self.book.taken.keys(members),
            expires=standing.expires if standing else None,
        )

    async def accept(self, raw: bytes, via: str) -> dict[str, Any]:
        """Take an object that came by `via`, byte for byte as it came.

        The answer says its `typ`, `jti` and `outcome`, and whether it had come before. Raises
        Forged, and then nothing was done; NotRecorded where the disk did not take it: it must come
        again.
        """
        try:
            answer = await self._evaluate(raw, via)
        except Forged as error:
            self._refused(raw, via, error)
            raise
        if self.book.volatile:
            raise NotRecorded(f"{answer['outcome']}: in force, and not recorded yet")
        self._tell(raw, via, answer)
        return answer

    async def _evaluate(self, raw: bytes, via: str) -> dict[str, Any]:
        """Take one object; a fault of our own code becomes E_INTERNAL, and stops this object only.

        Raises Forged, NotRecorded; Damaged and what else says that the store itself is broken.
        """
        sha256 = hashlib.sha256(raw.strip()).hexdigest()
        self.book.must_be_open()
        try:
            before = set_aside.holds(self.book.db, sha256)
            if before and via != BY_HAND:
                raise Forged(ObjectCode.INTERNAL, "it was set aside when it came first")
            if raw.lstrip()[:1] == b"{":
                answer = self.renew_trust(raw)
            else:
                async with self._one_at_a_time:
                    answer = await self._take(raw, via)
            if before:
                with self.book.transaction() as db:
                    set_aside.drop(db, sha256)
        except (Forged, NotRecorded, Damaged):
            raise
        except Refused as error:
            raise Forged(ObjectCode.REQUEST, str(error)) from error
        except Exception as error:
            if store_is_broken(error):
                raise
            if _not_stored(error):
                raise NotRecorded(f"a signed object could not be recorded: {error}") from error
            log.exception(
                "a signed object that came by %s could not be evaluated",
                via,
                extra=fields(
                    LogEvent.OBJECT_FAILED, uplink=_uplink_of(via), code=ObjectCode.INTERNAL
                ),
            )
            self._set_aside(raw, via, error, sha256)
            raise Forged(ObjectCode.INTERNAL, f"{type(error).__name__}: {error}"[:300]) from error
        return answer

    def _set_aside(self, raw: bytes, via: str, error: Exception, sha256: str) -> None:
        """Keep what could not be evaluated, so that it is not tried again. Raises NotRecorded."""
        what = f"{type(error).__name__}: {error}"
        with self.book.transaction() as db:
            set_aside.keep(db, sha256, (via, raw), what, self.clock.now())

    async def _take(self, raw: bytes, via: str) -> dict[str, Any]:
        try:
            verified = replace(verify(raw, self.known()), via=via)
        except Forged as error:
            if error.code is ObjectCode.CLOCK and _for_the_registry(raw):
                return self._wait_for_the_clock(raw, via)
            raise
        if (why := self.failing()) and _allows(verified.said):
            raise Forged(ObjectCode.STORAGE, why)
        if verified.typ in self.seats and verified.typ != REVOKES:
            answer = await self.seats[verified.typ](verified)
            return {"typ": verified.typ, "jti": verified.jti, "outcome": "taken", **answer}
        first = replay.first(self.book.db, verified)
        if first is not None:
            since = self.papers.since(verified, self.clock.now())
            return first | {"again": True} | ({"outcome": since} if since else {})
        return await self._do(verified, via)

    async def _do(self, verified: Verified, via: str) -> dict[str, Any]:
        said = verified.said
        match said:
            case claims.Revocation():
                return await self._revoke(verified, said)
            case claims.Time():
                outcome = self.clock.take_signed_time(said.iat)
            case (
                claims.ConsentClaims()
                | claims.OccupancySaid()
                | claims.DutyClaims()
                | claims.PlaceMap()
            ):
                return self._record(verified, via)
            case _:
                raise Forged(ObjectCode.TYP, f"nobody here takes {verified.typ}: is it configured?")
        return self._settle(verified, via, outcome)

    def preview(self, raw: bytes) -> dict[str, Any]:
        """What a place map would change here, if it came now; nothing is changed. Raises Forged."""
        verified = verify(raw, self.known())
        if not isinstance(verified.said, claims.PlaceMap):
            raise Refused(f"a preview shows what a place map brings; this is {verified.typ}")
        answer = {"typ": verified.typ, "jti": verified.jti, "iss": verified.owner}
        if replay.first(self.book.db, verified) is not None:
            return answer | {"again": True, "places": [], "names": [], "unchanged": 0}
        self.book.must_be_newer(verified, verified.said.ver)
        try:
            return answer | self.papers.preview(verified, self.clock.now())
        except NotRecorded:
            raise
        except Refused as error:
            raise contradiction(error, verified, self.papers.policy) from error

    def _record(self, verified: Verified, via: str) -> dict[str, Any]:
        """Put it into the registry; what hangs on something unknown yet waits for it."""
        now = self.clock.now()
        if isinstance(verified.said, claims.PlaceMap):
            self.book.must_be_newer(verified, verified.said.ver)
        try:
            if self.papers.known(verified):
                outcome = self.papers.since(verified, now) or "recorded before"
            else:
                outcome = self.papers.record(verified, now)
        except NotYet as error:
            named = (verified.typ, verified.jti)
            came = (via, verified.raw)
            if self.book.wait(verified.sha256, named, came, str(error), now):
                self.audit("object.waits", _ids(verified, via))
            return _answer(verified, f"waits: {error}")
        except NotRecorded:
            raise
        except Refused as error:
            raise contradiction(error, verified, self.papers.policy) from error
        return self._settle(verified, via, outcome)

    def _settle(self, verified: Verified, via: str, outcome: str) -> dict[str, Any]:
        answer = _answer(verified, outcome)
        with self.book.transaction() as db:
            replay.keep(db, verified, answer)
            if isinstance(verified.said, claims.PlaceMap):
                self.book.note_version(verified, verified.said.ver)
            db.execute("DELETE FROM waiting WHERE sha256 = ?", (verified.sha256,))
            if self.clock.trust is ClockTrust.TRUSTED and self.clock.now() - self._pruned > HOUR:
                replay.prune(db, self.clock.now())
                self._pruned = self.clock.now()
        self.audit("object.accepted", _ids(verified, via))
        return answer

    async def _revoke(self, verified: Verified, said: claims.Revocation) -> dict[str, Any]:
        """Keys count no more from now on; grants and objects are for the seat that holds them.

        What is not known yet is kept with its signer, and hits only what that one could end.
        """
        self.book.must_be_newer(verified, said.ver)
        kids = [one.kid for one in said.rev if one.kid is not None]
        members = self.known().members
        for kid in kids:
            _may_revoke(verified, kid, members)
        self.book.taken.add(revocations.said_by(verified, said))  # also where it cannot be kept
        seat = self.seats.get(REVOKES)
        answer = _answer(verified, "revoked")
        if seat is not None:
            answer |= await seat(verified)
        now = int(self.clock.now())
        with self.book.transaction() as db:
            self.book.note_version(verified, said.ver)
            self.book.take_back(revocations.said_by(verified, said))
            for kid in members.keys() & kids:
                db.execute("INSERT OR IGNORE INTO revoked VALUES (?, ?)", (kid, now))
            replay.keep(db, verified, answer)
        self.audit("object.accepted", _ids(verified, "") | {"keys": kids})
        return answer

    def consider(self, new: TrustList) -> None:
        """See whether a list could stand, but for a person's comparing its roots. Raises Forged."""
        now = self.clock.now()
        trusted = self.clock.trust is not ClockTrust.UNTRUSTED
        trust_list.admit(new, self.book.trust, self.least, now if trusted else None)
        if trusted and new.made > now + AHEAD:
            raise Forged(
                ObjectCode.NOT_YET, f"it was made on {stamp(new.made)}, and it is {stamp(now)}"
            )
        if self.book.trust is None and not trust_list.pinned(new, self.pinned):
            words = "its roots are not those that the configuration names"
            raise Forged(ObjectCode.KID, words, words)

    def renew_trust(self, raw: bytes, confirmed: str | None = None) -> dict[str, Any]:
        """Let a trust list take the place of the one that stands.

        The first one only where a person here has compared its roots: `confirmed` is its sha256.
        Raises Forged.
        """
        new, standing = trust_list.read(raw), self.book.trust
        answer = {"typ": trust_list.TYP, "ver": new.ver, "outcome": "the trust list stands"}
        if standing is not None and new.sha256 == standing.sha256:
            return answer | {"again": True}
        self.consider(new)
        if standing is None and confirmed != new.sha256:
            words = (
                "there is no trust list here yet, and the first is accepted by a person at the"
                " gateway only: gardien trust accept FILE"
            )
            raise Forged(ObjectCode.KID, words, words)
        self.book.install(new, self.clock.now())
        self.clock.at_least(new.made)
        self.audit(
            "trust", {"ver": new.ver, "sha256": new.sha256, "roots": sorted(new.roots),
                      "threshold": new.threshold, "keys": sorted(new.members)},
        )  # fmt: skip
        log.info(
            "trust list version %d stands: %d keys", new.ver, len(new.members),
            extra=fields(LogEvent.TRUST_LIST_CHANGED),
        )  # fmt: skip
        return answer

    async def again(self) -> int:
        """Try once more what waits; how much waits no longer."""
        if self.clock.trust is ClockTrust.UNTRUSTED:
            return 0
        waiting = self.book.waiting()
        try:
            for typ, jti in self.book.give_up(self.clock.now()):
                log.warning(
                    "%s %s has waited for 60 days and is forgotten", typ, jti,
                    extra=fields(LogEvent.OBJECT_EXPIRED),
                )  # fmt: skip
                self.audit("object.forgotten", {"typ": typ, "jti": jti})
            waiting = self.book.waiting()
            for sha256, via, raw in waiting:
                try:
                    self._tell(raw, via, await self._evaluate(raw, via))
                except Forged as error:
                    if error.code is ObjectCode.STORAGE:  # it waits on
                        continue
                    with self.book.transaction():
                        self.book.no_longer(sha256)
                    self._refused(raw, via, error)
        except NotRecorded as error:
            log.warning(
                "signed objects that wait are tried again later: %s", error,
                extra=fields(LogEvent.OBJECT_DELAYED),
            )  # fmt: skip
        return len(waiting) - len(self.book.waiting())

    def _wait_for_the_clock(self, raw: bytes, via: str) -> dict[str, Any]:
        """Keep a rightly signed fact until it can be dated."""
        compact, why = take_apart(raw), "the clock cannot be relied on yet"
        named = (compact.typ, str(compact.claims["jti"]))
        self.book.wait(compact.sha256, named, (via, raw), why, self.clock.now())
        return {"typ": named[0], "jti": named[1], "outcome": f"waits: {why}"}

    def _refused(self, raw: bytes, via: str, error: Forged) -> None:
        """Write a refusal down, and let its sender know; of a flood only the first hear of it."""
        log.info(
            "an object that came by %s is refused: %s", via, error,
            extra=fields(LogEvent.OBJECT_REFUSED, uplink=_uplink_of(via), code=error.code),
        )  # fmt: skip
        body = {"code": error.code, "sha256": hashlib.sha256(raw).hexdigest(), "via": via}
        if kid := self._signer(raw, error):
            body["kid"] = kid
        self.audit("object.refused", body)
        if self._flooded():
            return
        self._refused_at.append(self.clock.steady())
        marks = f" {','.join(error.marks[-MOST_MARKS:])}" if error.marks else ""
        how = f"REJECTED {error.code}{marks or _conflicts(raw, error)}"
        self._keep_told(raw, via, how, words=error.sentence)

    def _signer(self, raw: bytes, error: Forged) -> str:
        """The key that a refused object is counted for; empty where nobody we know has signed."""
        if error.code in UNSIGNED:
            return ""
        try:
            kid = take_apart(raw).kid
        except Forged:
            return ""
        return kid if kid in self.known().members else ""

    def _flooded(self) -> bool:
        """Whether so much was refused in the last hour that nobody is told of more."""
        now = self.clock.steady()
        self._refused_at = [at for at in self._refused_at if now - at < HOUR]
        return len(self._refused_at) >= REFUSALS_AN_HOUR

    def _tell(self, raw: bytes, via: str, answer: Mapping[str, Any]) -> None:
        """Let its sender hear of it; orders are told of control by control, by the desk."""
        if answer["typ"] == ORDER:
            return
        state = "WAITING" if str(answer["outcome"]).startswith("waits") else "ACCEPTED"
        self._keep_told(raw, via, state, verified=True)

    def _keep_told(
        self, raw: bytes, via: str, how: str, *, verified: bool = False, words: str = ""
    ) -> None:
        sha256 = hashlib.sha256(raw.strip()).hexdigest()
        try:
            one = take_apart(raw)
        except Exception:  # noqa: BLE001 -- it is told also of what our own code cannot take apart
            owner, what = "", ("", "", sha256)
        else:
            member = self.known().members.get(one.kid) if verified else None
            owner = member.name if member else ""
            what = (one.typ[:40], str(one.claims.get("jti", ""))[:64], one.sha256)
        try:
            self.told.add(self.clock.now(), (via, owner), what, how, words)
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "what became of an object is not told: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, uplink=_uplink_of(via)),
            )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """How it stands with trust, for people."""
        standing = self.book.trust
        return {
            "audience": self.audience.exact,
            "version": standing.ver if standing else None,
            "expires": stamp(standing.expires) if standing else None,
            "alarm": self._alarm(standing),
            "waiting": len(self.book.waiting()),
            "set_aside": set_aside.recent(self.book.db, self.clock.now()),
        }

    def _alarm(self, standing: TrustList | None) -> str:
        if standing is None or self.clock.trust is ClockTrust.UNTRUSTED:
            return ""
        left = standing.expires - self.clock.now()
        if left < 0:
            return "the trust list has expired: no new order or grant is taken"
        if left < trust_list.ALARM:
            return f"the trust list expires in {int(left // 86_400)} days: have it renewed"
        return ""


def _may_revoke(verified: Verified, kid: str, members: Mapping[str, Member]) -> None:
    """By who may end what its owner says; one that is not known yet waits. Raises Forged."""
    member = members.get(kid)
    if member is None or revocations.may_end(
        verified.owner, verified.role, member.name, member.role
    ):
        return
    if member.role == ROOT:
        words = "a root key is changed by a trust list only"
        raise Forged(ObjectCode.KID, words, words)
    words = f"{verified.owner} cannot take a key from {member.name}"
    raise Forged(ObjectCode.KID, words, NOT_THEIRS)


def _not_stored(error: Exception) -> bool:
    """Whether the disk or the machine, and not the object, is why it was not taken."""
    if isinstance(error, MemoryError) or (type(error), str(error)) == NO_THREAD:
        return True
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in SQLITE_NO_ROOM
    return isinstance(error, SpoolFull) or (isinstance(error, OSError) and error.errno in NO_ROOM)


def store_is_broken(error: Exception) -> bool:
    """Whether a file must be set aside, as the next start does."""
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, sqlite3.Error) and code & 0xFF in SQLITE_DAMAGE


def _uplink_of(via: str) -> str:
    """The uplink that brought an object; empty where a person brought it."""
    return via if via != BY_HAND else ""


def _answer(verified: Verified, outcome: str) -> dict[str, Any]:
    return {"typ": verified.typ, "jti": verified.jti, "outcome": outcome}


def _ids(verified: Verified, via: str) -> dict[str, Any]:
    return {
        "typ": verified.typ, "jti": verified.jti, "kid": verified.kid, "via": via,
        "sha256": verified.sha256,
    }  # fmt: skip


def _conflicts(raw: bytes, error: Forged) -> str:
    """The lines of a rightly signed place map that contradict what is recorded, for its sender."""
    if error.code is not ObjectCode.REGISTRY or (one := take_apart(raw)).typ != MAP:
        return ""
    where = re.escape(str(one.claims["jti"]))
    lines = re.findall(rf"(?<!\S){where}:([0-9]+): ", str(error))
    return f" {','.join(lines)}" if lines else ""


def _allows(said: object) -> bool:
    """Whether something may leave, or be kept, by it that might not without it."""
    match said:
        case claims.ConsentClaims(status=status) | claims.DutyClaims(status=status):
            return status == "given"
        case claims.OccupancySaid(event=event):
            return event != "move_out"
    return isinstance(said, claims.PlaceMap)


def _for_the_registry(raw: bytes) -> bool:
    return take_apart(raw).typ in {"consent+jwt", "occupancy+jwt", "duty+jwt", "place-map+jws"}
