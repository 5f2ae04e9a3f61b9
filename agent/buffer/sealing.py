"""Makes the next batch of waiting rows, whole or not at all (rules T1, T2)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from agent.buffer.batch import Stamp, write
from agent.buffer.keys import owner_of
from agent.buffer.outbox import digest
from agent.core.model import BatchId, Lane, SealedBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.buffer.batch import BatchHead
    from agent.buffer.keys import PersonKeys
    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import Choice, PendingRows
    from agent.buffer.schema import Meta
    from agent.core.model import Reading, Series

SHRINK = 0.95
DAY = 86_400.0
LONGEST = 32 * DAY
"""seconds until larger batches are tried, after many refusals"""
MOST_STEPS = 32


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

    def seal(self, request: SealRequest) -> SealedBatch | None:
        """The next batch; its rows no longer wait. None if the lane has no rows, or if a change of
        the registry must be applied first.

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
        if not rows:
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
