"""Who has looked at what of a dwelling, here at the gateway: kept five years, without values.

The first look of a day by one account at one place by one command is a line; the others of that day
add nothing, so that a program that asks every minute writes once a day. One owner: the state's.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from agent.atomic_write import DiskWriter
from agent.clock import stamp

if TYPE_CHECKING:
    from pathlib import Path

YEARS = 5 * 366 * 86_400
"""seconds for which they are kept"""
EVERYBODY = "*"
"""the place of a look at all dwellings together"""


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """Somebody saw something."""

    when: str
    """RFC 3339, UTC: the first time on that day"""
    who: str
    what: str
    """the call: `read`, `status`, `privacy.person`"""
    place: str
    """an id, or `*`"""

    @property
    def at(self) -> int:
        """When, as a Unix second."""
        return int(datetime.fromisoformat(self.when).timestamp())

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two looks one."""
        return (self.when[:10], self.who, self.what, self.place)


class AccessLog:
    """The record, in memory and on the disk."""

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        self._looks = _read(path)
        kept = [look for look in self._looks if look.when >= stamp(now - YEARS)]
        if len(kept) < len(self._looks):
            _replace(path, kept)
            self._looks = kept
        self._known = {look.key for look in kept}

    def note(self, who: str, what: str, place: str, now: float) -> None:
        """Record a look; it is on the disk when this returns. Raises OSError."""
        look = AccessEntry(stamp(now), who, what, place)
        if look.key in self._known:
            return
        DiskWriter.make(lambda: _append(self._path, look))
        self._known.add(look.key)
        self._looks.append(look)

    def of(self, place: str | None = None) -> list[AccessEntry]:
        """All looks, or those that saw one place, the first one first."""
        return [look for look in self._looks if place is None or look.place in (place, EVERYBODY)]


def _read(path: Path) -> list[AccessEntry]:
    """What stands there; a last line that a power cut tore is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found: list[AccessEntry] = []
    for line in lines:
        try:
            found.append(AccessEntry(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def _append(path: Path, look: AccessEntry) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, _line(look))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, looks: list[AccessEntry]) -> None:
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_bytes(b"".join(_line(look) for look in looks))
    new.replace(path)


def _line(look: AccessEntry) -> bytes:
    # a line of its own, though the one before may have been torn
    return b"\n" + json.dumps(asdict(look), ensure_ascii=False).encode() + b"\n"
