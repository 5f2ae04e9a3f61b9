"""What must be known after a power cut: holds, orders, grants, timers, outcomes (rule H14).

One SQLite file, written through before anything is written to a device. What is read again and
again stands in memory. Beside it lies a copy of the open rows that needs no disk
(journal_copy.py): a row that is closed in either place is closed, else one that is open in either
place is open.
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
from agent.control.hold_record import HoldRecord, Phase, decode, encode
from agent.control.journal_copy import LEFT, OPEN, Copied
from agent.control.model import OrderState
from agent.control.records import (
    FINAL,
    IDENTITY,
    TABLES,
    Memo,
    Outcome,
    Transaction,
    event_of,
    grant_of,
    memo_of,
    outcome_of,
    text,
)
from agent.errors import SpoolFull, StorageFailed
from agent.storage import FAILING
from agent.trust import claims, replay, revocations
from agent.trust.object_id import number_of
from agent.trust.object_types import ROOT
from agent.trust.revocations import TakenBack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agent.control.model import AcceptedOrder, Grant
    from agent.control.records import Key
    from agent.control.stamps import Moment
    from agent.trust.verify import Verified

Name = tuple[str, str]
"""an order at one control"""
LARGEST = 32_000_000
"""bytes of the file"""
STEP = 256 * 1024
"""bytes of the disk that the file has from its first start on, and by which it grows: holds begin
and end on a full disk too
"""
REMEMBERED = 8 * 86_400.0
"""seconds for which quotas and rests look back"""
KEPT = 5_000
"""outcomes that history goes back to"""
CLOSED = 1_000
"""rows of what was given back, for whoever looks into the file after an accident"""
RECENT = 2_000
"""outcomes that recipients are told of, however long they could not be reached"""


class Journal:
    """The open file with what it says.

    It is written in a thread of its own and looked at from elsewhere: what is handed out is a copy,
    made in one go.
    """

    def __init__(self, database: Database | None, key_of: Callable[[str], Key | None]) -> None:
        """`database`: None while it cannot be read; then every call that needs it raises
        StorageFailed, and what is handed out is what `take` was given.
        """
        self._database = database
        self._unread = database is None
        self.key_of = key_of
        """where a control is, as it is configured"""
        self.set_aside: Path | None = None
        """where an unreadable one was put at the opening"""
        self.id = ""
        """random; with a row's number it names the row for ever"""
        self.rows: dict[int, HoldRecord] = {}
        """what is not closed, by number"""
        self.events: dict[Name, AcceptedOrder] = {}
        self._keys: dict[Name, Key] = {}
        self._at: dict[Key, dict[Name, AcceptedOrder]] = {}
        self.memos: dict[Key, Memo] = {}
        self.grants: dict[str, Grant] = {}
        self.taken = revocations.Revocations()
        """what was taken back, by whom"""
        self.mute: str | None = None
        """a key whose grants do not count now, though nobody has revoked it"""
        self.versions: dict[str, int] = {}
        """of revocations, by who issued them"""
        self.recent: deque[Outcome] = deque(maxlen=RECENT)
        """the latest outcomes, oldest first: what recipients are told"""
        self.early: dict[Name, float] = {}
        """until when an order that was cancelled before it came is refused, control by control"""
        self._last_row = self._last_outcome = 0
        """the highest numbers given"""
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
        """Open, or set aside and begin anew what cannot be read. Raises Refused if it is in use,
        StorageFailed where the disk under it fails.
        """
        journal = cls.opened(path, key_of)
        try:
            yield journal
        finally:
            journal.disconnect()

    @classmethod
    def opened(cls, path: Path, key_of: Callable[[str], Key | None]) -> Self:
        """The same, to be closed by `disconnect`."""
        try:
            return cls._connected(path, key_of)
        except (Damaged, ValueError, KeyError, TypeError) as error:
            if _unreadable(error):
                raise StorageFailed(FAILING) from error
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
        """Close the file; what memory holds stays."""
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):  # of a disk that fails; nothing waits to be written
                database.close()

    def _begin(self) -> None:
        with self._db.transaction():
            for table in TABLES:
                self._db.write(table)
        self.id = secrets.token_hex(8)
        with suppress(SpoolFull):  # of a full disk, by an earlier version: the next probe
            self._identify()

    def _identify(self) -> None:
        """Have an id for ever: one commit at least. Raises SpoolFull, StorageFailed."""
        with self._db.transaction():
            self._db.write(IDENTITY)
            self._db.write("INSERT OR IGNORE INTO journal VALUES(1,?,0)", self.id)
            self._db.write("UPDATE journal SET probed=probed+1")
        self.id = str(self._db.one("SELECT id FROM journal"))

    def become(self, fresh: Journal) -> None:
        """Take over the file and all that another object has read from it."""
        self.disconnect()
        mute, key_of = self.mute, self.key_of
        self.__dict__.update(fresh.__dict__)
        self.key_of = key_of
        self.silence(mute)

    def _load(self) -> None:
        """All of it, whatever the clock says now: `prune` alone forgets, by one that is right."""
        for number, body in self._db.read("SELECT number, body FROM hold WHERE closed=0"):
            self.rows[number] = decode(number, body)
        self._last_row = int(self._db.one("SELECT max(number) FROM hold") or 0)
        for device, point, body in self._db.read("SELECT device, point, body FROM event"):
            self._remember(event_of(json.loads(body)), (device, point))
        for device, point, body in self._db.read("SELECT device, point, body FROM point"):
            self.memos[device, point] = memo_of(json.loads(body))
        self.taken = self._db.by(revocations.Revocations.read)
        named = self.taken.names()
        for what, at in self._db.read("SELECT what, at FROM revoked"):
            if what not in named:
                self.taken.add(TakenBack(what, key, "", ROOT, at) for key in (False, True))
        for (body,) in self._db.read("SELECT body FROM granted"):
            with suppress(TypeError):  # of a later version: it does not count here, and is kept
                grant = grant_of(json.loads(body))
                self.grants[grant.jti] = self._standing(grant)
        for n, body in reversed(
            self._db.read("SELECT n, body FROM outcome ORDER BY n DESC LIMIT ?", RECENT)
        ):
            self.recent.append(outcome_of(n, json.loads(body)))
        self.early = self._cancelled_early()
        self.versions = dict(self._db.read("SELECT iss, ver FROM version"))
        self._last_outcome = int(self._db.one("SELECT max(seq) FROM sqlite_sequence") or 0)

    def _cancelled_early(self) -> dict[Name, float]:
        rows = self._db.read("SELECT jti, control, until FROM cancelled_early")
        return {(jti, control): until for jti, control, until in rows}

    def _standing(self, grant: Grant) -> Grant:
        at = self.taken.when(number_of(grant.jti), grant.by, grant.role)
        if at is None:
            at = self.key_taken(grant.kid, grant.by, grant.role)
        return replace(grant, revoked=0.0 if at is None and grant.kid == self.mute else at)

    def silence(self, kid: str | None) -> None:
        """Let what this key has granted not count; None: whatever was granted counts."""
        self.mute = kid
        self.grants = {jti: self._standing(grant) for jti, grant in self.grants.items()}

    def _remember(self, event: AcceptedOrder, key: Key) -> None:
        name = event.order.jti, event.order.control
        self.events[name], self._keys[name] = event, key
        self._at.setdefault(key, {})[name] = event

    def of(self, key: Key) -> list[AcceptedOrder]:
        """What was accepted at a point, as far back as quotas look."""
        return list(self._at.get(key, {}).values())

    def device_of(self, jti: str, control: str) -> str:
        """The device that an order was for; empty: none is known of it."""
        return self._keys.get((jti, control), ("", ""))[0]

    def homeless(self) -> list[AcceptedOrder]:
        """What waits for a control that is configured no more, or is at another point now."""
        return [
            event
            for name, event in list(self.events.items())
            if event.state is OrderState.SCHEDULED and self.key_of(name[1]) != self._keys[name]
        ]

    def memo(self, key: Key) -> Memo:
        """What is remembered of a point."""
        return self.memos.get(key, Memo())

    def open_rows(self, key: Key) -> list[HoldRecord]:
        """What of a point is not given back."""
        return [row for row in list(self.rows.values()) if row.key == key]

    def save(
        self, change: Transaction, also: Callable[[Database], None] | None = None
    ) -> HoldRecord | None:
        """Bring a change to the disk, whole. Returns its row with the number it has.

        `also` writes in the same transaction. Raises SpoolFull or StorageFailed, and nothing was
        changed in memory; Damaged.
        """
        change = self.numbered(change)
        self.write(change, also)
        self.take(change)
        return change.row

    def numbered(self, change: Transaction) -> Transaction:
        """The same change, with the numbers under which it will be kept."""
        row = change.row
        if row is not None and not row.number:
            self._last_row += 1
            row = replace(row, number=self._last_row)
        outcomes = []
        for outcome in change.outcomes:
            if outcome.n:
                outcomes.append(outcome)
                continue
            self._last_outcome += 1
            device = self._device(outcome, row)
            outcomes.append(replace(outcome, device=device, n=self._last_outcome))
        return replace(change, row=row, outcomes=outcomes)

    def write(self, change: Transaction, also: Callable[[Database], None] | None = None) -> None:
        """Bring a numbered change to the disk, whole; the same one again changes nothing.

        Raises SpoolFull, StorageFailed, Damaged.
        """
        with self._db.transaction():
            if also is not None:
                also(self._db)
            if change.row is not None:
                self._save_row(change.row)
            for event in change.events:
                self._save_event(event)
            for outcome in change.outcomes:
                self._save_outcome(outcome)
            for key, memo in change.memos:
                self._save_memo(key, memo)

    def take(self, change: Transaction) -> None:
        """Let a numbered change count from now on."""
        row = change.row
        if row is not None:
            if row.phase is Phase.CLOSED:
                self.rows.pop(row.number, None)
            else:
                self.rows[row.number] = row
        for event in change.events:
            name = event.order.jti, event.order.control
            self._remember(event, self._keys.get(name) or self._point_of(event.order.control))
        self.memos.update(change.memos)
        if not self._unread:  # else they have no numbers by which to be told
            self.recent.extend(change.outcomes)

    def _point_of(self, control: str) -> Key:
        return self.key_of(control) or ("", "")

    def _save_row(self, row: HoldRecord) -> None:
        closed = int(row.phase is Phase.CLOSED)
        self._db.write(
            "INSERT OR REPLACE INTO hold VALUES(?,?,?,?,?,?)",
            row.number, *row.key, row.slot, closed, encode(row),
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

    def _device(self, outcome: Outcome, row: HoldRecord | None) -> str:
        """A control may be gone, or at another point, before all of it is given back."""
        if row is not None and row.control == outcome.control:
            return row.place.device
        known = self.device_of(outcome.jti, outcome.control)
        return known or self._point_of(outcome.control)[0]

    def _save_memo(self, key: Key, memo: Memo) -> None:
        self._db.write("INSERT OR REPLACE INTO point VALUES(?,?,?)", *key, text(memo))

    def grant(self, grant: Grant, also: Callable[[Database], None] | None = None) -> None:
        """Keep a grant."""
        with self._db.transaction():
            if also is not None:
                also(self._db)
            self._db.write(
                "INSERT OR REPLACE INTO granted VALUES(?,?,?)", grant.jti, grant.until, text(grant)
            )
        self.grants[grant.jti] = self._standing(grant)

    def is_taken(self, grant: Grant) -> bool:
        """Whether a grant that comes now was taken back before."""
        return self._standing(grant).revoked is not None

    def key_taken(self, kid: str, owner: str, role: str) -> float | None:
        """Since when a key, as whose it was known when it signed, counts no more; None: it does."""
        return self.taken.when(kid, owner, role, key=True)

    def revoke(
        self,
        some: Sequence[TakenBack],
        version: tuple[str, int],
        also: Callable[[Database], None] | None = None,
    ) -> None:
        """Keep that grants or keys were taken back, for ever; and by which version of whose list.
        It counts from now on also where it could not be kept.
        """
        self.believe(some)
        with self._db.transaction():
            if also is not None:
                also(self._db)
            self._keep_taken(some)
            self._db.write("INSERT OR REPLACE INTO version VALUES(?,?)", *version)
        self.versions[version[0]] = version[1]

    def learn(self, some: Sequence[TakenBack]) -> None:
        """Know of what was taken back while there was no journal, or another one."""
        if new := [one for one in some if one not in self.taken.all()]:
            self._take_back(new)
            with self._db.transaction():
                self._keep_taken(new)

    def believe(self, some: Sequence[TakenBack]) -> None:
        """Let it count that these were taken back, whether or not it can be kept."""
        self._take_back([one for one in some if one not in self.taken.all()])

    def _take_back(self, some: Sequence[TakenBack]) -> None:
        self.taken.add(some)
        self.grants = {jti: self._standing(grant) for jti, grant in self.grants.items()}

    def _keep_taken(self, some: Sequence[TakenBack]) -> None:
        self._db.by(lambda db: revocations.keep(db, some))
        for one in some:
            self._db.write("INSERT OR IGNORE INTO revoked VALUES(?,?)", one.what, one.at)

    def refuse_later(
        self,
        jti: str,
        controls: Sequence[str],
        until: float,
        also: Callable[[Database], None] | None = None,
    ) -> None:
        """Keep that an order was cancelled at these controls before it came."""
        with self._db.transaction():
            if also is not None:
                also(self._db)
            for name in controls:
                self._db.write(
                    "INSERT OR REPLACE INTO cancelled_early VALUES(?,?,?)", jti, name, until
                )
        self.early |= {(jti, name): until for name in controls}

    def first(self, verified: Verified) -> dict[str, Any] | None:
        """What became of these very bytes before; None: they are new. Raises Forged E_REPLAY."""
        return self._db.by(lambda db: replay.first(db, verified))

    def prune(self, now: float) -> None:
        """Forget the numbers of what cannot come again, and what no quota looks back to; only while
        the clock is trusted.
        """
        since = now - REMEMBERED
        with self._db.transaction():
            self._db.by(lambda db: replay.prune(db, now))
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
        """Bring what the copy knows to the disk, first what is closed in it; gives what it need
        not keep any more. Raises StorageFailed.
        """
        known = {
            number: (bool(closed), body)
            for number, closed, body in self._db.read("SELECT number, closed, body FROM hold")
        }
        closed = {(one.journal, one.row.number) for one in copied if one.state != OPEN}
        numbers = [one.row.number for one in copied if one.journal == self.id]
        self._last_row = max([self._last_row, *numbers])
        done = []
        for one in copied:
            own, number = one.journal == self.id, one.row.number
            on_disk = known.get(number) if own else None
            change = None
            if one.state != OPEN:
                if own and not (on_disk and on_disk[0]):
                    change = self._closing(one, now)
            elif not (on_disk and on_disk[0]) and (one.journal, number) not in closed:
                if own and on_disk and on_disk[1] == encode(one.row):
                    continue
                # of a journal that is gone: its hold is ours to end all the same
                change = Transaction(one.row if own else replace(one.row, number=0))
            if change is None or (self.bring(change) and not (own and one.state == OPEN)):
                done.append(one)
        return done

    def bring(self, change: Transaction) -> bool:
        """Let a change count; whether the disk had room for it. Raises StorageFailed."""
        change = self.numbered(change)
        try:
            self.write(change)
        except SpoolFull:
            return False
        finally:
            self.take(change)
        return True

    def _closing(self, one: Copied, now: Moment) -> Transaction:
        row = one.row
        memo = replace(self.memo(row.key), given_back=now)
        if one.state == LEFT:
            memo = replace(memo, free=tuple(slot for slot in memo.free if slot != row.slot))
        words = one.words or "given back while the journal could not be written"
        told = Outcome(row.jti, row.control, row.outcome, now.wall, words=words, closed=True)
        return Transaction(row, outcomes=[told], memos=[(row.key, memo)])

    def read_copy(self, copied: Sequence[Copied]) -> list[Copied]:
        """Hold what the copy knows, while the file itself cannot be read; gives what is known by
        another name from now on, for it was another journal's.
        """
        closed = {(one.journal, one.row.number) for one in copied if one.state != OPEN}
        left = [
            one
            for one in copied
            if one.state == OPEN and (one.journal, one.row.number) not in closed
        ]
        self.id = left[0].journal if left else secrets.token_hex(8)
        self._last_row = max((one.row.number for one in copied), default=0)
        renamed = [one for one in left if one.journal != self.id]
        for one in left:
            row = replace(one.row, number=0) if one in renamed else one.row
            self.take(self.numbered(Transaction(row)))
        return renamed

    def probe(self) -> None:
        """One commit that changes nothing of use. Raises SpoolFull, StorageFailed."""
        self._identify()

    def undo(self, refused: Sequence[Verified], changes: Sequence[Transaction]) -> None:
        """Forget what objects have left here that were refused because their commit failed: a
        commit that fails may have taken effect. `changes`: what they were to change.
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
            told = [one for one in self.recent if one.n not in numbers]
            self.recent = deque(told, maxlen=RECENT)
        for verified in refused:
            with self._db.transaction():
                self._db.by(partial(replay.undo, verified=verified))
                if isinstance(verified.model, claims.GrantClaims):
                    self._db.write("DELETE FROM granted WHERE jti=?", verified.jti)
                    self.grants.pop(verified.jti, None)

    def reread(self, number: int) -> HoldRecord:
        """A row as the next start would find it: from the disk."""
        (body,) = self._db.read("SELECT body FROM hold WHERE number=? AND closed=0", number)[0]
        return decode(number, body)

    def history(self, since: float, until: float) -> list[Outcome]:
        """What came of orders in a span of time, oldest first."""
        rows = self._db.read(
            "SELECT n, body FROM outcome WHERE at>=? AND at<=? ORDER BY n", since, until
        )
        return [outcome_of(n, json.loads(body)) for n, body in rows]


def _unreadable(error: BaseException) -> bool:
    """Whether the disk does not give the bytes, which says nothing of what they are."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return bool(code == sqlite3.SQLITE_IOERR_READ)
