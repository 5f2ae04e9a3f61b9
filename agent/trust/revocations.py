"""Revocations and their signers: a revocation ends only what its signer may end (rule O14).

A revocation may arrive before the object that it revokes. It is then stored with its signer, and
applies only if that signer may revoke the object. Otherwise anybody with a key could block another
party's grant or key in advance.

Functions with a connection work inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Self

from agent.trust.object_types import OCCUPANT, ROOT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from agent.trust.claims import Revocation
    from agent.trust.signer import Member
    from agent.trust.verify import Verified

SCHEMA = """
CREATE TABLE IF NOT EXISTS taken_back (
    what TEXT NOT NULL, key INTEGER NOT NULL, owner TEXT NOT NULL, role TEXT NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (what, key, owner, role)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """One revoked grant or key, with the signer of the revocation."""

    what: str
    """the `jti` of a grant, or a kid"""
    key: bool
    owner: str
    """owner of the key that signed the revocation"""
    role: str
    at: float


def revoked_by(verified: Verified, revocation: Revocation) -> list[TakenBack]:
    """The grants and keys that a revocation names."""
    return [
        TakenBack(
            one.kid or one.jti or "", one.kid is not None, verified.owner, verified.role,
            float(revocation.iat if one.at is None else one.at),
        )
        for one in revocation.rev
    ]  # fmt: skip


def may_end(owner: str, role: str, whose: str, of: str) -> bool:
    """Whether `owner` in `role` may revoke what `whose` signed in the role `of`.

    Allowed are the signer itself, another key of the same role (except occupants, who act only for
    themselves) and a root key. A root key is changed by a trust list only.
    """
    if of == ROOT:
        return False
    return role == ROOT or owner == whose or (role == of and of != OCCUPANT)


class Revocations:
    """All revocations, in memory."""

    def __init__(self, some: Iterable[TakenBack] = ()) -> None:
        self._of: dict[tuple[str, bool], list[TakenBack]] = {}
        self.add(some)

    @classmethod
    def read(cls, db: sqlite3.Connection) -> Self:
        """Read the stored revocations."""
        rows = db.execute("SELECT what, key, owner, role, at FROM taken_back").fetchall()
        return cls(TakenBack(what, bool(key), *rest) for what, key, *rest in rows)

    def add(self, some: Iterable[TakenBack]) -> None:
        """Add revocations."""
        for revoked in some:
            self._of.setdefault((revoked.what, revoked.key), []).append(revoked)

    def all(self) -> list[TakenBack]:
        """All revocations."""
        return [one for some in self._of.values() for one in some]

    def names(self) -> frozenset[str]:
        """The ids and kids that any revocation names, whether it applies or not."""
        return frozenset(what for what, _ in self._of)

    def when(self, what: str, whose: str, of: str, *, key: bool = False) -> float | None:
        """Time since which an object of `whose` in the role `of` is revoked; None: it is valid."""
        some = self._of.get((what, key), ())
        # others may have revoked it in advance: that must have no effect (rule O14)
        hits = [one.at for one in some if may_end(one.owner, one.role, whose, of)]
        return min(hits, default=None)

    def keys(self, members: Mapping[str, Member]) -> frozenset[str]:
        """Kids of these members' keys that are revoked."""
        named = (kid for kid, key in self._of if key and kid in members)
        return frozenset(
            kid
            for kid in named
            if self.when(kid, members[kid].name, members[kid].role, key=True) is not None
        )


def keep(db: sqlite3.Connection, some: Iterable[TakenBack]) -> None:
    """Store revocations for ever; stored ones are not changed."""
    db.executemany("INSERT OR IGNORE INTO taken_back VALUES (?, ?, ?, ?, ?)", map(astuple, some))
