"""When to read what. Pure: time goes in, slots come out.

Slots are multiples of their step in UTC, so quarter hours fall on quarter hours; daily ones are the
midnights of the building's `zone` (None: of UTC), so a day has 23, 24 or 25 hours (rule M9),
and monthly ones those of each 1st.
A slot still running (younger than its step) is read late; older ones are skipped and accounted for,
not queued.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import TYPE_CHECKING

from agent.registry.dates import DAY, MONTH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zoneinfo import ZoneInfo

    from agent.model import MarkKey


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
    if step == MONTH:  # a slot early in the month after
        return running_slot(step, slot + 32 * DAY, zone)
    if step != DAY or zone is None:
        return slot + step
    # noon, for the slots of an earlier time zone of the building may lie beside midnight
    day = dt.datetime.fromtimestamp(slot + DAY // 2, zone).date()
    return _midnight(day + dt.timedelta(days=1), zone)


@lru_cache  # the rows of one moment all ask the same
def is_slot(t: int, step: int, zone: ZoneInfo | None = None) -> bool:
    """Whether a slot of that step lies at t."""
    return running_slot(step, t, zone) == t


def within(
    step: int, first: int, last: int, every: int, zone: ZoneInfo | None = None
) -> Iterator[tuple[int, int]]:
    """The slots of a coarser step among those of `every`, from `first` to `last`, as runs (first
    slot, how many) `step` s apart.
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
    """The slots from `first` to before `before`, as runs (first slot, how many) `step` s apart."""
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
    """The slot to read next: after the last closed one, never one that is over, never one twice."""
    running = running_slot(step, now, zone)
    return running if closed is None else max(following(closed, step, zone), running)


def choose(
    closed: Mapping[MarkKey, int | None], now: float, zone: ZoneInfo | None = None
) -> tuple[str, dict[int, int]] | float:
    """The device to read now with its slots {step: slot}, or the moment at which one falls due.

    Of the devices due, the one whose slot reaches its middle first (ties in the order given):
    frequent readings do not wait behind a long round of rare ones, and on a line that is too full
    a rare one still gets its turn in the second half of its slot (by the slot's end it would
    always lose, since a frequent one has a new slot by then). All steps of a device that are due
    ride along. `closed` must not be empty.
    """
    # devices closed their last slots together: of a day's, a calendar is asked for each otherwise
    after = {(last, step) for (_, step), last in closed.items()}
    upcoming = {one: next_slot(*one, now, zone) for one in after}
    slots = {key: upcoming[last, key[1]] for key, last in closed.items()}
    due = [key for key, slot in slots.items() if slot <= now]
    if not due:
        return float(min(slots.values()))
    first, _ = min(due, key=lambda key: slots[key] + key[1] / 2)
    return first, {step: slots[device, step] for device, step in due if device == first}


def _midnight(day: dt.date, zone: dt.tzinfo) -> int:
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp())
