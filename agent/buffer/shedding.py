"""Gives values up when the spool is full of rows without a receipt (rule M11).

In this order: first nothing, because small blocks of one owner take less room as one block; then
common areas and plant keep one value an hour, then one a day; then the oldest values of everything.
Midnight indexes stay, and so do batches, receipts and everything else in the file. A value that was
given up is M `shed` from that commit on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.buffer.downsampling import DAY, Tier, given_up, thinned, utc_midnight

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from agent.buffer.database import Database
    from agent.buffer.downsampling import Midnight
    from agent.buffer.pending import Broken, PendingRows, RowBlock
    from agent.buffer.schema import Meta

BLOCKS = 3_000
"""blocks in one commit"""
DEARER = 5
"""where each step loses more, a commit takes only this fraction, to give up little more than
needed
"""
WORTH_PARTING = 2_000
"""rows of the last half hour that are divided by owner and thinned before older rows are given up
entirely
"""
LARGE = 1_000
"""rows of a block that would take no less room if joined with others"""
SMALL = 2_000
"""rows of a block without values to which more such rows are added"""
TABLES = (
    "CREATE TABLE IF NOT EXISTS thinned(no INTEGER PRIMARY KEY, tier INTEGER NOT NULL)",
    """CREATE TRIGGER IF NOT EXISTS thinned_goes AFTER DELETE ON block BEGIN
    DELETE FROM thinned WHERE no=old.no; END""",
)
"""how far blocks have been thinned; a block without an entry was not even joined"""
# By the covering index: the table itself has the bodies between the numbers, and there may be
# a hundred thousand of them.
OLDEST = """SELECT no, n, owner, t0 FROM block INDEXED BY block_lane LEFT JOIN thinned USING(no)
    WHERE mixed=0 AND coalesce(tier, -1)<?1 AND (?2 OR owner=0) ORDER BY no LIMIT ?3"""
REMAINS = """SELECT owner, max(no), n FROM thinned JOIN block USING(no)
    WHERE tier=? AND mixed=0 GROUP BY owner"""


class Shedding:
    """Gives values up step by step. Each step belongs inside one transaction of the caller."""

    def __init__(
        self,
        database: Database,
        pending: PendingRows,
        meta: Meta,
        write_off: Callable[[Broken], None],
    ) -> None:
        self._database, self._pending, self._meta = database, pending, meta
        self._write_off = write_off
        self.midnight: Midnight = utc_midnight
        for table in TABLES:
            database.write(table)

    def step(self, rows: int) -> bool:
        """Give up the least valuable values, out of up to `rows` waiting rows (one block in any
        case). False: nothing is left that may be given up.

        One step may gain no room. While it returns True there may be more.
        """
        return (
            self._thin(Tier.WHOLE, rows)
            or self._thin(Tier.HOURLY, rows)
            or self._thin(Tier.DAILY, rows)
            or self._part(WORTH_PARTING, rows)
            or self._thin(Tier.INDEXES, rows)
            or self._part(1, rows)
        )

    def _part(self, least: int, most: int) -> bool:
        """Divide the latest blocks by owner if they have that many rows: only divided blocks can be
        thinned.
        """
        rows = self._database.scalar(
            "SELECT coalesce(sum(n), 0) FROM block INDEXED BY block_lane WHERE mixed=1"
        )
        if rows < least:
            return False
        parted, broken = self._pending.part(self._pending.last, most)
        self._write_off(broken)
        return bool(parted or broken)

    def _thin(self, tier: Tier, at_once: int) -> bool:
        """Thin the oldest blocks that have not been thinned to this tier."""
        everybody = tier in {Tier.WHOLE, Tier.INDEXES}
        candidates = self._database.read(OLDEST, tier, everybody, BLOCKS)
        large = {no for no, n, *_ in candidates if tier is Tier.WHOLE and n >= LARGE}
        # Small steps where values are lost, so that no more is given up than needed.
        most = at_once // (DEARER if tier > Tier.HOURLY else 1)
        rows = [(no, 0 if no in large else n) for no, n, *_ in candidates]
        window = set(self._pending.joinable(rows, most))
        # At the last tier a block may be left with runs of M only: these are collected in one
        # block.
        remains = self._remains(tier) if tier is Tier.INDEXES else {}
        blocks = [(no, owner, t0) for no, _, owner, t0 in candidates if no in window]
        for owner, numbers in _runs(blocks, large, days=tier is not Tier.INDEXES):
            self._thin_of(owner, remains.pop(owner, ()), numbers, tier)
        # Marked without being rewritten, or the next step would choose them again.
        self._mark(large & window, tier)
        return bool(window)

    def _remains(self, tier: Tier) -> dict[int, tuple[int, ...]]:
        """The last block without values of each owner, if it is small."""
        rows = self._database.read(REMAINS, tier)
        return {owner: (no,) for owner, no, n in rows if n <= SMALL}

    def _thin_of(
        self, owner: int, before: Sequence[int], numbers: Sequence[int], tier: Tier
    ) -> None:
        joined: Sequence[int] = [*(no for no in before if no < numbers[0]), *numbers]
        if len(self._pending.joinable([(no, 0) for no in joined], 0)) < len(joined):
            joined = numbers
        blocks, broken = self._pending.opened(joined)
        self._write_off(broken)
        if blocks:
            self._rewrite(owner, blocks, tier)

    def _rewrite(self, owner: int, blocks: Sequence[RowBlock], tier: Tier) -> None:
        """Replace these blocks by one block of their remaining rows."""
        rows = [row for block in blocks for row in block.rows]
        lost = sum(given_up(row, tier, self.midnight) for row in rows)
        numbers = [block.no for block in blocks]
        if lost or len(blocks) > 1:
            self._pending.join(owner, blocks, thinned(rows, tier, self.midnight))
            numbers = numbers[:1]
        self._mark(numbers, tier)
        if lost:
            self._meta.add("shed", lost)

    def _mark(self, numbers: Iterable[int], tier: Tier) -> None:
        self._database.write_all(
            "INSERT OR REPLACE INTO thinned VALUES(?,?)", [(no, tier) for no in numbers]
        )


def _runs(
    blocks: Iterable[tuple[int, int, int]], large: Container[int], *, days: bool
) -> Iterator[tuple[int, Sequence[int]]]:
    """Owner and numbers of the blocks to join: blocks of one owner, given by number, owner and
    first slot. With `days` they are of one day each, so that the oldest can still be told apart. A
    run never spans a large block, which stays as it is.
    """
    runs: dict[int, tuple[int, list[int]]] = {}
    for no, owner, t0 in blocks:
        day, numbers = runs.get(owner, (0, []))
        if numbers and (no in large or (days and t0 // DAY != day)):
            yield owner, numbers
            numbers = []
        runs[owner] = (t0 // DAY, numbers if no in large else [*numbers, no])
    for owner, (_, numbers) in runs.items():
        if numbers:
            yield owner, numbers
