"""Accept or refuse signed objects, one at a time, and carry each out once (rules O1, O8).

Facts about dwellings go to the registry, the time to the clock, trust lists and revoked keys to the
trust store. Other types go to their registered handler. A refusal is the exception `Forged`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import re
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agent.buffer.database import Damaged
from agent.core.clock import ClockTrust, monotonic, stamp
from agent.core.errors import NotRecorded, NotYet, Refused, SpoolFull
from agent.core.i18n import N_, Text, text_of
from agent.core.log_fields import LogEvent, fields
from agent.core.storage import is_damage
from agent.inbox.registry_adapter import RECORDED_BEFORE, contradiction
from agent.trust import claims, store, trust_list
from agent.trust.claims import REVOKES, ROOT
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import MAP, parse_jws
from agent.trust.verify import (
    NOT_THEIRS,
    Audience,
    VerificationContext,
    Verified,
    authenticate,
    earlier_answer,
    first_answer,
    keep_answer,
    may_end,
    must_be_in_time,
    prune_used,
    revoked_by,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.clock import Clock
    from agent.inbox.registry_adapter import RegistryAdapter
    from agent.registry.records import ConsentMark
    from agent.trust.store import TrustStore
    from agent.trust.trust_list import TrustList
    from agent.trust.verify import Member

log = logging.getLogger(__name__)

HERE = "the building"

LATEST = 500
"""entries that are kept for recipients who have not received them yet"""
Handler = Callable[[Verified], Awaitable[dict[str, Any]]]
"""carries out a verified object once and returns its outcome; it stores used ids itself
(agent/trust/verify.py). Raises Forged or Refused"""
Earlier = Callable[[Verified], Awaitable[dict[str, Any] | None]]
"""the answer that a handler gave to exactly these bytes; None: it has not accepted them. Raises
Forged if that answer no longer applies
"""

MOST_MARKS = 20
"""marks that the sender of a refused consent gets, the latest ones"""
REFUSALS_AN_HOUR = 60
"""refusals that are reported to senders: a flood of forged objects must not fill the disk"""
UNSIGNED = {ObjectCode.FORM, ObjectCode.SIG, ObjectCode.KID, ObjectCode.INTERNAL}
"""codes of objects whose signer may be unknown"""
HOUR = 3600.0
AHEAD = 120.0
"""seconds by which the signer's clock may be ahead of ours"""
ORDER, TIME = "dr-command+jwt", "time+jwt"
BY_HAND = "hand"
WAITS = N_("waits: {why}")
"""way of an object that a person submits"""
NO_ROOM = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.EACCES, errno.EPERM, errno.EBUSY, errno.EAGAIN,
}  # fmt: skip
"""errors of the disk or the machine, not of the object: it may be accepted later"""
NO_THREAD = (RuntimeError, "can't start new thread")
"""Python's error if the machine can start no thread now"""
SQLITE_NO_ROOM = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip


if TYPE_CHECKING:
    Marked = Callable[[str], ConsentMark | None]


@dataclass(frozen=True)
class StatusEntry:
    """The status of one object."""

    n: int
    at: int
    via: str
    owner: str
    """owner of the key that signed it; empty: not verified"""
    typ: str
    jti: str
    sha256: str
    state: str
    code: str
    """of a refusal; after a space, the contradicting lines of a place map (`E_REGISTRY 3,17`) or
    the marks that a consent does not take into account
    """
    sentence: str = ""
    """of a refusal: the reason and what to do"""

    # made once: a recipient may have hundreds, and its directory is compared again and again
    @cached_property
    def key(self) -> str:
        """Its key in a directory."""
        return f"outcomes/o{self.n}-{self.at}"

    @cached_property
    def _members(self) -> dict[str, Any]:
        """What any recipient gets."""
        members: dict[str, Any] = {
            "id": f"o{self.n}-{self.at}", "typ": self.typ, "jti": self.jti, "sha256": self.sha256,
            "state": self.state, "code": self.code.partition(" ")[0], "at": stamp(self.at),
        }  # fmt: skip
        return {name: value for name, value in members.items() if value}

    def item(self, recipient: str, mark: Marked) -> dict[str, Any]:
        """The entry for a recipient, with only those marks that concern it."""
        code, _, about = self.code.partition(" ")
        if not about and not self.sentence:
            return self._members
        marks = about if code in {ObjectCode.AFTER, ObjectCode.REVOKED} else ""
        named = filter(None, map(mark, marks.split(",")))
        more = {
            "words": self.sentence,
            "conflicts": [] if marks else [int(line) for line in about.split(",") if line],
            "marks": [
                {"mark": one.id, "cause": one.cause, "at": stamp(one.word.when), "by": _by(one)}
                for one in named
                if one.recipient in (None, recipient)
            ],
        }
        return self._members | {name: value for name, value in more.items() if value}


def _by(mark: ConsentMark) -> str:
    """The author of a withdrawal: an issuer, or HERE for people in the building."""
    return mark.word.who if mark.number else HERE


class ObjectStatus:
    """The latest entries, in the trust store. `mark` returns a consent mark by its id."""

    def __init__(self, store: TrustStore, mark: Marked) -> None:
        self._store, self._mark = store, mark
        # sentences have their own table, because an earlier version reads every column of `told`
        rows = store.db.execute(
            "SELECT told.*, coalesce(words, '') FROM told LEFT JOIN told_words USING (n) ORDER BY n"
        )
        self._latest = deque((StatusEntry(*row) for row in rows), maxlen=LATEST)
        self._unstored = 0

    def add(
        self,
        at: float,
        came: tuple[str, str],
        what: tuple[str, str, str],
        how: str,
        sentence: str = "",
    ) -> None:
        """Store an entry, unless these bytes have the same status already.

        `came`: way and signer; `what`: typ, jti, sha256; `how`: a state, or `REJECTED`, a space
        and the code; `sentence`: the sentence for the code.
        """
        state, _, code = how.partition(" ")
        earlier = (one for one in reversed(self._latest) if one.sha256 == what[2])
        if any((one.via, one.state, one.code) == (came[0], state, code) for one in earlier):
            return
        values = (int(at), *came, *what, state, code)
        try:
            n = self._insert(values, sentence)
        except NotRecorded as error:  # the sender still gets it, until the next start
            log.warning(
                "the status of an object is in memory only: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN),
            )  # fmt: skip
            # numbers on the disk are positive: two entries must not have one key in the directory
            self._unstored -= 1
            n = self._unstored
        self._latest.append(StatusEntry(n, *values, sentence))

    def _insert(self, values: tuple[object, ...], sentence: str) -> int:
        with self._store.transaction() as db:
            n = db.execute(
                "INSERT INTO told (at, via, owner, typ, jti, sha256, state, code)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values,
            ).lastrowid  # fmt: skip
            if sentence:
                db.execute("INSERT OR REPLACE INTO told_words VALUES (?, ?)", (n, sentence))
            db.execute("DELETE FROM told WHERE n <= ?", ((n or 0) - LATEST,))
            db.execute("DELETE FROM told_words WHERE n <= ?", ((n or 0) - LATEST,))
        return n or 0

    def to(
        self, uplink: str, recipient: str, report: Callable[[], dict[str, Any]] = dict
    ) -> dict[str, dict[str, Any]]:
        """Entries for one recipient, by their keys in its directory.

        `report` returns how places and meters match now. It is added to the latest accepted place
        map, for its sender or signer.
        """
        mine = self._of(uplink, recipient)
        items = {one.key: one.item(recipient, self._mark) for one in mine}
        maps = [one for one in self._latest if (one.typ, one.state) == (MAP, "ACCEPTED")]
        if maps and maps[-1] in mine:
            items[maps[-1].key] = {**items[maps[-1].key], "report": report()}
        return items

    def urgent(self, uplink: str, recipient: str) -> frozenset[str]:
        """The keys of these entries, without those of accepted times: a platform may send one each
        minute as a heartbeat, and that must not make a batch each minute.
        """
        entries = self._of(uplink, recipient)
        return frozenset(one.key for one in entries if (one.typ, one.state) != (TIME, "ACCEPTED"))

    def _of(self, uplink: str, recipient: str) -> list[StatusEntry]:
        return [one for one in self._latest if one.via == uplink or one.owner == recipient]


class Inbox:
    """The inbox of one gateway."""

    def __init__(  # noqa: PLR0913, PLR0917 -- each a part of its own
        self,
        trust_store: TrustStore,
        registry_adapter: RegistryAdapter,
        clock: Clock,
        audience: Audience,
        audit: Callable[[str, Mapping[str, Any]], None],
        least: int = 2,
        pinned: frozenset[str] = frozenset(),
        witness: Member | None = None,
    ) -> None:
        self.trust_store, self.registry_adapter, self.clock = trust_store, registry_adapter, clock
        self.audience, self.audit = audience, audit
        self.least, self.pinned, self.witness = least, pinned, witness
        self.object_status = ObjectStatus(trust_store, registry_adapter.registry.mark)
        self.failing: Callable[[], str] = str
        """why the disk cannot be written, for people; empty: it can"""
        self.handlers: dict[str, Handler] = {}
        """handlers of further types, by typ"""
        self.earlier: dict[str, Earlier] = {}
        """of types whose handlers do not store the used ids in the trust store, by typ"""
        self._lock = asyncio.Lock()
        self._refused_at: list[float] = []
        self._pruned = 0.0

    def known(self) -> VerificationContext:
        """What an object is verified against now."""
        current = self.trust_store.trust
        members: dict[str, Member] = dict(current.members) if current else {}
        if self.witness is not None:
            members[self.witness.key.kid] = self.witness
        return VerificationContext(
            members=members,
            audience=self.audience,
            now=self.clock.now(),
            clock=self.clock.trust,
            # also keys that were revoked before the trust list named them
            revoked=self.trust_store.revoked | self.trust_store.taken.keys(members),
            expires=current.expires if current else None,
        )

    async def accept(self, raw: bytes, via: str, arrived: float | None = None) -> dict[str, Any]:
        """Accept an object that arrived by `via`, byte for byte as it arrived. `arrived`: when, by
        the monotonic clock, if that is not now.

        The answer has its `typ`, `jti` and `outcome`, and whether it had arrived before. Raises
        Forged, and then nothing was done; NotRecorded if the disk fails, and then it must be sent
        again.
        """
        try:
            answer = await self._evaluate(raw, via, monotonic() if arrived is None else arrived)
        except Forged as error:
            self._refused(raw, via, error)
            raise
        if self.trust_store.volatile:
            # not acknowledged, so that its sender repeats it: the copy is lost at the next boot
            raise NotRecorded(
                "{outcome}: in force, but not recorded yet", outcome=answer["outcome"]
            )
        self._report(raw, via, answer)
        return answer

    async def _evaluate(self, raw: bytes, via: str, arrived: float) -> dict[str, Any]:
        """Accept one object; an error in gardien becomes E_INTERNAL and affects this object only.

        Raises Forged, NotRecorded, and Damaged or another error of a damaged store.
        """
        sha256 = hashlib.sha256(raw.strip()).hexdigest()
        self.trust_store.must_be_open()
        try:
            before = store.is_set_aside(self.trust_store.db, sha256)
            # a transport would bring it again and again; a person knows when the error is corrected
            if before and via != BY_HAND:
                raise Forged(ObjectCode.INTERNAL, Text("it was set aside when it first arrived"))
            # only a trust list is JSON; all other objects are compact JWS
            if raw.lstrip()[:1] == b"{":
                answer = self.renew_trust(raw)
            else:
                async with self._lock:
                    answer = await self._take(raw, via, arrived)
            if before:
                with self.trust_store.transaction() as db:
                    store.drop_set_aside(db, sha256)
        except (Forged, NotRecorded, Damaged):
            raise
        # after its subclasses above, whose senders must react otherwise
        except Refused as error:
            raise Forged(ObjectCode.REQUEST, text_of(error)) from error
        except Exception as error:
            if is_damage(error):
                raise
            if _not_stored(error):
                raise NotRecorded(
                    "a signed object could not be recorded: {error}", error=error
                ) from error
            log.exception(
                "a signed object that arrived by %s could not be evaluated",
                via,
                extra=fields(
                    LogEvent.OBJECT_FAILED, uplink=_uplink_of(via), code=ObjectCode.INTERNAL
                ),
            )
            self._set_aside(raw, via, error, sha256)
            raise Forged(
                ObjectCode.INTERNAL, Text(f"{type(error).__name__}: {error}"[:300])
            ) from error
        return answer

    def _set_aside(self, raw: bytes, via: str, error: Exception, sha256: str) -> None:
        """Store an object that could not be evaluated, so that it is not tried again.

        Raises NotRecorded.
        """
        what = f"{type(error).__name__}: {error}"
        with self.trust_store.transaction() as db:
            store.set_aside(db, sha256, (via, raw), what, self.clock.now())

    async def _take(self, raw: bytes, via: str, arrived: float) -> dict[str, Any]:
        context = self.known()
        verified = replace(authenticate(raw, context), via=via)
        try:
            must_be_in_time(verified, context)
        except Forged as error:
            # a copy of what was accepted is answered at any time: nothing is carried out (rule O8)
            if (answer := await self._earlier(verified)) is not None:
                return answer
            if error.code is ObjectCode.CLOCK and _for_the_registry(raw):
                return self._wait_for_the_clock(raw, via)
            raise
        # before the replay check: these handlers store the used ids in their own transaction
        if verified.typ in self.handlers and verified.typ != REVOKES:
            return _of_handler(verified, await self.handlers[verified.typ](verified))
        why = self.failing() if _grants_right(verified.model) else ""
        try:
            first = first_answer(self.trust_store.db, verified)
        except sqlite3.Error as error:
            if why:  # it could not be stored either
                raise self._without_the_disk(verified, why) from error
            raise
        if first is not None:
            return self._again(first, verified)
        if why:
            raise self._without_the_disk(verified, why)
        return await self._do(verified, via, arrived)

    def _without_the_disk(self, verified: Verified, why: str) -> Refused:
        """The error for a permission that the disk cannot record now.

        One that is in the registry already, without its number, is in force: a refusal would be
        wrong. It arrives again, and is answered once its number can be stored.
        """
        if self.registry_adapter.known(verified):
            return NotRecorded(
                "{outcome}: in force, but not recorded yet, because the disk fails",
                outcome=RECORDED_BEFORE,
            )
        return Forged(ObjectCode.STORAGE, Text(why))

    async def _earlier(self, verified: Verified) -> dict[str, Any] | None:
        """The answer to a copy; None: exactly these bytes were not accepted before."""
        if (earlier := self.earlier.get(verified.typ)) is not None:
            answer = await earlier(verified)
            return None if answer is None else _of_handler(verified, answer)
        first = earlier_answer(self.trust_store.db, verified)
        return None if first is None else self._again(first, verified)

    def _again(self, first: dict[str, Any], verified: Verified) -> dict[str, Any]:
        since = self.registry_adapter.since(verified, self.clock.now())
        return first | {"again": True} | ({"outcome": since} if since else {})

    async def _do(self, verified: Verified, via: str, arrived: float) -> dict[str, Any]:
        model = verified.model
        match model:
            case claims.Revocation():
                return await self._revoke(verified, model)
            case claims.Time():
                outcome = self.clock.take_signed_time(model.iat, monotonic() - arrived)
            case (
                claims.ConsentClaims()
                | claims.OccupancyClaims()
                | claims.DutyClaims()
                | claims.PlaceMap()
            ):
                return self._record(verified, via)
            case _:
                raise Forged(
                    ObjectCode.TYP,
                    Text("this gateway accepts no {typ}: is it configured?", typ=verified.typ),
                )
        return self._finish(verified, via, outcome)

    def preview(self, raw: bytes) -> dict[str, Any]:
        """What a place map would change if it arrived now; nothing is changed. Raises Forged."""
        verified = verify(raw, self.known())
        if not isinstance(verified.model, claims.PlaceMap):
            raise Refused("only a place map has a preview; this is {typ}", typ=verified.typ)
        answer = {"typ": verified.typ, "jti": verified.jti, "iss": verified.owner}
        if first_answer(self.trust_store.db, verified) is not None:
            return answer | {"again": True, "places": [], "names": [], "unchanged": 0}
        self.trust_store.must_be_newer(verified, verified.model.ver)
        try:
            return answer | self.registry_adapter.preview(verified, self.clock.now())
        except NotRecorded:
            raise
        except Refused as error:
            raise contradiction(error, verified, self.registry_adapter.policy) from error

    def _record(self, verified: Verified, via: str) -> dict[str, Any]:
        """Record a fact in the registry; one that depends on an unknown fact waits for it."""
        now = self.clock.now()
        if isinstance(verified.model, claims.PlaceMap):
            self.trust_store.must_be_newer(verified, verified.model.ver)
        try:
            if self.registry_adapter.known(verified):
                outcome = self.registry_adapter.since(verified, now) or RECORDED_BEFORE
            else:
                outcome = self.registry_adapter.record(verified, now)
        except NotYet as error:
            named = (verified.typ, verified.jti)
            came = (via, verified.raw)
            if self.trust_store.wait(verified.sha256, named, came, error.text, now):
                self.audit("object.waits", _ids(verified, via))
            return _answer(verified, Text(WAITS, why=error))
        except NotRecorded:
            raise
        except Refused as error:
            raise contradiction(error, verified, self.registry_adapter.policy) from error
        return self._finish(verified, via, outcome)

    def _finish(self, verified: Verified, via: str, outcome: str) -> dict[str, Any]:
        answer = _answer(verified, outcome)
        with self.trust_store.transaction() as db:
            keep_answer(db, verified, answer)
            if isinstance(verified.model, claims.PlaceMap):
                self.trust_store.note_version(verified, verified.model.ver)
            db.execute("DELETE FROM waiting WHERE sha256 = ?", (verified.sha256,))
            # a clock that runs ahead would forget ids of objects that are still valid (rule O9)
            if self.clock.trust is ClockTrust.TRUSTED and self.clock.now() - self._pruned > HOUR:
                prune_used(db, self.clock.now())
                self._pruned = self.clock.now()
        self.audit("object.accepted", _ids(verified, via))
        return answer

    async def _revoke(self, verified: Verified, revocation: claims.Revocation) -> dict[str, Any]:
        """Revoke keys at once; the handler of revocations ends grants and orders.

        Revocations of unknown objects are stored with their signer (agent/trust/verify.py).
        """
        self.trust_store.must_be_newer(verified, revocation.ver)
        kids = [one.kid for one in revocation.rev if one.kid is not None]
        members = self.known().members
        for kid in kids:
            _may_revoke(verified, kid, members)
        self.trust_store.taken.add(
            revoked_by(verified, revocation)
        )  # in force even if the disk fails
        handler = self.handlers.get(REVOKES)
        answer = _answer(verified, "revoked")
        # before it is stored: if this fails, the revocation must count as new when it comes again
        if handler is not None:
            answer |= await handler(verified)
        now = int(self.clock.now())
        with self.trust_store.transaction() as db:
            self.trust_store.note_version(verified, revocation.ver)
            self.trust_store.take_back(revoked_by(verified, revocation))
            self.trust_store.revoke(members.keys() & kids, now)
            keep_answer(db, verified, answer)
        self.audit("object.accepted", _ids(verified, "") | {"keys": kids})
        return answer

    def consider(self, new: TrustList) -> None:
        """Check a trust list, except for a person's comparison of its roots. Raises Forged."""
        now = self.clock.now()
        trusted = self.clock.trust is not ClockTrust.UNTRUSTED
        trust_list.admit(new, self.trust_store.trust, self.least, now if trusted else None)
        if trusted and new.made > now + AHEAD:
            raise Forged(
                ObjectCode.NOT_YET,
                Text(
                    "it was made on {made}, and it is {now}",
                    made=stamp(new.made),
                    now=stamp(now),
                ),
            )
        if self.trust_store.trust is None and not trust_list.pinned(new, self.pinned):
            reason = Text("it names roots that the configuration does not name")
            raise Forged(ObjectCode.KID, reason, reason)

    def renew_trust(self, raw: bytes, confirmed: str | None = None) -> dict[str, Any]:
        """Replace the trust list.

        The first one is accepted only if a person here has compared its roots: `confirmed` is its
        sha256. Raises Forged.
        """
        new, current = trust_list.read(raw), self.trust_store.trust
        answer = {
            "typ": trust_list.TYP,
            "ver": new.ver,
            "outcome": Text("the trust list is in force"),
        }
        if current is not None and new.sha256 == current.sha256:
            return answer | {"again": True}
        self.consider(new)
        if current is None and confirmed != new.sha256:
            reason = Text(
                "there is no trust list here yet, and only a person at the gateway can accept the"
                " first one: gardien trust accept FILE"
            )
            raise Forged(ObjectCode.KID, reason, reason)
        self.trust_store.install(new, self.clock.now())
        # the list was signed then, so a clock that shows an earlier time is wrong
        self.clock.at_least(new.made)
        self.audit(
            "trust", {"ver": new.ver, "sha256": new.sha256, "roots": sorted(new.roots),
                      "threshold": new.threshold, "keys": sorted(new.members)},
        )  # fmt: skip
        log.info(
            "trust list version %d is in force: %d keys", new.ver, len(new.members),
            extra=fields(LogEvent.TRUST_LIST_CHANGED),
        )  # fmt: skip
        return answer

    async def retry_waiting(self) -> int:
        """Try all waiting objects again; returns how many wait no longer."""
        if self.clock.trust is ClockTrust.UNTRUSTED:
            return 0
        waiting = self.trust_store.waiting()
        try:
            for typ, jti in self.trust_store.give_up(self.clock.now()):
                log.warning(
                    "%s %s has waited for 60 days and is deleted", typ, jti,
                    extra=fields(LogEvent.OBJECT_EXPIRED),
                )  # fmt: skip
                self.audit("object.forgotten", {"typ": typ, "jti": jti})
            waiting = self.trust_store.waiting()
            for sha256, via, raw in waiting:
                try:
                    self._report(raw, via, await self._evaluate(raw, via, monotonic()))
                except Forged as error:
                    if error.code is ObjectCode.STORAGE:  # it keeps waiting
                        continue
                    with self.trust_store.transaction():
                        self.trust_store.stop_waiting(sha256)
                    self._refused(raw, via, error)
        except NotRecorded as error:
            log.warning(
                "waiting signed objects are tried again later: %s", error,
                extra=fields(LogEvent.OBJECT_DELAYED),
            )  # fmt: skip
        return len(waiting) - len(self.trust_store.waiting())

    def _wait_for_the_clock(self, raw: bytes, via: str) -> dict[str, Any]:
        """Store a validly signed fact until the clock is trusted."""
        compact, why = parse_jws(raw), Text("the clock is not trusted yet")
        named = (compact.typ, str(compact.claims["jti"]))
        self.trust_store.wait(compact.sha256, named, (via, raw), why, self.clock.now())
        return {"typ": named[0], "jti": named[1], "outcome": Text(WAITS, why=why)}

    def _refused(self, raw: bytes, via: str, error: Forged) -> None:
        """Record a refusal and report it to the sender; in a flood only the first are reported."""
        log.info(
            "an object that arrived by %s is refused: %s", via, error,
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
        self._store_status(raw, via, how, sentence=error.sentence)

    def _signer(self, raw: bytes, error: Forged) -> str:
        """Kid of the signer of a refused object; empty: the signer is unknown."""
        if error.code in UNSIGNED:
            return ""
        try:
            kid = parse_jws(raw).kid
        except Forged:
            return ""
        return kid if kid in self.known().members else ""

    def _flooded(self) -> bool:
        """Whether so many refusals came in the last hour that no more are reported."""
        # monotonic: setting the wall clock must neither open nor close this limit
        now = self.clock.steady()
        self._refused_at = [at for at in self._refused_at if now - at < HOUR]
        return len(self._refused_at) >= REFUSALS_AN_HOUR

    def _report(self, raw: bytes, via: str, answer: Mapping[str, Any]) -> None:
        """Report an accepted object to its sender; the handler of orders reports each control."""
        if answer["typ"] == ORDER:
            return
        state = "WAITING" if str(answer["outcome"]).startswith("waits") else "ACCEPTED"
        self._store_status(raw, via, state, verified=True)

    def _store_status(
        self, raw: bytes, via: str, how: str, *, verified: bool = False, sentence: str = ""
    ) -> None:
        sha256 = hashlib.sha256(raw.strip()).hexdigest()
        try:
            jws = parse_jws(raw)
        except Exception:  # noqa: BLE001 -- reported even if parsing fails by an error
            owner, what = "", ("", "", sha256)
        else:
            # anybody can write the kid of another: only a verified object is reported to its owner
            member = self.known().members.get(jws.kid) if verified else None
            owner = member.name if member else ""
            what = (jws.typ[:40], str(jws.claims.get("jti", ""))[:64], jws.sha256)
        try:
            self.object_status.add(self.clock.now(), (via, owner), what, how, sentence)
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "the status of an object is not reported: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, uplink=_uplink_of(via)),
            )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """State of trust list and inbox, for people."""
        current = self.trust_store.trust
        return {
            "audience": self.audience.exact,
            "version": current.ver if current else None,
            "expires": stamp(current.expires) if current else None,
            "alarm": self._alarm(current),
            "waiting": len(self.trust_store.waiting()),
            "set_aside": store.set_aside_recently(self.trust_store.db, self.clock.now()),
        }

    def _alarm(self, current: TrustList | None) -> str:
        if current is None or self.clock.trust is ClockTrust.UNTRUSTED:
            return ""
        left = current.expires - self.clock.now()
        if left < 0:
            return Text(
                "the trust list has expired, so no new order, grant or uplink move is accepted:"
                " have it renewed"
            )
        if left < trust_list.ALARM:
            days = timedelta(days=left // 86_400)
            return Text("the trust list expires in {days}: have it renewed", days=days)
        return ""


def _may_revoke(verified: Verified, kid: str, members: Mapping[str, Member]) -> None:
    """Check that a signer may revoke a key; an unknown key passes. Raises Forged."""
    member = members.get(kid)
    if member is None or may_end(verified.owner, verified.role, member.name, member.role):
        return
    if member.role == ROOT:
        reason = Text("a root key can only be changed by a new trust list")
        raise Forged(ObjectCode.KID, reason, reason)
    reason = Text("{owner} may not revoke a key of {name}", owner=verified.owner, name=member.name)
    raise Forged(ObjectCode.KID, reason, NOT_THEIRS)


def _not_stored(error: Exception) -> bool:
    """Whether the disk or the machine, not the object, is the cause of an error."""
    if isinstance(error, MemoryError) or (type(error), str(error)) == NO_THREAD:
        return True
    if isinstance(error, sqlite3.Error):
        # the low byte of an extended code is its primary code
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in SQLITE_NO_ROOM
    return isinstance(error, SpoolFull) or (isinstance(error, OSError) and error.errno in NO_ROOM)


def _uplink_of(via: str) -> str:
    """The uplink that brought an object; empty: a person submitted it."""
    return via if via != BY_HAND else ""


def _answer(verified: Verified, outcome: str) -> dict[str, Any]:
    return {"typ": verified.typ, "jti": verified.jti, "outcome": outcome}


def _of_handler(verified: Verified, answer: dict[str, Any]) -> dict[str, Any]:
    return {"typ": verified.typ, "jti": verified.jti, "outcome": "taken", **answer}


def _ids(verified: Verified, via: str) -> dict[str, Any]:
    return {
        "typ": verified.typ, "jti": verified.jti, "kid": verified.kid, "via": via,
        "sha256": verified.sha256,
    }  # fmt: skip


def _conflicts(raw: bytes, error: Forged) -> str:
    """Lines of a validly signed place map that contradict recorded facts, for its sender."""
    if error.code is not ObjectCode.REGISTRY or (jws := parse_jws(raw)).typ != MAP:
        return ""
    # a jti may contain dots, which would match any character
    where = re.escape(str(jws.claims["jti"]))
    lines = re.findall(rf"(?<!\S){where}:([0-9]+): ", str(error))
    return f" {','.join(lines)}" if lines else ""


def _grants_right(model: object) -> bool:
    """Whether an object permits data to be sent or kept that would not be without it."""
    match model:
        case claims.ConsentClaims(status=status) | claims.DutyClaims(status=status):
            return status == "given"
        case claims.OccupancyClaims(event=event):
            return event != "move_out"
    return isinstance(model, claims.PlaceMap)


def _for_the_registry(raw: bytes) -> bool:
    return parse_jws(raw).typ in {"consent+jwt", "occupancy+jwt", "duty+jwt", "place-map+jws"}
