"""The latest backup, which platforms hold it, and the time after a restore.

After a restore, nothing is sent until all later withdrawals have arrived (rule T9).

Withdrawals, revocations and moves arrive as signed objects over each uplink. A transport that lists
them knows when it has fetched the last one, and a platform behind a broker says so. If neither is
possible, the gate opens after ten minutes of connection and reports that this is not proved.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.atomic_write import DiskWriter, StateFile, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BODY, NOTE = "building.p7m", "building.json"
AGAIN, LONGEST = 600.0, 86_400.0
"""seconds until it is offered again without a receipt: the first wait, and the longest. A change of
the file does not shorten them: a platform that never answers may not know this type of message
"""
FILE = "restored"
"""file in the state directory; it exists only after a restore, until all objects have arrived"""
LISTENS = 600.0
"""seconds of connection to wait if nothing proves that all objects have arrived"""


@dataclass(frozen=True, slots=True)
class Latest:
    """Describes the stored backup."""

    says: str
    """hash of its plain content: encrypting the same content twice gives different bytes"""
    sha256: str
    """of its bytes"""
    size: int
    made: int
    """seconds since 1970"""
    revision: int
    """of the registry"""


class BuildingFile:
    """The stored backup, with the confirmations of platforms and the attempts to send it."""

    def __init__(self, state: Path) -> None:
        self._body = state / BODY
        self.problem = ""
        """why it is not up to date; empty if it is, or if no backup is configured"""
        self._note = StateFile(state / NOTE, self._noted, missing=lambda: (None, {}))
        self._take(self._note.load(self._take))
        self._tried: dict[str, tuple[int, float]] = {}
        """by recipient: attempts without a receipt, and the monotonic time of the last one"""

    def _take(self, note: tuple[Latest | None, dict[str, tuple[str, int]]]) -> None:
        self.latest, self._holds = note
        """by recipient: the sha256 of the file that it holds, and since when (Unix seconds)"""

    def renew(self, content: bytes, says: str, made: int, revision: int) -> None:
        """Store an encrypted file in place of the one before. Raises NotRecorded."""
        digest = hashlib.sha256(content).hexdigest()
        write(self._body, content)
        self.latest = Latest(says, digest, len(content), made, revision)
        self._keep()

    def content(self) -> bytes:
        """Return the bytes of the file. Raises OSError."""
        return self._body.read_bytes()

    def took(self, recipient: str, sha256: str, now: float) -> bool:
        """Note that a platform confirmed a file by its hash. Return whether that is new.

        The hash of an earlier file is ignored. Raises NotRecorded.
        """
        if self.latest is None or sha256 != self.latest.sha256 or self.held_by(recipient):
            return False
        self._holds[recipient] = (sha256, int(now))
        self._tried.pop(recipient, None)
        self._keep()
        return True

    def due(self, recipient: str, now: float) -> bool:
        """Whether the file should be sent to a platform now. `now`: monotonic seconds."""
        if self.latest is None or self.held_by(recipient):
            return False
        times, at = self._tried.get(recipient, (0, 0.0))
        # The exponent is capped, since 2 ** n grows without limit while nobody answers.
        return not times or now - at >= min(LONGEST, AGAIN * 2 ** min(times - 1, 10))

    def tried(self, recipient: str, now: float) -> None:
        """Note an attempt to send the file. `now`: monotonic seconds."""
        times, _ = self._tried.get(recipient, (0, 0.0))
        self._tried[recipient] = times + 1, now

    def held_by(self, recipient: str) -> bool:
        """Whether a platform has confirmed that it holds the latest file."""
        sha256, _ = self._holds.get(recipient, ("", 0))
        return self.latest is not None and sha256 == self.latest.sha256

    def taken_at(self, recipient: str) -> int | None:
        """Return when a platform last confirmed any backup, in Unix seconds; None: never."""
        held = self._holds.get(recipient)
        return held[1] if held else None

    def _keep(self) -> None:
        assert self.latest is not None
        self._note.save({"latest": asdict(self.latest), "holds": self._holds})

    def _noted(self, note: Any) -> tuple[Latest | None, dict[str, tuple[str, int]]]:
        """The content of the note; nothing if it does not match the file: a new one is written."""
        latest = Latest(**note["latest"])
        holds = {str(name): (str(sha256), int(at)) for name, (sha256, at) in note["holds"].items()}
        # File and note are written one after the other: a power cut may leave an old note.
        whole = hashlib.sha256(self.content()).hexdigest() == latest.sha256
        return (latest, holds) if whole else (None, {})


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
        self._take(self._file.load(self._take))

    def _take(self, stored: tuple[str | None, frozenset[str] | None]) -> None:
        self.made, self.unproved = stored

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


def close_gate(state: Path, made: str) -> None:
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
