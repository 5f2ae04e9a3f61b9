"""What must be known after a power cut: holds, orders, grants, timers, outcomes (domain.md 3.4).

One SQLite file, written through before anything is written to a device. What is read again and
again stands in memory, and changes there only once it is on the disk.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from agent.authority import replay, taken
from agent.authority.kinds import ROOT
from agent.authority.taken import TakenBack
from agent.buffer.database import Damaged, Database, set_aside
from agent.control.model import State
from agent.control.records import (
    FINAL,
    TABLES,
    Memo,
    event_of,
    grant_of,
    memo_of,
    outcome_of,
    text,
)
from agent.control.row import Phase, Row, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agent.authority.verify import Verified
    from agent.control.model import Event, Grant
    from agent.control.records import Change, Key, Outcome

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

    def __init__(self, database: Database, key_of: Callable[[str], Key | None]) -> None:
        self._db = database
        self.key_of = key_of
        """where a control is, as it is configured"""
        self.set_aside: Path | None = None
        """where an unreadable one was put at the opening"""
        with database.transaction():
            for table in TABLES:
                database.write(table)
        self.rows: dict[int, Row] = {}
        """what is not closed, by number"""
        self.events: dict[Name, Event] = {}
        self._keys: dict[Name, Key] = {}
        self._at: dict[Key, dict[Name, Event]] = {}
        self.memos: dict[Key, Memo] = {}
        self.grants: dict[str, Grant] = {}
        self.taken = taken.Account()
        """what was taken back, by whom"""
        self.mute: str | None = None
        """a key whose grants do not count now, though nobody has revoked it"""
        self.versions: dict[str, int] = {}
        """of revocations, by who issued them"""
        self.recent: deque[Outcome] = deque(maxlen=RECENT)
        """the latest outcomes, oldest first: what recipients are told"""
        self.early: dict[Name, float] = {}
        """until when an order that was cancelled before it came is refused, control by control"""
        self._load()

    @classmethod
    @contextmanager
    def open(cls, path: Path, key_of: Callable[[str], Key | None]) -> Iterator[Self]:
        """Open, or set aside and begin anew what cannot be read. Raises Refused if it is in use."""
        aside = None
        try:
            database = Database(path, LARGEST, STEP, STEP)
            try:
                journal = cls(database, key_of)
            except BaseException:
                database.close()
                raise
        except (Damaged, ValueError, KeyError, TypeError):
            aside = set_aside(path)
            database = Database(path, LARGEST, STEP, STEP)
            journal = cls(database, key_of)
        journal.set_aside = aside
        try:
            yield journal
        finally:
            database.close()

    def _load(self) -> None:
        """All of it, whatever the clock says now: `prune` alone forgets, by one that is right."""
        for number, body in self._db.read("SELECT number, body FROM hold WHERE closed=0"):
            self.rows[number] = decode(number, body)
        for device, point, body in self._db.read("SELECT device, point, body FROM event"):
            self._remember(event_of(json.loads(body)), (device, point))
        for device, point, body in self._db.read("SELECT device, point, body FROM point"):
            self.memos[device, point] = memo_of(json.loads(body))
        self.taken = self._db.by(taken.Account.read)
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

    def _cancelled_early(self) -> dict[Name, float]:
        rows = self._db.read("SELECT jti, control, until FROM cancelled_early")
        return {(jti, control): until for jti, control, until in rows}

    def _standing(self, grant: Grant) -> Grant:
        at = self.taken.when(grant.jti, grant.by, grant.role)
        if at is None:
            at = self.key_taken(grant.kid, grant.by, grant.role)
        return replace(grant, revoked=0.0 if at is None and grant.kid == self.mute else at)

    def silence(self, kid: str | None) -> None:
        """Let what this key has granted not count; None: whatever was granted counts."""
        self.mute = kid
        self.grants = {jti: self._standing(grant) for jti, grant in self.grants.items()}

    def _remember(self, event: Event, key: Key) -> None:
        name = event.order.jti, event.order.control
        self.events[name], self._keys[name] = event, key
        self._at.setdefault(key, {})[name] = event

    def of(self, key: Key) -> list[Event]:
        """What was accepted at a point, as far back as quotas look."""
        return list(self._at.get(key, {}).values())

    def device_of(self, jti: str, control: str) -> str:
        """The device that an order was for; empty: none is known of it."""
        return self._keys.get((jti, control), ("", ""))[0]

    def homeless(self) -> list[Event]:
        """What waits for a control that is configured no more, or is at another point now."""
        return [
            event
            for name, event in list(self.events.items())
            if event.state is State.SCHEDULED and self.key_of(name[1]) != self._keys[name]
        ]

    def memo(self, key: Key) -> Memo:
        """What is remembered of a point."""
        return self.memos.get(key, Memo())

    def open_rows(self, key: Key) -> list[Row]:
        """What of a point is not given back."""
        return [row for row in list(self.rows.values()) if row.key == key]

    def save(self, change: Change, also: Callable[[Database], None] | None = None) -> Row | None:
        """Bring a change to the disk, whole. Returns its row with the number it has.

        `also` writes in the same transaction. Raises SpoolFull, and nothing was changed; Damaged.
        """
        row = change.row
        with self._db.transaction():
            if also is not None:
                also(self._db)
            if row is not None:
                row = self._save_row(row)
            for event in change.events:
                self._save_event(event)
            told = [self._save_outcome(outcome, row) for outcome in change.outcomes]
            for key, memo in change.memos:
                self._save_memo(key, memo)
        self._take(change, row)
        self.recent.extend(told)
        return row

    def _take(self, change: Change, row: Row | None) -> None:
        """What is on the disk now stands in memory too."""
        if row is not None:
            if row.phase is Phase.CLOSED:
                self.rows.pop(row.number, None)
            else:
                self.rows[row.number] = row
        for event in change.events:
            name = event.order.jti, event.order.control
            self._remember(event, self._keys.get(name) or self._point_of(event.order.control))
        self.memos.update(change.memos)

    def _point_of(self, control: str) -> Key:
        return self.key_of(control) or ("", "")

    def _save_row(self, row: Row) -> Row:
        closed = int(row.phase is Phase.CLOSED)
        if not row.number:
            top = self._db.one("SELECT max(number) FROM hold") or 0
            row = replace(row, number=int(top) + 1)
        self._db.write(
            "INSERT OR REPLACE INTO hold VALUES(?,?,?,?,?,?)",
            row.number, *row.key, row.slot, closed, encode(row),
        )  # fmt: skip
        return row

    def _save_event(self, event: Event) -> None:
        name = event.order.jti, event.order.control
        key = self._keys.get(name) or self._point_of(event.order.control)
        self._db.write(
            "INSERT OR REPLACE INTO event VALUES(?,?,?,?,?,?,?,?)",
            *name, *key, event.state in FINAL, event.accepted, event.end, text(event),
        )  # fmt: skip

    def _save_outcome(self, outcome: Outcome, row: Row | None) -> Outcome:
        outcome = replace(outcome, device=self._device(outcome, row))
        self._db.write(
            "INSERT INTO outcome(at, jti, control, state, body) VALUES(?,?,?,?,?)",
            outcome.at, outcome.jti, outcome.control, outcome.state, text(outcome),
        )  # fmt: skip
        n = int(self._db.one("SELECT last_insert_rowid()"))
        self._db.write("DELETE FROM outcome WHERE n<=?", n - KEPT)
        return replace(outcome, n=n)

    def _device(self, outcome: Outcome, row: Row | None) -> str:
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
        self._take_back(some)
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

    def _take_back(self, some: Sequence[TakenBack]) -> None:
        self.taken.add(some)
        self.grants = {jti: self._standing(grant) for jti, grant in self.grants.items()}

    def _keep_taken(self, some: Sequence[TakenBack]) -> None:
        self._db.by(lambda db: taken.keep(db, some))
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

    def reread(self, number: int) -> Row:
        """A row as the next start would find it: from the disk."""
        (body,) = self._db.read("SELECT body FROM hold WHERE number=? AND closed=0", number)[0]
        return decode(number, body)

    def history(self, since: float, until: float) -> list[Outcome]:
        """What came of orders in a span of time, oldest first."""
        rows = self._db.read(
            "SELECT n, body FROM outcome WHERE at>=? AND at<=? ORDER BY n", since, until
        )
        return [outcome_of(n, json.loads(body)) for n, body in rows]
