"""A herd that comes back at once: `python -m bench.herd`; simulated time, no wire.

2,000 gateways were away for three days. Each keeps to agent.uplink.pacing: it connects within five
minutes, waits `settling`, and then has one unreceipted backfill batch of 5,000 rows, the gap after
it by `next_gap`; live batches go once a minute. The platform takes so many rows a second, in the
order in which they come or live ones first. Printed: the most that waited there, how long live
batches waited (median, and one in a hundred), and when the last gateway was done.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from agent.uplink import pacing

GATEWAYS, AWAY = 2_000, 3 * 86_400.0
LIVE_ROWS, LIVE_EVERY, BATCH_ROWS = 500, 60.0, 5_000
BATCHES = int(LIVE_ROWS / LIVE_EVERY * AWAY / BATCH_ROWS)
ROW_BYTES = 4.25
DICE = random.Random(1)
CONNECT, BACKFILL, LIVE, SERVED = range(4)


@dataclass
class Herd:
    """The gateways, and the platform that serves them one batch after the other."""

    capacity: float
    """rows a second"""
    live_first: bool
    left: list[int] = field(default_factory=lambda: [BATCHES] * GATEWAYS)
    gaps: list[float] = field(default_factory=lambda: [pacing.first_gap(AWAY)] * GATEWAYS)
    queues: tuple[deque, deque] = field(default_factory=lambda: (deque(), deque()))
    waits: list[float] = field(default_factory=list)
    rows: int = 0
    peak: int = 0
    busy: bool = False
    events: list = field(default_factory=list)

    def run(self) -> float:
        """Seconds until nobody has a backlog any more."""
        for who in range(GATEWAYS):
            self._at(DICE.random() * pacing.LONGEST_BACKOFF, CONNECT, who)
        now, standing = 0.0, GATEWAYS
        while standing:
            now, _, what, facts = heapq.heappop(self.events)
            if what == CONNECT:
                self._at(now + DICE.random() * LIVE_EVERY, LIVE, facts)
                self._at(now + pacing.settling(AWAY, DICE.random()), BACKFILL, facts)
            elif what == SERVED:
                standing -= self._served(now, *facts)
            else:
                self._arrives(now, what, facts)
        return now

    def _at(self, when: float, what: int, facts) -> None:
        heapq.heappush(self.events, (when, DICE.random(), what, facts))

    def _arrives(self, now: float, what: int, who: int) -> None:
        rows = LIVE_ROWS if what == LIVE else BATCH_ROWS
        self.queues[self.live_first and what == BACKFILL].append((now, what, who, rows))
        self.rows += rows
        self.peak = max(self.peak, self.rows)
        if what == LIVE:
            self._at(now + LIVE_EVERY, LIVE, who)
        self._serve(now)

    def _serve(self, now: float) -> None:
        if self.busy or not any(self.queues):
            return
        batch = (self.queues[0] or self.queues[1]).popleft()
        self.busy = True
        self._at(now + batch[3] / self.capacity, SERVED, batch)

    def _served(self, now: float, came: float, what: int, who: int, rows: int) -> bool:
        """Whether that was the last of a gateway's backlog."""
        self.busy, self.rows = False, self.rows - rows
        if what == LIVE:
            self.waits.append(now - came)
        else:
            self.left[who] -= 1
            self.gaps[who] = pacing.next_gap(self.gaps[who], now - came)
            if self.left[who]:
                self._at(now + pacing.jittered(self.gaps[who], DICE.random()), BACKFILL, who)
        self._serve(now)
        return what == BACKFILL and not self.left[who]


def main() -> None:
    print("rows/s at the platform   queue MB   live wait p50   p99 s   backlog done h")
    for capacity, live_first in (
        (200_000, False),
        (200_000, True),
        (50_000, False),
        (50_000, True),
    ):
        herd = Herd(capacity, live_first)
        hours = herd.run() / 3600
        waits = sorted(herd.waits)
        print(
            f"{capacity:8} {'live first' if live_first else 'as they come':>12}"
            f" {herd.peak * ROW_BYTES / 1e6:11.0f} {waits[len(waits) // 2]:15.1f}"
            f" {waits[len(waits) * 99 // 100]:7.1f} {hours:16.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
