"""`gardien control test`: apply, read back, give back, and give back once more from the disk alone.

Without a passed test no order is accepted: nobody has ever seen this point given back.
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
from agent.control.watchdog_test import longest, run_out
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.point_access import PointAccess
    from agent.control.watchdog_test import Fallen

    Say = Callable[[str], Awaitable[None]]

TEST = "test"
"""stands in a row for the number of an order"""
LASTS = 120.0
"""seconds by which a test must be over, whatever happens, beside the device's own watchdog"""


@dataclass(frozen=True, slots=True)
class Passed:
    """What was measured."""

    value: Decimal
    applied_s: float
    """from the first request to the value read back"""
    released_s: float
    """until the give-back was confirmed"""
    recovered_s: float
    """the same by a keeper that knew nothing but the disk"""
    fell_back_s: float | None = None
    """from the last word to the device's watchdog until it was seen fallen back"""


@dataclass
class Bench:
    """One test under way."""

    ground: ControlContext
    want: Setpoint
    plug: PointAccess
    say: Say

    @property
    def steady(self) -> float:
        """Seconds that never step."""
        return self.ground.world.now().steady


async def trial(ground: ControlContext, fit: ConfiguredControl, say: Say) -> Passed:
    """Try a control; nothing else may be held there. Raises Refused where it does not pass."""
    if ground.journal.open_rows(fit.key):
        raise Refused(f"{fit.name} is held now: `gardien control release` first")
    if no := forbidden(ground, fit):
        raise Refused(f"{no}: {no.words}")
    free = await _free(ground, fit)
    plug = ground.world.plug(fit.place, fit.slots[0])
    before = await look_whole(plug)
    base = before.effective if isinstance(before.effective, Decimal) else None
    _, fallback = await watched(ground.world.plug, fit.dog, fit.fallback)
    bench = Bench(ground, _wanted(ground, fit, probe(fit.modality, base, fallback)), plug, say)
    unit = fit.modality.unit
    there = measured(base, unit) if base is not None else before.effective
    await say(f"{measured(bench.want.value, unit)} is written where {there} is in force")
    applied, released = await _by_hand(bench)
    recovered = await _from_the_journal(bench)
    fallen = await _by_itself(bench, fit) if fit.dog is not None else None
    after = await look_whole(plug)
    if not same(after.effective, before.effective, fit.modality.tolerance):
        words = f"{after.effective} is in force now, and it was {before.effective} before"
        raise Refused(f"given back, but {words}: who else writes there?")
    memo = replace(
        ground.journal.memo(fit.key), tested=fit.fingerprint, free=free, given_back=None,
        fallback=fallen.value if fallen else None, fell_back_s=fallen.seconds if fallen else None,
    )  # fmt: skip
    await ground.world.save(Transaction(memos=[(fit.key, memo)]))
    return Passed(bench.want.value, applied, released, recovered, memo.fell_back_s)


def _wanted(ground: ControlContext, fit: ConfiguredControl, value: Decimal) -> Setpoint:
    lasts = LASTS + (4 * longest(fit.dog) if fit.dog else 0.0)
    return Setpoint(
        fit.name, TEST, fit.place, fit.slots[0], value, fit.restore,
        ground.world.now().wall + lasts, lasts, fit.modality.tolerance,
        fallback=fit.fallback, dog=fit.dog,
    )  # fmt: skip


async def _by_hand(bench: Bench) -> tuple[float, float]:
    began = bench.steady
    row = await _begun(bench)
    applied = bench.steady
    await bench.say("it was read back; now it is given back")
    await _released(bench.ground.holder, row, bench.plug)
    return applied - began, bench.steady - applied


async def _from_the_journal(bench: Bench) -> float:
    await bench.say(
        "given back and confirmed; once more, and the agent forgets all but its journal"
    )
    ground, row = bench.ground, await _begun(bench)
    pulled = bench.steady
    left: HoldRecord = await ground.world.read(ground.journal.reread, row.number)
    afresh = Holder(ground.journal, ground.world)
    await _released(afresh, left, ground.world.plug(left.place, left.slot))
    return bench.steady - pulled


async def _by_itself(bench: Bench, fit: ConfiguredControl) -> Fallen:
    row = await _begun(bench)
    fallen = await run_out(bench.ground, fit, row, bench.say)
    row = row.knowing(fallen.value)
    await bench.ground.world.save(Transaction(row))
    await bench.say(f"it fell back after {fallen.seconds:.1f} s; now it is given back")
    await _released(bench.ground.holder, row, bench.plug)
    return fallen


async def _free(ground: ControlContext, fit: ConfiguredControl) -> tuple[int, ...]:
    """Our priorities there, all of which must be empty: what stands there later is then ours."""
    slots = [fit.slots[0], *([fit.slots[1]] if fit.modality.limits.emergency else [])]
    free = []
    for slot in slots:
        if slot is not None:
            standing = await ground.world.plug(fit.place, slot).look()
            if standing.ours is not None:
                raise Refused(
                    f"{standing.ours} stands at priority {slot} of {fit.place.device}/"
                    f"{fit.place.point}, and is not ours: find out whose, and have it emptied"
                )
            free.append(slot)
    return tuple(free)


async def _begun(bench: Bench) -> HoldRecord:
    holder, plug = bench.ground.holder, bench.plug
    row = await holder.begin(bench.want, plug, None)
    if isinstance(row, No):
        raise Refused(f"{row}: {row.words}")
    if row.phase is not Phase.APPLIED:
        left = await holder.release(row, plug)
        given = "it was given back" if left is None else "and it is not given back yet"
        raise Refused(f"{row.words}; {given}")
    return row


async def _released(holder: Holder, row: HoldRecord, plug: PointAccess) -> None:
    left = await holder.release(row, plug)
    if left is not None:
        raise Refused(f"it is not given back: {left.alarm}; the agent goes on trying")
