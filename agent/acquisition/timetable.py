"""When to read what. Pure.

Slots are multiples of their step in UTC, so quarter hours fall on quarter hours. Daily slots are
the midnights of the building's `zone` (None: of UTC), so a day has 23, 24 or 25 hours (rule M9).
Monthly slots are the midnights of each 1st. A slot that still runs (it is younger than its step) is
read late. Older slots are skipped and closed as missing, not queued.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import TYPE_CHECKING

from agent.registry.dates import DAY, MONTH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zoneinfo import ZoneInfo

    from agent.core.model import MarkKey


def running_slot(step: int, now: float, zone: ZoneInfo | None = None) -> int:
    """The slot that began last."""
    if step == MONTH:
        day = dt.datetime.fromtimestamp(now, zone or dt.UTC).date()
        return _midnight(day.replace(day=1), zone or dt.UTC)
    if step != DAY or zone is None:
        return int(now // step) * step
    day = dt.datetime.fromtimestamp(now, zone)
    return _midnight(day.date(), zone)


def following(slot: int, step: int, zone: ZoneInfo | None = None) -> int:
    """The slot after a slot."""
    if step == MONTH:  # any time early in the next month
        return running_slot(step, slot + 32 * DAY, zone)
    if step != DAY or zone is None:
        return slot + step
    # noon: slots closed under an earlier time zone may lie beside midnight
    day = dt.datetime.fromtimestamp(slot + DAY // 2, zone).date()
    return _midnight(day + dt.timedelta(days=1), zone)


@lru_cache  # all rows of one slot ask the same
def is_slot(t: int, step: int, zone: ZoneInfo | None = None) -> bool:
    """Whether a slot of that step lies at t."""
    return running_slot(step, t, zone) == t


def within(
    step: int, first: int, last: int, every: int, zone: ZoneInfo | None = None
) -> Iterator[tuple[int, int]]:
    """The slots of a coarser step among those of `every`, from `first` to `last`, as runs (first
    slot, number of slots) `step` seconds apart.
    """
    if step < DAY and step % every == 0 and first % every == 0:  # ten years are one run
        slot = -(-first // step) * step
        if slot <= last:
            yield slot, (last - slot) // step + 1
        return
    slot = running_slot(step, first, zone)
    while slot <= last:
        if slot >= first and (every >= DAY or (slot - first) % every == 0):
            yield slot, 1
        slot = following(slot, step, zone)


def length(slot: int, zone: ZoneInfo | None = None) -> int:
    """Seconds of the day that ends at a daily slot."""
    return slot - running_slot(DAY, slot - 1, zone)


def spans(
    first: int, before: int, step: int, zone: ZoneInfo | None = None
) -> Iterator[tuple[int, int]]:
    """The slots from `first` to before `before`, as runs (first slot, number of slots) `step`
    seconds apart.
    """
    if step != DAY or zone is None:
        if first < before:
            yield first, -((first - before) // step)
        return
    while first < before:
        slot, count = following(first, step, zone), 1
        while slot < before and slot == first + count * step:
            slot, count = following(slot, step, zone), count + 1
        yield first, count
        first = slot


def next_slot(closed: int | None, step: int, now: float, zone: ZoneInfo | None = None) -> int:
    """The slot to read next: after the last closed one, and never one that has ended."""
    running = running_slot(step, now, zone)
    return running if closed is None else max(following(closed, step, zone), running)


def choose(
    closed: Mapping[MarkKey, int | None], now: float, zone: ZoneInfo | None = None
) -> tuple[str, dict[int, int]] | float:
    """The device to read now with its slots {step: slot}, or the time at which the next one is due.

    Of the due devices it is the one whose slot reaches its middle first; ties go to the order
    given. So frequent reads do not wait behind a long round of rare ones. On an overloaded line a
    rare read gets its turn in the second half of its slot; by the end of the slot it would always
    lose, because a frequent one has a new slot by then. All due steps of the device are read
    together. `closed` must not be empty.
    """
    # Devices close their slots together, so one calculation per slot and step is enough: daily
    # slots need the calendar, which is slow.
    after = {(last, step) for (_, step), last in closed.items()}
    upcoming = {last_and_step: next_slot(*last_and_step, now, zone) for last_and_step in after}
    slots = {key: upcoming[last, key[1]] for key, last in closed.items()}
    due = [key for key, slot in slots.items() if slot <= now]
    if not due:
        return float(min(slots.values()))
    first, _ = min(due, key=lambda key: slots[key] + key[1] / 2)
    return first, {step: slots[device, step] for device, step in due if device == first}


def _midnight(day: dt.date, zone: dt.tzinfo) -> int:
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp())
