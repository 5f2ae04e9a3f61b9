"""The device's own watchdog, in hand: what stands in it, told that we are there, left as it was."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.hold_record import same
from agent.errors import WriteRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.hold_record import HoldRecord, WatchdogTarget, WriteTarget
    from agent.control.point_access import PointAccess
    from agent.model import Value

    PointAccessor = Callable[[WriteTarget, int | None], PointAccess]
    Known = tuple[Value | None, Value | None]
NO_SLOT: None = None
"""a watchdog is a register: it has no priorities"""


async def watched(
    access: PointAccessor, watchdog: WatchdogTarget | None, fallback: Value | None
) -> Known:
    """What stands in it before we tell it anything, and to what the device falls back, where that
    is known or said. Raises LinkLost, WriteRefused, Refused.
    """
    if watchdog is None:
        return None, fallback
    pre = (await access(watchdog.place, NO_SLOT).look()).ours
    if fallback is not None or watchdog.fallback is None:
        return pre, fallback
    return pre, (await access(watchdog.fallback, NO_SLOT).look()).ours


async def beat(access: PointAccessor, record: HoldRecord) -> None:
    """Tell it that we are there. Raises LinkLost, WriteRefused, Refused."""
    if record.dog is not None:
        await access(record.dog.place, NO_SLOT).write(record.dog.word)


async def call_off(access: PointAccessor, record: HoldRecord) -> None:
    """Leave it as it was. Raises WriteRefused until it is, LinkLost, Refused."""
    if record.dog is None or record.dog_pre is None:
        return
    register = access(record.dog.place, NO_SLOT)
    if same((await register.look()).ours, record.dog_pre, Decimal(0)):
        return
    await register.write(record.dog_pre)
    left = (await register.look()).ours
    if not same(left, record.dog_pre, Decimal(0)):
        raise WriteRefused(f"{left} stands in {record.dog.place.name}, {record.dog_pre} before")
