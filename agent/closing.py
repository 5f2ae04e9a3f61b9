"""Which recipients nothing more is kept for: their uplinks are being closed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.durable import write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE = "closing.json"


class Closing:
    """The recipients, on the disk before anything acts on it; a restart does not reopen them."""

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._names = _recall(self._file)

    def __contains__(self, recipient: str) -> bool:
        return recipient in self._names

    def begin(self, recipient: str) -> None:
        """Keep nothing more for a recipient."""
        self._write(self._names | {recipient})

    def only(self, recipients: Iterable[str]) -> None:
        """Forget those that have no uplink any more: another one may be made for them later."""
        if gone := self._names - set(recipients):
            self._write(self._names - gone)

    def _write(self, names: frozenset[str]) -> None:
        write(self._file, json.dumps(sorted(names)).encode())
        self._names = names


def _recall(file: Path) -> frozenset[str]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return frozenset(name for name in found if isinstance(name, str))
    except (OSError, ValueError, TypeError):
        return frozenset()
