"""The small history: 13 months of common areas, plant and the gateway itself, sealed, in one file.

Values of a quarter of an hour are kept for 35 days, then one value a day. A commit adds one block
with the quarters of all series. Once a day is over, its blocks become one body for each series:
so a day costs the flash about 20 small commits (docs/decisions/054). Used from one thread.
"""

from __future__ import annotations

import json
import math
import zlib
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.buffer.database import Damaged, Database, set_aside, suspicion
from agent.buffer.keys import Rotation, SealBroken, SealedTable, SpoolKeys, check_key
from agent.core.errors import SpoolFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.buffer.keys import Sealer

FILE = "history.db"
"""its name in the state directory"""
QUARTER = 900
"""seconds of a slot; a slot is named by its end t and covers (t − 900, t]"""
DAY = 86_400
FINE_KEPT = 36 * DAY
"""seconds for which quarters are kept: 35 whole days, and the present one"""
KEPT = 396 * DAY
"""seconds for which daily values are kept: 13 months"""
MOST_SERIES = 200
STEP = 64 * 1024
"""bytes that the file takes at its first start, and by which it grows: small, because what it grows
by is written three times on that day"""
BODIES, SLOTS = 8, 400
"""bodies of days, and slots of a block, in one commit: less than 24 kB. A commit must fit into the
free pages, of which half a STEP is there before each (see `Database`)
"""
CAP = 16 * 1024 * 1024
"""bytes of the file: 200 series at 36 · 0.6 kB of quarters and 396 · 0.1 kB of days are 12 MB"""
GAUGE, REGISTER, AMOUNT = "gauge", "register", "amount"
"""kinds: a momentary value, an index, and a quantity of the slot"""
TABLES = (
    "CREATE TABLE IF NOT EXISTS series(no INTEGER PRIMARY KEY, body BLOB NOT NULL, gone INTEGER)",
    "CREATE TABLE IF NOT EXISTS recent(no INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    # by day first: a day's bodies lie in the same pages, written and deleted together
    (
        "CREATE TABLE IF NOT EXISTS fine(day INTEGER, series INTEGER, body BLOB NOT NULL,"
        " PRIMARY KEY(day, series)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS daily(day INTEGER, series INTEGER, body BLOB NOT NULL,"
        " PRIMARY KEY(day, series)) WITHOUT ROWID"
    ),
)


class SeriesName(NamedTuple):
    """What identifies a series. Another meter at the same point is another series."""

    device: str
    point: str
    channel: str | None
    unit: str
    kind: str
    serial: str = ""


class SlotValue(NamedTuple):
    """One slot of one series: (low, mean, high) of a gauge, (index,) or (quantity,) else."""

    name: SeriesName
    t: int
    values: tuple[float, ...]


class KeptSeries(NamedTuple):
    """A series in the file."""

    number: int
    name: SeriesName
    gone: int | None
    """since when its point is no longer configured, Unix seconds; None: it is"""


if TYPE_CHECKING:
    Values = dict[int, tuple[float, ...]]
    """by slot, or by day"""


class HistoryStore:
    """The open file; use `open`."""

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, key: bytes, max_bytes: int = CAP, *, before: bytes | None = None
    ) -> Iterator[HistoryStore]:
        """Open or create the file under the gateway's key; a damaged file is set aside.

        `before`: the earlier key, during a rotation. Raises Refused if the file was rotated and is
        under neither, StorageFailed.
        """
        if suspicion(path).exists():
            set_aside(path)
        keys = partial(SpoolKeys, key, "history", "nobody", before)
        try:
            store = cls(path, keys(), max_bytes)
        except Damaged:
            set_aside(path)
            store = cls(path, keys(), max_bytes)
        try:
            yield store
        finally:
            store._database.close()

    def __init__(self, path: Path, keys: SpoolKeys, max_bytes: int) -> None:
        self._database = Database(path, max_bytes, STEP, STEP)
        self._most = max_bytes * 3 // 4
        try:
            check_key(self._database, path, keys)
            self._keys, self._rotation = keys, Rotation(self._database, keys)
            self._sealer = keys.sealer("history")
            for table in TABLES:
                self._database.write(table)
            if keys.rotating:
                with suppress(SpoolFull):  # the caller of `rekey` tries again
                    self._begin_rotation()
            self._series: dict[SeriesName, KeptSeries] = {}
            self._load()
        except BaseException:
            self._database.close()
            raise

    def _load(self) -> None:
        self._series = {}
        lost = []
        for number, body, gone in self._database.read("SELECT no, body, gone FROM series"):
            content = self._opened(body, f"series {number}")
            if content is None:
                lost.append(number)
                continue
            name = SeriesName(*content)
            self._series[name] = KeptSeries(number, name, gone)
        if lost:
            self.erase(lost)  # nobody could say what these values are of

    # -- the key ----------------------------------------------------------------------------------

    def rekey(self, key: bytes) -> None:
        """See `Spool.rekey`."""
        if not self._keys.under(key):
            self._keys.renew(key)
        self._begin_rotation()

    def _begin_rotation(self) -> None:
        if not self._rotation.begun:
            with self._database.transaction():
                self._rotation.begin()

    def rekey_step(self) -> bool:
        """See `Spool.rekey_step`."""

        def commit(change: Callable[[], int]) -> int:
            with self._database.transaction():
                return change()

        def sealer(*_key: int) -> Sealer:
            return self._sealer

        tables = [
            SealedTable(table, key, partial(_bound_to, table), sealer)
            for table, key in (
                ("series", ("no",)), ("recent", ("no",)),
                ("fine", ("day", "series")), ("daily", ("day", "series")),
            )
        ]  # fmt: skip
        return self._rotation.step(tables, commit, lambda: None)

    @property
    def rekeyed(self) -> tuple[int, int]:
        """See `Spool.rekeyed`."""
        return self._rotation.passed, self._database.used()

    # -- what is written --------------------------------------------------------------------------

    @property
    def series(self) -> list[KeptSeries]:
        """Every series of the file."""
        return list(self._series.values())

    def append(self, values: Sequence[SlotValue]) -> int:
        """Store slots. Return how many series had no room among MOST_SERIES.

        The first value of a slot stays: what comes later for the same slot changes nothing. Raises
        SpoolFull if the disk has no room even after the oldest days were removed.
        """
        while self._database.used() > self._most and self._drop_oldest():
            pass
        refused: set[SeriesName] = set()
        for first in range(0, len(values), SLOTS):
            # on a full disk the file cannot grow: the oldest days make room
            while not self._appended(values[first : first + SLOTS], refused):
                if not self._drop_oldest():
                    raise SpoolFull("the disk is full")
        return len(refused)

    def _appended(self, values: Sequence[SlotValue], refused: set[SeriesName]) -> bool:
        try:
            with self._database.transaction():
                self._append(values, refused)
        except SpoolFull:
            self._load()
            return False
        except BaseException:
            self._load()
            raise
        return True

    def _append(self, values: Sequence[SlotValue], refused: set[SeriesName]) -> None:
        rows = [
            [number, value.t, *value.values]
            for value in values
            if (number := self._number(value.name, refused))
        ]
        if rows:
            # one series after the other: similar numbers compress
            self._insert_recent(sorted(rows))

    def _insert_recent(self, rows: Sequence[Sequence[float]]) -> None:
        number = 1 + (self._database.scalar("SELECT max(no) FROM recent") or 0)
        body = self._sealed(rows, _bound_to("recent", number))
        self._database.write("INSERT INTO recent VALUES(?,?)", number, body)

    def _number(self, name: SeriesName, refused: set[SeriesName]) -> int | None:
        """The number of a series; it is created, inside the caller's transaction, if it is new."""
        if name not in self._series:
            if len(self._series) >= MOST_SERIES:
                refused.add(name)
                return None
            highest = [self._database.scalar(f"SELECT max({column}) FROM {table}") or 0  # noqa: S608
                       for column, table in (("no", "series"), ("series", "fine"),
                                             ("series", "daily"))]  # fmt: skip
            number = 1 + max(highest)
            body = self._sealed(name, _bound_to("series", number))
            self._database.write("INSERT INTO series VALUES(?,?,NULL)", number, body)
            self._series[name] = KeptSeries(number, name, None)
        return self._series[name].number

    def close_days(self, day_of: Callable[[int], int], until: int) -> int:
        """Turn the blocks of days that end at or before `until` into bodies of these days.

        `day_of`: the beginning of the local day that holds a moment. Return how many days were
        closed. The blocks are deleted last: after a kill in between, the same bodies are written
        again.
        """
        recent = self._recent()
        whole: dict[tuple[int, int], Values] = {}
        left: list[list[float]] = []
        for number, t, values in recent:
            day = day_of(t - 1)
            # a day has at most 25 hours: 26 hours later is the next one
            if day_of(day + 26 * 3600) <= until:
                whole.setdefault((day, number), {}).setdefault(t, values)
            else:
                left.append([number, t, *values])
        if not whole:
            return 0
        kinds = {kept.number: kept.name.kind for kept in self._series.values()}
        known = [key for key in sorted(whole) if key[1] in kinds]
        for first in range(0, len(known), BODIES):
            chunk = known[first : first + BODIES]
            while not self._put_days({key: whole[key] for key in chunk}, kinds):
                # never a day that is being closed: its blocks are deleted below
                if not self._drop_oldest(before=known[0][0]):
                    raise SpoolFull("the disk is full")
        self._replace_recent(left)
        return len({day for day, _ in whole})

    def _put_days(self, days: Mapping[tuple[int, int], Values], kinds: Mapping[int, str]) -> bool:
        try:
            with self._database.transaction():
                for (day, number), slots in days.items():
                    self._put_day(day, number, kinds[number], slots)
        except SpoolFull:
            return False
        return True

    def _put_day(self, day: int, number: int, kind: str, slots: Values) -> None:
        # what is there already came first: it stays (a late value of a day that was closed)
        slots |= self._day(day, number)
        last = max(slots)
        row = [_compact(slots.get(t)) for t in range(day + QUARTER, last + 1, QUARTER)]
        body = self._sealed(row, _bound_to("fine", day, number))
        self._database.write("INSERT OR REPLACE INTO fine VALUES(?,?,?)", day, number, body)
        daily = self._sealed(summary(kind, slots), _bound_to("daily", day, number))
        self._database.write("INSERT OR REPLACE INTO daily VALUES(?,?,?)", day, number, daily)

    def _replace_recent(self, left: Sequence[Sequence[float]]) -> None:
        with self._database.transaction():
            self._database.write("DELETE FROM recent")
            if left:
                self._insert_recent(left)

    # -- what is removed --------------------------------------------------------------------------

    def expire(self, now: int) -> None:
        """Delete quarters older than FINE_KEPT and days older than KEPT."""
        fine, daily = now - FINE_KEPT, now - KEPT
        if self._database.scalar("SELECT 1 FROM fine WHERE day<?", fine) or self._database.scalar(
            "SELECT 1 FROM daily WHERE day<?", daily
        ):
            with self._database.transaction():
                self._database.write("DELETE FROM fine WHERE day<?", fine)
                self._database.write("DELETE FROM daily WHERE day<?", daily)

    def drop_after(self, now: int) -> bool:
        """Delete slots that end more than a slot after now: a wrong clock has dated them."""
        latest = now + QUARTER
        recent = self._recent()
        left = [[number, t, *values] for number, t, values in recent if t <= latest]
        # the running day too: a clock that was ahead may have closed it
        rows = self._database.read("SELECT day, series FROM fine WHERE day>?", now - 25 * 3600)
        wrong = [
            (day, number) for day, number in rows if max(self._day(day, number), default=0) > latest
        ]
        if len(left) == len(recent) and not wrong:
            return False
        kinds = {kept.number: kept.name.kind for kept in self._series.values()}
        for first in range(0, len(wrong), BODIES):
            with self._database.transaction():
                for day, number in wrong[first : first + BODIES]:
                    self._cut_day(day, number, kinds[number], latest)
        self._replace_recent(left)
        return True

    def _cut_day(self, day: int, number: int, kind: str, latest: int) -> None:
        slots = {t: values for t, values in self._day(day, number).items() if t <= latest}
        for table in ("fine", "daily"):
            sql = f"DELETE FROM {table} WHERE day=? AND series=?"  # noqa: S608 -- ours
            self._database.write(sql, day, number)
        if slots:
            self._put_day(day, number, kind, slots)

    def erase(self, numbers: Iterable[int]) -> None:
        """Destroy series, in the log as well: when this returns, no byte of them is left."""
        gone = set(numbers)
        if not gone:
            return
        left = [[no, t, *values] for no, t, values in self._recent() if no not in gone]
        with self._database.transaction():
            for table, column in (("series", "no"), ("fine", "series"), ("daily", "series")):
                self._database.write_all(
                    f"DELETE FROM {table} WHERE {column}=?",  # noqa: S608 -- ours
                    [(number,) for number in gone],
                )
            self._database.write("DELETE FROM recent")
            if left:
                self._insert_recent(left)
        self._series = {n: kept for n, kept in self._series.items() if kept.number not in gone}
        self._database.fold()

    def mark_gone(self, gone: Mapping[int, int | None]) -> None:
        """Note since when the points of series, by number, are not configured; None: they are."""
        with self._database.transaction():
            for number, at in gone.items():
                self._database.write("UPDATE series SET gone=? WHERE no=?", at, number)
        for name, kept in self._series.items():
            if kept.number in gone:
                self._series[name] = kept._replace(gone=gone[kept.number])

    def _drop_oldest(self, before: int = 2**62) -> bool:
        """Remove the oldest day that begins before `before`, of quarters first, then of days.

        False if there is none. Raises SpoolFull if there is not even room for a deletion.
        """
        for table in ("fine", "daily"):
            day = self._database.scalar(f"SELECT min(day) FROM {table}")  # noqa: S608 -- ours
            if day is not None and day < before:
                with self._database.transaction():
                    self._database.write(f"DELETE FROM {table} WHERE day=?", day)  # noqa: S608
                return True
        return False

    # -- what is read -----------------------------------------------------------------------------

    def quarters(self, number: int, since: int, until: int) -> Values:
        """The slots of a series with since < t <= until, by t."""
        # a day has at most 25 hours
        days = self._database.read(
            "SELECT day FROM fine WHERE series=? AND day>=? AND day<? ORDER BY day",
            number, since - 25 * 3600, until,
        )  # fmt: skip
        slots: Values = {}
        for (day,) in days:
            for t, values in self._day(day, number).items():
                slots.setdefault(t, values)
        for no, t, values in self._recent():
            if no == number:
                slots.setdefault(t, values)
        return {t: slots[t] for t in sorted(slots) if since < t <= until}

    def days(self, number: int, since: int, until: int) -> Values:
        """The closed days of a series that begin in [since, until), by their beginning.

        (low, mean, high) of a gauge, (index at the end,) of a register, (sum,) of an amount.
        """
        rows = self._database.read(
            "SELECT day, body FROM daily WHERE series=? AND day>=? AND day<? ORDER BY day",
            number, since, until,
        )  # fmt: skip
        opened = ((day, self._opened(body, _bound_to("daily", day, number))) for day, body in rows)
        return {day: tuple(content) for day, content in opened if content}

    def span(self, number: int) -> tuple[int, int] | None:
        """The beginning of the first day and the end of the last slot; None: it is empty."""
        sql = "SELECT min(day), max(day) FROM {} WHERE series=?"
        first, last = self._database.read(sql.format("daily"), number)[0]
        ends = [t for no, t, _ in self._recent() if no == number]
        if last is not None:
            ends += self._day(last, number) or [last + DAY]
        if not ends:
            return None
        return min(ends) - QUARTER if first is None else first, max(ends)

    def _day(self, day: int, number: int) -> Values:
        rows = self._database.read("SELECT body FROM fine WHERE day=? AND series=?", day, number)
        row = self._opened(rows[0][0], _bound_to("fine", day, number)) if rows else None
        return {
            day + (n + 1) * QUARTER: tuple(values if isinstance(values, list) else [values])
            for n, values in enumerate(row or ())
            if values is not None
        }

    def _recent(self) -> list[tuple[int, int, tuple[float, ...]]]:
        """Number, slot and values of all that is in blocks, the oldest block first."""
        rows = self._database.read("SELECT no, body FROM recent ORDER BY no")
        blocks = (self._opened(body, _bound_to("recent", no)) for no, body in rows)
        return [
            (int(row[0]), int(row[1]), tuple(row[2:])) for block in blocks for row in block or ()
        ]

    def _sealed(self, content: Any, name: str) -> bytes:
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        return self._sealer.seal(zlib.compress(text.encode(), 6), name)

    def _opened(self, body: bytes, name: str) -> Any:
        """The content of a body; None if it does not open: a damaged body costs only itself."""
        with suppress(SealBroken, ValueError, zlib.error):
            return json.loads(zlib.decompress(self._sealer.unseal(body, name)))
        return None


def _bound_to(table: str, *key: int) -> str:
    return " ".join(map(str, (table, *key)))


def _compact(values: tuple[float, ...] | None) -> Any:
    if values is None:
        return None
    return values[0] if len(set(values)) == 1 else list(values)


def summary(kind: str, slots: Values) -> list[float]:
    """The daily value of a day's slots."""
    if kind == REGISTER:
        return [slots[max(slots)][0]]
    if kind == AMOUNT:
        return [math.fsum(values[0] for values in slots.values())]
    lows, means, highs = zip(*map(three, slots.values()), strict=True)
    return [min(lows), mean(math.fsum(means), len(means)), max(highs)]


def three(values: Sequence[float]) -> tuple[float, float, float]:
    """Low, mean and high; one value is all of them."""
    return (
        (values[0], values[0], values[0]) if len(values) == 1 else (values[0], values[1], values[2])
    )


def rounded(value: float) -> float:
    """A value with seven digits: more are noise."""
    return float(f"{value:.7g}")


def mean(total: float, number: int) -> float:
    """A mean, with five digits: more would be most of what is written."""
    return float(f"{total / number:.5g}")
