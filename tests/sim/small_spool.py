"""Spools so small that a plan of hours fills one: all sizes of a spool are a fraction of the real.

The smallest spool that may be configured has room for the rows of weeks. What a full one must do
(rules B3, B4, B7, B9, B10, M11) does not depend on its size, as long as the parts keep their
proportions: the file, what it takes at first, the step by which it grows, the room that is closed
to rows, and the batches for which that room is meant. The log under it stays as it is.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from agent.buffer import capacity, database, spool

SIZE = 160 * 1024
"""bytes of the file; an empty one needs 39 kB, and one that has delivered for a day 62 kB"""
AT_FIRST, STEP = 128 * 1024, 8 * 1024
"""bytes that the file takes at first, and by which it grows"""
CLOSED, BESIDE, BATCH = 32 * 1024, 12 * 1024, 3_000
"""bytes that rows may not fill, and that they leave free for pages beside their own; nine batches
of this size fit in there"""

CHANGED = (
    (capacity, "LEAST_BATCH"), (capacity, "STEP"), (capacity, "BESIDE"), (capacity, "HEADROOM"),
    (database, "HEADROOM"), (spool, "AT_FIRST"), (spool, "SMALLEST"), (spool.Spool, "open"),
)  # fmt: skip
"""what `install` changes"""


def install() -> None:
    """From now on every spool of this process is a small one."""
    capacity.LEAST_BATCH, capacity.STEP, capacity.BESIDE = BATCH, STEP, BESIDE
    capacity.HEADROOM = database.HEADROOM = CLOSED
    spool.AT_FIRST = spool.SMALLEST = AT_FIRST
    opened = spool.Spool.open

    def small(path: Any, key: Any, head: Any, most: int, *more: Any, **named: Any) -> Any:
        of: AbstractContextManager[spool.Spool] = opened(
            path, key, head, min(most, SIZE), *more, **named
        )
        return of

    spool.Spool.open = small  # type: ignore[method-assign]
