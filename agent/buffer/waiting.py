"""The rows that wait to be sealed, as blocks in the order they came."""

from __future__ import annotations

import zlib
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.buffer.block import Extent, extent, lane_slot, pack, unpack
from agent.buffer.keys import Unreadable
from agent.model import Lane

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from agent.buffer.database import Database
    from agent.buffer.keys import Keys
    from agent.buffer.names import Names
    from agent.buffer.schema import Meta
    from agent.model import Reading


@dataclass(frozen=True, slots=True)
class Choice:
    """Rows of one block that may be sealed now, and the others beside them."""

    no: int
    rows: list[Reading]
    wanted: list[int]
    """indexes of those of the lane"""


class Waiting:
    """Blocks of rows. Every change belongs inside a transaction of the caller's."""

    def __init__(self, database: Database, keys: Keys, names: Names, meta: Meta) -> None:
        self._database = database
        self._box = keys.box("block")
        self._names = names
        self._meta = meta
        self.total: int = database.one("SELECT coalesce(sum(n), 0) FROM block")
        """rows; the caller restores it when its transaction fails"""
        last = database.one("SELECT max(no) FROM block") or 0
        self._again_to = int(meta.number("again_to") or 0)
        self._next = max(last, self._again_to) + 1

    def body(self, rows: Sequence[Reading]) -> bytes:
        """Rows as `add` takes them. Raises ValueError on a row that no batch could carry."""
        return pack(rows, self._names.number_of)

    def add(self, rows: Sequence[Reading], body: bytes) -> None:
        """At the end."""
        self._insert(self._next, extent(rows), body)
        self._next += 1

    def put_back(self, rows: Sequence[Reading]) -> None:
        """At the front: they were sealed before all that waits."""
        first = self._database.one("SELECT min(no) FROM block")
        no = self._next if first is None else first - 1
        self._next = max(self._next, no + 1)
        self._insert(no, extent(rows), self.body(rows))

    def mark_again(self) -> None:
        """All rows that wait now are `again` rows from here on, without touching a body."""
        self._again_to = self._next - 1
        self._meta["again_to"] = self._again_to

    def counts(self, live_after: int) -> tuple[int, int]:
        """Rows waiting live and in backfill; a block that has both counts whole in each."""
        live, only_live = self._database.read(
            "SELECT coalesce(sum(n), 0), coalesce(sum(n) FILTER (WHERE t0 > ?1), 0)"
            " FROM block INDEXED BY block_lane WHERE t1 > ?1",
            live_after,
        )[0]
        return live, self.total - only_live

    def choose(
        self, lane: Lane, live_after: int, most_rows: int
    ) -> tuple[list[Choice], list[tuple[int, int]]]:
        """Blocks with the lane's rows, oldest first, until `most_rows` are reached.

        Beside them the number and rows of each block that does not open.
        """
        choices, broken, found = [], [], 0
        with closing(self._candidates(lane, live_after)) as candidates:
            for no, n, body in candidates:
                rows = self._open(no, body)
                if rows is None:
                    broken.append((no, n))
                    continue
                wanted = [i for i, row in enumerate(rows) if lane_of(row, live_after) is lane]
                choices.append(Choice(no, rows, wanted))
                found += len(wanted)
                if found >= most_rows:
                    break
        return choices, broken

    def take(self, choices: Sequence[Choice], count: int) -> None:
        """Remove the first `count` chosen rows; what else a block holds keeps its place."""
        for choice in choices:
            taken = set(choice.wanted[:count])
            count -= len(taken)
            left = [row for i, row in enumerate(choice.rows) if i not in taken]
            if taken:
                self._replace(choice.no, left)
                self.total -= len(taken)

    def drop(self, no: int, n: int) -> None:
        """Remove a block whole."""
        self._database.write("DELETE FROM block WHERE no=?", no)
        self.total -= n

    def _insert(self, no: int, over: Extent, body: bytes) -> None:
        sealed = self._box.seal(body, str(no))
        self._database.write("INSERT INTO block VALUES(?,?,?,?,?,?)", no, *over, sealed)
        self.total += over.n

    def _replace(self, no: int, left: Sequence[Reading]) -> None:
        if not left:
            self._database.write("DELETE FROM block WHERE no=?", no)
            return
        self._database.write(
            "UPDATE block SET t0=?, t1=?, n=?, slots=?, body=? WHERE no=?",
            *extent(left),
            self._box.seal(self.body(left), str(no)),
            no,
        )

    def _candidates(self, lane: Lane, live_after: int) -> Generator[tuple[int, int, bytes]]:
        if lane is Lane.BACKFILL:  # they stand in front
            yield from self._database.each(
                "SELECT no, n, body FROM block NOT INDEXED WHERE t0 <= ? ORDER BY no", live_after
            )
            return
        # few among many: by the index, or a long backlog would be read through for each of them
        live = self._database.read(
            "SELECT no FROM block INDEXED BY block_lane WHERE t1 > ?", live_after
        )
        for (no,) in sorted(live):
            yield from self._database.read("SELECT no, n, body FROM block WHERE no=?", no)

    def _open(self, no: int, body: bytes) -> list[Reading] | None:
        try:
            rows = unpack(self._box.unseal(body, str(no)), self._names.series_of)
        except (Unreadable, LookupError, ValueError, zlib.error):
            return None
        if no <= self._again_to:
            return [replace(row, again=True) for row in rows]
        return rows


def lane_of(row: Reading, live_after: int) -> Lane:
    """Live = its slot is after `live_after`, which lies two seal intervals back."""
    return Lane.LIVE if lane_slot(row) > live_after else Lane.BACKFILL
