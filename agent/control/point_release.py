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
    from agent.control.hold_record import Dog, HoldRecord, WriteTarget
    from agent.control.journal import Journal
    from agent.control.model import AcceptedOrder
    from agent.control.point_access import PointAccess, Standing
    from agent.control.stamps import Moment

log = logging.getLogger(__name__)

NOT_THERE = (LinkLost, WriteRefused, Refused)
"""the device does not do it now"""


class Around(Protocol):
    """What of the world is needed (agent/control/dependencies.py)."""

    @property
    def now(self) -> Callable[[], Moment]:
        """All the clocks there are."""
        ...

    @property
    def plug(self) -> Callable[[WriteTarget, int | None], PointAccess]:
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
        self, journal: Journal, world: Around, worst: Callable[[str], str] = lambda _: ""
    ) -> None:
        self._journal, self._world = journal, world
        self._worst = worst
        """what the guards of a control said at worst; forgotten by asking"""

    async def release(self, row: HoldRecord, plug: PointAccess) -> HoldRecord | None:
        """Give back: only over a value of ours. None: it is over, and the device said so.

        The device's watchdog is called off in any case, unless something else is held by it: it
        would fall back over a person's value.
        """
        try:
            standing = await plug.look(whole=bool(row.identity))
            _known(row, standing)
            if not _given_back(row, standing) and row.ours(standing.ours):
                with suppress(*NOT_THERE):  # one that fell back may take nothing before that
                    await beat(self._world.plug, row)
                await plug.write(row.restore)
                standing = await plug.look()
            over = _given_back(row, standing) or not row.ours(standing.ours)
            if over and all(one.number == row.number for one in self.told(row.dog)):
                await call_off(self._world.plug, row)
        except NOT_THERE as error:
            return await self._waits(row, str(error))
        if _given_back(row, standing):
            await self._close(row, "given back, confirmed")
            return None
        if row.ours(standing.ours):
            return await self._waits(row, f"{standing.ours} stands there still")
        await self._close(row, f"{standing.ours} is somebody else's, and left", theirs=True)
        return None

    def told(self, dog: Dog | None) -> list[HoldRecord]:
        """For what a device's watchdog is told now: it may be one for several controls."""
        spot = dog.place.spot if dog else None
        rows = list(self._journal.rows.values())
        return [row for row in rows if row.dog and row.dog.place.spot == spot]

    async def _waits(self, row: HoldRecord, why: str) -> HoldRecord:
        """It is tried again until the device confirms; said once."""
        row = row if row.phase is Phase.RELEASING else row.releasing(OrderState.ABORTED, why)
        if row.pending:
            return replace(row, alarm=why)
        log.error(
            "%s is not given back yet: %s", row.control, why,
            extra=fields(LogEvent.RELEASE_PENDING, control=row.control, device=row.place.device),
        )  # fmt: skip
        pending = replace(row, pending=True, alarm=why)
        told = self._outcome(row, OrderState.RELEASE_PENDING, why)
        return await self.saved(pending, Transaction(pending, outcomes=[told]))

    async def _close(self, row: HoldRecord, how: str, *, theirs: bool = False) -> None:
        """Closed by what was read back; the outcome goes with it.

        A slot in which somebody else's value is left is no longer one that a start may sweep.
        """
        now, journal = self._world.now(), self._journal
        closed = replace(row, phase=Phase.CLOSED)
        events = [
            replace(one, over=now, state=one.state if one.state in FINAL else row.outcome)
            for one in journal.of(row.key)
            if _stood_on(one, row)
        ]
        words = f"{row.words}; {how}" if row.words and row.words != how else how
        memo = replace(journal.memo(row.key), given_back=now)
        if theirs:
            memo = replace(memo, free=tuple(slot for slot in memo.free if slot != row.slot))
        told = self._outcome(row, row.outcome, words)
        told = replace(told, seen=self._worst(row.control), closed=True)
        await self._world.note(Transaction(closed, events, [told], [(row.key, memo)], theirs))
        body = {"jti": row.jti, "control": row.control, "state": row.outcome.value}
        self._world.audit("control.left" if theirs else "control.given_back", body)

    def _outcome(self, row: HoldRecord, state: OrderState, words: str) -> Outcome:
        return Outcome(
            row.jti, row.control, state, self._world.now().wall, words=words, value=str(row.target),
            before=row.measured, after=self._world.power(row.control),
        )  # fmt: skip

    async def saved(self, row: HoldRecord, change: Transaction | None = None) -> HoldRecord:
        """What is known now; where it cannot be written, what stands on the disk covers it."""
        return await self._world.note(change or Transaction(row)) or row


def _given_back(row: HoldRecord, standing: Standing) -> bool:
    """Whether what stands there is what stood there before us, or what was to be restored."""
    if row.slot is not None:
        return standing.ours is None
    return same(standing.ours, row.restore, row.tolerance) or (
        same(standing.ours, row.pre, row.tolerance)
    )


def _stood_on(one: AcceptedOrder, row: HoldRecord) -> bool:
    """Whether this row was for it, at the last or before another took over."""
    if one.state is OrderState.SUPERSEDED:
        return one.began and one.over is None
    return (one.order.jti, one.order.control) == (row.jti, row.control)


def _known(row: HoldRecord, standing: Standing) -> None:
    if row.identity and standing.identity != row.identity:
        raise WriteRefused(
            f"{row.place.name} is {standing.identity or 'unknown'} now, not {row.identity}"
        )
