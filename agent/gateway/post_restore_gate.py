"""After a restore, nothing is sent until all later withdrawals have arrived (rule T9).

Withdrawals, revocations and moves arrive as signed objects over each uplink. A transport that lists
them knows when it has fetched the last one, and a platform behind a broker says so. If neither is
possible, the gate opens after ten minutes of connection and reports that this is not proved.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agent.core.atomic_write import DiskWriter
from agent.core.state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "restored"
"""file in the state directory; it exists only after a restore, until all objects have arrived"""
LISTENS = 600.0
"""seconds of connection to wait if nothing proves that all objects have arrived"""


class Way(NamedTuple):
    """The state of one uplink."""

    complete: bool
    """all signed objects that its platform has for us are settled"""
    since: float | None
    """connected since (wall time); None if it is not connected"""


class PostRestoreGate:
    """Decides whether anything may be sent after a restore. Its state is in one small file."""

    def __init__(self, state: Path, listens_for: float = LISTENS) -> None:
        self._path, self._file = state / FILE, _file(state)
        self.listens_for = listens_for
        self.made: str | None = None
        """when the backup was made; None: no restore, or all objects have arrived since"""
        self.unproved: frozenset[str] | None = None
        """None: the gate is closed; else the recipients whose objects may be incomplete"""
        self.made, self.unproved = self._file.load()

    @property
    def listens(self) -> bool:
        """Whether nothing may be sealed yet."""
        return self.made is not None and self.unproved is None

    def judge(self, ways: Mapping[str, Way], now: float) -> bool:
        """Decide by the state of each recipient's uplink whether anything may be sealed.

        True once every uplink is complete or was connected for long enough. Raises NotRecorded if
        the result cannot be stored.
        """
        if self.made is None:
            return True
        missing = frozenset(name for name, way in ways.items() if not way.complete)
        # The gate is open, but some uplinks are unproved. Only their number can still change.
        if self.unproved is not None:
            if left := self.unproved & missing:
                if left != self.unproved:
                    self._note(left)
            else:
                self.end()
            return True
        if any(self.waits(way, now) for way in ways.values()):
            return False
        self._note(missing) if missing else self.end()
        return True

    def waits(self, way: Way, now: float) -> float:
        """Return the seconds for which an uplink must still be connected; 0 if it is done."""
        if way.complete:
            return 0.0
        heard = 0.0 if way.since is None else max(0.0, now - way.since)
        return max(0.0, self.listens_for - heard)

    def end(self) -> None:
        """Open the gate for good: all objects have arrived, by proof or by a person's word."""
        with suppress(OSError):  # if the file stays, the next start waits once more
            DiskWriter.make(partial(self._path.unlink, missing_ok=True))
        self.made = self.unproved = None

    def _note(self, unproved: frozenset[str]) -> None:
        self.unproved = unproved
        self._file.save({"made": self.made or "", "unproved": sorted(unproved)})


def begin(state: Path, made: str) -> None:
    """Close the gate of a state restored from the backup of `made`. Raises NotRecorded."""
    _file(state).save({"made": made, "unproved": None})


def _file(state: Path) -> StateFile[tuple[str | None, frozenset[str] | None]]:
    return StateFile(
        state / FILE,
        lambda stored: (
            str(stored["made"]),
            None if stored["unproved"] is None else frozenset(map(str, stored["unproved"])),
        ),
        missing=lambda: (None, None),
        # The file exists, so there was a restore: a damaged file must keep the gate closed.
        damaged=lambda _error: ("", None),
    )
