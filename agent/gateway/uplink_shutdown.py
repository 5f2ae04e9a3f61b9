"""Recipients for whom nothing more is stored: their uplinks are being closed, or were removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.core.atomic_write import later, write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE, REMOVED = "closing.json", "removed.json"


class UplinkShutdown:
    """These recipients, on the disk before anything acts on it. A restart does not reopen them."""

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._names = _recall(self._file)
        self._removed_file = state / REMOVED
        self._removed = _recall_since(self._removed_file)
        """by recipient: since when nothing is stored, in Unix seconds"""

    def __contains__(self, recipient: str) -> bool:
        return recipient in self._names

    def begin(self, recipient: str, now: float) -> None:
        """Store nothing more for a recipient. Raises NotRecorded."""
        # An earlier time wins: closing again must not shorten the span without rows.
        self._note({recipient: now} | self._removed)
        self._write(self._names | {recipient})

    def only(self, recipients: Iterable[str], spools: Iterable[str], now: float) -> None:
        """Forget the shutdown of recipients without an uplink: they may get a new one later.

        `recipients`: those with an uplink. `spools`: those with a spool; if they have no uplink, it
        is noted since when.
        """
        here, kept = set(recipients), set(spools)
        known = {one: since for one, since in self._removed.items() if one in kept}
        self._note(dict.fromkeys(kept - here, now) | known)
        if gone := self._names - here:
            self._write(self._names - gone)

    def removed(self, recipient: str) -> float | None:
        """Return since when nothing was stored for a recipient; None if there was no such time."""
        return self._removed.get(recipient)

    def returned(self, recipient: str) -> None:
        """Note that a recipient has an uplink again, and that the slots since then are closed."""
        self._note({one: since for one, since in self._removed.items() if one != recipient})

    def _note(self, removed: dict[str, float]) -> None:
        if removed != self._removed:
            later.write(self._removed_file, json.dumps(removed, sort_keys=True).encode())
            self._removed = removed

    def _write(self, names: frozenset[str]) -> None:
        write(self._file, json.dumps(sorted(names)).encode())
        self._names = names


def _recall(file: Path) -> frozenset[str]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return frozenset(name for name in stored if isinstance(name, str))
    except (OSError, ValueError, TypeError):
        return frozenset()


def _recall_since(file: Path) -> dict[str, float]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {name: float(since) for name, since in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
