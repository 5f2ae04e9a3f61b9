"""Letting a device's own watchdog run out: nobody tells it anything any more, and it falls back.

It is watched while it is read; where it takes a read for a sign of life it is left alone on a
silent line, and looked at once afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.guard import plain
from agent.control.hold_record import same
from agent.control.stop import forbidden
from agent.control.watchdog import beat
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import Dog, HoldRecord
    from agent.model import Value

    Say = Callable[[str], Awaitable[None]]

SLACK = 1.1
LATE = 2.0
"""a device may be a tenth and two seconds late: its clock is cheap, and it looks now and then"""


@dataclass(frozen=True, slots=True)
class Fallen:
    """What was seen."""

    seconds: float
    """from the last word to its watchdog; on a silent line: at most"""
    value: Decimal


def timeout(dog: Dog) -> float:
    """Seconds after which it should fall back."""
    return 2 * dog.pause


def longest(dog: Dog) -> float:
    """Seconds after which it must have fallen back."""
    return timeout(dog) * SLACK + LATE


async def run_out(
    ground: ControlContext, fit: ConfiguredControl, row: HoldRecord, say: Say
) -> Fallen:
    """Wait until the device has fallen back by itself. Raises Refused where it does not, in time
    and to the value that was said; LinkLost, WriteRefused.
    """
    assert row.dog is not None
    within = f"{timeout(row.dog):g} s"
    await say(f"once more, and its watchdog is told nothing: it should fall back within {within}")
    fallen = await _watch(ground, fit, row)
    if fallen is None:
        words = "while it is read; once more, and the line is silent for as long"
        await say(f"it does not within {within} {words}")
        fallen = await _leave_alone(ground, fit, row)
    if fallen is None:
        raise Refused(
            f"{fit.name} did not fall back within {within}: this `device_watchdog` gives nothing"
            " back when the gateway is gone"
        )
    return _judged(fit, row, fallen)


async def _watch(ground: ControlContext, fit: ConfiguredControl, row: HoldRecord) -> Fallen | None:
    assert row.dog is not None
    began, plug = ground.world.now().steady, ground.world.plug(row.place, row.slot)
    between = min(5.0, max(0.25, timeout(row.dog) / 20))
    while (gone := ground.world.now().steady - began) <= longest(row.dog):
        value = (await plug.look()).ours
        if not _held(row, value):
            return _fallen(fit, value, gone)
        if no := forbidden(ground, fit):
            raise Refused(f"{no}: {no.words}")
        ground.turned = ground.world.now().steady
        await ground.world.wait(between)
    return None


async def _leave_alone(
    ground: ControlContext, fit: ConfiguredControl, row: HoldRecord
) -> Fallen | None:
    assert row.dog is not None
    await beat(ground.world.plug, row)
    left, began = longest(row.dog), ground.world.now().steady
    ground.turned = began + left
    await ground.world.quiet(row.place, left)
    value = (await ground.world.plug(row.place, row.slot).look()).ours
    gone = ground.world.now().steady - began
    return None if _held(row, value) else _fallen(fit, value, gone)


def _held(row: HoldRecord, value: Value | None) -> bool:
    return any(same(value, one, row.tolerance) for one in row.known)


def _fallen(fit: ConfiguredControl, value: Value | None, seconds: float) -> Fallen:
    if not isinstance(value, Decimal):
        raise Refused(f"{fit.name} fell back to {value}, which is no number")
    return Fallen(seconds, value)


def _judged(fit: ConfiguredControl, row: HoldRecord, fallen: Fallen) -> Fallen:
    assert row.dog is not None
    said = row.fallback
    if said is not None and not same(fallen.value, said, row.tolerance):
        raise Refused(f"{fit.name} fell back to {plain(fallen.value)}, and {said} was said")
    if fallen.seconds <= row.dog.pause:
        raise Refused(
            f"{fit.name} fell back after {fallen.seconds:.1f} s already, and is told every"
            f" {row.dog.pause:g} s only: set `timeout` to what the device has"
        )
    return fallen
