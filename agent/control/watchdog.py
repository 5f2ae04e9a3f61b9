"""The device's own watchdog, in hand: what stands in it, told that we are there, left as it was."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.hold_record import same
from agent.errors import WriteRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.hold_record import Dog, HoldRecord, WriteTarget
    from agent.control.point_access import PointAccess
    from agent.model import Value

    Plugs = Callable[[WriteTarget, int | None], PointAccess]
    Known = tuple[Value | None, Value | None]
ASIDE: None = None
"""a watchdog is a register: it has no priorities"""


async def watched(plug: Plugs, dog: Dog | None, fallback: Value | None) -> Known:
    """What stands in it before we tell it anything, and to what the device falls back, where that
    is known or said. Raises LinkLost, WriteRefused, Refused.
    """
    if dog is None:
        return None, fallback
    pre = (await plug(dog.place, ASIDE).look()).ours
    if fallback is not None or dog.fallback is None:
        return pre, fallback
    return pre, (await plug(dog.fallback, ASIDE).look()).ours


async def beat(plug: Plugs, row: HoldRecord) -> None:
    """Tell it that we are there. Raises LinkLost, WriteRefused, Refused."""
    if row.dog is not None:
        await plug(row.dog.place, ASIDE).write(row.dog.word)


async def call_off(plug: Plugs, row: HoldRecord) -> None:
    """Leave it as it was. Raises WriteRefused until it is, LinkLost, Refused."""
    if row.dog is None or row.dog_pre is None:
        return
    hand = plug(row.dog.place, ASIDE)
    if same((await hand.look()).ours, row.dog_pre, Decimal(0)):
        return
    await hand.write(row.dog_pre)
    left = (await hand.look()).ours
    if not same(left, row.dog_pre, Decimal(0)):
        raise WriteRefused(f"{left} stands in {row.dog.place.name}, {row.dog_pre} before")
