"""What was last told of each device's states, beside its mark and in the same commit.

Sealed like the rows that told it, and written only where something changed: most commits change no
state.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.buffer.keys import SealBroken
from agent.buffer.rotation import SealedTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.buffer.database import Database
    from agent.buffer.keys import SpoolKeys
    from agent.model import MarkKey, SlotMark, Told


class States:
    """Every change belongs inside a transaction of the caller's."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database, self._box = database, keys.box("told")
        database.write(
            "CREATE TABLE IF NOT EXISTS told(device TEXT, step INTEGER, body BLOB NOT NULL,"
            " PRIMARY KEY(device, step)) WITHOUT ROWID"
        )

    @property
    def sealed(self) -> SealedTable:
        """What of it is sealed."""
        return SealedTable("told", ("device", "step"), "{} {}".format, lambda *_: self._box)

    def read(self) -> dict[MarkKey, Told]:
        """What was told, by device and step; what does not open is told anew."""
        found = {}
        for device, step, body in self._database.read("SELECT device, step, body FROM told"):
            try:
                said = json.loads(self._box.unseal(body, f"{device} {step}"))
            except SealBroken:
                continue
            found[device, step] = tuple((name, value) for name, value in said)
        return found

    def write(self, marks: Mapping[MarkKey, SlotMark]) -> None:
        """Keep what these marks say was told, and nothing else of their devices."""
        before = self.read()
        new = {
            key: mark.states for key, mark in marks.items() if mark.states != before.get(key, ())
        }
        self._database.write_all(
            "INSERT OR REPLACE INTO told VALUES(?,?,?)",
            [(*key, self._sealed(key, told)) for key, told in new.items() if told],
        )
        self._database.write_all(
            "DELETE FROM told WHERE device=? AND step=?", [key for key in new if not new[key]]
        )

    def _sealed(self, key: MarkKey, told: Told) -> bytes:
        return self._box.seal(json.dumps(told).encode(), f"{key[0]} {key[1]}")
