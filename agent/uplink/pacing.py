"""Delays and limits of sending. Pure; the numbers come from the simulation in decision 006.

After an outage of a platform, two thousand gateways return at once. Jitter alone does not protect
it. The closed loop does: each gateway has one unreceipted backfill batch, and the gap to the next
follows the receipt time. After a short outage all delays are short: the backlog clears in seconds.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

SPACING = 0.2
"""least seconds between two batches; cloud services accept five batches a second"""
LONGEST_SPACING = 600.0
"""seconds; the longest delay that one receipt can ask for"""
PATIENCE = 30.0
LONGEST_PATIENCE = 600.0
ALARM = 300.0
QUICK_RECEIPT = 5.0
SHORTEST_GAP, LONGEST_GAP = 1.0, 600.0
GAP_PER_RECEIPT = 20.0
"""the longest gap, in receipt times: a platform that always needs 6 s is not overloaded
(python -m bench.herd)"""
LONGEST_BACKOFF = 300.0
SMOOTHING = 0.125
"""weight of the newest receipt time, as in TCP (RFC 6298, 2.3)"""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often one uplink seals a batch, and its limits."""

    seal: float = 60.0
    """seconds"""
    phase: float = 0.0
    """offset within the interval in seconds, so that gateways do not all send at the full minute"""
    most_rows: int = 5_000
    most_bytes: int = 48_000
    most_live: int = 8
    """unreceipted live batches; for backfill the limit is always one (rule T14)"""
    patience: float = PATIENCE
    """seconds until a batch without a receipt is sent a second time"""
    longest_patience: float = LONGEST_PATIENCE
    """the longest such wait in seconds, however often the batch was sent"""
    quick: float = QUICK_RECEIPT
    """seconds within which an idle platform sends a receipt"""
    alarm: float = ALARM
    """seconds without a receipt for sent batches until an alarm is raised"""


def phase(gateway: str, seal: float) -> float:
    """The offset of a gateway in the seal interval, in seconds; the same at every start."""
    digest = hashlib.sha256(gateway.encode()).digest()
    return seal * int.from_bytes(digest[:4], "big") / 2**32


def until_seal(wall: float, rhythm: Rhythm) -> float:
    """Seconds from the wall time `wall` to the next seal, at most `rhythm.seal`."""
    return rhythm.seal - (wall - rhythm.phase) % rhythm.seal


def live_after(wall: float, rhythm: Rhythm) -> int:
    """The wall time after which slots count as live: two seal intervals ago (rule T14)."""
    return math.floor(wall - 2 * rhythm.seal)


def look_every(rhythm: Rhythm) -> float:
    """Seconds between two counts of the waiting rows."""
    return min(5.0, rhythm.seal / 2)


def full(rows: int, bytes_per_row: float, rhythm: Rhythm) -> bool:
    """Whether so many rows fill a batch, given the size of rows sealed before."""
    return rows >= rhythm.most_rows or rows * bytes_per_row >= rhythm.most_bytes


def patience(smoothed: float | None, resends: int, rhythm: Rhythm) -> float:
    """Seconds to wait for a receipt before sending again; doubled at each resend."""
    # three times the usual receipt time, so that a slow platform does not get copies
    first = max(rhythm.patience, 3 * (smoothed or 0.0))
    # a batch is never given up: after 1,024 resends the power would overflow
    return min(rhythm.longest_patience, first * 2.0 ** min(resends, 10))


def smooth(smoothed: float | None, seconds: float) -> float:
    """The receipt time after one more receipt."""
    return seconds if smoothed is None else smoothed + SMOOTHING * (seconds - smoothed)


def backoff(refusals: int, draw: float) -> float:
    """Seconds to pause after so many refusals in a row; `draw` is random in [0, 1)."""
    return draw * min(LONGEST_BACKOFF, 2.0 ** min(refusals - 1, 10))


def settling(outage: float, draw: float) -> float:
    """Seconds from opening to the first backfill batch: a new connection may soon fail again, and
    gateways must not start together.
    """
    return min(60.0, outage / 4) + draw * min(900.0, outage / 4)


def first_gap(outage: float) -> float:
    """The first gap between two backfill batches, in seconds."""
    return min(10.0, max(SHORTEST_GAP, outage / 4))


def next_gap(gap: float, receipt_time: float, quick: float = QUICK_RECEIPT) -> float:
    """The gap after a receipt: a tenth shorter if the receipt was quick, else doubled, up to a
    multiple of the receipt time.
    """
    if receipt_time < quick:
        return max(SHORTEST_GAP, gap * 0.9)
    return max(SHORTEST_GAP, min(LONGEST_GAP, gap * 2, GAP_PER_RECEIPT * receipt_time))


def jittered(gap: float, draw: float) -> float:
    """A random gap, 0.5 to 1.5 times `gap`; `draw` is random in [0, 1)."""
    return gap * (0.5 + draw)


def spacing(slow_down: float) -> float:
    """Seconds between two batches, as the last receipt asks."""
    return min(LONGEST_SPACING, max(SPACING, slow_down))
