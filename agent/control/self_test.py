"""`gardien control test`: apply, read back, release, and once more from the journal alone.

No order is accepted before the test has passed: nobody has seen this point released (rule H22).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.guard import measured, plain
from agent.control.hold import Holder, Setpoint
from agent.control.model import LossRule, No, same
from agent.control.point_access import beat, look_whole, watched
from agent.control.records import Phase, Transaction
from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.control.model import ConfiguredControl, Modality, WatchdogTarget
    from agent.control.point_access import PointAccess
    from agent.control.records import HoldRecord
    from agent.control.release import Release
    from agent.core.model import Value

    Say = Callable[[str], Awaitable[None]]


TEST = "test"
"""takes the place of an order's id in a hold record"""
LASTS = 120.0
"""seconds by which a test must be over in any case, without the time for the device's watchdog"""
SLACK = 1.1
LATE = 2.0
"""A device may be 10 % and 2 s late: its clock is not exact, and it checks only now and then."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The results of a test that passed."""

    value: Decimal
    applied_s: float
    """seconds from the first request until the value was read back"""
    released_s: float
    """seconds until the release was confirmed"""
    recovered_s: float
    """the same for a release from the journal alone"""
    fell_back_s: float | None = None
    """seconds from the last refresh of the device's watchdog until it had fallen back"""


@dataclass
class SelfTestRun:
    """A test that is running."""

    controller: Release
    setpoint: Setpoint
    access: PointAccess
    say: Say

    @property
    def steady(self) -> float:
        """Monotonic seconds."""
        return self.controller.dependencies.now().steady


async def run_self_test(controller: Release, control: ConfiguredControl, say: Say) -> Passed:
    """Test a control at which nothing is held, and record that the test passed.

    `say` reports progress to the person who waits. Raises Refused if the test fails, LinkLost,
    WriteRefused, SpoolFull, StorageFailed.
    """
    if controller.journal.open_records(control.key):
        raise Refused(
            f"{control.name} is held now. Release it first: gardien control release {control.name}"
        )
    if no := controller.forbidden(control):
        raise Refused(f"{no}: {no.reason}")
    free = await _free_slots(controller, control)
    access = controller.dependencies.access(control.place, control.slots[0])
    before = await look_whole(access)
    base = before.effective if isinstance(before.effective, Decimal) else None
    _, fallback = await watched(controller.dependencies.access, control.watchdog, control.fallback)
    run = SelfTestRun(
        controller,
        _setpoint(controller, control, probe(control.modality, base, fallback)),
        access,
        say,
    )
    unit = control.modality.unit
    there = measured(base, unit) if base is not None else before.effective
    await say(f"{measured(run.setpoint.value, unit)} is written; {there} is in force now")
    applied, released = await _apply_and_release(run)
    recovered = await _release_from_journal(run)
    fallen = await _let_watchdog_run_out(run, control) if control.watchdog is not None else None
    after = await look_whole(access)
    if not same(after.effective, before.effective, control.modality.tolerance):
        reason = f"{after.effective} is in force now, and it was {before.effective} before"
        raise Refused(f"released, but {reason}: find out who else writes there")
    # `given_back` is cleared, so that the releases of the test do not delay the first order
    memo = replace(
        controller.journal.memo(control.key), tested=control.fingerprint, free=free,
        given_back=None, fallback=fallen.value if fallen else None,
        fell_back_s=fallen.seconds if fallen else None,
    )  # fmt: skip
    await controller.dependencies.save(Transaction(memos=[(control.key, memo)]))
    return Passed(run.setpoint.value, applied, released, recovered, memo.fell_back_s)


def _setpoint(controller: Release, control: ConfiguredControl, value: Decimal) -> Setpoint:
    lasts = LASTS + (4 * longest(control.watchdog) if control.watchdog else 0.0)
    return Setpoint(
        control.name, TEST, control.place, control.slots[0], value, control.restore,
        controller.dependencies.now().wall + lasts, lasts, control.modality.tolerance,
        fallback=control.fallback, watchdog=control.watchdog,
    )  # fmt: skip


async def _apply_and_release(run: SelfTestRun) -> tuple[float, float]:
    began = run.steady
    record = await _begin(run)
    applied = run.steady
    await run.say("the value was read back; now it is released")
    await _release(run.controller.holder, record, run.access)
    return applied - began, run.steady - applied


async def _release_from_journal(run: SelfTestRun) -> float:
    await run.say("the release was confirmed; now the same again, released from the journal alone")
    controller, record = run.controller, await _begin(run)
    pulled = run.steady
    left: HoldRecord = await controller.dependencies.read(controller.journal.reread, record.number)
    afresh = Holder(controller.journal, controller.dependencies)
    await _release(afresh, left, controller.dependencies.access(left.place, left.slot))
    return run.steady - pulled


async def _let_watchdog_run_out(run: SelfTestRun, control: ConfiguredControl) -> Fallen:
    record = await _begin(run)
    fallen = await wait_for_fallback(run.controller, control, record, run.say)
    record = record.knowing(fallen.value)
    await run.controller.dependencies.save(Transaction(record))
    await run.say(f"the device fell back after {fallen.seconds:.1f} s; now it is released")
    await _release(run.controller.holder, record, run.access)
    return fallen


async def _free_slots(controller: Release, control: ConfiguredControl) -> tuple[int, ...]:
    """Our priorities at the point. All must be empty, so that a later value there is ours.

    Raises Refused if one is not.
    """
    slots = [control.slots[0], *([control.slots[1]] if control.modality.limits.emergency else [])]
    free = []
    for slot in slots:
        if slot is not None:
            standing = await controller.dependencies.access(control.place, slot).look()
            if standing.ours is not None:
                raise Refused(
                    f"{standing.ours} stands at priority {slot} of {control.place.device}/"
                    f"{control.place.point} and is not ours: find out who set it, and have it"
                    " emptied"
                )
            free.append(slot)
    return tuple(free)


async def _begin(run: SelfTestRun) -> HoldRecord:
    holder, access = run.controller.holder, run.access
    record = await holder.begin(run.setpoint, access, None)
    if isinstance(record, No):
        raise Refused(f"{record}: {record.reason}")
    if record.phase is not Phase.APPLIED:
        left = await holder.release(record, access)
        given = "it was released" if left is None else "it is not released yet"
        raise Refused(f"{record.words}; {given}")
    return record


async def _release(holder: Holder, record: HoldRecord, access: PointAccess) -> None:
    left = await holder.release(record, access)
    if left is not None:
        raise Refused(f"it is not released: {left.alarm}; the agent goes on trying")


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
    controller: Release, control: ConfiguredControl, record: HoldRecord, say: Say
) -> Fallen:
    """Wait until the device has fallen back by itself, after its watchdog has run out (rule H23).

    It is read meanwhile. If it does not fall back, it may take a read for a sign of life. Then the
    line stays silent for as long, and the device is read once afterwards.

    Raises Refused if it does not, or not in time, or to another value than configured; LinkLost,
    WriteRefused.
    """
    assert record.dog is not None
    within = f"{timeout(record.dog):g} s"
    await say(f"now its watchdog is not refreshed: the device should fall back within {within}")
    fallen = await _read_until_fallen(controller, control, record)
    if fallen is None:
        reason = "while it is read; now again, with a silent line for as long"
        await say(f"it does not fall back within {within} {reason}")
        fallen = await _read_after_silence(controller, control, record)
    if fallen is None:
        raise Refused(
            f"{control.name} did not fall back within {within}: this `device_watchdog` releases"
            " nothing once the gateway is gone"
        )
    return _checked(control, record, fallen)


async def _read_until_fallen(
    controller: Release, control: ConfiguredControl, record: HoldRecord
) -> Fallen | None:
    assert record.dog is not None
    began, access = (
        controller.dependencies.now().steady,
        controller.dependencies.access(record.place, record.slot),
    )
    # about twenty reads within the timeout, so that the measured time is close
    between = min(5.0, max(0.25, timeout(record.dog) / 20))
    while (gone := controller.dependencies.now().steady - began) <= longest(record.dog):
        value = (await access.look()).ours
        if not _is_ours(record, value):
            return _fallen(control, value, gone)
        if no := controller.forbidden(control):
            raise Refused(f"{no}: {no.reason}")
        controller.turned = controller.dependencies.now().steady
        await controller.dependencies.wait(between)
    return None


async def _read_after_silence(
    controller: Release, control: ConfiguredControl, record: HoldRecord
) -> Fallen | None:
    assert record.dog is not None
    await beat(controller.dependencies.access, record)
    left, began = longest(record.dog), controller.dependencies.now().steady
    controller.turned = began + left  # silent on purpose: not a standstill for systemd's watchdog
    await controller.dependencies.quiet(record.place, left)
    value = (await controller.dependencies.access(record.place, record.slot).look()).ours
    gone = controller.dependencies.now().steady - began
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


def probe(modality: Modality, base: Decimal | None, fallback: Value | None = None) -> Decimal:
    """The nearest agreed value that differs from the value in force and from the fallback.

    `base`: the value in force; `fallback`: the value to which the device's watchdog falls back. A
    limit is tested below `base`, because a limit never raises a value. Raises Refused if there is
    no such value.
    """
    limits = modality.limits
    least, most = limits.least, limits.most
    if modality.choices:
        candidates = list(modality.choices)
    else:
        assert least is not None
        assert most is not None
        by = modality.step or (most - least) / 10
        near = [base + by, base - by] if base is not None else []
        if modality.step:
            near = [one // by * by for one in near]
        candidates = [one for one in (*near, least, most) if least <= one <= most]
    for value in candidates:
        lower = modality.kind is not LossRule.LIMIT or base is None or value < base
        if lower and not any(same(value, one, modality.tolerance) for one in (base, fallback)):
            return value
    raise Refused(f"{modality.name}: no agreed value differs from {base}, which is in force")
