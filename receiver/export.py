"""`gardien-receiver export`: rows with their versions, and the retractions, for a copy elsewhere.

A change ends with each export: what is stored from then on belongs to the next one. In a file the
retractions come before the rows. That is the right order for any number of changes, since the store
holds no row that one of its retractions covers. A copy that applies all files in their order has
the rows of the receiver (docs/receiver.md).
"""

from __future__ import annotations

import csv
import sys
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from receiver.store import Store

    Write = Callable[[Sequence[Sequence[Any]]], None]

COLUMNS: dict[str, str] = {
    "what": "string", "change": "int32", "gateway": "string", "recipient": "string",
    "place": "string", "channel": "string", "kind": "string", "step": "int32", "t": "int64",
    "last": "int64", "ver": "int64", "value": "float64", "unit": "string", "q": "string",
    "why": "string", "flags": "string", "delay": "int32", "dwellings": "int32", "meter": "string",
    "occupancy": "string", "basis": "string", "again": "bool_", "id": "string", "since": "int64",
    "until": "int64", "reason": "string",
}  # fmt: skip
"""of a file, with their types in Parquet"""
CHUNK = 50_000
RETRACTIONS = """SELECT 'retraction', x.change, g.gateway, g.recipient, x.place, x.channel, NULL,
NULL, NULL, NULL, x.ver, NULL, NULL, NULL, NULL, NULL, NULL, NULL, x.meter, x.occupancy, x.basis,
NULL, x.id, x.since, x.until, x.reason FROM retraction x JOIN sender g ON g.id = x.sender
WHERE x.change > ? AND x.change <= ? ORDER BY x.change"""
ROWS = """SELECT 'row', r.change, g.gateway, g.recipient, s.place, s.channel, s.kind, s.step,
SEC(r.t), r.last, r.ver, r.value, o.unit, r.q, r.why, r.flags, r.delay, r.dwellings, o.meter,
o.occupancy, o.basis, r.again, NULL, NULL, NULL, NULL
FROM reading r JOIN series s ON s.id = r.series JOIN source o ON o.id = r.source
JOIN sender g ON g.id = s.sender WHERE r.change > ? AND r.change <= ?"""


def export(store: Store, since: int, write: Write) -> tuple[int, int, int]:
    """Write all changes after `since`; the numbers of rows and retractions, and the last change."""
    last = store.end_change()
    counts = [0, 0]
    for n, sql in enumerate((RETRACTIONS, ROWS)):
        stream = iter(store.stream(sql, (since, last)))
        while rows := list(islice(stream, CHUNK)):
            write(rows)
            counts[n] += len(rows)
    return counts[1], counts[0], last


@contextmanager
def writing(form: str, out: Path | None) -> Iterator[Write]:
    """A function that writes rows. The file has its name only when it is complete.

    Raises ValueError if the form needs a library that is not there, or a file; OSError.
    """
    if out is None:
        if form != "csv":
            raise ValueError("Parquet needs --out FILE")
        yield _csv(sys.stdout)
        return
    part = out.with_name(f"{out.name}.part")
    try:
        if form == "csv":
            with part.open("w", encoding="utf-8", newline="") as file:
                yield _csv(file)
        else:
            with _parquet(part) as write:
                yield write
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _csv(file: TextIO) -> Callable[[Iterable[Sequence[Any]]], None]:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    return writer.writerows


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    try:
        import pyarrow as pa  # noqa: PLC0415 -- most receivers export nothing
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "Parquet needs the Python package pyarrow, which Debian does not have. As CSV it needs"
            " nothing more. Or: sudo apt install python3-pip &&"
            " sudo pip install --break-system-packages pyarrow"
        ) from None
    schema = pa.schema([(name, getattr(pa, typ)()) for name, typ in COLUMNS.items()])
    converted = {"float64": float, "bool_": bool}

    def cell(value: Any, typ: str) -> Any:
        return value if value is None else converted.get(typ, lambda same: same)(value)

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def write(rows: Sequence[Sequence[Any]]) -> None:
            columns = zip(*rows, strict=True)
            arrays = [
                pa.array([cell(value, typ) for value in cells], getattr(pa, typ)())
                for cells, typ in zip(columns, COLUMNS.values(), strict=True)
            ]
            writer.write_table(pa.table(arrays, schema=schema))

        yield write
