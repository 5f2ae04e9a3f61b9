"""What the platform holds: batches by id, rows by their key, in one SQLite file.

A row with a span states each of its slots: two rows of one version that state the same slot are a
duplicate, wherever they begin.

Id, hash and rows of a batch, and what it takes back of others, are one transaction; only then is
there a receipt.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from hil.platform.unpack import Id, Retract, Row, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hil.platform.unpack import Parcel

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
    flags TEXT NOT NULL DEFAULT '', n INTEGER,
    PRIMARY KEY (recipient, place, channel, kind, step, t, ver)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS row_span ON row(recipient, place, channel, kind, step, ver, t)
    WHERE span > 1;
CREATE TABLE IF NOT EXISTS directory (
    gateway TEXT, recipient TEXT, list TEXT, id TEXT, body TEXT NOT NULL,
    PRIMARY KEY (gateway, recipient, list, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retraction (
    gateway TEXT, recipient TEXT, id TEXT, body TEXT NOT NULL, erased INTEGER NOT NULL,
    epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (gateway, recipient, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
    gateway TEXT, recipient TEXT, epoch TEXT, seq INTEGER, id TEXT,
    PRIMARY KEY (gateway, recipient, epoch, seq, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (  -- where in its epoch an item came first: by seq
    gateway TEXT, recipient TEXT, epoch TEXT, list TEXT, id TEXT, at INTEGER NOT NULL,
    place TEXT, occupancy TEXT,
    PRIMARY KEY (gateway, recipient, epoch, list, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stretch (  -- a series that is made again begins anew: what it was before
    gateway TEXT, recipient TEXT, id TEXT, since TEXT, body TEXT NOT NULL,
    PRIMARY KEY (gateway, recipient, id, since)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lie (n INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tally (what TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
"""
ON_SCHEDULE = -1
TO_REJECT = "to_reject"
"""the tally of batches that are still to be rejected"""
MOST_ITEMS = 1_000_000
"""more than any batch has of the directory"""
COLUMNS = (*Row._fields, "epoch", "seq")
OVERLAPPING = """
SELECT t, span, again FROM row WHERE recipient = ?1 AND place = ?2 AND channel = ?3 AND kind = ?4
AND step = ?5 AND ver = ?7 AND t BETWEEN ?6 AND ?8
UNION ALL
SELECT t, span, again FROM row INDEXED BY row_span WHERE recipient = ?1 AND place = ?2
AND channel = ?3 AND kind = ?4 AND step = ?5 AND ver = ?7 AND span > 1 AND t < ?6
AND t + (span - 1) * step >= ?6
"""
"""rows of a key that state a slot from ?6 to ?8: those that begin there, spans that begin before"""


class Ledger:
    """An open ledger; `opened` makes it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def store(self, parcel: Parcel, size: int) -> str:
        """Keep a batch unless its id is known; the sha256 of what is held under that id.

        The first bytes stay, whatever comes later under the same id. Raises UnreadableError while
        it was told to reject what comes (`tell`).
        """
        self._obey(parcel)
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

    def _obey(self, parcel: Parcel) -> None:
        with self._transaction():
            left = self._db.execute(
                "UPDATE tally SET n = n - 1 WHERE what = ? AND n > 0", (TO_REJECT,)
            ).rowcount
        if left:
            raise UnreadableError("told to reject it", parcel.id)

    def word(self, id_: Id, held: str) -> dict[str, Any]:
        """What a receipt says of an id: the hash of what is held; the retractions that it brought,
        or that refused rows of it, with how many rows each has removed.
        """
        found = self._db.execute(
            "SELECT id, erased FROM retraction WHERE gateway = ?1 AND recipient = ?2"
            " AND ((epoch, seq) = (?3, ?4) OR id IN (SELECT id FROM refused"
            " WHERE (gateway, recipient, epoch, seq) = (?1, ?2, ?3, ?4)))",
            id_,
        )
        retracted = [list(one) for one in found]
        word: dict[str, Any] = {"stored": [[id_.seq, held]]}
        return word | ({"retracted": retracted} if retracted else {})

    def lie(self) -> Any:
        """What it was told to say next in place of the truth (hil.platform.answer); None: truth."""
        with self._transaction():
            found = self._db.execute("SELECT n, body FROM lie ORDER BY n LIMIT 1").fetchone()
            if found is None:
                return None
            self._db.execute("DELETE FROM lie WHERE n = ?", found[:1])
        return json.loads(found[1])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            yield

    def _keep(self, parcel: Parcel, size: int) -> None:
        facts = (parcel.sha256, parcel.lane, parcel.created, len(parcel.rows), size, time.time())
        self._db.execute("INSERT INTO batch VALUES (?,?,?,?,?,?,?,?,?,?)", (*parcel.id, *facts))
        if parcel.void is not None:
            self._count("voids")
        for one in parcel.retract:
            self._retract(parcel, one)
        standing = self._standing(parcel.id)
        for row in parcel.rows:
            for left in _left(row, standing):
                self._add(parcel, left)
            if _left(row, standing) != [row]:
                self._count("refused_rows")
                self._refuse(parcel.id, [one for one in standing if _left(row, [one]) != [row]])
        at = parcel.id.seq * MOST_ITEMS
        for name, items in parcel.directory.items():
            if name != "before":
                for item in items:
                    at += 1
                    self._learn(parcel, name, item, at)

    def _refuse(self, id_: Id, by: list[Retract]) -> None:
        """Note which retractions refuse rows of a batch: its receipt names them."""
        self._db.executemany(
            "INSERT OR IGNORE INTO refused VALUES (?,?,?,?,?)", [(*id_, one.id) for one in by]
        )

    def _standing(self, id_: Id) -> list[Retract]:
        """What was taken back for ever: refused from whatever batch it comes in."""
        found = self._db.execute(
            "SELECT body FROM retraction WHERE gateway = ? AND recipient = ?",
            (id_.gateway, id_.recipient),
        )
        return [Retract(*json.loads(body)) for (body,) in found]

    def _retract(self, parcel: Parcel, one: Retract) -> None:
        """Remove what it covers; the same id again is the same retraction."""
        gateway, recipient, epoch, seq = parcel.id
        erased = 0
        for held in self._db.execute(
            f"SELECT {', '.join(COLUMNS)} FROM row WHERE recipient = ? AND gateway = ?"
            " AND place = ?",
            (recipient, gateway, one.place),
        ).fetchall():
            row = _row(held)
            left = _left(row, [one])
            if left == [row]:
                continue
            erased += 1
            self._db.execute(
                "DELETE FROM row WHERE"
                " (recipient, place, channel, kind, step, t, ver) = (?,?,?,?,?,?,?)",
                _key(recipient, row),
            )
            origin = parcel._replace(id=Id(gateway, recipient, *held[-2:]))
            for part in left:
                self._add(origin, part)
        self._db.execute(
            "INSERT INTO retraction VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET"
            " erased = erased + excluded.erased, epoch = excluded.epoch, seq = excluded.seq",
            (gateway, recipient, one.id, json.dumps(one), erased, epoch, seq),
        )

    def _learn(self, parcel: Parcel, name: str, item: dict[str, Any], at: int) -> None:
        """The latest word on one thing of the directory; `at`: where in its epoch it came."""
        of = [str(item.get(word, "")) for word in ("place", "channel", "kind", "step")]
        key = str(item.get("id", "/".join(of)))
        who = (parcel.id.gateway, parcel.id.recipient)
        self._db.execute(
            "INSERT INTO told VALUES (?,?,?,?,?,?,?,?)"
            " ON CONFLICT DO UPDATE SET at = min(at, excluded.at)",
            (*parcel.id[:3], name, key, at, item.get("place"), item.get("occupancy")),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO directory VALUES (?,?,?,?,?)",
            (*who, name, key, json.dumps(item)),
        )
        if name == "series":
            self._db.execute(
                "INSERT OR REPLACE INTO stretch VALUES (?,?,?,?,?)",
                (*who, key, item["since"], json.dumps(item)),
            )

    def _add(self, parcel: Parcel, row: Row) -> None:
        """Keep the slots of a row that no other row of its version states; the first one stays."""
        last = row.t + (row.span - 1) * row.step
        key = _key(parcel.id.recipient, row)
        overlapping = self._db.execute(OVERLAPPING, (*key, last)).fetchall()
        held = [(_slots(t, span, row.step), again) for t, span, again in overlapping]
        twice = [t for t in _slots(row.t, row.span, row.step) if any(t in of for of, _ in held)]
        if not twice:
            self._insert(parcel, row)
            return
        if row.again or all(again for of, again in held if any(t in of for t in twice)):
            self._count("duplicate_rows")
        else:
            self._count("alarms")
            self._count("overlapping_slots", len(twice))
        for part in _parts(row, set(twice).__contains__):
            self._insert(parcel, part)

    def _insert(self, parcel: Parcel, row: Row) -> None:
        facts = (row.v, row.unit, row.q, row.d, row.why, row.span, row.meter, row.occupancy)
        origin = (
            row.basis,
            row.again,
            parcel.id.gateway,
            parcel.id.epoch,
            parcel.id.seq,
            row.flags,
            row.n,
        )
        self._db.execute(
            f"INSERT INTO row VALUES ({','.join('?' * 22)})",
            (*_key(parcel.id.recipient, row), *facts, *origin),
        )

    def _count(self, what: str, n: int = 1) -> None:
        self._db.execute(
            "INSERT INTO tally VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET n = n + excluded.n",
            (what, n),
        )


def _key(recipient: str, row: Row) -> tuple[object, ...]:
    ver = ON_SCHEDULE if row.ver is None else row.ver
    return (recipient, row.place, row.channel, row.kind, row.step, row.t, ver)


def _row(held: tuple[Any, ...]) -> Row:
    row = Row(*held[:-2])
    return row._replace(ver=None if row.ver == ON_SCHEDULE else row.ver, again=bool(row.again))


def _slots(t: int, span: int, step: int) -> range:
    """The slots that a row states; a row without a step states one."""
    return range(t, t + span * step, step) if step else range(t, t + 1)


def _left(row: Row, standing: list[Retract]) -> list[Row]:
    """What stays of a row: of a run of missing slots, each slot for itself."""
    return _parts(row, lambda t: any(one.covers(row._replace(t=t, span=1)) for one in standing))


def _parts(row: Row, leaves: Callable[[int], bool]) -> list[Row]:
    """A row without the slots that leave it, as few rows as possible."""
    left: list[Row] = []
    for t in _slots(row.t, row.span, row.step):
        if leaves(t):
            continue
        if left and left[-1].t + left[-1].span * row.step == t:
            left[-1] = left[-1]._replace(span=left[-1].span + 1)
        else:
            left.append(row._replace(t=t, span=1))
    return left


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """Open the ledger at `path`, or begin one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(TABLES)
        yield Ledger(db)


def tell_to_reject(path: Path, batches: int) -> None:
    """Let the platform of that ledger reject so many of the batches that come next."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT OR REPLACE INTO tally VALUES (?, ?)", (TO_REJECT, batches))
