"""Recipients for whom nothing more is stored: their uplinks are being closed, or were removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE, REMOVED = "closing.json", "removed.json"


class UplinkShutdown:
    """These recipients, on the disk before anything acts on it. A restart does not reopen them."""

    def __init__(self, state: Path) -> None:
        self._file = StateFile[frozenset[str]](
            state / FILE,
            lambda stored: frozenset(name for name in stored if isinstance(name, str)),
            missing=frozenset,
        )
        self._names = self._file.load()
        self._removed_file = StateFile[dict[str, float]](
            state / REMOVED,
            lambda stored: {name: float(since) for name, since in stored.items()},
            missing=dict,
            sort_keys=True,
        )
        self._removed = self._removed_file.load()
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
            self._removed_file.save_later(removed)
            self._removed = removed

    def _write(self, names: frozenset[str]) -> None:
        self._file.save(sorted(names))
        self._names = names
