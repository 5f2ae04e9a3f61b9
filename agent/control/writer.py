"""Writing changes to the journal's file, its copy and memory, and going on while the disk fails.

A change that permits a write to a device is saved: first on the disk, then in the copy, then in
memory. All other changes are noted: they count in memory and in the copy at once, and the disk
follows. So no release waits for a disk. See docs/control.md, "When the disk fails".
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agent.buffer.database import Damaged, OneThread
from agent.control.journal import Journal
from agent.control.records import (
    CLOSED,
    LEFT,
    OPEN,
    Copied,
    HoldRecord,
    Memo,
    Phase,
    Transaction,
    decode,
    encode,
    memo_of,
    text,
)
from agent.core.atomic_write import SILENT, STALLED_AFTER
from agent.core.errors import Refused, SpoolFull, StorageFailed
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, fields
from agent.core.state import dying
from agent.core.storage import HOLDS_END_AFTER, PROBED_EVERY, made, volatile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

    from agent.buffer.database import Database
    from agent.control.model import Key, Moment
    from agent.core.storage import Storage
    from agent.trust.verify import Verified


log = logging.getLogger(__name__)
NAME = re.compile(r"([0-9a-f]{16})-(\d{1,18})\.(open|closed|left)")
LOCK, MEMO = "lock", "memo"


class JournalCopy:
    """The copy of the open hold records, and of the memos that the disk does not have yet.

    It survives kill -9, and needs no disk.

    Each record is one file in the volatile folder of the state (agent/core/storage.py), named by
    the random id of the journal and the number of the record. A file appears and is closed by a
    rename, which needs no space: at any moment it is complete or absent. A closed file stays until
    the disk has the change too. Only one process at a time writes to the copy.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    def lock(self) -> bool:
        """Become the only writer, until `close` or the end of the process. False: another one is.

        A process that was killed, and cannot end because a disk blocks it, writes nothing more. Its
        lock is ignored.
        """
        if self._lock is None:
            path = made(self.folder) / LOCK
            # the kernel drops this lock when the process ends, also after kill -9
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not dying(_pid(handle)):
                    os.close(handle)
                    return False
            os.truncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            self._lock = handle
        return True

    def close(self) -> None:
        """Release the lock. Remove the folder if it contains no record."""
        if self._lock is None:
            return
        if not self.records() and not self.memos():
            with suppress(OSError):
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
        os.close(self._lock)
        self._lock = None

    def save(self, journal: str, record: HoldRecord) -> None:
        """Write an open record; it replaces the earlier state. Raises OSError, Refused."""
        self._write(f"{journal}-{record.number}", OPEN, {"row": encode(record)})

    def close_record(self, journal: str, record: HoldRecord, *, left: bool) -> None:
        """Record that the device is released. A failure is logged: nothing else would help.

        `left`: somebody else's value was left at the point.
        """
        name, state = f"{journal}-{record.number}", LEFT if left else CLOSED
        try:
            # the rename comes first: it needs no space, and then the record counts as closed
            before = self.folder / f"{name}.{OPEN}"
            if before.exists():
                before.rename(self.folder / f"{name}.{state}")
            self._write(name, state, {"row": encode(record), "words": record.words})
        except OSError as error:  # no space for the content; the rename needed none
            log.warning(
                "it could not be recorded how %s was released: %s", record.control, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, control=record.control),
            )  # fmt: skip

    def _write(self, name: str, state: str, body: dict[str, Any]) -> None:
        new = made(self.folder) / f"{name}.new"
        new.write_text(json.dumps(body), encoding="utf-8")
        new.rename(self.folder / f"{name}.{state}")

    def save_memo(self, key: Key, memo: Memo) -> None:
        """Write what is noted of a point. A failure is no error: the disk follows all the same."""
        with suppress(OSError, Refused):
            self._write(_name_of(key), MEMO, {"key": [*key], "row": text(memo)})

    def drop_memo(self, key: Key) -> None:
        """Delete the memo of a point, because the disk has it."""
        with suppress(OSError):
            (self.folder / f"{_name_of(key)}.{MEMO}").unlink(missing_ok=True)

    def memos(self) -> dict[Key, Memo]:
        """What was noted of points, and the disk may not have. An unreadable file is left out."""
        memos: dict[Key, Memo] = {}
        for path in self.folder.glob(f"*.{MEMO}") if self.folder.is_dir() else ():
            with suppress(OSError, ValueError, KeyError, TypeError):
                body = json.loads(path.read_text(encoding="utf-8"))
                device, point = body["key"]
                memos[device, point] = memo_of(json.loads(body["row"]))
        return memos

    def drop(self, journal: str, record: HoldRecord) -> None:
        """Delete a closed record, because the disk has it."""
        for state in (CLOSED, LEFT):
            (self.folder / f"{journal}-{record.number}.{state}").unlink(missing_ok=True)

    def forget(self, entries: Iterable[Copied]) -> None:
        """Delete these entries, because the disk has them."""
        for entry in entries:
            (self.folder / f"{entry.journal}-{entry.record.number}.{entry.state}").unlink(
                missing_ok=True
            )

    def records(self) -> list[Copied]:
        """All entries, closed ones first. A file that cannot be read is logged, and left."""
        if not self.folder.is_dir():
            return []
        entries = [self._read(path) for path in sorted(self.folder.iterdir())]
        return sorted(filter(None, entries), key=lambda one: one.state == OPEN)

    def _read(self, path: Path) -> Copied | None:
        name = NAME.fullmatch(path.name)
        if name is None:
            return None
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            record = decode(int(name[2]), body["row"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error(  # noqa: TRY400 -- no bug
                "%s cannot be read, and was left as it is: %s", path, error,
                extra=fields(LogEvent.STORE_DAMAGED, store=path.name),
            )  # fmt: skip
            return None
        if name[3] != OPEN:
            record = replace(record, phase=Phase.CLOSED)
        return Copied(name[1], record, name[3], str(body.get("words", "")))


def _name_of(key: Key) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]


def _pid(handle: int) -> int:
    text = os.pread(handle, 20, 0)
    return int(text) if text.isdigit() else 0


T = TypeVar("T")
STORE = "the journal of the controls"
FILE = "control.sqlite"
"""its name in the state folder"""
NOTED_WITHIN = 1.0
"""seconds for which `note` waits for the disk; the commit goes on after that"""
TRIED_EVERY = 10.0
"""seconds between two attempts to open a journal that has failed"""
MOST_NOTES = 20_000
"""changes that wait in memory for a disk to recover; beyond that, the oldest are dropped"""


@dataclass(frozen=True)
class Bounds:
    """Time limits in seconds; see agent/core/storage.py."""

    stalled: float = STALLED_AFTER
    ends: float = HOLDS_END_AFTER
    probed: float = PROBED_EVERY
    tried: float = TRIED_EVERY
    noted: float = NOTED_WITHIN


class JournalWriter:
    """See the module. It is used from the event loop; the file is written in its own thread."""

    def __init__(
        self,
        path: Path,
        key_of: Callable[[str], Key | None],
        storage: Storage,
        now: Callable[[], Moment],
        bounds: Bounds,
    ) -> None:
        self.path, self._storage, self._now, self._bounds = path, storage, now, bounds
        self.journal = Journal(None, key_of)
        self.copy = JournalCopy(volatile(path.parent))
        self.failing = ""
        """why nothing can be saved now; empty: the disk works"""
        self.changed: Callable[[], None] = lambda: None
        """called when `failing` begins"""
        self._thread = OneThread("journal")
        self._broken = ""
        """why the calls that still wait in the thread must fail: an earlier one has failed"""
        self._unread = True
        """the file was never read: memory contains only the records of the copy"""
        self._failed = asyncio.Event()
        """set while `failing`"""
        self._unwritten: dict[int, Transaction] = {}
        """noted changes that are not committed, by their count"""
        self._count = 0
        self._copied: dict[Key, int] = {}
        """the count of the change whose memo of a point is in the copy; 0: of an earlier process"""
        self._awaited: asyncio.Future[Any] | None = None
        """the commit for which a `note` waits"""
        self._refused: list[Verified] = []
        """objects that were refused because their commit failed; see `Journal.undo`"""
        self._lock = asyncio.Lock()
        self._uncertain: list[Transaction] = []
        """changes whose commit failed, and which may be on the disk all the same"""
        self._fresh: Journal | None = None
        """a journal that was reopened in the thread, until it is taken over"""
        self._reopening: asyncio.Future[tuple[Journal, list[Copied], int]] | None = None
        """an attempt to reopen the file that has not ended"""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: Path,
        key_of: Callable[[str], Key | None],
        storage: Storage,
        now: Callable[[], Moment],
        bounds: Bounds | None = None,
    ) -> AsyncIterator[JournalWriter]:
        """Open the journal. Raises Refused if another process has it open.

        A file that cannot be read now is tried again by `tend`; meanwhile the records of the copy
        count.
        """
        writer = cls(path, key_of, storage, now, bounds or Bounds())
        try:
            await writer.tend(begin=True)
            if writer.failing:
                writer.hold_copy()
            yield writer
        finally:
            await writer._close()

    def hold_copy(self) -> None:
        """Load the records and memos of the copy, before the file can be read."""
        self.journal.take(Transaction(memos=[*self.copy.memos().items()]))
        renamed = self.journal.read_copy(self.copy.records())
        for record in self.journal.records.values():
            self._save_copy(record)
        self.copy.forget(renamed)

    async def _close(self) -> None:
        closing = self._thread.begin(self._disconnect)
        ended, _ = await asyncio.wait([closing], timeout=self._bounds.stalled)
        self._thread.close(wait=bool(ended))
        self.copy.close()

    def _disconnect(self) -> None:
        """In the thread: close the file, and one that was reopened but not taken over."""
        for journal in filter(None, (self.journal, self._fresh)):
            journal.disconnect()

    # -- saving and noting

    async def save(
        self, change: Transaction, also: Callable[[Database], None] | None = None
    ) -> HoldRecord | None:
        """Commit a change before it is acted on. `also` writes in the same transaction.

        Raises SpoolFull; StorageFailed on an error, or after `HOLDS_END_AFTER` seconds. Then the
        change does not count, whatever the disk has of it.
        """
        if self.failing:
            raise StorageFailed(self.failing)
        change = self.journal.numbered(change)
        try:
            await self._result_of(
                partial(self.journal.write, change, also), partial(self._on_committed, change)
            )
        except StorageFailed:
            if also is not None:  # its object is refused, so the change must be undone later
                self._uncertain.append(change)
            raise
        if self.failing:  # the disk failed meanwhile: all holds end, so none may begin
            raise StorageFailed(self.failing)
        return change.record

    def _on_committed(self, change: Transaction) -> None:
        """Take a committed change into the copy, then into memory."""
        if change.record is not None:
            self._save_copy(change.record)
        self.journal.take(change)

    def _save_copy(self, record: HoldRecord) -> None:
        try:
            self.copy.save(self.journal.id, record)
        except (OSError, Refused) as error:
            self._fail(Text("its copy cannot be written: {error}", error=error))

    async def note(self, change: Transaction) -> HoldRecord | None:
        """Let a change count at once, and commit it as soon as the disk takes it."""
        change = self.journal.numbered(change)
        record = change.record
        if record is not None and record.phase is Phase.CLOSED:
            self.copy.close_record(self.journal.id, record, left=change.left)
        elif record is not None:
            self._save_copy(record)
        self.journal.take(change)
        self._count += 1
        self._unwritten[self._count] = change
        for key, memo in change.memos:
            self.copy.save_memo(key, memo)
            self._copied[key] = self._count
        while len(self._unwritten) > MOST_NOTES:
            self._unwritten.pop(next(iter(self._unwritten)))
        if not self.failing:
            # Only one note at a time waits: on a slow disk, the releases of many controls must not
            # wait one after the other.
            future = self._commit_note(self._count)
            if self._awaited is None or self._awaited.done():
                self._awaited = future
                await asyncio.wait([future], timeout=self._bounds.noted)
        return record

    def _commit_note(self, number: int) -> asyncio.Future[None]:
        change = self._unwritten[number]
        return self._begin_call(
            partial(self.journal.write, change), partial(self._on_note_committed, number, change)
        )

    def _on_note_committed(self, number: int, change: Transaction) -> None:
        self._unwritten.pop(number, None)
        self._drop_memos(dict(change.memos), number)
        if change.record is not None and change.record.phase is Phase.CLOSED:
            self.copy.drop(self.journal.id, change.record)

    def _drop_memos(self, keys: Iterable[Key], last: int) -> None:
        """Delete memos of the copy that the disk has: those of changes up to a count."""
        for key in [key for key in keys if self._copied.get(key, 0) <= last]:
            self._copied.pop(key, None)
            self.copy.drop_memo(key)

    async def call(self, call: Callable[..., T], *args: object) -> T:
        """Make a call of the journal in its thread. Raises StorageFailed, and what it raises."""
        if self.failing:
            raise StorageFailed(self.failing)
        return await self._result_of(partial(call, *args), lambda: None)

    def refuse(self, order: Verified) -> None:
        """Delete this object from the journal once the disk has recovered.

        It was refused because its commit failed, so it may come again.
        """
        self._refused.append(order)

    def behind(self, call: Callable[[], None]) -> None:
        """Make a call in the thread, after all changes that were noted before."""
        self._thread.begin(call)

    # -- the thread, and how long it may take

    async def _result_of(self, call: Callable[[], T], kept: Callable[[], None]) -> T:
        future = self._begin_call(call, kept)
        failed = asyncio.ensure_future(self._failed.wait())
        either: list[asyncio.Future[Any]] = [future, failed]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            failed.cancel()
        if not future.done():
            raise StorageFailed(self.failing)
        try:
            return future.result()
        except Damaged as error:
            raise StorageFailed(text_of(error)) from error

    def _begin_call(self, call: Callable[[], T], kept: Callable[[], None]) -> asyncio.Future[T]:
        """Begin a call in the thread.

        `kept` is called on the event loop if the call succeeds before the disk counts as failed. It
        is called even if nobody waits for the call any more.
        """
        loop = asyncio.get_running_loop()
        future = self._thread.begin(self._unless_failed, call)
        timers = (
            loop.call_later(self._bounds.stalled, self._storage.failed, STORE, SILENT),
            loop.call_later(self._bounds.ends, self._fail, SILENT),
        )

        def ended(done: asyncio.Future[T]) -> None:
            late = loop.time() >= timers[0].when()
            for timer in timers:
                timer.cancel()
            error = None if done.cancelled() else done.exception()
            if isinstance(error, StorageFailed | Damaged):
                self._fail(text_of(error))
            elif isinstance(error, SpoolFull):
                log.error(
                    "the journal is full: %s", error,
                    extra=fields(LogEvent.STORE_FULL, store=STORE),
                )  # fmt: skip
            elif error is None and not self.failing:
                kept()
            if late and not self.failing:
                self._storage.recovered(STORE)

        future.add_done_callback(ended)
        return future

    def _unless_failed(self, call: Callable[[], T]) -> T:
        """In the thread: make a call, unless an earlier one has failed.

        Otherwise a later change could be on the disk without the one on which it builds.
        """
        if self._broken:
            raise StorageFailed(self._broken)
        try:
            return call()
        except (StorageFailed, Damaged) as error:
            self._broken = text_of(error)
            raise

    def _fail(self, why: str) -> None:
        self._storage.failed(STORE, why)
        if self.failing:
            return
        self.failing = self._broken = why
        self._failed.set()
        self.changed()

    # -- while it fails

    def until_next(self) -> float:
        """Seconds until `tend` is due."""
        return self._bounds.tried if self.failing else self._bounds.probed

    async def tend(self, *, held: bool = False, begin: bool = False) -> bool:
        """Try the disk. Returns whether it has just recovered.

        While something is held, a test commit is made. If the disk has failed, or the journal was
        never opened, the journal is opened again. `begin`: the first opening.
        """
        async with self._lock:
            return await self._try_disk(held=held, begin=begin)

    async def _try_disk(self, *, held: bool, begin: bool) -> bool:
        if not (begin or self.failing):
            if held:
                with suppress(StorageFailed, SpoolFull):
                    await self.call(self.journal.probe)
            return False
        if self._reopening is None:
            try:
                # `gardien control release --all` may be at work on the same records
                if not self.copy.lock():
                    raise Refused("another process is releasing the holds of this journal")
            except (OSError, Refused) as error:
                self._fail(Text("its copy cannot be written: {error}", error=error))
                return False
            notes, copied = dict(self._unwritten), self.copy.records()
            memos = self.copy.memos() if self._unread else {}
            self._copied = dict.fromkeys(memos, 0) | self._copied
            self._reopening = self._thread.begin(self._reopen, notes, copied, memos)
        await asyncio.wait([self._reopening], timeout=self._bounds.stalled)
        if not self._reopening.done():
            self._fail(SILENT)
            return False
        future, self._reopening = self._reopening, None
        try:
            fresh, done, last = future.result()
        except (StorageFailed, Damaged, SpoolFull, Refused) as error:
            if begin and isinstance(error, Refused):
                raise
            self._fail(text_of(error))
            return False
        if self._unread and max(self._unwritten, default=0) > last:
            # noted meanwhile, still without the file: it must be fitted to the file too
            self.copy.forget(done)
            self._unwritten = {n: change for n, change in self._unwritten.items() if n > last}
            return await self._try_disk(held=held, begin=begin)
        self._take_over(fresh, done, last)
        return True

    def _reopen(
        self, notes: dict[int, Transaction], copied: list[Copied], memos: dict[Key, Memo]
    ) -> tuple[Journal, list[Copied], int]:
        """In the thread: reopen the file, and bring it up to date before anybody uses it.

        What was noted meanwhile is committed first; then what is closed in the copy is closed in
        the file. Returns the journal, the entries that the copy no longer needs, and the count of
        the last note.
        """
        self._disconnect()
        fresh = Journal.opened(self.path, self.journal.key_of)
        try:
            changes = [Transaction(memos=[*memos.items()])] if memos else []
            changes += notes.values()
            if self._unread and changes:
                changes = [fresh.fitted(changes, self._now())]
            for change in changes:
                fresh.bring(change)
            done = fresh.merge(copied, self._now())
            fresh.undo(self._refused, self._uncertain)
            fresh.learn(self.journal.taken.all())
            with suppress(SpoolFull):  # a full disk does not count as a failing one
                fresh.probe()
        except BaseException:
            fresh.disconnect()
            raise
        self._fresh = fresh
        return fresh, done, max(notes, default=0)

    def _take_over(self, fresh: Journal, done: list[Copied], last: int) -> None:
        """Go on with the reopened journal, and with what was noted since it was opened."""
        if fresh.set_aside:
            log.error(
                "the journal could not be read and was set aside as %s", fresh.set_aside,
                extra=fields(LogEvent.STORE_DAMAGED, store=STORE),
            )  # fmt: skip
        self.journal.become(fresh)
        self._fresh = None
        self._unread, self._refused, self._uncertain = False, [], []
        self.failing = self._broken = ""
        self._failed.clear()
        self.copy.forget(done)
        self._drop_memos([*self._copied], last)
        self._unwritten = {n: change for n, change in self._unwritten.items() if n > last}
        for number, change in self._unwritten.items():
            self.journal.take(change)
            self._commit_note(number)
        # records of another journal have new numbers now, and the copy must have them too
        for record in list(self.journal.records.values()):
            self._save_copy(record)
        if not self.failing:
            self._storage.recovered(STORE)
