"""Evaluates a receipt: what it changes for the batches that it names (rules T3, T4, T8, T9).
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.buffer.outbox import BatchState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.buffer.outbox import StoredBatch
    from agent.core.model import BatchId, Receipt

CONFLICT_GAP = 86_400
"""least seconds between two epochs that conflicts begin (rule T8)"""


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
