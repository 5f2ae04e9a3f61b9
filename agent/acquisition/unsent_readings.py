"""Readings that no slot takes yet: of unassigned meters, at midnight for duties, undated."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from agent.acquisition.timetable import is_slot
from agent.buffer.unassigned_store import UnassignedValue
from agent.core.model import Flag, Sample, Why
from agent.core.quantities import channels
from agent.core.tasks import Change
from agent.registry.consent_policy import LONGEST_KEPT, LONGEST_UNSENT, register_kept
from agent.registry.dates import DAY
from agent.registry.index import Unknown
from agent.registry.records import serial_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.acquisition.ingest import SlotAccount
    from agent.buffer.database import OneThread
    from agent.buffer.schema import Wrong
    from agent.buffer.unassigned_store import UnassignedStore
    from agent.core.model import Point, Reading, Series
    from agent.registry.registry import Registry

MOST = 2_000
"""values of one device in memory that are written to the disk at once"""
KEPT_AT_MOST = 5 * MOST
"""values of one device kept in memory while the store fails: the latest"""
MIDNIGHTS_AT_MOST = 1_000
"""indexes of one dwelling kept in memory while the store fails: the latest"""
GIVEN = "given:"
"""begins what is among the flags of a kept index and is no flag"""
STAYING = "/staying"
"""ends it if the people who have the index live there after it, as far as was known"""
QUARTER = 900
"""seconds: midnight is a multiple of it in every time zone"""
ROOM = 50_000
"""samples of one line: 60 devices every minute for 14 hours"""


class _StoredReadings:
    """Readings in memory, and the store to which they are written."""

    def __init__(self, registry: Registry, store: UnassignedStore, thread: OneThread) -> None:
        self._registry = registry
        self.store, self.thread = store, thread
        """replaced when the store is opened again"""
        self._held: dict[str, list[UnassignedValue]] = {}
        self.asked = -1
        """the registry's change after which `tend` last checked all values"""
        self.filled = Change()
        """there is something to write now"""
        self.full = False
        """whether many values wait in memory, or the last write failed"""
        self._wrong: list[Wrong] = []
        """what a wrong clock closed and the store has not destroyed yet"""
        self._one_at_a_time = asyncio.Lock()

    async def set_back(self, wrong: Wrong) -> None:
        """Destroy the values of slots that a wrong clock closed: the meter is read again for them
        (rule C5). While the store fails this raises what it raises, and none of them is assigned:
        they are destroyed before anything else happens to the store.
        """
        async with self._one_at_a_time:
            for whose, values in list(self._held.items()):
                self._held[whose] = [value for value in values if not _closed_by(wrong, value)]
                if not self._held[whose]:
                    del self._held[whose]
            self._wrong.append(wrong)
            await self._destroy_wrong()

    async def commit(self) -> None:
        """Write the values held in memory to the store; those that fail stay in memory."""
        async with self._one_at_a_time:
            await self._commit()

    async def _commit(self) -> None:
        raise NotImplementedError

    async def _destroy_wrong(self) -> None:
        while self._wrong:
            wrong = self._wrong[0]
            await self.thread.run(self.store.destroy, partial(_closed_by, wrong))
            self._wrong = [other for other in self._wrong if other is not wrong]
            self.asked = -1


def _closed_by(wrong: Wrong, value: UnassignedValue) -> bool:
    return wrong.closed((value.device, value.step), value.slot)


class UnassignedReadings(_StoredReadings):
    """Puts unassigned readings into their store, and releases them."""

    def __init__(self, registry: Registry, store: UnassignedStore, thread: OneThread) -> None:
        super().__init__(registry, store, thread)
        self.soon = False
        """whether what waits in memory is to be written as soon as rows are"""
        self.seen: dict[str, int] = {}
        """the first slot with a kept value, by the serial number that was read, in comparable form
        """

    def note(self, slot: int, samples: Iterable[Sample], serial: str | None) -> None:
        """Keep the values that the registry cannot assign."""
        for sample in samples:
            point = sample.point
            if point.place is not None or point.channel is None or point.derived:
                continue
            if sample.why is not None or not isinstance(sample.value, Decimal):
                continue
            if self._whose(point, serial, slot):
                continue
            kept = UnassignedValue(
                point.device,
                point.name,
                point.every,
                slot,
                serial,
                str(sample.value),
                sample.at,
                sample.quality,
                sample.flags,
            )
            self._see(kept)
            self._held.setdefault(point.device, []).append(kept)
            if len(self._held[point.device]) >= MOST and not self.full:
                self.full = True
                self.filled.tell()
            # Bounded also while the store cannot be opened.
            del self._held[point.device][:-KEPT_AT_MOST]

    def _see(self, value: UnassignedValue) -> None:
        if value.serial:
            key = serial_key(value.serial)
            self.seen[key] = min(value.slot, self.seen.get(key, value.slot))

    async def _commit(self) -> None:
        held, self._held, self.full = self._held, {}, False
        try:
            await self._destroy_wrong()  # before values that were dated since
            for device in list(held):
                await self.thread.run(self.store.add, held[device])
                del held[device]
        except Exception:
            for device, values in held.items():
                # while the store cannot be opened, the latest values are kept
                self._held[device] = [*values, *self._held.get(device, ())][-KEPT_AT_MOST:]
            self.full = True
            self.filled.tell()
            raise

    async def tend(self, now: float, accounts: Sequence[SlotAccount], point_of: PointOf) -> int:
        """Release the values that the registry can assign since its last change, and destroy those
        that are too old. Return how many values were released or destroyed.

        While the registry cannot be read nothing is: it knows no basis then (rule A8).

        Raises SpoolFull where a spool has no room: the values that it did not take stay in the
        store.
        """
        async with self._one_at_a_time:
            return await self._tend(now, accounts, point_of)

    async def _tend(self, now: float, accounts: Sequence[SlotAccount], point_of: PointOf) -> int:
        await self._commit()
        if self._registry.mute:
            return 0
        expired = await self.thread.run(self.store.expire, int(now - LONGEST_UNSENT))
        if self.asked == self._registry.revision:
            return expired
        asked = self._registry.revision
        lots = await self.thread.run(lambda: list(self.store.each()))
        released = 0
        latest: dict[_Read, int] = {}
        self.seen.clear()
        for lot in lots:
            for value in lot[1]:
                if not self._claimed(value, point_of):
                    self._see(value)
            first = [value for value in lot[1] if _is_first(value, latest)]
            released += await self._release(lot, first, now, accounts, point_of)
        self.asked = asked
        return expired + released

    async def _release(
        self,
        lot: tuple[int, list[UnassignedValue]],
        first: list[UnassignedValue],
        now: float,
        accounts: Sequence[SlotAccount],
        point_of: PointOf,
    ) -> int:
        number, values = lot
        known = [(value, point) for value in first if (point := self._claimed(value, point_of))]
        left = [value for value in values if not self._claimed(value, point_of)]
        if len(left) == len(values):
            return 0
        for ledger, ingest in accounts:
            rows: list[Reading] = []
            for value, point in known:
                key, sample = (value.device, value.step), _exchanged_sample(value, point)
                rows += ledger.late(key, value.slot, [sample], value.serial, int(now))
            # An error leaves the values in the store. A kill before they are removed there sends
            # them again, as another version.
            await ingest.keep(rows)
        await self.thread.run(self.store.put_back, number, {"": left} if left else {})
        return len(values) - len(left)

    def _claimed(self, value: UnassignedValue, point_of: PointOf) -> Point | None:
        point = point_of(value.device, value.point)
        if point is None or not self._whose(point, value.serial, value.slot):
            return None
        return point

    def _whose(self, point: Point, serial: str | None, slot: int) -> bool:
        installation = self._registry.whose(point.device, serial, str(point.channel), slot)
        return not isinstance(installation, Unknown)


def _is_first(value: UnassignedValue, latest: dict[_Read, int]) -> bool:
    """Whether this is the first value of its slot (rule M10): a start may read a slot again whose
    first value was kept just before. `latest`: the latest slot of each meter, which is updated.
    """
    read = value.device, value.point, value.serial
    if latest.get(read) == value.slot:
        return False
    latest[read] = value.slot
    return True


def _exchanged_sample(value: UnassignedValue, point: Point) -> Sample:
    sample = Sample(point, value.at, Decimal(value.value), quality=value.quality)
    return replace(sample, flags=(*value.flags, Flag.EXCHANGED))


if TYPE_CHECKING:
    PointOf = Callable[[str, str], Point | None]
    """a configured point by device and name; None: it is no longer configured"""
    _Read = tuple[str, str, str | None]
    """device, point, and the number that was read with the value"""


class MidnightReadings(_StoredReadings):
    """Puts midnight indexes into a store of their own, and releases them to the manager. In memory
    they are by dwelling: each dwelling has its own key in the store.
    """

    @property
    def soon(self) -> bool:
        """Whether an index waits in memory. It is written as soon as rows are: nobody reads the
        meter a second time for this midnight.
        """
        return bool(self._held)

    def note(
        self,
        slot: int,
        samples: Iterable[Sample],
        serial: str | None,
        accounts: Sequence[SlotAccount],
    ) -> None:
        """Keep the midnight indexes that a duty may come to need."""
        if slot % QUARTER or not any(is_slot(slot, DAY, ledger.zone) for ledger, _ in accounts):
            return
        for sample in samples:
            point = sample.point
            if sample.why is not None or not isinstance(sample.value, Decimal) or point.derived:
                continue
            if (place := self._for_a_duty(point, serial, slot)) is None:
                continue
            # A recipient may get this index already: a correction may retract it, and a further one
            # require it again.
            known = [ledger.assignment.boundary(point, serial, slot) for ledger, _ in accounts]
            given = sorted({self._given(series, slot) for series in known if series})
            # before an upgrade is final the file stays readable for the earlier version
            if given and self.store.on_trial:
                continue
            content = (str(sample.value), sample.at, sample.quality, (*sample.flags, *given))
            value = UnassignedValue(point.device, point.name, point.every, slot, serial, *content)
            self._held.setdefault(place, []).append(value)
        if self.soon:
            self.filled.tell()

    async def _commit(self) -> None:
        held, self._held, self.full = self._held, {}, False
        try:
            await self._destroy_wrong()  # before values that were dated since
            if held:
                await self.thread.run(self.store.add_each, held)
        except Exception:
            for place, values in held.items():
                self._held[place] = [*values, *self._held.get(place, ())][-MIDNIGHTS_AT_MOST:]
            self.full = True
            self.filled.tell()
            raise

    async def of(self, place: str, point_of: PointOf) -> list[tuple[UnassignedValue, Point]]:
        """The indexes kept of a dwelling (by id), the oldest first."""
        await self.commit()
        values_kept = []
        for _, values in await self.thread.run(lambda: list(self.store.each())):
            for value in values:
                point = point_of(value.device, value.point)
                if point is None or point.channel is None:
                    continue
                whose = self._registry.whose(point.device, value.serial, point.channel, value.slot)
                if not isinstance(whose, Unknown) and whose.place == place:
                    values_kept.append((value, point))
        return sorted(values_kept, key=lambda held: held[0].slot)

    async def tend(self, now: float, accounts: Sequence[SlotAccount], point_of: PointOf) -> int:
        """Give the indexes that became owed since the registry's last change. Destroy those that
        are too old or serve no duty. Return how many were given or destroyed.

        What was given stays: a correction may retract it, and a further one need it again.

        While the registry cannot be read nothing is: it knows no duty then (rule A8).

        Raises SpoolFull where a spool has no room: the values that it did not take stay in the
        store.
        """
        async with self._one_at_a_time:
            return await self._tend(now, accounts, point_of)

    async def _tend(self, now: float, accounts: Sequence[SlotAccount], point_of: PointOf) -> int:
        await self._commit()
        if self._registry.mute:
            return 0
        gone = await self.thread.run(self.store.expire, int(now - LONGEST_KEPT))
        # Read before the values are checked: a change meanwhile is handled by the next call.
        asked = self._registry.revision
        if self.asked != asked:
            lots = await self.thread.run(lambda: list(self.store.each()))
            first = _first_of_each(lots)
            for no, values in lots:
                left, done = await self._deliver(first[no], now, accounts, point_of)
                gone += done + len(values) - len(first[no])
                if [value for each in left.values() for value in each] != values:
                    await self.thread.run(self.store.put_back, no, left)
            self.asked = asked
        return gone

    async def _deliver(
        self,
        values: list[UnassignedValue],
        now: float,
        accounts: Sequence[SlotAccount],
        point_of: PointOf,
    ) -> tuple[dict[str, list[UnassignedValue]], int]:
        """Send the values of one entry that are owed and were not given yet. Return those that stay
        in the store, by dwelling, and how many were given or serve no duty.
        """
        left: dict[str, list[UnassignedValue]] = {}
        rows_of: list[list[Reading]] = [[] for _ in accounts]
        done = 0
        for value in values:
            point = point_of(value.device, value.point)
            place = self._for_a_duty(point, value.serial, value.slot) if point else None
            if point is None or place is None:
                done += 1
                continue
            owed, before = set[str](), _as_given(value)
            for (ledger, _), rows_made in zip(accounts, rows_of, strict=True):
                # One second later than now: the change that asks for this index may have retracted
                # the same slot, and only a higher version counts after that.
                rows = ledger.midnight_rows(
                    value.slot, _midnight_sample(value, point), value.serial, int(now) + 1
                )
                for row in rows:
                    given = self._given(row.series, value.slot)
                    owed.add(given)
                    # If they now moved out at this midnight, the change retracted it (rule I22).
                    if before.isdisjoint({given, given.removesuffix(STAYING)}):
                        rows_made.append(row)
            done += not owed <= before
            if self.store.on_trial and owed:  # as in `note`
                continue
            flags = (*_own_flags(value), *sorted(owed))
            left.setdefault(place, []).append(value._replace(flags=flags))
        for (_, ingest), rows_made in zip(accounts, rows_of, strict=True):
            if rows_made:
                # An error leaves the values in the store. A kill before they are removed there
                # sends them again, as another version.
                await ingest.keep(rows_made)
        return left, done

    def _given(self, series: Series, slot: int) -> str:
        """Among the flags of a kept index, the series in which it was given."""
        homes = self._registry.occupancies_of(series.place)
        ended = any(home.id == series.occupancy and home.until == slot for home in homes)
        given = f"{GIVEN}{series.step}/{series.basis}/{series.occupancy}"
        return given if ended else given + STAYING

    def _for_a_duty(self, point: Point, serial: str | None, slot: int) -> str | None:
        """The dwelling for which a duty may need this index; None: no duty does."""
        if point.channel is None or point.place is not None:
            return None
        installation = self._registry.whose(point.device, serial, point.channel, slot)
        if isinstance(installation, Unknown):
            return None
        kept = register_kept(self._registry, installation.place, channels()[point.channel], slot)
        return installation.place if kept else None


def _first_of_each(
    lots: Sequence[tuple[int, list[UnassignedValue]]],
) -> dict[int, list[UnassignedValue]]:
    """Of each entry the values that are the first of their midnight (rule M10): a start may read a
    slot again whose first value was kept just before. What a later one was given as counts for the
    first.
    """
    readings = defaultdict(list)
    for no, values in lots:
        for value in values:
            read = value.device, value.point, value.serial, value.slot
            readings[read].append((no, value))
    first: dict[int, list[UnassignedValue]] = {no: [] for no, _ in lots}
    for values_of_a_slot in readings.values():
        no, value = min(values_of_a_slot, key=lambda kept: kept[1].at)
        given = {flag for _, other in values_of_a_slot for flag in _as_given(other)}
        first[no].append(value._replace(flags=(*_own_flags(value), *sorted(given))))
    return first


def _midnight_sample(value: UnassignedValue, point: Point) -> Sample:
    number, flags = Decimal(value.value), _own_flags(value)
    return Sample(point, value.at, number, quality=value.quality, flags=flags)


def _own_flags(value: UnassignedValue) -> tuple[str, ...]:
    return tuple(flag for flag in value.flags if not flag.startswith(GIVEN))


def _as_given(value: UnassignedValue) -> set[str]:
    """The series in which a kept index was given, as they are among its flags."""
    return {flag for flag in value.flags if flag.startswith(GIVEN)}


@dataclass(frozen=True, slots=True)
class UndatedRead:
    """One read of one device, with or without an answer."""

    device: str
    steps: tuple[int, ...]
    """the steps whose slots it is for, seconds"""
    steady: float
    """monotonic time of the answer"""
    samples: Sequence[Sample]
    serial: str | None
    skipped: Why = Why.CLOCK
    """why slots before it may have none"""


class UndatedReadings:
    """Reads in the order of time; when there is no room the oldest are dropped."""

    def __init__(self, room: int = ROOM) -> None:
        self._reads: deque[UndatedRead] = deque()
        self._room = room
        self._samples = 0
        self.dropped = 0
        """samples dropped since the start"""

    def __len__(self) -> int:
        return self._samples

    def add(self, read: UndatedRead) -> None:
        """Keep a read until the clock is trusted."""
        self._reads.append(read)
        self._samples += len(read.samples)
        while self._samples > self._room and len(self._reads) > 1:
            gone = len(self._reads.popleft().samples)
            self._samples -= gone
            self.dropped += gone

    def take(self) -> list[UndatedRead]:
        """Remove and return all reads, the oldest first."""
        reads = list(self._reads)
        self._reads.clear()
        self._samples = 0
        return reads
