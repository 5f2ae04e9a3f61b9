"""What a receipt does to the batches it names (rules T3, T4, T8, T9). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.buffer.outbox import BatchState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.buffer.outbox import StoredBatch
    from agent.model import BatchId, Receipt

CONFLICT_GAP = 86_400
"""seconds between two new epochs by conflict, at least (rule T8)"""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a receipt changed, for the log and for whoever waits for a batch."""

    settled: tuple[BatchId, ...] = ()
    """the recipient holds them; they are not sent again"""
    quarantined: tuple[BatchId, ...] = ()
    """the recipient refuses these bytes for good; kept, not sent"""
    conflict: str | None = None
    """the recipient holds other bytes under our ids; what, and what was done"""
    ahead: str | None = None
    """the recipient has seen ids not made yet: this state is older than its; what was done"""
    alarm: str | None = None
    """it happened too often; what stands still until somebody looks"""
    new_epoch: bool = False
    again: bool = False
    """one that the transport had refused has passed: the others are to be sent, too"""
    ignored: int = 0
    """entries that changed nothing: repeated, foreign, or of batches no longer here"""
    retracted: tuple[str, ...] = ()
    """ids of retractions that stand there and were never told by this spool"""


@dataclass(frozen=True, slots=True)
class ReceiptVerdict:
    """Which batches of the receipt's epoch it settles, rejects, contradicts, or only foresees."""

    stored: tuple[int, ...]
    """what we hold is what the recipient holds: of a void, the void"""
    originals: tuple[int, ...]
    """voids; the recipient holds what was sealed before"""
    rejected: tuple[tuple[int, str], ...]
    contradicted: tuple[int, ...]
    ahead: tuple[int, ...]
    ignored: int


def judge(
    receipt: Receipt, held: Mapping[int, StoredBatch], next_seq: int | None
) -> ReceiptVerdict:
    """Compare a receipt with what is held of its epoch, by seq.

    `next_seq` of the current epoch; None for an earlier one, whose count says nothing any more.
    A `rejected` of other bytes than ours says nothing about ours (rule T4), nor does one of bytes
    that a receipt called stored. A void is never rejected; which of it and its original stands at
    the recipient is settled once, and a word for the other one changes nothing any more; a broker's
    word for what was sealed before the void says nothing of which one stands there.
    """
    stored, originals, contradicted, rejected = [], [], [], []
    for seq, sha256 in receipt.stored:
        if (ours := held.get(seq)) is None:
            continue
        if sha256 == ours.sha256:
            if ours.state is not BatchState.RECEIPTED:
                stored.append(seq)
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
