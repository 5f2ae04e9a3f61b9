"""Bringing each control to the order in force: compare the orders with the holds.

Each check starts from the journal, the clock and the device alone. So it does not matter where the
last one was interrupted: a hold without an order in force is released.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.control import ending, fallback, start, stop
from agent.control.context import ControlContext
from agent.control.display import Display, display_values
from agent.control.due import LOOK, until_next
from agent.control.execution import follow_orders
from agent.control.handback import hand_back
from agent.control.hold_record import Phase
from agent.control.model import No, OrderCode, OrderState
from agent.control.orphan_search import search_orphans
from agent.control.point_state import decision_input
from agent.control.release_retry import release_unconfigured, try_release
from agent.control.report import end, report_refusal
from agent.control.revoked import end_revoked
from agent.control.self_test import TEST, Passed, run_self_test
from agent.core.errors import LinkLost, Refused, SpoolFull, StorageFailed, WriteRefused
from agent.core.tasks import error_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.decision_input import DecisionFacts
    from agent.control.stamps import Moment
    from agent.control.writer import JournalWriter

PRUNED_EVERY = 3600.0
"""seconds between two times at which the journal deletes what no longer counts"""


@dataclass
class Controller(ControlContext):
    """See the module. It has tasks that run until cancelled, and calls from outside."""

    writer: JournalWriter | None = None
    """the writer whose disk is tried; None: in tests without a disk"""

    def __post_init__(self) -> None:
        """Begin with no control checked yet."""
        super().__post_init__()
        self._woken: dict[str, asyncio.Event] = {}
        self.looked: dict[str, float] = {}
        """when each control was last checked (monotonic)"""
        self._failed: dict[str, str] = {}
        """controls stopped by an unexpected error, with the reason, until they are released"""
        self._displays: dict[str, Display] = {}
        if self.writer is not None:
            self.writer.changed = self.wake_all

    # -- the tasks: each control has its own, so that a slow device delays no other control

    def rounds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """The tasks that run until cancelled, by name. Each may fail alone.

        There is one task for each control, one for holds of removed controls, one that prunes the
        journal, and one that tries the disk.
        """
        each = {f"control {name}": partial(self._serve, name) for name in self.controls}
        others = {
            "controls left": self._release_unconfigured,
            "journal pruning": self._prune_regularly,
            "journal storage": self._check_storage,
        }
        return {**each, **others}

    async def _serve(self, name: str) -> None:
        """Run one control. After an unexpected error, its release comes first (rule H29)."""
        self.looked[name] = self.dependencies.now().steady
        if name in self._failed:
            await self._release_after_error(name, self._failed[name])
        try:
            await self._run_control(name)
        except Exception as error:
            self._failed[name] = f"an error in gardien: {error_text(error)}"
            await self._release_after_error(name, self._failed[name])
            raise

    async def _release_after_error(self, name: str, reason: str) -> None:
        """Release all holds of a control, and end its orders. Raises the last error of a release.

        The supervisor then calls again, so a device that does not answer is tried again.
        """
        control, failed = self.controls[name], None
        async with self.lock(name):
            for record in self.records(control):
                try:
                    await try_release(self, record.releasing(OrderState.ABORTED, reason))
                except Exception as error:  # noqa: BLE001 -- raised below, after the others
                    failed = error
            for event in self.active_orders(control):
                await end(self, event, OrderState.ABORTED, reason)
        if failed is not None:
            raise failed
        del self._failed[name]

    async def _run_control(self, name: str) -> None:
        while True:
            await self.tend(name)
            self.looked[name] = self.dependencies.now().steady
            woken = self._woken.setdefault(name, asyncio.Event())
            woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.until_next(self.controls[name])):
                    await woken.wait()

    async def _release_unconfigured(self) -> None:
        while True:
            await self.release_unconfigured()
            await asyncio.sleep(LOOK)

    async def _prune_regularly(self) -> None:
        while True:
            await self.prune()
            await asyncio.sleep(PRUNED_EVERY)

    async def _check_storage(self) -> None:
        while self.writer is not None:
            await asyncio.sleep(self.writer.until_next())
            await self.try_storage()
        await asyncio.Event().wait()  # without a writer there is nothing to do; it must not return

    async def try_storage(self) -> None:
        """Try the journal's disk. Once it has recovered, recover the journal as at a start."""
        assert self.writer is not None
        if await self.writer.tend(held=bool(self.journal.records)):
            self.recovering = "the disk has recovered: the holds of its journal are released first"
            try:
                await self.recover()
            finally:
                self.recovering = ""
            self.wake_all()

    async def prune(self) -> None:
        """Let the journal delete what no longer counts, if the clock is trusted."""
        now = self.dependencies.now()
        if now.trusted:
            with suppress(SpoolFull, StorageFailed):  # the next round does it
                await self.dependencies.read(self.journal.prune, now.wall)

    def until_next(self, control: ConfiguredControl) -> float:
        """Seconds until something is due at a control."""
        records = self.journal.open_records(control.key)
        return until_next(
            self.dependencies.now(), self.journal.of(control.key), records, self.waits
        )

    def wake(self, name: str) -> None:
        """Check a control at once."""
        if name in self._woken:
            self._woken[name].set()

    def wake_all(self) -> None:
        """Check all controls at once."""
        for name in self.controls:
            self.wake(name)

    async def tend(self, name: str) -> None:
        """Check one control, and bring it to the order in force now."""
        async with self.lock(name):
            # a reload may have removed the control while this waited for the lock
            if name in self.controls and not self.closing:
                await self._tend(self.controls[name])
                await self._show(self.controls[name])

    async def _tend(self, control: ConfiguredControl) -> None:
        now = self.dependencies.now()
        for event in self.journal.of(control.key):
            # with a clock that is not trusted, an order is not refused: it waits (rule H26)
            if event.state is OrderState.SCHEDULED and now.trusted and now.wall >= event.end:
                no = stop.forbidden(self, control)
                why = no.reason if no else self.alarms.get(control.name, "")
                reason = "its time was over before it could begin" + (f": {why}" if why else "")
                await end(self, event, OrderState.EXPIRED, reason)
        records = self.records(control)
        # pending releases come first, whatever is ordered or forbidden now
        for record in records:
            if record.phase is Phase.RELEASING:
                await try_release(self, record)
        records = [record for record in records if record.phase is not Phase.RELEASING]
        if records:
            self.extremes.note(control.name, control.modality.guards, self.dependencies.look)
        if no := stop.forbidden(self, control):
            await stop.stop(self, control, records, no)
        elif await search_orphans(self, control):  # before that no order begins (rule H19)
            records = await end_revoked(self, control, records)
            if not await fallback.fallen_back(self, control, records, now):
                await follow_orders(self, control, records, now)

    async def _show(self, control: ConfiguredControl) -> None:
        """Show the operator in the BMS what is held."""
        if not control.shown:
            return
        display = self._displays.get(control.name)
        if display is None or display.places != control.shown:  # first check, or reload
            display = self._displays[control.name] = Display(control.shown, control.slots[0])
        record = next(iter(self.records(control)), None)
        event = self.journal.events.get((record.jti, control.name)) if record else None
        now = self.dependencies.now()
        await display.show(
            self.dependencies.access, record, display_values(record, event, now), now.steady
        )

    # -- calls from outside

    async def recover(self) -> None:
        """Release the holds of an earlier process; see `start.recover`."""
        await start.recover(self)

    async def release_unconfigured(self) -> None:
        """Release the holds of controls that are no longer configured, and refuse their orders."""
        await release_unconfigured(self)
        for event in self.journal.without_control():
            reason = f"{event.order.control} is no longer configured, or at another point"
            await report_refusal(self, event, No(OrderCode.ASSET, reason))

    def heard(self) -> None:
        """Note a verified message of the centre, which is a heartbeat for limits."""
        # only a failsafe can end at once by this; the other limits are checked soon enough
        for name in fallback.hear(self):
            self.wake(name)

    def facts(self, control: ConfiguredControl, now: Moment) -> DecisionFacts:
        """The decision input for one control."""
        return decision_input(self, control, now)

    def forbidden(self, control: ConfiguredControl) -> No | None:
        """What forbids orders at a control now; None: nothing."""
        return stop.forbidden(self, control)

    async def cancel(self, name: str, reason: str, jti: str = "") -> list[str]:
        """See `ending.cancel`."""
        ended = await ending.cancel(self, name, reason, jti)
        self.wake(name)
        return ended

    async def release_controls(self, reason: str, names: Iterable[str]) -> None:
        """See `ending.release_controls`. The display in the BMS is updated too."""
        names = list(names)
        await ending.release_controls(self, reason, names)
        for name in names:
            async with self.lock(name):
                await self._show(self.controls[name])

    async def abandon(self, name: str, reason: str) -> int:
        """See `ending.abandon`."""
        return await ending.abandon(self, name, reason)

    async def opt_out(self, control: ConfiguredControl, lasts: float, reason: str) -> None:
        """See `stop.opt_out`."""
        async with self.lock(control.name):
            await stop.opt_out(self, control, lasts, reason)

    async def hand_back(self, name: str, value: Decimal, reason: str) -> list[str]:
        """See `handback.hand_back`."""
        return await hand_back(self, name, value, reason)

    async def test(self, name: str, say: Callable[[str], Awaitable[None]]) -> Passed:
        """Test a control under its lock; see `run_self_test`. Raises Refused."""
        control = self.controls[name]
        async with self.lock(name):
            try:
                return await run_self_test(self, control, say)
            except (LinkLost, WriteRefused, SpoolFull, StorageFailed) as error:
                raise Refused(f"{name}: {error}") from error
            finally:
                # however the test ended, also if it was cancelled, its value must not stay
                for record in [
                    record
                    for record in self.journal.open_records(control.key)
                    if record.jti == TEST
                ]:
                    await try_release(self, record.releasing(OrderState.ABORTED, "the test failed"))
                self.wake(name)
