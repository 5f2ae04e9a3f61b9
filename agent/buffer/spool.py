"""The spool of one recipient: rows in, sealed batches out, gone only by the recipient's word.

Synchronous; one instance belongs to the one thread that opened it. Every method that changes
something has it on the disk when it returns, or has changed nothing when it raises.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.buffer.announced import Announced
from agent.buffer.ballast import Ballast
from agent.buffer.batch import Stamp
from agent.buffer.database import PAGE, Damaged, Database, set_aside, suspicion
from agent.buffer.keys import Keys
from agent.buffer.names import ROOM, Names
from agent.buffer.outbox import Outbox, State
from agent.buffer.room import Room
from agent.buffer.schema import Meta, claim
from agent.buffer.sealing import Order, Sealing
from agent.buffer.settling import UNREADABLE, Settling
from agent.buffer.verdict import Settled
from agent.buffer.waiting import Waiting
from agent.errors import Refused, SpoolFull
from agent.model import BatchId, Lane, Mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.buffer.announced import Item
    from agent.buffer.batch import BatchHead
    from agent.model import MarkKey, Reading, Receipt, Sealed, Series

SMALLEST = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the spool holds."""

    rows: int
    """waiting to be sealed"""
    slots: int
    """that those rows stand for"""
    batches: int
    """sealed, without a receipt"""
    batch_rows: int
    """rows of those batches"""
    quarantined: int
    """batches the recipient will not take"""
    oldest: int | None
    """slot of the oldest waiting row (of a span its last), seconds since 1970"""
    used: int
    """bytes of the file in use"""
    cap: int
    """bytes the file may have"""
    refused: int
    """rows refused for want of room since this spool was begun"""
    unreadable: int
    """rows lost to a damaged disk since this spool was begun"""


class Spool:
    """See the module; `open` is the only way to one."""

    @classmethod
    @contextmanager
    def open(cls, path: Path, key: bytes, head: BatchHead, max_bytes: int) -> Iterator[Spool]:
        """Open, or begin, the spool of one gateway to one recipient under the gateway's key.

        `max_bytes` caps the file; its log and ballast come on top, 4 MB at most. A damaged file is
        set aside (see `set_aside`) and a new one begun. Raises Refused, with what to do, if the
        file is another's, under another key, in use, or no spool.
        """
        if max_bytes < SMALLEST:
            raise Refused(f"a spool of {max_bytes} bytes is too small; give it at least 2 MB")
        aside = set_aside(path) if suspicion(path).exists() else None
        try:
            spool = cls(path, key, head, max_bytes)
        except Damaged:
            aside = set_aside(path)
            spool = cls(path, key, head, max_bytes)
        except SpoolFull as error:
            raise Refused(f"the disk has no room to begin the spool {path}; free some") from error
        spool.set_aside = aside
        try:
            yield spool
        finally:
            spool._database.close()

    def __init__(self, path: Path, key: bytes, head: BatchHead, max_bytes: int) -> None:
        self.set_aside: Path | None = None
        """where a damaged spool was put that this one replaces"""
        self._head = head
        self._cap = max_bytes
        self._database = Database(path, max_bytes)
        try:
            self._furnish(path, Keys(key, head.gateway, head.recipient))
        except BaseException:
            self._database.close()
            raise

    def _furnish(self, path: Path, keys: Keys) -> None:
        database, head = self._database, self._head
        claim(database, path, keys, head)
        meta = self._meta = Meta(database)
        self._names = Names(database, keys)
        self._waiting = waiting = Waiting(database, keys, self._names, meta)
        self._outbox = outbox = Outbox(database, keys, head.gateway, head.recipient)
        self._room = Room(database, outbox, waiting, Ballast(path), self._cap)
        self._sealing = Sealing(waiting, outbox, meta, head)
        self._settling = Settling(waiting, outbox, meta, head)
        self._announced = Announced(database, keys, meta, self._label)
        self._refused = self._refused_on_disk = int(meta.number("refused") or 0)
        self.marks(), self.backlog()  # whatever is small is read once, or Damaged here
        if self._names.series_of and not waiting.total:
            with suppress(SpoolFull):  # there will be another start
                self._names.clear()

    @property
    def epoch(self) -> str:
        """The count of batches that the next one belongs to: 12 hexadecimal digits."""
        return str(self._meta["epoch"])

    def append(self, rows: Sequence[Reading], marks: Mapping[MarkKey, Mark]) -> None:
        """Keep rows and marks, in one commit: on the disk when it returns.

        Raises SpoolFull when the cap or the disk leaves no room: nothing was kept, and the rows
        are counted as refused. Raises ValueError on a row that no batch could carry.
        """
        try:
            self._append(rows, marks)
        except SpoolFull:
            self._refused += len(rows)
            raise

    def marks(self) -> dict[MarkKey, Mark]:
        """How far the slots of each device are closed, as last appended."""
        return {
            (device, step): Mark(slot, bool(heard), serial)
            for device, step, slot, heard, serial in self._database.read(
                "SELECT device, step, slot, heard, serial FROM mark"
            )
        }

    def waiting(self, live_after: int) -> tuple[int, int]:
        """Rows waiting, live and in backfill, without opening any: a block that holds both counts
        whole in each. Zero means none.
        """
        return self._waiting.counts(live_after)

    def seal(  # noqa: PLR0913, PLR0917 -- what a batch states and how large it may be is the caller's
        self,
        lane: Lane,
        now: float,
        trust: str,
        live_after: int,
        most_rows: int = 5000,
        most_bytes: int = 48_000,
    ) -> Sealed | None:
        """Make the next batch of a lane out of rows that wait, in one commit; None if none do.

        Live rows are those whose slot is after `live_after`, backfill the others; oldest first,
        and in their order for each series. The payload has at most `most_bytes` (and 60,000).
        Raises SpoolFull only if the disk has no room even without the ballast.
        """
        order = Order(lane, now, trust, live_after, most_rows, most_bytes)
        return self._room.durably(lambda: self._sealing.seal(order))

    def announced(self) -> dict[str, Item]:
        """What the recipient was last told of the building, by key, in whatever epoch."""
        return self._announced.all()

    def announce(self, directory: Mapping[str, Item], now: float, trust: str) -> Sealed | None:
        """Tell the recipient what has changed in the directory, in one commit; None: nothing.

        At most a batch full at a time: what is left comes with the next call. A new epoch is told
        all anew. Raises SpoolFull as `seal` does.
        """
        if not self._announced.differs(directory):
            return None
        batch, told = self._room.durably(lambda: self._announce(directory, now, trust))
        self._announced.learn(batch.id.epoch, told)
        return batch

    def _announce(
        self, directory: Mapping[str, Item], now: float, trust: str
    ) -> tuple[Sealed, dict[str, str]]:
        batch, told = self._announced.tell(directory, now, trust)
        self._outbox.add(batch, now)
        self._meta["seq"] = batch.id.seq + 1
        return batch, told

    def _label(self, now: float, trust: str) -> Stamp:
        epoch, seq = str(self._meta["epoch"]), int(self._meta["seq"])
        id_ = BatchId(self._head.gateway, self._head.recipient, epoch, seq)
        return Stamp(id_, Lane.LIVE, now, trust, self._head.privacy)

    def unreceipted(self) -> list[Sealed]:
        """Batches without a receipt, of all epochs, in the order sealed, byte for byte as sealed.

        One that the disk has damaged is quarantined instead, for its bytes cannot be sent again.
        """
        found, broken = self._outbox.unreceipted()
        for id_ in broken:
            self.quarantine(id_, UNREADABLE)
        return found

    def settle(self, receipt: Receipt, now: float) -> Settled:
        """Apply the recipient's word, in one commit (delivery rules 3, 4, 8, 9).

        What it says of another gateway, recipient, epoch, seq or hash never settles a batch.
        """
        if (receipt.gateway, receipt.recipient) != (self._head.gateway, self._head.recipient):
            return Settled(ignored=len(receipt.stored) + len(receipt.rejected))
        plan = self._settling.plan(receipt)
        back = [row.series for rows in plan.returned.values() for row in rows]
        self._meet(self._names.unknown(back))
        settled = self._room.durably(lambda: self._settling.apply(plan, now))
        self._settling.applied(settled)
        return settled

    def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """Send a batch no more, because the transport or the far side never will take it."""
        self._room.durably(lambda: self._outbox.quarantine(id.epoch, id.seq, reason))

    def forget(self, before: float) -> int:
        """Delete batches receipted before that time, seconds since 1970; how many."""
        return self._room.durably(lambda: self._outbox.forget(before))

    def backlog(self) -> Backlog:
        """What is in here now."""
        slots, oldest = self._database.read("SELECT coalesce(sum(slots), 0), min(t0) FROM block")[0]
        unreceipted, batch_rows = self._outbox.count(State.UNRECEIPTED)
        return Backlog(
            rows=self._waiting.total,
            slots=slots,
            batches=unreceipted,
            batch_rows=batch_rows,
            quarantined=self._outbox.count(State.QUARANTINED)[0],
            oldest=oldest,
            used=self._database.pages() * PAGE,
            cap=self._cap,
            refused=self._refused,
            unreadable=int(self._meta.number("unreadable") or 0),
        )

    def _append(self, rows: Sequence[Reading], marks: Mapping[MarkKey, Mark]) -> None:
        body = b""
        if rows:
            new = self._names.unknown(row.series for row in rows)
            self._room.ensure(len(new) * ROOM)
            self._meet(new)
            body = self._waiting.body(rows)
            self._room.ensure(len(body))

        def change() -> None:
            if rows:
                self._waiting.add(rows, body)
            self._put_marks(marks)
            if self._refused != self._refused_on_disk:  # a page less to write in most commits
                self._meta["refused"] = self._refused

        self._room.once(change)
        self._refused_on_disk = self._refused

    def _put_marks(self, marks: Mapping[MarkKey, Mark]) -> None:
        self._database.write_all(
            "INSERT OR REPLACE INTO mark VALUES(?,?,?,?,?)",
            [(*key, *mark) for key, mark in marks.items()],
        )

    def _meet(self, new: list[Series]) -> None:
        """Number series not met before, so that rows of them can be packed."""
        if new:
            self._room.durably(lambda: self._names.write(new))
            self._names.learn(new)
