"""Who stands in the sums for one recipient, month by month, on the disk before it counts.

A restart must not change a group within its month: what two sums of different groups differ by
could be one dwelling's. Places only, no values.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from agent.atomic_write import write
from agent.errors import Refused
from agent.log_fields import LogEvent, fields
from agent.registry.aggregate import Group

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

KEPT = 2
"""groups of a channel: the slot that ends with a month is told after it"""


def file_of(state: Path, recipient: str) -> Path:
    """Where the groups of a recipient lie."""
    return state / f"rest-{recipient}.json"


class Groups:
    """By channel; a file that is not there, or damaged, is none: a group begins anew then."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _recall(file)

    def of(self, channel: str) -> Sequence[Group]:
        """The last groups of a channel, in order."""
        return self._known.get(channel, [])

    def over(self, channel: str, start: int, end: int) -> Group | None:
        """The group of a quantity over (start, end]; None: there is none, or there are two."""
        return next((one for one in self.of(channel) if one.has(start, end)), None)

    def add(self, channel: str, group: Group) -> bool:
        """Keep a group; whether it is on the disk, for else it does not count."""
        return self._keep(self._known | {channel: [*self.of(channel), group][-KEPT:]}, channel)

    def forget(self, now: int) -> None:
        """Forget groups of months that have not begun: a wrong clock made them."""
        left = {
            channel: [one for one in groups if one.since <= now]
            for channel, groups in self._known.items()
        }
        if left != self._known and not self._keep(left, "any channel"):
            self._known = left  # it counts all the same; at a restart it is seen to again

    def _keep(self, known: dict[str, list[Group]], channel: str) -> bool:
        said = {
            name: [[one.since, one.until, sorted(one.members)] for one in groups]
            for name, groups in known.items()
        }
        try:
            write(self._file, json.dumps(said).encode())
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "no sum of %s is made: %s", channel, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=self._file.name),
            )  # fmt: skip
            return False
        self._known = known
        return True


def _recall(file: Path) -> dict[str, list[Group]]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(channel): [
                Group(int(since), int(until), frozenset(map(str, members)))
                for since, until, members in groups
            ]
            for channel, groups in said.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
