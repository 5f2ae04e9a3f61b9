"""Waiting rows become the next batch, whole or not at all (delivery rules 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.buffer.batch import Stamp, write
from agent.buffer.outbox import digest
from agent.model import BatchId, Lane, Sealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.buffer.batch import BatchHead
    from agent.buffer.outbox import Outbox
    from agent.buffer.schema import Meta
    from agent.buffer.waiting import Waiting
    from agent.model import Reading

LARGEST_PAYLOAD = 60_000
"""bytes, whatever a caller asks for: no MQTT message of ours exceeds it"""
SHRINK = 0.95


@dataclass(frozen=True, slots=True)
class Order:
    """What a batch is to be made of."""

    lane: Lane
    now: float
    """seconds since 1970 UTC"""
    trust: str
    """of the clock that says so"""
    live_after: int
    """rows of later slots are live, the others backfill"""
    most_rows: int
    most_bytes: int


class Sealing:
    """Makes batches; each call belongs inside one transaction of the caller's."""

    def __init__(self, waiting: Waiting, outbox: Outbox, meta: Meta, head: BatchHead) -> None:
        self._waiting = waiting
        self._outbox = outbox
        self._meta = meta
        self._head = head

    def seal(self, order: Order) -> Sealed | None:
        """The next batch, its rows no longer waiting; None if there are none of that lane.

        Blocks that the disk has damaged are written off on the way, and their rows counted.
        """
        choices, broken = self._waiting.choose(order.lane, order.live_after, order.most_rows)
        self._write_off(broken)
        rows = [choice.rows[i] for choice in choices for i in choice.wanted][: order.most_rows]
        if not rows:
            return None
        batch = self._fit(order, rows)
        self._waiting.take(choices, batch.rows)
        self._outbox.add(batch, order.now)
        self._meta["seq"] = batch.id.seq + 1
        return batch

    def _fit(self, order: Order, rows: Sequence[Reading]) -> Sealed:
        """As many of the first rows as the payload has room for; one in any case."""
        most = min(order.most_bytes, LARGEST_PAYLOAD)
        label = self._label(order)
        while len(payload := write(label, rows)) > most and len(rows) > 1:
            fitting = int(len(rows) * SHRINK * most / len(payload))
            rows = rows[: max(1, min(fitting, len(rows) - 1))]
        return Sealed(label.id, order.lane, payload, digest(payload), len(rows))

    def _label(self, order: Order) -> Stamp:
        epoch, seq = str(self._meta["epoch"]), int(self._meta["seq"])
        id_ = BatchId(self._head.gateway, self._head.recipient, epoch, seq)
        return Stamp(id_, order.lane, order.now, order.trust, self._head.privacy)

    def _write_off(self, broken: Sequence[tuple[int, int]]) -> None:
        for no, rows in broken:
            self._waiting.drop(no, rows)
            self._meta["unreadable"] = int(self._meta.number("unreadable") or 0) + rows
