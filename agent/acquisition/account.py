"""The slots and the ingest of one recipient, as a line's poller uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.acquisition.ingest import Ingest
    from agent.acquisition.slots import SlotLedger
    from agent.core.model import MarkKey, Reading
    from agent.core.tasks import Faults


class SlotAccount(NamedTuple):
    """The slots of one recipient, and the queue in front of its spool."""

    ledger: SlotLedger
    ingest: Ingest

    def take(self, key: MarkKey, change: Callable[[], Sequence[Reading]], faults: Faults) -> bool:
        """Make the rows of one change at one mark and queue them together with the mark. Return
        whether that worked.

        An error restores the mark, so that its slots stay open. The error is noted and affects this
        recipient only. Afterwards wait for room in `ingest` before the next change.
        """
        uplink = self.ingest.uplink
        with faults.alone(f"rows {uplink}", key[0], uplink) as works:
            self._take(key, change)
        return works()

    def _take(self, key: MarkKey, change: Callable[[], Sequence[Reading]]) -> None:
        marks = self.ledger.marks
        before = marks.get(key)
        try:
            rows = change()
            self.ingest.take(rows, {key: marks[key]} if key in marks else {})
        except BaseException:
            if before is None:
                # A mark without its rows would close slots that nobody stored.
                marks.pop(key, None)
            else:
                marks[key] = before
            raise
