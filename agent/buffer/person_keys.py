"""A key for each occupancy or dwelling, so that its rows can be destroyed.

A key is random, and wrapped under the gateway's key. Once it is destroyed, no body under it opens
again, wherever a copy may be (design note 023).
"""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from typing import TYPE_CHECKING

from agent.buffer.database import Damaged
from agent.buffer.keys import SealBroken, Sealer
from agent.buffer.rotation import secrets_of

if TYPE_CHECKING:
    from agent.buffer.database import Database
    from agent.buffer.keys import SpoolKeys
    from agent.core.model import Series

NOBODY = 0
"""the owner number of bodies under the gateway's own key"""
KEY = 32


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
