"""The latest backup, encrypted, and which platforms hold it.

The file stays in the state directory until every platform has confirmed that it holds it. A new
file replaces the one before. Only the key in the safe can decrypt it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.core.atomic_write import write
from agent.core.state_file import StateFile

if TYPE_CHECKING:
    from pathlib import Path

BODY, NOTE = "building.p7m", "building.json"
AGAIN, LONGEST = 600.0, 86_400.0
"""seconds until it is offered again without a receipt: the first wait, and the longest. A change of
the file does not shorten them: a platform that never answers may not know this type of message
"""


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
        self.latest, self._holds = self._note.load()
        """by recipient: the sha256 of the file that it holds, and since when (Unix seconds)"""
        self._tried: dict[str, tuple[int, float]] = {}
        """by recipient: attempts without a receipt, and the monotonic time of the last one"""

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
