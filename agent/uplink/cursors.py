"""How far a platform's signed objects were fetched, over reconnections and restarts.

By address, for another one counts otherwise, and by trust list: what one made us refuse the next
may have us take. Not in a backup: after a restore all are fetched again (rule T9).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.atomic_write import later

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


FILE = "cursors.json"


class Cursors:
    """One of each recipient; without a file: in memory. `trust`: the list that stands."""

    def __init__(self, file: Path | None = None, trust: Callable[[], str] = str) -> None:
        self._file, self._trust, self._known = file, trust, _recall(file)

    @property
    def trust(self) -> str:
        """What tells the trust list that stands from another."""
        return self._trust()

    def of(self, recipient: str, url: str) -> str:
        """The cursor of the last object that was dealt with; empty: none was."""
        *where, cursor = self._known.get(recipient, ("", "", ""))
        return cursor if where == [url, self._trust()] else ""

    def keep(self, recipient: str, url: str, cursor: str) -> None:
        """Note it. Where the disk does not take it, objects come again, which does no harm."""
        if self._known.get(recipient) == (kept := (url, self._trust(), cursor)):
            return
        self._known[recipient] = kept
        if self._file is None:
            return
        later.write(self._file, json.dumps(self._known).encode())


def _recall(file: Path | None) -> dict[str, tuple[str, str, str]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file else {}
        return {name: (str(url), str(trust), str(at)) for name, (url, trust, at) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
