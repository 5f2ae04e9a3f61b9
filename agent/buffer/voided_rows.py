"""Rows of voided batches that may still leave: they wait for the receipt, which shows what the
recipient has stored.

The hash in the receipt names the void (the rows are sealed again, marked `again`) or the original
batch (the rows are forgotten): rule T5. Until then a withdrawal affects them as well.

They are stored like a payload, so that they need no more room than the batch that they were in
(rule B6): as blocks of one owner each they took two and a half times as much.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.buffer.batch import Stamp, read, write
from agent.buffer.block import extent, pack, unpack
from agent.buffer.keys import SealBroken
from agent.buffer.person_keys import NOBODY, owner_of
from agent.buffer.rotation import SealedTable
from agent.core.model import BatchId, Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.buffer.database import Database
    from agent.buffer.keys import Sealer, SpoolKeys
    from agent.buffer.person_keys import PersonKeys
    from agent.buffer.series_ids import SeriesIds
    from agent.core.model import Reading


SHARED = -1
"""the owner number of a payload with rows of any owner: under the gateway's key, as the batch
was
"""
SELECT = "SELECT no, epoch, seq, owner, n, body FROM aside WHERE"


@dataclass(frozen=True, slots=True)
class Pile:
    """Rows of one voided batch, of one owner or SHARED."""

    no: int
    epoch: str
    seq: int
    owner: int
    rows: list[Reading]


class VoidedRows:
    """Rows by the batch that they were in. Every change belongs inside the caller's transaction."""

    def __init__(
        self,
        database: Database,
        keys: SpoolKeys,
        series_ids: SeriesIds,
        person_keys: PersonKeys,
        *,
        on_trial: bool,
    ) -> None:
        """`on_trial`: during an upgrade rows are stored as the version before reads them."""
        self._database, self._series_ids, self._person_keys = database, series_ids, person_keys
        self._on_trial = on_trial
        self._sealer = keys.sealer("aside")
        database.write(
            "CREATE TABLE IF NOT EXISTS aside(no INTEGER PRIMARY KEY, epoch TEXT NOT NULL,"
            " seq INTEGER NOT NULL, owner INTEGER NOT NULL, t0 INTEGER NOT NULL, n INTEGER NOT"
            " NULL, slots INTEGER NOT NULL, body BLOB NOT NULL)"
        )

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""

        def name(_no: int, *columns: object) -> str:
            return " ".join(map(str, columns))

        more = ("owner", "epoch", "seq")
        return SealedTable("aside", ("no",), name, lambda _, owner, *__: self._of(owner), more)

    def add(self, epoch: str, seq: int, rows: Iterable[Reading]) -> None:
        """Keep the rows of a batch, marked `again`."""
        marked = [replace(row, again=True) for row in rows]
        if not marked:
            return
        # In one pile, compressed like a payload: see the module.
        if not self._on_trial:
            self._insert(epoch, seq, SHARED, marked)
            return
        groups: dict[str | None, list[Reading]] = {}
        for row in marked:
            groups.setdefault(owner_of(row.series), []).append(row)
        # their series may have been forgotten since the batch was sealed
        new = self._series_ids.unknown(row.series for row in marked)
        self._series_ids.write(new)
        self._series_ids.learn(new)
        for group in groups.values():
            self._insert(epoch, seq, self._person_keys.number(group[0].series), group)

    def count(self) -> tuple[int, int]:
        """Number of rows, and of their slots."""
        rows, slots = self._database.read(
            "SELECT coalesce(sum(n), 0), coalesce(sum(slots), 0) FROM aside"
        )[0]
        return rows, slots

    def rows(self, epoch: str, seq: int) -> list[Reading]:
        """The rows kept of a batch, marked `again`."""
        piles, _ = self._open(f"{SELECT} epoch=? AND seq=?", epoch, seq)
        return [row for pile in piles for row in pile.rows]

    def drop(self, epoch: str, seq: int) -> None:
        """Forget the rows of a batch: its receipt has come."""
        self._database.write("DELETE FROM aside WHERE epoch=? AND seq=?", epoch, seq)

    def of(self, owner: int) -> tuple[list[Pile], int]:
        """All piles of one owner, or SHARED; and the number of rows that do not open."""
        return self._open(f"{SELECT} owner=?", owner)

    def sizes(self, owner: int) -> list[tuple[int, int]]:
        """Number and bytes of each pile of an owner, or SHARED."""
        return self._database.read("SELECT no, length(body) FROM aside WHERE owner=?", owner)

    def older_sizes(self, before: int) -> list[tuple[int, int]]:
        """Number and bytes of each pile of people with a row of an earlier slot."""
        sql = "SELECT no, length(body) FROM aside WHERE owner<>? AND t0<?"
        return self._database.read(sql, NOBODY, before)

    def drop_broken(self, owner: int) -> None:
        """Remove the piles of an owner that do not open."""
        good = {pile.no for pile in self.of(owner)[0]}
        gone = [(no,) for no, _ in self.sizes(owner) if no not in good]
        self._database.write_all("DELETE FROM aside WHERE no=?", gone)

    def opened(self, numbers: Iterable[int]) -> tuple[list[Pile], int]:
        """Piles by their numbers; and the number of rows that do not open."""
        piles, lost = [], 0
        for no in numbers:
            opened, broken = self._open(f"{SELECT} no=?", no)
            piles += opened
            lost += broken
        return piles, lost

    def replace(self, pile: Pile, left: Sequence[Reading]) -> None:
        """Keep only these rows of a pile, under the owner's present key."""
        self._database.write("DELETE FROM aside WHERE no=?", pile.no)
        if left:
            self._insert(pile.epoch, pile.seq, pile.owner, left)

    def _insert(self, epoch: str, seq: int, owner: int, rows: Sequence[Reading]) -> None:
        over = extent(rows)
        self._database.write(
            "INSERT INTO aside(epoch, seq, owner, t0, n, slots, body) VALUES(?,?,?,?,?,?,?)",
            epoch,
            seq,
            owner,
            over.t0,
            over.n,
            over.slots,
            self._of(owner).seal(self._body(epoch, seq, owner, rows), f"{owner} {epoch} {seq}"),
        )

    def _body(self, epoch: str, seq: int, owner: int, rows: Sequence[Reading]) -> bytes:
        if owner != SHARED:
            return pack(rows, self._series_ids.number_of)
        return write(Stamp(BatchId("", "", epoch, seq), Lane.BACKFILL, 0.0, "", ""), rows)

    def _open(self, sql: str, *values: str | int) -> tuple[list[Pile], int]:
        piles, lost = [], 0
        for no, epoch, seq, owner, n, body in self._database.read(f"{sql} ORDER BY no", *values):
            try:
                text = self._of(owner).unseal(body, f"{owner} {epoch} {seq}")
                rows = read(text) if owner == SHARED else unpack(text, self._series_ids.series_of)
            except (SealBroken, LookupError, ValueError, zlib.error):
                lost += n
                continue
            piles.append(Pile(no, epoch, seq, owner, rows))
        return piles, lost

    def _of(self, owner: int) -> Sealer:
        return self._sealer if owner in {NOBODY, SHARED} else self._person_keys.sealer(owner)
