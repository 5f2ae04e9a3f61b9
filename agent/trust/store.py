"""The trust store: the trust list, revoked keys, used ids, and objects that wait.

It is one SQLite file in the state directory. A commit that has returned is on the disk.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.core.atomic_write import NO_ROOM, SILENT, DiskWriter, Late, Reserve
from agent.core.clock import seconds, stamp
from agent.core.errors import NotRecorded, Refused
from agent.core.i18n import Text, from_wire, to_wire
from agent.core.log_fields import LogEvent, fields
from agent.core.storage import is_damage, made, reason_of
from agent.trust import trust_list, verify
from agent.trust.error_codes import Forged, ObjectCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.trust.trust_list import TrustList
    from agent.trust.verify import TakenBack, Verified

log = logging.getLogger(__name__)

ALLOWANCE_SCHEMA = """
CREATE TABLE IF NOT EXISTS allowance (
    owner TEXT PRIMARY KEY, left REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""
BURST = 20
"""requests that an issuer may make in a row"""
INTERVAL = 1800.0
"""seconds after which an issuer may make one more request"""
SET_ASIDE_SCHEMA = """
CREATE TABLE IF NOT EXISTS set_aside (
    n INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL UNIQUE, at INTEGER NOT NULL,
    via TEXT NOT NULL, error TEXT NOT NULL, raw BLOB NOT NULL
);
"""
MOST = 1000
"""objects of which the hash is kept"""
MOST_WHOLE = 20
"""objects of which the bytes are kept as well"""
MOST_BYTES = 2 * 1024 * 1024
"""of all kept objects together"""
RECENT = 7 * 86_400
"""seconds for which `status` reports one"""
LONGEST_ERROR = 300
VOTES_SCHEMA = """
CREATE TABLE IF NOT EXISTS vote (
    code TEXT PRIMARY KEY, until INTEGER NOT NULL, account TEXT NOT NULL, claims TEXT NOT NULL
) WITHOUT ROWID;
"""
CONFIRMED_WITHIN = 30 * 86_400
"""seconds for which a code can be used"""
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""without characters that people confuse: O, I and L are read as 0, 1 and 1"""
ALIKE = str.maketrans("OIL", "011", "- ")
LENGTH = 10
FILE = "authority.sqlite"


MOST_WAITING = 1000
WAITS_FOR = 60 * 86_400
"""seconds for which an object waits for facts that it depends on"""


NOT_NOW = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP,
}  # fmt: skip
"""errors of a full or busy disk, which do not mean that the file is damaged"""


def take_allowance(db: sqlite3.Connection, owner: str, now: float) -> None:
    """Count one request of an issuer. Raises Forged E_OFTEN if it has none left; then
    none counts.
    """
    allowance = db.execute("SELECT left, at FROM allowance WHERE owner = ?", (owner,)).fetchone()
    left, at = allowance or (BURST, now)
    # a clock that is set back must neither add nor remove requests
    left = min(BURST, left + max(0.0, now - at) / INTERVAL)
    if left < 1:
        again = stamp(now + (1 - left) * INTERVAL)
        raise Forged(
            ObjectCode.OFTEN,
            Text(
                "{owner} has made {burst} requests and may now make one every {interval:.0f}"
                " minutes: the next from {again}",
                owner=owner,
                burst=BURST,
                interval=INTERVAL / 60,
                again=again,
            ),
        )
    db.execute("INSERT OR REPLACE INTO allowance VALUES (?, ?, ?)", (owner, left - 1, now))


def is_set_aside(db: sqlite3.Connection, sha256: str) -> bool:
    """Whether an object with this hash was set aside."""
    row = db.execute("SELECT 1 FROM set_aside WHERE sha256 = ?", (sha256,)).fetchone()
    return row is not None


def set_aside(
    db: sqlite3.Connection, sha256: str, came: tuple[str, bytes], error: str, at: float
) -> None:
    """Set an object aside. `came`: its way here and its bytes."""
    # one that a person submitted in vain gets a new number, and counts as the newest
    db.execute(
        "INSERT OR REPLACE INTO set_aside (sha256, at, via, error, raw) VALUES (?, ?, ?, ?, ?)",
        (sha256, int(at), came[0], error[:LONGEST_ERROR], came[1]),
    )
    left = MOST_BYTES
    rows = db.execute("SELECT n, length(raw) FROM set_aside ORDER BY n DESC").fetchall()
    # newest first, so that the oldest lose their bytes
    for place, (n, size) in enumerate(rows):
        left -= size
        if size and (place >= MOST_WHOLE or left < 0):
            db.execute("UPDATE set_aside SET raw = x'' WHERE n = ?", (n,))
    for n, _ in rows[MOST:]:
        db.execute("DELETE FROM set_aside WHERE n = ?", (n,))


def forget_set_aside(db: sqlite3.Connection, before: int) -> None:
    """Delete all but the hash of objects that were set aside before a time."""
    db.execute("UPDATE set_aside SET raw = x'', error = '' WHERE at < ? AND error != ''", (before,))


def drop_set_aside(db: sqlite3.Connection, sha256: str) -> None:
    """Delete an object that has been accepted now."""
    db.execute("DELETE FROM set_aside WHERE sha256 = ?", (sha256,))


def set_aside_recently(db: sqlite3.Connection, now: float) -> int:
    """Number of objects set aside in the last seven days."""
    since = int(now) - RECENT
    count: int = db.execute("SELECT count(*) FROM set_aside WHERE at > ?", (since,)).fetchone()[0]
    return count


def list_set_aside(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """All of them, newest first, for people."""
    rows = db.execute(
        "SELECT sha256, at, via, error FROM set_aside WHERE error != '' ORDER BY n DESC"
    )
    return [
        {"sha256": sha256, "since": stamp(at), "via": via, "error": error}
        for sha256, at, via, error in rows
    ]


@dataclass(frozen=True, slots=True)
class Vote:
    """A recorded vote: the account, the claims, and until when it can be confirmed."""

    account: str
    until: int
    claims: Mapping[str, Any]


def draw_code() -> str:
    """A new random code, as printed on paper."""
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{drawn[:5]}-{drawn[5:]}"


def keep_vote(db: sqlite3.Connection, code: str, vote: Vote, now: float) -> None:
    """Store a vote until it is confirmed, and delete votes whose time is over."""
    db.execute("DELETE FROM vote WHERE until < ?", (int(now),))
    text = json.dumps(vote.claims, ensure_ascii=False)
    db.execute(
        "INSERT INTO vote VALUES (?, ?, ?, ?)", (_hash(code), vote.until, vote.account, text)
    )


def find_vote(db: sqlite3.Connection, code: str, now: float) -> Vote | None:
    """The vote of a code; None: the code is unknown, used or expired."""
    row = db.execute(
        "SELECT account, until, claims FROM vote WHERE code = ? AND until >= ?",
        (_hash(code), int(now)),
    ).fetchone()
    return Vote(row[0], row[1], json.loads(row[2])) if row else None


def drop_vote(db: sqlite3.Connection, code: str) -> None:
    """Delete a vote, since a code works once."""
    db.execute("DELETE FROM vote WHERE code = ?", (_hash(code),))


def _hash(code: str) -> str:
    return hashlib.sha256(code.upper().translate(ALIKE).encode()).hexdigest()


SCHEMA = f"""
{verify.REPLAY_SCHEMA}
{VOTES_SCHEMA}
{verify.REVOCATION_SCHEMA}
{SET_ASIDE_SCHEMA}
{ALLOWANCE_SCHEMA}
CREATE TABLE IF NOT EXISTS trust (ver INTEGER PRIMARY KEY, at INTEGER NOT NULL, raw BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS revoked (kid TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS version (
    iss TEXT NOT NULL, typ TEXT NOT NULL, ver INTEGER NOT NULL, PRIMARY KEY (iss, typ)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    sha256 TEXT PRIMARY KEY, at INTEGER NOT NULL, via TEXT NOT NULL, why TEXT NOT NULL,
    typ TEXT NOT NULL, jti TEXT NOT NULL, raw BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS told (
    n INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, via TEXT NOT NULL,
    owner TEXT NOT NULL, typ TEXT NOT NULL, jti TEXT NOT NULL, sha256 TEXT NOT NULL,
    state TEXT NOT NULL, code TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS told_words (n INTEGER PRIMARY KEY, words TEXT NOT NULL);
"""


def _no_room(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code in NOT_NOW if code else isinstance(error, OSError) and error.errno in NO_ROOM


def _fails(path: Path, error: Exception) -> bool:
    """Whether the disk, and not the content of the file, is the cause of an error (rule A1)."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in NOT_NOW or (reason_of(error, path.parent) is not None and not is_damage(error))


def _unread(finding: tuple[str]) -> bool:
    """Whether a line of SQLite's check says that the disk could not read a page."""
    codes = re.findall(r"error code=(\d+)", finding[0])
    return any(int(code) & 0xFF == sqlite3.SQLITE_IOERR for code in codes)


def _unavailable(path: Path, error: Exception) -> NotRecorded:
    return NotRecorded(
        "{path} cannot be opened now ({error}): is the disk full or read-only? Check with: df -h",
        path=path,
        error=error,
    )


def _set_damaged_aside(path: Path) -> None:
    # with its WAL: SQLite could apply a WAL that stays behind to the new file
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(path.with_name(f"{path.name}.damaged{suffix}"))


def _delete_copy(copy: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)


class TrustStore:
    """The open trust store. One thread uses it; only the disk writer runs in another."""

    def __init__(
        self, db: sqlite3.Connection, path: Path, memory_folder: Path | None = None
    ) -> None:
        self.db, self._path, self._memory_folder = db, path, memory_folder
        self._reserve = Reserve(path.parent)
        self.volatile = False
        """it is a copy in memory, because the disk fails; new entries are lost at the next boot"""
        self._shut = False
        self.taken = verify.Revocations.read(db)
        self.revoked = frozenset(kid for (kid,) in db.execute("SELECT kid FROM revoked"))
        """kids of revoked keys, without those revoked before they were known; they stay revoked
        while the store is shut"""
        self.trust = self._trust()

    @classmethod
    @contextmanager
    def open(cls, path: Path, memory_folder: Path | None = None) -> Iterator[TrustStore]:
        """Open the store. A damaged file is renamed, and then no object is accepted until a trust
        list is accepted again.

        `memory_folder`: a folder in memory for a copy, used if the disk cannot be written. Raises
        NotRecorded if the file cannot even be read.
        """
        opening = partial(cls._opened, path, memory_folder)
        try:
            store = DiskWriter.make(opening)
            if memory_folder is not None:
                cls._take_over(store, memory_folder / path.name)
        except (OSError, sqlite3.DatabaseError, Forged, NotRecorded) as error:
            if isinstance(error, OSError | NotRecorded) or _fails(path, error):
                store = cls._copied(path, memory_folder, error)
            else:
                log.error(  # noqa: TRY400 -- no bug
                    "%s is damaged and was renamed to *.damaged: %s", path, error,
                    extra=fields(LogEvent.STORE_DAMAGED, store=path.name),
                )  # fmt: skip
                DiskWriter.make(partial(_set_damaged_aside, path))
                store = DiskWriter.make(opening)
        try:
            yield store
        finally:
            # queued in any case: the connection must not close here as it is collected
            closing_it = DiskWriter.begin(store.db.close)
            with suppress(OSError, TimeoutError):
                DiskWriter.must_answer()
                closing_it.result(DiskWriter.patience)

    @classmethod
    def _take_over(cls, store: TrustStore, copy: Path) -> None:
        """Move revocations from the copy in memory to the disk, and delete the copy.

        Nothing else needs to be moved: it was not acknowledged, so its senders send it again.
        """
        if copy.exists():
            revoked: list[str] = []
            taken_back: list[TakenBack] = []
            # a damaged copy must not keep the store on the disk from opening
            with suppress(OSError, sqlite3.DatabaseError, Refused):
                held = cls._of(copy)
                with closing(held.db):
                    revoked, taken_back = sorted(held.revoked), held.taken.all()
            store.remember(revoked, (), taken_back, seconds())
        _delete_copy(copy)

    @classmethod
    def _copied(cls, path: Path, memory_folder: Path | None, why: Exception) -> TrustStore:
        """Open the copy of this boot, or make one. Raises NotRecorded."""
        if memory_folder is None:
            raise _unavailable(path, why) from why
        copy = memory_folder / path.name
        try:
            made(memory_folder)
            if not copy.exists():
                # the WAL first: without it the copy would silently lack the last commits
                for suffix in ("-wal", ""):
                    file = path.with_name(path.name + suffix)
                    if file.exists():
                        shutil.copyfile(file, copy.with_name(copy.name + suffix))
            store = cls._of(copy)
        except (OSError, sqlite3.DatabaseError, Refused) as error:
            raise _unavailable(path, error) from error
        store.volatile = True
        return store

    @classmethod
    def _opened(cls, path: Path, memory_folder: Path | None) -> TrustStore:
        """Open the file on the disk; if the disk is full, use the space of the reserve."""
        reserve = Reserve(path.parent)
        try:
            store = cls._of(path, memory_folder)
        except (OSError, sqlite3.DatabaseError) as error:
            if not (_no_room(error) and reserve.give()):
                raise
            store = cls._of(path, memory_folder)
        reserve.stand()
        return store

    @classmethod
    def _of(cls, path: Path, memory_folder: Path | None = None) -> TrustStore:
        # SQLite would create the file with the mode of the umask
        path.touch(mode=0o600)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            # secure_delete: objects may concern people, so deleted ones must not stay in free pages
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            findings = db.execute("PRAGMA quick_check").fetchall()
            if any(map(_unread, findings)):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if findings != [("ok",)]:
                raise sqlite3.DatabaseError("its pages are inconsistent")
            db.executescript(SCHEMA)
            return cls(db, path, memory_folder)
        except BaseException:
            db.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit the whole block to the disk, or nothing. Raises NotRecorded if the disk fails.

        If the disk is full, the reserve is freed for the next attempt. If it does not answer, the
        store goes on as a copy in memory, since a thread still waits for the file.
        """
        self.must_be_open()
        try:
            self._execute("BEGIN IMMEDIATE")
            yield self.db
            self._execute("COMMIT")
        except BaseException as error:
            # a connection that is shut would raise another error here and hide the first one
            if not self._shut and self.db.in_transaction:
                self.db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                if _no_room(error):
                    self._reserve.give()
                raise NotRecorded(
                    "{file} cannot be written ({error})", file=FILE, error=error
                ) from error
            raise

    def _execute(self, statement: str) -> None:
        """Execute a statement that waits for the disk. Raises NotRecorded, sqlite3.Error."""
        db = self.db
        if self.volatile:
            db.execute(statement)
            return
        try:
            DiskWriter.make(lambda: db.execute(statement))
        except OSError as error:
            if isinstance(error, Late):
                self._continue_in_memory(error)
            raise NotRecorded(
                "{file} cannot be written ({error})", file=FILE, error=error
            ) from error

    def _continue_in_memory(self, why: Late) -> None:
        # until the copy is open, no call may wait for the stuck connection
        stuck, empty = self.db, self.shut()
        DiskWriter.begin(stuck.close)  # runs once the stuck call has returned
        self.volatile = True
        self.db = self._copied(self._path, self._memory_folder, why).db  # or the store stays shut
        self._shut = False
        empty.close()

    def shut(self) -> sqlite3.Connection:
        """Be without entries, as the file is closed and cannot be opened again. Return the empty
        database, which the caller closes.
        """
        self._shut = True
        self.db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.db.executescript(SCHEMA)
        return self.db

    def must_be_open(self) -> None:
        """Raise NotRecorded if the store is neither on the disk nor in memory now."""
        if self._shut:
            raise NotRecorded("{file} cannot be read now: {silent}", file=FILE, silent=SILENT)

    def _trust(self) -> TrustList | None:
        row = self.db.execute("SELECT raw FROM trust ORDER BY ver DESC LIMIT 1").fetchone()
        if row is None:
            return None
        current = trust_list.read(bytes(row[0]))
        # the file may have been changed: a list counts only with the signatures of its roots
        if len(current.signed_by(current.roots)) < current.threshold:
            raise Forged(
                ObjectCode.SIG,
                Text("the stored trust list does not have the signatures of its roots"),
            )
        return current

    def install(self, new: TrustList, now: float) -> None:
        """Store an admitted trust list as the current one; the two before it are kept."""
        with self.transaction() as db:
            db.execute("INSERT INTO trust VALUES (?, ?, ?)", (new.ver, int(now), new.raw))
            db.execute(
                "DELETE FROM trust WHERE ver NOT IN (SELECT ver FROM trust ORDER BY ver DESC"
                " LIMIT 3)"
            )
        self.trust = new

    def revoke(self, kids: Iterable[str], now: float) -> None:
        """Store revoked keys, inside the caller's transaction.

        They are revoked at once, even if the transaction fails.
        """
        rows = [(kid, int(now)) for kid in kids]
        self.db.executemany("INSERT OR IGNORE INTO revoked VALUES (?, ?)", rows)
        self.revoked |= {kid for kid, _ in rows}

    def take_back(self, some: Sequence[TakenBack]) -> None:
        """Store revocations with their signers, inside the caller's transaction.

        They take effect at once, even if the transaction fails.
        """
        verify.keep_revocations(self.db, some)
        self.taken.add(some)

    def must_be_newer(self, verified: Verified, ver: int) -> None:
        """Check that an issuer has not sent this version or a later one. Raises Forged."""
        latest = self.db.execute(
            "SELECT ver FROM version WHERE iss = ? AND typ = ?", (verified.owner, verified.typ)
        ).fetchone()
        if latest and ver <= latest[0]:
            reason = Text(
                "{owner} has sent version {latest} before, and this is version {ver}",
                owner=verified.owner,
                latest=latest[0],
                ver=ver,
            )
            raise Forged(ObjectCode.VERSION, reason)

    def note_version(self, verified: Verified, ver: int) -> None:
        """Store a version as the latest of its issuer, inside the caller's transaction."""
        self.db.execute(
            "INSERT OR REPLACE INTO version VALUES (?, ?, ?)", (verified.owner, verified.typ, ver)
        )

    def versions(self) -> list[list[Any]]:
        """Issuer, typ and highest version of each pair."""
        return [list(row) for row in self.db.execute("SELECT iss, typ, ver FROM version")]

    def remember(
        self,
        revoked: Sequence[str],
        versions: Sequence[Sequence[Any]],
        some: Sequence[TakenBack],
        now: float,
    ) -> None:
        """Store the revocations and versions of a replaced gateway."""
        with self.transaction() as db:
            self.take_back(some)
            self.revoke(map(str, revoked), now)
            for iss, typ, ver in versions:
                db.execute("INSERT OR REPLACE INTO version VALUES (?, ?, ?)", (iss, typ, int(ver)))

    def wait(
        self, sha256: str, named: tuple[str, str], came: tuple[str, bytes], why: Text, now: float
    ) -> bool:
        """Store an object until the facts that it needs are known; returns whether it is new.

        `named`: its typ and jti; `came`: its way here and its bytes. Raises Forged if too many
        objects wait.
        """
        rows = self.db.execute("SELECT sha256 FROM waiting").fetchall()
        new = (sha256,) not in rows
        # one that waits already may come again while the list is full
        if new and len(rows) >= MOST_WAITING:
            reason = (
                f"{len(rows)} objects already wait at this gateway for facts that are not known yet"
            )
            raise Forged(
                ObjectCode.REGISTRY,
                Text("{why}; {number} objects wait already", why=why, number=len(rows)),
                reason,
            )
        with self.transaction() as db:
            db.execute(
                "INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (sha256) DO UPDATE SET why = excluded.why",
                (sha256, int(now), came[0], json.dumps(to_wire(why)), *named, came[1]),
            )
        return new

    def waiting(self) -> list[tuple[str, str, bytes]]:
        """Waiting objects, oldest first: sha256, way here and bytes."""
        rows = self.db.execute("SELECT sha256, via, raw FROM waiting ORDER BY at, jti")
        return [(sha256, via, bytes(raw)) for sha256, via, raw in rows]

    def waiting_list(self) -> list[dict[str, str]]:
        """Waiting objects and what they wait for, for people."""
        rows = self.db.execute("SELECT typ, jti, at, via, why FROM waiting ORDER BY at, jti")
        return [
            {"typ": typ, "jti": jti, "since": stamp(at), "via": via, "why": _read(why)}
            for typ, jti, at, via, why in rows
        ]

    def stop_waiting(self, sha256: str) -> None:
        """Delete a waiting object."""
        self.db.execute("DELETE FROM waiting WHERE sha256 = ?", (sha256,))

    def give_up(self, now: float) -> list[tuple[str, str]]:
        """Delete objects that have waited too long; returns typ and jti of each.

        Of objects set aside that long ago only the hash is kept.
        """
        before = int(now) - WAITS_FOR
        with self.transaction() as db:
            rows = db.execute("SELECT typ, jti FROM waiting WHERE at < ?", (before,)).fetchall()
            db.execute("DELETE FROM waiting WHERE at < ?", (before,))
            forget_set_aside(db, before)
        return rows


def _read(why: str) -> str:
    """What an object waits for; an earlier version stored the English sentence alone."""
    text: str = json.loads(why, object_hook=from_wire) if why.startswith("{") else why
    return text
