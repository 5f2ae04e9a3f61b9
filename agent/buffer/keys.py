"""Everything on the disk is sealed: the gateway's key, its rotation, and keys of people."""

from __future__ import annotations

import hmac
import json
import os
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.buffer.database import Damaged
from agent.core.errors import Refused
from agent.core.i18n import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from agent.buffer.database import Database
    from agent.core.model import Series

NONCE = 12
SHORTEST_KEY = 16
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
NOBODY = 0
"""the owner number of bodies under the gateway's own key"""
KEY = 32


class SealBroken(Exception):
    """A sealed body does not open: it was damaged on the disk, or it belongs elsewhere."""


class SpoolKeys:
    """The keys of one spool, derived (RFC 5869) from the gateway's key of at least 16 bytes."""

    def __init__(
        self, key: bytes, gateway: str, recipient: str, before: bytes | None = None
    ) -> None:
        """`before`: the gateway's earlier key, during a rotation."""
        if len(key) < SHORTEST_KEY:
            raise ValueError(
                Text(
                    "the gateway's key has {number} bytes, at least 16 are needed", number=len(key)
                )
            )
        self._keys = [key] if before is None else [key, before]
        self._of = f"{gateway} {recipient}"
        self._sealers: dict[str, Sealer] = {}
        self._secrets: dict[str, bytes] = {}

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Bytes for one purpose, the same at every start."""
        return self._derived(self._keys[0], purpose, length)

    def derive_before(self, purpose: str, length: int = 32) -> bytes | None:
        """As `derive`, from the earlier key; None: there is none."""
        return self._derived(self._keys[1], purpose, length) if self.rotating else None

    def secret(self, purpose: str) -> bytes:
        """As `derive`, cached."""
        if purpose not in self._secrets:
            self._secrets[purpose] = self.derive(purpose)
        return self._secrets[purpose]

    def sealer(self, purpose: str) -> Sealer:
        """The sealer for bodies of one purpose."""
        if purpose not in self._sealers:
            self._sealers[purpose] = Sealer(*(self._derived(key, purpose) for key in self._keys))
        return self._sealers[purpose]

    @property
    def rotating(self) -> bool:
        """Whether bodies under the earlier key open, too."""
        return len(self._keys) > 1

    def under(self, key: bytes) -> bool:
        """Whether new bodies are sealed under this key of the gateway."""
        return key == self._keys[0]

    def renew(self, key: bytes) -> None:
        """Seal under another key of the gateway from now on; existing bodies still open."""
        self._keys = [key, self._keys[0]]
        self._secrets.clear()
        for purpose, sealer in self._sealers.items():
            sealer.renew(self.derive(purpose))

    def forget_before(self) -> None:
        """Open no more bodies under the earlier key."""
        del self._keys[1:]
        for sealer in self._sealers.values():
            sealer.forget_before()

    def _derived(self, key: bytes, purpose: str, length: int = 32) -> bytes:
        # Part of the file format: another text would make every existing body unreadable.
        info = f"gardien spool 1 {purpose} {self._of}".encode()
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)


class Sealer:
    """Seals bodies, each bound to the name of its place (row number, batch id)."""

    def __init__(self, key: bytes, *before: bytes) -> None:
        """`before`: earlier keys, for bodies that must still open."""
        self._ciphers = [AESGCM(each) for each in (key, *before)]

    def seal(self, body: bytes, name: str) -> bytes:
        """The sealed body: 28 bytes longer, and never the same twice."""
        # Random, not counted: a restored copy of a spool would repeat a counter, which breaks GCM.
        nonce = os.urandom(NONCE)
        return nonce + self._ciphers[0].encrypt(nonce, body, name.encode())

    def unseal(self, sealed: bytes, name: str) -> bytes:
        """The body. Raises SealBroken if a bit of it, or its name, differs."""
        return self._opened(self._ciphers, sealed, name)

    def of_before(self, sealed: bytes, name: str) -> bytes | None:
        """A body under an earlier key; None: it is under the present key, or under none of them."""
        with suppress(SealBroken):
            self._opened(self._ciphers[:1], sealed, name)
            return None
        with suppress(SealBroken):
            return self._opened(self._ciphers[1:], sealed, name)
        return None

    def renew(self, key: bytes) -> None:
        """Seal under another key from now on."""
        self._ciphers.insert(0, AESGCM(key))

    def forget_before(self) -> None:
        """Open no more bodies under earlier keys."""
        del self._ciphers[1:]

    @staticmethod
    def _opened(ciphers: Iterable[AESGCM], sealed: bytes, name: str) -> bytes:
        # The present key first: most bodies are under it.
        for cipher in ciphers:
            with suppress(InvalidTag, ValueError):
                return cipher.decrypt(sealed[:NONCE], sealed[NONCE:], name.encode())
        raise SealBroken(name)


if TYPE_CHECKING:
    Commit = Callable[[Callable[[], int]], int]
    """makes a change in one transaction"""


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


def owner_of(series: Series) -> str | None:
    """The owner of rows, who may withdraw them: the occupancy, else the dwelling; None: no
    person.
    """
    return (series.occupancy or series.place) if series.place[:1] == "D" else None


class PersonKeys:
    """Keys by owner number. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        """Load the keys. Raises Damaged if one of them does not open."""
        self._database = database
        self._wrap, self._secrets = keys.sealer("owner"), secrets_of(database, keys)
        database.write(
            "CREATE TABLE IF NOT EXISTS owner"
            "(number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, home BLOB NOT NULL,"
            " key BLOB NOT NULL)"
        )
        database.write(
            "CREATE TABLE IF NOT EXISTS owner_before(number INTEGER PRIMARY KEY, key BLOB NOT NULL)"
        )
        self._numbers: dict[bytes, int] = {}
        self._at: dict[bytes, set[int]] = {}
        self._sealers: dict[int, Sealer] = {}
        self.reload()

    def reload(self) -> None:
        """Reload from the disk after a failed transaction."""
        for known in (self._numbers, self._at, self._sealers):
            known.clear()
        rows = self._database.read("SELECT number, name, home, key FROM owner")
        before = dict(self._database.read("SELECT number, key FROM owner_before"))
        for number, name, home, key in rows:
            # During a rotation blocks are under either key.
            sealed = [key, before[number]] if number in before else [key]
            try:
                sealer = Sealer(*(self._wrap.unseal(key_, str(number)) for key_ in sealed))
            except SealBroken as error:
                raise Damaged(f"key {number} of the spool does not open") from error
            self._learn(number, name, home, sealer)

    def known(self, owner: str | None) -> int | None:
        """The number of an owner that has a key; None: there is no data of this owner."""
        return NOBODY if owner is None else self._numbers.get(self._name(owner))

    def at(self, place: str) -> set[int]:
        """The numbers of all owners with rows of a place."""
        if place[:1] != "D":
            return {NOBODY}
        return set(self._at.get(self._name(place), ()))

    def number(self, series: Series) -> int:
        """The number of a series' owner; creates a key if there is none."""
        owner = owner_of(series)
        return NOBODY if owner is None else self._number(owner, series.place)

    def number_at(self, place: str) -> int:
        """The number of a dwelling itself, whoever lives there; creates a key if there is none."""
        return self._number(place, place)

    def _number(self, owner: str, place: str) -> int:
        if (known := self.known(owner)) is not None:
            return known
        number = 1 + (self._database.scalar("SELECT max(number) FROM owner") or 0)
        name, home, key = self._name(owner), self._name(place), os.urandom(KEY)
        sealed = self._wrap.seal(key, str(number))
        self._database.write("INSERT INTO owner VALUES(?,?,?,?)", number, name, home, sealed)
        self._learn(number, name, home, Sealer(key))
        return number

    def sealer(self, number: int) -> Sealer:
        """The sealer of an owner. Raises SealBroken if the key was destroyed."""
        try:
            return self._sealers[number]
        except KeyError as error:
            raise SealBroken(f"key {number}") from error

    def renew(self, number: int) -> None:
        """Replace an owner's key: every body that stays must be sealed again."""
        key = os.urandom(KEY)
        sealed = self._wrap.seal(key, str(number))
        self._database.write("UPDATE owner SET key=? WHERE number=?", sealed, number)
        self._database.write("DELETE FROM owner_before WHERE number=?", number)
        self._sealers[number] = Sealer(key)

    def destroy(self, number: int) -> None:
        """Destroy an owner's key and name: no body of this owner opens again."""
        self._database.write("DELETE FROM owner WHERE number=?", number)
        self._database.write("DELETE FROM owner_before WHERE number=?", number)
        self.reload()

    def rotate(self, secrets: list[bytes]) -> None:
        """Give every owner a new key and, with the last of these secrets, a new hashed name. Bodies
        under the earlier keys still open.
        """
        for number, name, home, key in self._database.read("SELECT * FROM owner"):
            before = self._wrap.unseal(key, str(number))
            # The clear name is not stored, so the old hash is hashed again.
            names = (_hashed(secrets[-1:], value) for value in (name, home))
            sealed = (self._wrap.seal(value, str(number)) for value in (os.urandom(KEY), before))
            self._database.write(
                "UPDATE owner SET name=?, home=?, key=? WHERE number=?",
                *names,
                next(sealed),
                number,
            )
            self._database.write("INSERT INTO owner_before VALUES(?,?)", number, next(sealed))

    def named_by(self, secrets: list[bytes]) -> None:
        """Use the names of `rotate`, once that is on the disk."""
        self._secrets = secrets
        self.reload()

    def forget_before(self) -> None:
        """Destroy the earlier keys: no body is under them any more."""
        self._database.write("DELETE FROM owner_before")
        for sealer in self._sealers.values():
            sealer.forget_before()

    def numbers(self) -> list[int]:
        """The numbers of all owners with a key."""
        return list(self._sealers)

    def _learn(self, number: int, name: bytes, home: bytes, sealer: Sealer) -> None:
        self._numbers[name], self._sealers[number] = number, sealer
        self._at.setdefault(home, set()).add(number)

    def _name(self, owner: str) -> bytes:
        return _hashed(self._secrets, owner.encode())


def _hashed(secrets: list[bytes], name: bytes) -> bytes:
    for secret in secrets:
        name = hmac.digest(secret, name, sha256)[:16]
    return name
