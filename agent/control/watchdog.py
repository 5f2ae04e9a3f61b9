"""The device's own watchdog: reading it, refreshing it, and restoring it (rule H23)."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.hold_record import same
from agent.core.errors import WriteRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.hold_record import HoldRecord, WatchdogTarget, WriteTarget
    from agent.control.point_access import PointAccess
    from agent.core.model import Value

    PointAccessor = Callable[[WriteTarget, int | None], PointAccess]
    Known = tuple[Value | None, Value | None]
NO_SLOT: None = None
"""a watchdog is a register, which has no priorities"""


async def watched(
    access: PointAccessor, watchdog: WatchdogTarget | None, fallback: Value | None
) -> Known:
    """The value in the watchdog's register before a hold, and the value of the device's fallback.

    `fallback`: as configured; if it is None, it is read from the device where that is possible.
    Raises LinkLost, WriteRefused, Refused.
    """
    if watchdog is None:
        return None, fallback
    pre = (await access(watchdog.place, NO_SLOT).look()).ours
    if fallback is not None or watchdog.fallback is None:
        return pre, fallback
    return pre, (await access(watchdog.fallback, NO_SLOT).look()).ours


async def beat(access: PointAccessor, record: HoldRecord) -> None:
    """Refresh the watchdog. Raises LinkLost, WriteRefused, Refused."""
    if record.dog is not None:
        await access(record.dog.place, NO_SLOT).write(record.dog.word)


async def call_off(access: PointAccessor, record: HoldRecord) -> None:
    """Restore the watchdog's register; if the value is back already, nothing is written.

    Raises WriteRefused if the value does not stand after the write, LinkLost, Refused.
    """
    if record.dog is None or record.dog_pre is None:
        return
    register = access(record.dog.place, NO_SLOT)
    if same((await register.look()).ours, record.dog_pre, Decimal(0)):
        return
    await register.write(record.dog_pre)
    left = (await register.look()).ours
    if not same(left, record.dog_pre, Decimal(0)):
        raise WriteRefused(f"{left} stands in {record.dog.place.name} instead of {record.dog_pre}")
