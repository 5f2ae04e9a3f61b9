"""Giving back one point: only over a value of ours, and until the device has confirmed.

What it came to is written down with it. Nothing here waits or repeats by itself.
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
from agent.errors import LinkLost, Refused, WriteRefused
from agent.log_fields import LogEvent, fields

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
"""the device does not do it now"""


class ReleaseDependencies(Protocol):
    """What of the world is needed (agent/control/dependencies.py)."""

    @property
    def now(self) -> Callable[[], Moment]:
        """All the clocks there are."""
        ...

    @property
    def access(self) -> Callable[[WriteTarget, int | None], PointAccess]:
        """A point in hand."""
        ...

    @property
    def save(self) -> Save:
        """How a change gets to the disk before anything is done by it."""
        ...

    @property
    def note(self) -> Note:
        """How a change counts at once."""
        ...

    @property
    def audit(self) -> Audit:
        """Where decisions are written down for ever."""
        ...

    @property
    def power(self) -> Callable[[str], str]:
        """What the plant of a control takes now, in words."""
        ...


class PointRelease:
    """See the module; the points are handed in, each call one point."""

    def __init__(
        self,
        journal: Journal,
        dependencies: ReleaseDependencies,
        extremes: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._journal, self._dependencies = journal, dependencies
        self._extremes = extremes
        """what the guards of a control said at worst; forgotten by asking"""

    async def release(self, record: HoldRecord, access: PointAccess) -> HoldRecord | None:
        """Give back: only over a value of ours. None: it is over, and the device said so.

        The device's watchdog is called off in any case, unless something else is held by it: it
        would fall back over a person's value.
        """
        try:
            standing = await access.look(whole=bool(record.identity))
            _check_identity(record, standing)
            if not _given_back(record, standing) and record.ours(standing.ours):
                with suppress(*NOT_THERE):  # one that fell back may take nothing before that
                    await beat(self._dependencies.access, record)
                await access.write(record.restore)
                standing = await access.look()
            over = _given_back(record, standing) or not record.ours(standing.ours)
            if over and all(
                one.number == record.number for one in self.records_watched_by(record.dog)
            ):
                await call_off(self._dependencies.access, record)
        except NOT_THERE as error:
            return await self._waits(record, str(error))
        if _given_back(record, standing):
            await self._close(record, "given back, confirmed")
            return None
        if record.ours(standing.ours):
            return await self._waits(record, f"{standing.ours} stands there still")
        await self._close(record, f"{standing.ours} is somebody else's, and left", theirs=True)
        return None

    def records_watched_by(self, watchdog: WatchdogTarget | None) -> list[HoldRecord]:
        """For what a device's watchdog is told now: it may be one for several controls."""
        spot = watchdog.place.spot if watchdog else None
        records = list(self._journal.records.values())
        return [record for record in records if record.dog and record.dog.place.spot == spot]

    async def _waits(self, record: HoldRecord, why: str) -> HoldRecord:
        """It is tried again until the device confirms; said once."""
        record = (
            record if record.phase is Phase.RELEASING else record.releasing(OrderState.ABORTED, why)
        )
        if record.pending:
            return replace(record, alarm=why)
        log.error(
            "%s is not given back yet: %s",
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
        """Closed by what was read back; the outcome goes with it.

        A slot in which somebody else's value is left is no longer one that a start may sweep.
        """
        now, journal = self._dependencies.now(), self._journal
        closed = replace(record, phase=Phase.CLOSED)
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
        """What is known now; where it cannot be written, what stands on the disk covers it."""
        return await self._dependencies.note(change or Transaction(record)) or record


def _given_back(record: HoldRecord, standing: Standing) -> bool:
    """Whether what stands there is what stood there before us, or what was to be restored."""
    if record.slot is not None:
        return standing.ours is None
    return same(standing.ours, record.restore, record.tolerance) or (
        same(standing.ours, record.pre, record.tolerance)
    )


def _order_of(event: AcceptedOrder, record: HoldRecord) -> bool:
    """Whether this row was for it, at the last or before another took over."""
    if event.state is OrderState.SUPERSEDED:
        return event.began and event.over is None
    return (event.order.jti, event.order.control) == (record.jti, record.control)


def _check_identity(record: HoldRecord, standing: Standing) -> None:
    if record.identity and standing.identity != record.identity:
        raise WriteRefused(
            f"{record.place.name} is {standing.identity or 'unknown'} now, not {record.identity}"
        )
