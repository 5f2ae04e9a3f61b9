"""The house at work: a job for each line, each recipient, and each thing that needs a look."""

from __future__ import annotations

import asyncio
import logging
from asyncio import sleep
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import destroy
from agent.buffer.thread import in_own_thread
from agent.enrolment import renewal
from agent.errors import Refused, SpoolFull, StorageFailed
from agent.gateway import Gateway, new_poller, open_steering
from agent.inbox.inbox import store_is_broken
from agent.log_fields import LogEvent, fields
from agent.model import Why
from agent.pipeline.midnight_readings import MidnightReadings
from agent.pipeline.timekeeper import Timekeeper
from agent.pipeline.unassigned import UnassignedReadings
from agent.recipient import (
    NOT_COUNTED,
    account,
    forget_closed,
    open_outlet,
    shelf_opening,
    turned,
)
from agent.registry.consent_policy import LONGEST_UNSENT
from agent.replacement_scan import seek
from agent.storage import SPOOL
from agent.tasks import said, together
from agent.upstream import rotation
from agent.upstream.deliver import LONGEST_WAIT, deliver
from agent.upstream.handlers import register_handlers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.buffer.unassigned_store import UnassignedStore
    from agent.gateway import Recipient
    from agent.lines import LinkDevices

log = logging.getLogger(__name__)

TEND_EVERY = 1500.0
"""seconds between two rounds of upkeep: rows lie under the gateway's own key for two at most"""
OBEY_EVERY = 1.0
"""seconds between two looks at the registry, whoever has changed it"""
SHELVE_EVERY = 300.0
"""seconds that readings of unknown meters stay in memory before they are brought to the disk"""
WAITING_EVERY = 60.0
"""seconds between two looks at signed objects that wait"""
BESIDE_CONTROLS = ("controls left", "journal pruning", "journal storage")
"""components that work on the journal, beside one for each control"""
ONE_READ = 60.0
"""seconds that a reload waits for the read under way on a line"""


@asynccontextmanager
async def running(house: Gateway, config_path: Path) -> AsyncIterator[Running]:
    """Open the stores and start every component; on leaving, what waits is committed.

    What cannot be opened because of an error is tried again beside the rest.
    """
    here, jobs = Running(house, config_path), house.jobs
    house.reopen, house.close = here.reopen, here.close
    asyncio.get_running_loop().set_exception_handler(here.unexpected)
    try:
        register_handlers(house)
        forget_closed(house)
        for line in house.lines.values():
            here.serve_line(line)
        # before any uplink: what the agent before us left commanded is given back
        await jobs.open("controls", here.controls)
        if house.identity is not None:
            await here.open_shelves()
        house.timekeeper = Timekeeper(house.clock, house.books, house.pollers, house.audit)
        for name in house.config.uplinks:
            await here.open_outlet(name)
        for line in house.lines.values():
            here.start_polling(line)
        jobs.start("clock periods", house.timekeeper.serve)
        jobs.start("signed objects", here.take_what_waited)
        jobs.start("search", partial(seek, house))
        jobs.start("certificate", here.renew)
        jobs.start(rotation.COMPONENT, partial(rotation.serve, house))
        yield here
    finally:
        await jobs.end()


class Running:
    """See the module; `running` makes it."""

    def __init__(self, house: Gateway, config_path: Path) -> None:
        self.house, self.jobs, self.path = house, house.jobs, config_path
        self.one_at_a_time = asyncio.Lock()

    def unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of a callback, or of a task that nobody waits for."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self.jobs.faults.log(error, f"{context['message']}: {said(error)}", "event loop")

    def serve_line(self, line: LinkDevices) -> None:
        """Keep a line open."""
        self.jobs.start(f"line {line.link.name}", line.link.serve)

    @asynccontextmanager
    async def controls(self) -> AsyncIterator[Awaitable[object]]:
        """Open the journal, give back what was left, and look after each control."""
        house, jobs = self.house, self.jobs
        async with open_steering(house) as house.steering:
            try:
                await house.steering.recover()
            except Exception as error:  # noqa: BLE001 -- the rounds of each control give it back
                jobs.faults.note("controls", error, "start")
            self.start_controls()
            try:
                yield asyncio.Event().wait()
            finally:
                await self.stop_controls()
                house.without_controls()

    def start_controls(self) -> None:
        """Look after each control, one by one."""
        if self.house.steering is not None:
            for name, run in self.house.steering.controller.rounds().items():
                if not self.jobs.runs(name):
                    self.jobs.start(name, run)

    async def stop_controls(self) -> None:
        """Look after none of them for now."""
        for name in (*self.jobs.names("control "), *BESIDE_CONTROLS):
            await self.jobs.stop(name)

    async def open_outlet(self, name: str) -> None:
        """Open a recipient's spool, account for the time it was closed, begin to deliver."""
        await self.jobs.open(f"spool {name}", partial(self._outlet, name), uplink=name)

    @asynccontextmanager
    async def _outlet(self, name: str) -> AsyncIterator[Awaitable[object]]:
        house, before = self.house, self.house.unopened.get(name)
        async with open_outlet(house, name, before) as outlet:
            kept = before
            house.unopened.pop(name, None)
            house.outlets[name] = outlet
            try:
                if house.timekeeper is not None:
                    await house.timekeeper.joined()
                if outlet is not before:
                    await account(house, outlet)
                kept = outlet
                self._show_pollers()
                self._start_uplink(outlet)
                for job, run in self._of(outlet).items():
                    self.jobs.start(f"{job} {name}", run, uplink=name)
                broken = (thread.broken() for _, thread in outlet.spools)
                yield together(outlet.intake.serve(), turned(house, outlet), *broken)
            finally:
                for job in ("uplink", *self._of(outlet)):
                    await self.jobs.stop(f"{job} {name}")
                del house.outlets[name]
                if kept is not None:
                    house.unopened[name] = kept

    def _show_pollers(self) -> None:
        """Let pollers know for whom and for what they read now."""
        house = self.house
        for line in house.lines.values():
            if (poller := line.poller) is not None:
                poller.accounts = house.accounts()
                poller.unassigned, poller.midnight_readings = house.unclaimed, house.registers

    def _start_uplink(self, outlet: Recipient) -> None:
        name, run = outlet.name, partial(deliver, self.house, outlet)
        self.jobs.start(f"uplink {name}", run, uplink=name, longest=LONGEST_WAIT)

    def _of(self, outlet: Recipient) -> dict[str, Callable[[], Awaitable[None]]]:
        """What works on an open spool beside its uplink, each of which may fail alone."""
        return {
            "withdrawals": partial(self._obey, outlet),
            "sums": partial(self._add_up, outlet),
            "upkeep": partial(self._tend, outlet),
        }

    async def close_outlet(self, name: str) -> None:
        """Deliver to a recipient no more; what intake holds is committed."""
        await self.jobs.stop(f"spool {name}")
        self.house.unopened.pop(name, None)
        self.house.storage.recovered(f"{SPOOL}{name}")  # it is nobody's any more

    def start_polling(self, line: LinkDevices) -> None:
        """Poll the devices of a line."""
        line.poller = new_poller(self.house, line)
        self.go_on_polling(line)

    def go_on_polling(self, line: LinkDevices) -> None:
        """Let a line's poller work; after an error a new one begins, as after a restart."""
        self.jobs.start(f"poll {line.link.name}", partial(self._poll, line))

    async def _poll(self, line: LinkDevices) -> None:
        if line.poller is None:
            await self._pass_over(line)
            line.poller = new_poller(self.house, line)
        try:
            await line.poller.run()
        except Exception:
            line.poller = None  # what it has in memory may be why
            raise

    async def _pass_over(self, line: LinkDevices) -> None:
        """Close the slots that went by while nobody polled, as M `agent`."""
        clock = self.house.clock
        for one in self.house.accounts():
            for key in [key for key in one.ledger.marks if key[0] in line.devices]:
                if clock.dates:
                    change = partial(one.ledger.catch_up, key, clock.now(), Why.AGENT)
                    one.take(key, change, self.jobs.faults)
                    await one.ingest.room()

    async def _tend(self, outlet: Recipient) -> None:
        """A spool's upkeep; receipted batches go once they were kept as long as configured."""
        while True:
            clock = self.house.clock
            before = clock.now() - self.house.config.spool.keep if clock.ages else 0.0
            if self.house.notes is not None:
                digest = await outlet.thread.run(outlet.spool.receipted_audit)
                self.house.notes.receipted(digest)
            await outlet.thread.run(outlet.spool.forget, before)
            await outlet.outbox.tend(LONGEST_UNSENT if clock.ages else clock.now())
            await sleep(TEND_EVERY)

    async def open_shelves(self) -> None:
        """Keep what meters say while nobody knows whose they are, and their midnights."""
        await self.jobs.open("shelf", self._unclaimed)
        await self.jobs.open("registers", self._registers)

    @asynccontextmanager
    async def _unclaimed(self) -> AsyncIterator[Awaitable[object]]:
        house = self.house
        alone, opening = house.disk_thread("shelf"), self._shelf("shelf.db")
        async with in_own_thread("shelf", opening, alone) as (shelf, thread):
            kept = house.unclaimed or UnassignedReadings(house.registry, shelf, thread)
            house.unclaimed, kept.store, kept.thread = kept, shelf, thread
            async with self._kept(kept) as broken:
                yield broken

    @asynccontextmanager
    async def _registers(self) -> AsyncIterator[Awaitable[object]]:
        house = self.house
        alone, opening = house.disk_thread("registers"), self._shelf("registers.db")
        async with in_own_thread("registers", opening, alone) as (shelf, thread):
            kept = house.registers or MidnightReadings(house.registry, shelf, thread)
            house.registers, kept.store, kept.thread = kept, shelf, thread
            async with self._kept(kept) as broken:
                yield broken

    def _shelf(self, file: str) -> Callable[[], AbstractContextManager[UnassignedStore]]:
        return shelf_opening(self.house, self.house.config.state / file)

    @asynccontextmanager
    async def _kept(
        self, kept: UnassignedReadings | MidnightReadings
    ) -> AsyncIterator[Awaitable[object]]:
        self._show_pollers()
        try:
            yield together(self._give_back(kept), kept.thread.broken())
        finally:
            try:
                await kept.commit()
            except Exception as error:  # noqa: BLE001 -- the shelf is closed all the same
                self.jobs.faults.log(error, f"readings stay in memory: {said(error)}", "shelf")

    async def _give_back(self, kept: UnassignedReadings | MidnightReadings) -> None:
        """Give readings of meters that nobody knew to whom they are, once that is known, and to the
        manager what a change of occupant told late makes his.
        """
        house, rested = self.house, 0.0
        while True:
            changed = kept.asked != house.registry.revision
            due = changed or kept.full or rested >= SHELVE_EVERY
            if due and house.clock.dates and house.clock.ages:
                try:
                    await house.obey()  # what takes back comes before what is given anew
                    if house.unopened:  # what one takes and the other does not would be told twice
                        await kept.commit()
                    else:
                        await kept.tend(house.clock.now(), house.accounts(), house.point)
                except (SpoolFull, StorageFailed) as error:
                    log.warning(
                        "what waits for a fact is looked at later: %s", error,
                        extra=fields(LogEvent.RECORD_NOT_WRITTEN, store="shelf"),
                    )  # fmt: skip
                    await sleep(SHELVE_EVERY)
                rested = 0.0
            await sleep(OBEY_EVERY)
            rested += OBEY_EVERY

    async def _obey(self, outlet: Recipient) -> None:
        """Apply what the registry takes back, also while the uplink is not open."""
        while True:
            await outlet.outbox.catch_up()
            await sleep(OBEY_EVERY)

    async def _add_up(self, outlet: Recipient) -> None:
        """Make the sums over dwellings, slot by slot."""
        while True:
            await self.house.add_up(outlet)
            await sleep(OBEY_EVERY)

    async def renew(self) -> None:
        """Keep the certificate valid, where there is one."""
        house = self.house
        gateway = house.identity.gateway if house.identity else ""
        state, clock = house.config.state, house.clock
        await renewal.keep_valid(state, gateway, clock, lambda: house.config.enrolment)

    async def reopen(self) -> None:
        """Try uplinks that are not connected again at once: what kept them out may be gone."""
        async with self.one_at_a_time:
            for name in self.house.config.uplinks:
                self.jobs.retry(f"spool {name}")
            for outlet in list(self.house.outlets.values()):
                if outlet.delivery.connected_since is None:
                    await self.deliver_anew(outlet)

    async def deliver_anew(self, outlet: Recipient) -> None:
        """Close an uplink, and open it at once."""
        name = outlet.name
        await self.jobs.stop(f"uplink {name}")
        if self.house.outlets.get(name) is outlet:  # else it is opened anew, with its uplink
            self._start_uplink(outlet)

    async def close(self, name: str, drop: bool) -> int:
        """Keep nothing more for an uplink; `drop`: destroy what waits. How many values were.

        Raises Refused while its spool is not open.
        """
        async with self.one_at_a_time:
            house, outlet = self.house, self.house.outlets.get(name)
            if outlet is None:
                raise Refused(f"the spool of {name} is not open: `gardien status` says why")
            if outlet.kept:
                raise Refused(NOT_COUNTED.format(name))
            try:
                for link in house.lines:
                    await self.stand_still(link)
                recipient = outlet.settings.recipient
                house.closing.begin(recipient, house.clock.now())
                dropped = 0
                if drop:
                    dropped = await outlet.waiting()
                    await self.close_outlet(name)
                    try:
                        words = tokens_of(house.identity, recipient)
                        now = house.clock.now()
                        await asyncio.to_thread(destroy, house.config.state, recipient, now, words)
                    finally:
                        await self.open_outlet(name)
            finally:
                self.go_on()
            return dropped

    def go_on(self) -> None:
        """Serve and poll every line that was stood still."""
        for name, line in self.house.lines.items():
            if not self.jobs.runs(f"line {name}"):
                self.serve_line(line)
            if not self.jobs.runs(f"poll {name}"):
                if line.poller is not None:
                    line.poller = new_poller(self.house, line, line.poller)
                self.go_on_polling(line)

    async def take_what_waited(self) -> None:
        """Try signed objects again that came before what they hang on, or before the time; where
        the file that they are kept in cannot be read any more, it is opened anew.
        """
        broken = self.house.book_broken
        while True:
            if broken.is_set() and self.house.open_book is not None:
                self.house.open_book()
                register_handlers(self.house)
            try:
                await self.house.registry_changed()
            except Exception as error:
                if store_is_broken(error):
                    broken.set()
                raise
            with suppress(TimeoutError):
                async with asyncio.timeout(WAITING_EVERY):
                    await broken.wait()

    async def stand_still(self, name: str) -> None:
        """End a line's poller between two reads, and bring what it read to the disk."""
        poller = self.house.lines[name].poller
        if poller is not None:
            poller.finish()
        await self.jobs.stop(f"poll {name}", ONE_READ)
        for outlet in list(self.house.outlets.values()):
            try:
                await outlet.intake.commit()
            except Exception as error:  # noqa: BLE001 -- its rows wait on
                why = f"what waits for {outlet.name} stays in memory: {said(error)}"
                self.jobs.faults.log(error, why, f"spool {outlet.name}")
