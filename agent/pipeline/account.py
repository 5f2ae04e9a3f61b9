"""One recipient as the reader of a line sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.model import MarkKey, Reading
    from agent.pipeline.ingest import Ingest
    from agent.pipeline.slots import SlotLedger
    from agent.tasks import Faults


class SlotAccount(NamedTuple):
    """Its slots, and the room in front of its spool."""

    ledger: SlotLedger
    intake: Ingest

    def take(self, key: MarkKey, change: Callable[[], Sequence[Reading]], faults: Faults) -> bool:
        """Make the rows of a change of the ledger at one mark, and hand them over with the mark, at
        once; whether that worked. Wait for room in the intake before the next.

        Where an error ends it, the mark is as before: its slots are still owed. The error is noted;
        it is this recipient's alone.
        """
        uplink = self.intake.uplink
        with faults.alone(f"rows {uplink}", key[0], uplink) as works:
            self._take(key, change)
        return works()

    def _take(self, key: MarkKey, change: Callable[[], Sequence[Reading]]) -> None:
        marks = self.ledger.marks
        before = marks.get(key)
        try:
            rows = change()
            self.intake.take(rows, {key: marks[key]} if key in marks else {})
        except BaseException:
            if before is None:
                marks.pop(key, None)
            else:
                marks[key] = before
            raise
