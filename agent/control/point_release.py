"""Releasing one point: only over a value of ours (rule H10), and until the device confirms it.

The outcome is recorded with the release. Nothing here waits or repeats by itself.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from agent.control.hold_record import Phase, same
from agent.control.model import OrderState
from agent.control.records import FINAL, Outcome, Transaction
from agent.control.watchdog import beat, call_off
from agent.core.errors import LinkLost, Refused, WriteRefused
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.dependencies import Audit, Note, Save
    from agent.control.hold_record import HoldRecord, WatchdogTarget, WriteTarget
    from agent.control.journal import Journal
    from agent.control.model import AcceptedOrder
    from agent.control.point_access import PointAccess, Standing
    from agent.control.stamps import Moment

log = logging.getLogger(__name__)

NOT_THERE = (LinkLost, WriteRefused, Refused)
"""errors of a device that does not answer, or does not accept the request now"""


class ReleaseDependencies(Protocol):
    """The part of the dependencies that is used (agent/control/dependencies.py)."""

    @property
    def now(self) -> Callable[[], Moment]:
        """The time by all clocks."""
        ...

    @property
    def access(self) -> Callable[[WriteTarget, int | None], PointAccess]:
        """The access to a point."""
        ...

    @property
    def save(self) -> Save:
        """Commits a change before anything is written."""
        ...

    @property
    def note(self) -> Note:
        """Lets a change count at once."""
        ...

    @property
    def audit(self) -> Audit:
        """Writes a decision to the audit chain."""
        ...

    @property
    def power(self) -> Callable[[str], str]:
        """The power of a control's plant now, with its unit."""
        ...


class PointRelease:
    """See the module. Each call is about one point."""

    def __init__(
        self,
        journal: Journal,
        dependencies: ReleaseDependencies,
        extremes: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._journal, self._dependencies = journal, dependencies
        self._extremes = extremes
        """returns the worst values of a control's guards, and forgets them"""

    async def release(self, record: HoldRecord, access: PointAccess) -> HoldRecord | None:
        """Release a point, only over a value of ours. None: the device confirmed that it is over.

        The device's watchdog is restored too, unless it belongs to another hold as well. Otherwise
        it would run out, and the device would fall back over a person's value.
        """
        try:
            standing = await access.look(whole=bool(record.identity))
            _check_identity(record, standing)
            if not _is_released(record, standing) and record.ours(standing.ours):
                # a device that has fallen back may take no value before its watchdog is refreshed
                with suppress(*NOT_THERE):
                    await beat(self._dependencies.access, record)
                await access.write(record.restore)
                standing = await access.look()
            over = _is_released(record, standing) or not record.ours(standing.ours)
            if over and all(
                one.number == record.number for one in self.records_watched_by(record.dog)
            ):
                await call_off(self._dependencies.access, record)
        except NOT_THERE as error:
            return await self._record_pending(record, str(error))
        if _is_released(record, standing):
            await self._close(record, "released, confirmed")
            return None
        if record.ours(standing.ours):
            return await self._record_pending(record, f"{standing.ours} still stands there")
        await self._close(record, f"{standing.ours} is somebody else's and was left", theirs=True)
        return None

    def records_watched_by(self, watchdog: WatchdogTarget | None) -> list[HoldRecord]:
        """The open hold records with this watchdog; several controls may share one."""
        spot = watchdog.place.spot if watchdog else None
        records = list(self._journal.records.values())
        return [record for record in records if record.dog and record.dog.place.spot == spot]

    async def _record_pending(self, record: HoldRecord, why: str) -> HoldRecord:
        """Record once that the release is pending (rule H18). It is tried until it is confirmed."""
        record = (
            record if record.phase is Phase.RELEASING else record.releasing(OrderState.ABORTED, why)
        )
        if record.pending:  # recorded before: further attempts write nothing to the disk
            return replace(record, alarm=why)
        log.error(
            "%s is not released yet: %s",
            record.control,
            why,
            extra=fields(
                LogEvent.RELEASE_PENDING, control=record.control, device=record.place.device
            ),
        )
        pending = replace(record, pending=True, alarm=why)
        outcome = self._outcome(record, OrderState.RELEASE_PENDING, why)
        return await self.saved(pending, Transaction(pending, outcomes=[outcome]))

    async def _close(self, record: HoldRecord, how: str, *, theirs: bool = False) -> None:
        """Close the hold record, with its outcome, by what was read back.

        `theirs`: somebody else's value was left. Then a start may no longer empty that slot, so it
        is removed from the free slots.
        """
        now, journal = self._dependencies.now(), self._journal
        closed = replace(record, phase=Phase.CLOSED)
        # orders that were superseded in this hold end with it, too
        events = [
            replace(one, over=now, state=one.state if one.state in FINAL else record.outcome)
            for one in journal.of(record.key)
            if _order_of(one, record)
        ]
        reason = f"{record.words}; {how}" if record.words and record.words != how else how
        memo = replace(journal.memo(record.key), given_back=now)
        if theirs:
            memo = replace(memo, free=tuple(slot for slot in memo.free if slot != record.slot))
        outcome = self._outcome(record, record.outcome, reason)
        outcome = replace(outcome, seen=self._extremes(record.control), closed=True)
        await self._dependencies.note(
            Transaction(closed, events, [outcome], [(record.key, memo)], theirs)
        )
        body = {"jti": record.jti, "control": record.control, "state": record.outcome.value}
        self._dependencies.audit("control.left" if theirs else "control.given_back", body)

    def _outcome(self, record: HoldRecord, state: OrderState, reason: str) -> Outcome:
        return Outcome(
            record.jti,
            record.control,
            state,
            self._dependencies.now().wall,
            words=reason,
            value=str(record.target),
            before=record.measured,
            after=self._dependencies.power(record.control),
        )

    async def saved(self, record: HoldRecord, change: Transaction | None = None) -> HoldRecord:
        """Let a hold record count now. If it cannot be committed, the record on the disk is enough:
        it contains the value from before, and all values of ours that were written.
        """
        return await self._dependencies.note(change or Transaction(record)) or record


def _is_released(record: HoldRecord, standing: Standing) -> bool:
    """Whether the value from before, or the value to restore, stands there."""
    if record.slot is not None:
        return standing.ours is None
    return same(standing.ours, record.restore, record.tolerance) or (
        same(standing.ours, record.pre, record.tolerance)
    )


def _order_of(event: AcceptedOrder, record: HoldRecord) -> bool:
    """Whether a hold record was for this order, in the end or before another order took over."""
    if event.state is OrderState.SUPERSEDED:
        return event.began and event.over is None
    return (event.order.jti, event.order.control) == (record.jti, record.control)


def _check_identity(record: HoldRecord, standing: Standing) -> None:
    if record.identity and standing.identity != record.identity:
        raise WriteRefused(
            f"{record.place.name} has the serial number {standing.identity or 'unknown'} now, not"
            f" {record.identity}"
        )
