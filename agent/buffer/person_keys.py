"""Whose a body is: people have a key of their own each, and what is theirs goes with it.

A key is random, wrapped under the gateway's. Destroyed, nothing sealed under it opens again,
wherever a copy of it may lie (design note 023).
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
    from agent.model import Series

NOBODY = 0
"""the number for what is under the gateway's own key"""
KEY = 32


def owner_of(series: Series) -> str | None:
    """Who may take these rows away: an occupancy, else the dwelling; None: they are nobody's."""
    return (series.occupancy or series.place) if series.place[:1] == "D" else None


class PersonKeys:
    """Keys by number. Every change belongs inside a transaction of the caller's."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        """Raises Damaged if a key does not open."""
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
        """Know what is on the disk: after a transaction that failed."""
        for known in (self._numbers, self._at, self._sealers):
            known.clear()
        rows = self._database.read("SELECT number, name, home, key FROM owner")
        before = dict(self._database.read("SELECT number, key FROM owner_before"))
        for number, name, home, key in rows:
            sealed = [key, before[number]] if number in before else [key]
            try:
                sealer = Sealer(*(self._wrap.unseal(key_, str(number)) for key_ in sealed))
            except SealBroken as error:
                raise Damaged(f"key {number} of the spool does not open") from error
            self._learn(number, name, home, sealer)

    def known(self, owner: str | None) -> int | None:
        """The number of an owner who has a key; None: none of what is here is theirs."""
        return NOBODY if owner is None else self._numbers.get(self._name(owner))

    def at(self, place: str) -> set[int]:
        """The numbers of all who have rows of a place."""
        if place[:1] != "D":
            return {NOBODY}
        return set(self._at.get(self._name(place), ()))

    def number(self, series: Series) -> int:
        """The number of a series' owner, who is given a key if need be."""
        owner = owner_of(series)
        return NOBODY if owner is None else self._number(owner, series.place)

    def number_at(self, place: str) -> int:
        """The number of a dwelling itself, whoever lives there; it is given a key if need be."""
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
        """The box of an owner's key. Raises Unreadable where it has been destroyed."""
        try:
            return self._sealers[number]
        except KeyError as error:
            raise SealBroken(f"key {number}") from error

    def renew(self, number: int) -> None:
        """Destroy an owner's key for a new one: all that stays must be sealed anew."""
        key = os.urandom(KEY)
        sealed = self._wrap.seal(key, str(number))
        self._database.write("UPDATE owner SET key=? WHERE number=?", sealed, number)
        self._database.write("DELETE FROM owner_before WHERE number=?", number)
        self._sealers[number] = Sealer(key)

    def destroy(self, number: int) -> None:
        """Nothing of this owner is left to be opened."""
        self._database.write("DELETE FROM owner WHERE number=?", number)
        self._database.write("DELETE FROM owner_before WHERE number=?", number)
        self.reload()

    def rotate(self, secrets: list[bytes]) -> None:
        """Give every owner a new key and, by the last of these secrets, another name. What is under
        the keys before goes on to open.
        """
        for number, name, home, key in self._database.read("SELECT * FROM owner"):
            before = self._wrap.unseal(key, str(number))
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
        """`rotate` is on the disk."""
        self._secrets = secrets
        self.reload()

    def forget_before(self) -> None:
        """Destroy the keys before: nothing is under them any more."""
        self._database.write("DELETE FROM owner_before")
        for sealer in self._sealers.values():
            sealer.forget_before()

    def numbers(self) -> list[int]:
        """Every owner who has a key."""
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
