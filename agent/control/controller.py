"""Keeping every control where it must be: what is in force is compared with what is held.

Each look works from nothing but the journal, the clock and the device, so it does not matter where
the last one was cut off: whatever is held without an order in force is given back.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.control import ending, fallback, start, stop
from agent.control.context import ControlContext
from agent.control.display import Display, telling
from agent.control.due import LOOK, until_next
from agent.control.execution import follow
from agent.control.handback import hand_back
from agent.control.hold_record import Phase
from agent.control.model import No, OrderCode, OrderState
from agent.control.orphan_search import sweep
from agent.control.point_state import known
from agent.control.release_retry import give_back, give_strangers_back
from agent.control.report import end, refused
from agent.control.revoked import end_withdrawn
from agent.control.self_test import TEST, Passed, trial
from agent.errors import LinkLost, Refused, SpoolFull, StorageFailed, WriteRefused
from agent.tasks import error_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.decision_input import DecisionFacts
    from agent.control.stamps import Moment
    from agent.control.writer import JournalWriter

PRUNED_EVERY = 3600.0
"""seconds between two times at which the journal forgets what no longer counts"""


@dataclass
class Controller(ControlContext):
    """See the module; what can be asked of it from outside, and its rounds."""

    writer: JournalWriter | None = None
    """whose disk is tried; None: a test of the controls alone"""

    def __post_init__(self) -> None:
        """Nothing was looked at yet."""
        super().__post_init__()
        self._woken: dict[str, asyncio.Event] = {}
        self.looked: dict[str, float] = {}
        """when each control was last looked at (monotonic)"""
        self._failed: dict[str, str] = {}
        """controls that an error broke off, until what they held was given back"""
        self._displays: dict[str, Display] = {}
        if self.writer is not None:
            self.writer.changed = self.wake_all

    # -- the rounds: each control its own, so that a slow device holds up nobody

    def rounds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs until cancelled, by name, each of which may fail alone: a round for each
        control, one for what none of them holds, one that forgets, and one that tries the disk.
        """
        each = {f"control {name}": partial(self._serve, name) for name in self.fits}
        others = {
            "controls left": self._strangers,
            "journal pruning": self._pruned,
            "journal storage": self._stored,
        }
        return {**each, **others}

    async def _serve(self, name: str) -> None:
        """Look after one control; after an error it gives back what it holds before all else."""
        self.looked[name] = self.world.now().steady
        if name in self._failed:
            await self._give_up(name, self._failed[name])
        try:
            await self._look_after(name)
        except Exception as error:
            self._failed[name] = f"an error in gardien: {error_text(error)}"
            await self._give_up(name, self._failed[name])
            raise

    async def _give_up(self, name: str, words: str) -> None:
        """Give back what a control holds, and end what is in force; what does not answer is tried
        again.
        """
        fit, failed = self.fits[name], None
        async with self.lock(name):
            for row in self.rows(fit):
                try:
                    await give_back(self, row.releasing(OrderState.ABORTED, words))
                except Exception as error:  # noqa: BLE001 -- raised below, after the others
                    failed = error
            for event in self.going(fit):
                await end(self, event, OrderState.ABORTED, words)
        if failed is not None:
            raise failed
        del self._failed[name]

    async def _look_after(self, name: str) -> None:
        while True:
            await self.tend(name)
            self.looked[name] = self.world.now().steady
            woken = self._woken.setdefault(name, asyncio.Event())
            woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.until_next(self.fits[name])):
                    await woken.wait()

    async def _strangers(self) -> None:
        while True:
            await self.strangers()
            await asyncio.sleep(LOOK)

    async def _pruned(self) -> None:
        while True:
            await self.prune()
            await asyncio.sleep(PRUNED_EVERY)

    async def _stored(self) -> None:
        while self.writer is not None:
            await asyncio.sleep(self.writer.until_next())
            await self.try_storage()
        await asyncio.Event().wait()  # a round that ends would end all

    async def try_storage(self) -> None:
        """Try the disk under the journal; once it has recovered, process the journal as at a
        start.
        """
        assert self.writer is not None
        if await self.writer.tend(held=bool(self.journal.rows)):
            self.recovering = "the disk has recovered: what its journal says is given back first"
            try:
                await self.recover()
            finally:
                self.recovering = ""
            self.wake_all()

    async def prune(self) -> None:
        """Forget what no longer counts, by a clock that may be believed."""
        now = self.world.now()
        if now.trusted:
            with suppress(SpoolFull, StorageFailed):  # the next round does it
                await self.world.read(self.journal.prune, now.wall)

    def until_next(self, fit: ConfiguredControl) -> float:
        """Seconds until something is due at a control."""
        rows = self.journal.open_rows(fit.key)
        return until_next(self.world.now(), self.journal.of(fit.key), rows, self.waits)

    def wake(self, name: str) -> None:
        """Something has changed for a control."""
        if name in self._woken:
            self._woken[name].set()

    def wake_all(self) -> None:
        """Something has changed for all."""
        for name in self.fits:
            self.wake(name)

    async def tend(self, name: str) -> None:
        """Bring one control to where it must be now."""
        async with self.lock(name):
            if name in self.fits and not self.closing:
                await self._tend(self.fits[name])
                await self._show(self.fits[name])

    async def _tend(self, fit: ConfiguredControl) -> None:
        now = self.world.now()
        for event in self.journal.of(fit.key):
            if event.state is OrderState.SCHEDULED and now.trusted and now.wall >= event.end:
                no = stop.forbidden(self, fit)
                why = no.words if no else self.alarms.get(fit.name, "")
                words = "it was over before it could begin" + (f": {why}" if why else "")
                await end(self, event, OrderState.EXPIRED, words)
        rows = self.rows(fit)
        for row in rows:
            if row.phase is Phase.RELEASING:
                await give_back(self, row)
        rows = [row for row in rows if row.phase is not Phase.RELEASING]
        if rows:
            self.worst.note(fit.name, fit.modality.guards, self.world.look)
        if no := stop.forbidden(self, fit):
            await stop.stop(self, fit, rows, no)
        elif await sweep(self, fit):
            rows = await end_withdrawn(self, fit, rows)
            if not await fallback.fallen_back(self, fit, rows, now):
                await follow(self, fit, rows, now)

    async def _show(self, fit: ConfiguredControl) -> None:
        """Tell the operator in the BMS what we do."""
        if not fit.shown:
            return
        display = self._displays.get(fit.name)
        if display is None or display.places != fit.shown:  # the first look, or after a reload
            display = self._displays[fit.name] = Display(fit.shown, fit.slots[0])
        row = next(iter(self.rows(fit)), None)
        event = self.journal.events.get((row.jti, fit.name)) if row else None
        now = self.world.now()
        await display.show(self.world.plug, row, telling(row, event, now), now.steady)

    # -- what is asked of it

    async def recover(self) -> None:
        """Give back what an agent before us has left; before any uplink is opened."""
        await start.recover(self)

    async def strangers(self) -> None:
        """Give back what is held by no control that is configured now, refuse what waits for it."""
        await give_strangers_back(self)
        for event in self.journal.homeless():
            words = f"{event.order.control} is configured no more, or for another point"
            await refused(self, event, No(OrderCode.ASSET, words))

    def heard(self) -> None:
        """A verified message of the centre has come: for limits, a heartbeat."""
        for name in fallback.hear(self):
            self.wake(name)

    def facts(self, fit: ConfiguredControl, now: Moment) -> DecisionFacts:
        """What is known for a decision at one point."""
        return known(self, fit, now)

    def forbidden(self, fit: ConfiguredControl) -> No | None:
        """What forbids anything at a control now."""
        return stop.forbidden(self, fit)

    async def cancel(self, name: str, words: str, jti: str = "") -> list[str]:
        """See `ending.cancel`."""
        ended = await ending.cancel(self, name, words, jti)
        self.wake(name)
        return ended

    async def let_go(self, words: str, names: Iterable[str]) -> None:
        """See `ending.let_go`; the operator in the BMS reads it too."""
        names = list(names)
        await ending.let_go(self, words, names)
        for name in names:
            async with self.lock(name):
                await self._show(self.fits[name])

    async def abandon(self, name: str, words: str) -> int:
        """See `ending.abandon`."""
        return await ending.abandon(self, name, words)

    async def opt_out(self, fit: ConfiguredControl, lasts: float, words: str) -> None:
        """See `stop.opt_out`."""
        async with self.lock(fit.name):
            await stop.opt_out(self, fit, lasts, words)

    async def hand_back(self, name: str, value: Decimal, words: str) -> list[str]:
        """See `handback.hand_back`."""
        return await hand_back(self, name, value, words)

    async def test(self, name: str, say: Callable[[str], Awaitable[None]]) -> Passed:
        """Try a control while nobody else touches it; see `trial`. Raises Refused."""
        fit = self.fits[name]
        async with self.lock(name):
            try:
                return await trial(self, fit, say)
            except (LinkLost, WriteRefused, SpoolFull, StorageFailed) as error:
                raise Refused(f"{name}: {error}") from error
            finally:
                for row in [row for row in self.journal.open_rows(fit.key) if row.jti == TEST]:
                    await give_back(
                        self, row.releasing(OrderState.ABORTED, "a test that went wrong")
                    )
                self.wake(name)
