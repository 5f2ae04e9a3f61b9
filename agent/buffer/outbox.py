"""The sealed batches: made whole or not at all, sent byte for byte, kept until a receipt.

The recipient's receipt settles a batch (rules T1, T2).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.buffer.batch import Stamp, write, write_void
from agent.buffer.disclosures import SeriesCount
from agent.buffer.keys import SealBroken, SealedTable, owner_of
from agent.buffer.pending import in_chunks
from agent.core.model import BatchId, Lane, SealedBatch, Void
from agent.core.slot_runs import SlotRun

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from agent.buffer.batch import BatchHead
    from agent.buffer.database import Database
    from agent.buffer.keys import PersonKeys, SpoolKeys
    from agent.buffer.pending import Choice, PendingRows
    from agent.buffer.schema import Meta
    from agent.core.model import Reading, Series

Pack = Callable[[SealedBatch], tuple[str, bytes]]
"""returns the name of the form, and the batch's payload in it: the bytes that are sent and that the
sha256 of a receipt names (design note 024)
"""


IN_QUARANTINE = (
    "FROM batch LEFT JOIN refused USING(epoch, seq) LEFT JOIN void USING(epoch, seq) WHERE state=2"
)
"""batches in quarantine; `since` is set where the transport refused them"""
BY_TRANSPORT = " AND since IS NOT NULL"
SELECT = "SELECT epoch, seq, lane, sha256, rows, body FROM batch WHERE state=?"
PACKED_TABLES = (
    """CREATE TABLE IF NOT EXISTS packed(epoch TEXT, seq INTEGER, form TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS packed_goes AFTER DELETE ON batch BEGIN
    DELETE FROM packed WHERE epoch=old.epoch AND seq=old.seq; END""",
    """CREATE TRIGGER IF NOT EXISTS packed_changes AFTER UPDATE OF body ON batch BEGIN
    DELETE FROM packed WHERE epoch=old.epoch AND seq=old.seq; END""",
)
VOID_TABLES = (
    """CREATE TABLE IF NOT EXISTS void(epoch TEXT, seq INTEGER, reason TEXT NOT NULL,
    original TEXT, touched BLOB, PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS inside(epoch TEXT, seq INTEGER, owners TEXT NOT NULL,
    PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS batch_goes AFTER DELETE ON batch BEGIN
    DELETE FROM void WHERE epoch=old.epoch AND seq=old.seq;
    DELETE FROM inside WHERE epoch=old.epoch AND seq=old.seq; END""",
    """CREATE TABLE IF NOT EXISTS refused(epoch TEXT, seq INTEGER, since REAL NOT NULL,
    PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS refused_goes AFTER DELETE ON batch BEGIN
    DELETE FROM refused WHERE epoch=old.epoch AND seq=old.seq; END""",
)
SHRINK = 0.95
DAY = 86_400.0
LONGEST = 32 * DAY
"""seconds until larger batches are tried, after many refusals"""
MOST_STEPS = 32


class BatchState(IntEnum):
    """The state of a sealed batch."""

    UNRECEIPTED = 0
    RECEIPTED = 1
    QUARANTINED = 2
    ASKED = 3
    """receipted, and requested again: to be sent when its turn comes"""


NOT_YET_RECEIVED = (BatchState.UNRECEIPTED, BatchState.QUARANTINED)
"""states of a batch for which the recipient has not stated that it holds it"""


class StoredBatch(NamedTuple):
    """The batch stored under an id."""

    sha256: str
    state: BatchState
    void: Void | None = None
    original: str | None = None
    """of a void: the hash of the batch that it replaces; None: not known any more"""


class Outbox:
    """Batches by id. Every change belongs inside the caller's transaction."""

    def __init__(
        self, database: Database, keys: SpoolKeys, gateway: str, recipient: str, *, on_trial: bool
    ) -> None:
        self._database = database
        self._sealer = keys.sealer("batch")
        self._packed = Packed(database, keys)
        self.voids = Voids(database, keys, on_trial=on_trial)
        self._of = (gateway, recipient)
        self.packing: Pack | None = None
        """None: batches are sent as they are sealed"""

    @property
    def sealed(self) -> tuple[SealedTable, ...]:
        """The sealed bodies for a key rotation."""

        def name(_no: int, epoch: str, seq: int) -> str:
            return _name(epoch, seq)

        other_columns = ("epoch", "seq")
        batches = SealedTable(
            "batch", ("no",), name, lambda *_: self._sealer, other_columns, rewrite=self._put
        )
        return batches, self._packed.sealed, self.voids.sealed

    def _put(self, no: int, epoch: str, seq: int, body: bytes) -> None:
        """Seal a body again. Its packed form stays, although the body changes."""
        of = "epoch=? AND seq=?"
        packed = self._database.read(f"SELECT * FROM packed WHERE {of}", epoch, seq)  # noqa: S608 -- ours
        sealed = self._sealer.seal(body, _name(epoch, seq))
        self._database.write("UPDATE batch SET body=? WHERE no=?", sealed, no)
        # The trigger on UPDATE OF body has deleted the packed form: restore it, for its bytes may
        # have been sent.
        self._database.write_all("INSERT INTO packed VALUES(?,?,?,?)", packed)

    def add(
        self,
        batch: SealedBatch,
        now: float,
        owners: Iterable[int] = (),
        state: BatchState = BatchState.UNRECEIPTED,
    ) -> SealedBatch:
        """Keep a batch that was just sealed, zstd-compressed JSON. Return it as it will be sent.

        Where batches are packed, the packed bytes are made here, once, and kept beside it.
        `owners`: numbers of the owners of its rows.
        """
        sealed, batch = batch, self._pack(batch)
        self._database.write(
            "INSERT INTO batch(epoch, seq, lane, state, sha256, rows, at, body)"
            " VALUES(?,?,?,?,?,?,?,?)",
            batch.id.epoch,
            batch.id.seq,
            batch.lane.value,
            state,
            batch.sha256,
            batch.rows,
            now,
            self._sealer.seal(sealed.payload, _name(batch.id.epoch, batch.id.seq)),
        )
        self._keep_beside(batch)
        self.voids.note_owners(batch.id, owners)
        return batch

    def knows(self, epoch: str) -> bool:
        """Whether there are batches of this epoch."""
        return bool(self._database.scalar("SELECT 1 FROM batch WHERE epoch=? LIMIT 1", epoch))

    def _keep_beside(self, batch: SealedBatch) -> None:
        if batch.form:
            self._packed.add(batch)
        if batch.void is not None:
            self.voids.add(batch)

    def _pack(self, batch: SealedBatch) -> SealedBatch:
        if self.packing is None:
            return batch
        form, payload = self.packing(batch)
        return replace(batch, form=form, payload=payload, sha256=digest(payload))

    def void(self, id_: BatchId, reason: Void, counts: Iterable[SeriesCount] = ()) -> SealedBatch:
        """Destroy the batch of an id. Return the void that is delivered in its place.

        The void is sealed once and never changes. The void of a quarantined batch is to be sent.
        `counts`: number of values by series, if they are not counted as received already.
        """
        lane, state, sha256 = self._database.read(
            "SELECT lane, state, sha256 FROM batch WHERE epoch=? AND seq=?", id_.epoch, id_.seq
        )[0]
        sealed = self.voids.make(id_, Lane(lane), reason, sha256)
        void = self._pack(sealed)
        self._database.write(
            "UPDATE batch SET state=?, sha256=?, rows=0, reason=iif(state=1, reason, NULL), body=?"
            " WHERE epoch=? AND seq=?",
            # The refused bytes are gone, so the void may be sent; a receipted batch keeps its
            # state.
            BatchState.UNRECEIPTED if state == BatchState.QUARANTINED else state,
            void.sha256,
            self._sealer.seal(sealed.payload, _name(id_.epoch, id_.seq)),
            id_.epoch,
            id_.seq,
        )
        self._keep_beside(void)
        self._forget_refusal(id_.epoch, id_.seq)
        self.voids.note_counts(id_, counts)
        return void

    def unreceipted(self) -> tuple[list[SealedBatch], list[BatchId]]:
        """Batches to be sent, in the order of sealing; and the ids of batches that do not open."""
        return self._select(f"{SELECT} ORDER BY no", BatchState.UNRECEIPTED)

    def voids_without_receipt(self) -> list[BatchId]:
        """The ids of voids without a receipt, also of those that are in quarantine."""
        sql = "SELECT epoch, seq FROM batch JOIN void USING(epoch, seq) WHERE state IN (?,?)"
        return self._ids(sql, *NOT_YET_RECEIVED)

    def quarantined(self) -> list[SealedBatch]:
        """Batches that were rejected, as they were sent."""
        return self._select(f"{SELECT} ORDER BY no", BatchState.QUARANTINED)[0]

    def asked(self, lane: Lane) -> tuple[list[SealedBatch], list[BatchId]]:
        """The first requested batch of a lane, as `unreceipted`."""
        first = f"{SELECT} AND lane=? ORDER BY no LIMIT 1"
        return self._select(first, BatchState.ASKED, lane.value)

    def _select(self, sql: str, *values: int | str) -> tuple[list[SealedBatch], list[BatchId]]:
        batches, broken = [], []
        for epoch, seq, lane, sha256, rows, body in self._database.read(sql, *values):
            id_ = BatchId(*self._of, epoch, seq)
            # The packed bytes, if there are any: packing again could give other bytes (encryption),
            # and so a hash that the recipient does not know.
            form, payload = self._packed.get(id_) or ("", self._open(epoch, seq, body))
            if payload is None:
                broken.append(id_)
                continue
            void, original = self.voids.of(epoch, seq)
            batches.append(
                SealedBatch(id_, Lane(lane), payload, sha256, rows, form, void, original)
            )
        return batches, broken

    def held(self, epoch: str, seq: int) -> StoredBatch | None:
        """The batch stored under an id; None if there is none (any more)."""
        rows = self._database.read(
            "SELECT sha256, state FROM batch WHERE epoch=? AND seq=?", epoch, seq
        )
        if not rows:
            return None
        return StoredBatch(rows[0][0], BatchState(rows[0][1]), *self.voids.of(epoch, seq))

    def payload(self, epoch: str, seq: int) -> bytes | None:
        """The sealed payload, before it was packed; None if it does not open."""
        body = self._database.scalar("SELECT body FROM batch WHERE epoch=? AND seq=?", epoch, seq)
        return None if body is None else self._open(epoch, seq, body)

    def size(self, id_: BatchId) -> int:
        """Bytes of a batch and its packed form."""
        size: int = self._database.scalar(
            "SELECT length(batch.body) + coalesce(length(packed.body), 0) FROM batch"
            " LEFT JOIN packed USING(epoch, seq) WHERE epoch=? AND seq=?",
            id_.epoch,
            id_.seq,
        )
        return size

    def with_rows_of(self, owners: Iterable[int] | None) -> list[tuple[BatchId, BatchState]]:
        """Batches, voids excepted, that may have rows of one of these owners (None: of any
        owner).
        """
        return [
            (BatchId(*self._of, epoch, seq), BatchState(state))
            for epoch, seq, state in self.voids.candidates(owners)
        ]

    def overdue(self, before: float) -> list[BatchId]:
        """Batches in quarantine since before that time, voids excepted."""
        return self._ids(
            f"SELECT epoch, seq {IN_QUARANTINE} AND coalesce(since, at)<? AND void.reason IS NULL",
            before,
        )

    def ahead(self, now: float) -> bool:
        """Whether a batch was receipted or refused later than `now`: by a clock that was ahead."""
        sql = "SELECT EXISTS(SELECT 1 FROM batch WHERE state IN (?,?) AND at>?)"
        states = BatchState.RECEIPTED, BatchState.QUARANTINED
        late = self._database.scalar(sql, *states, now)
        late = late or self._database.scalar(
            "SELECT EXISTS(SELECT 1 FROM refused WHERE since>?)", now
        )
        return bool(late)

    def count_from(self, now: float, count: int) -> None:
        """Let up to `count` of these batches count as receipted or refused at `now`."""
        states = BatchState.RECEIPTED, BatchState.QUARANTINED
        self._database.write(
            "UPDATE batch SET at=? WHERE no IN (SELECT no FROM batch WHERE state IN (?,?) AND at>?"
            " LIMIT ?)",
            *(now, *states, now, count),
        )
        self._database.write(
            "UPDATE refused SET since=? WHERE (epoch, seq) IN (SELECT epoch, seq FROM refused"
            " WHERE since>? LIMIT ?)",
            *(now, now, count),
        )

    def longest_refused(self, before: float) -> list[BatchId]:
        """The batch refused by the transport that was tried longest ago, before that time; empty if
        there is none.
        """
        return self._ids(
            f"SELECT epoch, seq {IN_QUARANTINE}{BY_TRANSPORT} AND at<? ORDER BY at, no LIMIT 1",
            before,
        )

    def try_again(self, ids: Iterable[BatchId]) -> None:
        """Send batches again, byte for byte, out of quarantine."""
        for id_ in ids:
            self._move(id_.epoch, id_.seq, BatchState.QUARANTINED, BatchState.UNRECEIPTED)

    def in_quarantine(self, *, by_transport: bool = False) -> list[BatchId]:
        """All batches in quarantine, or those that the transport has refused."""
        return self._ids(f"SELECT epoch, seq {IN_QUARANTINE}{BY_TRANSPORT if by_transport else ''}")

    def quarantined_chunks(self, *, by_transport: bool = False) -> list[list[BatchId]]:
        """The same, divided so that one commit can rewrite each chunk."""
        ids = self.in_quarantine(by_transport=by_transport)
        return in_chunks((id_, self.size(id_)) for id_ in ids)

    def was_refused(self, epoch: str, seq: int) -> bool:
        """Whether the transport has refused a batch that is not receipted."""
        sql = "SELECT 1 FROM refused WHERE epoch=? AND seq=?"
        return self._database.scalar(sql, epoch, seq) is not None

    def longest_quarantined(self) -> tuple[float, str] | None:
        """The first time of all quarantined batches, seconds since 1970, and the reason; None:
        there are none.
        """
        rows = self._database.read(
            f"SELECT coalesce(since, at), batch.reason {IN_QUARANTINE}"
            " ORDER BY coalesce(since, at) LIMIT 1"
        )
        return (rows[0][0], rows[0][1] or "") if rows else None

    def sealed_size(self, epoch: str, seq: int) -> int:
        """Approximate bytes of a sealed batch; 0: there is none."""
        sql = "SELECT length(body) FROM batch WHERE epoch=? AND seq=?"
        return self._database.scalar(sql, epoch, seq) or 0

    def _ids(self, sql: str, *values: float | str) -> list[BatchId]:
        return [BatchId(*self._of, *row) for row in self._database.read(sql, *values)]

    def has_present_form(self, id_: BatchId) -> bool:
        """Whether the stored form is the one that is sent now: packed, or as sealed."""
        return self._packed.holds(id_) == (self.packing is not None)

    def in_other_form(self) -> list[BatchId]:
        """Unreceipted batches that the present transport does not accept."""
        rows = self._database.read(
            "SELECT epoch, seq FROM batch WHERE state=? ORDER BY no", BatchState.UNRECEIPTED
        )
        ids = (BatchId(*self._of, epoch, seq) for epoch, seq in rows)
        return [id_ for id_ in ids if not self.has_present_form(id_)]

    def remake(self, id_: BatchId) -> None:
        """Make a void in the form of the present transport: other bytes, and so another hash.

        If the recipient holds the void in its earlier form, that is a conflict (rule T8), and its
        rows are sent again.
        """
        (lane,) = self._database.read(
            "SELECT lane FROM batch WHERE epoch=? AND seq=?", id_.epoch, id_.seq
        )[0]
        reason, original = self.voids.of(id_.epoch, id_.seq)
        assert reason is not None
        sealed = self.voids.make(id_, Lane(lane), reason, original)
        void = self._pack(sealed)
        self._database.write(
            "UPDATE batch SET sha256=?, body=? WHERE epoch=? AND seq=?",
            void.sha256,
            self._sealer.seal(sealed.payload, _name(id_.epoch, id_.seq)),
            id_.epoch,
            id_.seq,
        )
        if void.form:
            self._packed.add(void)

    def ask(self, epoch: str, seq: int) -> None:
        """Send a receipted batch again when its turn comes."""
        self._move(epoch, seq, BatchState.RECEIPTED, BatchState.ASKED)

    def settled_by(self, kids: Collection[str], most: int) -> list[BatchId]:
        """Kept batches, at most so many, whose receipts these keys have signed."""
        marks = ",".join("?" * len(kids))
        sql = f"SELECT epoch, seq FROM batch WHERE state=? AND reason IN ({marks}) LIMIT ?"  # noqa: S608 -- ours
        return self._ids(sql, BatchState.RECEIPTED, *kids, most)

    def promote(self, id_: BatchId) -> None:
        """Send a requested batch from now on."""
        self._move(id_.epoch, id_.seq, BatchState.ASKED, BatchState.UNRECEIPTED)

    def _move(self, epoch: str, seq: int, before: BatchState, after: BatchState) -> None:
        self._database.write(
            "UPDATE batch SET state=? WHERE epoch=? AND seq=? AND state=?",
            after,
            epoch,
            seq,
            before,
        )

    def receipt(self, epoch: str, seq: int, now: float, kid: str = "") -> None:
        """The recipient has stored the batch. It is kept for a while in case it is requested
        again.

        `kid`: of the key that has signed the receipt. It is in `reason` until the next receipt.
        """
        self._database.write(
            "UPDATE batch SET state=?, at=?, reason=? WHERE epoch=? AND seq=?",
            BatchState.RECEIPTED,
            now,
            kid or None,
            epoch,
            seq,
        )
        self._forget_refusal(epoch, seq)

    def _forget_refusal(self, epoch: str, seq: int) -> None:
        self._database.write("DELETE FROM refused WHERE epoch=? AND seq=?", epoch, seq)

    def refuse(self, id_: BatchId, reason: str, now: float) -> bool:
        """As `quarantine`, for a refusal by the transport: the batch is tried again after a
        while.
        """
        if changed := self._set_aside(id_.epoch, id_.seq, reason, now):
            values = id_.epoch, id_.seq, now
            self._database.write("INSERT OR IGNORE INTO refused VALUES(?,?,?)", *values)
        return changed

    def quarantine(self, epoch: str, seq: int, reason: str, now: float) -> bool:
        """The recipient refuses the batch: keep it under its id, and do not send it. False if it
        was not unreceipted.
        """
        self._forget_refusal(epoch, seq)
        return self._set_aside(epoch, seq, reason, now)

    def _set_aside(self, epoch: str, seq: int, reason: str, now: float) -> bool:
        changed = self._database.write(
            "UPDATE batch SET state=?, reason=?, at=? WHERE epoch=? AND seq=? AND state=?",
            BatchState.QUARANTINED,
            reason,
            now,
            epoch,
            seq,
            BatchState.UNRECEIPTED,
        )
        return changed == 1

    def receipted(self, most: int) -> list[bytes]:
        """The sealed payloads of the batches that were receipted last, the latest first."""
        rows = self._database.read(
            "SELECT epoch, seq, body FROM batch WHERE state=? ORDER BY no DESC LIMIT ?",
            BatchState.RECEIPTED,
            most,
        )
        payloads = (self._open(epoch, seq, body) for epoch, seq, body in rows)
        return [payload for payload in payloads if payload is not None]

    def last_of(self, epoch: str) -> int | None:
        """The highest stored number of an epoch; None: there is none."""
        last: int | None = self._database.scalar("SELECT max(seq) FROM batch WHERE epoch=?", epoch)
        return last

    def remove(self, epoch: str, seq: int) -> None:
        """Forget a batch."""
        self._database.write("DELETE FROM batch WHERE epoch=? AND seq=?", epoch, seq)

    def forget(self, before: float, count: int) -> int:
        """Remove up to `count` batches that were receipted before that time. Return how many."""
        return self._database.write(
            "DELETE FROM batch WHERE no IN (SELECT no FROM batch WHERE state=? AND at<? LIMIT ?)",
            BatchState.RECEIPTED,
            before,
            count,
        )

    def forget_oldest(self, count: int) -> int:
        """Remove up to `count` receipted batches, the oldest receipts first. Return how many."""
        return self._database.write(
            "DELETE FROM batch WHERE no IN"
            " (SELECT no FROM batch WHERE state=? ORDER BY at LIMIT ?)",
            BatchState.RECEIPTED,
            count,
        )

    def count(self, state: BatchState) -> tuple[int, int]:
        """Number of batches in that state, and of their rows."""
        batches, rows = self._database.read(
            "SELECT count(*), coalesce(sum(rows), 0) FROM batch WHERE state=?", state
        )[0]
        return batches, rows

    def _open(self, epoch: str, seq: int, body: bytes) -> bytes | None:
        try:
            return self._sealer.unseal(body, _name(epoch, seq))
        except SealBroken:
            return None


def digest(payload: bytes) -> str:
    """The sha256 that a receipt names, of the bytes as they are sent."""
    return hashlib.sha256(payload).hexdigest()


def _name(epoch: str, seq: int) -> str:
    return f"{epoch} {seq}"


class Packed:
    """Packed batches by id. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database = database
        self._sealer = keys.sealer("packed")
        for table in PACKED_TABLES:
            database.write(table)

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        key, more = ("epoch", "seq"), ("form",)
        return SealedTable("packed", key, "{} {} {}".format, lambda *_: self._sealer, more)

    def add(self, batch: SealedBatch) -> None:
        """Keep the packed form of a batch."""
        name = f"{batch.id.epoch} {batch.id.seq} {batch.form}"
        self._database.write(
            # Only after the change of the batch, because its triggers delete the packed form.
            "INSERT OR REPLACE INTO packed VALUES(?,?,?,?)",
            batch.id.epoch,
            batch.id.seq,
            batch.form,
            self._sealer.seal(batch.payload, name),
        )

    def holds(self, id_: BatchId) -> bool:
        """Whether a packed form is sent."""
        return bool(
            self._database.read("SELECT 1 FROM packed WHERE epoch=? AND seq=?", id_.epoch, id_.seq)
        )

    def get(self, id_: BatchId) -> tuple[str, bytes | None] | None:
        """Form and bytes, without bytes if they do not open; None: the batch is sent as sealed."""
        rows = self._database.read(
            "SELECT form, body FROM packed WHERE epoch=? AND seq=?", id_.epoch, id_.seq
        )
        if not rows:
            return None
        form, body = rows[0]
        try:
            return form, self._sealer.unseal(body, f"{id_.epoch} {id_.seq} {form}")
        except SealBroken:
            return form, None


class Voids:
    """Voids by id. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys, *, on_trial: bool) -> None:
        """`on_trial`: an upgrade is on trial, so entries stay readable for the version before."""
        self._database, self._on_trial = database, on_trial
        self._sealer = keys.sealer("void")
        for table in VOID_TABLES:
            database.write(table)

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        key = ("epoch", "seq")
        return SealedTable("void", key, "{} {}".format, lambda *_: self._sealer, body="touched")

    def make(self, id_: BatchId, lane: Lane, reason: Void, original: str | None) -> SealedBatch:
        """The void of an id, as it is delivered for good."""
        payload = write_void(id_, reason)
        sha256 = hashlib.sha256(payload).hexdigest()
        return SealedBatch(id_, lane, payload, sha256, 0, void=reason, original=original)

    def add(self, void: SealedBatch) -> None:
        """Store a void, with the hash of the batch that it replaces."""
        self._database.write(
            "INSERT INTO void(epoch, seq, reason, original) VALUES(?,?,?,?)",
            void.id.epoch,
            void.id.seq,
            str(void.void),
            void.original,
        )

    def of(self, epoch: str, seq: int) -> tuple[Void | None, str | None]:
        """Why an id is void, and the hash of the original batch; None, None: it is not void."""
        rows = self._database.read(
            "SELECT reason, original FROM void WHERE epoch=? AND seq=?", epoch, seq
        )
        return (Void(rows[0][0]), rows[0][1]) if rows else (None, None)

    def note_counts(self, id_: BatchId, counts: Iterable[SeriesCount]) -> None:
        """Keep how many values of each series a destroyed batch had, because it may have been
        received. An empty list: they are counted as received already.
        """
        parts = sorted(counts)
        # apart: the version before reads counts of five members
        runs = [count.runs for count in parts]
        note = json.dumps({"counts": [count[:5] for count in parts], "runs": runs}).encode()
        if not self._on_trial:  # uncompressed, they could take more room than the batch's payload
            note = zlib.compress(note)
        body = self._sealer.seal(note, f"{id_.epoch} {id_.seq}")
        self._database.write(
            "UPDATE void SET touched=? WHERE epoch=? AND seq=?", body, id_.epoch, id_.seq
        )

    def original_counts(self, epoch: str, seq: int) -> list[SeriesCount] | None:
        """How many values of each series the original batch of a void had; None: an earlier version
        made the void without this note.
        """
        body = self._database.scalar("SELECT touched FROM void WHERE epoch=? AND seq=?", epoch, seq)
        try:
            text = self._sealer.unseal(body, f"{epoch} {seq}") if body else b"null"
            # An earlier version, or an upgrade on trial, has written it uncompressed.
            note = json.loads(text if text[:1] in b"{n" else zlib.decompress(text))
        except (SealBroken, ValueError, zlib.error):
            return None
        if not isinstance(note, dict):
            return None
        runs_of = note.get("runs") or [()] * len(note["counts"])
        return [
            SeriesCount(*count)._replace(runs=tuple(SlotRun(*run) for run in runs))
            for count, runs in zip(note["counts"], runs_of, strict=True)
        ]

    def note_owners(self, id_: BatchId, owners: Iterable[int]) -> None:
        """Keep the owners of the rows in a batch."""
        owners_text = json.dumps(sorted(owners), separators=(",", ":"))
        self._database.write("INSERT INTO inside VALUES(?,?,?)", id_.epoch, id_.seq, owners_text)

    def candidates(self, owners: Iterable[int] | None) -> list[tuple[str, int, int]]:
        """Epoch, seq and state of batches, voids excepted, that may have rows of these owners.

        A batch of an earlier version has no entry, so it may.
        """
        wanted = None if owners is None else set(owners)
        return [
            (epoch, seq, state)
            for epoch, seq, state, inside in self._database.read(
                "SELECT epoch, seq, state, owners FROM batch LEFT JOIN inside USING(epoch, seq)"
                " LEFT JOIN void USING(epoch, seq) WHERE void.reason IS NULL AND rows>0 ORDER BY no"
            )
            if inside is None
            or (set(json.loads(inside)) & wanted if wanted is not None else inside != "[]")
        ]


class BasisCheck(Protocol):
    """The registry as the spool's thread asks it."""

    def revision(self) -> int:
        """The number of the registry's last change."""
        ...

    def stands(self, series: Series, t: int) -> bool:
        """Whether a row of a dwelling may still leave, on its basis."""
        ...

    @property
    def mute(self) -> bool:
        """Whether the registry cannot answer at present."""
        ...


@dataclass(frozen=True, slots=True)
class SealRequest:
    """The parameters of a batch."""

    lane: Lane
    now: float
    """seconds since 1970 UTC"""
    trust: str
    """state of the clock that `now` comes from"""
    live_after: int
    """rows of later slots, and fresh readings committed later, are live; the others are backfill"""
    most_rows: int
    most_bytes: int
    bases: BasisCheck | None = None
    """None: the waiting rows were checked, and no basis can change"""


class Sealing:
    """Makes batches. Each call belongs inside one transaction of the caller."""

    def __init__(
        self,
        pending: PendingRows,
        outbox: Outbox,
        person_keys: PersonKeys,
        meta: Meta,
        head: BatchHead,
    ) -> None:
        self._pending = pending
        self._person_keys = person_keys
        self._outbox = outbox
        self._meta = meta
        self._head = head
        self.explained: Callable[[Series], bool] = lambda _: True
        """whether the recipient was sent what it needs to read rows of a series"""

    def seal(self, request: SealRequest) -> SealedBatch | None:
        """The next batch; its rows no longer wait. None if the lane has no rows, or if a change of
        the registry must be applied or the directory sent first.

        Damaged blocks are removed and their rows counted. So are rows without a basis any more.
        """
        # Rows are sealed only after the purge of the last change: otherwise withdrawn rows could
        # leave.
        if request.bases is not None and request.bases.revision() != int(
            self._meta.number("applied") or 0
        ):
            return None
        choices, broken = self._pending.choose(request.lane, request.live_after, request.most_rows)
        self.write_off(broken)
        choices = [self._without_lost_bases(choice, request.bases) for choice in choices]
        chosen = (choice.block.rows[i] for choice in choices for i in choice.wanted)
        rows = list(islice(chosen, request.most_rows))
        series = {row.series for row in rows}
        # Since the caller sent the directory, a new series may have come, or a new epoch.
        if not rows or not all(map(self.explained, series)):
            return None
        batch = self._fit(request, rows)
        self._pending.take(choices, batch.rows)
        series = {row.series for row in rows[: batch.rows]}
        whose = {self._person_keys.number(each) for each in series}
        batch = self._outbox.add(batch, request.now, whose)
        self._meta["seq"] = batch.id.seq + 1
        return batch

    def _fit(self, request: SealRequest, rows: Sequence[Reading]) -> SealedBatch:
        """As many of the first rows as fit into the payload; at least one."""
        most = request.most_bytes
        label = self._label(request)
        while len(payload := write(label, rows)) > most and len(rows) > 1:
            # Estimate the number from the size of this attempt; a margin saves most further
            # attempts.
            fitting = int(len(rows) * SHRINK * most / len(payload))
            rows = rows[: max(1, min(fitting, len(rows) - 1))]
        return SealedBatch(label.id, request.lane, payload, digest(payload), len(rows))

    def _label(self, request: SealRequest) -> Stamp:
        epoch, seq = str(self._meta["epoch"]), int(self._meta["seq"])
        id_ = BatchId(self._head.gateway, self._head.recipient, epoch, seq)
        head = self._head
        return Stamp(
            *(id_, request.lane, request.now, request.trust), head.privacy, head.audit(), head.kept
        )

    def _without_lost_bases(self, choice: Choice, bases: BasisCheck | None) -> Choice:
        """Remove the rows of dwellings whose basis is gone; they are destroyed."""
        if bases is None:
            return choice
        rows = choice.block.rows
        gone = {
            i
            for i in choice.wanted
            if owner_of(rows[i].series) and not bases.stands(rows[i].series, rows[i].t)
        }
        if not gone:
            return choice
        if bases.mute:  # the registry cannot answer: the rows stay, and wait
            return replace(choice, wanted=[i for i in choice.wanted if i not in gone])
        self._meta.add("unbased", len(gone))
        stay = [i for i in range(len(rows)) if i not in gone]
        block = replace(choice.block, rows=[rows[i] for i in stay])
        # In the transaction that seals the others, so that they are neither sent nor kept.
        self._pending.keep(choice.block, block.rows)
        wanted = set(choice.wanted)
        return replace(choice, block=block, wanted=[n for n, i in enumerate(stay) if i in wanted])

    def write_off(self, broken: Sequence[tuple[int, int]]) -> None:
        """Remove blocks that do not open, and count their rows."""
        for no, rows in broken:
            self._pending.drop(no, rows)
            self._meta.add("unreadable", rows)


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit learned from refusals and receipts; sizes in bytes of a payload before it is
    packed.
    """

    most: int
    """size limit at time `at`; it doubles after each `wait`"""
    passed: int
    """the largest batch that was receipted since"""
    at: float
    """of the last refusal, seconds since 1970 UTC"""
    wait: float = DAY
    """seconds"""

    def now(self, now: float) -> int:
        """The size limit at time `now`. A clock that was wrong does not keep batches small."""
        # `abs`, because the clock of the refusal may have been ahead.
        return self.most << min(int(abs(now - self.at) // self.wait), MOST_STEPS)

    def took(self, size: int) -> Limit:
        """The limit after a batch of that size was receipted."""
        return replace(self, passed=max(self.passed, size))


def refused_limit(limit: Limit | None, size: int, now: float) -> Limit:
    """The limit after a batch of that size was too large: half of it, or the size that is known to
    pass.

    If larger batches were tried and refused again, the next attempt waits twice as long.
    """
    half = max(1, size // 2)
    if limit is None:
        return Limit(half, 0, now)
    passed = limit.passed if limit.passed < size else 0
    tried = limit.now(now)
    wait = min(LONGEST, limit.wait * 2) if tried > limit.most else limit.wait
    return Limit(min(tried, max(passed, half)), passed, now, wait)


def written_limit(limit: Limit | None) -> str:
    """The limit as the spool stores it."""
    return "" if limit is None else json.dumps(asdict(limit))


def read_limit(text: str | None) -> Limit | None:
    """The limit that the spool has stored; None: batches are as large as configured."""
    try:
        return Limit(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None  # another version wrote it: the limit is learned again
