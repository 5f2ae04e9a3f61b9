"""The agent running: what opens in what order, and what ends in the opposite one."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from agent import backup, calls, liveness, syndic
from agent.atomic_write import SILENT, DiskWriter, later
from agent.backup_file import BuildingFile
from agent.buffer import orphaned_spools
from agent.clock import Clock, monotonic
from agent.config import load
from agent.config.sample import refuse_start
from agent.data_usage import Traffic
from agent.errors import Refused
from agent.export_log import Exports
from agent.gateway import Gateway, open_steering, policy_of
from agent.inbox.registry_adapter import RegistryAdapter
from agent.inbox.setup import machine_id, open_inbox, open_notes
from agent.lines import lines_of
from agent.log_fields import LogEvent, fields
from agent.post_restore_gate import PostRestoreGate
from agent.registry import identity
from agent.registry.access_log import AccessLog
from agent.registry.registry import Registry
from agent.reload import reload
from agent.state import AGENT, PATIENCE, judged, owned
from agent.steering.setup import FILE
from agent.storage import PROBED_EVERY, Storage, probed, volatile
from agent.supervisor import Running, running
from agent.systemd import notify, watchdog_period
from agent.tasks import end, said
from agent.uplink import cursors
from agent.uplink.cursors import Cursors
from agent.uplink_migration import Moves
from agent.uplink_shutdown import UplinkShutdown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
    from pathlib import Path
    from typing import Any

    from agent.config import Config
    from agent.registry.identity import Identity

log = logging.getLogger(__name__)

REGISTRY = "the registry"
NOTES = "registry.json"
"""beside the state, in memory: what the disk has not taken of the registry"""
WRITTEN_WITHIN = 5.0
"""seconds that an end waits for small files"""
LOCK_LOOK = 10.0
"""seconds between two looks whether the state is still ours"""
LOST = "%s/lock was removed or replaced, so that another agent may own the state: this one ends"
LONGEST_REST = 3600.0
"""seconds between two looks of the watchdog where nobody asks for more"""


@asynccontextmanager
async def visited(config_path: Path, state: Path | None = None) -> AsyncIterator[Gateway]:
    """The house without a daemon, for one call: registry open, nothing polled, of the lines only
    those open that the call uses.

    `state`: another one than the configuration names.
    """
    with _house(_at(load(config_path), state)) as house:
        lines = [
            asyncio.ensure_future(line.link.serve_if_wanted()) for line in house.lines.values()
        ]
        try:
            if not house.config.controls and not (house.config.state / FILE).exists():
                yield house
                return
            async with open_steering(house) as house.steering:
                yield house
        finally:
            await end(lines)


def _at(config: Config, state: Path | None) -> Config:
    if state is None or state.resolve() == config.state.resolve():
        return config
    return config.model_copy(update={"state": state})


async def run(
    config_path: Path, door: Callable[[Gateway, Path], Coroutine[Any, Any, None]]
) -> None:
    """Run the agent until SIGTERM or SIGINT; what waits is committed before the end.

    READY is said once the stores are open: no device, broker or clock is needed for it. SIGHUP
    reads the configuration again. No error of one component ends it (docs/decisions/030). Raises
    Refused where the configuration is wrong, another daemon owns the state, or the registry is
    older than a spool; later, after an orderly end, where the lock of the state was lost.
    """
    config = load(config_path)
    refuse_start(config)
    again = _listen(signal.SIGHUP)
    with owned(config.state, AGENT, PATIENCE) as holds:
        # not before: while the lock is waited for, SIGTERM ends the process at once
        told, started = _listen(signal.SIGTERM, signal.SIGINT), asyncio.Event()
        watching = partial(_until_told, told, holds, config.state)
        serving = asyncio.ensure_future(
            _serve(config, config_path, door, (watching, again), started)
        )
        stopping = asyncio.ensure_future(_stop_start(told, started, serving))
        try:
            await asyncio.wait([serving])
        finally:
            await end([serving, stopping])
        if not serving.cancelled():
            serving.result()


async def _serve(
    config: Config,
    config_path: Path,
    door: Callable[[Gateway, Path], Coroutine[Any, Any, None]],
    signals: tuple[Callable[[], Awaitable[str]], asyncio.Event],
    started: asyncio.Event,
) -> None:
    """Run the agent in a state directory that is locked; `signals`: to end, and to reload.

    Raises Refused after an end that nobody wanted.
    """
    until_told, again = signals
    with _house(config) as house:
        if why := probed(config.state):
            house.storage.failed(REGISTRY, why)
        house.registry.begin_notes(failing=bool(why))
        async with running(house, config_path) as here:
            started.set()
            house.reload = partial(reload, here)
            house.describe = partial(calls.status, house, calls.NOBODY)
            here.jobs.start("local socket", partial(door, house, config.state))
            here.jobs.start("reload", partial(_reloads, here, again))
            here.jobs.start("backup", partial(backup.keep, house, config_path))
            here.jobs.start(syndic.COMPONENT, partial(syndic.keep, house))
            here.jobs.start("clock", house.clock.serve)
            here.jobs.start("storage", partial(_tend_storage, house))
            here.jobs.start("watchdog", partial(_watchdog, house))
            notify("READY=1")
            lost = await until_told()
            await _give_back(house)
            log.info("told to end: committing what waits", extra=fields(LogEvent.STOPPING))
            notify("STOPPING=1")
            house.clock.remember()
            house.traffic.remember(house.clock.now())
            await asyncio.to_thread(later.settle, WRITTEN_WITHIN)
    if lost:
        raise Refused(lost)


async def _until_told(told: asyncio.Event, holds: Callable[[], bool], state: Path) -> str:
    """Return when told to end; or when the lock of the state was lost, and then why to end."""
    while not told.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(LOCK_LOOK):
                await told.wait()
        if not holds():
            log.error(LOST, state, extra=fields(LogEvent.LOCK_LOST))
            return LOST % state
    return ""


def _trusted(house: Gateway) -> str:
    trust = house.reception.trust_store.trust if house.reception else None
    return trust.sha256 if trust else ""


@contextmanager
def _house(config: Config) -> Iterator[Gateway]:
    who, moved = None, False
    if (config.state / identity.KEYS).exists():
        who, moved = identity.bind(config.state, machine_id())
    clock = Clock(config.clock.source, config.state / "clock.json")
    storage, beside = Storage(clock.now), volatile(config.state)
    registry = Registry.open(config.state / backup.REGISTRY, beside / NOTES)
    _refuse_older(registry, config.state)
    _mark(registry, config.state, clock.now())
    moves = Moves(config.state)
    traffic = Traffic(config.state, config.zone)
    house = Gateway(
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
    house.restored = PostRestoreGate(config.state)
    house.building = BuildingFile(config.state)
    house.exports = Exports(config.state)
    house.notes = open_notes(config.state, clock, who, moved=moved)
    house.notes.registry_changed(registry)
    house.cursors = Cursors(config.state / cursors.FILE, lambda: _trusted(house))
    with ExitStack() as stack:
        if who is not None:
            house.open_book = partial(_open_book, house, who, stack)
            house.open_book()
        yield house


def _failure(storage: Storage) -> str:
    """Why the disk takes nothing; empty: it does."""
    return next((one.reason for one in storage.faults.values()), "")


async def _tend_storage(house: Gateway) -> None:
    """Bring to the disk, once it is well, what it has not taken."""
    tried = monotonic()
    registry, store = house.registry, REGISTRY
    while True:
        await asyncio.sleep(1)
        house.disk_answers()
        if not registry.marked:
            _mark(registry, house.config.state, house.clock.now())
        waits = registry.mute or not registry.written
        if waits and store not in house.storage.faults:
            house.storage.failed(store, _failure(house.storage) or "it was not written")
        volatile_book = house.reception is not None and house.reception.trust_store.volatile
        if not (waits or volatile_book) or monotonic() - tried < PROBED_EVERY:
            continue
        tried = monotonic()
        if not await asyncio.to_thread(probed, house.config.state) and registry.retry():
            registry.unmute()
            house.storage.recovered(store)
            if volatile_book:
                house.book_broken.set()


def _mark(registry: Registry, state: Path, now: float) -> None:
    """Draw the marks of withdrawals that an earlier version has left, once the upgrade stands."""
    registry.marked = not judged(state)
    if registry.marked:
        registry.draw_marks(now)


def _silence(storage: Storage) -> str:
    """Why the disk does not answer; empty: it does. The registry hears it from the others."""
    others = (fault for store, fault in storage.faults.items() if store != REGISTRY)
    return SILENT if any(one.reason == SILENT for one in others) else ""


def _open_book(house: Gateway, who: Identity, stack: ExitStack) -> None:
    """Open what takes signed objects; a file that cannot be read is set aside."""
    config, notes = house.config, house.notes
    assert notes is not None
    papers = RegistryAdapter(house.registry, policy_of(config))
    opening = (config.state, who, config.building.place, config.trust, papers, house.clock, notes)
    stack.close()
    house.reception = stack.enter_context(open_inbox(*opening))
    house.reception.failing = partial(_failure, house.storage)
    house.book_broken.clear()


def _refuse_older(registry: Registry, state: Path) -> None:
    """Raise Refused where a spool has applied a change that the registry does not have.

    Such a registry may lack withdrawals. It would also give the numbers of the missing changes to
    new ones, and the spool would not apply those.
    """
    spool, last = max(
        orphaned_spools.applied(state), key=lambda found: found[1], default=(state, 0)
    )
    if last <= registry.revision:
        return
    path, lacking = state / backup.REGISTRY, last - registry.revision
    found = f"is older than {spool.name}: it ends at change {registry.revision}"
    raise Refused(
        f"{path} {found if path.exists() else 'is missing'}, and {spool.name} has applied change"
        f" {last}.\n"
        f"Missing changes: {lacking}. They may include withdrawals and moves, so gardien reads,"
        " records and sends nothing without them.\n"
        "Put the newer registry.json back, then: sudo systemctl restart gardien\n"
        'If it is lost, take it from the latest building file (replace.md, "An older registry"):'
        " sudo gardien restore FILE --key KEY --state /root/restored"
    )


async def _reloads(here: Running, again: asyncio.Event) -> None:
    """Reload at each SIGHUP; a file that cannot be taken is told in the log, and the old stays."""
    while True:
        await again.wait()
        again.clear()
        try:
            await reload(here)
        except Refused as error:
            for line in str(error).splitlines():
                log.error(  # noqa: TRY400 -- no bug
                    "not reloaded: %s", line, extra=fields(LogEvent.RELOAD_REFUSED)
                )


async def _watchdog(house: Gateway) -> None:
    """Tell systemd that all goes round, twice as often as it asks; say nothing once a part hangs.

    Then systemd ends us (SIGABRT) and starts us anew: the disk has all that was accepted.
    """
    period, hung = watchdog_period(), False
    while True:
        await asyncio.sleep(period or LONGEST_REST)
        late = liveness.late(house, monotonic())
        if late and not hung:
            log.error(
                "gardien hangs, and is started anew if it stays so: %s", ", ".join(late),
                extra=fields(LogEvent.COMPONENT_HANGS),
            )  # fmt: skip
        hung = bool(late)
        if period and not hung:
            notify("WATCHDOG=1")


def _listen(*words: signal.Signals) -> asyncio.Event:
    """Note signals from now on: one may come the moment after READY is said."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for word in words:
        loop.add_signal_handler(word, told.set)
    return told


async def _stop_start(
    told: asyncio.Event, started: asyncio.Event, serving: asyncio.Future[None]
) -> None:
    """Cancel a start that is told to end; once all is open, it ends in order."""
    await told.wait()
    if not started.is_set():
        log.info("told to end while starting", extra=fields(LogEvent.STOPPING))
        await end([serving])


async def _give_back(house: Gateway) -> None:
    """Give back what is commanded, while the lines are still open."""
    if house.steering is not None:
        try:
            await house.steering.end()
        except Exception as error:  # noqa: BLE001 -- the rest is closed all the same
            why = f"not all was given back: {said(error)}: `gardien control release --all`"
            house.jobs.faults.log(error, why, "controls")
