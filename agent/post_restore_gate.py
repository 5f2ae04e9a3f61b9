"""A state that was restored says nothing before it has heard all that was said meanwhile.

Withdrawals, revocations and moves come as signed objects, over each uplink. A transport that can
list them knows when it has come to the end, and a platform behind a broker says so; where neither
can be, ten minutes of connection must do, and that is told (rule T9).
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agent.atomic_write import DiskWriter, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "restored"
"""in the state; without it, the state was never restored, or that is over"""
LISTENS = 600.0
"""seconds for which an uplink is listened to where nothing proves that all has come"""


class Way(NamedTuple):
    """How it stands with one uplink."""

    complete: bool
    """all signed objects that its platform has for us have been dealt with"""
    since: float | None
    """connected since then; None: it is not"""


class PostRestoreGate:
    """What is known of it, kept in one small file."""

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self.made: str | None = None
        """when the building file was written; None: there was none, or all was heard since"""
        self.unproved: frozenset[str] | None = None
        """None: it is still listened; else the recipients of whom nobody knows whether all came"""
        if self._file.exists():
            self.made, self.unproved = _recall(self._file)

    @property
    def listens(self) -> bool:
        """Whether nothing may be sealed yet."""
        return self.made is not None and self.unproved is None

    def judge(self, ways: Mapping[str, Way], now: float) -> bool:
        """Whether anything may be sealed, by how it stands with each recipient's uplink.

        True once every one is complete, or has been connected for long enough. Raises Refused where
        that cannot be written down.
        """
        if self.made is None:
            return True
        missing = frozenset(name for name, way in ways.items() if not way.complete)
        if self.unproved is not None:
            if left := self.unproved & missing:
                if left != self.unproved:
                    self._note(left)
            else:
                self.end()
            return True
        if any(waits(way, now) for way in ways.values()):
            return False
        self._note(missing) if missing else self.end()
        return True

    def end(self) -> None:
        """All was heard: by proof, or by the word of a person."""
        with suppress(OSError):  # else the next start asks once more
            DiskWriter.make(partial(self._file.unlink, missing_ok=True))
        self.made = self.unproved = None

    def _note(self, unproved: frozenset[str]) -> None:
        self.unproved = unproved
        write(self._file, _encoded(self.made or "", sorted(unproved)))


def waits(way: Way, now: float) -> float:
    """Seconds for which an uplink must still be listened to; 0: it need not be."""
    if way.complete:
        return 0.0
    heard = 0.0 if way.since is None else max(0.0, now - way.since)
    return max(0.0, LISTENS - heard)


def begin(state: Path, made: str) -> None:
    """Note that this state was made of a building file, written at `made`. Raises Refused."""
    write(state / FILE, _encoded(made, None))


def _encoded(made: str, unproved: list[str] | None) -> bytes:
    return json.dumps({"made": made, "unproved": unproved}).encode()


def _recall(file: Path) -> tuple[str, frozenset[str] | None]:
    try:
        stored = json.loads(file.read_bytes())
        unproved = stored["unproved"]
        return str(stored["made"]), None if unproved is None else frozenset(map(str, unproved))
    except (OSError, ValueError, LookupError, TypeError):
        return "", None
