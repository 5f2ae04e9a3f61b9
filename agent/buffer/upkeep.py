"""What time brings about in a spool: keys by owner, the sixty days, the end of quarantine.

Each call belongs inside one transaction of the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.buffer.batch import read, read_retractions
from agent.buffer.disclosed import counts_of
from agent.buffer.outbox import State
from agent.model import Void

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.buffer.aside import Aside
    from agent.buffer.outbox import Outbox
    from agent.buffer.purge import Purge, Step
    from agent.buffer.retracting import Retracting
    from agent.buffer.sealing import Sealing
    from agent.buffer.waiting import Waiting
    from agent.model import BatchId

PARTED_AT_ONCE = 30_000
"""rows of one commit that parts blocks by owner: a tenth of a second"""
TRIED_ANEW = 86_400.0
"""seconds that a batch stays in quarantine before its rows are tried under another id"""


class Upkeep:
    """See the module."""

    def __init__(  # noqa: PLR0913, PLR0917 -- wherever a row may lie
        self,
        waiting: Waiting,
        aside: Aside,
        outbox: Outbox,
        sealing: Sealing,
        retracting: Retracting,
        purge: Purge,
    ) -> None:
        self._waiting, self._aside, self._outbox = waiting, aside, outbox
        self._sealing, self._retracting, self._purge = sealing, retracting, purge
        self._parted_to = waiting.last

    def part(self) -> int:
        """Put rows that came before the last time under their owners' keys; 0: all are."""
        parted, broken = self._waiting.part(self._parted_to, PARTED_AT_ONCE)
        self._sealing.write_off(broken)
        return parted + len(broken)

    def parted(self) -> None:
        """What has come until now is parted the next time."""
        self._parted_to = self._waiting.last

    def expiring(self, before: int) -> Iterator[Step]:
        """Destroy people's rows of earlier slots, in steps of one transaction each."""
        return self._purge.expiring(before)

    def end_quarantine(self, now: float) -> list[BatchId]:
        """Make voids of batches that nobody took for a day, so that their rows are tried anew."""
        ended = self._outbox.in_state(State.QUARANTINED, now - TRIED_ANEW)
        for id_ in ended:
            payload = self._outbox.payload(id_.epoch, id_.seq)
            rows = read(payload) if payload is not None else []
            if payload is not None:
                self._retracting.put(read_retractions(payload))
            reason = Void.REJECTED if payload is not None else Void.GONE
            self._outbox.void(id_, reason, counts_of(rows))
            self._aside.add(id_.epoch, id_.seq, rows)
        return ended

    def tidy(self) -> int:
        """Destroy the keys of owners of whom nothing is left; how many."""
        return self._purge.tidy()
