"""How far each platform's signed objects were fetched; kept across restarts.

A cursor holds for one address and one trust list: another platform has other cursors, and objects
that one trust list made us refuse may be valid under the next. Backups do not contain cursors:
after a restore all objects are fetched again (rule T9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


FILE = "cursors.json"


class Cursors:
    """One cursor for each recipient; without a file, in memory only. `trust`: id of the trust
    list.
    """

    def __init__(self, file: Path | None = None, trust: Callable[[], str] = str) -> None:
        self._trust = trust
        self._file = StateFile[dict[str, tuple[str, str, str]]](
            file,
            lambda stored: {
                name: (str(url), str(trust), str(at)) for name, (url, trust, at) in stored.items()
            },
            missing=dict,
        )
        self._cursors = self._file.load()

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
        # written later and off the event loop: a lost cursor only repeats objects
        self._file.save_later(self._cursors)
