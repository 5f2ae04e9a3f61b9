"""The journal: holds, orders, grants, timers and outcomes, as they survive a power cut (rule H14).

It is one SQLite file. A change is committed before anything is written to a device. What is read
often is kept in memory. A copy of the open hold records needs no disk (`writer.py`): a record
that is closed in either place is closed; otherwise one that is open in either place is open.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from agent.buffer.database import Damaged, Database, set_aside
from agent.control.model import FINAL, OrderState
from agent.control.records import (
    IDENTITY,
    LEFT,
    OPEN,
    TABLES,
    Copied,
    HoldRecord,
    Memo,
    Outcome,
    Phase,
    Transaction,
    decode,
    encode,
    event_of,
    grant_of,
    memo_of,
    outcome_of,
    text,
)
from agent.core.errors import SpoolFull, StorageFailed
from agent.core.tasks import Change
from agent.trust import claims, verify
from agent.trust.claims import ROOT
from agent.trust.object_id import number_of
from agent.trust.verify import TakenBack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agent.control.model import AcceptedOrder, Grant, Key, Moment
    from agent.trust.verify import Verified


Name = tuple[str, str]
"""an order at one control"""
LARGEST = 32_000_000
"""bytes: the largest size of the file"""
STEP = 256 * 1024
"""bytes that the file occupies from its first start on, and by which it grows, so that holds begin
and end on a full disk too
"""
REMEMBERED = 8 * 86_400.0
"""seconds for which quotas and rests look back: a week and a day"""
KEPT = 5_000
"""outcomes that are kept for the history"""
CLOSED = 1_000
"""closed hold records that are kept, for an inquiry after an accident"""
RECENT = 2_000
"""outcomes that are kept for recipients that cannot be reached (rule H11)"""


class Journal:
    """The open file, and its content in memory.

    It is written in a thread of its own and read from the event loop. Methods therefore return
    copies that are made in one step (`list(…)`).
    """

    def __init__(self, database: Database | None, key_of: Callable[[str], Key | None]) -> None:
        """`database`: None while the file cannot be read. Then each call that needs the file raises
        StorageFailed, and the memory contains only what `take` was given.
        """
        self._database = database
        self.unread = database is None
        """the file was never read: the memory contains only what was noted, and the copy"""
        self.key_of = key_of
        """the point of a control as configured; None: there is no such control"""
        self.set_aside: Path | None = None
        """where an unreadable file was moved at the opening; None: it was readable"""
        self.id = ""
        """random; with the number of a hold record it identifies the record for ever"""
        self.records: dict[int, HoldRecord] = {}
        """the hold records that are not closed, by number"""
        self.events: dict[Name, AcceptedOrder] = {}
        self._keys: dict[Name, Key] = {}
        self._at: dict[Key, dict[Name, AcceptedOrder]] = {}
        self.memos: dict[Key, Memo] = {}
        self.grants: dict[str, Grant] = {}
        self.taken = verify.Revocations()
        """which keys and grants were revoked, and by whom"""
        self.mute: str | None = None
        """a key whose grants do not count now, although nobody has revoked it"""
        self.versions: dict[str, int] = {}
        """version of the latest revocation, by its issuer"""
        self.recent: deque[Outcome] = deque(maxlen=RECENT)
        """the latest outcomes, oldest first, for recipients"""
        self.decided = Change()
        """`recent` has changed"""
        self.early: dict[Name, float] = {}
        """until when an order is refused that was cancelled before it arrived, for each control"""
        self._last_record = self._last_outcome = 0
        """the highest numbers that were assigned"""
        if database is not None:
            self._begin()
            self._load()

    @property
    def _db(self) -> Database:
        if self._database is None:
            raise StorageFailed("the journal cannot be read yet")
        return self._database

    @classmethod
    @contextmanager
    def open(cls, path: Path, key_of: Callable[[str], Key | None]) -> Iterator[Self]:
        """Open the journal; move an unreadable file aside and begin a new one.

        Raises Refused if the file is in use, StorageFailed if the disk fails.
        """
        journal = cls.opened(path, key_of)
        try:
            yield journal
        finally:
            journal.disconnect()

    @classmethod
    def opened(cls, path: Path, key_of: Callable[[str], Key | None]) -> Self:
        """The same without a context manager; `disconnect` closes it."""
        try:
            return cls._connected(path, key_of)
        except (Damaged, ValueError, KeyError, TypeError):
            aside = set_aside(path)
            journal = cls._connected(path, key_of)
            journal.set_aside = aside
            return journal

    @classmethod
    def _connected(cls, path: Path, key_of: Callable[[str], Key | None]) -> Self:
        database = Database(path, LARGEST, STEP, STEP)
        try:
            return cls(database, key_of)
        except BaseException:
            database.close()
            raise

    def disconnect(self) -> None:
        """Close the file. The content in memory stays."""
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):  # the disk fails; no change is left to be written
                database.close()

    def _begin(self) -> None:
        with self._db.transaction():
            for table in TABLES:
                self._db.write(table)
        self.id = secrets.token_hex(8)
        with suppress(SpoolFull):  # full disk, file of an earlier version: the next probe does it
            self._identify()

    @contextmanager
    def _transaction(self, also: Callable[[Database], None] | None) -> Iterator[None]:
        """A transaction that begins with what `also` writes."""
        with self._db.transaction():
            if also is not None:
                also(self._db)
            yield

    def _identify(self) -> None:
        """Give the journal its lasting id by one commit. Raises SpoolFull, StorageFailed.

        The counter makes each call a real write, so that the call also tests the disk.
        """
        with self._db.transaction():
            self._db.write(IDENTITY)
            self._db.write("INSERT OR IGNORE INTO journal VALUES(1,?,0)", self.id)
            self._db.write("UPDATE journal SET probed=probed+1")
        self.id = str(self._db.scalar("SELECT id FROM journal"))

    def become(self, fresh: Journal) -> None:
        """Take over the file and the content in memory of another object.

        This object keeps its identity, because others refer to it.
        """
        self.disconnect()
        mute, key_of, decided = self.mute, self.key_of, self.decided
        self.__dict__.update(fresh.__dict__)
        self.key_of, self.decided = key_of, decided
        decided.tell()
        self.silence(mute)

    def _load(self) -> None:
        """Read the whole file. Only `prune` deletes, and only while the clock is trusted."""
        for number, body in self._db.read("SELECT number, body FROM hold WHERE closed=0"):
            self.records[number] = decode(number, body)
        self._last_record = int(self._db.scalar("SELECT max(number) FROM hold") or 0)
        for device, point, body in self._db.read("SELECT device, point, body FROM event"):
            self._index(event_of(json.loads(body)), (device, point))
        for device, point, body in self._db.read("SELECT device, point, body FROM point"):
            self.memos[device, point] = memo_of(json.loads(body))
        self.taken = self._db.by(verify.Revocations.read)
        # An earlier version recorded revocations without their author. They count as those of a
        # root, for a key and for a grant of that name.
        named = self.taken.names()
        for what, at in self._db.read("SELECT what, at FROM revoked"):
            if what not in named:
                self.taken.add(TakenBack(what, key, "", ROOT, at) for key in (False, True))
        for (body,) in self._db.read("SELECT body FROM granted"):
            # a grant of a later version may have a limit that is unknown here: it must not count
            with suppress(TypeError):
                grant = grant_of(json.loads(body))
                self.grants[grant.jti] = self._with_revocation(grant)
        for n, body in reversed(
            self._db.read("SELECT n, body FROM outcome ORDER BY n DESC LIMIT ?", RECENT)
        ):
            self.recent.append(outcome_of(n, json.loads(body)))
        self.early = self._cancelled_early()
        self.versions = dict(self._db.read("SELECT iss, ver FROM version"))
        self._last_outcome = int(self._db.scalar("SELECT max(seq) FROM sqlite_sequence") or 0)

    def _cancelled_early(self) -> dict[Name, float]:
        stored = self._db.read("SELECT jti, control, until FROM cancelled_early")
        return {(jti, control): until for jti, control, until in stored}

    def _with_revocation(self, grant: Grant) -> Grant:
        at = self.taken.when(number_of(grant.jti), grant.by, grant.role)
        if at is None:
            at = self.key_taken(grant.kid, grant.by, grant.role)
        return replace(grant, revoked=0.0 if at is None and grant.kid == self.mute else at)

    def silence(self, kid: str | None) -> None:
        """Ignore the grants of this key; None: ignore no grants."""
        self.mute = kid
        self.grants = {jti: self._with_revocation(grant) for jti, grant in self.grants.items()}

    def _index(self, event: AcceptedOrder, key: Key) -> None:
        name = event.order.jti, event.order.control
        self.events[name], self._keys[name] = event, key
        self._at.setdefault(key, {})[name] = event

    def of(self, key: Key) -> list[AcceptedOrder]:
        """The orders that were accepted at a point, as far back as quotas look."""
        return list(self._at.get(key, {}).values())

    def ended_with(self, record: HoldRecord, now: Moment) -> list[AcceptedOrder]:
        """The orders that are over once a hold record is closed, as they are then: its own, and
        those that were superseded in this hold.
        """
        return [
            replace(event, over=now, state=event.state if event.state in FINAL else record.outcome)
            for event in self.of(record.key)
            if _was_held_in(record, event)
        ]

    def is_reported(self, record: HoldRecord) -> bool:
        """Whether recipients know already how the order of a hold ended: then what becomes of the
        hold tells them nothing (rule H11).
        """
        event = self.events.get((record.jti, record.control))
        if event is None or event.state not in FINAL:
            return False
        end = (record.jti, record.control, event.state)
        return any(
            (one.jti, one.control, one.state) == end and not one.internal for one in self.recent
        )

    def device_of(self, jti: str, control: str) -> str:
        """The device that an order was for; empty: it is not known."""
        return self._keys.get((jti, control), ("", ""))[0]

    def without_control(self) -> list[AcceptedOrder]:
        """Scheduled orders whose control is no longer configured, or is at another point now."""
        return [
            event
            for name, event in list(self.events.items())
            if event.state is OrderState.SCHEDULED and self.key_of(name[1]) != self._keys[name]
        ]

    def memo(self, key: Key) -> Memo:
        """The memo of a point."""
        return self.memos.get(key, Memo())

    def open_records(self, key: Key) -> list[HoldRecord]:
        """The open hold records of a point."""
        return [record for record in list(self.records.values()) if record.key == key]

    def save(
        self, change: Transaction, also: Callable[[Database], None] | None = None
    ) -> HoldRecord | None:
        """Commit a change as a whole. Returns its hold record with its number.

        `also` writes in the same transaction. Raises SpoolFull, StorageFailed or Damaged; then
        nothing has changed in memory.
        """
        change = self.numbered(change)
        self.write(change, also)
        self.take(change)
        return change.record

    def numbered(self, change: Transaction) -> Transaction:
        """The change with the numbers that its hold record and its outcomes will have."""
        record = change.record
        if record is not None and not record.number:
            self._last_record += 1
            record = replace(record, number=self._last_record)
        outcomes = []
        for outcome in change.outcomes:
            if outcome.n:
                outcomes.append(outcome)
                continue
            self._last_outcome += 1
            device = self._device(outcome, record)
            outcomes.append(replace(outcome, device=device, n=self._last_outcome))
        return replace(change, record=record, outcomes=outcomes)

    def write(self, change: Transaction, also: Callable[[Database], None] | None = None) -> None:
        """Commit a numbered change as a whole. The same change again changes nothing.

        Raises SpoolFull, StorageFailed, Damaged.
        """
        with self._transaction(also):
            if change.record is not None:
                self._save_record(change.record)
            for event in change.events:
                self._save_event(event)
            for outcome in change.outcomes:
                self._save_outcome(outcome)
            for key, memo in change.memos:
                self._save_memo(key, memo)

    def take(self, change: Transaction) -> None:
        """Apply a numbered change to the memory: it counts from now on."""
        record = change.record
        if record is not None:
            if record.phase is Phase.CLOSED:
                self.records.pop(record.number, None)
            else:
                self.records[record.number] = record
        for event in change.events:
            # an order stays with the point for which it was accepted, even if its control moves
            name = event.order.jti, event.order.control
            self._index(event, self._keys.get(name) or self._point_of(event.order.control))
        self.memos.update(change.memos)
        if not self.unread:  # else their numbers are not those of the file
            self.recent.extend(change.outcomes)
            if change.outcomes:
                self.decided.tell()

    def _point_of(self, control: str) -> Key:
        return self.key_of(control) or ("", "")

    def _save_record(self, record: HoldRecord) -> None:
        closed = int(record.phase is Phase.CLOSED)
        self._db.write(
            "INSERT OR REPLACE INTO hold VALUES(?,?,?,?,?,?)",
            record.number, *record.key, record.slot, closed, encode(record),
        )  # fmt: skip

    def _save_event(self, event: AcceptedOrder) -> None:
        name = event.order.jti, event.order.control
        key = self._keys.get(name) or self._point_of(event.order.control)
        self._db.write(
            "INSERT OR REPLACE INTO event VALUES(?,?,?,?,?,?,?,?)",
            *name, *key, event.state in FINAL, event.accepted, event.end, text(event),
        )  # fmt: skip

    def _save_outcome(self, outcome: Outcome) -> None:
        self._db.write(
            "INSERT OR REPLACE INTO outcome(n, at, jti, control, state, body)"
            " VALUES(?,?,?,?,?,?)",
            outcome.n, outcome.at, outcome.jti, outcome.control, outcome.state, text(outcome),
        )  # fmt: skip
        self._db.write("DELETE FROM outcome WHERE n<=?", outcome.n - KEPT)

    def _device(self, outcome: Outcome, record: HoldRecord | None) -> str:
        """The device of an outcome.

        The control may be removed or moved before its release is complete. So the hold record and
        the order come first, and the configuration last.
        """
        if record is not None and record.control == outcome.control:
            return record.place.device
        known = self.device_of(outcome.jti, outcome.control)
        return known or self._point_of(outcome.control)[0]

    def _save_memo(self, key: Key, memo: Memo) -> None:
        self._db.write("INSERT OR REPLACE INTO point VALUES(?,?,?)", *key, text(memo))

    def grant(self, grant: Grant, also: Callable[[Database], None] | None = None) -> None:
        """Commit a grant."""
        with self._transaction(also):
            self._db.write(
                "INSERT OR REPLACE INTO granted VALUES(?,?,?)", grant.jti, grant.until, text(grant)
            )
        self.grants[grant.jti] = self._with_revocation(grant)

    def is_revoked(self, grant: Grant) -> bool:
        """Whether a grant that arrives now was revoked before."""
        return self._with_revocation(grant).revoked is not None

    def key_taken(self, kid: str, owner: str, role: str) -> float | None:
        """When a key was revoked; None: it was not. `owner`, `role`: of the key when it signed."""
        return self.taken.when(kid, owner, role, key=True)

    def revoke(
        self,
        revoked: Sequence[TakenBack],
        version: tuple[str, int],
        also: Callable[[Database], None] | None = None,
    ) -> None:
        """Record for ever that grants or keys were revoked, with the issuer and the version.

        It counts from now on, even if the commit fails.
        """
        self.believe(revoked)
        with self._transaction(also):
            self._write_revocations(revoked)
            self._db.write("INSERT OR REPLACE INTO version VALUES(?,?)", *version)
        self.versions[version[0]] = version[1]

    def learn(self, revoked: Sequence[TakenBack]) -> None:
        """Add revocations that came while there was no journal, or another one."""
        if new := [one for one in revoked if one not in self.taken.all()]:
            self._apply_revocations(new)
            with self._db.transaction():
                self._write_revocations(new)

    def believe(self, revoked: Sequence[TakenBack]) -> None:
        """Let these revocations count, whether or not they can be committed."""
        self._apply_revocations([one for one in revoked if one not in self.taken.all()])

    def _apply_revocations(self, revoked: Sequence[TakenBack]) -> None:
        self.taken.add(revoked)
        self.grants = {jti: self._with_revocation(grant) for jti, grant in self.grants.items()}

    def _write_revocations(self, revoked: Sequence[TakenBack]) -> None:
        self._db.by(lambda db: verify.keep_revocations(db, revoked))
        for item in revoked:
            self._db.write("INSERT OR IGNORE INTO revoked VALUES(?,?)", item.what, item.at)

    def refuse_later(
        self,
        jti: str,
        controls: Sequence[str],
        until: float,
        also: Callable[[Database], None] | None = None,
    ) -> None:
        """Record that an order was cancelled at these controls before it arrived (rule H9)."""
        with self._transaction(also):
            for name in controls:
                self._db.write(
                    "INSERT OR REPLACE INTO cancelled_early VALUES(?,?,?)", jti, name, until
                )
        self.early |= {(jti, name): until for name in controls}

    def first(self, verified: Verified) -> dict[str, Any] | None:
        """The answer that the same bytes got before; None: they are new.

        Raises Forged E_REPLAY if other bytes had the same id.
        """
        return self._db.by(lambda db: verify.first_answer(db, verified))

    def earlier(self, verified: Verified) -> dict[str, Any] | None:
        """The answer that the same bytes got before; None: they were not taken before."""
        return self._db.by(lambda db: verify.earlier_answer(db, verified))

    def prune(self, now: float) -> None:
        """Delete ids that cannot come again, and orders to which no quota looks back.

        Call it only while the clock is trusted.
        """
        since = now - REMEMBERED
        with self._db.transaction():
            self._db.by(lambda db: verify.prune_used(db, now))
            self._db.write("DELETE FROM event WHERE final=1 AND until<?", since)
            self._db.write(
                "DELETE FROM hold WHERE closed=1 AND number<=(SELECT max(number) FROM hold)-?",
                CLOSED,
            )
            self._db.write("DELETE FROM cancelled_early WHERE until<?", now)
            self._db.write("DELETE FROM granted WHERE until<?", since)
            self.early = self._cancelled_early()
        self.grants = {jti: one for jti, one in self.grants.items() if one.until >= since}
        for name, event in list(self.events.items()):
            if event.state in FINAL and event.end < since:
                self._at[self._keys.pop(name)].pop(name)
                del self.events[name]

    # -- the copy, and a disk that has failed

    def merge(self, copied: Sequence[Copied], now: Moment) -> list[Copied]:
        """Commit what the copy knows. Returns the entries that the copy need no longer keep.

        `copied`: closed entries first. Raises StorageFailed.
        """
        known = {
            number: (bool(closed), body)
            for number, closed, body in self._db.read("SELECT number, closed, body FROM hold")
        }
        closed = {(entry.journal, entry.record.number) for entry in copied if entry.state != OPEN}
        numbers = [entry.record.number for entry in copied if entry.journal == self.id]
        # numbers that only the copy knows must not be assigned again
        self._last_record = max([self._last_record, *numbers])
        done = []
        for entry in copied:
            own, number = entry.journal == self.id, entry.record.number
            on_disk = known.get(number) if own else None
            change = None
            if entry.state != OPEN:
                if own and not (on_disk and on_disk[0]):
                    change = self._closing_change(entry, now)
            elif not (on_disk and on_disk[0]) and (entry.journal, number) not in closed:
                if own and on_disk and on_disk[1] == encode(entry.record):
                    continue  # the disk has it, and the copy keeps it while it is open
                # the hold of a journal that is gone: nobody else would release it
                change = Transaction(entry.record if own else replace(entry.record, number=0))
            # an open record of this journal stays in the copy for as long as it is open
            if change is None or (self.bring(change) and not (own and entry.state == OPEN)):
                done.append(entry)
        return done

    def fitted(self, notes: Sequence[Transaction], now: Moment) -> Transaction:
        """What counts of changes that were noted before this file could be read.

        Their numbers and memos were made without it. Outcomes get new numbers, and the latest memo
        of a point is joined to that of the file; the copy has the hold records (`merge`).
        """
        latest = dict(memo for change in notes for memo in change.memos)
        return Transaction(
            outcomes=[replace(one, n=0) for change in notes for one in change.outcomes],
            memos=[(key, self.memo(key).joined(memo, now)) for key, memo in latest.items()],
        )

    def bring(self, change: Transaction) -> bool:
        """Let a change count, and commit it. Returns whether the disk had room for it.

        Raises StorageFailed; the change counts in memory all the same.
        """
        change = self.numbered(change)
        try:
            self.write(change)
        except SpoolFull:
            return False
        finally:
            self.take(change)
        return True

    def _closing_change(self, entry: Copied, now: Moment) -> Transaction:
        record = entry.record
        memo = replace(self.memo(record.key), given_back=now)
        if entry.state == LEFT:
            memo = memo.left_to_others(record, now)
        reason = entry.how or "released while the journal could not be written"
        outcome = Outcome(
            record.jti, record.control, record.outcome, now.wall, words=reason, closed=True,
            internal=self.is_reported(record),
        )  # fmt: skip
        events = self.ended_with(record, now)
        return Transaction(record, events, [outcome], [(record.key, memo)])

    def read_copy(self, copied: Sequence[Copied]) -> list[Copied]:
        """Load the open records of the copy, while the file cannot be read.

        Returns the entries of other journals: their records get a new number under this journal's
        id.
        """
        closed = {(entry.journal, entry.record.number) for entry in copied if entry.state != OPEN}
        left = [
            entry
            for entry in copied
            if entry.state == OPEN and (entry.journal, entry.record.number) not in closed
        ]
        self.id = left[0].journal if left else secrets.token_hex(8)
        self._last_record = max((entry.record.number for entry in copied), default=0)
        renamed = [entry for entry in left if entry.journal != self.id]
        for entry in left:
            record = replace(entry.record, number=0) if entry in renamed else entry.record
            self.take(self.numbered(Transaction(record)))
        return renamed

    def probe(self) -> None:
        """Test the disk by one commit. Raises SpoolFull, StorageFailed."""
        self._identify()

    def undo(self, refused: Sequence[Verified], changes: Sequence[Transaction]) -> None:
        """Delete what refused objects have left, whose commit had failed.

        A commit that fails may have taken effect all the same: then an order that was refused would
        be carried out. `changes`: the changes that those commits contained.
        """
        for change in changes:
            names = [(one.order.jti, one.order.control) for one in change.events]
            numbers = [one.n for one in change.outcomes]
            with self._db.transaction():
                for name in names:
                    self._db.write("DELETE FROM event WHERE jti=? AND control=?", *name)
                for n in numbers:
                    self._db.write("DELETE FROM outcome WHERE n=?", n)
            for name in names:
                if self.events.pop(name, None):
                    self._at[self._keys.pop(name)].pop(name)
            kept = [one for one in self.recent if one.n not in numbers]
            self.recent = deque(kept, maxlen=RECENT)
        for verified in refused:
            with self._db.transaction():
                self._db.by(partial(verify.forget_object, verified=verified))
                if isinstance(verified.model, claims.GrantClaims):
                    self._db.write("DELETE FROM granted WHERE jti=?", verified.jti)
                    self.grants.pop(verified.jti, None)

    def reread(self, number: int) -> HoldRecord:
        """An open hold record as the next start would read it from the disk."""
        (body,) = self._db.read("SELECT body FROM hold WHERE number=? AND closed=0", number)[0]
        return decode(number, body)

    def history(self, since: float, until: float) -> list[Outcome]:
        """The outcomes between two moments (Unix seconds), oldest first."""
        stored = self._db.read(
            "SELECT n, body FROM outcome WHERE at>=? AND at<=? ORDER BY n", since, until
        )
        return [outcome_of(n, json.loads(body)) for n, body in stored]


def _was_held_in(record: HoldRecord, event: AcceptedOrder) -> bool:
    """Whether a hold record was for this order, in the end or before another order took over."""
    if event.state is OrderState.SUPERSEDED:
        return event.began and event.over is None
    return (event.order.jti, event.order.control) == (record.jti, record.control)
