"""What was taken back, and by whom: a revocation ends what its signer may end (rule O14).

It may come before what it takes back, and is kept with its signer then: it hits only what that one
could have ended had it come after. Whoever may sign anything could otherwise forbid a grant, or a
key, of somebody else's before it comes.

What touches a database works on the connection of whoever acts, inside that one's transaction.
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
    """One grant or key that somebody took back."""

    what: str
    """the number of a grant, or a kid"""
    key: bool
    owner: str
    """of the key that signed this"""
    role: str
    at: float


def revoked_by(verified: Verified, revocation: Revocation) -> list[TakenBack]:
    """What a revocation takes back."""
    return [
        TakenBack(
            one.kid or one.jti or "", one.kid is not None, verified.owner, verified.role,
            float(revocation.iat if one.at is None else one.at),
        )
        for one in revocation.rev
    ]  # fmt: skip


def may_end(owner: str, role: str, whose: str, of: str) -> bool:
    """Whether somebody may take back what `whose` said in the role `of`: by who said it, by another
    key of that role (an occupant speaks for nobody else), or by a root; a root's key is changed by
    a trust list only.
    """
    if of == ROOT:
        return False
    return role == ROOT or owner == whose or (role == of and of != OCCUPANT)


class Revocations:
    """All that was taken back here, in memory."""

    def __init__(self, some: Iterable[TakenBack] = ()) -> None:
        self._of: dict[tuple[str, bool], list[TakenBack]] = {}
        self.add(some)

    @classmethod
    def read(cls, db: sqlite3.Connection) -> Self:
        """As it was kept."""
        rows = db.execute("SELECT what, key, owner, role, at FROM taken_back").fetchall()
        return cls(TakenBack(what, bool(key), *rest) for what, key, *rest in rows)

    def add(self, some: Iterable[TakenBack]) -> None:
        """Know of these from now on."""
        for revoked in some:
            self._of.setdefault((revoked.what, revoked.key), []).append(revoked)

    def all(self) -> list[TakenBack]:
        """Each of them."""
        return [one for some in self._of.values() for one in some]

    def names(self) -> frozenset[str]:
        """The numbers and kids that somebody has named."""
        return frozenset(what for what, _ in self._of)

    def when(self, what: str, whose: str, of: str, *, key: bool = False) -> float | None:
        """Since when what `whose` said in the role `of` counts no more; None: it stands."""
        some = self._of.get((what, key), ())
        hits = [one.at for one in some if may_end(one.owner, one.role, whose, of)]
        return min(hits, default=None)

    def keys(self, members: Mapping[str, Member]) -> frozenset[str]:
        """Which keys of these people count no more, by kid."""
        named = (kid for kid, key in self._of if key and kid in members)
        return frozenset(
            kid
            for kid in named
            if self.when(kid, members[kid].name, members[kid].role, key=True) is not None
        )


def keep(db: sqlite3.Connection, some: Iterable[TakenBack]) -> None:
    """Keep these for ever; what is kept already stays as it is."""
    db.executemany("INSERT OR IGNORE INTO taken_back VALUES (?, ?, ?, ?, ?)", map(astuple, some))
