"""Holding one point: read, compare, write, read back; who gives it back is the giver.

Each step is on the disk before it is written to the device, so that whatever dies, the next start
knows what may stand there. A value that is not ours is a person's: it is left (rule H10). Nothing
here waits or repeats by itself: the keeper calls again.
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
from agent.errors import SpoolFull, StorageFailed
from agent.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.journal import Journal
    from agent.control.model import AcceptedOrder
    from agent.control.point_access import PointAccess, Standing
    from agent.control.point_release import Around
    from agent.control.setpoint import Setpoint

log = logging.getLogger(__name__)

TRIES = 3
"""writes until one is read back"""


class Holder:
    """Holds and gives back at one gateway; the points are handed in, each call one point."""

    def __init__(
        self, journal: Journal, world: Around, worst: Callable[[str], str] = lambda _: ""
    ) -> None:
        self._journal, self._world = journal, world
        self._giver = PointRelease(journal, world, worst)
        self.release = self._giver.release
        """see `Giver.release`"""

    async def begin(
        self, want: Setpoint, plug: PointAccess, event: AcceptedOrder | None
    ) -> HoldRecord | No:
        """Write for the first time, over what stands there, once that is on the disk."""
        try:
            standing = await look_whole(plug)
            dog_pre, fallback = await watched(self._world.plug, want.dog, want.fallback)
            dog_pre = next((one.dog_pre for one in self._giver.told(want.dog)), dog_pre)
        except NOT_THERE as error:
            return No(OrderCode.DEVICE, str(error))
        if standing.over:
            return No(OrderCode.OVERRIDDEN, f"{standing.over} is in force at {want.place.name}")
        if want.slot is not None and standing.ours is not None:
            words = f"{standing.ours} stands at priority {want.slot}, and it is not ours"
            return No(OrderCode.OVERRIDDEN, words)
        base, now = self._base(want, standing), self._world.now()
        target = want.first(standing, base)
        row = HoldRecord(
            want.control, want.jti, want.place, want.slot, standing.ours, target, (target,),
            want.restore if want.slot is None and want.restore is not None else standing.ours,
            now, want.end, want.lasts, base, want.tolerance, standing.identity, moved=now,
            fallback=fallback, failsafe=want.failsafe, dog=want.dog, dog_pre=dog_pre,
            measured=self._world.power(want.control), agreed=want.agreed,
        )  # fmt: skip
        try:
            saved = await self._world.save(
                Transaction(row, [replace(event, began=True)] if event else ())
            )
        except (SpoolFull, StorageFailed) as error:
            code = OrderCode.STORAGE if isinstance(error, StorageFailed) else OrderCode.DEVICE
            return No(code, f"it cannot be written down before it is done: {error}")
        assert saved is not None
        written = await self._write(saved, plug)
        if written is None:
            return No(OrderCode.OVERRIDDEN, f"somebody else was writing to {want.place.name}")
        return written

    def _base(self, want: Setpoint, standing: Standing) -> Decimal | None:
        """What the device followed before us: what stands now may be ours, in the other slot."""
        key = want.place.device, want.place.point
        for row in self._journal.open_rows(key):
            if row.base is not None:
                return row.base
        return standing.effective if isinstance(standing.effective, Decimal) else None

    async def change(self, row: HoldRecord, want: Setpoint, plug: PointAccess) -> HoldRecord | None:
        """Another value, order or end for what is held already; None: it was a person's, closed.

        What is unchanged is refreshed where something else of ours stands there: the device fell
        back while it was out of reach.
        """
        target = want.later(row.base)
        held = await self.check(row, plug, write=same(target, row.target, Decimal(0)))
        if held is None or held.phase is Phase.RELEASING:
            return held
        if held.alarm:
            return held
        new = replace(held, jti=want.jti, target=target, end=want.end, lasts=want.lasts,
                      agreed=want.agreed or held.agreed)  # fmt: skip
        if want.jti != held.jti:
            new = replace(new, begun=self._world.now())
        if not same(target, held.target, Decimal(0)):
            new = replace(new, moved=self._world.now())
        if same(target, held.target, Decimal(0)) and held.phase is Phase.APPLIED:
            return held if new == held else await self._giver.saved(new)
        new = replace(new.knowing(target), phase=Phase.WRITING)
        try:
            saved = await self._world.save(Transaction(new))
        except SpoolFull as error:
            return await self.release(held.releasing(OrderState.ABORTED, f"journal: {error}"), plug)
        except StorageFailed as error:
            return await self.release(held.releasing(OrderState.ABORTED, f"storage: {error}"), plug)
        assert saved is not None
        return await self._write(saved, plug)

    async def check(
        self, row: HoldRecord, plug: PointAccess, *, write: bool = True
    ) -> HoldRecord | None:
        """Look whether our value stands; a person's is left and ends the hold. `write`: refresh it.

        A device that does not answer is asked again at the next call.
        """
        try:
            standing = await plug.look()
            await beat(self._world.plug, row)
        except NOT_THERE as error:
            return replace(row, alarm=str(error))
        if (theirs := await self._taken_over(row, standing, plug)) is not None:
            return theirs[0]
        if not same(standing.ours, row.target, row.tolerance):
            return await self._write(row, plug, standing) if write else row
        if row.phase is Phase.APPLIED:
            return replace(row, alarm="")
        return await self._applied(row, standing)

    async def _taken_over(
        self, row: HoldRecord, standing: Standing, plug: PointAccess
    ) -> tuple[HoldRecord | None] | None:
        """What is left of a hold that somebody else has ended, in a tuple; None: nobody has."""
        ours = row.ours(standing.ours)
        if not standing.over and (ours or (row.first and same(standing.ours, row.pre, Decimal(0)))):
            return None
        if row.first and not ours:  # nothing of ours was there yet
            await self._giver.saved(replace(row, phase=Phase.CLOSED))
            return (None,)
        words = f"{standing.over} is in force: somebody at the plant has taken over"
        if not standing.over:
            found = f"{standing.ours} was set" if standing.ours is not None else "it was emptied"
            words = f"{found} at {row.place.name} by somebody else"
        return (await self.release(row.releasing(OrderState.OPTED_OUT, words), plug),)

    async def _write(
        self, row: HoldRecord, plug: PointAccess, standing: Standing | None = None
    ) -> HoldRecord | None:
        """Compare, write, read back, three times at most; None: it was a person's, closed.

        `standing`: what was found there, where that was asked this very moment.
        """
        said = "it was not read back"
        for _ in range(TRIES):
            try:
                found = standing or await plug.look()
            except NOT_THERE as error:
                said = str(error)
                continue
            if (theirs := await self._taken_over(row, found, plug)) is not None:
                return theirs[0]
            row, standing, said = await self._written(row, plug)
            if standing is not None and same(standing.ours, row.target, row.tolerance):
                return await self._applied(row, standing)
            standing = None
        log.error(
            "%s: %s", row.control, said,
            extra=fields(LogEvent.ORDER_FAILED, control=row.control, device=row.place.device),
        )  # fmt: skip
        return await self._giver.saved(row.releasing(OrderState.FAILED, said))

    async def _written(
        self, row: HoldRecord, plug: PointAccess
    ) -> tuple[HoldRecord, Standing | None, str]:
        """Write once and read back; what was read, and what is to be said of it.

        What stands there after the device has acknowledged is its own reading of our value, and
        ours: it is to be given back also where it was rounded.
        """
        said, taken = "", True
        try:
            await beat(self._world.plug, row)
            await plug.write(row.target)
        except NOT_THERE as error:
            said, taken = str(error), False
        try:
            standing = await plug.look()
        except NOT_THERE as error:
            return row, None, str(error)
        if taken and not same(standing.ours, row.pre, Decimal(0)):
            row = row.knowing(standing.ours)
        return row, standing, said or f"{standing.ours} stands there instead of {row.target}"

    async def _applied(self, row: HoldRecord, standing: Standing) -> HoldRecord:
        return await self._giver.saved(
            replace(row.knowing(standing.ours), phase=Phase.APPLIED, alarm="")
        )
