"""Indexes of the whole building that one recipient was sent, and then not, for they told of few.

An index is cumulative: the next one would tell what flowed meanwhile. So it stays here from then
on; what flows in each step (`intervals`) may leave again.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from agent.atomic_write import write
from agent.errors import Refused
from agent.log_fields import LogEvent, fields
from agent.model import Why
from agent.pipeline.row_assignment import Withholding

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.model import Point
    from agent.pipeline.row_assignment import RowAssignment

log = logging.getLogger(__name__)

SENT, HELD = "sent", "held"


def file_of(state: Path, recipient: str) -> Path:
    """Where it is written down for a recipient."""
    return state / f"totals-{recipient}.json"


class Totals:
    """By place and channel; a damaged file is an empty one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _recall(file)

    def held(self, place: str, channel: str) -> bool:
        """Whether an index stays here for good."""
        return self._known.get(f"{place}/{channel}") == HELD

    def look(self, gate: RowAssignment, points: Iterable[Point], now: int) -> None:
        """Note how each total of the building stands now, on the disk when it has changed."""
        for point in points:
            answer = gate.at(point, None, now).series
            key = f"{point.place}/{point.channel}"
            if not isinstance(answer, Withholding):
                self._note(key, SENT)
            elif answer.why is Why.FEW and self._known.get(key) == SENT:
                self._note(key, HELD)
                log.warning(
                    "the index %s would tell of few: it leaves no more", key,
                    extra=fields(LogEvent.INDEX_WITHHELD),
                )  # fmt: skip

    def _note(self, key: str, how: str) -> None:
        if self._known.get(key) in (how, HELD):
            return
        self._known = self._known | {key: how}
        try:
            write(self._file, json.dumps(self._known).encode())
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "a restart will not know how %s stood: %s", key, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=self._file.name),
            )  # fmt: skip


def _recall(file: Path) -> dict[str, str]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): str(how) for key, how in said.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
