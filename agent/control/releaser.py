"""Releasing from the journal alone, while the agent does not run (rule H20).

It needs no configuration, socket or uplink, and writes nothing to the disk. A limit is brought to
its failsafe value, unless limits are to be released too.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agent.buffer.database import Damaged
from agent.control.ad_hoc_link import opened
from agent.control.hold import Holder
from agent.control.hold_record import Phase
from agent.control.journal import Journal
from agent.control.journal_copy import OPEN
from agent.control.model import OrderState
from agent.control.point_access import LinePoint
from agent.control.setpoint import FAILSAFE, FOREVER, Setpoint
from agent.core.errors import AgentError, LinkLost, Refused, StorageFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.buffer.database import Database
    from agent.control.dependencies import Audit, Note, Save
    from agent.control.hold_record import HoldRecord, WriteTarget
    from agent.control.journal_copy import Copied, JournalCopy
    from agent.control.point_access import PointAccess
    from agent.control.records import Transaction
    from agent.control.stamps import Moment


LANDS_WITHIN = 3.0
"""seconds after which a write that was on its way when the agent died has been carried out, even by
a busy fieldbus gateway
"""


AGAIN_AFTER = 1.0
"""seconds after which a device that did not confirm is tried again"""


@dataclass
class ReleaserDependencies:
    """The dependencies that are available while the agent does not run."""

    now: Callable[[], Moment]
    access: Callable[[WriteTarget, int | None], PointAccess]
    save: Save
    note: Note
    audit: Audit = lambda _kind, _body: None
    power: Callable[[str], str] = lambda _: ""


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """What became of one hold record. The fields are members of the output of `--json`."""

    control: str
    done: bool
    words: str


def open_records(
    path: Path, copy: JournalCopy, now: Callable[[], Moment], within: float
) -> tuple[Journal, bool]:
    """Read the open hold records from the journal and its copy.

    Returns them as a journal in memory, and whether the file could be read. The disk is read for
    `within` seconds at most, and never written: SQLite opens a copy of the file and its log.
    (`mode=ro` cannot open a file whose owner was killed; `immutable=1` leaves out the last commit.)
    """
    copied, journal = copy.records(), None
    with suppress(AgentError, Damaged, OSError, sqlite3.Error):
        folder = copy.folder if copy.folder.is_dir() else None
        with tempfile.TemporaryDirectory(prefix="read-", dir=folder) as scratch:
            beside = Path(scratch) / path.name
            if _copy_in_time(path, beside, within):
                journal = _open_copy(beside, copied, now())
    if journal is not None:
        renamed = [one for one in copied if one.state == OPEN and one.journal != journal.id]
        readable = True
    else:
        journal, readable = Journal(None, lambda _: None), False
        renamed = journal.read_copy(copied)
    # from here on the copy alone records what is done, so no disk is needed
    with suppress(AgentError, OSError):  # no space in /run: the files that are there are enough
        for record in journal.records.values():
            copy.save(journal.id, record)
        copy.forget(renamed)
    return journal, readable


def _open_copy(path: Path, copied: list[Copied], now: Moment) -> Journal | None:
    journal = Journal.opened(path, lambda _: None)
    try:
        if journal.set_aside:
            return None
        journal.merge(copied, now)
    finally:
        journal.disconnect()
    return journal


def _copy_in_time(path: Path, to: Path, within: float) -> bool:
    """Copy the file and its log. False: the disk fails, or does not answer in time."""
    ended, fetched = threading.Event(), []

    def fetch() -> None:
        with suppress(OSError):
            for end in ("-wal", ""):
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}{end}", f"{to}{end}")
            fetched.append(True)
        ended.set()

    # a read from a disk that hangs cannot be cancelled; a daemon thread does not delay the exit
    threading.Thread(target=fetch, daemon=True).start()
    return ended.wait(within) and bool(fetched)


async def release_all(  # noqa: PLR0913 -- two of them say how
    journal: Journal,
    copy: JournalCopy,
    now: Callable[[], Moment],
    within: float,
    *,
    limits: bool,
    lands_within: float = LANDS_WITHIN,
) -> list[ReleaseResult]:
    """Release every open hold record, on all lines at once, for `within` seconds at most.

    A release that is not confirmed is tried again. The copy records it; the next start of the agent
    commits it to the journal. `limits`: release limits too.

    A record whose write was not read back comes last, after `lands_within` seconds. Read before
    that write is carried out, the point would count as released, and then stay commanded.
    """
    landed = asyncio.get_running_loop().time() + lands_within
    lines: dict[tuple[str, str], list[HoldRecord]] = {}
    for record in journal.records.values():
        lines.setdefault((record.place.driver, record.place.settings), []).append(record)
    results: dict[int, ReleaseResult] = {}
    try:
        async with asyncio.timeout(within):
            await asyncio.gather(
                *(
                    _release_until_done(journal, copy, now, line, records, results, limits, landed)
                    for line, records in lines.items()
                )
            )
    except TimeoutError:
        pass
    late = "no time was left"
    records = [record for group in lines.values() for record in group]
    return [
        results.get(record.number, ReleaseResult(record.control, done=False, words=late))
        for record in records
    ]


async def _release_until_done(  # noqa: PLR0913, PLR0917 -- what it works with
    journal: Journal,
    copy: JournalCopy,
    now: Callable[[], Moment],
    line: tuple[str, str],
    records: list[HoldRecord],
    results: dict[int, ReleaseResult],
    limits: bool,
    landed: float,
) -> None:
    while True:
        await _release_line(journal, copy, now, line, records, results, limits, landed)
        numbers = [record.number for record in records if not results[record.number].done]
        if not numbers:
            return
        records = [journal.records[number] for number in numbers if number in journal.records]
        await asyncio.sleep(AGAIN_AFTER)


async def _release_line(  # noqa: PLR0913, PLR0917 -- what it works with
    journal: Journal,
    copy: JournalCopy,
    now: Callable[[], Moment],
    line: tuple[str, str],
    records: list[HoldRecord],
    results: dict[int, ReleaseResult],
    limits: bool,
    landed: float,
) -> None:
    try:
        async with opened(*line) as bus:

            async def save(
                change: Transaction, also: Callable[[Database], None] | None = None
            ) -> HoldRecord | None:
                del also
                change = journal.numbered(change)
                try:
                    copy.save(journal.id, cast("HoldRecord", change.record))
                except (OSError, Refused) as error:
                    raise StorageFailed(str(error)) from error
                journal.take(change)
                return change.record

            async def note(change: Transaction) -> HoldRecord | None:
                change = journal.numbered(change)
                if change.record is not None and change.record.phase is Phase.CLOSED:
                    copy.close_record(journal.id, change.record, left=change.left)
                elif change.record is not None:
                    with suppress(OSError, Refused):
                        copy.save(journal.id, change.record)
                journal.take(change)
                return change.record

            alone = ReleaserDependencies(now, lambda at, slot: LinePoint(bus, at, slot), save, note)
            holder = Holder(journal, alone)
            for record in sorted(records, key=lambda record: record.phase is Phase.WRITING):
                if record.phase is Phase.WRITING:
                    await asyncio.sleep(landed - asyncio.get_running_loop().time())
                results[record.number] = await _release_record(
                    holder, LinePoint(bus, record.place, record.slot), record, limits
                )
    except LinkLost as error:
        _line_lost(records, results, str(error))


def _line_lost(records: list[HoldRecord], results: dict[int, ReleaseResult], message: str) -> None:
    for record in records:
        if record.number not in results or not results[record.number].done:
            results[record.number] = ReleaseResult(record.control, done=False, words=message)


async def _release_record(
    holder: Holder, access: LinePoint, record: HoldRecord, limits: bool
) -> ReleaseResult:
    if record.failsafe is not None and record.phase is not Phase.RELEASING and not limits:
        setpoint = Setpoint(
            record.control,
            FAILSAFE,
            record.place,
            record.slot,
            record.failsafe,
            record.restore,
            FOREVER,
            FOREVER,
            record.tolerance,
            never_raise=True,
        )
        left = await holder.change(record, setpoint, access)
        if left is None:
            return ReleaseResult(record.control, done=True, words="somebody else has taken over")
        return ReleaseResult(
            record.control, not left.alarm, left.alarm or "its failsafe limit applies"
        )
    left = await holder.release(
        record.releasing(OrderState.ABORTED, "the agent does not run"), access
    )
    if left is None:
        return ReleaseResult(record.control, done=True, words="released, confirmed")
    return ReleaseResult(record.control, done=False, words=left.alarm)
