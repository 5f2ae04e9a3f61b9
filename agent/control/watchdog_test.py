"""Letting a device's own watchdog run out, to see that the device falls back (rule H23).

The device is read while its watchdog runs out. If it does not fall back, it may take a read for a
sign of life. Then the line stays silent for as long, and the device is read once afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.guard import plain
from agent.control.hold_record import same
from agent.control.stop import forbidden
from agent.control.watchdog import beat
from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord, WatchdogTarget
    from agent.core.model import Value

    Say = Callable[[str], Awaitable[None]]

SLACK = 1.1
LATE = 2.0
"""A device may be 10 % and 2 s late: its clock is not exact, and it checks only now and then."""


@dataclass(frozen=True, slots=True)
class Fallen:
    """How the device fell back."""

    seconds: float
    """from the last refresh of its watchdog; after a silent line, an upper bound"""
    value: Decimal


def timeout(watchdog: WatchdogTarget) -> float:
    """Seconds after which the device should fall back."""
    return 2 * watchdog.pause


def longest(watchdog: WatchdogTarget) -> float:
    """Seconds after which the device must have fallen back."""
    return timeout(watchdog) * SLACK + LATE


async def wait_for_fallback(
    context: ControlContext, control: ConfiguredControl, record: HoldRecord, say: Say
) -> Fallen:
    """Wait until the device has fallen back by itself.

    Raises Refused if it does not, or not in time, or to another value than configured; LinkLost,
    WriteRefused.
    """
    assert record.dog is not None
    within = f"{timeout(record.dog):g} s"
    await say(f"now its watchdog is not refreshed: the device should fall back within {within}")
    fallen = await _read_until_fallen(context, control, record)
    if fallen is None:
        reason = "while it is read; now again, with a silent line for as long"
        await say(f"it does not fall back within {within} {reason}")
        fallen = await _read_after_silence(context, control, record)
    if fallen is None:
        raise Refused(
            f"{control.name} did not fall back within {within}: this `device_watchdog` releases"
            " nothing once the gateway is gone"
        )
    return _checked(control, record, fallen)


async def _read_until_fallen(
    context: ControlContext, control: ConfiguredControl, record: HoldRecord
) -> Fallen | None:
    assert record.dog is not None
    began, access = (
        context.dependencies.now().steady,
        context.dependencies.access(record.place, record.slot),
    )
    # about twenty reads within the timeout, so that the measured time is close
    between = min(5.0, max(0.25, timeout(record.dog) / 20))
    while (gone := context.dependencies.now().steady - began) <= longest(record.dog):
        value = (await access.look()).ours
        if not _is_ours(record, value):
            return _fallen(control, value, gone)
        if no := forbidden(context, control):
            raise Refused(f"{no}: {no.reason}")
        context.turned = context.dependencies.now().steady
        await context.dependencies.wait(between)
    return None


async def _read_after_silence(
    context: ControlContext, control: ConfiguredControl, record: HoldRecord
) -> Fallen | None:
    assert record.dog is not None
    await beat(context.dependencies.access, record)
    left, began = longest(record.dog), context.dependencies.now().steady
    context.turned = began + left  # silent on purpose: not a standstill for systemd's watchdog
    await context.dependencies.quiet(record.place, left)
    value = (await context.dependencies.access(record.place, record.slot).look()).ours
    gone = context.dependencies.now().steady - began
    return None if _is_ours(record, value) else _fallen(control, value, gone)


def _is_ours(record: HoldRecord, value: Value | None) -> bool:
    return any(same(value, one, record.tolerance) for one in record.known)


def _fallen(control: ConfiguredControl, value: Value | None, seconds: float) -> Fallen:
    if not isinstance(value, Decimal):
        raise Refused(f"{control.name} fell back to {value}, which is not a number")
    return Fallen(seconds, value)


def _checked(control: ConfiguredControl, record: HoldRecord, fallen: Fallen) -> Fallen:
    assert record.dog is not None
    expected = record.fallback
    if expected is not None and not same(fallen.value, expected, record.tolerance):
        raise Refused(
            f"{control.name} fell back to {plain(fallen.value)}, not to {expected} as configured"
        )
    if fallen.seconds <= record.dog.pause:
        raise Refused(
            f"{control.name} fell back after {fallen.seconds:.1f} s, but its watchdog is"
            f" refreshed only every {record.dog.pause:g} s: set `timeout` to that of the device"
        )
    return fallen
