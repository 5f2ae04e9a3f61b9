"""Run the agent: open everything in order, serve, and close in the opposite order."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from agent.acquisition.factors import FactorDays
from agent.acquisition.plausibility import FILE as PLAUSIBILITY
from agent.acquisition.plausibility import Plausibility
from agent.api import backup, calls, privacy, syndic
from agent.buffer import orphaned_spools
from agent.config import load
from agent.config.strictcheck import refuse_start
from agent.control.writer import FILE
from agent.core.atomic_write import SILENT, DiskWriter, StateFile, later
from agent.core.clock import Clock, monotonic
from agent.core.errors import Refused, StorageFailed
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.core.state import AGENT, PATIENCE, on_trial, owned
from agent.core.storage import PROBED_EVERY, disk_stated, probed, volatile
from agent.core.systemd import notify
from agent.core.tasks import LOOK, Wakeup, end, error_text, to_next, until
from agent.gateway import flight_recorder, liveness, plant_history
from agent.gateway.acknowledged import Acknowledgements
from agent.gateway.backup import BuildingFile, PostRestoreGate
from agent.gateway.disk import REGISTRY, StateDisk
from agent.gateway.export_log import Exports
from agent.gateway.first_seen import FirstSeen
from agent.gateway.flight_recorder import FlightRecorder
from agent.gateway.gateway import DwellingSums, Gateway, Recipients, policy_of
from agent.gateway.lines import lines_of, mapped
from agent.gateway.page_logins import PageLogins
from agent.gateway.signed_objects import SignedObjects
from agent.gateway.supervisor import Running, open_controls, running
from agent.gateway.uplink_state import Moves, Traffic, UplinkShutdown
from agent.inbox.registry_adapter import RegistryAdapter
from agent.inbox.setup import machine_id, open_inbox, open_notes
from agent.registry import identity
from agent.registry.access_log import AccessLog
from agent.registry.background_change import keep_log_short
from agent.registry.registry import Registry
from agent.uplink import base
from agent.uplink.base import Cursors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path
    from typing import Any

    from agent.config import Config
    from agent.inbox.inbox import Inbox

log = logging.getLogger(__name__)

NOTES = "registry.json"
"""file in memory, outside the state directory: changes that could not be written to the disk"""
WRITTEN_WITHIN = 5.0
"""seconds that a shutdown waits until small files are written"""
LOCK_LOOK = LOOK
"""seconds between two checks that the lock of the state is still ours"""
ILL_LOOK = 1.0
"""seconds between two looks at stores that cannot be written"""
LOST = "%s/lock was removed or replaced. Another agent may own the state, so this agent stops"


@asynccontextmanager
async def visited(config_path: Path, state: Path | None = None) -> AsyncIterator[Gateway]:
    """Open the gateway for one call when no daemon runs.

    The registry is open and nothing is polled. A line is opened when the call uses it. `state`: the
    state directory, if not the one that the configuration names. Raises Refused.
    """
    with opened(_with_state(load(config_path), state)) as gateway:
        gateway.daemon.path = config_path
        # These tasks wait until the call needs the line: a call about the registry opens no bus.
        lines = [
            asyncio.ensure_future(line.link.serve_if_wanted()) for line in gateway.lines.values()
        ]
        try:
            if not gateway.config.controls and not (gateway.config.state / FILE).exists():
                yield gateway
                return
            async with open_controls(gateway) as gateway.steering:
                yield gateway
        finally:
            await end(lines)


def _with_state(config: Config, state: Path | None) -> Config:
    if state is None or state.resolve() == config.state.resolve():
        return config
    return config.model_copy(update={"state": state})


async def run(
    config_path: Path, serve_socket: Callable[[Gateway, Path], Coroutine[Any, Any, None]]
) -> None:
    """Run the agent until SIGTERM or SIGINT. Commit what waits before returning.

    systemd gets READY once the stores are open, whether or not devices, brokers and a time service
    answer. SIGHUP reads the configuration again. An error in one component does not end the agent
    (docs/decisions/030). Raises Refused if the configuration is wrong, if another daemon owns the
    state, or if the registry is older than a spool; also after an orderly shutdown because the lock
    of the state was lost.
    """
    config = load(config_path)
    refuse_start(config)
    reload_requested = _listen(signal.SIGHUP)
    with (
        owned(config.state, AGENT, PATIENCE) as lock_held,
        FlightRecorder(config.state).recording(config) as flight,
    ):
        # Listen only now. While we wait for the lock, SIGTERM must end the process at once.
        stop_requested, started = _listen(signal.SIGTERM, signal.SIGINT), asyncio.Event()
        opening = partial(opened, config, flight=flight)
        until_stopped = partial(_until_stopped, stop_requested, lock_held, config.state)
        service = asyncio.ensure_future(
            _serve(opening, config_path, serve_socket, (until_stopped, reload_requested), started)
        )
        stopping = asyncio.ensure_future(_stop_start(stop_requested, started, service))
        try:
            # `wait` and not `await service`: a start that `_stop_start` cancels is a normal end.
            await asyncio.wait([service])
        finally:
            await end([service, stopping])
        if not service.cancelled():
            service.result()


async def _serve(
    opening: Callable[[], AbstractContextManager[Gateway]],
    config_path: Path,
    serve_socket: Callable[[Gateway, Path], Coroutine[Any, Any, None]],
    signals: tuple[Callable[[], Awaitable[str]], asyncio.Event],
    started: asyncio.Event,
) -> None:
    """Run the agent in a locked state directory.

    `opening`: opens all that needs no task. `signals`: waits until the agent must stop and returns
    the reason, empty if it was asked to; and the event that asks for a reload. Raises Refused after
    a shutdown that nobody asked for.
    """
    until_stopped, reload_requested = signals
    with opening() as gateway:
        config = gateway.config
        if why := _asked(config.state):
            gateway.disk.storage.failed(REGISTRY, why)
        gateway.registry.begin_notes(failing=bool(why))
        async with running(gateway, config_path) as here:
            started.set()
            description = calls.Description(gateway)
            here.describe = description.get
            here.jobs.start("local socket", partial(serve_socket, gateway, config.state))
            here.jobs.start("reload", partial(_reload_on_signal, here, reload_requested))
            here.jobs.start("backup", partial(backup.keep, gateway, config_path))
            here.jobs.start(syndic.COMPONENT, partial(syndic.keep, gateway))
            if gateway.identity:
                await here.jobs.open(plant_history.COMPONENT, partial(_history, gateway))
            here.jobs.start("clock", gateway.clock.serve)
            here.jobs.start("diagnosis", partial(calls.diagnose, description, gateway.waits.status))
            here.jobs.start("storage", partial(_tend_storage, gateway))
            here.jobs.start(flight_recorder.COMPONENT, gateway.flight.serve)
            here.jobs.start("registry log", partial(keep_log_short, gateway.registry))
            here.jobs.start("watchdog", partial(liveness.watch, gateway))
            notify("READY=1")
            lost = await until_stopped()
            # Release before `running` closes the lines: afterwards no device can be written to.
            await _release_controls(gateway)
            log.info("stopping: waiting readings are committed", extra=fields(LogEvent.STOPPING))
            notify("STOPPING=1")
            await gateway.disk.ask()
            gateway.clock.remember()
            gateway.traffic.remember(gateway.clock.now())
            with suppress(OSError):  # a disk that is known to hang is not waited for again
                DiskWriter.must_answer()
                await asyncio.to_thread(later.settle, WRITTEN_WITHIN)
    if lost:
        raise Refused(lost)


def _asked(state: Path) -> str:
    """Why the disk cannot be written; empty if it can. Waits for it as long as for any write."""
    try:
        return DiskWriter.make(partial(probed, state))
    except OSError:
        return SILENT


def _history(gateway: Gateway) -> AbstractAsyncContextManager[Awaitable[object]]:
    """Open the history; what is common is known where people ask for it, in a higher layer."""
    return plant_history.serve_history(gateway, partial(privacy.is_common, gateway))


async def _until_stopped(
    stop_requested: asyncio.Event, lock_held: Callable[[], bool], state: Path
) -> str:
    """Return "" when asked to stop, or the reason when the lock of the state was lost."""
    while not stop_requested.is_set():
        await until(stop_requested, to_next(LOCK_LOOK))
        if not lock_held():
            log.error(LOST, state, extra=fields(LogEvent.LOCK_LOST))
            return LOST % state
    return ""


@contextmanager
def opened(
    config: Config, clock: Clock | None = None, flight: FlightRecorder | None = None
) -> Iterator[Gateway]:
    """Open all that needs no task: everything that is open is opened here, in this order.

    `clock`: of a simulation; otherwise the clock of this machine. `flight`: a flight recorder that
    is recording. Raises Refused, also if the disk fails (rule A16).
    """
    with ExitStack() as stack:
        with disk_stated(config.state):
            gateway = stack.enter_context(_opened(config, clock, flight))
        yield gateway


@contextmanager
def _opened(
    config: Config, clock: Clock | None, flight: FlightRecorder | None
) -> Iterator[Gateway]:
    state, moved = config.state, False
    who = identity.absent(state)
    if (state / identity.KEYS).exists():
        who, moved = identity.bind(state, machine_id())
    clock = clock or Clock(
        config.clock.source, state / "clock.json", notes=volatile(state) / "clock.json"
    )
    disk = StateDisk(state, clock.now)
    registry = Registry.open(state / backup.REGISTRY, volatile(state) / NOTES)
    _refuse_older(registry, state)
    _draw_marks(registry, state, clock.now())
    moves, traffic, lines = Moves(state), Traffic(state, config.zone), lines_of(config)
    recipients, started = Recipients(UplinkShutdown(state)), clock.now()
    access_log = AccessLog(state / "looks.jsonl", clock.now())
    DiskWriter.silent = disk.silence
    restored, building, exports = PostRestoreGate(state), BuildingFile(state), Exports(state)
    audit = open_notes(state, clock, who, moved=moved)
    audit.registry_changed(registry)
    objects = SignedObjects(
        registry,
        audit,
        disk.ask,
        lambda: mapped(lines, registry, int(clock.now())),
        lambda: gateway.steering,
    )
    cursors = Cursors(state / base.FILE, lambda: _trust_hash(objects.inbox))
    parts = (access_log, restored, building, exports, audit, cursors, objects)
    gateway = Gateway(
        config, who, clock, disk, registry, moves, traffic, lines, started, recipients, *parts,
        DwellingSums(registry), FactorDays(), FirstSeen(state, clock),
        Acknowledgements(state, clock), Plausibility(state / PLAUSIBILITY, config.devices),
        PageLogins(state, clock.steady, audit), flight=flight or FlightRecorder(),
    )  # fmt: skip
    with objects.open(partial(_open_inbox, gateway)) if who else nullcontext():
        yield gateway


def _trust_hash(inbox: Inbox) -> str:
    trust = inbox.trust_store.trust if inbox else None
    return trust.sha256 if trust else ""


@contextmanager
def _open_inbox(gateway: Gateway) -> Iterator[Inbox]:
    config, adapter = gateway.config, RegistryAdapter(gateway.registry, policy_of(gateway.config))
    opening = (config.state, gateway.identity, config.building.place, config.trust, adapter)
    with open_inbox(*opening, gateway.clock, gateway.audit) as inbox:
        inbox.failing = gateway.disk.failure
        yield inbox


async def _tend_storage(gateway: Gateway) -> None:
    """Write to the disk, once it works again, what it could not store before. Never returns."""
    tried = monotonic()
    registry, store, disk, objects = gateway.registry, REGISTRY, gateway.disk, gateway.objects
    wakeup, ill = Wakeup(registry.changed, disk.storage.changed, objects.changed), True
    while True:
        # the end of a fault, or of an upgrade on trial, is seen only by looking
        await wakeup.wait(ILL_LOOK if ill else to_next(LOOK))
        disk.look()
        if not registry.marked:
            _draw_marks(registry, gateway.config.state, gateway.clock.now())
        # Probe the disk at most once a minute: on a disk that hangs, a probe occupies a thread.
        waits = registry.mute or not registry.written
        if waits and store not in disk.storage.faults:
            disk.storage.failed(store, disk.failure() or "the last write has failed")
        in_memory = bool(objects.inbox) and objects.inbox.trust_store.volatile
        unread = sorted(StateFile.unread, key=lambda file: file.name)
        ill = waits or in_memory or bool(disk.storage.faults or unread) or not registry.marked
        # an object that has arrived meanwhile may have written the registry
        failed = waits or store in disk.storage.faults
        if not (failed or in_memory or unread) or monotonic() - tried < PROBED_EVERY:
            continue
        tried = monotonic()
        for file in unread:
            with suppress(StorageFailed):
                (await disk.read(file.read_again))()
        if not await asyncio.to_thread(probed, gateway.config.state) and registry.retry():
            registry.unmute()
            disk.storage.recovered(store)
            if in_memory:
                objects.note_broken()


def _draw_marks(registry: Registry, state: Path, now: float) -> None:
    """Draw the marks for withdrawals that an earlier version recorded, once the upgrade is final.

    While the upgrade is on trial, the earlier version must still be able to read the registry.
    """
    registry.marked = not on_trial(state)
    if registry.marked:
        registry.draw_marks(now)


def _refuse_older(registry: Registry, state: Path) -> None:
    """Raise Refused if a spool has applied a change that the registry does not have.

    Such a registry may lack withdrawals. It would also give the numbers of the missing changes to
    new changes, and the spool would skip these. Where the disk does not answer, each recipient
    compares them as it opens its spool.
    """
    spools: list[tuple[Path, int]] = []
    with suppress(OSError):
        spools = DiskWriter.make(lambda: list(orphaned_spools.applied(state)))
    spool, last = max(spools, key=lambda found: found[1], default=(state, 0))
    if last <= registry.revision:
        return
    path, missing = state / backup.REGISTRY, last - registry.revision
    older = Text(
        "is older than {name}: it ends at change {number}",
        name=spool.name,
        number=registry.revision,
    )
    raise Refused(
        "{path} {value}, and {name} has applied change {last}.\nMissing"
        " changes: {missing}. They may include withdrawals and moves, so gardien reads, records and"
        " sends nothing without them.\nPut the newer registry.json back with its"
        " registry-*.log, then: sudo systemctl restart gardien\nIf it is lost, take it"
        ' from the latest backup (replace.md, "An older registry"): sudo gardien restore'
        " FILE --key KEY --state /root/restored",
        path=path,
        value=older if path.exists() else Text("is missing"),
        name=spool.name,
        last=last,
        missing=missing,
    )


async def _reload_on_signal(here: Running, reload_requested: asyncio.Event) -> None:
    """Reload at each SIGHUP. If the file is refused, log why and keep the old configuration."""
    while True:
        await reload_requested.wait()
        reload_requested.clear()
        try:
            await here.reload()
        except Refused as error:
            for line in str(error).splitlines():
                log.error(  # noqa: TRY400 -- no bug
                    "configuration not reloaded: %s", line, extra=fields(LogEvent.RELOAD_REFUSED)
                )


def _listen(*numbers: signal.Signals) -> asyncio.Event:
    """Return an event that these signals set. Call it before READY: a signal may follow at once."""
    received, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, received.set)
    return received


async def _stop_start(
    stop_requested: asyncio.Event, started: asyncio.Event, service: asyncio.Future[None]
) -> None:
    """Cancel the start if a stop is requested meanwhile; once all is open, `_serve` stops."""
    await stop_requested.wait()
    if not started.is_set():
        log.info("stopping while still starting", extra=fields(LogEvent.STOPPING))
        await end([service])


async def _release_controls(gateway: Gateway) -> None:
    """Release all controls while the lines are still open."""
    if gateway.steering:
        try:
            await gateway.steering.end()
        except Exception as error:  # noqa: BLE001 -- the rest is closed all the same
            why = (
                f"not all controls were released: {error_text(error)}. To release them:"
                " gardien control release --all"
            )
            gateway.jobs.faults.log(error, why, "controls")
