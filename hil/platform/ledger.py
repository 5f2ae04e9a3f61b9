"""What the platform holds: batches by id, rows by their key, in one SQLite file.

Id, hash and rows of a batch are one transaction; only then is there a receipt.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hil.platform.unpack import Parcel, Row

TABLES = """
CREATE TABLE IF NOT EXISTS batch (
    gateway TEXT, recipient TEXT, epoch TEXT, seq INTEGER, sha256 TEXT NOT NULL, lane TEXT NOT NULL,
    created TEXT NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, arrived REAL NOT NULL,
    PRIMARY KEY (gateway, recipient, epoch, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS row (
    recipient TEXT, place TEXT, channel TEXT, kind TEXT, step INTEGER, t INTEGER,
    ver INTEGER,           -- -1: made on schedule
    v TEXT,                -- the number's own digits
    unit TEXT NOT NULL, q TEXT NOT NULL, d INTEGER NOT NULL, why TEXT, span INTEGER NOT NULL,
    meter TEXT, occupancy TEXT, basis TEXT NOT NULL, again INTEGER NOT NULL,
    gateway TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    flags TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (recipient, place, channel, kind, step, t, ver)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS directory (
    gateway TEXT, recipient TEXT, list TEXT, id TEXT, body TEXT NOT NULL,
    PRIMARY KEY (gateway, recipient, list, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tally (what TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
"""
ON_SCHEDULE = -1


class Ledger:
    """An open ledger; `opened` makes it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def store(self, parcel: Parcel, size: int) -> str:
        """Keep a batch unless its id is known; the sha256 of what is held under that id.

        The first bytes stay, whatever comes later under the same id.
        """
        with self._transaction():
            held = self._db.execute(
                "SELECT sha256 FROM batch WHERE (gateway, recipient, epoch, seq) = (?, ?, ?, ?)",
                parcel.id,
            ).fetchone()
            if held is None:
                self._keep(parcel, size)
            else:
                same = held[0] == parcel.sha256
                self._count("resent_batches" if same else "differing_batches")
            return parcel.sha256 if held is None else str(held[0])

    def count(self, what: str) -> None:
        """Add one to a tally, durably."""
        with self._transaction():
            self._count(what)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            yield

    def _keep(self, parcel: Parcel, size: int) -> None:
        facts = (parcel.sha256, parcel.lane, parcel.created, len(parcel.rows), size, time.time())
        self._db.execute("INSERT INTO batch VALUES (?,?,?,?,?,?,?,?,?,?)", (*parcel.id, *facts))
        for row in parcel.rows:
            self._add(parcel, row)
        for name, items in parcel.directory.items():
            if name != "before":
                for item in items:
                    self._learn(parcel, name, item)

    def _learn(self, parcel: Parcel, name: str, item: dict[str, Any]) -> None:
        """The latest word on one thing of the directory."""
        of = [str(item.get(word, "")) for word in ("place", "channel", "kind", "step")]
        key = str(item.get("id", "/".join(of)))
        who = (parcel.id.gateway, parcel.id.recipient)
        self._db.execute(
            "INSERT OR REPLACE INTO directory VALUES (?,?,?,?,?)",
            (*who, name, key, json.dumps(item)),
        )

    def _add(self, parcel: Parcel, row: Row) -> None:
        ver = ON_SCHEDULE if row.ver is None else row.ver
        key = (parcel.id.recipient, row.place, row.channel, row.kind, row.step, row.t, ver)
        facts = (row.v, row.unit, row.q, row.d, row.why, row.span, row.meter, row.occupancy)
        origin = (
            row.basis,
            row.again,
            parcel.id.gateway,
            parcel.id.epoch,
            parcel.id.seq,
            row.flags,
        )
        added = self._db.execute(
            f"INSERT OR IGNORE INTO row VALUES ({','.join('?' * 21)})", (*key, *facts, *origin)
        )
        if not added.rowcount:
            self._count("duplicate_rows" if row.again or self._again(key) else "alarms")

    def _again(self, key: tuple[object, ...]) -> bool:
        found = self._db.execute(
            "SELECT again FROM row WHERE"
            " (recipient, place, channel, kind, step, t, ver) = (?,?,?,?,?,?,?)",
            key,
        ).fetchone()
        return bool(found[0])

    def _count(self, what: str) -> None:
        self._db.execute(
            "INSERT INTO tally VALUES (?, 1) ON CONFLICT (what) DO UPDATE SET n = n + 1", (what,)
        )


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """Open the ledger at `path`, or begin one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(TABLES)
        yield Ledger(db)
