"""What a receipt does to the batches it names (delivery rules 3, 4, 8, 9). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.buffer.outbox import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model import BatchId, Receipt

CONFLICT_GAP = 86_400
"""seconds between two new epochs by conflict, at least (rule 8)"""


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
    ignored: int = 0
    """entries that changed nothing: repeated, foreign, or of batches no longer here"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which batches of the receipt's epoch it settles, rejects, contradicts, or only foresees."""

    stored: tuple[int, ...]
    rejected: tuple[tuple[int, str], ...]
    contradicted: tuple[int, ...]
    ahead: tuple[int, ...]
    ignored: int


def judge(receipt: Receipt, held: Mapping[int, tuple[str, State]], next_seq: int | None) -> Verdict:
    """Compare a receipt with what is held of its epoch: hash and state by seq.

    `next_seq` of the current epoch; None for an earlier one, whose count says nothing any more.
    A `rejected` of other bytes than ours says nothing about ours (rule 4), nor does one of bytes
    that a receipt called stored.
    """
    stored, contradicted, rejected = [], [], []
    for seq, sha256 in receipt.stored:
        match held.get(seq):
            case (ours, state) if ours != sha256:
                contradicted.append(seq)
            case (_, state) if state is not State.RECEIPTED:
                stored.append(seq)
    for seq, sha256, reason in receipt.rejected:
        if held.get(seq) == (sha256, State.UNRECEIPTED):
            rejected.append((seq, reason))
    named = seqs(receipt)
    ahead = tuple(seq for seq in named if next_seq is not None and seq >= next_seq)
    changed = len(stored) + len(rejected) + len(contradicted) + len(ahead)
    return Verdict(tuple(stored), tuple(rejected), tuple(contradicted), ahead, len(named) - changed)


def seqs(receipt: Receipt) -> list[int]:
    """Every seq that a receipt names."""
    return [seq for seq, _ in receipt.stored] + [seq for seq, _, _ in receipt.rejected]


def may_begin_anew(now: float, last: float | None) -> bool:
    """Whether a conflict may begin an epoch; a clock that stepped back does not allow it sooner."""
    return last is None or abs(now - last) >= CONFLICT_GAP
