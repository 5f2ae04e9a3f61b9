"""How large batches are made where the far side takes none as large as ours. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

DAY = 86_400.0
LONGEST = 32 * DAY
"""seconds until larger batches are tried, after many refusals"""
MOST_STEPS = 32


@dataclass(frozen=True, slots=True)
class Limit:
    """What refusals and receipts have taught; sizes in bytes of a payload before it is packed."""

    most: int
    """how large batches are made at `at`; twice as large after each `wait`"""
    passed: int
    """the largest that was receipted since"""
    at: float
    """of the last refusal, seconds since 1970 UTC"""
    wait: float = DAY
    """seconds"""

    def now(self, now: float) -> int:
        """How large batches may be made; a clock that was wrong does not keep them small."""
        return self.most << min(int(abs(now - self.at) // self.wait), MOST_STEPS)

    def took(self, size: int) -> Limit:
        """After a batch of that size was receipted."""
        return replace(self, passed=max(self.passed, size))


def refused(limit: Limit | None, size: int, now: float) -> Limit:
    """After a batch of that size was too large: half of it, or what is known to pass.

    Where larger batches were tried and refused again, the next attempt is twice as far away.
    """
    half = max(1, size // 2)
    if limit is None:
        return Limit(half, 0, now)
    passed = limit.passed if limit.passed < size else 0
    tried = limit.now(now)
    wait = min(LONGEST, limit.wait * 2) if tried > limit.most else limit.wait
    return Limit(min(tried, max(passed, half)), passed, now, wait)


def written(limit: Limit | None) -> str:
    """As the spool keeps it."""
    return "" if limit is None else json.dumps(asdict(limit))


def read(text: str | None) -> Limit | None:
    """What the spool has kept; None: batches are as large as configured."""
    try:
        return Limit(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None  # another version's, and learned again
