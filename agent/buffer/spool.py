"""The spool of one recipient: takes rows, gives sealed batches, and deletes only after a receipt.

Synchronous; one instance belongs to the thread that opened it. A method that changes something has
it on the disk when it returns, and has changed nothing if it raises.
"""

from __future__ import annotations

import secrets
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent.buffer.announcements import NOT_SENT, Announced, Retracting
from agent.buffer.batch import Stamp, read_audit
from agent.buffer.capacity import AT_FIRST, DiskSpace, Shedding, SpoolCapacity
from agent.buffer.database import Damaged, Database, set_aside, suspicion
from agent.buffer.disclosures import DisclosureCounts, DisclosureTokens
from agent.buffer.erasure import Holdings, Purge, VoidedRows
from agent.buffer.keys import PersonKeys, Rotation, SpoolKeys
from agent.buffer.outbox import Outbox, Sealing, SealRequest
from agent.buffer.pending import ROOM, PendingRows, SeriesIds
from agent.buffer.receipts import UNREADABLE, ReceiptApplication, Resending, Settled
from agent.buffer.schema import Meta, Periods, States, Versions, Wrong, claim, rekeyed, wrong
from agent.buffer.upkeep import BacklogCount, Upkeep
from agent.core.clock import seconds
from agent.core.errors import Refused, SpoolFull, StorageFailed
from agent.core.model import BatchId, Lane, Retraction, SlotMark, Void
from agent.core.storage import reason_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.buffer.announcements import Item
    from agent.buffer.batch import BatchHead
    from agent.buffer.capacity import Midnight
    from agent.buffer.disclosures import Disclosure, ReceivedSlots
    from agent.buffer.keys import SealedTable, Stage
    from agent.buffer.outbox import BasisCheck, Pack
    from agent.buffer.upkeep import Backlog
    from agent.core.clock import Period
    from agent.core.model import MarkKey, Range, Reading, Receipt, SealedBatch, Series

FEW = 5
"""batches among which one that is not a void is searched"""
SMALLEST = 2 * 1024 * 1024
PURGING, RECORDED = "purging", "recorded"
"""facts of the spool: the change of the registry that is being purged, and the last of the applied
ones that the registry had recorded"""
RESENT_AT_ONCE = 200
"""batches that are requested again in one commit"""
KEPT = "memory"
"""the value of `kept` in its batches"""
CAP = 8 * 1024 * 1024
"""bytes for each recipient: they count as memory of the systemd service"""


class Spool:
    """The spool of one recipient; use `open`."""

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
        on_trial: bool = False,
        before: bytes | None = None,
    ) -> Iterator[Spool]:
        """Open or create the spool of one gateway for one recipient, under the gateway's key.

        `before`: the gateway's earlier key, during a rotation (see `rekey`).

        `max_bytes` caps the file; its log takes 1.5 MB more. Where the disk has at most `reserve`
        bytes free, the file does not grow for rows. A damaged file is set aside (see `set_aside`)
        and a new one created. `on_trial`: of an upgrade: the file stays in the format of
        the version before.

        Raises Refused, with a remedy, if the file is of another gateway or recipient, under another
        key, in use, or no spool.
        """
        if max_bytes < SMALLEST:
            raise Refused(
                "a spool of {max_bytes} bytes is too small: configure at least 2 MB",
                max_bytes=max_bytes,
            )
        damaged = set_aside(path) if suspicion(path).exists() else None
        keys = partial(SpoolKeys, key, head.gateway, head.recipient, before)
        try:
            spool = cls(path, keys(), head, max_bytes, reserve, on_trial=on_trial)
        except Damaged:
            damaged = set_aside(path)
            spool = cls(path, keys(), head, max_bytes, reserve, on_trial=on_trial)
        except OSError as error:
            raise StorageFailed(reason_of(error, path.parent) or str(error)) from error
        except SpoolFull as error:
            raise Refused(
                "the disk has no room for the new spool {path}: make room on the disk", path=path
            ) from error
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
        on_trial: bool,
    ) -> None:
        self.set_aside: Path | None = None
        """the damaged spool that this one replaces"""
        self._head = head
        self._provisional = bool(head.kept)
        self._cap = max_bytes
        # an earlier version reserved room for its log in this file
        path.with_name(f"{path.name}.ballast").unlink(missing_ok=True)
        self._database = Database(path, max_bytes, AT_FIRST)
        self._new_voids: list[BatchId] = []
        try:
            self._open_parts(path, keys, DiskSpace(path.parent, reserve), on_trial=on_trial)
        except BaseException:
            self._database.close()
            raise

    def _open_parts(self, path: Path, keys: SpoolKeys, disk: DiskSpace, *, on_trial: bool) -> None:
        database, head = self._database, self._head
        claim(database, path, keys, head, on_trial=on_trial)
        meta = self._meta = Meta(database)
        self._versions, self._periods = Versions(meta), Periods(database)
        series_ids = self._series_ids = SeriesIds(database, keys)
        self._keys, self._rotation = keys, Rotation(database, keys)
        self._states = States(database, keys)
        person_keys = self._person_keys = PersonKeys(database, keys)
        self._pending = pending = PendingRows(database, keys, series_ids, person_keys, meta)
        self._voided_rows = voided_rows = VoidedRows(
            database, keys, series_ids, person_keys, on_trial=on_trial
        )
        self._outbox = outbox = Outbox(
            database, keys, head.gateway, head.recipient, on_trial=on_trial
        )
        self._capacity = SpoolCapacity(database, outbox, pending, disk, self._cap)
        self._capacity.retractions = series_ids.bases
        self._sealing = Sealing(pending, outbox, person_keys, meta, head)
        self._retracting = Retracting(database, keys)
        self._disclosures = disclosures = DisclosureCounts(
            database, DisclosureTokens(keys), on_trial=on_trial
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
        disclosures.room = self._capacity.open_to_rows
        self._announced = Announced(database, keys, meta, self._label, on_trial=on_trial)
        parts = pending, voided_rows, outbox, self._sealing, self._retracting, purge
        self._upkeep = Upkeep(*parts, self._announced, meta)
        self._sealing.explained = self._announced.explains
        self._refused = self._refused_on_disk = int(meta.number("refused") or 0)
        self.marks(), self.backlog()  # read the small tables now, so that damage shows at once
        with suppress(SpoolFull):  # the next start tries again
            self._hide_ids()
        if series_ids.series_of and not pending.total and not voided_rows.count()[0]:
            with suppress(SpoolFull):  # the next start tries again
                series_ids.clear()
        if keys.rotating:
            with suppress(SpoolFull):  # the caller of `rekey` tries again
                self._begin_rotation()

    @property
    def disk_full(self) -> bool:
        """Whether the last rows had only the room inside the file, though the cap allows more."""
        return self._capacity.disk_full

    def _hide_ids(self) -> None:
        """Replace ids of dwellings and people that an earlier version wrote in clear."""
        hidden = False
        for part in (self._disclosures, self._announced):
            if self._capacity.durably(part.begin_hiding):
                hidden = True
                while self._capacity.durably(part.hide):
                    pass
        if hidden:
            self._database.fold()

    def rekey(self, key: bytes) -> None:
        """Seal under this key of the gateway from now on; `rekey_step` seals existing bodies again.
        Both keys must be on the disk. Raises SpoolFull.
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
        """Seal the next chunk under the present key, in one commit; no waiting row is given up for
        it. False: no body is under the earlier key, which is forgotten. Raises SpoolFull.
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
        """Bytes that `rekey_step` has checked, and bytes in all."""
        return self._rotation.passed, self._database.used()

    def packs(self, packing: Pack | None) -> None:
        """From now on batches are sent, stored and hashed in the form that `packing` makes."""
        self._outbox.packing = packing

    def days(self, midnight: Midnight) -> None:
        """From now on days begin at the building's `midnight`s, whose indexes are kept when room is
        short. Before this call days begin in UTC.
        """
        self._shedding.midnight = midnight

    @property
    def applied(self) -> int:
        """The number of the last change of the registry that was applied here; 0: none."""
        return int(self._meta.number("applied") or 0)

    def forget_lost(self, revision: int) -> Collection[str]:
        """Forget the changes after `revision`, with which the registry ends, that it could never
        record: they were lost with the power, and others get their numbers (rule T7).

        Returns the ids of all retractions here if there were such changes: the withdrawals among
        them are lost no more (rule D12).
        """
        applied, purging = self.applied, int(self._meta.number(PURGING) or 0)
        if not self._recorded <= revision < max(applied, purging):
            return ()

        def forget() -> None:
            self._meta["applied"] = min(applied, revision)
            self._meta[PURGING] = min(purging, revision)

        self._capacity.step(forget)
        return self._retracting.ids()

    @property
    def _recorded(self) -> int:
        """The last of the applied changes that the registry had recorded."""
        recorded = self._meta.number(RECORDED)
        return self.applied if recorded is None else int(recorded)

    def apply(
        self,
        revision: int,
        retractions: Sequence[Retraction],
        now: float,
        recorded: int | None = None,
    ) -> tuple[BatchId, ...]:
        """Apply the retractions of a change of the registry (rules T5, T7, T10).

        This destroys the affected rows among those that wait or are kept for voids, and makes a
        void of each batch with such a row. The recipient is told in any case. A change is applied
        once only. Returns the batches that became voids: sending one of them must be cut off.
        Afterwards no file of the spool has the bytes of the destroyed rows. `recorded`: the last
        change that the registry has on the disk; None: all.

        A first commit destroys keys and queues the retractions; small commits do the rest. Until
        the last one no row of people is sealed or handed out (rule B8). If this raises, or the
        process ends, call it again.
        """
        recorded = revision if recorded is None else min(recorded, revision)
        if revision <= self.applied:
            if recorded > self._recorded:
                self._capacity.step(lambda: self._meta.__setitem__(RECORDED, recorded))
            return ()
        # Retractions for other recipients are applied in their spools.
        mine = [
            retraction
            for retraction in retractions
            if retraction.recipient in (None, self._head.recipient)
        ]
        while True:
            try:
                self._apply(revision, mine, now, recorded)
            except SpoolFull:
                if not self._capacity.relieve():
                    raise
            else:
                break
        self._database.fold()
        voided, self._new_voids = tuple(self._new_voids), []
        return voided

    def _apply(
        self, revision: int, retractions: Sequence[Retraction], now: float, recorded: int
    ) -> None:
        purge, recipient = self._purge, self._head.recipient
        if self._versions.last > now:  # rows may have versions ahead of the clock
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
                # Kept in the object: after SpoolFull the purge is repeated, and these batches are
                # voids already.
                self._new_voids += self._capacity.step(step)

        def end() -> None:
            purge.end(retractions)
            self._meta["applied"], self._meta[RECORDED] = revision, recorded
            self._meta["applied_at"] = now

        self._capacity.step(end)

    @property
    def purging(self) -> bool:
        """Whether a purge is under way: no row of people may be sealed or sent."""
        return int(self._meta.number(PURGING) or 0) > self.applied

    def tend(self, now: float, expires: float) -> tuple[BatchId, ...]:
        """The regular work of every half hour. Returns the batches to be sent because of it: voids,
        and one that is tried again.

        Rows of people that came before the last call are put under their own keys. Rows without a
        receipt `expires` seconds after their slot are destroyed. A batch that has been in
        quarantine for a day becomes a void, so that its rows are tried under another id. Of the
        batches that the transport refused one is tried again. What a clock that was ahead has dated
        counts from now on, or it would wait until that time.
        """
        upkeep, durably = self._upkeep, self._capacity.durably
        while self._outbox.ahead(now):
            self._capacity.in_pieces(partial(self._outbox.count_from, now))
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
        """Size limit of a payload after refusals for size; None: nothing was refused."""
        limit = self._upkeep.limit
        return None if limit is None else limit.now(now)

    def split(self, batch: SealedBatch, reason: str, now: float) -> bool:
        """Send the rows of a batch that is too large in smaller ones, once its void is receipted.

        In one commit with the new size limit. False if it cannot be divided: it is in quarantine,
        and tried again as it is.
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
        """Send all batches in quarantine again, byte for byte, and make new ones as large as
        configured. Return how many.
        """
        self.forget_limit()
        chunks = self._outbox.quarantined_chunks()
        for ids in chunks:
            self._capacity.durably(partial(self._outbox.try_again, ids))
        return sum(map(len, chunks))

    def resend(self, epoch: str, first: int, last: int, now: float) -> int:
        """Send batches again that the recipient requests, when their turn comes. Return how many.

        A batch is sent byte for byte as it was sealed, or its void. An id that is no longer stored
        is sent as a void (`gone`). So is a batch in the form of another kind of transport; its rows
        are sent again once the void is receipted. Ids that were never made are left out. Raises
        LookupError if none of them was made, or there is no such epoch, and ValueError on more than
        100,000.
        """
        asked = self._resending.ids(epoch, first, last)
        chunks = (asked[at : at + RESENT_AT_ONCE] for at in range(0, len(asked), RESENT_AT_ONCE))
        return sum(
            self._capacity.durably(partial(self._ask, epoch, chunk, now)) for chunk in chunks
        )

    def distrust(self, kids: Collection[str], now: float) -> int:
        """Send kept batches again whose receipts were signed with these revoked keys (rule T38).
        Return how many.
        """

        def change() -> int:
            ids = self._outbox.settled_by(kids, RESENT_AT_ONCE)
            return sum(self._resending.ask(id_.epoch, id_.seq, now) for id_ in ids)

        count = 0
        while some := self._capacity.durably(change):
            count += some
        return count

    def _ask(self, epoch: str, seqs: range, now: float) -> int:
        return sum(self._resending.ask(epoch, seq, now) for seq in seqs)

    def asked(self, lane: Lane) -> SealedBatch | None:
        """The next requested batch of a lane; from now on it is unreceipted."""
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
        """Note the state of the gateway that this spool is part of, by its random id.

        Another id than before means a restored or copied state: a new epoch begins, all waiting
        rows are marked `again`, and the result is True (rule T9).
        """
        known = self._meta.text("state")
        if known == state:
            return False

        def change() -> None:
            self._meta["state"] = state
            # A new spool has no state yet; that is not a restored one.
            if known is not None:
                self._receipts.begin_epoch()

        self._capacity.durably(change)
        return known is not None

    def retract(self, now: float, trust: str) -> SealedBatch | None:
        """Make a batch of retractions that the recipient has not been sent, in one commit; None:
        there are none.
        """
        if not self._retracting.waiting():
            return None
        return self._capacity.durably(lambda: self._retract(now, trust))

    def _retract(self, now: float, trust: str) -> SealedBatch:
        batch = self._retracting.next_batch(self._label(now, trust), self._most(now))
        batch = self._outbox.add(batch, now)
        self._meta["seq"] = batch.id.seq + 1
        return batch

    @property
    def epoch(self) -> str:
        """The epoch of the next batch: 12 hexadecimal digits."""
        return str(self._meta["epoch"])

    def knows(self, epoch: str) -> bool:
        """Whether it is the current epoch, or one with stored batches."""
        return epoch == self.epoch or self._outbox.knows(epoch)

    def append(
        self,
        rows: Sequence[Reading],
        marks: Mapping[MarkKey, SlotMark],
        now: float | None = None,
        owed: Mapping[str, Item] = MappingProxyType({}),
    ) -> None:
        """Store rows and marks, in one commit: they are on the disk when it returns.

        `owed`: the series of these rows that the recipient is owed, as items of the directory. They
        are kept until they are sent, and no row of them is sealed before that (rule T21).

        `now`: seconds since 1970 UTC; fresh readings are live for two seal intervals from then on.
        None: only their slots decide. At the cap, and on a full disk, the least valuable waiting
        values make room (see `shedding`). Raises SpoolFull when that is not enough: nothing was
        stored, and the rows are counted as refused. Raises ValueError on a row that no batch could
        carry.
        """
        try:
            self._append(rows, marks, now, owed)
        except SpoolFull:
            self._refused += len(rows)
            raise

    def ends_with(self, rows: Sequence[Reading]) -> bool:
        """Whether the last block that was appended has these rows: their commit failed and took
        effect all the same. Ask before anything is appended.
        """
        return self._pending.ends_with(rows)

    def enter(self, period: Period, *, agreed: bool = False) -> Wrong | None:
        """Begin a clock period at the present marks, in one commit, unless it has begun already.

        `agreed`: a time service and the platform agree on its time. Returns the slots that a wrong
        clock closed, if that is proved now and was not put right yet (`set_back`).
        """
        if not self._periods.continues(period):
            self._capacity.durably(lambda: self._periods.enter(period, self._slots()))
        return wrong(self._periods.known(), agreed=agreed)

    def wrong_since(self, moment: float) -> Wrong:
        """The slots closed since `moment`, as a person states that the clock has been wrong
        since.
        """
        known, marks = self._periods.known(), self._slots()
        ends = [max(period.marks.values(), default=0) for period in known[1:]]
        taken = [period.no for period, end in zip(known, ends, strict=False) if end > moment]
        return Wrong(
            {key: min(slot, int(moment)) for key, slot in marks.items()}, marks, tuple(taken)
        )

    def set_back(  # noqa: PLR0913, PLR0917 -- what was wrong, and what is right
        self,
        wrong_slots: Wrong,
        ranges: Sequence[Range],
        rows: Sequence[Reading],
        marks: Mapping[MarkKey, SlotMark],
        now: float,
        owed: Mapping[str, Item] = MappingProxyType({}),
    ) -> None:
        """Retract what a wrong clock closed, in one commit (rule C5).

        The recipient is told to remove all rows of `ranges`; waiting ones are destroyed. `rows`
        close the slots that have passed, with higher versions than the retractions. `owed`: their
        series, as in `append`: of some, all that was closed before may be lost. `marks` are
        valid from now on. Every later row for a slot at or below the highest one ever closed has a
        version. Raises SpoolFull; then nothing has changed.
        """
        try:
            self._set_back(wrong_slots, ranges, rows, marks, now, owed)
        except BaseException:
            self._versions.restore()
            raise

    def _set_back(  # noqa: PLR0913, PLR0917 -- as in `set_back`
        self,
        wrong_slots: Wrong,
        ranges: Sequence[Range],
        rows: Sequence[Reading],
        marks: Mapping[MarkKey, SlotMark],
        now: float,
        owed: Mapping[str, Item],
    ) -> None:
        self._meet(self._series_ids.unknown(row.series for row in rows))
        ver = max(int(now), self._versions.last + 1)
        highest = max([mark.slot for mark in self.marks().values()], default=-1)
        new_items: dict[str, str] = {}

        def change() -> None:
            self._versions.close(highest)
            versioned, last = self._versions.given(rows, now, ver)
            retractions = [_by_the_clock(range_, ver) for range_ in ranges]
            # Rows that wait are destroyed here; the recipient removes those that were sent.
            self._purge.drop_waiting(retractions, self._head.recipient)
            self._retracting.add(retractions)
            if versioned:
                self._pending.add(versioned, self._pending.body(versioned), now)
            new_items.update(self._announced.owe(owed))
            self._put_marks(marks)
            self._versions.keep(last)
            self._periods.put_right(wrong_slots.entries, self._slots())

        self._capacity.durably(change)
        self._announced.learn(NOT_SENT, new_items)

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

    def unreceipted_retractions(self) -> int:
        """How many retractions the recipient has not receipted."""
        return self._retracting.unreceipted()

    def waiting(self, live_after: int) -> tuple[int, int]:
        """Number of waiting rows, live and in backfill, without opening blocks: a block with both
        counts in full in each. Zero means none.
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
        """Make the next batch of a lane out of waiting rows, in one commit; None if there are none.

        Live rows are those whose slot is after `live_after`, and fresh readings that were committed
        after it (see `pending.lane_of`); the others are backfill. The oldest come first, and each
        series is in order. The payload has at most `most_bytes` before it is packed, and less if
        the unreceipted batches need the room.

        `bases` is asked about rows of dwellings inside the transaction. A row without a basis is
        destroyed, and nothing is sealed while a change of the registry must be applied, or the
        directory sent (rule T21). Raises SpoolFull only if nothing is left to give up.
        """
        if self.purging:
            return None
        most = min(most_bytes, self._capacity.for_a_batch(), self._most(now))
        request = SealRequest(lane, now, trust, live_after, most_rows, most, bases)
        return self._capacity.durably(lambda: self._sealing.seal(request))

    def announced(self) -> dict[str, Item]:
        """The directory items that the recipient was last sent, by key, in any epoch; and the
        series of stored rows, which it must be sent.
        """
        return self._announced.all()

    def announce(self, directory: Mapping[str, Item], now: float, trust: str) -> SealedBatch | None:
        """Make a batch of the changes in the directory, in one commit; None: there are none.

        At most one batch at a time; the next call continues. In a new epoch all items are sent
        again. Raises SpoolFull as `seal` does.
        """
        if not self._announced.differs(directory):
            return None
        batch, items = self._capacity.durably(lambda: self._announce(directory, now, trust))
        self._announced.learn(batch.id.epoch, items)
        return batch

    def tell_again(self) -> None:
        """Send all of the directory again; one commit."""
        self._capacity.durably(self._announced.resend_all)

    def _announce(
        self, directory: Mapping[str, Item], now: float, trust: str
    ) -> tuple[SealedBatch, dict[str, str]]:
        batch, items = self._announced.next_batch(directory, now, trust, self._most(now))
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
        """Batches without a receipt, of all epochs, in the order of sealing, byte for byte as
        sealed.

        A damaged batch is quarantined instead, because its bytes cannot be sent again. A batch for
        another kind of transport becomes a void, and its rows wait. Raises UplinkLost if a void
        cannot be packed now.
        """
        with suppress(SpoolFull):  # then the batch waits as it is
            for other in self._outbox.in_other_form():
                self._capacity.durably(partial(self._resending.adapt, [other]))
        batches, broken = self._outbox.unreceipted()
        for id_ in broken:
            self.quarantine(id_, UNREADABLE)
        # During a purge only batches without rows: the others may hold withdrawn rows.
        return [batch for batch in batches if not batch.rows] if self.purging else batches

    def quarantined(self) -> list[SealedBatch]:
        """Batches that were rejected: a later receipt may still call one stored (rule T4)."""
        return self._outbox.quarantined()

    def settle(self, receipt: Receipt, now: float) -> Settled:
        """Apply a receipt, in one commit (rules T3, T4, T8, T9).

        An entry for another gateway, recipient, epoch, seq or hash never settles a batch.
        """
        if (receipt.gateway, receipt.recipient) != (self._head.gateway, self._head.recipient):
            return Settled(ignored=len(receipt.stored) + len(receipt.rejected))
        plan = self._receipts.plan(receipt)
        back = [row.series for rows in plan.returned.values() for row in rows or ()]
        for seq in plan.verdict.stored:  # of a void, the rows that may leave are sealed again
            back += [row.series for row in self._voided_rows.rows(plan.epoch, seq)]
        self._meet(self._series_ids.unknown(back))

        def change() -> Settled:
            if self._upkeep.limit is not None:
                sizes = [self._outbox.sealed_size(plan.epoch, seq) for seq in plan.verdict.stored]
                self._upkeep.took(sizes)
            return self._receipts.apply(plan, now)

        try:
            with suppress(SpoolFull):  # the log may have no room for the slots of many series
                settled = self._capacity.once(change)
                self._receipts.applied(settled)
                return settled
            with self._disclosures.without_slots():
                settled = self._capacity.durably(change)
        finally:
            self._upkeep.learn()
        self._receipts.applied(settled)
        return settled

    def receipted_audit(self) -> str | None:
        """A recent hash of the audit chain that the recipient has receipted; None: none is
        known.
        """
        hashes = (read_audit(payload) for payload in self._outbox.receipted(FEW))
        return next((digest for digest in hashes if digest is not None), None)

    def quarantine(self, id: BatchId, reason: str, now: float = 0.0) -> None:  # noqa: A002 -- it is one
        """Stop sending a batch that cannot be read."""
        self._capacity.durably(lambda: self._outbox.quarantine(id.epoch, id.seq, reason, now))

    def refuse(self, id: BatchId, reason: str, now: float) -> None:  # noqa: A002 -- it is one
        """Put a batch that the transport refused into quarantine: it is tried again."""
        self._capacity.durably(lambda: self._outbox.refuse(id, reason, now))

    def forget(self, before: float) -> int:
        """Delete batches receipted before that time, seconds since 1970. Return how many."""
        self._capacity.durably(lambda: self._disclosures.forget(before))
        forgotten = 0
        while some := self._capacity.in_pieces(partial(self._outbox.forget, before)):
            forgotten += some
        return forgotten

    def disclosures(self, place: str = "") -> list[Disclosure]:
        """Number of values of dwellings, or of one, that the recipient has received, by day, for
        five years.
        """
        return self._disclosures.all(place)

    def received_slots(self) -> list[ReceivedSlots]:
        """Which slots of dwellings the recipient has received, for as long, also those that it has
        erased since.
        """
        return self._disclosures.slots()

    def unconfirmed_slots(self) -> list[ReceivedSlots]:
        """Which slots of dwellings the recipient may have received without a receipt."""
        return self._holdings.unconfirmed()

    def erasures(self) -> dict[str, int | None]:
        """By the id of each retraction, how many rows the recipient has erased, as it reports;
        None: not confirmed.
        """
        return self._retracting.confirmed()

    def clock_retractions(self) -> list[dict[str, Any]]:
        """What a wrong clock closed and was retracted, as it is sent (docs/batch.schema.json)."""
        return self._retracting.by_the_clock()

    def last_indexes(self, meter: str) -> dict[str, Reading]:
        """By channel, the last index of a meter among the rows that wait and the newest batches."""
        return self._holdings.last_indexes(meter)

    def held_of(self, occupancy: str) -> list[Reading]:
        """The rows of these people without a receipt, for them to read."""
        return self._holdings.of(occupancy)

    def probe(self) -> None:
        """Commit something, to test whether the disk works. Raises StorageFailed."""
        with suppress(SpoolFull):  # a full disk still works
            self._capacity.durably(lambda: self._meta.add("probed", 1))

    @property
    def record_name(self) -> str:
        """The name of its present record of receipts, for `adopt`."""
        handed = int(self._meta.number("handed") or 0)
        return f"{self.epoch}/{handed}" if handed else self.epoch

    def hand_over(self) -> None:
        """Begin another record of receipts, with another name: somebody has adopted this one."""

        def change() -> None:
            self._disclosures.clear()
            self._meta.add("handed", 1)

        if self._disclosures:
            self._capacity.durably(change)

    def adopt(
        self,
        record: str,
        disclosures: Sequence[Disclosure],
        erasures: Mapping[str, int | None],
        slots: Sequence[ReceivedSlots] = (),
    ) -> None:
        """Take over, once, the record of receipts of another spool. `record`: its name."""
        confirmed = [(id_, n) for id_, n in erasures.items() if n is not None]

        def change() -> None:
            if self._meta.text("adopted") != record:
                self._disclosures.adopt(disclosures, slots)
                self._meta["adopted"] = record
            self._retracting.erased(confirmed)

        if disclosures or slots or confirmed:
            self._capacity.durably(change)

    @property
    def given(self) -> tuple[int, int]:
        """The last version given, and the highest slot up to which rows need one."""
        return self._versions.last, self._versions.highest

    def go_on_after(self, last: int, highest: int) -> None:
        """Continue after the versions that another spool has given for the same recipient."""

        def change() -> None:
            self._versions.keep(max(last, self._versions.last))
            self._versions.close(highest)

        if last > self._versions.last or highest > self._versions.highest:
            self._capacity.durably(change)

    def backlog(self) -> Backlog:
        """The present content in numbers."""
        return self._backlog_count.now(self._cap, self._refused)

    def _append(
        self,
        rows: Sequence[Reading],
        marks: Mapping[MarkKey, SlotMark],
        now: float | None,
        owed: Mapping[str, Item],
    ) -> None:
        body, last = b"", self._versions.last
        new_items: dict[str, str] = {}
        if self._provisional:
            rows = provisional(rows, int(seconds() if now is None else now))
        if rows:
            rows, last = self._versions.given(rows, now)
            new = self._series_ids.unknown(row.series for row in rows)
            # In two steps: the series must be stored before a body can be packed and measured.
            self._capacity.ensure(len(new) * ROOM)
            self._meet(new)
            body = self._pending.body(rows)
            self._capacity.ensure(len(body))

        def change() -> None:
            if rows:
                self._pending.add(rows, body, now)
            new_items.update(self._announced.owe(owed))
            self._put_marks(marks)
            self._versions.keep(last)
            if self._refused != self._refused_on_disk:  # saves a page in most commits
                self._meta["refused"] = self._refused

        self._capacity.admit(change)
        self._announced.learn(NOT_SENT, new_items)
        self._refused_on_disk = self._refused

    def _put_marks(self, marks: Mapping[MarkKey, SlotMark]) -> None:
        self._database.write_all(
            "INSERT OR REPLACE INTO mark VALUES(?,?,?,?,?)",
            [(*key, mark.slot, mark.heard, mark.serial) for key, mark in marks.items()],
        )
        self._states.write(marks)

    def _meet(self, new: list[Series]) -> None:
        """Number new series, so that their rows can be packed."""
        if new:
            self._capacity.durably(lambda: self._series_ids.write(new))
            self._series_ids.learn(new)


def _by_the_clock(range_: Range, ver: int) -> Retraction:
    scope = (None, range_.place, range_.channel, None, None, None, range_.since, range_.until)
    return Retraction(secrets.token_hex(8), *scope, ver, "clock")


def provisional(rows: Sequence[Reading], now: int) -> list[Reading]:
    """Rows as they leave this spool: a value replaces any row of the same slot from the spool on
    the disk, and a row without a value never does.

    The spool on the disk does not know that these slots are closed: once it works again, it reports
    them as M `agent`. But it may have a row that already has a version, from a commit that failed
    and took effect. `now`: Unix second, the version of a value that has none.
    """
    return [
        # `again`: the platform drops it if it has a row of the slot already.
        replace(row, ver=None, again=True)
        if row.value is None
        else replace(row, ver=now)
        if row.ver is None
        else replace(row, again=True)
        for row in rows
    ]
