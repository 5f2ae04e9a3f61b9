"""The building file as it was last written, sealed, and which platforms hold it.

It lies in the state until each has said that it does: the latest one takes the place of those
before it. Only the key in the safe opens it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.atomic_write import write

if TYPE_CHECKING:
    from pathlib import Path

BODY, NOTE = "building.p7m", "building.json"
AGAIN, LONGEST = 600.0, 86_400.0
"""seconds until it is offered again without a receipt: the first time, and at most. Also after a
change: whoever does not answer may not know what to do with it
"""


@dataclass(frozen=True, slots=True)
class Latest:
    """What is known of the one that lies here."""

    says: str
    """stands for what it says: sealing is never twice the same"""
    sha256: str
    """of its bytes"""
    size: int
    made: int
    """seconds since 1970"""
    revision: int
    """of the registry"""


class BuildingFile:
    """See the module."""

    def __init__(self, state: Path) -> None:
        self._body, self._note = state / BODY, state / NOTE
        self.latest: Latest | None = None
        self._holds: dict[str, tuple[str, int]] = {}
        """by recipient: the sha256 that it holds, and since when"""
        self._tried: dict[str, tuple[int, float]] = {}
        """by recipient: how often in vain, and when last, by the monotonic clock"""
        self._recall()

    def renew(self, content: bytes, says: str, made: int, revision: int) -> None:
        """Put a sealed file in the place of the one before. Raises Refused."""
        digest = hashlib.sha256(content).hexdigest()
        write(self._body, content)
        self.latest = Latest(says, digest, len(content), made, revision)
        self._keep()

    def content(self) -> bytes:
        """Its bytes. Raises OSError."""
        return self._body.read_bytes()

    def took(self, recipient: str, sha256: str, now: float) -> bool:
        """Note that a platform holds it; whether that is news. Another one's hash says nothing."""
        if self.latest is None or sha256 != self.latest.sha256 or self.held_by(recipient):
            return False
        self._holds[recipient] = (sha256, int(now))
        self._tried.pop(recipient, None)
        self._keep()
        return True

    def due(self, recipient: str, now: float) -> bool:
        """Whether it is time to offer it (again); `now`: monotonic."""
        if self.latest is None or self.held_by(recipient):
            return False
        times, at = self._tried.get(recipient, (0, 0.0))
        return not times or now - at >= min(LONGEST, AGAIN * 2 ** min(times - 1, 10))

    def tried(self, recipient: str, now: float) -> None:
        """Note that it is being offered; `now`: monotonic."""
        times, _ = self._tried.get(recipient, (0, 0.0))
        self._tried[recipient] = times + 1, now

    def held_by(self, recipient: str) -> bool:
        """Whether a platform has said that it holds the latest one."""
        sha256, _ = self._holds.get(recipient, ("", 0))
        return self.latest is not None and sha256 == self.latest.sha256

    def taken_at(self, recipient: str) -> int | None:
        """When a platform last said that it holds one, whichever; seconds since 1970."""
        held = self._holds.get(recipient)
        return held[1] if held else None

    def _keep(self) -> None:
        assert self.latest is not None
        note = {"latest": asdict(self.latest), "holds": self._holds}
        write(self._note, json.dumps(note).encode())

    def _recall(self) -> None:
        """A note that does not fit the file is none: the file is written anew."""
        try:
            note: dict[str, Any] = json.loads(self._note.read_bytes())
            latest = Latest(**note["latest"])
            holds = {str(name): (str(one), int(at)) for name, (one, at) in note["holds"].items()}
            whole = hashlib.sha256(self.content()).hexdigest() == latest.sha256
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return
        if whole:
            self.latest, self._holds = latest, holds
