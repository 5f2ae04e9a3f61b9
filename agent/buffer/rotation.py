"""Moves one file from the gateway's earlier key to the present one (design note 031).

A first commit puts the file under the new key. Then its bodies are sealed again, chunk by chunk,
while the file is in use. After a kill the work continues: a body itself shows under which key it
is. A body that opens under neither key stays as it is.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agent.buffer.database import Damaged
from agent.buffer.keys import SealBroken
from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.buffer.database import Database
    from agent.buffer.keys import Sealer, SpoolKeys

    Commit = Callable[[Callable[[], int]], int]
    """makes a change in one transaction"""

CHUNK = 128 * 1024
"""bytes of bodies that are sealed again in one commit; one body in any case"""
MOST = 500
"""bodies in one commit, however small"""
TABLE = """CREATE TABLE IF NOT EXISTS rotation
    (fingerprint TEXT NOT NULL, secrets BLOB NOT NULL, done INTEGER NOT NULL)"""
OTHER = (
    "{path} is under another key of this gateway: restore that key, or move the file away and"
    " lose its content"
)


class NotOurs(Refused):
    """A file of another gateway, or under another key."""


@dataclass(frozen=True, slots=True)
class SealedTable:
    """A table with sealed bodies. Its functions take the columns of `key` and of `more`."""

    table: str
    key: tuple[str, ...]
    name: Callable[..., str]
    """the name that a body is bound to"""
    sealer: Callable[..., Sealer]
    more: tuple[str, ...] = ()
    body: str = "body"
    rewrite: Callable[..., None] | None = None
    """writes the opened body, which it gets too; None: the body is replaced in its place"""


class Stage(Protocol):
    """A part of the rotation."""

    def step(self, commit: Commit) -> int:
        """Work on the next chunk, in one commit. Return its bytes; 0: none is left."""
        ...


def fingerprint(keys: SpoolKeys) -> str:
    """The fingerprint in a file of the key that it is under."""
    return keys.derive("fingerprint", 8).hex()


def fingerprints(keys: SpoolKeys) -> set[str]:
    """The fingerprints of all keys that open the file."""
    before = keys.derive_before("fingerprint", 8)
    return {fingerprint(keys)} | ({before.hex()} if before else set())


def secrets_of(database: Database, keys: SpoolKeys) -> list[bytes]:
    """The secrets under which the names of owners are hashed, one after the other. Raises Damaged.

    The name of an owner is stored nowhere else, so a rotation hashes the hash.
    """
    if (rotation := _row(database)) is None:
        return [keys.derive_before("owner's name") or keys.derive("owner's name")]
    try:
        text = keys.sealer("rotation").unseal(rotation[1], "secrets")
    except SealBroken as error:
        raise Damaged("the secrets for the names of owners do not open") from error
    return [bytes.fromhex(secret) for secret in json.loads(text)]


def check_key(database: Database, path: Path, keys: SpoolKeys) -> None:
    """Raise NotOurs if a file that was rotated is under none of these keys."""
    rotation = _row(database)
    if rotation is not None and rotation[0] not in fingerprints(keys):
        raise NotOurs(OTHER.format(path=path))


def _row(database: Database) -> tuple[str, bytes, int] | None:
    if not database.scalar("SELECT 1 FROM sqlite_master WHERE name='rotation'"):
        return None
    rows = database.read("SELECT fingerprint, secrets, done FROM rotation")
    return rows[0] if rows else None


class Rotation:
    """The rotation of one file."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database, self._keys = database, keys
        self._stages: list[Stage] | None = None
        self.passed = 0
        """bytes of bodies checked since the file was opened"""

    @property
    def begun(self) -> bool:
        """Whether the file is under the present key."""
        rotation = _row(self._database)
        return rotation is not None and rotation[0] == fingerprint(self._keys)

    @property
    def over(self) -> bool:
        """Whether no body in the file is under the earlier key."""
        rotation = _row(self._database)
        return rotation is not None and bool(rotation[2]) and self.begun

    def begin(self) -> list[bytes]:
        """Put the file under the present key, inside the caller's transaction. Return the secrets
        for the names of owners.
        """
        secrets = [*secrets_of(self._database, self._keys), self._keys.derive("owner's name")]
        text = json.dumps([secret.hex() for secret in secrets]).encode()
        self._database.write(TABLE)
        self._database.write("DELETE FROM rotation")
        sealed = self._keys.sealer("rotation").seal(text, "secrets")
        self._database.write("INSERT INTO rotation VALUES(?,?,0)", fingerprint(self._keys), sealed)
        self._stages, self.passed = None, 0
        return secrets

    def step(
        self, stages: Sequence[SealedTable | Stage], commit: Commit, end: Callable[[], None]
    ) -> bool:
        """Work on one chunk. False: no body is under the earlier key, which is forgotten.

        `end`: changes that belong in the last commit.
        """
        if self.over:
            self._keys.forget_before()
            return False
        # Created late: each walk ends at the last key of its table at this time.
        if self._stages is None:
            self._stages = [
                _Walk(self._database, stage) if isinstance(stage, SealedTable) else stage
                for stage in stages
            ]
        if self._stages:
            size = self._stages[0].step(commit)
            self.passed += size
            if not size:
                del self._stages[0]
            return True

        def last() -> int:
            end()
            return self._database.write("UPDATE rotation SET done=1")

        commit(last)
        self._keys.forget_before()
        self._database.fold()  # the log still has bodies under the earlier key
        return False


class _Walk:
    """Goes through a table by its key, up to the last key at the start: later entries are under the
    present key, and must not keep the rotation from ending.
    """

    def __init__(self, database: Database, part: SealedTable) -> None:
        self._database, self._part = database, part
        self._key = ", ".join(part.key)
        self._after: tuple[Any, ...] | None = None
        backwards = ", ".join(f"{column} DESC" for column in part.key)
        sql = f"SELECT {self._key} FROM {part.table} ORDER BY {backwards} LIMIT 1"  # noqa: S608 -- ours
        self._last = database.read(sql)

    def step(self, commit: Commit) -> int:
        """Work on the next chunk. Return its bytes; 0: none is left."""
        rows: list[tuple[Any, ...]] = []

        def chunk() -> int:
            rows[:] = self._next()
            # The rows are read inside the transaction that rewrites them.
            for *columns, body in rows:
                self._renew(columns, body)
            return sum(len(row[-1]) for row in rows)

        size = commit(chunk)
        if rows:
            self._after = rows[-1][: len(self._part.key)]
        return size

    def _next(self) -> list[tuple[Any, ...]]:
        part, size = self._part, 0
        rows: list[tuple[Any, ...]] = []
        if not self._last:
            return rows
        columns = ", ".join((*part.key, *part.more, part.body))
        key, values = f"({self._key})", f"({', '.join('?' * len(part.key))})"
        after, begun = self._after or (), f" AND {key} > {values}" if self._after else ""
        sql = (
            f"SELECT {columns} FROM {part.table} WHERE {part.body} IS NOT NULL"  # noqa: S608 -- ours
            f" AND {key} <= {values}{begun} ORDER BY {self._key}"
        )
        with closing(self._database.each(sql, *self._last[0], *after)) as cursor:
            for row in cursor:
                rows.append(row)
                size += len(row[-1])
                if size >= CHUNK or len(rows) >= MOST:
                    break
        return rows

    def _renew(self, columns: list[Any], sealed: bytes) -> None:
        part = self._part
        with suppress(SealBroken):
            sealer, name = part.sealer(*columns), part.name(*columns)
            if (body := sealer.of_before(sealed, name)) is None:
                return
            if part.rewrite is not None:
                part.rewrite(*columns, body)
                return
            key = columns[: len(part.key)]
            where = " AND ".join(f"{column}=?" for column in part.key)
            sql = f"UPDATE {part.table} SET {part.body}=? WHERE {where}"  # noqa: S608 -- ours
            self._database.write(sql, sealer.seal(body, name), *key)
