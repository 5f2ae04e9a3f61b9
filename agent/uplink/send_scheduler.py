"""Decides what to send or seal next on one connection. Pure.

Times are monotonic seconds. The caller gives them, and the random draws in [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.model import Lane
from agent.uplink import pacing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.core.model import BatchId, SealedBatch

BYTES_PER_ROW = 10.0
"""estimate until a batch has been sealed"""


@dataclass(slots=True)
class Flight:
    """One sealed batch that waits for its receipt."""

    batch: SealedBatch
    due: float
    """when to send it (again)"""
    first_sent: float = 0.0
    """on this connection"""
    last_sent: float = 0.0
    times: int = 0
    under_way: bool = False
    before: bool = False
    """sealed before this connection, and perhaps sent before"""


class SendScheduler:
    """The state of one open connection."""

    def __init__(  # noqa: PLR0913, PLR0917 -- all are known at the opening
        self,
        rhythm: pacing.Rhythm,
        now: float,
        outage: float,
        draw: float,
        smoothed: float | None = None,
        next_seal: float = 0.0,
    ) -> None:
        self.rhythm = rhythm
        self.smoothed = smoothed
        self.flights: dict[BatchId, Flight] = {}
        self.waiting = {Lane.LIVE: 0, Lane.BACKFILL: 0}
        """rows not sealed yet, as counted last"""
        self.next_seal = next_seal or now + rhythm.seal
        self.refusals = 0
        self._refused_at = 0.0
        self._held_until = 0.0
        self._spacing = pacing.SPACING
        self._spaced_until = 0.0
        self._gap = pacing.first_gap(outage)
        self._backfill_from = now + pacing.settling(outage, draw)
        self._draining = True
        self._trickle_from = 0.0
        self._bytes_per_row = BYTES_PER_ROW

    def refresh(
        self, batches: Iterable[SealedBatch], previous: Iterable[BatchId], now: float
    ) -> None:
        """Take over the unreceipted batches of the spool, in order, to be sent (again).

        `previous`: the flights before the spool was read; those no longer unreceipted are dropped.
        """
        unreceipted = {batch.id: batch for batch in batches}
        # a batch that was sealed while the spool was read is not in `batches`: it must not be
        # dropped
        for gone in set(previous) - unreceipted.keys():
            self.flights.pop(gone, None)
        for id_, batch in unreceipted.items():
            flight = self.flights.get(id_)
            if flight is None or flight.batch.sha256 != batch.sha256:  # new, or replaced by a void
                self.flights[id_] = Flight(batch, due=now, before=True)

    def due(self, now: float) -> Flight | None:
        """The batch to send now, or None."""
        if now < max(self._spaced_until, self._held_until):
            return None
        if self.refusals and any(flight.under_way for flight in self.flights.values()):
            return None  # after a refusal one batch at a time tests the recipient
        ready = (f for f in self.flights.values() if not f.under_way and f.due <= now)
        return next(ready, None)

    def lane_to_seal(self, now: float) -> Lane | None:
        """The lane to seal now, live before backfill; None if a batch could not be sent at once."""
        if now < max(self._spaced_until, self._held_until) or (self.refusals and self.flights):
            return None
        if self._wants_live(now):
            return Lane.LIVE
        return Lane.BACKFILL if self._wants_backfill(now) else None

    def sealed(self, lane: Lane, batch: SealedBatch | None, now: float, next_seal: float) -> None:
        """Note the sealed batch, or None; `next_seal`: the next regular time to seal."""
        filled = batch is not None and (
            batch.rows >= self.rhythm.most_rows or len(batch.payload) > self.rhythm.most_bytes / 2
        )
        if batch is None:
            self.waiting[lane] = 0
        else:
            self.flights[batch.id] = Flight(batch, due=now)
            if batch.rows:  # a directory has no rows
                self._bytes_per_row = max(1.0, len(batch.payload) / batch.rows)
        if lane is Lane.BACKFILL:
            self._draining = filled
            self._trickle_from = now + self.rhythm.seal
        elif not filled and (batch is None or batch.rows):
            # after a directory, the rows that wait are sealed at once
            self.next_seal = next_seal

    def sent(self, flight: Flight, now: float) -> None:
        """Note that a batch is being sent."""
        flight.first_sent = flight.first_sent or now
        flight.last_sent = now
        flight.times += 1
        flight.under_way = True
        self._spaced_until = now + self._spacing

    def taken(self, flight: Flight, now: float) -> None:
        """Note that the transport accepted a batch, which now waits for its receipt."""
        flight.under_way = False
        flight.due = now + pacing.patience(self.smoothed, flight.times - 1, self.rhythm)
        self._reset_refusals()

    def refused(self, flight: Flight, now: float, draw: float) -> None:
        """Note a refusal. Only batches sent after the last refusal count as a new one."""
        flight.under_way = False
        flight.due = now
        # several batches may be refused for one cause: only those sent after the last refusal count
        if flight.last_sent >= self._refused_at:
            self.refusals += 1
            self._refused_at = now
            self._held_until = now + pacing.backoff(self.refusals, draw)

    def hold(self, now: float, seconds: float) -> None:
        """Send nothing for so many seconds, as the recipient asks."""
        self._held_until = max(self._held_until, now + seconds)

    def ended(self, batch: BatchId, now: float, draw: float) -> None:
        """Note that a receipt or a rejection ended the wait for a batch."""
        flight = self.flights.pop(batch, None)
        if flight is None or not flight.times:
            return
        seconds = now - flight.first_sent
        if flight.times == 1:  # after a resend it is unknown which sending the receipt answers
            self.smoothed = pacing.smooth(self.smoothed, seconds)
        if flight.batch.lane is Lane.BACKFILL:
            self._gap = pacing.next_gap(self._gap, seconds, self.rhythm.quick)
            self._backfill_from = max(self._backfill_from, now + pacing.jittered(self._gap, draw))

    def heard(self, slow_down: int) -> None:
        """Note a receipt, which asks for `slow_down` seconds between two batches."""
        self._reset_refusals()
        spacing = pacing.spacing(slow_down)
        # the new spacing also applies to the pause that runs now
        self._spaced_until += spacing - self._spacing
        self._spacing = spacing

    def answered(self) -> None:
        """Note that the recipient answered, and that the refused batch is replaced."""
        self._reset_refusals()

    def sleep(self, now: float) -> float:
        """Seconds until something may be due, at most until the next count of waiting rows."""
        moments = [flight.due for flight in self.flights.values() if not flight.under_way]
        moments += [self._spaced_until, self._held_until, self.next_seal, self._backfill_from]
        ahead = [moment - now for moment in moments if moment > now]
        return min([pacing.look_every(self.rhythm), *ahead])

    def _reset_refusals(self) -> None:
        self.refusals = 0
        self._held_until = 0.0

    def _wants_live(self, now: float) -> bool:
        standing = sum(f.batch.lane is Lane.LIVE for f in self.flights.values())
        ripe = now >= self.next_seal or self._fills(self.waiting[Lane.LIVE])
        return standing < self.rhythm.most_live and ripe

    def _wants_backfill(self, now: float) -> bool:
        rows = self.waiting[Lane.BACKFILL]
        if not rows or now < self._backfill_from:
            return False
        if any(f.batch.lane is Lane.BACKFILL for f in self.flights.values()):
            return False
        # late rows that arrive one by one are sent once an interval, not each in its own batch
        return self._draining or self._fills(rows) or now >= self._trickle_from

    def _fills(self, rows: int) -> bool:
        return pacing.full(rows, self._bytes_per_row, self.rhythm)
