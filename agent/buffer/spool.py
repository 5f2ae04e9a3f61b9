"""The spool of one recipient: rows in, sealed batches out, gone only by the recipient's word.

Synchronous; one instance belongs to the one thread that opened it. Every method that changes
something has it on the disk when it returns, or has changed nothing when it raises.
"""

from __future__ import annotations

import secrets
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from agent.buffer.announcements import Announced
from agent.buffer.backlog import BacklogCount
from agent.buffer.batch import Stamp, read_audit
from agent.buffer.capacity import AT_FIRST, DiskSpace, SpoolCapacity
from agent.buffer.database import Damaged, Database, set_aside, suspicion
from agent.buffer.disclosures import DisclosureCounts, DisclosureTokens
from agent.buffer.keys import SpoolKeys
from agent.buffer.memory import provisional
from agent.buffer.outbox import Outbox
from agent.buffer.pending import PendingRows
from agent.buffer.periods import Periods, Wrong, wrong
from agent.buffer.person_data import Holdings
from agent.buffer.person_keys import PersonKeys
from agent.buffer.purge import Purge
from agent.buffer.receipt_application import UNREADABLE, ReceiptApplication
from agent.buffer.receipt_evaluation import Settled
from agent.buffer.resending import Resending
from agent.buffer.retracting import Retracting
from agent.buffer.rotation import Rotation
from agent.buffer.schema import Meta, claim, rekeyed
from agent.buffer.sealing import Sealing, SealRequest
from agent.buffer.series_ids import ROOM, SeriesIds
from agent.buffer.shedding import Shedding
from agent.buffer.states import States
from agent.buffer.upkeep import Upkeep
from agent.buffer.versions import Versions
from agent.buffer.voided_rows import VoidedRows
from agent.clock import seconds
from agent.errors import Refused, SpoolFull, StorageFailed
from agent.model import BatchId, Lane, Retraction, SlotMark, Void
from agent.storage import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.buffer.announcements import Item
    from agent.buffer.backlog import Backlog
    from agent.buffer.batch import BatchHead
    from agent.buffer.disclosures import Disclosure
    from agent.buffer.downsampling import Midnight
    from agent.buffer.outbox import Pack
    from agent.buffer.rotation import SealedTable, Stage
    from agent.buffer.sealing import BasisCheck
    from agent.clock import Period
    from agent.model import MarkKey, Range, Reading, Receipt, SealedBatch, Series

FEW = 5
"""batches among which one that is no void is looked for"""
SMALLEST = 2 * 1024 * 1024
PURGING = "purging"
"""the change of the registry up to which is being purged"""
RESENT_AT_ONCE = 200
"""batches that are asked for again in one commit"""


class Spool:
    """See the module; `open` is the only way to one."""

    @classmethod
    @contextmanager
    def open(  # noqa: PLR0913 -- two limits
        cls,
        path: Path,
        key: bytes,
        head: BatchHead,
        max_bytes: int,
        reserve: int = 0,
        *,
        judged: bool = False,
        before: bytes | None = None,
    ) -> Iterator[Spool]:
        """Open, or begin, the spool of one gateway to one recipient under the gateway's key.

        `before`: the gateway's key before, while that is being rotated (see `rekey`).

        `max_bytes` caps the file; its log comes on top, 1.5 MB. Where the disk has no more than
        `reserve` bytes left, the file does not grow for rows. A damaged file is set
        aside (see `set_aside`) and a new one begun. `judged`: an upgrade is under judgement,
        and the file stays in the format of the version before. Raises Refused, with what to do, if
        the file is another's, under another key, in use, or no spool.
        """
        if max_bytes < SMALLEST:
            raise Refused(f"a spool of {max_bytes} bytes is too small; give it at least 2 MB")
        damaged = set_aside(path) if suspicion(path).exists() else None
        keys = partial(SpoolKeys, key, head.gateway, head.recipient, before)
        try:
            spool = cls(path, keys(), head, max_bytes, reserve, judged=judged)
        except Damaged:
            damaged = set_aside(path)
            spool = cls(path, keys(), head, max_bytes, reserve, judged=judged)
        except OSError as error:
            raise StorageFailed(reason_of(error, path.parent) or str(error)) from error
        except SpoolFull as error:
            raise Refused(f"the disk has no room to begin the spool {path}; free some") from error
        spool.set_aside = damaged
        try:
            yield spool
        finally:
            spool._database.close()

    def __init__(  # noqa: PLR0913 -- as `open`
        self,
        path: Path,
        keys: SpoolKeys,
        head: BatchHead,
        max_bytes: int,
        reserve: int,
        *,
        judged: bool,
    ) -> None:
        self.set_aside: Path | None = None
        """where a damaged spool was put that this one replaces"""
        self._head = head
        self._provisional = bool(head.kept)
        self._cap = max_bytes
        # an earlier version kept room for its log in it
        path.with_name(f"{path.name}.ballast").unlink(missing_ok=True)
        self._database = Database(path, max_bytes, AT_FIRST)
        self._new_voids: list[BatchId] = []
        try:
            self._open_parts(path, keys, DiskSpace(path.parent, reserve), judged=judged)
        except BaseException:
            self._database.close()
            raise

    def _open_parts(self, path: Path, keys: SpoolKeys, disk: DiskSpace, *, judged: bool) -> None:
        database, head = self._database, self._head
        claim(database, path, keys, head, judged=judged)
        meta = self._meta = Meta(database)
        self._versions, self._periods = Versions(meta), Periods(database)
        series_ids = self._series_ids = SeriesIds(database, keys)
        self._keys, self._rotation = keys, Rotation(database, keys)
        self._states = States(database, keys)
        person_keys = self._person_keys = PersonKeys(database, keys)
        self._pending = pending = PendingRows(database, keys, series_ids, person_keys, meta)
        self._voided_rows = voided_rows = VoidedRows(
            database, keys, series_ids, person_keys, judged=judged
        )
        self._outbox = outbox = Outbox(database, keys, head.gateway, head.recipient, judged=judged)
        self._capacity = SpoolCapacity(database, outbox, pending, disk, self._cap)
        self._capacity.retractions = series_ids.bases
        self._sealing = Sealing(pending, outbox, person_keys, meta, head)
        self._retracting = Retracting(database, keys)
        self._disclosures = disclosures = DisclosureCounts(
            database, DisclosureTokens(keys), judged=judged
        )
        self._receipts = ReceiptApplication(
            pending, outbox, voided_rows, self._retracting, disclosures, meta, head
        )
        write_off = self._sealing.write_off
        self._purge = purge = Purge(
            pending, voided_rows, outbox, series_ids, person_keys, meta, write_off
        )
        self._holdings = Holdings(pending, voided_rows, outbox, person_keys)
        self._resending = Resending(outbox, voided_rows, self._retracting, meta, head)
        self._backlog_count = BacklogCount(
            database, pending, voided_rows, outbox, self._retracting, meta
        )
        self._shedding = Shedding(database, pending, meta, write_off)
        self._capacity.shed = self._shedding.step
        self._announced = Announced(database, keys, meta, self._label, judged=judged)
        parts = pending, voided_rows, outbox, self._sealing, self._retracting, purge
        self._upkeep = Upkeep(*parts, self._announced, meta)
        self._refused = self._refused_on_disk = int(meta.number("refused") or 0)
        self.marks(), self.backlog()  # whatever is small is read once, or Damaged here
        with suppress(SpoolFull):  # there will be another start
            self._hide_ids()
        if series_ids.series_of and not pending.total and not voided_rows.count()[0]:
            with suppress(SpoolFull):  # there will be another start
                series_ids.clear()
        if keys.rotating:
            with suppress(SpoolFull):  # whoever rotates it tries again
                self._begin_rotation()

    @property
    def disk_full(self) -> bool:
        """Whether the last rows found no room but inside the file, though the cap allows more."""
        return self._capacity.disk_full

    def _hide_ids(self) -> None:
        """No id of a dwelling, or of people, is left as an earlier version wrote it."""
        hidden = False
        for part in (self._disclosures, self._announced):
            if self._capacity.durably(part.begin_hiding):
                hidden = True
                while self._capacity.durably(part.hide):
                    pass
        if hidden:
            self._database.fold()

    def rekey(self, key: bytes) -> None:
        """Seal under this key of the gateway's from now on; what is there is sealed anew by
        `rekey_step`. Both the key and the one before must be on the disk. Raises SpoolFull.
        """
        if not self._keys.under(key):
            self._keys.renew(key)
        self._begin_rotation()

    def _begin_rotation(self) -> None:
        if self._rotation.begun:
            return
        self._hide_ids()

        def begin() -> list[bytes]:
            secrets = self._rotation.begin()
            self._person_keys.rotate(secrets)
            self._disclosures.rotate()
            rekeyed(self._database, self._keys)
            return secrets

        self._person_keys.named_by(self._capacity.step(begin))

    def rekey_step(self) -> bool:
        """Seal the next lot under the key of now, in one commit: nothing that waits is given up for
        it. False: nothing here is under the key before, which is forgotten. Raises SpoolFull.
        """
        parts: tuple[SealedTable | Stage, ...] = (
            self._series_ids.sealed, self._states.sealed, self._retracting.sealed,
            self._voided_rows.sealed, *self._outbox.sealed, self._pending.sealed,
            self._announced.sealed, *self._disclosures.stages,
        )  # fmt: skip

        def end() -> None:
            self._person_keys.forget_before()
            self._disclosures.tidy()

        return self._rotation.step(parts, self._capacity.step, end)

    @property
    def rekeyed(self) -> tuple[int, int]:
        """Bytes that were looked at by `rekey_step`, and bytes there are."""
        return self._rotation.passed, self._database.used()

    def packs(self, packing: Pack | None) -> None:
        """From now on batches are sent, kept and named by their hash as `packing` makes them."""
        self._outbox.packing = packing

    def days(self, midnight: Midnight) -> None:
        """From now on days begin at the building's `midnight`s: the indexes of then are kept when
        room is short. Until this is called they are those of UTC.
        """
        self._shedding.midnight = midnight

    @property
    def applied(self) -> int:
        """The number of the last change of the registry that was applied here; 0: none."""
        return int(self._meta.number("applied") or 0)

    def apply(
        self, revision: int, retractions: Sequence[Retraction], now: float
    ) -> tuple[BatchId, ...]:
        """Apply what a change of the registry takes back (rules T5, T7, T10).

        Destroyed: the rows among those that wait or were put aside; each batch that holds one, of
        which a void remains. The recipient will be told, whether or not a row was found. A change
        that was applied already is not applied again. The batches that are voids now: sending one
        of them must be cut. No file of the spool holds the bytes of what was destroyed any more.

        A first commit destroys keys and queues the retractions; then the rest goes in small ones.
        Until the last of them nothing of people is sealed or handed out (rule B8): where
        this raises, or the process ends, it is to be called again.
        """
        if revision <= self.applied:
            return ()
        mine = [
            retraction
            for retraction in retractions
            if retraction.recipient in (None, self._head.recipient)
        ]
        while True:
            try:
                self._apply(revision, mine, now)
            except SpoolFull:
                if not self._capacity.relieve():
                    raise
            else:
                break
        self._database.fold()
        voided, self._new_voids = tuple(self._new_voids), []
        return voided

    def _apply(self, revision: int, retractions: Sequence[Retraction], now: float) -> None:
        purge, recipient = self._purge, self._head.recipient
        if self._versions.last > now:  # rows may have versions that the clock has yet to reach
            ver = self._versions.last
            retractions = [
                replace(retraction, ver=max(retraction.ver, ver)) for retraction in retractions
            ]
        if retractions:

            def begin() -> None:
                self._meta[PURGING] = revision
                self._retracting.add(retractions)
                purge.begin(retractions, recipient)

            self._capacity.durably(begin)
            for step in purge.steps(retractions, recipient):
                self._new_voids += self._capacity.step(step)

        def end() -> None:
            purge.end(retractions)
            self._meta["applied"] = revision
            self._meta["applied_at"] = now

        self._capacity.step(end)

    @property
    def purging(self) -> bool:
        """Whether a purge has begun that is not done: nothing of people may be sealed or sent."""
        return int(self._meta.number(PURGING) or 0) > self.applied

    def tend(self, now: float, expires: float) -> tuple[BatchId, ...]:
        """What is to be done every half hour; the batches to be sent since: voids, and one that is
        tried again.

        Rows of people that came before the last time are put under their own keys; what nobody
        has receipted `expires` seconds after its slot is destroyed; a batch that has been in
        quarantine for a day becomes a void, so that its rows are tried under another id; of those
        that the transport refused one is tried again.
        """
        upkeep, durably = self._upkeep, self._capacity.durably
        while durably(upkeep.part):
            pass
        upkeep.parted()
        voided: list[BatchId] = []
        for step in upkeep.expiring(int(now - expires)):
            voided += self._capacity.step(step)
        for ended in upkeep.overdue(now):
            voided += durably(partial(upkeep.end_quarantine, ended))
        durably(upkeep.tidy)
        if voided:
            self._database.fold()
        return (*voided, *durably(lambda: upkeep.try_again(now)))

    def most_bytes(self, now: float) -> int | None:
        """How large a payload may be, after refusals for size; None: nothing was refused."""
        limit = self._upkeep.limit
        return None if limit is None else limit.now(now)

    def split(self, batch: SealedBatch, reason: str, now: float) -> bool:
        """Send the rows of a batch that is too large in smaller ones, once its void is receipted.

        In one commit with what is learned of the size. False if it cannot be made smaller: it is
        in quarantine, and tried again as it is.
        """
        try:
            return self._capacity.durably(lambda: self._upkeep.split(batch, reason, now))
        finally:
            self._upkeep.learn()

    def forget_limit(self) -> None:
        """Make batches as large as configured again."""
        if self._upkeep.limit is not None:
            self._capacity.durably(self._upkeep.forget_limit)
            self._upkeep.learn()

    def retry(self) -> int:
        """Send all batches in quarantine once more, byte for byte, and make new ones as large as
        configured; how many.
        """
        self.forget_limit()
        chunks = self._outbox.quarantined_chunks()
        for ids in chunks:
            self._capacity.durably(partial(self._outbox.try_again, ids))
        return sum(map(len, chunks))

    def resend(self, epoch: str, first: int, last: int, now: float) -> int:
        """Send batches again that the recipient asks for, when their turn comes; how many.

        Byte for byte what was sealed, or its void; an id no longer kept is a void (`gone`), as is
        one whose bytes another kind of transport took: its rows come again once that is receipted.
        Of several ids those that were never made are left out. Raises LookupError where none of
        them was, or no such epoch, and ValueError on more than 100,000.
        """
        asked = self._resending.ids(epoch, first, last)
        chunks = (asked[at : at + RESENT_AT_ONCE] for at in range(0, len(asked), RESENT_AT_ONCE))
        return sum(
            self._capacity.durably(partial(self._ask, epoch, chunk, now)) for chunk in chunks
        )

    def _ask(self, epoch: str, seqs: range, now: float) -> int:
        return sum(self._resending.ask(epoch, seq, now) for seq in seqs)

    def asked(self, lane: Lane) -> SealedBatch | None:
        """The next batch of a lane to be sent again by request: unreceipted from here on."""
        if self.purging:
            return None
        batches, broken = self._outbox.asked(lane)
        for id_ in broken:
            self._capacity.durably(partial(self._outbox.void, id_, Void.GONE))
        for batch in batches:
            self._capacity.durably(partial(self._promote, batch.id))
        return batches[0] if batches else None

    def _promote(self, id_: BatchId) -> None:
        self._outbox.promote(id_)
        self._disclosures.sent_again(id_)

    def belongs_to(self, state: str) -> bool:
        """Note which state of the gateway this is part of: its random id.

        Another one than before means a restored or copied state: a new epoch begins, all rows that
        wait are marked `again`, and it is True (rule T9).
        """
        known = self._meta.text("state")
        if known == state:
            return False

        def change() -> None:
            self._meta["state"] = state
            if known is not None:
                self._receipts.begin_epoch()

        self._capacity.durably(change)
        return known is not None

    def retract(self, now: float, trust: str) -> SealedBatch | None:
        """Tell the recipient what it must erase, in one commit; None: it has been told all."""
        if not self._retracting.waiting():
            return None
        return self._capacity.durably(lambda: self._retract(now, trust))

    def _retract(self, now: float, trust: str) -> SealedBatch:
        batch = self._retracting.tell(self._label(now, trust), self._most(now))
        batch = self._outbox.add(batch, now)
        self._meta["seq"] = batch.id.seq + 1
        return batch

    @property
    def epoch(self) -> str:
        """The count of batches that the next one belongs to: 12 hexadecimal digits."""
        return str(self._meta["epoch"])

    def knows(self, epoch: str) -> bool:
        """Whether it is the current epoch, or one of which batches are here."""
        return epoch == self.epoch or self._outbox.knows(epoch)

    def append(
        self, rows: Sequence[Reading], marks: Mapping[MarkKey, SlotMark], now: float | None = None
    ) -> None:
        """Keep rows and marks, in one commit: on the disk when it returns.

        `now`: seconds since 1970 UTC; fresh readings are live for two seal intervals from then on.
        None: their slots alone decide.
        At the cap, and on a full disk, what is worth least of all that waits makes room (see
        `shedding`). Raises SpoolFull when that is not enough: nothing was kept, and the rows are
        counted as refused. Raises ValueError on a row that no batch could carry.
        """
        try:
            self._append(rows, marks, now)
        except SpoolFull:
            self._refused += len(rows)
            raise

    def enter(self, period: Period, *, agreed: bool = False) -> Wrong | None:
        """Begin a clock period at the marks of now, in one commit, unless it is the one already.

        `agreed`: a time service and the platform agree on its time. What was closed by a wrong
        clock, if that is proved now and was not put right yet (`set_back`).
        """
        if not self._periods.continues(period):
            self._capacity.durably(lambda: self._periods.enter(period, self._slots()))
        return wrong(self._periods.known(), agreed=agreed)

    def wrong_since(self, moment: float) -> Wrong:
        """What was closed since then, as a person says that the clock has been wrong since."""
        known, marks = self._periods.known(), self._slots()
        ends = [max(period.marks.values(), default=0) for period in known[1:]]
        taken = [period.no for period, end in zip(known, ends, strict=False) if end > moment]
        return Wrong(
            {key: min(slot, int(moment)) for key, slot in marks.items()}, marks, tuple(taken)
        )

    def set_back(
        self,
        wrong_slots: Wrong,
        ranges: Sequence[Range],
        rows: Sequence[Reading],
        marks: Mapping[MarkKey, SlotMark],
        now: float,
    ) -> None:
        """Take back what a wrong clock closed, in one commit (rule C5).

        The recipient is told to remove all rows of `ranges`, those that wait are destroyed; `rows`
        close the slots that have passed, with versions above the retractions'; `marks` stand from
        here on, and every later row for a slot at or below the highest one that was ever closed has
        a version. Raises SpoolFull, and nothing has changed.
        """
        try:
            self._set_back(wrong_slots, ranges, rows, marks, now)
        except BaseException:
            self._versions.restore()
            raise

    def _set_back(
        self,
        wrong_slots: Wrong,
        ranges: Sequence[Range],
        rows: Sequence[Reading],
        marks: Mapping[MarkKey, SlotMark],
        now: float,
    ) -> None:
        self._meet(self._series_ids.unknown(row.series for row in rows))
        ver = max(int(now), self._versions.last + 1)
        highest = max([mark.slot for mark in self.marks().values()], default=-1)

        def change() -> None:
            self._versions.close(highest)
            versioned, last = self._versions.given(rows, now, ver)
            retractions = [_by_the_clock(range_, ver) for range_ in ranges]
            self._purge.drop_waiting(retractions, self._head.recipient)
            self._retracting.add(retractions)
            if versioned:
                self._pending.add(versioned, self._pending.body(versioned), now)
            self._put_marks(marks)
            self._versions.keep(last)
            self._periods.put_right(wrong_slots.entries, self._slots())

        self._capacity.durably(change)

    def _slots(self) -> dict[MarkKey, int]:
        return {key: mark.slot for key, mark in self.marks().items()}

    def marks(self) -> dict[MarkKey, SlotMark]:
        """How far the slots of each device are closed, as last appended."""
        states = self._states.read()
        return {
            (device, step): SlotMark(slot, bool(heard), serial, states.get((device, step), ()))
            for device, step, slot, heard, serial in self._database.read(
                "SELECT device, step, slot, heard, serial FROM mark"
            )
        }

    def waiting(self, live_after: int) -> tuple[int, int]:
        """Rows waiting, live and in backfill, without opening any: a block that holds both counts
        whole in each. Zero means none.
        """
        return self._pending.counts(live_after)

    def seal(  # noqa: PLR0913, PLR0917 -- what a batch states and how large it may be is the caller's
        self,
        lane: Lane,
        now: float,
        trust: str,
        live_after: int,
        most_rows: int = 5000,
        most_bytes: int = 48_000,
        bases: BasisCheck | None = None,
    ) -> SealedBatch | None:
        """Make the next batch of a lane out of rows that wait, in one commit; None if none do.

        Live rows are those whose slot is after `live_after` and fresh readings that were committed
        after it (`waiting.lane_of`), backfill the others; oldest first,
        and in their order for each series. The payload has at most `most_bytes` before it is
        packed, and never so many that those unreceipted would not find room.
        Rows of dwellings are asked for in `bases`, inside the transaction; one whose basis does not
        stand is destroyed, and nothing is sealed while a change of the registry is not applied.
        Raises SpoolFull only if nothing is left to give up for it.
        """
        if self.purging:
            return None
        most = min(most_bytes, self._capacity.for_a_batch(), self._most(now))
        request = SealRequest(lane, now, trust, live_after, most_rows, most, bases)
        return self._capacity.durably(lambda: self._sealing.seal(request))

    def announced(self) -> dict[str, Item]:
        """What the recipient was last told of the building, by key, in whatever epoch."""
        return self._announced.all()

    def announce(self, directory: Mapping[str, Item], now: float, trust: str) -> SealedBatch | None:
        """Tell the recipient what has changed in the directory, in one commit; None: nothing.

        At most a batch full at a time: what is left comes with the next call. A new epoch is told
        all anew. Raises SpoolFull as `seal` does.
        """
        if not self._announced.differs(directory):
            return None
        batch, items = self._capacity.durably(lambda: self._announce(directory, now, trust))
        self._announced.learn(batch.id.epoch, items)
        return batch

    def tell_again(self) -> None:
        """Tell the recipient all of the directory anew, in a commit."""
        self._capacity.durably(self._announced.again)

    def _announce(
        self, directory: Mapping[str, Item], now: float, trust: str
    ) -> tuple[SealedBatch, dict[str, str]]:
        batch, items = self._announced.tell(directory, now, trust, self._most(now))
        batch = self._outbox.add(batch, now)
        self._meta["seq"] = batch.id.seq + 1
        return batch, items

    def _most(self, now: float) -> int:
        most = self.most_bytes(now)
        return sys.maxsize if most is None else most

    def _label(self, now: float, trust: str) -> Stamp:
        epoch, seq = str(self._meta["epoch"]), int(self._meta["seq"])
        id_ = BatchId(self._head.gateway, self._head.recipient, epoch, seq)
        head = self._head
        return Stamp(id_, Lane.LIVE, now, trust, head.privacy, head.audit(), head.kept)

    def unreceipted(self) -> list[SealedBatch]:
        """Batches without a receipt, of all epochs, in the order sealed, byte for byte as sealed.

        One that the disk has damaged is quarantined instead, for its bytes cannot be sent again;
        one that was made for another kind of transport is a void from here on, and its rows wait.
        Raises UplinkLost where a void cannot be packed now.
        """
        with suppress(SpoolFull):  # then it waits as it is
            for other in self._outbox.otherwise():
                self._capacity.durably(partial(self._resending.adapt, [other]))
        batches, broken = self._outbox.unreceipted()
        for id_ in broken:
            self.quarantine(id_, UNREADABLE)
        return [batch for batch in batches if not batch.rows] if self.purging else batches

    def quarantined(self) -> list[SealedBatch]:
        """Batches that were rejected: a receipt may still call one stored (rule T4)."""
        return self._outbox.quarantined()

    def settle(self, receipt: Receipt, now: float) -> Settled:
        """Apply the recipient's word, in one commit (rules T3, T4, T8, T9).

        What it says of another gateway, recipient, epoch, seq or hash never settles a batch.
        """
        if (receipt.gateway, receipt.recipient) != (self._head.gateway, self._head.recipient):
            return Settled(ignored=len(receipt.stored) + len(receipt.rejected))
        plan = self._receipts.plan(receipt)
        back = [row.series for rows in plan.returned.values() for row in rows or ()]
        for seq in plan.verdict.stored:  # of a void, its other rows are sealed anew
            back += [row.series for row in self._voided_rows.rows(plan.epoch, seq)]
        self._meet(self._series_ids.unknown(back))

        def change() -> Settled:
            if self._upkeep.limit is not None:
                sizes = [self._outbox.sealed_size(plan.epoch, seq) for seq in plan.verdict.stored]
                self._upkeep.took(sizes)
            return self._receipts.apply(plan, now)

        try:
            settled = self._capacity.durably(change)
        finally:
            self._upkeep.learn()
        self._receipts.applied(settled)
        return settled

    def receipted_audit(self) -> str | None:
        """A late hash of the audit chain that the recipient has receipted; None: none is known."""
        hashes = (read_audit(payload) for payload in self._outbox.receipted(FEW))
        return next((digest for digest in hashes if digest is not None), None)

    def quarantine(self, id: BatchId, reason: str, now: float = 0.0) -> None:  # noqa: A002 -- it is one
        """Send a batch no more that nobody can read."""
        self._capacity.durably(lambda: self._outbox.quarantine(id.epoch, id.seq, reason, now))

    def refuse(self, id: BatchId, reason: str, now: float) -> None:  # noqa: A002 -- it is one
        """Put a batch into quarantine that the transport did not take: it is tried again."""
        self._capacity.durably(lambda: self._outbox.refuse(id, reason, now))

    def forget(self, before: float) -> int:
        """Delete batches receipted before that time, seconds since 1970; how many."""
        self._capacity.durably(lambda: self._disclosures.forget(before))
        forgotten = 0
        while some := self._capacity.in_pieces(partial(self._outbox.forget, before)):
            forgotten += some
        return forgotten

    def disclosures(self, place: str = "") -> list[Disclosure]:
        """How many values of dwellings, or of one, the recipient has received, day by day, for five
        years.
        """
        return self._disclosures.all(place)

    def erasures(self) -> dict[str, int | None]:
        """By the id of each retraction, how many rows the recipient says that it has erased; None:
        it has not confirmed it.
        """
        return self._retracting.confirmed()

    def held_of(self, occupancy: str) -> list[Reading]:
        """The rows of those people that have not been received yet: for them to read."""
        return self._holdings.of(occupancy)

    def probe(self) -> None:
        """Commit something, to know that the disk takes it. Raises StorageFailed."""
        with suppress(SpoolFull):  # a full disk is not one that fails
            self._capacity.durably(lambda: self._meta.add("probed", 1))

    def adopt(
        self,
        epoch: str,
        disclosures: Sequence[Disclosure],
        erasures: Mapping[str, int | None],
    ) -> None:
        """Take over, once, the record of what was received of a spool that goes."""
        if self._meta.text("adopted") == epoch:
            return

        def change() -> None:
            self._disclosures.adopt(disclosures)
            self._retracting.erased([(id_, n) for id_, n in erasures.items() if n is not None])
            self._meta["adopted"] = epoch

        self._capacity.durably(change)

    @property
    def given(self) -> tuple[int, int]:
        """The last version given, and the highest slot below which rows need one."""
        return self._versions.last, self._versions.highest

    def go_on_after(self, last: int, highest: int) -> None:
        """Give versions after those that another spool has given to the same recipient."""

        def change() -> None:
            self._versions.keep(max(last, self._versions.last))
            self._versions.close(highest)

        if last > self._versions.last or highest > self._versions.highest:
            self._capacity.durably(change)

    def backlog(self) -> Backlog:
        """What is in here now."""
        return self._backlog_count.now(self._cap, self._refused)

    def _append(
        self, rows: Sequence[Reading], marks: Mapping[MarkKey, SlotMark], now: float | None
    ) -> None:
        body, last = b"", self._versions.last
        if self._provisional:
            rows = provisional(rows, int(seconds() if now is None else now))
        if rows:
            rows, last = self._versions.given(rows, now)
            new = self._series_ids.unknown(row.series for row in rows)
            self._capacity.ensure(len(new) * ROOM)
            self._meet(new)
            body = self._pending.body(rows)
            self._capacity.ensure(len(body))

        def change() -> None:
            if rows:
                self._pending.add(rows, body, now)
            self._put_marks(marks)
            self._versions.keep(last)
            if self._refused != self._refused_on_disk:  # a page less to write in most commits
                self._meta["refused"] = self._refused

        self._capacity.admit(change)
        self._refused_on_disk = self._refused

    def _put_marks(self, marks: Mapping[MarkKey, SlotMark]) -> None:
        self._database.write_all(
            "INSERT OR REPLACE INTO mark VALUES(?,?,?,?,?)",
            [(*key, mark.slot, mark.heard, mark.serial) for key, mark in marks.items()],
        )
        self._states.write(marks)

    def _meet(self, new: list[Series]) -> None:
        """Number series not met before, so that rows of them can be packed."""
        if new:
            self._capacity.durably(lambda: self._series_ids.write(new))
            self._series_ids.learn(new)


def _by_the_clock(range_: Range, ver: int) -> Retraction:
    scope = (None, range_.place, range_.channel, None, None, None, range_.since, range_.until)
    return Retraction(secrets.token_hex(8), *scope, ver, "clock")
