"""Run the gateway: one task for each line, each recipient, each control and each periodic job."""

from __future__ import annotations

import asyncio
import logging
from asyncio import sleep
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.acquisition.timekeeper import Timekeeper
from agent.acquisition.unsent_readings import MidnightReadings, UnassignedReadings
from agent.buffer.database import in_own_thread
from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import destroy
from agent.core.errors import Refused, SpoolFull, StorageFailed
from agent.core.log_fields import LogEvent, fields
from agent.core.model import Why
from agent.core.storage import HOLDS_END_AFTER, SPOOL
from agent.core.tasks import error_text, together
from agent.enrolment import calls
from agent.gateway import key_rotation
from agent.gateway.delivery import LONGEST_WAIT, deliver, register_handlers
from agent.gateway.gateway import Gateway, new_poller, open_steering
from agent.gateway.recipient import (
    NOT_COUNTED,
    close_passed_slots,
    forget_closed,
    open_recipient,
    store_opening,
    wait_for_disk,
)
from agent.gateway.replacement_scan import seek
from agent.inbox.inbox import store_is_broken
from agent.registry.consent_policy import LONGEST_UNSENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.buffer.unassigned_store import UnassignedStore
    from agent.gateway.gateway import Recipient
    from agent.gateway.lines import LinkDevices

log = logging.getLogger(__name__)

TEND_EVERY = 1500.0
"""seconds between two rounds of upkeep. Rows are under the gateway's own key for two at most"""
OBEY_EVERY = 1.0
"""seconds between two checks of the registry for retractions"""
SHELVE_EVERY = 300.0
"""seconds that unassigned readings stay in memory before they are stored"""
WAITING_EVERY = 60.0
"""seconds between two attempts with waiting signed objects"""
BESIDE_CONTROLS = ("controls left", "journal pruning", "journal storage")
"""components that use the journal, in addition to one for each control"""
ONE_READ = 60.0
"""seconds that a reload waits for the read under way on a line"""
LINE_WITHIN = 300.0
"""seconds for one attempt to open, or for one device with many blocks on a slow line in a search"""
CONTROL_WITHIN = 300.0
"""seconds for one round of a control: guards are checked every ten, but devices may be slow"""
COMMIT_WITHIN = 3 * HOLDS_END_AFTER
"""seconds beyond the flush interval for a commit. A disk that does not answer is a fault of its
store; a restart would not help"""
OPENED_WITHIN = 300.0
"""seconds for opening or closing a file on a slow card"""
UPLINK_WITHIN = 900.0
"""seconds for the longest wait between two attempts together with the longest attempt"""


@asynccontextmanager
async def running(gateway: Gateway, config_path: Path) -> AsyncIterator[Running]:
    """Open the stores and start every component. On leaving, rows in memory are committed.

    A store that cannot be opened because of an error is tried again while the others run.
    """
    here, jobs = Running(gateway, config_path), gateway.jobs
    gateway.reopen, gateway.close = here.reopen, here.close
    asyncio.get_running_loop().set_exception_handler(here.unexpected)
    try:
        register_handlers(gateway)
        forget_closed(gateway)
        for line in gateway.lines.values():
            here.serve_line(line)
        # Before any uplink: an earlier agent may have left a value commanded. It is released first.
        await jobs.open("controls", here.controls)
        if gateway.identity is not None:
            await here.open_reading_stores()
        gateway.timekeeper = Timekeeper(
            gateway.clock, gateway.books, gateway.pollers, gateway.audit
        )
        for name in gateway.config.uplinks:
            await here.open_recipient(name)
        for line in gateway.lines.values():
            here.start_polling(line)
        jobs.start("clock periods", gateway.timekeeper.serve)
        jobs.start("signed objects", here.take_what_waited)
        jobs.start("search", partial(seek, gateway))
        jobs.start("certificate", here.renew)
        jobs.start(key_rotation.COMPONENT, partial(key_rotation.serve, gateway))
        yield here
    finally:
        await jobs.end()


class Running:
    """The components of a running gateway: starts, stops and reopens them. Made by `running`."""

    def __init__(self, gateway: Gateway, config_path: Path) -> None:
        self.gateway, self.jobs, self.path = gateway, gateway.jobs, config_path
        self.one_at_a_time = asyncio.Lock()

    def unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of a callback, or of a task whose result nobody reads."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self.jobs.faults.log(error, f"{context['message']}: {error_text(error)}", "event loop")

    def serve_line(self, line: LinkDevices) -> None:
        """Keep a line open."""
        self.jobs.start(f"line {line.link.name}", line.link.serve)

    @asynccontextmanager
    async def controls(self) -> AsyncIterator[Awaitable[object]]:
        """Open the journal, release what an earlier agent left, and run each control."""
        gateway, jobs = self.gateway, self.jobs
        async with open_steering(gateway) as gateway.steering:
            try:
                await gateway.steering.recover()
            except Exception as error:  # noqa: BLE001 -- each control tries its release again
                jobs.faults.note("controls", error, "start")
            self.start_controls()
            try:
                yield asyncio.Event().wait()
            finally:
                await self.stop_controls()
                gateway.without_controls()

    def start_controls(self) -> None:
        """Start a task for each control."""
        if self.gateway.steering is not None:
            for name, run in self.gateway.steering.controller.rounds().items():
                if not self.jobs.runs(name):
                    self.jobs.start(name, run)

    async def stop_controls(self) -> None:
        """Stop the tasks of all controls."""
        for name in (*self.jobs.names("control "), *BESIDE_CONTROLS):
            await self.jobs.stop(name)

    async def open_recipient(self, name: str) -> None:
        """Open a recipient's spool, close the slots that passed meanwhile, and start delivery."""
        await self.jobs.open(f"spool {name}", partial(self._recipient, name), uplink=name)

    @asynccontextmanager
    async def _recipient(self, name: str) -> AsyncIterator[Awaitable[object]]:
        gateway, before = self.gateway, self.gateway.unopened.get(name)
        async with open_recipient(gateway, name, before) as recipient:
            # What goes back to `unopened` at the end: until the start has succeeded, the recipient
            # from before, so that its rows in memory are not lost.
            kept = before
            gateway.unopened.pop(name, None)
            gateway.recipients[name] = recipient
            try:
                if gateway.timekeeper is not None:
                    await gateway.timekeeper.joined()
                if recipient is not before:
                    await close_passed_slots(gateway, recipient)
                kept = recipient
                self._update_pollers()
                self._start_uplink(recipient)
                for job, run in self._recipient_jobs(recipient).items():
                    self.jobs.start(f"{job} {name}", run, uplink=name)
                broken = (thread.broken() for _, thread in recipient.spools)
                yield together(recipient.intake.serve(), wait_for_disk(gateway, recipient), *broken)
            finally:
                for job in ("uplink", *self._recipient_jobs(recipient)):
                    await self.jobs.stop(f"{job} {name}")
                del gateway.recipients[name]
                if kept is not None:
                    gateway.unopened[name] = kept

    def _update_pollers(self) -> None:
        """Give the pollers the recipients and stores that are open now."""
        gateway = self.gateway
        for line in gateway.lines.values():
            if (poller := line.poller) is not None:
                poller.accounts = gateway.accounts()
                poller.unassigned, poller.midnight_readings = (
                    gateway.unassigned,
                    gateway.midnight_readings,
                )

    def _start_uplink(self, recipient: Recipient) -> None:
        name, run = recipient.name, partial(deliver, self.gateway, recipient)
        self.jobs.start(f"uplink {name}", run, uplink=name, longest=LONGEST_WAIT)

    def _recipient_jobs(self, recipient: Recipient) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the jobs on an open spool in addition to its uplink; each may fail alone."""
        return {
            "withdrawals": partial(self._obey, recipient),
            "sums": partial(self._add_up, recipient),
            "upkeep": partial(self._tend, recipient),
        }

    async def close_outlet(self, name: str) -> None:
        """Stop delivery to a recipient and close its spool; rows in memory are committed."""
        await self.jobs.stop(f"spool {name}")
        self.gateway.unopened.pop(name, None)
        self.gateway.storage.recovered(f"{SPOOL}{name}")  # the store is no longer in use

    def start_polling(self, line: LinkDevices) -> None:
        """Poll the devices of a line."""
        line.poller = new_poller(self.gateway, line)
        self.go_on_polling(line)

    def go_on_polling(self, line: LinkDevices) -> None:
        """Run a line's poller. After an error a new poller is made, as after a restart."""
        self.jobs.start(f"poll {line.link.name}", partial(self._poll, line))

    async def _poll(self, line: LinkDevices) -> None:
        if line.poller is None:
            await self._close_missed_slots(line)
            line.poller = new_poller(self.gateway, line)
        try:
            await line.poller.run()
        except Exception:
            line.poller = None  # its state in memory may be the cause
            raise

    async def _close_missed_slots(self, line: LinkDevices) -> None:
        """Close the slots that passed without a poller as missing, with the reason `agent`."""
        clock = self.gateway.clock
        for slot_account in self.gateway.accounts():
            for key in [key for key in slot_account.ledger.marks if key[0] in line.devices]:
                if clock.dates:
                    change = partial(slot_account.ledger.catch_up, key, clock.now(), Why.AGENT)
                    slot_account.take(key, change, self.jobs.faults)
                    await slot_account.ingest.room()

    async def _tend(self, recipient: Recipient) -> None:
        """Maintain a spool; delete receipted batches after the configured time. Never returns."""
        while True:
            clock = self.gateway.clock
            # After a sudden jump of the clock nothing is deleted because of its age (rule C14).
            before = clock.now() - self.gateway.config.spool.keep if clock.ages else 0.0
            if self.gateway.notes is not None:
                digest = await recipient.thread.run(recipient.spool.receipted_audit)
                self.gateway.notes.receipted(digest)
            await recipient.thread.run(recipient.spool.forget, before)
            await recipient.outbox.tend(LONGEST_UNSENT if clock.ages else clock.now())
            await sleep(TEND_EVERY)

    async def open_reading_stores(self) -> None:
        """Open the stores of unassigned readings and of midnight readings."""
        await self.jobs.open("shelf", self._unassigned)
        await self.jobs.open("registers", self._midnights)

    @asynccontextmanager
    async def _unassigned(self) -> AsyncIterator[Awaitable[object]]:
        gateway = self.gateway
        disk_thread, opening = gateway.disk_thread("shelf"), self._store("shelf.db")
        async with in_own_thread("shelf", opening, disk_thread) as (store, thread):
            readings = gateway.unassigned or UnassignedReadings(gateway.registry, store, thread)
            gateway.unassigned, readings.store, readings.thread = readings, store, thread
            async with self._serve_readings(readings) as broken:
                yield broken

    @asynccontextmanager
    async def _midnights(self) -> AsyncIterator[Awaitable[object]]:
        gateway = self.gateway
        disk_thread, opening = gateway.disk_thread("registers"), self._store("registers.db")
        async with in_own_thread("registers", opening, disk_thread) as (store, thread):
            readings = gateway.midnight_readings or MidnightReadings(
                gateway.registry, store, thread
            )
            gateway.midnight_readings, readings.store, readings.thread = readings, store, thread
            async with self._serve_readings(readings) as broken:
                yield broken

    def _store(self, file: str) -> Callable[[], AbstractContextManager[UnassignedStore]]:
        return store_opening(self.gateway, self.gateway.config.state / file)

    @asynccontextmanager
    async def _serve_readings(
        self, readings: UnassignedReadings | MidnightReadings
    ) -> AsyncIterator[Awaitable[object]]:
        self._update_pollers()
        try:
            yield together(self._assign_stored(readings), readings.thread.broken())
        finally:
            try:
                await readings.commit()
            except Exception as error:  # noqa: BLE001 -- the store is closed all the same
                self.jobs.faults.log(
                    error, f"readings stay in memory: {error_text(error)}", "shelf"
                )

    async def _assign_stored(self, readings: UnassignedReadings | MidnightReadings) -> None:
        """Assign stored readings once the registry knows their place. Never returns.

        These are readings of unassigned meters, and the midnight readings that a duty needs after a
        change of occupants was recorded late.
        """
        gateway, waited = self.gateway, 0.0
        while True:
            changed = readings.asked != gateway.registry.revision
            due = changed or readings.full or waited >= SHELVE_EVERY
            if due and gateway.clock.dates and gateway.clock.ages:
                try:
                    await gateway.obey()  # retractions come before the rows that replace them
                    # While one spool is closed, assigning would have to be repeated for it later,
                    # and the other recipients would get the rows twice.
                    if gateway.unopened:
                        await readings.commit()
                    else:
                        await readings.tend(gateway.clock.now(), gateway.accounts(), gateway.point)
                except (SpoolFull, StorageFailed) as error:
                    log.warning(
                        "stored readings could not be assigned and are tried again: %s", error,
                        extra=fields(LogEvent.RECORD_NOT_WRITTEN, store="shelf"),
                    )  # fmt: skip
                    await sleep(SHELVE_EVERY)
                waited = 0.0
            await sleep(OBEY_EVERY)
            waited += OBEY_EVERY

    async def _obey(self, recipient: Recipient) -> None:
        """Apply retractions of the registry, even while the uplink is down. Never returns."""
        while True:
            await recipient.outbox.catch_up()
            await sleep(OBEY_EVERY)

    async def _add_up(self, recipient: Recipient) -> None:
        """Make the sums over dwellings, slot by slot. Never returns."""
        while True:
            await self.gateway.add_up(recipient)
            await sleep(OBEY_EVERY)

    async def renew(self) -> None:
        """Renew the certificate in time, if there is one. Never returns."""
        gateway = self.gateway
        gateway_id = gateway.identity.gateway if gateway.identity else ""
        state, clock = gateway.config.state, gateway.clock
        await calls.keep_valid(state, gateway_id, clock, lambda: gateway.config.enrolment)

    async def reopen(self) -> None:
        """Try all uplinks that are not connected at once: the cause may be gone."""
        async with self.one_at_a_time:
            for name in self.gateway.config.uplinks:
                self.jobs.retry(f"spool {name}")
            for recipient in list(self.gateway.recipients.values()):
                if recipient.delivery.connected_since is None:
                    await self.deliver_anew(recipient)

    async def deliver_anew(self, recipient: Recipient) -> None:
        """Close an uplink and open it again at once."""
        name = recipient.name
        await self.jobs.stop(f"uplink {name}")
        if (
            self.gateway.recipients.get(name) is recipient
        ):  # else its spool reopens, with the uplink
            self._start_uplink(recipient)

    async def close(self, name: str, drop: bool) -> int:
        """Stop collecting for an uplink. `drop`: destroy its waiting values; return how many.

        Raises Refused while its spool is not open.
        """
        async with self.one_at_a_time:
            gateway, recipient = self.gateway, self.gateway.recipients.get(name)
            if recipient is None:
                raise Refused(f"the spool of {name} is not open. To see why: gardien status")
            if recipient.kept:
                raise Refused(NOT_COUNTED.format(name))
            try:
                for link in gateway.lines:
                    await self.stand_still(link)
                recipient_id = recipient.settings.recipient
                gateway.closing.begin(recipient_id, gateway.clock.now())
                dropped = 0
                if drop:
                    # The spool must be closed while its files are destroyed; it opens empty.
                    dropped = await recipient.waiting()
                    await self.close_outlet(name)
                    try:
                        cipher_words = tokens_of(gateway.identity, recipient_id)
                        now = gateway.clock.now()
                        await asyncio.to_thread(
                            destroy, gateway.config.state, recipient_id, now, cipher_words
                        )
                    finally:
                        await self.open_recipient(name)
            finally:
                self.go_on()
            return dropped

    def go_on(self) -> None:
        """Serve and poll every line that was stopped."""
        for name, line in self.gateway.lines.items():
            if not self.jobs.runs(f"line {name}"):
                self.serve_line(line)
            if not self.jobs.runs(f"poll {name}"):
                if line.poller is not None:
                    line.poller = new_poller(self.gateway, line, line.poller)
                self.go_on_polling(line)

    async def take_what_waited(self) -> None:
        """Try waiting signed objects again, and reopen a trust store that cannot be read.

        An object waits if it came before the fact or the time on which it depends. Never returns.
        """
        broken = self.gateway.trust_store_broken
        while True:
            if broken.is_set() and self.gateway.open_trust_store is not None:
                self.gateway.open_trust_store()
                register_handlers(self.gateway)
            try:
                await self.gateway.registry_changed()
            except Exception as error:
                if store_is_broken(error):
                    broken.set()
                raise
            with suppress(TimeoutError):
                async with asyncio.timeout(WAITING_EVERY):
                    await broken.wait()

    async def stand_still(self, name: str) -> None:
        """Stop a line's poller between two reads, and commit what it has read."""
        poller = self.gateway.lines[name].poller
        if poller is not None:
            poller.finish()
        # Wait for the read in progress. Cancelling it would lose its values, and some devices
        # answer the next request with the old one's answer.
        await self.jobs.stop(f"poll {name}", ONE_READ)
        for recipient in list(self.gateway.recipients.values()):
            try:
                await recipient.intake.commit()
            except Exception as error:  # noqa: BLE001 -- its rows go on waiting
                why = f"rows for {recipient.name} stay in memory: {error_text(error)}"
                self.jobs.faults.log(error, why, f"spool {recipient.name}")


def late(gateway: Gateway, now: float) -> list[str]:
    """Name the components that made no progress within their bound. `now`: monotonic seconds."""
    return [name for name, within, turned in _components(gateway, now) if now - turned > within]


def _components(gateway: Gateway, now: float) -> Iterator[tuple[str, float, float]]:
    """Yield each component with its bound and the time of its last progress.

    Parked components are left out: they wait for their next attempt.
    """
    parked = gateway.jobs.parked
    for name, line in gateway.lines.items():
        # A line that is down stops its poller too: report the cause, not both.
        if line.link.error and not parked(f"line {name}"):
            yield f"opening line {name}", LINE_WITHIN, line.link.turned
        elif line.poller is not None and line.devices and not parked(f"poll {name}"):
            turned = max(line.poller.turned, line.link.turned)
            yield f"reading line {name}", LINE_WITHIN, turned
    if gateway.steering is not None:
        controller = gateway.steering.controller
        for name, looked in controller.looked.items():
            if name in controller.controls and not parked(f"control {name}"):
                yield (
                    f"looking after control {name}",
                    CONTROL_WITHIN,
                    max(looked, controller.turned),
                )
    for name, recipient in gateway.recipients.items():
        if not recipient.thread.stalled(now):  # a disk that hangs is a fault of its store
            flush = gateway.config.spool.flush
            yield from _recipient_components(
                name, recipient, flush, parked=parked(f"uplink {name}")
            )
    for name, began in gateway.jobs.opening().items():
        yield f"opening {name}", OPENED_WITHIN, began


def _recipient_components(
    name: str, recipient: Recipient, flush: float, *, parked: bool
) -> Iterator[tuple[str, float, float]]:
    yield f"storing for {name}", flush + COMMIT_WITHIN, recipient.intake.turned
    if not parked:
        yield f"sending to {name}", UPLINK_WITHIN, recipient.delivery.turned
