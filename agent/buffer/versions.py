"""Versions of rows: no two rows of a slot have the same one, whatever the clock shows (rule C1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.buffer.schema import Meta
    from agent.core.model import Reading

LAST, HIGHEST = "version", "highest"
"""facts of the spool: the last version given, and the highest slot that was closed when marks were
set back
"""


class Versions:
    """Gives each row that needs one its version. Every change belongs inside a transaction."""

    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self.last, self.highest = 0, -1
        self.restore()

    def given(
        self, rows: Sequence[Reading], now: float | None, last: int | None = None
    ) -> tuple[list[Reading], int]:
        """The rows with their versions, and the last version given: `keep` it in their commit.

        A version is the Unix second at which the row was made (`now`, unless the row states it), or
        the last version plus one where that is later. A row needs a version if it was made out of
        schedule, or if its slot is at or below the highest slot that was ever closed.
        """
        last = self.last if last is None else last
        versioned: list[Reading] = []
        taken = _Slots()
        for row in rows:
            if row.ver is None and row.t > self.highest:
                versioned.append(row)
                continue
            made = int(now or 0) if row.ver is None else row.ver
            # One version serves several rows, but never two rows of the same slot.
            if taken.empty or made > last or taken.has(row):
                last, taken = max(made, last + 1), _Slots()
            taken.add(row)
            versioned.append(replace(row, ver=last))
        return versioned, last

    def keep(self, last: int) -> None:
        """Give no version at or below this one from now on."""
        if last != int(self._meta.number(LAST) or 0):  # a commit that failed may have left `last`
            self._meta[LAST] = last
        self.last = last

    def close(self, highest: int) -> None:
        """Slots up to this one were closed: rows for them need versions from now on."""
        self._meta[HIGHEST] = self.highest = max(highest, self.highest)

    def restore(self) -> None:
        """Reload from the disk after a failed transaction."""
        self.last = int(self._meta.number(LAST) or 0)
        self.highest = int(self._meta.number(HIGHEST) or -1)


class _Slots:
    """The slots in the rows of one version."""

    def __init__(self) -> None:
        self._single: dict[tuple[object, ...], set[int]] = {}
        self._runs: dict[tuple[object, ...], list[tuple[int, int]]] = {}

    @property
    def empty(self) -> bool:
        return not self._single and not self._runs

    def add(self, row: Reading) -> None:
        key, first, last = _extent(row)
        if first == last:
            self._single.setdefault(key, set()).add(first)
        else:
            self._runs.setdefault(key, []).append((first, last))

    def has(self, row: Reading) -> bool:
        """Whether one of the row's slots is among them."""
        key, first, last = _extent(row)
        singles = self._single.get(key, set())
        alone = first in singles if first == last else any(first <= t <= last for t in singles)
        return alone or any(a <= last and first <= b for a, b in self._runs.get(key, ()))


def _extent(row: Reading) -> tuple[tuple[object, ...], int, int]:
    of = row.series
    key = (of.place, of.channel, of.kind, of.step)
    return key, row.t, row.t + (row.span - 1) * of.step
