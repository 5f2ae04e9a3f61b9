"""Receipts: parsed from hostile bytes, evaluated, and applied (rules T3, T4, T8 to T10)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.buffer.batch import read, read_retractions
from agent.buffer.disclosures import counts_of
from agent.buffer.erasure import covered
from agent.buffer.outbox import NOT_YET_RECEIVED, BatchState
from agent.buffer.schema import end_epoch, new_epoch, past_epochs
from agent.core.model import BatchId, Lane, Receipt, Void
from agent.trust.strict import json_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.buffer.announcements import Retracting
    from agent.buffer.batch import BatchHead
    from agent.buffer.disclosures import DisclosureCounts
    from agent.buffer.erasure import VoidedRows
    from agent.buffer.outbox import Outbox, StoredBatch
    from agent.buffer.pending import PendingRows
    from agent.buffer.schema import Meta
    from agent.core.model import Reading

SCHEMA = "gardien/receipt/1"
LARGEST = 1_000_000
"""bytes; a receipt that names 9 batches has less than a thousand"""
MOST_MARKS = 100_000
"""strings, brackets, commas and colons: more than the largest real receipt has"""
LONGEST_STRING = 100_000
LONGEST_PAUSE = 86_400
LONGEST_REASON = 200
LARGEST_SEQ = 2**53
"""every JSON reader counts exactly up to here"""
NEEDED = {"schema", "gateway", "recipient", "epoch"}
ALLOWED = NEEDED | {"stored", "rejected", "retracted", "slow_down"}
HASH = re.compile(r"[0-9a-f]{64}")
IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,253}")
CONFLICT_GAP = 86_400
"""least seconds between two epochs that conflicts begin (rule T8)"""
UNREADABLE = "unreadable: the batch was damaged on the gateway's disk"
MOST_ASKED = 100_000
"""ids in one request"""


def parse(body: bytes) -> Receipt:
    """Parse a receipt. Raises ValueError, with a message for the platform, on anything else."""
    document = _document(body)
    if unknown := document.keys() - ALLOWED:
        raise ValueError(f"a receipt must not have a member {min(unknown)!r}")
    if missing := NEEDED - document.keys():
        raise ValueError(f"the receipt lacks the member {min(missing)!r}")
    if document["schema"] != SCHEMA:
        raise ValueError(f"not a receipt of schema {SCHEMA}")
    stored = tuple(_stored(entry) for entry in _entries(document, "stored"))
    rejected = tuple(_rejected(entry) for entry in _entries(document, "rejected"))
    retracted = tuple(_retracted(entry) for entry in _entries(document, "retracted"))
    _each_once([seq for seq, _ in stored] + [seq for seq, _, _ in rejected])
    return Receipt(
        gateway=_identifier(document, "gateway"),
        recipient=_identifier(document, "recipient"),
        epoch=_identifier(document, "epoch"),
        stored=stored,
        rejected=rejected,
        retracted=retracted,
        slow_down=_pause(document.get("slow_down", 0)),
    )


def _document(body: bytes) -> dict[str, Any]:
    if len(body) > LARGEST:
        raise ValueError(f"a receipt must have at most {LARGEST} bytes")
    # Bounded before parsing: the bytes may come from anybody.
    document = json_of(body, "a receipt", marks=MOST_MARKS, longest=LONGEST_STRING)
    if not isinstance(document, dict):
        raise ValueError("a receipt must be a JSON object")  # noqa: TRY004 -- one error for all of it
    return document


def _entries(document: dict[str, Any], name: str) -> list[list[Any]]:
    entries = document.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, list) for entry in entries):
        raise ValueError(f"`{name}` must be a list of lists")
    return entries


def _stored(entry: list[Any]) -> tuple[int, str]:
    match entry:
        case [seq, digest]:
            return _seq(seq), _hash(digest)
    raise ValueError("an entry of `stored` must be [seq, sha256]")


def _rejected(entry: list[Any]) -> tuple[int, str, str]:
    match entry:
        case [seq, digest, str(reason)]:
            return _seq(seq), _hash(digest), _printable(reason)
    raise ValueError("an entry of `rejected` must be [seq, sha256, reason]")


def _retracted(entry: list[Any]) -> tuple[str, int]:
    match entry:
        case [str(id_), rows] if IDENTIFIER.fullmatch(id_) and _whole(rows):
            return id_, int(rows)
    raise ValueError("an entry of `retracted` must be [id, rows]")


def _whole(number: object) -> bool:
    # `isinstance` would accept a bool
    return type(number) is int and 0 <= number <= LARGEST_SEQ


def _seq(seq: Any) -> int:
    if not _whole(seq):
        raise ValueError("a seq must be a whole number")
    return int(seq)


def _hash(digest: object) -> str:
    if not isinstance(digest, str) or not HASH.fullmatch(digest):
        raise ValueError("a sha256 must have 64 digits 0-9 a-f")
    return digest


def _identifier(document: dict[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise ValueError(f"`{name}` must be 1 to 253 letters, digits and . _ -")
    return value


def _pause(seconds: Any) -> int:
    if not _whole(seconds) or seconds > LONGEST_PAUSE:
        raise ValueError(f"`slow_down` must be 0 to {LONGEST_PAUSE} whole seconds")
    return int(seconds)


def _printable(reason: str) -> str:
    """The reason on one line without control characters and surrogates, because it is logged."""
    return "".join(c if c.isprintable() else " " for c in reason[:LONGEST_REASON])


def _each_once(seqs: list[int]) -> None:
    if len(set(seqs)) != len(seqs):
        raise ValueError("a receipt must name each seq once")


@dataclass(frozen=True, slots=True)
class Settled:
    """The changes of a receipt, for the log and for whoever waits for a batch."""

    settled: tuple[BatchId, ...] = ()
    """the recipient has stored them; they are not sent again"""
    quarantined: tuple[BatchId, ...] = ()
    """the recipient refuses these bytes for good; kept, not sent"""
    conflict: str | None = None
    """the recipient has stored other bytes under our ids: the batches and the reaction"""
    ahead: str | None = None
    """the recipient has seen ids not made yet, so this state is older: the reaction"""
    alarm: str | None = None
    """it happened too often: what waits until a person has checked"""
    new_epoch: bool = False
    again: bool = False
    """a batch that the transport had refused was stored: the others are tried, too"""
    ignored: int = 0
    """entries without effect: repeated, foreign, or of batches no longer here"""
    retracted: tuple[str, ...] = ()
    """ids of confirmed retractions that this spool never sent"""
    signed: bool = False
    """a key of the recipient has signed it"""
    unsigned: bool = False
    """it has no signature, which it needs: it has changed nothing (rule T35)"""


@dataclass(frozen=True, slots=True)
class ReceiptVerdict:
    """The batches of the receipt's epoch that it settles, rejects, contradicts, or names too
    early.
    """

    stored: tuple[int, ...]
    """the recipient has stored our bytes; of a void, the void"""
    originals: tuple[int, ...]
    """voids whose original batch the recipient has stored"""
    rejected: tuple[tuple[int, str], ...]
    contradicted: tuple[int, ...]
    ahead: tuple[int, ...]
    ignored: int


def judge(
    receipt: Receipt, held: Mapping[int, StoredBatch], next_seq: int | None
) -> ReceiptVerdict:
    """Compare a receipt with the stored batches of its epoch, by seq.

    `next_seq`: of the current epoch; None for an earlier one, whose count says nothing any more. A
    `rejected` of other bytes than ours says nothing about ours (rule T4), nor does one for bytes
    that a receipt called stored. A void is never rejected. Whether the recipient has the void or
    its original is settled once; a later receipt for the other one changes nothing. A receipt by
    the broker for the original does not prove which of the two the recipient has.
    """
    stored, originals, contradicted, rejected = [], [], [], []
    for seq, sha256 in receipt.stored:
        if (ours := held.get(seq)) is None:
            continue
        if sha256 == ours.sha256:
            if ours.state is not BatchState.RECEIPTED:
                stored.append(seq)
        # An unknown original (None) may be any other hash.
        elif ours.void is not None and ours.original in (sha256, None):
            if ours.state is not BatchState.RECEIPTED and not receipt.by_broker:
                originals.append(seq)
        else:
            contradicted.append(seq)
    for seq, sha256, reason in receipt.rejected:
        ours = held.get(seq)
        if (
            ours is not None
            and ours.void is None
            and (ours.sha256, ours.state) == (sha256, BatchState.UNRECEIPTED)
        ):
            rejected.append((seq, reason))
    named = seqs(receipt)
    ahead = tuple(seq for seq in named if next_seq is not None and seq >= next_seq)
    changed = len(stored) + len(originals) + len(rejected) + len(contradicted) + len(ahead)
    return ReceiptVerdict(
        stored=tuple(stored),
        originals=tuple(originals),
        rejected=tuple(rejected),
        contradicted=tuple(contradicted),
        ahead=ahead,
        ignored=len(named) - changed,
    )


def seqs(receipt: Receipt) -> list[int]:
    """Every seq that a receipt names."""
    return [seq for seq, _ in receipt.stored] + [seq for seq, _, _ in receipt.rejected]


def may_begin_anew(now: float, last: float | None) -> bool:
    """Whether a conflict may begin an epoch; a clock that stepped back does not allow it sooner."""
    return last is None or abs(now - last) >= CONFLICT_GAP


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes of a receipt, determined before anything is written."""

    epoch: str
    verdict: ReceiptVerdict
    returned: Mapping[int, list[Reading] | None]
    """rows of contradicted batches, marked `again`; None if a batch does not open"""
    retracted: Sequence[tuple[str, int]] = ()
    kid: str = ""
    """of the key that has signed it; empty: unsigned"""


class ReceiptApplication:
    """Applies receipts to one spool."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what a receipt may change
        self,
        pending: PendingRows,
        outbox: Outbox,
        voided_rows: VoidedRows,
        retracting: Retracting,
        disclosures: DisclosureCounts,
        meta: Meta,
        head: BatchHead,
    ) -> None:
        self._pending = pending
        self._outbox = outbox
        self._voided_rows = voided_rows
        self._retracting = retracting
        self._disclosures = disclosures
        self._meta = meta
        self._head = head
        self._looked_ahead = False

    def plan(self, receipt: Receipt) -> Plan:
        """Compare the receipt with the stored batches, and read the rows that it returns. Writes
        nothing.
        """
        entries = ((seq, self._outbox.held(receipt.epoch, seq)) for seq in seqs(receipt))
        held = {seq: batch for seq, batch in entries if batch is not None}
        # Only the present epoch has a next number: an earlier one cannot be ahead of us.
        current = receipt.epoch == self._meta["epoch"]
        verdict = judge(receipt, held, int(self._meta["seq"]) if current else None)
        # Read now, before the transaction: their series must be numbered before the rows are put
        # back.
        rows = {seq: self._rows(receipt.epoch, seq) for seq in verdict.contradicted}
        return Plan(receipt.epoch, verdict, rows, receipt.retracted, receipt.kid)

    def apply(self, plan: Plan, now: float) -> Settled:
        """Write the planned changes, inside one transaction of the caller."""
        again = any(self._outbox.was_refused(plan.epoch, seq) for seq in plan.verdict.stored)
        for seq in plan.verdict.stored:
            self._stored(plan, seq, now)
        if again:  # the transport accepts batches again: try the other refused ones
            # One chunk, because all of this is one commit. Receipts for it release the next.
            self._outbox.try_again(
                next(iter(self._outbox.quarantined_chunks(by_transport=True)), ())
            )
        for seq in plan.verdict.originals:  # the recipient has the batch, so no row is owed
            if not self._counted(plan.epoch, seq):
                counts = self._outbox.voids.original_counts(plan.epoch, seq)
                if counts is None:
                    counts = counts_of(self._voided_rows.rows(plan.epoch, seq))
                self._disclosures.add(counts, now, again=True)
            self._outbox.receipt(plan.epoch, seq, now, plan.kid)
            self._voided_rows.drop(plan.epoch, seq)
        for seq, reason in plan.verdict.rejected:
            self._outbox.quarantine(plan.epoch, seq, reason, now)
        strange = self._retracting.erased(plan.retracted) if plan.retracted else ()
        before = self._meta["epoch"]
        ahead, too_far = self._look_ahead(plan)
        conflict, too_often = self._contradict(plan, now)
        return Settled(
            settled=self._ids(plan, (*plan.verdict.stored, *plan.verdict.originals)),
            quarantined=self._ids(plan, [seq for seq, _ in plan.verdict.rejected]),
            conflict=conflict,
            ahead=ahead,
            alarm=too_far or too_often,
            new_epoch=self._meta["epoch"] != before,
            again=again,
            ignored=plan.verdict.ignored,
            retracted=strange,
            signed=bool(plan.kid),
        )

    def applied(self, settled: Settled) -> None:
        """Note a committed receipt: in one run only the first look ahead begins an epoch (rule
        T9).
        """
        self._looked_ahead |= settled.ahead is not None

    def begin_epoch(self) -> None:
        """Begin a new epoch and mark all waiting rows: the recipient may have them (rule T9)."""
        self._begin_epoch()
        self._pending.mark_again()

    def _stored(self, plan: Plan, seq: int, now: float) -> None:
        """Settle a stored batch. Of a void, the rows that may still leave are sealed again (rule
        T5).
        """
        epoch = plan.epoch
        held = self._outbox.held(epoch, seq)
        new = held is not None and held.void is None and held.state in NOT_YET_RECEIVED
        if new and not self._counted(epoch, seq):
            self._disclosures.payload(self._outbox.payload(epoch, seq), now)
        self._outbox.receipt(epoch, seq, now, plan.kid)
        self._retracting.stored(epoch, seq)
        if rows := self._not_retracted(self._voided_rows.rows(epoch, seq)):
            if self._counted(epoch, seq):
                self._disclosures.returned(rows)
            self._pending.put_back(rows)
        self._voided_rows.drop(epoch, seq)

    def _counted(self, epoch: str, seq: int) -> bool:
        """Whether the values of an unreceipted batch are counted already: it was sent again on
        request, or became a void after its receipt.
        """
        known = self._disclosures.was_counted(epoch, seq)
        return known or self._outbox.voids.original_counts(epoch, seq) == []

    def _look_ahead(self, plan: Plan) -> tuple[str | None, str | None]:
        if not plan.verdict.ahead:
            return None, None
        seen = f"{self._head.recipient} has batch {plan.epoch}/{max(plan.verdict.ahead)}"
        if self._looked_ahead:
            return None, (
                f"{seen}, which is not made yet, for the second time since the start: check whether"
                " another gateway runs with a copy of this state"
            )
        self.begin_epoch()
        return (
            f"{seen}, which is not made yet: this gateway's state is older. A new epoch begins",
            None,
        )

    def _contradict(self, plan: Plan, now: float) -> tuple[str | None, str | None]:
        """Take the rows of contradicted batches back. A conflict in an earlier epoch begins no new
        one, because the present epoch began after it (rule T8).
        """
        if not plan.verdict.contradicted:
            return None, None
        named = ", ".join(f"{plan.epoch}/{seq}" for seq in plan.verdict.contradicted)
        finding = f"{self._head.recipient} has stored other bytes than ours as {named}"
        if plan.epoch == self._meta["epoch"]:
            if not may_begin_anew(now, self._meta.number("conflict_at")):
                waits = "for the second time within a day: these batches wait until the day is over"
                return None, f"{finding}, {waits}"
            self._begin_epoch()
            self._meta["conflict_at"] = now
        # last first, because each is put in front of the waiting rows
        for seq in sorted(plan.verdict.contradicted, reverse=True):
            self._take_back(plan, seq, now)
        return f"{finding}: their rows are sent again", None

    def _take_back(self, plan: Plan, seq: int, now: float) -> None:
        rows, payload = plan.returned[seq], self._outbox.payload(plan.epoch, seq)
        if rows is None or payload is None:
            self._outbox.quarantine(plan.epoch, seq, UNREADABLE, now)
            return
        # A batch without rows may carry retractions: they must be sent again, too.
        self._retracting.queue(read_retractions(payload))
        held = self._outbox.held(plan.epoch, seq)
        rows = self._not_retracted(rows)
        # If an earlier receipt counted the values, the next receipt for these rows must not count
        # them again.
        received = held is not None and held.void is None and held.state not in NOT_YET_RECEIVED
        if self._counted(plan.epoch, seq) or received:
            self._disclosures.returned(rows)
        self._outbox.remove(plan.epoch, seq)
        self._voided_rows.drop(plan.epoch, seq)
        if rows:
            self._pending.put_back(rows)

    def _not_retracted(self, rows: list[Reading]) -> list[Reading]:
        """The rows that may be sent again. What a wrong clock has closed since they were sealed is
        retracted, and stated anew: the recipient would refuse it (rule C5).
        """
        ranges = self._retracting.clock_ranges() if rows else ()
        return [row for row in rows if not covered(row, ranges, self._head.recipient)]

    def _begin_epoch(self) -> None:
        end_epoch(self._meta)
        self._meta["before_epoch"], self._meta["before_seq"] = (
            self._meta["epoch"],
            int(self._meta["seq"]) - 1,
        )
        self._meta["epoch"] = new_epoch()
        self._meta["seq"] = 1

    def _rows(self, epoch: str, seq: int) -> list[Reading] | None:
        payload = self._outbox.payload(epoch, seq)
        if payload is None:
            return None
        rows = [replace(row, again=True) for row in read(payload)]
        return rows + self._voided_rows.rows(epoch, seq)

    def _ids(self, plan: Plan, seqs: tuple[int, ...] | list[int]) -> tuple[BatchId, ...]:
        return tuple(
            BatchId(self._head.gateway, self._head.recipient, plan.epoch, seq) for seq in seqs
        )


class Resending:
    """Marks batches to be sent again, byte for byte, or makes a void in their place."""

    def __init__(
        self,
        outbox: Outbox,
        voided_rows: VoidedRows,
        retracting: Retracting,
        meta: Meta,
        head: BatchHead,
    ) -> None:
        self._outbox, self._voided_rows, self._retracting = outbox, voided_rows, retracting
        self._meta, self._head = meta, head

    def ids(self, epoch: str, first: int, last: int) -> range:
        """The ids of these that were ever made.

        Raises LookupError if there was no such epoch, or none of these ids in it, and ValueError on
        more than 100,000.
        """
        if last - first >= MOST_ASKED:
            raise ValueError(f"at most {MOST_ASKED} batches can be requested at once")
        made = self._last_of(epoch)
        if made is None:
            raise LookupError(f"this gateway has made no batch with the epoch {epoch}")
        if first > made or last < 1:
            raise LookupError(f"the last batch with the epoch {epoch} is {made}")
        return range(max(first, 1), min(last, made) + 1)

    def _last_of(self, epoch: str) -> int | None:
        """The number of the last batch of an epoch; None: there was no such epoch, or it ended
        before this was recorded and none of its batches is here any more.
        """
        if epoch == self._meta["epoch"]:
            return int(self._meta["seq"]) - 1
        known = past_epochs(self._meta).get(epoch)
        return self._outbox.last_of(epoch) if known is None else known

    def ask(self, epoch: str, seq: int, now: float) -> bool:
        """Send a batch again when its turn comes. False: it is to be sent anyway."""
        held = self._outbox.held(epoch, seq)
        id_ = BatchId(self._head.gateway, self._head.recipient, epoch, seq)
        if held is None:
            # The content is deleted: the void tells the recipient that it will not come.
            void = self._outbox.voids.make(id_, Lane.BACKFILL, Void.GONE, None)
            self._outbox.add(void, now, state=BatchState.ASKED)
        elif held.state is BatchState.RECEIPTED:
            if not self._outbox.has_present_form(id_):
                self._replace_by_void(id_)
            self._outbox.ask(epoch, seq)
        return held is None or held.state is BatchState.RECEIPTED

    def adapt(self, ids: Iterable[BatchId]) -> None:
        """Convert waiting batches for the present transport."""
        for id_ in ids:
            self._replace_by_void(id_)

    def _replace_by_void(self, id_: BatchId) -> None:
        """Make a void of a batch that the present transport does not accept. Its rows are sent
        again, marked `again`, unless the recipient has them under its id. A void is made in the
        form of the transport.
        """
        held = self._outbox.held(id_.epoch, id_.seq)
        if held is not None and held.void is not None:
            self._outbox.remake(id_)
            return
        payload = self._outbox.payload(id_.epoch, id_.seq)
        rows = read(payload) if payload is not None else []
        if payload is not None:
            self._retracting.queue(read_retractions(payload))
        counted = held is not None and held.state in {BatchState.RECEIPTED, BatchState.ASKED}
        self._outbox.void(id_, Void.GONE, () if counted else counts_of(rows))
        self._voided_rows.add(id_.epoch, id_.seq, rows)
