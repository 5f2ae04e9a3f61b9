"""SQLite: the store of a small platform, in one file, with nothing to install."""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from receiver.store import Store, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from receiver.batch import Batch
    from receiver.store import Numbered

BUSY_SECONDS = 30.0
INSERT = """INSERT INTO reading
(series, source, t, ver, value, q, delay, last, dwellings, why, flags, again, change)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""


class SqliteStore(Store):
    """One file. Several processes may open it; one of them writes at a time."""

    folder = "sqlite"
    macros = {  # noqa: RUF012 -- never changed
        "AT": "({})", "SEC": "({})", "MOMENT": "unixepoch({})",
        "NUM": "CAST({} AS REAL)", "NOW": "unixepoch()", "?": "?",
        "SHOW": "strftime('%Y-%m-%dT%H:%M:%SZ', {}, 'unixepoch')",
        "SERIES": "JOIN number n ON n.n <= {}",
        "AMONG": "IN (SELECT value FROM json_each({}))",
    }  # fmt: skip

    def __init__(self, path: str) -> None:
        super().__init__()
        Path(path).touch(mode=0o600)  # readings of people: for nobody else
        self._db = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")

    def execute(self, sql: str, values: Sequence[object] = ()) -> Any:
        """Run one statement."""
        try:
            return self._db.execute(self.sql(sql), values)
        except sqlite3.OperationalError as error:
            raise Unavailable(str(error)) from error

    def select(self, sql: str) -> Any:
        """Run a statement of people."""
        self._db.execute("PRAGMA query_only = ON")
        return self._db.execute(sql)

    def many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Run one statement for each of many tuples."""
        self._db.executemany(self.sql(sql), values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Nobody else writes until its end."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                yield
        except sqlite3.OperationalError as error:
            raise Unavailable(str(error)) from error

    def insert(self, rows: Sequence[Numbered], again: bool) -> int:
        """Store rows unless their key exists."""
        return self._db.executemany(
            INSERT,
            [(series, source, row.t, row.ver, row.value, row.q, row.delay, row.last, row.dwellings,
              row.why, row.flags, again, self._change) for series, source, row in rows],
        ).rowcount if rows else 0  # fmt: skip

    def among(self, numbers: Iterable[int]) -> object:
        """A list in JSON."""
        return json.dumps(list(numbers))

    def prepare(self, batch: Batch) -> None:
        """Nothing: there are no partitions."""

    def compact(self, before: int, tablespace: str | None) -> Iterator[str]:
        """Write the whole file anew: it has no months."""
        del before
        if tablespace is not None:
            raise ValueError("SQLite has no tablespaces")
        self.execute("VACUUM")
        yield "the file was written anew"

    def alone(self) -> AbstractContextManager[object]:
        """Nothing: of two, one fails and is tried again."""
        return nullcontext()

    def view(self, statement: str) -> None:
        """Replace a view."""
        name = statement.split("CREATE VIEW ")[1].split(maxsplit=1)[0]
        self._db.execute(f"DROP VIEW IF EXISTS {name}")
        self._db.execute(self.sql(statement))

    def stream(self, sql: str, values: Sequence[object]) -> Iterator[Sequence[Any]]:
        """Read step by step, as SQLite always does."""
        yield from self.execute(sql, values)

    def begin_change(self) -> int:
        """Nobody else writes until the end of the transaction."""
        return int(self.execute("SELECT change FROM feed").fetchone()[0])

    def end_change(self) -> int:
        """End it in a transaction of its own."""
        with self.transaction():
            sql = "UPDATE feed SET change = change + 1 RETURNING change - 1"
            (change,) = self.execute(sql).fetchone()
        return int(change)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
