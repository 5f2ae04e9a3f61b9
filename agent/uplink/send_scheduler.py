"""What to send or seal next on one connection. Decides, and touches nothing.

Times are monotonic seconds, given by the caller, as are the random draws in [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.model import Lane
from agent.uplink import pacing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.model import BatchId, SealedBatch

BYTES_PER_ROW = 10.0
"""until a batch has been sealed"""


@dataclass(slots=True)
class Flight:
    """One sealed batch without a receipt."""

    batch: SealedBatch
    due: float
    """when it is to be sent (again)"""
    first_sent: float = 0.0
    """on this connection"""
    last_sent: float = 0.0
    times: int = 0
    under_way: bool = False
    before: bool = False
    """sealed before this connection, so perhaps sent before"""


class SendScheduler:
    """The state of one open connection."""

    def __init__(  # noqa: PLR0913, PLR0917 -- all of it is what an opening knows
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
        """rows that wait unsealed, as far as is known"""
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

    def found(self, batches: Iterable[SealedBatch], had: Iterable[BatchId], now: float) -> None:
        """Take in what the spool holds unreceipted, in order, to be sent (again).

        Of `had`, the flights there were before the spool was asked, those not found are over.
        """
        found = {batch.id: batch for batch in batches}
        for gone in set(had) - found.keys():
            self.flights.pop(gone, None)
        for id_, batch in found.items():
            flight = self.flights.get(id_)
            if flight is None or flight.batch.sha256 != batch.sha256:  # or it is a void since
                self.flights[id_] = Flight(batch, due=now, before=True)

    def due(self, now: float) -> Flight | None:
        """The batch to send now; None if none may be."""
        if now < max(self._spaced_until, self._held_until):
            return None
        if self.refusals and any(flight.under_way for flight in self.flights.values()):
            return None  # one batch asks whether the far side takes anything again
        ready = (f for f in self.flights.values() if not f.under_way and f.due <= now)
        return next(ready, None)

    def lane_to_seal(self, now: float) -> Lane | None:
        """The lane to seal now, live before backfill; None if nothing could be sent at once."""
        if now < max(self._spaced_until, self._held_until) or (self.refusals and self.flights):
            return None
        if self._wants_live(now):
            return Lane.LIVE
        return Lane.BACKFILL if self._wants_backfill(now) else None

    def sealed(self, lane: Lane, batch: SealedBatch | None, now: float, next_seal: float) -> None:
        """Note what sealing gave; `next_seal`: the next moment of the rhythm."""
        filled = batch is not None and (
            batch.rows >= self.rhythm.most_rows or len(batch.payload) > self.rhythm.most_bytes / 2
        )
        if batch is None:
            self.waiting[lane] = 0
        else:
            self.flights[batch.id] = Flight(batch, due=now)
            if batch.rows:  # a directory says nothing of how large rows are
                self._bytes_per_row = max(1.0, len(batch.payload) / batch.rows)
        if lane is Lane.BACKFILL:
            self._draining = filled
            self._trickle_from = now + self.rhythm.seal
        elif not filled and (batch is None or batch.rows):
            # one without rows (a directory) has only taken the turn of those that wait behind it
            self.next_seal = next_seal

    def sent(self, flight: Flight, now: float) -> None:
        """The batch is being handed over."""
        flight.first_sent = flight.first_sent or now
        flight.last_sent = now
        flight.times += 1
        flight.under_way = True
        self._spaced_until = now + self._spacing

    def taken(self, flight: Flight, now: float) -> None:
        """The transport took it; its receipt is waited for."""
        flight.under_way = False
        flight.due = now + pacing.patience(self.smoothed, flight.times - 1, self.rhythm)
        self._heed()

    def refused(self, flight: Flight, now: float, draw: float) -> None:
        """Nobody took it. What was sent before the last refusal tells nothing new."""
        flight.under_way = False
        flight.due = now
        if flight.last_sent >= self._refused_at:
            self.refusals += 1
            self._refused_at = now
            self._held_until = now + pacing.backoff(self.refusals, draw)

    def hold(self, now: float, seconds: float) -> None:
        """The far side asks to be left alone for so long."""
        self._held_until = max(self._held_until, now + seconds)

    def ended(self, batch: BatchId, now: float, draw: float) -> None:
        """A receipt, or a rejection, ends the wait for it."""
        flight = self.flights.pop(batch, None)
        if flight is None or not flight.times:
            return
        seconds = now - flight.first_sent
        if flight.times == 1:  # of one sent twice nobody knows which sending it answers
            self.smoothed = pacing.smooth(self.smoothed, seconds)
        if flight.batch.lane is Lane.BACKFILL:
            self._gap = pacing.next_gap(self._gap, seconds, self.rhythm.quick)
            self._backfill_from = max(self._backfill_from, now + pacing.jittered(self._gap, draw))

    def heard(self, slow_down: int) -> None:
        """The recipient is there, and asks for so many seconds between two batches."""
        self._heed()
        spacing = pacing.spacing(slow_down)
        self._spaced_until += spacing - self._spacing
        self._spacing = spacing

    def answered(self) -> None:
        """The far side is there, and what it refused is made otherwise."""
        self._heed()

    def sleep(self, now: float) -> float:
        """Seconds until something may be due; at most until the next look at what waits."""
        moments = [flight.due for flight in self.flights.values() if not flight.under_way]
        moments += [self._spaced_until, self._held_until, self.next_seal, self._backfill_from]
        ahead = [moment - now for moment in moments if moment > now]
        return min([pacing.look_every(self.rhythm), *ahead])

    def _heed(self) -> None:
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
        # a trickle of late rows goes once an interval, not as a batch for each row
        return self._draining or self._fills(rows) or now >= self._trickle_from

    def _fills(self, rows: int) -> bool:
        return pacing.full(rows, self._bytes_per_row, self.rhythm)
