"""The small history at work: what it may keep, when it is written, and when it is erased.

Rules L1 to L6. A component of its own: where it fails, nothing else does, and its values wait in
bounded memory.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from agent.acquisition.common_history import OWN
from agent.acquisition.timetable import running_slot
from agent.buffer.database import in_own_thread
from agent.buffer.history_store import AMOUNT, DAY, FILE, QUARTER, HistoryStore
from agent.core.clock import monotonic
from agent.core.errors import SpoolFull, StorageFailed
from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.core.tasks import Wakeup, error_text, together
from agent.gateway.gateway import OpenHistory
from agent.registry.aggregate import tells_of_few
from agent.registry.records import covers, serial_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
    from contextlib import AbstractContextManager

    from agent.acquisition.common_history import PointName
    from agent.buffer.history_store import KeptSeries, SeriesName
    from agent.config import Config
    from agent.core.model import Point
    from agent.gateway.gateway import Gateway
    from agent.registry.identity import Identity

COMPONENT = "history"
WRITE_EVERY = 7200.0
"""seconds between two commits: a power cut loses the values of at most 140 minutes"""
SETTLED = 1200
"""seconds after its end at which a slot is written: its reads may be a slot late"""
DAY_SETTLED = 2 * 3600
"""seconds after its end at which a day is closed: the reads of an hour's slot may be as late"""
GRACE = 30 * DAY
"""seconds for which a series stays whose point is no longer configured"""


def history_opening(config: Config, who: Identity) -> AbstractContextManager[HistoryStore]:
    """How the file is opened. Needs an identity."""
    return HistoryStore.open(config.state / FILE, who.spool_key, before=who.spool_key_before)


@asynccontextmanager
async def serve_history(
    gateway: Gateway, is_common: Callable[[str], bool]
) -> AsyncIterator[Awaitable[object]]:
    """Open the file, and keep the history while it is open. What waits is written at the end."""
    history, opening = gateway.history, partial(history_opening, gateway.config, gateway.identity)
    disk_thread = gateway.disk.thread(COMPONENT)
    async with in_own_thread(COMPONENT, opening, disk_thread) as (store, thread):
        history.opened, history.seen = OpenHistory(store, thread), ()
        try:
            yield together(_serve(gateway, is_common), thread.broken())
        finally:
            try:
                await _write(gateway, float("inf"))
            except Exception as error:  # noqa: BLE001 -- the file is closed all the same
                why = f"the latest values of the history stay in memory: {error_text(error)}"
                gateway.jobs.faults.log(error, why, COMPONENT)
            history.opened = None


async def _serve(gateway: Gateway, is_common: Callable[[str], bool]) -> None:
    # at once too: a gateway that is restarted often must close its days all the same
    quarter, written, clock = -1, monotonic() - WRITE_EVERY, gateway.clock
    wakeup = Wakeup(gateway.registry.changed, gateway.reloaded, clock.changed)
    while True:
        await obey(gateway, is_common)
        if clock.dates:
            now = clock.now()
            if int(now) // QUARTER != quarter:
                quarter = int(now) // QUARTER
                await note_own(gateway, now)
            if monotonic() - written >= WRITE_EVERY:
                written = monotonic()
                await keep_up(gateway, now)
        to_quarter = QUARTER - clock.now() % QUARTER
        await wakeup.wait(clock.bound(min(to_quarter, written + WRITE_EVERY - monotonic())))


async def keep_up(gateway: Gateway, now: float) -> None:
    """Write what is over, close days that are over, and delete what is too old.

    On a full disk what waits stays in memory. Raises StorageFailed, Damaged.
    """
    opened, zone = gateway.history.opened, gateway.config.zone
    assert opened is not None
    store, run = opened.store, opened.thread.run
    gateway.history.values.forget_after(int(now))
    await run(store.drop_after, int(now))
    await _write(gateway, now - SETTLED)
    try:
        midnight = partial(running_slot, DAY, zone=zone)
        await run(store.close_days, midnight, int(now) - DAY_SETTLED)
        # after a sudden jump of the clock nothing is deleted because of its age (rule C14)
        if gateway.clock.ages:
            await run(store.expire, int(now))
    except SpoolFull:
        return  # the blocks stay as they are; the next round tries again


async def _write(gateway: Gateway, until: float) -> None:
    history = gateway.history
    if history.opened is None or not (values := history.values.waiting(until)):
        return
    try:
        await history.opened.thread.run(history.opened.store.append, values)
    except SpoolFull:
        return  # the values wait in bounded memory
    history.values.stored(values)


async def obey(gateway: Gateway, is_common: Callable[[str], bool]) -> None:
    """Determine what may be kept, if the configuration or the registry has changed, and erase the
    rest before returning. Raises SpoolFull, StorageFailed, Damaged; then it is due again.
    """
    history, config, now = gateway.history, gateway.config, int(gateway.clock.now())
    # by the day too: an installation may begin or end at a date that was recorded before
    seen = (config, gateway.registry.revision, now // QUARTER)
    if history.seen == seen:
        return
    kept = frozenset(kept_points(gateway, is_common))
    history.values.keep(kept, control_points(config))
    if history.opened is None:
        return
    store, run = history.opened.store, history.opened.thread.run
    may_be_kept, own = admission(gateway, kept), set(own_points(config))
    erased, gone = [], dict[int, int | None]()
    for series in store.series:
        name = series.name.device, series.name.point
        there = series.name.point in own if series.name.device == OWN else name in kept
        over = not there and gateway.clock.ages and _is_over(series, now)
        if over or not may_be_kept(series.name):
            erased.append(series.number)
        elif there != (series.gone is None):
            gone[series.number] = None if there else now
    if erased:
        await run(store.erase, erased)
    if gone:
        await run(store.mark_gone, gone)
    history.seen = seen


def _is_over(series: KeptSeries, now: int) -> bool:
    return series.gone is not None and now - series.gone > GRACE


def admission(gateway: Gateway, kept: Collection[PointName]) -> Callable[[SeriesName], bool]:
    """Return what says whether a series may be kept and shown now. `kept`: see `kept_points`.

    A series whose point is no longer configured may be, unless its meter is in a dwelling now.
    """
    now, points = int(gateway.clock.now()), gateway.config.points()
    configured = {(name, point.name) for name, group in points.items() for point in group}
    homes = {
        serial_key(meter.serial)
        for meter in gateway.registry.installations()
        if meter.serial and meter.place[:1] == "D" and covers(meter, now)
    }

    def admits(series: SeriesName) -> bool:
        if series.device == OWN:
            return True
        name = series.device, series.point
        moved = bool(series.serial) and serial_key(series.serial) in homes
        return not moved and (name in kept or name not in configured)

    return admits


def kept_points(gateway: Gateway, is_common: Callable[[str], bool]) -> Iterator[PointName]:
    """Yield the points that may be kept now: numbers of devices that measure only common areas and
    plant, and no total of a building that would tell of few dwellings (rule L1).
    """
    config, now = gateway.config, int(gateway.clock.now())
    for device, points in config.points().items():
        if not is_common(device):
            continue
        for point in points:
            if point.derived or _is_state(point) or _tells(gateway, point, now):
                continue
            yield device, point.name


def _is_state(point: Point) -> bool:
    channel = channels().get(point.channel or "")
    return channel is not None and channel.kind is ValueKind.EVT


def _tells(gateway: Gateway, point: Point, now: int) -> bool:
    if point.channel is None or (point.place or "")[:1] != "B":
        return False
    # without a recipient nothing is sent one by one, so all dwellings count
    return tells_of_few(gateway.registry, point.channel, now, "", gateway.config.privacy.fewest)


def control_points(config: Config) -> list[PointName]:
    """The points of controls, of their power and of their guards."""
    references = [
        reference
        for control in config.controls.values()
        for reference in (
            control.point, control.measure, *(guard.point for guard in control.watched)
        )
        if reference
    ]  # fmt: skip
    points = (config.point(reference) for reference in references)
    return [(point.device, point.name) for point in points]


def own_points(config: Config) -> list[str]:
    """The names of the gateway's own series."""
    return [
        "disk/free",
        *(f"waiting/{name}" for name in config.uplinks),
        *(f"sent/{name}" for name in config.uplinks),
        *(f"busy/{name}" for name in config.links),
    ]


async def note_own(gateway: Gateway, now: float) -> None:
    """Note what waits for and was sent to each recipient, how busy each line is, and the disk."""
    note, history = gateway.history.values.note_own, gateway.history
    if history.opened is not None:  # in its thread: a disk that hangs must not stop the loop
        usage = await history.opened.thread.run(shutil.disk_usage, gateway.config.state)
        note("disk/free", "B", now, float(usage.free))
    for name, line in gateway.lines.items():
        if (share := line.link.health().get("busy")) is not None:
            note(f"busy/{name}", "%", now, round(100 * float(share), 2))
    for name, recipient in list(gateway.recipients.items()):
        # its spool may be closed meanwhile
        with suppress(StorageFailed, sqlite3.ProgrammingError):
            note(f"waiting/{name}", "1", now, float(await recipient.waiting()))
        counter = gateway.traffic.of(recipient.settings.recipient, now)
        month, used = history.sent.get(name, (counter.month, counter.used))
        sent = counter.used - (used if month == counter.month else 0)
        history.sent[name] = counter.month, counter.used
        note(f"sent/{name}", "B", now, float(max(0, sent)), AMOUNT)
