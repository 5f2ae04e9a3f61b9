"""What was disclosed of dwellings: per day of receipt, place, channel, basis and occupancy how many
values.

No values. Counted in the transaction that applies the receipt, so neither twice nor not at all;
kept five years.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.buffer.database import Database
    from agent.model import BatchId, Reading

    Read = Callable[..., list[tuple[Any, ...]]]

DAY = 86_400
YEARS = 5 * 366 * DAY
"""seconds for which they are kept"""
# disclosed_of: the part of each count of which it is known whose values they were.
# counted, counted_of: what is counted and is sent again, as it was or in other batches
TABLES = (
    """CREATE TABLE IF NOT EXISTS disclosed(day INTEGER, place TEXT, channel TEXT, basis TEXT,
    n INTEGER NOT NULL, PRIMARY KEY(day, place, channel, basis)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS disclosed_of(day INTEGER, place TEXT, channel TEXT, basis TEXT,
    occupancy TEXT, n INTEGER NOT NULL,
    PRIMARY KEY(day, place, channel, basis, occupancy)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS counted(epoch TEXT, seq INTEGER,
    PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS counted_of(place TEXT, channel TEXT, basis TEXT, occupancy TEXT,
    n INTEGER NOT NULL, PRIMARY KEY(place, channel, basis, occupancy)) WITHOUT ROWID""",
)
ALL = """
SELECT day, place, channel, basis, occupancy, n FROM disclosed_of WHERE ?1 IN ('', place)
UNION ALL
SELECT day, place, channel, basis, '', n - known FROM (
    SELECT *, coalesce((SELECT sum(n) FROM disclosed_of AS of WHERE of.day=disclosed.day
        AND of.place=disclosed.place AND of.channel=disclosed.channel
        AND of.basis=disclosed.basis), 0) AS known FROM disclosed WHERE ?1 IN ('', place))
    WHERE n > known
ORDER BY day, place, channel, basis, occupancy
"""


class Disclosure(NamedTuple):
    """So many values of one day were received."""

    day: str
    """UTC, of the receipt"""
    place: str
    channel: str
    basis: str
    occupancy: str
    """whose values they were; empty: an earlier version counted them, and did not note it"""
    values: int


class Count(NamedTuple):
    """So many values of one series."""

    place: str
    channel: str
    basis: str
    occupancy: str
    values: int


class Disclosed:
    """The counts of one recipient. Every change belongs inside a transaction of the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        for table in TABLES:
            database.write(table)

    def payload(self, payload: bytes | None, now: float) -> None:
        """Count the values of a batch that was received, as it was sealed; None: it is damaged."""
        if payload is None:
            return
        document = json.loads(zstandard.ZstdDecompressor().decompress(payload))
        for of in document.get("series", ()):
            whose, values = of.get("occupancy") or "", sum(value is not None for value in of["v"])
            count = Count(of["place"], of["channel"], of["basis"], whose, values)
            self.add([count], now, again=of.get("again", False))

    def sent_again(self, id_: BatchId) -> None:
        """Note that a batch whose values are counted is sent again on request."""
        self._database.write("INSERT OR IGNORE INTO counted VALUES(?,?)", id_.epoch, id_.seq)

    def was_counted(self, epoch: str, seq: int) -> bool:
        """Whether a batch was counted before it was sent again; from here on that is forgotten."""
        return bool(self._database.write("DELETE FROM counted WHERE epoch=? AND seq=?", epoch, seq))

    def returned(self, rows: Iterable[Reading]) -> None:
        """Note that values which are counted will be sent again, in another batch."""
        for count in counts_of(rows):
            if count.place[:1] == "D" and count.values:
                self._database.write(
                    "INSERT INTO counted_of VALUES(?,?,?,?,?) ON CONFLICT(place, channel, basis,"
                    " occupancy) DO UPDATE SET n = n + excluded.n",
                    *count,
                )

    def forget(self, now: float) -> None:
        """Delete what is older than five years."""
        self._database.write("DELETE FROM disclosed WHERE day<?", _day(now - YEARS))
        self._database.write("DELETE FROM disclosed_of WHERE day<?", _day(now - YEARS))
        self._database.write(
            "DELETE FROM counted WHERE NOT EXISTS (SELECT 1 FROM batch WHERE"
            " batch.epoch=counted.epoch AND batch.seq=counted.seq)"
        )

    def all(self, place: str = "") -> list[Disclosure]:
        """Everything, or of one place alone, day by day."""
        return disclosures(self._database.read, place)

    def add(self, counts: Iterable[Count], now: float, *, again: bool = False) -> None:
        """Count values as received now; `again`: those of them that are not counted already."""
        day = _day(now)
        for count in counts:
            place, channel, basis, occupancy, values = count
            if place[:1] != "D":
                continue
            if again:
                values -= self._counted(count)
            if values:
                self._database.write(
                    "INSERT INTO disclosed VALUES(?,?,?,?,?) ON CONFLICT(day, place, channel,"
                    " basis) DO UPDATE SET n = n + excluded.n",
                    *(day, place, channel, basis, values),
                )
                self._database.write(
                    "INSERT INTO disclosed_of VALUES(?,?,?,?,?,?) ON CONFLICT(day, place, channel,"
                    " basis, occupancy) DO UPDATE SET n = n + excluded.n",
                    *(day, place, channel, basis, occupancy, values),
                )

    def adopt(self, others: Iterable[Disclosure]) -> None:
        """Add what another spool of the same recipient has counted."""
        for one in others:
            at = datetime.fromisoformat(one.day).replace(tzinfo=UTC).timestamp()
            self.add([Count(*one[1:])], at)

    def _counted(self, count: Count) -> int:
        """How many of these values are counted already; from here on they are not sent again."""
        known = self._database.one(
            "SELECT n FROM counted_of WHERE place=? AND channel=? AND basis=? AND occupancy=?",
            *count[:4],
        )
        used = min(int(known or 0), count.values)
        if used:
            self._database.write(
                "UPDATE counted_of SET n=n-? WHERE place=? AND channel=? AND basis=?"
                " AND occupancy=?",
                *(used, *count[:4]),
            )
            self._database.write("DELETE FROM counted_of WHERE n=0")
        return used


def disclosures(read: Read, place: str = "") -> list[Disclosure]:
    """What a spool has counted, or of one place alone, day by day; `read` asks its file."""
    return [Disclosure(_written(day), *row) for day, *row in read(ALL, place)]


def counts_of(rows: Iterable[Reading]) -> list[Count]:
    """How many values these rows have, by series."""
    found: dict[tuple[str, str, str, str], int] = {}
    for row in rows:
        series = row.series
        key = (series.place, series.channel, series.basis, series.occupancy or "")
        found[key] = found.get(key, 0) + (row.value is not None)
    return [Count(*key, values) for key, values in found.items()]


def _day(at: float) -> int:
    return int(at // DAY)


def _written(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")
