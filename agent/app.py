"""Run the agent: open everything in order, serve, and close in the opposite order."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from agent.api import backup, calls, syndic
from agent.buffer import orphaned_spools
from agent.config import load
from agent.config.strictcheck import refuse_start
from agent.control.writer import FILE
from agent.core.atomic_write import SILENT, DiskWriter, later
from agent.core.clock import Clock, monotonic
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.core.state import AGENT, PATIENCE, on_trial, owned
from agent.core.storage import PROBED_EVERY, Storage, probed, volatile
from agent.core.systemd import notify, watchdog_period
from agent.core.tasks import end, error_text
from agent.gateway import supervisor
from agent.gateway.backup_file import BuildingFile
from agent.gateway.data_usage import Traffic
from agent.gateway.export_log import Exports
from agent.gateway.gateway import Gateway, open_steering, policy_of
from agent.gateway.lines import lines_of
from agent.gateway.post_restore_gate import PostRestoreGate
from agent.gateway.reload import reload
from agent.gateway.supervisor import Running, running
from agent.gateway.uplink_changes import Moves, UplinkShutdown
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
    from pathlib import Path
    from typing import Any

    from agent.config import Config
    from agent.registry.identity import Identity

log = logging.getLogger(__name__)

REGISTRY = "the registry"
NOTES = "registry.json"
"""file in memory, outside the state directory: changes that could not be written to the disk"""
WRITTEN_WITHIN = 5.0
"""seconds that a shutdown waits until small files are written"""
LOCK_LOOK = 10.0
"""seconds between two checks that the lock of the state is still ours"""
LOST = "%s/lock was removed or replaced. Another agent may own the state, so this agent stops"
LONGEST_REST = 3600.0
"""seconds between two rounds of the watchdog task if systemd asks for no notification"""


@asynccontextmanager
async def visited(config_path: Path, state: Path | None = None) -> AsyncIterator[Gateway]:
    """Open the gateway for one call when no daemon runs.

    The registry is open and nothing is polled. A line is opened when the call uses it. `state`: the
    state directory, if not the one that the configuration names. Raises Refused.
    """
    with _open_gateway(_with_state(load(config_path), state)) as gateway:
        # These tasks wait until the call needs the line: a call about the registry opens no bus.
        lines = [
            asyncio.ensure_future(line.link.serve_if_wanted()) for line in gateway.lines.values()
        ]
        try:
            if not gateway.config.controls and not (gateway.config.state / FILE).exists():
                yield gateway
                return
            async with open_steering(gateway) as gateway.steering:
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
    with owned(config.state, AGENT, PATIENCE) as lock_held:
        # Listen only now. While we wait for the lock, SIGTERM must end the process at once.
        stop_requested, started = _listen(signal.SIGTERM, signal.SIGINT), asyncio.Event()
        until_stopped = partial(_until_stopped, stop_requested, lock_held, config.state)
        service = asyncio.ensure_future(
            _serve(config, config_path, serve_socket, (until_stopped, reload_requested), started)
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
    config: Config,
    config_path: Path,
    serve_socket: Callable[[Gateway, Path], Coroutine[Any, Any, None]],
    signals: tuple[Callable[[], Awaitable[str]], asyncio.Event],
    started: asyncio.Event,
) -> None:
    """Run the agent in a locked state directory.

    `signals`: waits until the agent must stop and returns the reason, empty if it was asked to; and
    the event that asks for a reload. Raises Refused after a shutdown that nobody asked for.
    """
    until_stopped, reload_requested = signals
    with _open_gateway(config) as gateway:
        if why := probed(config.state):
            gateway.storage.failed(REGISTRY, why)
        gateway.registry.begin_notes(failing=bool(why))
        async with running(gateway, config_path) as here:
            started.set()
            gateway.reload = partial(reload, here)
            gateway.describe = partial(calls.status, gateway, calls.NOBODY)
            here.jobs.start("local socket", partial(serve_socket, gateway, config.state))
            here.jobs.start("reload", partial(_reload_on_signal, here, reload_requested))
            here.jobs.start("backup", partial(backup.keep, gateway, config_path))
            here.jobs.start(syndic.COMPONENT, partial(syndic.keep, gateway))
            here.jobs.start("clock", gateway.clock.serve)
            here.jobs.start("storage", partial(_tend_storage, gateway))
            here.jobs.start("registry log", partial(keep_log_short, gateway.registry))
            here.jobs.start("watchdog", partial(_watchdog, gateway))
            notify("READY=1")
            lost = await until_stopped()
            # Release before `running` closes the lines: afterwards no device can be written to.
            await _release_controls(gateway)
            log.info("stopping: waiting readings are committed", extra=fields(LogEvent.STOPPING))
            notify("STOPPING=1")
            gateway.clock.remember()
            gateway.traffic.remember(gateway.clock.now())
            await asyncio.to_thread(later.settle, WRITTEN_WITHIN)
    if lost:
        raise Refused(lost)


async def _until_stopped(
    stop_requested: asyncio.Event, lock_held: Callable[[], bool], state: Path
) -> str:
    """Return "" when asked to stop, or the reason when the lock of the state was lost."""
    while not stop_requested.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(LOCK_LOOK):
                await stop_requested.wait()
        if not lock_held():
            log.error(LOST, state, extra=fields(LogEvent.LOCK_LOST))
            return LOST % state
    return ""


def _trust_hash(gateway: Gateway) -> str:
    trust = gateway.inbox.trust_store.trust if gateway.inbox else None
    return trust.sha256 if trust else ""


@contextmanager
def _open_gateway(config: Config) -> Iterator[Gateway]:
    who, moved = None, False
    if (config.state / identity.KEYS).exists():
        who, moved = identity.bind(config.state, machine_id())
    clock = Clock(config.clock.source, config.state / "clock.json")
    storage, memory_folder = Storage(clock.now), volatile(config.state)
    registry = Registry.open(config.state / backup.REGISTRY, memory_folder / NOTES)
    _refuse_older(registry, config.state)
    _draw_marks(registry, config.state, clock.now())
    moves = Moves(config.state)
    traffic = Traffic(config.state, config.zone)
    gateway = Gateway(
        config,
        who,
        registry,
        clock,
        lines_of(config),
        {},
        clock.now(),
        traffic,
        moves,
        UplinkShutdown(config.state),
        AccessLog(config.state / "looks.jsonl", clock.now()),
        storage=storage,
    )
    DiskWriter.silent = partial(_silence, storage)
    gateway.restored = PostRestoreGate(config.state)
    gateway.building = BuildingFile(config.state)
    gateway.exports = Exports(config.state)
    gateway.notes = open_notes(config.state, clock, who, moved=moved)
    gateway.notes.registry_changed(registry)
    gateway.cursors = Cursors(config.state / base.FILE, lambda: _trust_hash(gateway))
    with ExitStack() as stack:
        if who is not None:
            gateway.open_trust_store = partial(_open_trust_store, gateway, who, stack)
            gateway.open_trust_store()
        yield gateway


def _failure(storage: Storage) -> str:
    """Say why the disk cannot be written; empty if it can."""
    return next((one.reason for one in storage.faults.values()), "")


async def _tend_storage(gateway: Gateway) -> None:
    """Write to the disk, once it works again, what it could not store before. Never returns."""
    tried = monotonic()
    registry, store = gateway.registry, REGISTRY
    while True:
        await asyncio.sleep(1)
        gateway.disk_answers()
        if not registry.marked:
            _draw_marks(registry, gateway.config.state, gateway.clock.now())
        # Probe the disk at most once a minute: on a disk that hangs, a probe occupies a thread.
        waits = registry.mute or not registry.written
        if waits and store not in gateway.storage.faults:
            gateway.storage.failed(store, _failure(gateway.storage) or "the last write has failed")
        in_memory = gateway.inbox is not None and gateway.inbox.trust_store.volatile
        if not (waits or in_memory) or monotonic() - tried < PROBED_EVERY:
            continue
        tried = monotonic()
        if not await asyncio.to_thread(probed, gateway.config.state) and registry.retry():
            registry.unmute()
            gateway.storage.recovered(store)
            if in_memory:
                gateway.trust_store_broken.set()


def _draw_marks(registry: Registry, state: Path, now: float) -> None:
    """Draw the marks for withdrawals that an earlier version recorded, once the upgrade is final.

    While the upgrade is on trial, the earlier version must still be able to read the registry.
    """
    registry.marked = not on_trial(state)
    if registry.marked:
        registry.draw_marks(now)


def _silence(storage: Storage) -> str:
    """Say that the disk does not answer, if a store found that out; empty otherwise.

    The registry's own fault does not count: it is derived from those of the other stores.
    """
    others = (fault for store, fault in storage.faults.items() if store != REGISTRY)
    return SILENT if any(one.reason == SILENT for one in others) else ""


def _open_trust_store(gateway: Gateway, who: Identity, stack: ExitStack) -> None:
    """Open the trust store and the inbox. A file that cannot be read is renamed and replaced."""
    config, notes = gateway.config, gateway.notes
    assert notes is not None
    adapter = RegistryAdapter(gateway.registry, policy_of(config))
    opening = (
        config.state,
        who,
        config.building.place,
        config.trust,
        adapter,
        gateway.clock,
        notes,
    )
    stack.close()  # closes the trust store that was open before, if any
    gateway.inbox = stack.enter_context(open_inbox(*opening))
    gateway.inbox.failing = partial(_failure, gateway.storage)
    gateway.trust_store_broken.clear()


def _refuse_older(registry: Registry, state: Path) -> None:
    """Raise Refused if a spool has applied a change that the registry does not have.

    Such a registry may lack withdrawals. It would also give the numbers of the missing changes to
    new changes, and the spool would skip these.
    """
    spool, last = max(
        orphaned_spools.applied(state), key=lambda found: found[1], default=(state, 0)
    )
    if last <= registry.revision:
        return
    path, missing = state / backup.REGISTRY, last - registry.revision
    problem = f"is older than {spool.name}: it ends at change {registry.revision}"
    raise Refused(
        f"{path} {problem if path.exists() else 'is missing'}, and {spool.name} has applied change"
        f" {last}.\n"
        f"{missing} changes are missing. They may include withdrawals and moves, so gardien reads,"
        " records and sends nothing without them.\n"
        "Put the newer registry.json back with its registry-*.log, then:"
        " sudo systemctl restart gardien\n"
        'If it is lost, take it from the latest backup (replace.md, "An older registry"):'
        " sudo gardien restore FILE --key KEY --state /root/restored"
    )


async def _reload_on_signal(here: Running, reload_requested: asyncio.Event) -> None:
    """Reload at each SIGHUP. If the file is refused, log why and keep the old configuration."""
    while True:
        await reload_requested.wait()
        reload_requested.clear()
        try:
            await reload(here)
        except Refused as error:
            for line in str(error).splitlines():
                log.error(  # noqa: TRY400 -- no bug
                    "configuration not reloaded: %s", line, extra=fields(LogEvent.RELOAD_REFUSED)
                )


async def _watchdog(gateway: Gateway) -> None:
    """Notify systemd's watchdog twice as often as it asks; stop notifying once a component hangs.

    systemd then ends the process (SIGABRT) and starts it again. Nothing accepted is lost: it is on
    the disk.
    """
    period, hung = watchdog_period(), False
    while True:
        await asyncio.sleep(period or LONGEST_REST)
        late = supervisor.late(gateway, monotonic())
        if late and not hung:
            log.error(
                "gardien hangs: %s. If this lasts, systemd restarts it", ", ".join(late),
                extra=fields(LogEvent.COMPONENT_HANGS),
            )  # fmt: skip
        hung = bool(late)
        if period and not hung:
            notify("WATCHDOG=1")


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
    if gateway.steering is not None:
        try:
            await gateway.steering.end()
        except Exception as error:  # noqa: BLE001 -- the rest is closed all the same
            why = (
                f"not all controls were released: {error_text(error)}. To release them:"
                " gardien control release --all"
            )
            gateway.jobs.faults.log(error, why, "controls")
