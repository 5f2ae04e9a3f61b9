"""The size of batches for a platform that refuses large ones. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

DAY = 86_400.0
LONGEST = 32 * DAY
"""seconds until larger batches are tried, after many refusals"""
MOST_STEPS = 32


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


def refused(limit: Limit | None, size: int, now: float) -> Limit:
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


def written(limit: Limit | None) -> str:
    """The limit as the spool stores it."""
    return "" if limit is None else json.dumps(asdict(limit))


def read(text: str | None) -> Limit | None:
    """The limit that the spool has stored; None: batches are as large as configured."""
    try:
        return Limit(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None  # another version wrote it: the limit is learned again
