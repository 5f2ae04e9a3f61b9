"""While the disk fails, what is read is kept in memory: a spool of its own on tmpfs.

It obeys the rules of any spool and survives kill -9, but not a reboot. Its epoch is drawn when it
is begun, so no id of it was ever another's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model import Reading

KEPT = "memory"
"""what a batch of it states as `kept`"""
CAP = 8 * 1024 * 1024
"""bytes for each recipient: a service of systemd's pays for them out of its own memory"""


def provisional(rows: Sequence[Reading], now: int) -> list[Reading]:
    """Rows as they leave this spool: values count above any that the disk's spool sends of the same
    slot, and what has no value never does.

    The disk does not know that these slots are closed: it will call them M `agent` when it is well.
    `now`: Unix second, the version of a value that has none.
    """
    return [
        replace(row, ver=None, again=True)
        if row.value is None
        else replace(row, ver=now if row.ver is None else row.ver)
        for row in rows
    ]
