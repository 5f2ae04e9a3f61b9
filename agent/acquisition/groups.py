"""The groups of dwellings in the sums for one recipient, by month. A group is on the disk before it
counts.

A restart must not change a group within its month: the difference between the sums of two groups
could be the consumption of one dwelling. The file has ids of places and no values.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.core.state_file import StateFile
from agent.registry.aggregate import Group

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

KEPT = 2
"""groups kept of a channel: the slot that ends with a month is summed after the month"""


def file_of(state: Path, recipient: str) -> Path:
    """The file with the groups of a recipient."""
    return state / f"rest-{recipient}.json"


class Groups:
    """Groups by channel. With a missing or damaged file a new group begins."""

    def __init__(self, file: Path) -> None:
        self._file = StateFile[dict[str, list[Group]]](
            file,
            lambda stored: {
                str(channel): [
                    Group(int(since), int(until), frozenset(map(str, members)))
                    for since, until, members in groups
                ]
                for channel, groups in stored.items()
            },
            missing=dict,
        )
        self._groups = self._file.load()

    def of(self, channel: str) -> Sequence[Group]:
        """The last groups of a channel, in order."""
        return self._groups.get(channel, [])

    def over(self, channel: str, start: int, end: int) -> Group | None:
        """The group for a quantity over (start, end]; None: there is none, or two groups share the
        period.
        """
        return next((group for group in self.of(channel) if group.has(start, end)), None)

    def add(self, channel: str, group: Group) -> bool:
        """Keep a group. Return whether it is on the disk: otherwise it does not count."""
        return self._keep(self._groups | {channel: [*self.of(channel), group][-KEPT:]}, channel)

    def forget(self, now: int) -> None:
        """Forget groups of months that have not begun: a wrong clock made them."""
        left = {
            channel: [group for group in groups if group.since <= now]
            for channel, groups in self._groups.items()
        }
        if left != self._groups and not self._keep(left, "any channel"):
            self._groups = left  # it counts in memory; a restart drops these groups again

    def _keep(self, known: dict[str, list[Group]], channel: str) -> bool:
        document = {
            name: [[group.since, group.until, sorted(group.members)] for group in groups]
            for name, groups in known.items()
        }
        try:
            self._file.save(document)
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "no sum of %s is made, because its group cannot be saved: %s", channel, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=self._file.name),
            )  # fmt: skip
            return False
        self._groups = known
        return True
