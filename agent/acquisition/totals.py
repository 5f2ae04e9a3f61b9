"""Indexes of the whole building that one recipient received, until they would reveal few dwellings.

An index is cumulative: the next one would reveal the consumption meanwhile. So it is withheld for
good; the consumption of each step (`intervals`) may be sent again later.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.acquisition.row_assignment import Withholding
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.core.model import Why
from agent.core.state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.acquisition.row_assignment import RowAssignment
    from agent.core.model import Point

log = logging.getLogger(__name__)

SENT, HELD = "sent", "held"


def file_of(state: Path, recipient: str) -> Path:
    """The file with the states of a recipient's indexes."""
    return state / f"totals-{recipient}.json"


class Totals:
    """The state of each index, by place and channel. A damaged file counts as empty."""

    def __init__(self, file: Path) -> None:
        self._file = StateFile[dict[str, str]](
            file,
            lambda stored: {str(key): str(how) for key, how in stored.items()},
            missing=dict,
        )
        self._states = self._file.load()

    def held(self, place: str, channel: str) -> bool:
        """Whether an index is withheld for good."""
        return self._states.get(f"{place}/{channel}") == HELD

    def look(self, assignment: RowAssignment, points: Iterable[Point], now: int) -> None:
        """Note the present state of each index of the building; on the disk if it has changed."""
        for point in points:
            answer = assignment.at(point, None, now).series
            key = f"{point.place}/{point.channel}"
            if not isinstance(answer, Withholding):
                self._note(key, SENT)
            elif answer.why is Why.FEW and self._states.get(key) == SENT:
                self._note(key, HELD)
                log.warning(
                    "the index %s would reveal a few dwellings: it is no longer sent", key,
                    extra=fields(LogEvent.INDEX_WITHHELD),
                )  # fmt: skip

    def _note(self, key: str, how: str) -> None:
        if self._states.get(key) in (how, HELD):
            return
        self._states = self._states | {key: how}
        try:
            self._file.save(self._states)
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "the state of index %s is not saved, and lost at a restart: %s", key, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=self._file.name),
            )  # fmt: skip
