"""The last report of each device's states, kept with its mark in the same commit.

It is sealed like the rows that reported it, and written only where something changed: most commits
change no state.
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
    from agent.core.model import MarkKey, SlotMark, Told


class States:
    """The last reports. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database, self._sealer = database, keys.sealer("told")
        database.write(
            "CREATE TABLE IF NOT EXISTS told(device TEXT, step INTEGER, body BLOB NOT NULL,"
            " PRIMARY KEY(device, step)) WITHOUT ROWID"
        )

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable("told", ("device", "step"), "{} {}".format, lambda *_: self._sealer)

    def read(self) -> dict[MarkKey, Told]:
        """The last reports, by device and step. A body that does not open counts as not
        reported.
        """
        states = {}
        for device, step, body in self._database.read("SELECT device, step, body FROM told"):
            try:
                statements = json.loads(self._sealer.unseal(body, f"{device} {step}"))
            except SealBroken:
                continue
            states[device, step] = tuple((name, value) for name, value in statements)
        return states

    def write(self, marks: Mapping[MarkKey, SlotMark]) -> None:
        """Keep the reports of these marks, and no others of their devices."""
        # Compare first: writing unchanged reports would cost a page in every commit.
        before = self.read()
        new = {
            key: mark.states for key, mark in marks.items() if mark.states != before.get(key, ())
        }
        self._database.write_all(
            "INSERT OR REPLACE INTO told VALUES(?,?,?)",
            [
                (*key, self._sealed(key, statements))
                for key, statements in new.items()
                if statements
            ],
        )
        self._database.write_all(
            "DELETE FROM told WHERE device=? AND step=?", [key for key in new if not new[key]]
        )

    def _sealed(self, key: MarkKey, statements: Told) -> bytes:
        return self._sealer.seal(json.dumps(statements).encode(), f"{key[0]} {key[1]}")
