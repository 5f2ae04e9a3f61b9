"""Releasing what an earlier process has left: at a start, or without the agent.

- `Recovery` releases all holds at a start, and searches the points for values of ours that have no
  hold record (rules H17, H19). A device that does not answer stays RELEASE_PENDING, and is tried
  again.
- `release_all` releases from the journal alone, while the agent does not run (rule H20). It needs
  no configuration, socket or uplink, and writes nothing to the disk. A limit changes to its
  failsafe value, unless limits are to be released too.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import tempfile
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.buffer.database import Damaged
from agent.control import failsafe
from agent.control.hold import FOREVER, Holder, PointDependencies, Setpoint
from agent.control.journal import Journal
from agent.control.model import FAILSAFE, OrderState
from agent.control.point_access import PointAccess, opened
from agent.control.records import OPEN, Outcome, Phase, Transaction
from agent.control.release import Release
from agent.core.errors import AgentError, LinkLost, Refused, StorageFailed, WriteRefused
from agent.core.i18n import Text, joined, text_of
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.buffer.database import Database
    from agent.control.model import AcceptedOrder, ConfiguredControl, Moment
    from agent.control.point_access import LineAccess
    from agent.control.records import Copied, HoldRecord
    from agent.control.writer import JournalCopy

log = logging.getLogger(__name__)

ASKED_WITHIN = 10.0
"""seconds for which a start waits for the guards of a limit"""
LANDS_WITHIN = 3.0
"""seconds after which a write that was on its way when the agent died has been carried out, even by
a busy fieldbus gateway
"""
AGAIN_AFTER = 1.0
"""seconds after which a device that did not confirm is tried again"""


class Recovery(Release):
    """See the module: what is done at a start."""

    async def recover(self) -> None:
        """Release every open hold, or bring a limit to its failsafe. Then search for orphan values.

        It runs before any uplink is opened, and when a journal has become readable again.
        """
        now, journal = self.dependencies.now(), self.journal
        records = list(journal.records.values())
        # first the failsafe, which decides what becomes of the holds of a limit
        for control in self.controls.values():
            if rule := control.modality.failsafe:
                async with self.lock(control.name):
                    memo = journal.memo(control.key)
                    watch = failsafe.started(memo.watch, rule, now)
                    await self.remember(control.key, replace(memo, watch=watch))
        await asyncio.gather(*(self._recover(record) for record in records))
        for event in list(journal.events.values()):
            begun = event.state in {OrderState.STARTED, OrderState.RESTORING} or (
                # its value was written, though the agent died before it was read back
                event.began and event.state is OrderState.SCHEDULED
            )
            if begun and not self._is_open(event):
                await self.end(event, OrderState.ABORTED, Text("restart"))
        await asyncio.gather(*map(self._search_control, self.controls.values()))

    def _is_open(self, event: AcceptedOrder) -> bool:
        return any(
            (record.jti, record.control) == (event.order.jti, event.order.control)
            for record in list(self.journal.records.values())
        )

    async def _recover(self, record: HoldRecord) -> None:
        async with self.lock(record.control):
            if record.number in self.journal.records:  # nobody has released it meanwhile
                await self._release_or_limit(record)

    async def _release_or_limit(self, record: HoldRecord) -> None:
        event = self.journal.events.get((record.jti, record.control))
        control = self.controls.get(record.control)
        if control is not None and await self._stays_limited(control, record):
            # A limit is not released first: between release and failsafe it would not apply.
            if event:
                await self.end(event, OrderState.ABORTED, Text("restart"))
            await self.fall_back(control, [record])
            return
        done = event is not None and event.state is OrderState.RESTORING
        outcome = OrderState.COMPLETED if done else OrderState.ABORTED
        await self.try_release(record.releasing(outcome, Text("restart")))

    async def _stays_limited(self, control: ConfiguredControl, record: HoldRecord) -> bool:
        ours = self.is_configured(record) and record.slot == control.slots[0]
        if not ours or record.phase is Phase.RELEASING:
            return False
        if not self.journal.memo(control.key).watch.since:
            return False
        # at a start nobody has read the guards yet; one that is silent counts as tripped
        if self.dependencies.ask is not None:
            with suppress(LinkLost, Refused, TimeoutError):
                async with asyncio.timeout(ASKED_WITHIN):
                    await self.dependencies.ask(control.name)
        return self.forbidden(control) is None

    # -- orphan values

    async def _search_control(self, control: ConfiguredControl) -> None:
        async with self.lock(control.name):
            if not self.journal.memo(control.key).swept:
                await self.search_orphans(control)

    async def search_orphans(self, control: ConfiguredControl) -> bool:
        """Search a control's point. Returns whether it could be read; before that no order begins.

        A value in a slot that the test found free is ours, and is emptied. Any other value is left,
        and reported at each check until somebody has dealt with it.
        """
        memo, name = self.journal.memo(control.key), control.name
        # a slot with an open record is not an orphan: its release is under way
        taken = {record.slot for record in self.journal.open_records(control.key)}
        ours = control.slots if control.modality.limits.emergency else control.slots[:1]
        try:
            findings = [
                await self._search_slot(control, slot)
                for slot in dict.fromkeys((*ours, *memo.free))
                if slot not in taken
            ]
        except (LinkLost, WriteRefused, Refused) as error:
            self.alarms[name] = Text(
                "not read since the start, so no order begins: {error}", error=error
            )
            return False
        if strange := joined("; ", filter(None, findings)):
            if self.alarms.get(name) != strange:
                log.error(
                    "%s: %s", name, strange,
                    extra=_of(control),
                )  # fmt: skip
            self.alarms[name] = strange
            return True
        self.journal.memos[control.key] = replace(self.journal.memo(control.key), swept=True)
        self.alarms.pop(name, None)
        return True

    async def _search_slot(self, control: ConfiguredControl, slot: int | None) -> str:
        """Search one slot. Returns what a person must attend to; empty: nothing."""
        memo = self.journal.memo(control.key)
        access = self.dependencies.access(control.place, slot)
        if slot is None:
            if memo.tested == control.fingerprint:
                return ""  # the journal goes back to the test, so it would contain a hold
            value = (await access.look()).ours
            if not control.could_be_ours(value):
                return ""
            return Text(
                "{value} stands in {point}, which an order could have set, and the journal does not"
                " know it: to release it, gardien control release {name} --to VALUE",
                value=value, point=control.place.name, name=control.name,
            )  # fmt: skip
        value = (await access.look()).ours
        if value is None:
            return ""
        where = Text("priority {slot} of {point}", slot=slot, point=control.place.name)
        if slot not in memo.free:
            return Text(
                "{value} stands at {where} without a record of ours: it was left",
                value=value, where=where,
            )  # fmt: skip
        await access.write(None)
        left = (await access.look()).ours
        if left is not None:
            raise WriteRefused("{left} stands at priority {slot} still", left=left, slot=slot)
        message = Text(
            "{value} stood at priority {slot} without an order: it was emptied",
            value=value, slot=slot,
        )  # fmt: skip
        log.error(
            "%s: %s", control.name, message,
            extra=_of(control),
        )  # fmt: skip
        outcome = Outcome(
            "", control.name, OrderState.ABORTED, self.dependencies.now().wall, words=message
        )
        await self.dependencies.note(Transaction(outcomes=[outcome]))
        return ""


def _of(control: ConfiguredControl) -> dict[str, Any]:
    """The fields of a log entry about a value at the point of a control."""
    device = control.place.device
    return fields(LogEvent.VALUE_NOT_OURS, control=control.name, device=device)


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
    records = list(journal.records.values())
    lines: dict[tuple[str, str], list[HoldRecord]] = {}
    for record in records:
        lines.setdefault((record.place.driver, record.place.settings), []).append(record)
    alone = _JournalRelease(journal, copy, now, limits, landed)
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await asyncio.gather(*(alone.release(line, of) for line, of in lines.items()))
    late = Text("no time was left")
    return [
        alone.results.get(record.number, ReleaseResult(record.control, done=False, words=late))
        for of in lines.values()
        for record in of
    ]


@dataclass
class _JournalRelease:
    """A release of all hold records of a journal that only its copy records."""

    journal: Journal
    copy: JournalCopy
    now: Callable[[], Moment]
    limits: bool
    landed: float
    """when each write of the dead agent has been carried out, by the clock of the loop"""
    results: dict[int, ReleaseResult] = field(default_factory=dict)
    """by number of the hold record"""

    async def release(self, line: tuple[str, str], records: list[HoldRecord]) -> None:
        """Release the records of one line until the devices confirm it."""
        while True:
            try:
                async with opened(*line) as bus:
                    await self._release_line(bus, records)
            except LinkLost as error:
                for record in records:
                    if record.number not in self.results or not self.results[record.number].done:
                        self._record(record, text_of(error), done=False)
            numbers = [record.number for record in records if not self.results[record.number].done]
            if not numbers:
                return
            open_now = self.journal.records
            records = [open_now[number] for number in numbers if number in open_now]
            await asyncio.sleep(AGAIN_AFTER)

    async def _release_line(self, bus: LineAccess, records: list[HoldRecord]) -> None:

        def line() -> nullcontext[LineAccess]:
            return nullcontext(bus)

        dependencies = PointDependencies(
            self.now, partial(PointAccess, line), self._save, self._note
        )
        holder = Holder(self.journal, dependencies)
        for record in sorted(records, key=lambda record: record.phase is Phase.WRITING):
            if record.phase is Phase.WRITING:
                await asyncio.sleep(self.landed - asyncio.get_running_loop().time())
            access = PointAccess(line, record.place, record.slot)
            if record.failsafe is None or record.phase is Phase.RELEASING or self.limits:
                aborted = record.releasing(OrderState.ABORTED, Text("the agent does not run"))
                left = await holder.release(aborted, access)
                how = Text("released, confirmed") if left is None else left.alarm
                self._record(record, how, done=left is None)
                continue
            setpoint = Setpoint(
                record.control, FAILSAFE, record.place, record.slot, record.failsafe,
                record.restore, FOREVER, FOREVER, record.tolerance, never_raise=True,
            )  # fmt: skip
            left = await holder.change(record, setpoint, access)
            how = Text("somebody else has taken over")
            if left is not None:
                how = left.alarm or Text("its failsafe limit applies")
            self._record(record, how, done=left is None or not left.alarm)

    def _record(self, record: HoldRecord, how: str, *, done: bool) -> None:
        self.results[record.number] = ReleaseResult(record.control, done, how)

    async def _save(
        self, change: Transaction, also: Callable[[Database], None] | None = None
    ) -> HoldRecord | None:
        del also
        change = self.journal.numbered(change)
        assert change.record is not None
        try:
            self.copy.save(self.journal.id, change.record)
        except (OSError, Refused) as error:
            raise StorageFailed(text_of(error)) from error
        self.journal.take(change)
        return change.record

    async def _note(self, change: Transaction) -> HoldRecord | None:
        change = self.journal.numbered(change)
        if change.record is not None and change.record.phase is Phase.CLOSED:
            self.copy.close_record(self.journal.id, change.record, left=change.left)
        elif change.record is not None:
            with suppress(OSError, Refused):
                self.copy.save(self.journal.id, change.record)
        self.journal.take(change)
        return change.record
