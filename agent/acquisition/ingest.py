"""Bounded memory between the readers and one spool. Commits at each flush interval, or at 2,000
rows.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agent.core.clock import monotonic
from agent.core.errors import SpoolFull, StorageFailed
from agent.core.log_fields import LogEvent, fields
from agent.core.model import MarkKey, Quality, Reading, Series, SlotMark, ValueKind, Why
from agent.core.tasks import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from agent.acquisition.slots import SlotLedger
    from agent.core.tasks import Faults

log = logging.getLogger(__name__)

ROOM = 20_000
"""rows in memory before readers must wait"""
MOST = 2_000
"""rows in memory that start a commit before the flush interval ends"""
DAILY = 86_400
KEPT = 5_000
"""daily indexes and changes of states that are kept in memory while the spool has no room: ten days
of 500 meters
"""


if TYPE_CHECKING:
    Recheck = Callable[[Sequence[Reading]], list[Reading]]
    Marks = Callable[[], Awaitable[Mapping[MarkKey, SlotMark]]]
    Append = Callable[[Sequence[Reading], Mapping[MarkKey, SlotMark]], Awaitable[None]]


def shed(rows: Iterable[Reading], most: int = KEPT) -> list[Reading]:
    """The same slots without their values: M `shed`, and each run of one series as one row.

    The first `most` daily or monthly indexes and changes of states keep their values (rule M11). A
    row keeps its version: with another one the platform would hold two rows of the same slot. A row
    that had no value keeps its reason while there are at most `most` rows without a value. Rows of
    one series and version must come in the order of their slots; runs that are not adjacent stay
    apart.
    """
    # The own reasons are kept while they are few: each change of the reason needs a row of its own.
    left = _shed(rows, most, own_reason=True)
    if sum(row.value is None for row in left) > most:
        return _shed(left, most, own_reason=False)
    return left


def _shed(rows: Iterable[Reading], most: int, *, own_reason: bool) -> list[Reading]:
    runs: dict[tuple[Series, int | None], list[Reading]] = {}
    for row in rows:
        run = runs.setdefault((row.series, row.ver), [])
        if row.value is not None and _precious(row.series) and most > 0:
            most -= 1
            run.append(row)
            continue
        reason: tuple[str, str | None] = (Quality.MISSING, Why.SHED)
        if row.value is None and (own_reason or row.quality == Quality.WITHHELD):
            reason = (row.quality, row.why)
        last = run[-1] if run else None
        if last is not None and _after(last) == row.t and (last.quality, last.why) == reason:
            run[-1] = replace(last, span=last.span + row.span)
        else:
            quality, why = reason
            run.append(
                Reading(row.series, row.t, None, quality, why=why, span=row.span, ver=row.ver)
            )
    return [row for run in runs.values() for row in run]


def _precious(series: Series) -> bool:
    return series.kind == ValueKind.EVT or (series.kind == ValueKind.REG and series.step >= DAILY)


def _after(row: Reading) -> int:
    return row.t + row.span * row.series.step


class Ingest:
    """Rows and marks on their way to one spool. A row counts as accepted once `append` returned."""

    def __init__(  # noqa: PLR0913, PLR0917 -- the last ones have defaults
        self,
        append: Append,
        flush: float,
        room: int = ROOM,
        most: int = MOST,
        revision: Callable[[], int] = int,
        recheck: Recheck = list,
        uplink: str = "",
    ) -> None:
        self.uplink = uplink
        """name of the uplink that the spool belongs to"""
        self._append, self._flush, self._room, self._most = append, flush, room, most
        self._revision, self._recheck = revision, recheck
        """`_revision`: the number of the registry's last change. `_recheck`: the rows that may
        still be kept after it
        """
        self._seen = revision()
        self._rows: list[Reading] = []
        self._marks: dict[MarkKey, SlotMark] = {}
        self._filled, self._full, self._emptied = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Condition(),
        )
        self._failing = False
        """whether the last commit failed: then nobody waits for room"""
        self.unsure: Sequence[Reading] = ()
        """rows of a commit that failed and may have taken effect all the same: they wait here, and
        the next opening of the file looks for them (rule T6)
        """
        self._committing = asyncio.Lock()
        self.turned = monotonic()
        """monotonic time of the last commit, or since when something waits; infinite: nothing does
        """
        self.shed_rows = 0
        """rows whose values were dropped since the start because the spool was full"""
        self.slots: Counter[tuple[str, str | None]] = Counter()
        """slots of the rows taken since the start, by their quality and the reason of M and W"""

    async def put(self, rows: Sequence[Reading], marks: Mapping[MarkKey, SlotMark]) -> None:
        """Take rows together with the marks that they cause, and wait while the memory is full.

        The rows are taken at once, in the clock period in which they were made (see `Timekeeper`).
        """
        self.take(rows, marks)
        await self.room()

    def take(self, rows: Sequence[Reading], marks: Mapping[MarkKey, SlotMark]) -> None:
        """Take rows and marks at once. The caller waits for `room` before it takes more."""
        for row in rows:
            self.slots[row.quality, row.why] += row.span
        if self._failing and len(self._rows) + len(rows) > self._room:
            # While the disk fails nobody waits for room, so that lines are still read: the memory
            # must stay bounded by dropping values.
            waiting, self._rows = self._rows, []
            self._dropped([*waiting, *rows], {})
        else:
            self._rows.extend(rows)
        self._marks.update(marks)
        self._filled.set()
        if len(self._rows) >= self._most:
            self._full.set()

    async def room(self) -> None:
        """Wait while the memory is full, but not while commits fail."""
        if len(self._rows) > self._room:
            async with self._emptied:
                await self._emptied.wait_for(lambda: len(self._rows) <= self._room or self._failing)

    @property
    def waits(self) -> bool:
        """Whether rows or marks are not on the disk yet."""
        return bool(self._rows or self._marks)

    async def keep(self, rows: Sequence[Reading]) -> None:
        """Store rows that are kept elsewhere until this returns. Raises SpoolFull if none of them
        was stored.
        """
        # The commit below may take long: check the rows again if the registry has changed
        # meanwhile.
        made = self._revision()
        await self.commit()
        async with self._committing:
            left = rows if made == self._revision() else self._recheck(rows)
            if left:
                await self._append(left, {})

    async def closed(self, stored: Marks) -> dict[MarkKey, SlotMark]:
        """How far slots are closed: the marks that are `stored`, and those that still wait here
        with their rows.
        """
        async with self._committing:
            return {**await stored(), **self._marks}

    def looked(self, *, stored: bool) -> None:
        """The file was opened again. `stored`: it has the `unsure` rows: they wait no more."""
        if stored:
            known = {id(row) for row in self.unsure}
            self._rows = [row for row in self._rows if id(row) not in known]
        self.unsure = ()

    async def serve(self) -> None:
        """Commit what waits at a flush interval after it came, or sooner when many rows wait, until
        cancelled.

        Raises what a commit raises. The rows of a failed commit wait for the next one.
        """
        while True:
            if not self.waits:
                self._filled.clear()
                self.turned = math.inf
                await self._filled.wait()
            self.turned = monotonic()
            await until(self._full, self._flush)
            await self.commit()

    async def commit(self) -> None:
        """Store everything that waits. When the spool is full, drop values and count them.

        Marks move only together with their rows, so a slot that could not be stored is still owed:
        as M `shed`, once there is room again. Other errors are raised; the rows then wait on, and
        nobody waits for room.
        """
        async with self._committing:
            self._look_again()
            rows, marks = self._rows, self._marks
            self._rows, self._marks = [], {}
            self._full.clear()
            if not marks and not rows:
                return
            failing = True
            try:
                await self._store(rows, marks)
                failing = False
            finally:
                await self.stalls(failing)

    async def stalls(self, failing: bool = True) -> None:
        """Note whether commits fail at present."""
        self._failing = failing
        async with self._emptied:
            self._emptied.notify_all()

    async def _store(self, rows: list[Reading], marks: dict[MarkKey, SlotMark]) -> None:
        """Append to the end even when cancelled: stored rows must not be appended again."""
        # A task of its own: a cancellation here must not cancel the append.
        storing = asyncio.ensure_future(self._append_all(rows, marks))
        cancelled: asyncio.CancelledError | None = None
        while not storing.done():
            try:
                await asyncio.wait([storing])
            except asyncio.CancelledError as error:
                cancelled = error
        try:
            storing.result()
        except SpoolFull:
            self._dropped(rows, marks)
        except BaseException:
            self._rows, self._marks = rows + self._rows, marks | self._marks
            raise
        if cancelled is not None:
            raise cancelled

    async def _append_all(self, rows: list[Reading], marks: dict[MarkKey, SlotMark]) -> None:
        """Append all rows; `rows` loses those that are stored. A row that no batch could carry is
        found by halving, and loses its own value only.
        """
        size = len(rows)
        while True:
            piece, last = rows[:size], size >= len(rows)
            try:
                await self._append_piece(piece, marks if last else {})
            except ValueError as error:
                if not piece:
                    raise
                # Halve until the faulty row is alone.
                if len(piece) > 1:
                    size = len(piece) // 2
                    continue
                log.error(  # noqa: TRY400
                    "a reading of %s cannot be stored and is sent as missing: %s",
                    piece[0].series.channel, error,
                    extra=fields(LogEvent.RECORD_NOT_WRITTEN, uplink=self.uplink),
                )  # fmt: skip
                rows[:1] = _without_value(piece[0])
                size = min(1, len(rows))
                continue
            if last:
                return
            del rows[:size]
            size = len(rows)

    async def _append_piece(self, piece: list[Reading], marks: Mapping[MarkKey, SlotMark]) -> None:
        try:
            await self._append(piece, marks)
        except StorageFailed:
            # The commit may be on the disk, or come to it once the disk answers. After it nothing
            # more is written until the file is opened again, so the first one stays the one.
            self.unsure = self.unsure or piece
            raise
        self.unsure = ()

    def _look_again(self) -> None:
        """Drop the rows that may no longer be kept, if the registry has changed since they were
        made.
        """
        if self._seen != self._revision():
            self._seen, self._rows = self._revision(), self._recheck(self._rows)

    def _dropped(self, rows: list[Reading], marks: dict[MarkKey, SlotMark]) -> None:
        left = shed(rows)
        if lost := _values(rows) - _values(left):
            # One log entry a start, not one a commit.
            if not self.shed_rows:
                log.error(
                    "the spool of %s is full: values are dropped and counted until there is room",
                    self.uplink, extra=fields(LogEvent.STORE_FULL, uplink=self.uplink),
                )  # fmt: skip
            self.shed_rows += lost
        # In front: rows that came meanwhile are newer, and each series must stay in order.
        self._rows = left + self._rows
        self._marks = marks | self._marks


def _values(rows: Sequence[Reading]) -> int:
    return sum(row.value is not None for row in rows)


def _without_value(row: Reading) -> list[Reading]:
    """The same slot as M `agent`; nothing if it had no value anyway."""
    if row.value is None:
        return []
    return [replace(row, value=None, quality=Quality.MISSING, why=Why.AGENT, flags="", n=None)]


class SlotAccount(NamedTuple):
    """The slots of one recipient, and the queue in front of its spool."""

    ledger: SlotLedger
    ingest: Ingest

    def take(self, key: MarkKey, change: Callable[[], Sequence[Reading]], faults: Faults) -> bool:
        """Make the rows of one change at one mark and queue them together with the mark. Return
        whether that worked.

        An error restores the mark, so that its slots stay open. The error is noted and affects this
        recipient only. Afterwards wait for room in `ingest` before the next change.
        """
        uplink = self.ingest.uplink
        with faults.alone(f"rows {uplink}", key[0], uplink) as works:
            self._take(key, change)
        return works()

    def _take(self, key: MarkKey, change: Callable[[], Sequence[Reading]]) -> None:
        marks = self.ledger.marks
        before = marks.get(key)
        try:
            rows = change()
            self.ingest.take(rows, {key: marks[key]} if key in marks else {})
        except BaseException:
            if before is None:
                # A mark without its rows would close slots that nobody stored.
                marks.pop(key, None)
            else:
                marks[key] = before
            raise
