"""How long to wait for what. Pure; every number is of the fleet simulation in design note 006.

Two thousand gateways come back at once after a platform's bad days. What keeps it alive is the
closed loop (one unreceipted backfill batch a gateway, with a gap that follows the receipts), not
jitter alone. A short outage shortens every wait with it, so that it is made good in seconds.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

SPACING = 0.2
"""seconds between two batches at least: no cloud service minds five a second"""
LONGEST_SPACING = 600.0
"""seconds; nobody slows us down for longer with one receipt"""
PATIENCE = 30.0
LONGEST_PATIENCE = 600.0
ALARM = 300.0
QUICK_RECEIPT = 5.0
SHORTEST_GAP, LONGEST_GAP = 1.0, 600.0
GAP_PER_RECEIPT = 20.0
"""a gap is at most so many receipt times: a platform that takes 6 s for everybody is not one that
2,000 gateways press (python -m bench.herd)"""
LONGEST_BACKOFF = 300.0
SMOOTHING = 0.125
"""weight of the newest receipt time (as TCP does, RFC 6298 2.3)"""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often one uplink seals, and how much."""

    seal: float = 60.0
    """seconds"""
    phase: float = 0.0
    """seconds into the interval, so that gateways do not all send at the full minute"""
    most_rows: int = 5_000
    most_bytes: int = 48_000
    most_live: int = 8
    """live batches that may stand unreceipted; of backfill it is always one (rule T14)"""
    patience: float = PATIENCE
    """seconds until a batch without a receipt is sent again, the first time"""
    longest_patience: float = LONGEST_PATIENCE
    """seconds, however often it was sent"""
    quick: float = QUICK_RECEIPT
    """seconds within which a receipt comes from a platform that has nothing else to do"""
    alarm: float = ALARM
    """seconds without any receipt for what was sent, after which somebody must look"""


def phase(gateway: str, seal: float) -> float:
    """A gateway's own moment in the seal interval, the same at every start; seconds."""
    digest = hashlib.sha256(gateway.encode()).digest()
    return seal * int.from_bytes(digest[:4], "big") / 2**32


def until_seal(wall: float, rhythm: Rhythm) -> float:
    """Seconds from the wall time `wall` to the next seal, at most `rhythm.seal`."""
    return rhythm.seal - (wall - rhythm.phase) % rhythm.seal


def live_after(wall: float, rhythm: Rhythm) -> int:
    """Slots, and commits of fresh readings, after this second are live: those of the last two seal
    intervals (rule T14).
    """
    return math.floor(wall - 2 * rhythm.seal)


def look_every(rhythm: Rhythm) -> float:
    """Seconds between two looks at how much waits."""
    return min(5.0, rhythm.seal / 2)


def full(rows: int, bytes_per_row: float, rhythm: Rhythm) -> bool:
    """Whether so many rows fill a batch, judged by the size of those sealed before."""
    return rows >= rhythm.most_rows or rows * bytes_per_row >= rhythm.most_bytes


def patience(smoothed: float | None, resends: int, rhythm: Rhythm) -> float:
    """Seconds to wait for a receipt before sending again; twice as long at each further time."""
    first = max(rhythm.patience, 3 * (smoothed or 0.0))
    return min(rhythm.longest_patience, first * 2.0 ** min(resends, 10))


def smooth(smoothed: float | None, seconds: float) -> float:
    """The receipt time after one more receipt."""
    return seconds if smoothed is None else smoothed + SMOOTHING * (seconds - smoothed)


def backoff(refusals: int, draw: float) -> float:
    """Seconds to leave the far side alone after so many refusals in a row; `draw` in [0, 1)."""
    return draw * min(LONGEST_BACKOFF, 2.0 ** min(refusals - 1, 10))


def settling(outage: float, draw: float) -> float:
    """Seconds from opening to the first backfill: the link proves itself, and not all at once."""
    return min(60.0, outage / 4) + draw * min(900.0, outage / 4)


def first_gap(outage: float) -> float:
    """Seconds between two backfill batches to begin with."""
    return min(10.0, max(SHORTEST_GAP, outage / 4))


def next_gap(gap: float, receipt_time: float, quick: float = QUICK_RECEIPT) -> float:
    """The gap after a receipt: a little shorter if it came quickly, else twice as long, up to a
    multiple of what the receipt took.
    """
    if receipt_time < quick:
        return max(SHORTEST_GAP, gap * 0.9)
    return max(SHORTEST_GAP, min(LONGEST_GAP, gap * 2, GAP_PER_RECEIPT * receipt_time))


def jittered(gap: float, draw: float) -> float:
    """The gap as it is kept once: half to one and a half of it; `draw` in [0, 1)."""
    return gap * (0.5 + draw)


def spacing(slow_down: float) -> float:
    """Seconds between two batches, as the last receipt asked."""
    return min(LONGEST_SPACING, max(SPACING, slow_down))
