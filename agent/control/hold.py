"""Holding one point: read, compare, write, read back. `point_release.py` releases it.

Each step is on the disk before it is written to the device. So the next start knows what may stand
there, whatever the process died of (rule H14). A value that is not ours is a person's: it is left
(rule H10). Nothing here waits or repeats by itself: the controller calls again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.hold_record import HoldRecord, Phase, same
from agent.control.model import No, OrderCode, OrderState
from agent.control.point_access import look_whole
from agent.control.point_release import NOT_THERE, PointRelease
from agent.control.records import Transaction
from agent.control.watchdog import beat, watched
from agent.core.errors import SpoolFull, StorageFailed
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.journal import Journal
    from agent.control.model import AcceptedOrder
    from agent.control.point_access import PointAccess, Standing
    from agent.control.point_release import ReleaseDependencies
    from agent.control.setpoint import Setpoint

log = logging.getLogger(__name__)

TRIES = 3
"""writes at most, until one is read back (rule H16)"""


class Holder:
    """Holds and releases the points of one gateway. Each call is about one point."""

    def __init__(
        self,
        journal: Journal,
        dependencies: ReleaseDependencies,
        extremes: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._journal, self._dependencies = journal, dependencies
        self._point_release = PointRelease(journal, dependencies, extremes)
        self.release = self._point_release.release
        """see `PointRelease.release`"""

    async def begin(
        self, setpoint: Setpoint, access: PointAccess, event: AcceptedOrder | None
    ) -> HoldRecord | No:
        """Write for the first time, once the value from before is on the disk.

        Returns the new hold record, or a refusal; then nothing of ours stands at the point.
        """
        try:
            standing = await look_whole(access)
            dog_pre, fallback = await watched(
                self._dependencies.access, setpoint.watchdog, setpoint.fallback
            )
            # A watchdog that another hold refreshes contains our own value by now: the value from
            # before is in the record of that hold.
            dog_pre = next(
                (one.dog_pre for one in self._point_release.records_watched_by(setpoint.watchdog)),
                dog_pre,
            )
        except NOT_THERE as error:
            return No(OrderCode.DEVICE, str(error))
        if standing.over:
            return No(OrderCode.OVERRIDDEN, f"{standing.over} is in force at {setpoint.place.name}")
        # another gateway, or a person, uses our priority (rule H25)
        if setpoint.slot is not None and standing.ours is not None:
            reason = f"{standing.ours} stands at priority {setpoint.slot} and is not ours"
            return No(OrderCode.OVERRIDDEN, reason)
        base, now = self._base(setpoint, standing), self._dependencies.now()
        target = setpoint.first(standing, base)
        record = HoldRecord(
            setpoint.control,
            setpoint.jti,
            setpoint.place,
            setpoint.slot,
            standing.ours,
            target,
            (target,),
            setpoint.restore
            if setpoint.slot is None and setpoint.restore is not None
            else standing.ours,
            now,
            setpoint.end,
            setpoint.lasts,
            base,
            setpoint.tolerance,
            standing.identity,
            moved=now,
            fallback=fallback,
            failsafe=setpoint.failsafe,
            dog=setpoint.watchdog,
            dog_pre=dog_pre,
            measured=self._dependencies.power(setpoint.control),
            agreed=setpoint.agreed,
        )
        try:
            # From now on our value may stand at the device, so the order counts as begun: quotas
            # count it even if the agent dies here.
            saved = await self._dependencies.save(
                Transaction(record, [replace(event, began=True)] if event else ())
            )
        except (SpoolFull, StorageFailed) as error:
            code = OrderCode.STORAGE if isinstance(error, StorageFailed) else OrderCode.DEVICE
            return No(code, f"nothing was written, as the journal takes no record: {error}")
        assert saved is not None
        written = await self._write_and_read_back(saved, access)
        if written is None:
            return No(OrderCode.OVERRIDDEN, f"somebody else has written to {setpoint.place.name}")
        return written

    def _base(self, setpoint: Setpoint, standing: Standing) -> Decimal | None:
        """The value that the device followed before any hold of ours; None: no number.

        The value that stands there now may be ours, in the other slot.
        """
        key = setpoint.place.device, setpoint.place.point
        for record in self._journal.open_records(key):
            if record.base is not None:
                return record.base
        return standing.effective if isinstance(standing.effective, Decimal) else None

    async def change(
        self, record: HoldRecord, setpoint: Setpoint, access: PointAccess
    ) -> HoldRecord | None:
        """Change the value, the order or the end of a hold. None: a person's value ended the hold.

        An unchanged value is written again if another value of ours stands there: the device fell
        back while it was out of reach.
        """
        target = setpoint.later(record.base)
        held = await self.check(record, access, write=same(target, record.target, Decimal(0)))
        if held is None or held.phase is Phase.RELEASING:
            return held
        if held.alarm:  # the device gave no value, and without a comparison nothing is written
            return held
        new = replace(held, jti=setpoint.jti, target=target, end=setpoint.end, lasts=setpoint.lasts,
                      agreed=setpoint.agreed or held.agreed)  # fmt: skip
        if setpoint.jti != held.jti:
            new = replace(new, begun=self._dependencies.now())
        if not same(target, held.target, Decimal(0)):
            new = replace(new, moved=self._dependencies.now())
        if same(target, held.target, Decimal(0)) and held.phase is Phase.APPLIED:
            return held if new == held else await self._point_release.saved(new)
        # The new value is committed as ours before it is written. Otherwise, if the agent dies
        # then, the next start would take it for a person's value and leave it.
        new = replace(new.knowing(target), phase=Phase.WRITING)
        try:
            saved = await self._dependencies.save(Transaction(new))
        except SpoolFull as error:
            return await self.release(
                held.releasing(OrderState.ABORTED, f"journal: {error}"), access
            )
        except StorageFailed as error:
            return await self.release(
                held.releasing(OrderState.ABORTED, f"storage: {error}"), access
            )
        assert saved is not None
        return await self._write_and_read_back(saved, access)

    async def check(
        self, record: HoldRecord, access: PointAccess, *, write: bool = True
    ) -> HoldRecord | None:
        """Check whether our value stands. A person's value is left, and ends the hold.

        `write`: write it again if another value of ours stands there. A device that does not answer
        sets the alarm, and is asked again at the next call.
        """
        try:
            standing = await access.look()
            await beat(self._dependencies.access, record)
        except NOT_THERE as error:
            return replace(record, alarm=str(error))
        if (theirs := await self._ended_by_others(record, standing, access)) is not None:
            return theirs[0]
        if not same(standing.ours, record.target, record.tolerance):
            return await self._write_and_read_back(record, access, standing) if write else record
        if record.phase is Phase.APPLIED:
            return replace(record, alarm="")
        return await self._record_applied(record, standing)

    async def _ended_by_others(
        self, record: HoldRecord, standing: Standing, access: PointAccess
    ) -> tuple[HoldRecord | None] | None:
        """The hold record after somebody else ended the hold, in a tuple; None: nobody did.

        The record in the tuple is None if the hold is closed.
        """
        ours = record.ours(standing.ours)
        if not standing.over and (
            ours or (record.first and same(standing.ours, record.pre, Decimal(0)))
        ):
            return None
        if record.first and not ours:  # nothing of ours was there yet
            await self._point_release.saved(replace(record, phase=Phase.CLOSED))
            return (None,)
        reason = f"{standing.over} is in force: somebody at the plant has taken over"
        if not standing.over:
            change = f"{standing.ours} was set" if standing.ours is not None else "it was emptied"
            reason = f"{change} at {record.place.name} by somebody else"
        return (await self.release(record.releasing(OrderState.OPTED_OUT, reason), access),)

    async def _write_and_read_back(
        self, record: HoldRecord, access: PointAccess, standing: Standing | None = None
    ) -> HoldRecord | None:
        """Compare, write and read back, at most `TRIES` times. None: a person's value ended it.

        `standing`: the value that was read just now; None: it must be read first.
        """
        problem = "it was not read back"
        for _ in range(TRIES):
            try:
                current = standing or await access.look()
            except NOT_THERE as error:
                problem = str(error)
                continue
            if (theirs := await self._ended_by_others(record, current, access)) is not None:
                return theirs[0]
            record, standing, problem = await self._write_once(record, access)
            if standing is not None and same(standing.ours, record.target, record.tolerance):
                return await self._record_applied(record, standing)
            standing = None  # compare again before the next try: a person may have acted meanwhile
        log.error(
            "%s: %s", record.control, problem,
            extra=fields(LogEvent.ORDER_FAILED, control=record.control, device=record.place.device),
        )  # fmt: skip
        return await self._point_release.saved(record.releasing(OrderState.FAILED, problem))

    async def _write_once(
        self, record: HoldRecord, access: PointAccess
    ) -> tuple[HoldRecord, Standing | None, str]:
        """Write once and read back: the hold record, what was read, and what went wrong.

        After an acknowledged write, the value that stands there counts as ours: a device may round,
        and its rounded value must be released too (rule H15).
        """
        problem, taken = "", True
        try:
            await beat(self._dependencies.access, record)
            await access.write(record.target)
        except NOT_THERE as error:
            problem, taken = str(error), False
        try:
            standing = await access.look()
        except NOT_THERE as error:
            return record, None, str(error)
        # The value from before must not become one of ours: a person may set it again, and that
        # value must be left.
        if taken and not same(standing.ours, record.pre, Decimal(0)):
            record = record.knowing(standing.ours)
        return (
            record,
            standing,
            problem or f"{standing.ours} was read back instead of {record.target}",
        )

    async def _record_applied(self, record: HoldRecord, standing: Standing) -> HoldRecord:
        return await self._point_release.saved(
            replace(record.knowing(standing.ours), phase=Phase.APPLIED, alarm="")
        )
