"""PostgreSQL 17: the store of a large platform. Rows are in a partition for each month of UTC."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from receiver.batch import Rejected
from receiver.store import Store, Unavailable, month_after, month_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from receiver.batch import Batch
    from receiver.store import Numbered

COLUMNS = {
    "series": "int", "source": "int", "t": "bigint", "ver": "bigint", "value": "numeric",
    "q": '"char"', "delay": "int", "last": "bigint", "dwellings": "int", "why": "text",
    "flags": "text",
}  # fmt: skip
OPTIONS = "-c jit=off -c timezone=UTC"
"""compiling a statement takes longer than what a batch needs"""
MAKING_PARTITIONS, MAKING_TABLES = 4_720_117, 4_720_118
"""advisory locks of the process that makes them"""
CHANGE = 4_720_119
"""advisory lock: shared by those who write, exclusive to end a change"""
LOCK_SECONDS = 5.0
"""what uses a month waits at most so long for its compaction to begin"""
MONTHS = """SELECT c.relname, i.indexrelid::regclass::text, i.indisclustered,
coalesce(s.spcname, '') FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
WHERE h.inhparent = 'reading'::regclass ORDER BY 1"""
"""partitions, each with its key, whether it was compacted, and its tablespace if it is not that of
the database"""
STREAMED = 10_000
"""rows that a cursor at the server gives at a time"""


class PostgresStore(Store):
    """One connection. Any number of them, on any number of machines, may write."""

    folder = "postgresql"
    macros = {  # noqa: RUF012 -- never changed
        "AT": "to_timestamp({})", "SEC": "extract(epoch FROM {})::bigint", "NUM": "({})",
        "MOMENT": "extract(epoch FROM CAST({} AS timestamptz))::bigint",
        "NOW": "now()", "?": "%s", "SHOW": "to_timestamp({})", "AMONG": "= ANY({})",
        "SERIES": "JOIN LATERAL generate_series(0, {}) AS n (n) ON true",
    }  # fmt: skip

    def __init__(self, uri: str) -> None:
        super().__init__()
        try:
            self._db = psycopg.connect(uri, autocommit=True, options=OPTIONS)
        except psycopg.OperationalError as error:
            raise Unavailable(str(error)) from error
        self._partitions: set[int] = set()
        self.lock_seconds = LOCK_SECONDS

    def execute(self, sql: str, values: Sequence[object] = ()) -> Any:
        """Run one statement."""
        try:
            return self._db.execute(self.sql(sql), values or None)
        except psycopg.OperationalError as error:
            raise Unavailable(str(error)) from error

    def select(self, sql: str) -> Any:
        """Run a statement of people."""
        self._db.execute("SET default_transaction_read_only = on")
        return self._db.execute(sql)

    def many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Run one statement for each of many tuples."""
        values = list(values)
        if values:
            self._db.cursor().executemany(self.sql(sql), values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """READ COMMITTED: the lock of the sender decides who is first."""
        try:
            with self._db.transaction():
                yield
        except psycopg.OperationalError as error:
            raise Unavailable(str(error)) from error
        except psycopg.DataError as error:
            raise Rejected(f"the database refuses it: {error}") from error

    def insert(self, rows: Sequence[Numbered], again: bool) -> int:
        """Store rows unless their key exists, in one statement."""
        if not rows:
            return 0
        series, sources, of = zip(*rows, strict=True)
        t, ver, value, q, delay, why, flags, dwellings, _, last = zip(*of, strict=True)
        columns = {"series": series, "source": sources, "t": t, "ver": ver, "value": value, "q": q,
                   "delay": delay, "last": last, "dwellings": dwellings}  # fmt: skip
        columns = {name: cells for name, cells in columns.items()
                   if name in {"t", "q"} or cells.count(None) < len(cells)}  # fmt: skip
        arrays = [_array(cells) for cells in columns.values()]
        for name, texts in (("why", why), ("flags", flags)):
            if texts.count(None) < len(texts):
                columns[name] = texts
                arrays.append(_text_array(texts))
        names = ", ".join(columns)
        chosen = names.replace(" t,", " to_timestamp(t),")
        typed = ", ".join(f"%s::{COLUMNS[name]}[]" for name in columns)
        return self._db.execute(
            f"INSERT INTO reading ({names}, again, change) SELECT {chosen}, %s, %s"
            f" FROM unnest({typed}) AS row ({names}) ON CONFLICT DO NOTHING",
            (again, self._change, *arrays),
        ).rowcount

    def among(self, numbers: Iterable[int]) -> object:
        """An array."""
        return list(numbers)

    def prepare(self, batch: Batch) -> None:
        """Make the partitions of its rows, in a transaction of their own: within that of a batch
        two of them could wait for each other.
        """
        starts = {month_of(row.t) for rows in batch.rows.values() for row in rows}
        for (source, _), rows in batch.rows.items():
            for row in rows:
                t = row.t
                while row.last is not None and (t := month_after(t)) <= row.last:
                    starts.add(t)
                    assert source.step
        for start in sorted(starts - self._partitions):
            self.partition(start)
            self._partitions.add(start)

    def partition(self, t: int) -> None:
        """Make the partition of an instant, unless it exists."""
        start = month_of(t)
        name = f"reading_{datetime.fromtimestamp(start, UTC):%Y_%m}"
        first, end = (
            datetime.fromtimestamp(t, UTC).isoformat() for t in (start, month_after(start))
        )
        with self.transaction():
            self.execute("SELECT pg_advisory_xact_lock(?)", (MAKING_PARTITIONS,))
            if self.execute("SELECT to_regclass(?)", (name,)).fetchone()[0] is None:
                self.execute(f"CREATE TABLE {name} (LIKE reading INCLUDING DEFAULTS)")
                # unlike CREATE TABLE … PARTITION OF, this waits for no reader
                bounds = f"FROM ('{first}') TO ('{end}')"
                self.execute(f"ALTER TABLE reading ATTACH PARTITION {name} FOR VALUES {bounds}")

    def compact(self, before: int, tablespace: str | None) -> Iterator[str]:
        """Write each month that ended before an instant anew, in the order of its key.

        Rows of a series are then in the same blocks, and the index has no half-empty pages. Late
        rows and retractions wait meanwhile; a month that is in use for long is left for the next
        time.
        """
        for name, index, done, where in self.execute(MONTHS).fetchall():
            start = datetime.strptime(name, "reading_%Y_%m").replace(tzinfo=UTC)
            if month_after(int(start.timestamp())) > before:
                continue
            moves = tablespace not in {None, where}
            if done and not moves:
                continue
            try:
                with self._db.transaction():
                    self.execute(f"SET LOCAL lock_timeout = '{self.lock_seconds * 1000:.0f}'")
                    self._db.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
                    if moves:
                        space = sql.Identifier(str(tablespace))
                        for kind, of in (("TABLE", name), *self._indexes(name)):
                            command = sql.SQL(f"ALTER {kind} {of} SET TABLESPACE {{}}")
                            self._db.execute(command.format(space))
                    self.execute(f"CLUSTER {name} USING {index}")
            except psycopg.errors.LockNotAvailable:
                yield f"{name} is in use: left for the next time"
                continue
            except psycopg.errors.UndefinedObject as error:
                raise ValueError(str(error)) from error
            self.execute(f"VACUUM (FREEZE, ANALYZE) {name}")
            (size,) = self.execute("SELECT pg_total_relation_size(?)", (name,)).fetchone()
            yield f"{name}: {size / 1e6:,.1f} MB"

    def _indexes(self, table: str) -> list[tuple[str, str]]:
        indexes = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = ?::regclass"
        return [("INDEX", name) for (name,) in self.execute(indexes, (table,)).fetchall()]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold a lock that ends with the connection."""
        self.execute("SELECT pg_advisory_lock(?)", (MAKING_TABLES,))
        try:
            yield
        finally:
            self.execute("SELECT pg_advisory_unlock(?)", (MAKING_TABLES,))

    def view(self, statement: str) -> None:
        """Replace a view: others may be built on it, so columns are only added at its end."""
        self.execute(statement.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))

    def stream(self, sql: str, values: Sequence[object]) -> Iterator[Sequence[Any]]:
        """With a cursor at the server."""
        with self._db.transaction(), self._db.cursor("stream") as cursor:
            cursor.itersize = STREAMED
            yield from cursor.execute(self.sql(sql), values)

    def begin_change(self) -> int:
        """Share a lock with all who write; in a statement of its own, since a statement sees what
        was committed before it began, which may be before it got the lock.
        """
        self.execute("SELECT pg_advisory_xact_lock_shared(?)", (CHANGE,))
        (change,) = self.execute("SELECT change FROM feed").fetchone()
        return int(change)

    def end_change(self) -> int:
        """Wait for all who write, and let nobody begin meanwhile."""
        with self.transaction():
            self.execute("SELECT pg_advisory_xact_lock(?)", (CHANGE,))
            sql = "UPDATE feed SET change = change + 1 RETURNING change - 1"
            (change,) = self.execute(sql).fetchone()
        return int(change)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def _array(cells: Sequence[object]) -> str:
    """Numbers and single letters as PostgreSQL writes an array: faster than one by one."""
    return "{" + ",".join(["NULL" if cell is None else str(cell) for cell in cells]) + "}"


def _text_array(texts: Sequence[str | None]) -> str:
    return "{" + ",".join(["NULL" if text is None else _quoted(text) for text in texts]) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
