"""`gardien control test`: apply, read back, release, and once more from the journal alone.

No order is accepted before the test has passed: nobody has seen this point released (rule H22).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.guard import measured
from agent.control.hold import Holder
from agent.control.hold_record import Phase, same
from agent.control.model import No
from agent.control.point_access import look_whole
from agent.control.probe import probe
from agent.control.records import Transaction
from agent.control.setpoint import Setpoint
from agent.control.stop import forbidden
from agent.control.watchdog import watched
from agent.control.watchdog_test import longest, wait_for_fallback
from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.point_access import PointAccess
    from agent.control.watchdog_test import Fallen

    Say = Callable[[str], Awaitable[None]]

TEST = "test"
"""takes the place of an order's id in a hold record"""
LASTS = 120.0
"""seconds by which a test must be over in any case, without the time for the device's watchdog"""


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

    context: ControlContext
    setpoint: Setpoint
    access: PointAccess
    say: Say

    @property
    def steady(self) -> float:
        """Monotonic seconds."""
        return self.context.dependencies.now().steady


async def run_self_test(context: ControlContext, control: ConfiguredControl, say: Say) -> Passed:
    """Test a control at which nothing is held, and record that the test passed.

    `say` reports progress to the person who waits. Raises Refused if the test fails, LinkLost,
    WriteRefused, SpoolFull, StorageFailed.
    """
    if context.journal.open_records(control.key):
        raise Refused(
            f"{control.name} is held now. Release it first: gardien control release {control.name}"
        )
    if no := forbidden(context, control):
        raise Refused(f"{no}: {no.reason}")
    free = await _free_slots(context, control)
    access = context.dependencies.access(control.place, control.slots[0])
    before = await look_whole(access)
    base = before.effective if isinstance(before.effective, Decimal) else None
    _, fallback = await watched(context.dependencies.access, control.watchdog, control.fallback)
    run = SelfTestRun(
        context, _setpoint(context, control, probe(control.modality, base, fallback)), access, say
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
        context.journal.memo(control.key), tested=control.fingerprint, free=free, given_back=None,
        fallback=fallen.value if fallen else None, fell_back_s=fallen.seconds if fallen else None,
    )  # fmt: skip
    await context.dependencies.save(Transaction(memos=[(control.key, memo)]))
    return Passed(run.setpoint.value, applied, released, recovered, memo.fell_back_s)


def _setpoint(context: ControlContext, control: ConfiguredControl, value: Decimal) -> Setpoint:
    lasts = LASTS + (4 * longest(control.watchdog) if control.watchdog else 0.0)
    return Setpoint(
        control.name, TEST, control.place, control.slots[0], value, control.restore,
        context.dependencies.now().wall + lasts, lasts, control.modality.tolerance,
        fallback=control.fallback, watchdog=control.watchdog,
    )  # fmt: skip


async def _apply_and_release(run: SelfTestRun) -> tuple[float, float]:
    began = run.steady
    record = await _begin(run)
    applied = run.steady
    await run.say("the value was read back; now it is released")
    await _release(run.context.holder, record, run.access)
    return applied - began, run.steady - applied


async def _release_from_journal(run: SelfTestRun) -> float:
    await run.say("the release was confirmed; now the same again, released from the journal alone")
    context, record = run.context, await _begin(run)
    pulled = run.steady
    left: HoldRecord = await context.dependencies.read(context.journal.reread, record.number)
    afresh = Holder(context.journal, context.dependencies)
    await _release(afresh, left, context.dependencies.access(left.place, left.slot))
    return run.steady - pulled


async def _let_watchdog_run_out(run: SelfTestRun, control: ConfiguredControl) -> Fallen:
    record = await _begin(run)
    fallen = await wait_for_fallback(run.context, control, record, run.say)
    record = record.knowing(fallen.value)
    await run.context.dependencies.save(Transaction(record))
    await run.say(f"the device fell back after {fallen.seconds:.1f} s; now it is released")
    await _release(run.context.holder, record, run.access)
    return fallen


async def _free_slots(context: ControlContext, control: ConfiguredControl) -> tuple[int, ...]:
    """Our priorities at the point. All must be empty, so that a later value there is ours.

    Raises Refused if one is not.
    """
    slots = [control.slots[0], *([control.slots[1]] if control.modality.limits.emergency else [])]
    free = []
    for slot in slots:
        if slot is not None:
            standing = await context.dependencies.access(control.place, slot).look()
            if standing.ours is not None:
                raise Refused(
                    f"{standing.ours} stands at priority {slot} of {control.place.device}/"
                    f"{control.place.point} and is not ours: find out who set it, and have it"
                    " emptied"
                )
            free.append(slot)
    return tuple(free)


async def _begin(run: SelfTestRun) -> HoldRecord:
    holder, access = run.context.holder, run.access
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
