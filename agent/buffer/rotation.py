"""One file on its way from the gateway's key before to the one of now (design note 031).

A first commit makes the file one of the new key; then its bodies are sealed anew, lot by lot, while
it goes on being used. Killed at any step it goes on from there: what is under which key a body
says itself. A body that opens under neither key is left as it is.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agent.buffer.database import Damaged
from agent.buffer.keys import SealBroken
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.buffer.database import Database
    from agent.buffer.keys import Sealer, SpoolKeys

    Commit = Callable[[Callable[[], int]], int]
    """makes a change in one transaction"""

CHUNK = 128 * 1024
"""bytes of bodies that are sealed anew in one commit; of one body in any case"""
MOST = 500
"""of them, however small"""
TABLE = """CREATE TABLE IF NOT EXISTS rotation
    (fingerprint TEXT NOT NULL, secrets BLOB NOT NULL, done INTEGER NOT NULL)"""
OTHER = (
    "{path} was written under another key of this gateway; put that key back,"
    " or move the file away and lose what it holds"
)


class NotOurs(Refused):
    """A file is another gateway's, or under another key."""


@dataclass(frozen=True, slots=True)
class SealedTable:
    """A table whose bodies are sealed. Its functions take the columns of `key` and of `more`."""

    table: str
    key: tuple[str, ...]
    name: Callable[..., str]
    """what a body is bound to"""
    sealer: Callable[..., Sealer]
    more: tuple[str, ...] = ()
    body: str = "body"
    put: Callable[..., None] | None = None
    """takes the opened body, too, and writes it; None: it takes the place of the one there"""


class Stage(Protocol):
    """A part of the work."""

    def step(self, commit: Commit) -> int:
        """Work on the next lot, in one commit; how many bytes, 0: none is left."""
        ...


def fingerprint(keys: SpoolKeys) -> str:
    """What a file says of the key that it is under."""
    return keys.derive("fingerprint", 8).hex()


def fingerprints(keys: SpoolKeys) -> set[str]:
    """Of all keys that open it."""
    before = keys.derive_before("fingerprint", 8)
    return {fingerprint(keys)} | ({before.hex()} if before else set())


def secrets_of(database: Database, keys: SpoolKeys) -> list[bytes]:
    """What the names of owners are hashed under, one after the other. Raises Damaged.

    An owner's name stands nowhere else, so a rotation hashes the hash.
    """
    if (rotation := _row(database)) is None:
        return [keys.derive_before("owner's name") or keys.derive("owner's name")]
    try:
        text = keys.sealer("rotation").unseal(rotation[1], "secrets")
    except SealBroken as error:
        raise Damaged("the spool does not know how it names owners") from error
    return [bytes.fromhex(secret) for secret in json.loads(text)]


def check_key(database: Database, path: Path, keys: SpoolKeys) -> None:
    """Raise NotOurs where a file that was rotated is under none of these keys."""
    rotation = _row(database)
    if rotation is not None and rotation[0] not in fingerprints(keys):
        raise NotOurs(OTHER.format(path=path))


def _row(database: Database) -> tuple[str, bytes, int] | None:
    if not database.scalar("SELECT 1 FROM sqlite_master WHERE name='rotation'"):
        return None
    rows = database.read("SELECT fingerprint, secrets, done FROM rotation")
    return rows[0] if rows else None


class Rotation:
    """See the module."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database, self._keys = database, keys
        self._stages: list[Stage] | None = None
        self.passed = 0
        """bytes of bodies that were looked at since the file was opened"""

    @property
    def begun(self) -> bool:
        """Whether the file is one of the key of now."""
        rotation = _row(self._database)
        return rotation is not None and rotation[0] == fingerprint(self._keys)

    @property
    def over(self) -> bool:
        """Whether nothing in it is under the key before."""
        rotation = _row(self._database)
        return rotation is not None and bool(rotation[2]) and self.begun

    def begin(self) -> list[bytes]:
        """Make it a file of the key of now, inside the caller's transaction; what owners are named
        by from here on.
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
        """Work on one lot; False: nothing in the file is under the key before, which is forgotten.

        `end`: what the last commit does besides.
        """
        if self.over:
            self._keys.forget_before()
            return False
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
        self._database.fold()  # the log has what was under the key before
        return False


class _Walk:
    """Goes through a table by its key, up to the last one that it had: what is put in meanwhile is
    under the key of now, and must not keep it from ending.
    """

    def __init__(self, database: Database, part: SealedTable) -> None:
        self._database, self._part = database, part
        self._key = ", ".join(part.key)
        self._after: tuple[Any, ...] | None = None
        backwards = ", ".join(f"{column} DESC" for column in part.key)
        sql = f"SELECT {self._key} FROM {part.table} ORDER BY {backwards} LIMIT 1"  # noqa: S608 -- ours
        self._last = database.read(sql)

    def step(self, commit: Commit) -> int:
        """Work on the next lot; its bytes, 0: none is left."""
        rows: list[tuple[Any, ...]] = []

        def chunk() -> int:
            rows[:] = self._next()
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
            if part.put is not None:
                part.put(*columns, body)
                return
            key = columns[: len(part.key)]
            where = " AND ".join(f"{column}=?" for column in part.key)
            sql = f"UPDATE {part.table} SET {part.body}=? WHERE {where}"  # noqa: S608 -- ours
            self._database.write(sql, sealer.seal(body, name), *key)
