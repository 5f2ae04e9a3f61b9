"""The tables of a spool, and the identity of its gateway and recipient."""

from __future__ import annotations

import json
import secrets
import zlib
from typing import TYPE_CHECKING

from agent.buffer.database import Damaged, Database
from agent.buffer.keys import OTHER, NotOurs, fingerprint, fingerprints
from agent.core.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from agent.buffer.batch import BatchHead
    from agent.buffer.keys import SpoolKeys

APPLICATION = 0x67617264  # "gard"
FORMAT = 2
"""of the file; the number states which versions can read it"""
OLDEST = 2
"""the format of the release before this one. A new file begins with it, and this version can use
it. While an upgrade is on trial the file stays in it, so that going back loses nothing (note 012)
"""
ROTATED = 100
"""added to the format number of a file whose key was rotated: a version without rotation would not
find the owners of its rows, so it must refuse the file with a message
"""
# covering index: rows are counted, and an owner's blocks found, without reading a body
LANES = "CREATE INDEX block_lane ON block(t1, t0, n, slots, owner, mixed)"
TABLES = (
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE series(number INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    """CREATE TABLE block(no INTEGER PRIMARY KEY, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL,
    n INTEGER NOT NULL, slots INTEGER NOT NULL, body BLOB NOT NULL,
    owner INTEGER NOT NULL, mixed INTEGER NOT NULL)""",
    LANES,
    """CREATE TABLE mark(device TEXT, step INTEGER, slot INTEGER NOT NULL, heard INTEGER NOT NULL,
    serial TEXT, PRIMARY KEY(device, step)) WITHOUT ROWID""",
    """CREATE TABLE batch(no INTEGER PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    lane TEXT NOT NULL, state INTEGER NOT NULL, sha256 TEXT NOT NULL, rows INTEGER NOT NULL,
    at REAL NOT NULL, reason TEXT, body BLOB NOT NULL, UNIQUE(epoch, seq))""",
    "CREATE INDEX batch_state ON batch(state, at, rows)",
    f"PRAGMA application_id={APPLICATION}",
    f"PRAGMA user_version={OLDEST}",
)
"""the tables of a file in the format OLDEST"""
STEPS = {
    1: (
        "ALTER TABLE block ADD COLUMN owner INTEGER NOT NULL DEFAULT 0",
        # 2: these blocks cannot be divided, for their numbers leave no room in between
        "ALTER TABLE block ADD COLUMN mixed INTEGER NOT NULL DEFAULT 2",
        "DROP INDEX block_lane",
        LANES,
    ),
}
"""the changes from each format to the next"""


def claim(
    database: Database, path: Path, keys: SpoolKeys, head: BatchHead, *, on_trial: bool
) -> None:
    """Make an empty file the spool of this gateway for this recipient, or check that it is.

    `on_trial`: of an upgrade: the file stays in the format of the version before. Raises
    Refused if the file is of another gateway or recipient or under another key, Damaged if its own
    facts are inconsistent.
    """
    application = database.scalar("PRAGMA application_id")
    if application != APPLICATION:
        if application or database.scalar("SELECT count(*) FROM sqlite_master"):
            raise Refused(
                f"{path} is not a spool of gardien: move it away, or configure another folder"
            )
        _create(database, keys, head)
    _bring_up(database, path, on_trial=on_trial)
    meta = Meta(database)
    _compare(meta, path, keys, head)
    _ = meta["epoch"], meta["seq"]  # raises Damaged here rather than when a batch is due


def _bring_up(database: Database, path: Path, *, on_trial: bool) -> None:
    """Convert a file of an older format, each step in one transaction."""
    rotated, version = divmod(int(database.scalar("PRAGMA user_version")), ROTATED)
    if version > FORMAT:
        raise Refused(
            f"{path} was written by a newer gardien (format {version}, this one knows {FORMAT}):"
            " install that version again"
        )
    while version < FORMAT and not (on_trial and version >= OLDEST):
        with database.transaction():
            for change in STEPS[version]:
                database.write(change)
            version += 1
            database.write(f"PRAGMA user_version={rotated * ROTATED + version}")


def rekeyed(database: Database, keys: SpoolKeys) -> None:
    """Note that the file is under the present key from now on, inside the caller's transaction."""
    meta = Meta(database)
    gateway, recipient, _ = json.loads(str(meta["identity"]))
    _identify(meta, gateway, recipient, keys)
    version = int(database.scalar("PRAGMA user_version")) % ROTATED
    database.write(f"PRAGMA user_version={ROTATED + version}")


def _identify(meta: Meta, gateway: str, recipient: str, keys: SpoolKeys) -> None:
    identity = json.dumps([gateway, recipient, fingerprint(keys)])
    meta["identity"] = identity
    meta["sum"] = zlib.crc32(identity.encode())


def _create(database: Database, keys: SpoolKeys, head: BatchHead) -> None:
    with database.transaction():
        for table in TABLES:
            database.write(table)
        meta = Meta(database)
        _identify(meta, head.gateway, head.recipient, keys)
        meta["epoch"] = new_epoch()
        meta["seq"] = 1


def _compare(meta: Meta, path: Path, keys: SpoolKeys, head: BatchHead) -> None:
    identity = str(meta["identity"])
    if zlib.crc32(identity.encode()) != meta["sum"]:  # damage must not look like a wrong key
        raise Damaged(f"the identity in {path} is damaged")
    gateway, recipient, under = json.loads(identity)
    if (gateway, recipient) != (head.gateway, head.recipient):
        raise NotOurs(
            f"{path} is the spool of gateway {gateway} to {recipient},"
            f" not of {head.gateway} to {head.recipient}: move it away, or restore the state of"
            f" gateway {gateway}"
        )
    if under not in fingerprints(keys):
        raise NotOurs(OTHER.format(path=path))


def new_epoch() -> str:
    """A new name for a count of batches, never used before: 48 random bits."""
    return secrets.token_hex(6)


class Meta:
    """The single facts of a spool, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __getitem__(self, name: str) -> int | float | str:
        value: int | float | str | None = self._database.scalar(
            "SELECT value FROM meta WHERE name=?", name
        )
        if value is None:
            raise Damaged(f"the spool lacks its {name}")
        return value

    def number(self, name: str) -> float | None:
        """A number that may be missing."""
        value: float | None = self._database.scalar("SELECT value FROM meta WHERE name=?", name)
        return value

    def text(self, name: str) -> str | None:
        """A text that may be missing."""
        value: str | None = self._database.scalar("SELECT value FROM meta WHERE name=?", name)
        return value

    def add(self, name: str, count: int) -> None:
        """Add to a counter, which begins at 0."""
        self[name] = int(self.number(name) or 0) + count

    def __setitem__(self, name: str, value: float | str) -> None:
        self._database.write("INSERT OR REPLACE INTO meta VALUES(?,?)", name, value)


MOST_EPOCHS = 1000
"""epochs whose last number is kept"""


def past_epochs(meta: Meta) -> dict[str, int]:
    """The number of the last batch of each past epoch, as far as it is known."""
    known: dict[str, int] = json.loads(meta.text("epochs") or "{}")
    before = meta.text("before_epoch")
    return known if before is None else {before: int(meta["before_seq"])} | known


def end_epoch(meta: Meta) -> None:
    """Keep the last number of the epoch that ends now. Inside the caller's transaction."""
    known = past_epochs(meta) | {str(meta["epoch"]): int(meta["seq"]) - 1}
    meta["epochs"] = json.dumps(dict(list(known.items())[-MOST_EPOCHS:]))
