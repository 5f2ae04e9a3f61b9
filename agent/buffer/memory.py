"""Keeps readings in memory while the disk fails: in a spool of its own on tmpfs.

It obeys the rules of every spool and survives kill -9, but not a reboot. Its epoch is random, so
its batch ids were never used before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.model import Reading

KEPT = "memory"
"""the value of `kept` in its batches"""
CAP = 8 * 1024 * 1024
"""bytes for each recipient: they count as memory of the systemd service"""


def provisional(rows: Sequence[Reading], now: int) -> list[Reading]:
    """Rows as they leave this spool: a value replaces any row of the same slot from the spool on
    the disk, and a row without a value never does.

    The spool on the disk does not know that these slots are closed: once it works again, it reports
    them as M `agent`. `now`: Unix second, the version of a value that has none.
    """
    return [
        # `again`: the platform drops it if it has a row of the slot already.
        replace(row, ver=None, again=True)
        if row.value is None
        else replace(row, ver=now if row.ver is None else row.ver)
        for row in rows
    ]
