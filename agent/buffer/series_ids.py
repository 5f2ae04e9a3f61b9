"""The series in a spool, each with a number that replaces it in blocks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.buffer.block import check_series
from agent.buffer.database import Damaged
from agent.buffer.keys import SealBroken
from agent.buffer.rotation import SealedTable
from agent.core.model import Series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.buffer.database import Database
    from agent.buffer.keys import SpoolKeys

ROOM = 300
"""bytes that a series takes with its share of a page, in most cases"""


class SeriesIds:
    """Series to number and back, in memory; sealed on the disk, because series show who lives
    where.
    """

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        """Load the series. Raises Damaged if one of them does not open: its rows could not be
        read.
        """
        self._database = database
        self._sealer = keys.sealer("series")
        self.series_of: dict[int, Series] = {}
        self.number_of: dict[Series, int] = {}
        self._bases: set[tuple[str, str, str | None]] = set()
        self.reload()

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable("series", ("number",), str, lambda _: self._sealer)

    def bases(self) -> int:
        """Number of dwellings with their bases, each of which may have to be retracted."""
        return len(self._bases)

    def unknown(self, wanted: Iterable[Series]) -> list[Series]:
        """The series without a number yet, once each. Raises ValueError on one that fits no
        message.
        """
        new = [series for series in set(wanted) if series not in self.number_of]
        for series in new:
            check_series(series)
        return new

    def write(self, new: list[Series]) -> None:
        """Store series under the next numbers, inside the caller's transaction."""
        self._database.write_all(
            "INSERT INTO series VALUES(?,?)",
            [(number, self._seal(number, series)) for number, series in self._numbered(new)],
        )

    def learn(self, new: list[Series]) -> None:
        """Use the numbers of `write`, once that is on the disk."""
        for number, series in self._numbered(new):
            self._learn(number, series)

    def clear(self) -> None:
        """Forget all series, in a commit, when no block uses them: they are about people."""
        with self._database.transaction():
            self._database.write("DELETE FROM series")
        for known in (self.series_of, self.number_of, self._bases):
            known.clear()

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget series that no row uses any more, inside the caller's transaction."""
        for number in list(numbers):
            self._database.write("DELETE FROM series WHERE number=?", number)
            del self.number_of[self.series_of.pop(number)]
        self._bases = {_basis(series) for series in self.number_of if series.place[:1] == "D"}

    def reload(self) -> None:
        """Reload from the disk after a failed transaction."""
        for known in (self.series_of, self.number_of, self._bases):
            known.clear()
        for number, body in self._database.read("SELECT number, body FROM series"):
            self._learn(number, self._open(number, body))

    def _numbered(self, new: list[Series]) -> list[tuple[int, Series]]:
        # The same numbers in `write` and `learn`: nothing is numbered in between.
        return list(enumerate(new, max(self.series_of, default=0) + 1))

    def _learn(self, number: int, series: Series) -> None:
        self.series_of[number] = series
        self.number_of[series] = number
        if series.place[:1] == "D":
            self._bases.add(_basis(series))

    def _seal(self, number: int, series: Series) -> bytes:
        return self._sealer.seal(json.dumps(series).encode(), str(number))

    def _open(self, number: int, body: bytes) -> Series:
        try:
            return Series(*json.loads(self._sealer.unseal(body, str(number))))
        except SealBroken as error:
            raise Damaged(f"series {number} of the spool does not open") from error


def _basis(series: Series) -> tuple[str, str, str | None]:
    return series.place, series.basis, series.occupancy
