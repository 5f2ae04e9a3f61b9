"""When to read what. Pure: time goes in, slots come out.

Slots are multiples of their step in UTC, so quarter hours fall on quarter hours. A slot still
running (younger than its step) is read late; older ones are skipped and accounted for, not queued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model import MarkKey


def running_slot(step: int, now: float) -> int:
    """The slot that began last."""
    return int(now // step) * step


def next_slot(closed: int | None, step: int, now: float) -> int:
    """The slot to read next: after the last closed one, never one that is over, never one twice."""
    running = running_slot(step, now)
    return running if closed is None else max(closed + step, running)


def choose(closed: Mapping[MarkKey, int | None], now: float) -> tuple[str, dict[int, int]] | float:
    """The device to read now with its slots {step: slot}, or the moment at which one falls due.

    Of the devices due, the one whose slot reaches its middle first (ties in the order given):
    frequent readings do not wait behind a long round of rare ones, and on a line that is too full
    a rare one still gets its turn in the second half of its slot (by the slot's end it would
    always lose, since a frequent one has a new slot by then). All steps of a device that are due
    ride along. `closed` must not be empty.
    """
    slots = {(device, step): next_slot(last, step, now) for (device, step), last in closed.items()}
    due = [key for key, slot in slots.items() if slot <= now]
    if not due:
        return float(min(slots.values()))
    first, _ = min(due, key=lambda key: slots[key] + key[1] / 2)
    return first, {step: slots[device, step] for device, step in due if device == first}
