"""Run the gateway: start, reload and stop it, with a task for each line, recipient and control."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.acquisition.factors import needed
from agent.acquisition.poller import Poller
from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import destroy
from agent.config import load
from agent.core.errors import Refused
from agent.core.i18n import N_
from agent.core.log_fields import LogEvent, fields
from agent.core.model import Why
from agent.core.storage import SPOOL, is_damage
from agent.core.tasks import Wakeup, error_text, to_next, together
from agent.enrolment import calls
from agent.gateway import key_rotation
from agent.gateway.controls import NoControls, open_steering
from agent.gateway.delivery import LONGEST_WAIT, deliver, handlers
from agent.gateway.gateway import Daemon, midnights, points_by_key, policy_of
from agent.gateway.lines import lines_of, link_to, occupied, read_guards, record_serial
from agent.gateway.recipient import (
    NOT_COUNTED,
    ReadingStores,
    close_passed_slots,
    forget_closed,
    jobs_of,
    keep_records,
    open_recipient,
    wait_for_disk,
)
from agent.gateway.replacement_scan import seek
from agent.registry.identity import why_absent
from agent.trust.jws import Key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.acquisition.timekeeper import Timekeeper
    from agent.config import Config
    from agent.core.model import MarkKey, SlotMark
    from agent.core.tasks import Faults
    from agent.gateway.controls import Steering
    from agent.gateway.gateway import Gateway, Recipient
    from agent.gateway.lines import Lines, LinkDevices

log = logging.getLogger(__name__)

WAITING_EVERY = 60.0
"""seconds between two attempts with waiting signed objects"""
BESIDE_CONTROLS = ("controls left", "journal pruning", "journal storage")
"""components that use the journal, in addition to one for each control"""
FACTORS_EVERY = 3600.0
"""seconds between two looks at what readings have shown about factors"""
ONE_READ = 60.0
"""seconds that a reload waits for the read under way on a line"""
AT_A_START = ("state", "clock", "spool", "trust")
"""sections that are read only when the agent starts"""
IN_PLACE = ("building", "privacy", "enrolment", "updates", "backup", "syndic", "web")
"""sections that are read at each use: nothing must be opened or closed for them"""


@asynccontextmanager
async def running(gateway: Gateway, config_path: Path) -> AsyncIterator[Running]:
    """Open the stores and start every component. On leaving, rows in memory are committed.

    A store that cannot be opened because of an error is tried again while the others run.
    """
    here = Running(gateway, config_path)
    gateway.daemon = here
    asyncio.get_running_loop().set_exception_handler(here.unexpected)
    try:
        await here.start()
        yield here
    finally:
        await gateway.jobs.end()


class Running(Daemon):
    """The components of a running gateway: starts, stops and reopens them. Made by `running`."""

    def __init__(self, gateway: Gateway, config_path: Path) -> None:
        super().__init__()
        self.gateway, self.jobs, self.path = gateway, gateway.jobs, config_path
        self.one_at_a_time = asyncio.Lock()
        self._reading_stores = ReadingStores(gateway, self._update_pollers)
        self._timekeeper: Timekeeper

    def __bool__(self) -> bool:
        return True

    async def start(self) -> None:
        """Open and start the components in their order."""
        gateway, jobs = self.gateway, self.jobs
        gateway.objects.handlers |= handlers(gateway)
        forget_closed(gateway)
        for line in gateway.lines.values():
            self._serve_line(line)
        # Before any uplink: an earlier agent may have left a value commanded. It is released first.
        await jobs.open("controls", self._controls)
        if gateway.identity:
            await self._reading_stores.open()
        self._timekeeper = super().timekeeper(gateway)
        for name in gateway.config.uplinks:
            await self._open_recipient(name)
        for line in gateway.lines.values():
            self._start_polling(line)
        jobs.start("clock periods", self._timekeeper.serve)
        jobs.start("signed objects", self._take_what_waited)
        jobs.start("search", partial(seek, gateway))
        jobs.start("factors", partial(prove_factors, gateway))
        jobs.start("certificate", self._renew_certificate)
        jobs.start("records", partial(keep_records, gateway))
        jobs.start(key_rotation.COMPONENT, partial(key_rotation.serve, gateway))

    async def reload(self) -> dict[str, Any]:
        """Load the configuration again. Only what has changed is opened again.

        The pollers stop between two reads, their readings are committed, and they go on with the
        new configuration. Lines and uplinks that did not change stay open. The answer names what
        was opened, closed and changed. Raises Refused; then nothing was changed.
        """
        async with self.one_at_a_time:
            new = await asyncio.to_thread(load, self.path, whole=True)
            await must_be_possible(self.gateway, new)
            try:
                done = await self._change(new)
            finally:
                self._go_on()  # after an error too: a line must never stay without its poller
        summary = ", ".join(f"{what} {name}" for what, names in done.items() for name in names)
        log.warning(
            "configuration reloaded: %s", summary or "no changes", extra=fields(LogEvent.RELOADED)
        )
        return {"changed": done}

    async def _change(self, new: Config) -> dict[str, list[str]]:
        gateway, old = self.gateway, self.gateway.config
        recipients, lines = gateway.recipients, lines_of(new)
        # Release first, on the old lines: the new configuration may not have them any more.
        steered = await self._steer(new)
        for name in gateway.lines:
            await self._stand_still(name)
        closed = [name for name in gateway.lines if old.links[name] != new.links.get(name)]
        for name in closed:
            await self.jobs.stop(f"line {name}")
        known = {**recipients, **recipients.unopened}
        removed = [
            name for name, one in known.items() if recipient_in(new, name) != one.settings.recipient
        ]
        for name in removed:
            await self._close_recipient(name)
        gateway.config = new
        gateway.flight.know(new)
        gateway.reloaded.tell()
        forget_closed(gateway)
        changed = [name for name in list(recipients) if await self._renew(old, name)]
        added = [name for name in new.uplinks if name not in recipients]
        for name in added:
            await self._reopen_recipient(name)
        opened = [name for name in lines if name not in gateway.lines or name in closed]
        moved = self._replace_lines(lines, opened)
        return {
            N_("line closed"): closed,
            N_("line opened"): opened,
            N_("devices of line"): moved,
            N_("uplink closed"): removed,
            N_("uplink opened"): added,
            N_("uplink"): changed,
            N_("control"): steered,
            N_("setting"): changed_settings(old, new),
        }

    async def _steer(self, new: Config) -> list[str]:
        """Release the controls whose definition changes, while the old lines are still open."""
        if not self.gateway.steering:
            self.jobs.retry("controls")
            return []
        await self._stop_controls()
        try:
            return await self.gateway.steering.adopt(new)
        finally:
            self._start_controls()

    async def _renew(self, old: Config, name: str) -> bool:
        """Give an open recipient the new points and rules. Return whether its uplink reopened."""
        gateway, recipient = self.gateway, self.gateway.recipients[name]
        try:
            # On a full disk rows wait in memory with their marks, so those slots are closed too.
            # The marks of the disk alone would close them a second time.
            stored = partial(recipient.thread.run, recipient.spool.marks)
            marks = await recipient.intake.closed(stored)
            await recipient.thread.run(recipient.spool.days, midnights(gateway.config))
        except Exception as error:  # noqa: BLE001 -- only this spool fails; it is opened again
            why = f"the spool of {name}: {error_text(error)}"
            self.jobs.faults.log(error, why, f"spool {name}")
            await self._reopen_recipient(name)
            return True
        adopt(gateway.config, recipient, marks, self.jobs.faults)
        if old.uplinks[name] == gateway.config.uplinks[name]:
            return False
        await self._deliver_anew(recipient)
        return True

    async def _reopen_recipient(self, name: str) -> None:
        """Open the spool of an uplink at once. One that waits to be opened gets the new points."""
        await self.jobs.stop(f"spool {name}")
        waiting = self.gateway.recipients.unopened.get(name)
        if waiting is not None:
            marks = dict(waiting.ledger.marks)
            adopt(self.gateway.config, waiting, marks, self.jobs.faults)
        await self._open_recipient(name)

    def _replace_lines(self, lines: Lines, opened: list[str]) -> list[str]:
        """Poll again. Unchanged lines keep their connection, unchanged devices their statistics."""
        moved, before_lines = [], dict(self.gateway.lines)
        self.gateway.lines.clear()
        self.gateway.lines.update(lines)
        for name, line in lines.items():
            if name in opened:
                self._serve_line(line)
                self._start_polling(line)
                continue
            before = before_lines[name]
            line.link, line.proposals = before.link, before.proposals
            same = {
                device: before.devices[device]
                for device in line.devices
                if device in before.devices
                and before.devices[device].points == line.devices[device].points
            }
            if len(same) != len(line.devices) or len(same) != len(before.devices):
                moved.append(name)
            line.devices.update(same)
            if before.poller is not None:
                line.poller = new_poller(self.gateway, line, before.poller)
            self._go_on_polling(line)
        return moved

    async def reopen(self) -> None:
        """See Daemon: the cause may be gone."""
        async with self.one_at_a_time:
            for name in self.gateway.config.uplinks:
                self.jobs.retry(f"spool {name}")
            for recipient in list(self.gateway.recipients.values()):
                if recipient.delivery.connected_since is None:
                    await self._deliver_anew(recipient)

    async def _deliver_anew(self, recipient: Recipient) -> None:
        """Close an uplink and open it again at once."""
        await self.jobs.stop(f"uplink {recipient.name}")
        # If its spool was closed meanwhile, the uplink starts when the spool opens again.
        if self.gateway.recipients.get(recipient.name) is recipient:
            self._start_uplink(recipient)

    async def close(self, name: str, drop: bool) -> int:
        """See Daemon. Raises Refused while the spool is not open."""
        async with self.one_at_a_time:
            gateway, recipient = self.gateway, self.gateway.recipients.get(name)
            if recipient is None:
                raise Refused(
                    "the spool of {name} is not open. To see why: gardien status", name=name
                )
            if recipient.kept:
                raise Refused(NOT_COUNTED.format(name))
            try:
                for link in gateway.lines:
                    await self._stand_still(link)
                recipient_id = recipient.settings.recipient
                gateway.recipients.closing.begin(recipient_id, gateway.clock.now())
                dropped = 0
                if drop:
                    # The spool must be closed while its files are destroyed; it opens empty.
                    dropped = await recipient.waiting()
                    await self._close_recipient(name)
                    try:
                        tokens, now = tokens_of(gateway.identity, recipient_id), gateway.clock.now()
                        spool = (gateway.config.state, recipient_id)
                        await asyncio.to_thread(destroy, *spool, now, tokens)
                    finally:
                        await self._open_recipient(name)
            finally:
                self._go_on()
            return dropped

    def timekeeper(self, gateway: Gateway) -> Timekeeper:
        """See Daemon."""
        del gateway
        return self._timekeeper

    def unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of a callback, or of a task whose result nobody reads."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self.jobs.faults.log(error, f"{context['message']}: {error_text(error)}", "event loop")

    def _serve_line(self, line: LinkDevices) -> None:
        """Keep a line open."""
        self.jobs.start(f"line {line.link.name}", line.link.serve)

    @asynccontextmanager
    async def _controls(self) -> AsyncIterator[Awaitable[object]]:
        """Open the journal, release what an earlier agent left, and run each control."""
        gateway = self.gateway
        async with open_controls(gateway) as steering:
            gateway.steering = steering
            try:
                await steering.recover()
            except Exception as error:  # noqa: BLE001 -- each control tries its release again
                self.jobs.faults.note("controls", error, "start")
            self._start_controls()
            try:
                yield asyncio.Event().wait()
            finally:
                await self._stop_controls()
                gateway.steering = NoControls()
                gateway.objects.without_controls()

    def _start_controls(self) -> None:
        """Start a task for each control."""
        if self.gateway.steering:
            for name, run in self.gateway.steering.controller.rounds().items():
                if not self.jobs.runs(name):
                    self.jobs.start(name, run)

    async def _stop_controls(self) -> None:
        """Stop the tasks of all controls."""
        for name in (*self.jobs.names("control "), *BESIDE_CONTROLS):
            await self.jobs.stop(name)

    async def _open_recipient(self, name: str) -> None:
        """Open a recipient's spool, close the slots that passed meanwhile, and start delivery."""
        await self.jobs.open(f"spool {name}", partial(self._recipient, name), uplink=name)

    @asynccontextmanager
    async def _recipient(self, name: str) -> AsyncIterator[Awaitable[object]]:
        gateway, recipients = self.gateway, self.gateway.recipients
        before = recipients.unopened.get(name)
        async with open_recipient(gateway, name, before) as recipient:
            # What goes back to `unopened` at the end: until the start has succeeded, the recipient
            # from before, so that its rows in memory are not lost.
            kept = before
            recipients.unopened.pop(name, None)
            recipients[name] = recipient
            own = jobs_of(gateway, recipient)
            try:
                await self._timekeeper.joined()
                if recipient is not before:
                    await close_passed_slots(gateway, recipient)
                kept = recipient
                self._update_pollers()
                self._start_uplink(recipient)
                for job, run in own.items():
                    self.jobs.start(f"{job} {name}", run, uplink=name)
                broken = (thread.broken() for _, thread in recipient.spools)
                yield together(recipient.intake.serve(), wait_for_disk(gateway, recipient), *broken)
            finally:
                for job in ("uplink", *own):
                    await self.jobs.stop(f"{job} {name}")
                del recipients[name]
                if kept is not None:
                    recipients.unopened[name] = kept

    async def _close_recipient(self, name: str) -> None:
        """Stop delivery to a recipient and close its spool; rows in memory are committed."""
        await self.jobs.stop(f"spool {name}")
        self.gateway.recipients.unopened.pop(name, None)
        self.gateway.disk.storage.recovered(f"{SPOOL}{name}")  # the store is no longer in use

    def _start_uplink(self, recipient: Recipient) -> None:
        name, run = recipient.name, partial(deliver, self.gateway, recipient)
        self.jobs.start(f"uplink {name}", run, uplink=name, longest=LONGEST_WAIT)

    def _update_pollers(self) -> None:
        """Give the pollers the recipients and stores that are open now."""
        gateway = self.gateway
        for poller in gateway.lines.pollers():
            poller.accounts = gateway.recipients.accounts()
            poller.unassigned = gateway.unsent.get("shelf")
            poller.midnight_readings = gateway.unsent.get("registers")
            poller.wake()

    def _start_polling(self, line: LinkDevices) -> None:
        """Poll the devices of a line."""
        line.poller = new_poller(self.gateway, line)
        self._go_on_polling(line)

    def _go_on_polling(self, line: LinkDevices) -> None:
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
        for slot_account in self.gateway.recipients.accounts():
            for key in [key for key in slot_account.ledger.marks if key[0] in line.devices]:
                if clock.dates:
                    change = partial(slot_account.ledger.catch_up, key, clock.now(), Why.AGENT)
                    slot_account.take(key, change, self.jobs.faults)
                    await slot_account.ingest.room()

    async def _stand_still(self, name: str) -> None:
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

    def _go_on(self) -> None:
        """Serve and poll every line that was stopped."""
        for name, line in self.gateway.lines.items():
            if not self.jobs.runs(f"line {name}"):
                self._serve_line(line)
            if not self.jobs.runs(f"poll {name}"):
                if line.poller is not None:
                    line.poller = new_poller(self.gateway, line, line.poller)
                self._go_on_polling(line)

    async def _take_what_waited(self) -> None:
        """Try waiting signed objects again, and reopen a trust store that cannot be read.

        An object waits if it came before the fact or the time on which it depends. Never returns.
        """
        objects, clock = self.gateway.objects, self.gateway.clock
        woken = Wakeup(clock.changed, objects.broke)
        while True:
            if objects.is_broken and objects.inbox:
                objects.reopen()
            try:
                await objects.registry_changed()
            except Exception as error:
                if is_damage(error):
                    objects.note_broken()
                raise
            # an object may wait for a time
            await woken.wait(to_next(WAITING_EVERY))

    async def _renew_certificate(self) -> None:
        """Renew the certificate in time, if there is one. Never returns."""
        gateway = self.gateway
        state, who, clock = gateway.config.state, gateway.identity.gateway, gateway.clock
        await calls.keep_valid(state, who, clock, lambda: gateway.config.enrolment)


def open_controls(gateway: Gateway) -> AbstractAsyncContextManager[Steering]:
    """Open the journal of the controls. Nothing is written to a device yet."""
    lines, registry, clock = gateway.lines, gateway.registry, gateway.clock
    who, inbox = gateway.identity, gateway.objects.inbox

    def audit(kind: str, body: Mapping[str, Any]) -> None:
        gateway.flight.note(kind.replace(".", "-"), str(body.get("control", "")))
        gateway.audit(kind, body)

    return open_steering(
        gateway.config,
        clock,
        lambda place: link_to(lines, gateway.config, place),
        lines.latest,
        audit,
        home=lambda home, device: occupied(lines, registry, int(clock.now()), home, device),
        ask=lambda name: read_guards(lines, gateway.config, name),
        witness=Key.of(who.signing_key.public_key()).kid if who else "",
        taken=inbox.trust_store.taken.all() if inbox else (),
        storage=gateway.disk.storage,
        decided=gateway.decided,
    )


def new_poller(gateway: Gateway, line: LinkDevices, before: Poller | None = None) -> Poller:
    """Make the poller of a line. Devices get the serial numbers that they last gave.

    `before`: the poller whose work the new one continues.
    """
    accounts = gateway.recipients.accounts()
    for account in accounts:
        for (name, _), mark in account.ledger.marks.items():
            if name in line.devices and mark.serial and line.devices[name].serial is None:
                line.devices[name].serial = mark.serial
    poller = Poller(
        line.link,
        list(line.devices.values()),
        accounts,
        gateway.clock,
        partial(record_serial, gateway.registry, gateway.clock),
        gateway.config.zone,
        gateway.unsent.get("shelf"),
        gateway.unsent.get("registers"),
        gateway.sums.indexes,
        gateway.jobs.faults,
        gateway.registry.installed_at,
        gateway.plausibility,
        gateway.factor_days,
        gateway.history.values,
    )
    if before is not None:
        poller.go_on_from(before)
    return poller


async def prove_factors(gateway: Gateway) -> None:
    """Record what the readings have shown about the factors of meters, once an hour."""
    while True:
        record_factors(gateway)
        await asyncio.sleep(FACTORS_EVERY)


def record_factors(gateway: Gateway) -> None:
    """Record what the readings have shown about the factors of meters since the last time."""
    points, serial, zone = gateway.config.points(), gateway.lines.serial, gateway.config.zone
    days, registry, now = gateway.factor_days, gateway.registry, gateway.clock.now()
    own: dict[str, list[str]] = {}
    for name, group in points.items():
        for point in group:
            if (point.place or "")[:1] == "B" and not point.derived and point.channel:
                own.setdefault(point.channel, []).append(name)
    # of parts of a building nobody has recorded which dwellings are behind each
    days.whole = {channel: names[0] for channel, names in own.items() if len(names) == 1}
    of = needed(points, serial, registry, int(now))
    if results := days.results(of, points, serial, registry, zone):
        registry.prove_factors(results, "gardien", "readings of a day", now)


async def must_be_possible(gateway: Gateway, new: Config) -> None:
    """Raise Refused for a change that needs a restart, or that would lose readings."""
    for section in AT_A_START:
        if getattr(gateway.config, section) != getattr(new, section):
            raise Refused(
                "`{section}` has changed and is only read at a start, so nothing was reloaded:"
                " sudo systemctl restart gardien",
                section=section,
            )
    if new.uplinks and not gateway.identity:
        raise Refused(why_absent(gateway.identity))
    for name, recipient in gateway.recipients.unopened.items():
        if recipient_in(new, name) != recipient.settings.recipient:
            raise Refused(
                "uplinks.{name}: its spool is not open, so the values that wait in it cannot be"
                " counted. Put the uplink back. Why it is not open: gardien status",
                name=name,
            )
    for name, recipient in gateway.recipients.items():
        if recipient_in(new, name) == recipient.settings.recipient:
            continue
        await _must_be_empty(recipient)


async def _must_be_empty(recipient: Recipient) -> None:
    """Raise Refused while anything waits for a recipient."""
    name = recipient.name
    if recipient.kept:
        raise Refused(NOT_COUNTED.format(name))
    if waits := await recipient.waiting():
        raise Refused(
            "uplinks.{name}: {waits} values still wait for {recipient}. Put the uplink back,"
            " and first: gardien uplink close {name} --drain (or --drop)",
            name=name,
            waits=waits,
            recipient=recipient.settings.recipient,
        )
    if retractions := await recipient.unreceipted_retractions():
        raise Refused(
            "uplinks.{name}: {number} retractions still wait for {recipient}. Put the uplink"
            " back, and first: gardien uplink close {name} --drain (or --drop)",
            name=name,
            number=retractions,
            recipient=recipient.settings.recipient,
        )


def changed_settings(old: Config, new: Config) -> list[str]:
    """Return the changed options of the sections that are read at each use, such as
    `building.roles`. A section that was added or removed is named as a whole.
    """
    changed: list[str] = []
    for section in IN_PLACE:
        before, after = getattr(old, section), getattr(new, section)
        if before is None or after is None:
            changed += [section] if before is not after else []
            continue
        options = type(after).model_fields
        changed += [
            f"{section}.{option}"
            for option in options
            if getattr(before, option) != getattr(after, option)
        ]
    return changed


def adopt(
    new: Config, recipient: Recipient, marks: Mapping[MarkKey, SlotMark], faults: Faults
) -> None:
    """Give a recipient the points, rules and transport of the new configuration."""
    uplink = new.uplinks[recipient.name]
    # Faults of devices that are no longer configured would stay for ever.
    faults.forget(f"rows {recipient.name}")
    points, withholds = points_by_key(new.points()), uplink.withheld
    refuses = uplink.unproven == "withhold"
    recipient.ledger.renew(
        points, marks, policy_of(new), new.zone, withholds=withholds, refuses_unproven=refuses
    )
    recipient.intake.take((), recipient.ledger.moved(marks))
    recipient.settings, recipient.transport = uplink.settings, uplink.transport


def recipient_in(config: Config, name: str) -> str | None:
    """Return the recipient of an uplink; None if there is no such uplink."""
    uplink = config.uplinks.get(name)
    return uplink.settings.recipient if uplink else None
