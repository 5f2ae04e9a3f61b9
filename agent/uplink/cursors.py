"""How far each platform's signed objects were fetched; kept across restarts.

A cursor holds for one address and one trust list: another platform has other cursors, and objects
that one trust list made us refuse may be valid under the next. Backups do not contain cursors:
after a restore all objects are fetched again (rule T9).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.core.atomic_write import later

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


FILE = "cursors.json"


class Cursors:
    """One cursor for each recipient; without a file, in memory only. `trust`: id of the trust
    list.
    """

    def __init__(self, file: Path | None = None, trust: Callable[[], str] = str) -> None:
        self._file, self._trust, self._cursors = file, trust, _load(file)

    @property
    def trust(self) -> str:
        """An id of the trust list in force."""
        return self._trust()

    def of(self, recipient: str, url: str) -> str:
        """The cursor of the last settled object; empty: none."""
        *where, cursor = self._cursors.get(recipient, ("", "", ""))
        return cursor if where == [url, self._trust()] else ""

    def keep(self, recipient: str, url: str, cursor: str) -> None:
        """Store a cursor. If the disk fails, objects are fetched again, which does no harm."""
        if self._cursors.get(recipient) == (entry := (url, self._trust(), cursor)):
            return
        self._cursors[recipient] = entry
        if self._file is None:
            return
        # written later and off the event loop: a lost cursor only repeats objects
        later.write(self._file, json.dumps(self._cursors).encode())


def _load(file: Path | None) -> dict[str, tuple[str, str, str]]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8")) if file else {}
        return {name: (str(url), str(trust), str(at)) for name, (url, trust, at) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
