"""What was disclosed of dwellings: per day of receipt, place, channel and basis how many values.

No values. Counted in the transaction that applies the receipt, so neither twice nor not at all;
kept five years.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.buffer.database import Database
    from agent.model import Reading

DAY = 86_400
YEARS = 5 * 366 * DAY
"""seconds for which they are kept"""


class Disclosure(NamedTuple):
    """So many values of one day were received."""

    day: str
    """UTC, of the receipt"""
    place: str
    channel: str
    basis: str
    values: int


class Disclosed:
    """The counts of one recipient. Every change belongs inside a transaction of the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.write(
            "CREATE TABLE IF NOT EXISTS disclosed(day INTEGER, place TEXT, channel TEXT,"
            " basis TEXT, n INTEGER NOT NULL,"
            " PRIMARY KEY(day, place, channel, basis)) WITHOUT ROWID"
        )

    def payload(self, payload: bytes | None, now: float) -> None:
        """Count the values of a batch that was received, as it was sealed; None: it is damaged."""
        if payload is None:
            return
        document = json.loads(zstandard.ZstdDecompressor().decompress(payload))
        self._add(
            (
                (of["place"], of["channel"], of["basis"], sum(v is not None for v in of["v"]))
                for of in document.get("series", ())
            ),
            now,
        )

    def rows(self, rows: Iterable[Reading], now: float) -> None:
        """Count rows of which it is known only now that they were received."""
        self._add(
            (
                (row.series.place, row.series.channel, row.series.basis, int(row.value is not None))
                for row in rows
            ),
            now,
        )

    def forget(self, now: float) -> None:
        """Delete what is older than five years."""
        self._database.write("DELETE FROM disclosed WHERE day<?", _day(now - YEARS))

    def all(self) -> list[Disclosure]:
        """Everything, day by day."""
        found = self._database.read("SELECT * FROM disclosed ORDER BY day, place, channel, basis")
        return [Disclosure(_written(day), *row) for day, *row in found]

    def _add(self, counts: Iterable[tuple[str, str, str, int]], now: float) -> None:
        day = _day(now)
        for place, channel, basis, values in counts:
            if place[:1] == "D" and values:
                self._database.write(
                    "INSERT INTO disclosed VALUES(?,?,?,?,?) ON CONFLICT(day, place, channel,"
                    " basis) DO UPDATE SET n = n + excluded.n",
                    day,
                    place,
                    channel,
                    basis,
                    values,
                )


def _day(at: float) -> int:
    return int(at // DAY)


def _written(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")
