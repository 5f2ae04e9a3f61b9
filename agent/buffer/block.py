"""Packs rows into one compact body and back: columns, then zlib 1 (cheap; a poll fits a disk page).

A series is a number here: its eight members would be most of the body, so the spool keeps them
once, in a table. Pure; the spool seals the body.
"""

from __future__ import annotations

import json
import zlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.model import Reading, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LONGEST_VALUE = 64
"""digits, sign, point and exponent: so that one row always fits a message"""
LONGEST_WORD = 200
LAST_SECOND = 253_402_300_799
"""of the year 9999: the last second that RFC 3339 can write"""


class Extent(NamedTuple):
    """What the spool knows of a body without opening it."""

    t0: int
    """least slot of its rows (of a span: its last slot), seconds since 1970"""
    t1: int
    """greatest slot of its rows (of a span: its last slot)"""
    n: int
    """rows"""
    slots: int
    """slots they stand for"""


def lane_slot(row: Reading) -> int:
    """The slot that decides the lane: the last slot of a span."""
    return row.t + (row.span - 1) * row.series.step


def extent(rows: Sequence[Reading]) -> Extent:
    """Of at least one row."""
    slots = [lane_slot(row) for row in rows]
    return Extent(min(slots), max(slots), len(rows), sum(row.span for row in rows))


def pack(rows: Sequence[Reading], number_of: Mapping[Series, int]) -> bytes:
    """One body of at least one row. Raises ValueError on a row that no batch could carry."""
    start = rows[0].t
    columns: dict[str, Any] = {
        "s": [number_of[row.series] for row in rows],
        "t0": start,
        "t": [row.t - start for row in rows],
        "v": " ".join(_texts(rows)),
        "q": "".join([row.quality for row in rows]),
        "d": [row.delay for row in rows],
        "why": sparse((i, row.why) for i, row in enumerate(rows) if row.why),
        "span": sparse((i, row.span) for i, row in enumerate(rows) if row.span != 1),
        "ver": sparse((i, row.ver) for i, row in enumerate(rows) if row.ver is not None),
        "flags": sparse((i, row.flags) for i, row in enumerate(rows) if row.flags),
        "again": [i for i, row in enumerate(rows) if row.again],
    }
    if sums := sparse((i, [row.n, row.method]) for i, row in enumerate(rows) if row.method):
        columns["sum"] = sums
    # Checked before the rows are stored: a row that no batch can carry would block its lane for
    # ever.
    _check(rows, columns)
    return zlib.compress(json.dumps(columns, separators=(",", ":")).encode(), 1)


def unpack(body: bytes, series: Mapping[int, Series]) -> list[Reading]:
    """The rows of a body, in their order. Raises ValueError or KeyError on anything else."""
    columns = json.loads(zlib.decompress(body))
    start, again = columns["t0"], set(columns["again"])
    why, span, ver = columns["why"], columns["span"], columns["ver"]
    flags = columns.get("flags", {})  # a block of version 0.1 has none
    sums = columns.get("sum", {})
    return [
        Reading(
            series=series[number],
            t=start + t,
            value=Decimal(text) if text else None,
            quality=quality,
            delay=delay,
            why=why.get(str(i)),
            span=span.get(str(i), 1),
            ver=ver.get(str(i)),
            again=i in again,
            flags=flags.get(str(i), ""),
            n=sums.get(str(i), (None, ""))[0],
            method=sums.get(str(i), (None, ""))[1],
        )
        for i, (number, t, text, quality, delay) in enumerate(
            zip(
                columns["s"],
                columns["t"],
                columns["v"].split(" "),
                columns["q"],
                columns["d"],
                strict=True,
            )
        )
    ]


def sparse(pairs: Iterable[tuple[int, Any]]) -> dict[str, Any]:
    """A column with values for a few rows only, by index (JSON keys are texts)."""
    return {str(index): what for index, what in pairs}


def _texts(rows: Sequence[Reading]) -> list[str]:
    return ["" if row.value is None else str(row.value) for row in rows]


def _check(rows: Sequence[Reading], columns: Mapping[str, Any]) -> None:
    if len(columns["q"]) != len(rows):
        raise ValueError("a quality must be one letter")
    if max(map(len, columns["v"].split(" "))) > LONGEST_VALUE:
        raise ValueError(f"a value has more than {LONGEST_VALUE} characters")
    if any(row.value is not None and not row.value.is_finite() for row in rows):
        raise ValueError("a value is not a finite number")
    if any(row.span < 1 for row in rows):
        raise ValueError("a span must be at least one slot")
    if any(row.span != 1 and row.value is not None for row in rows):
        raise ValueError("a row with a value must have a span of one slot")
    if min(row.t for row in rows) < 0 or max(map(lane_slot, rows)) > LAST_SECOND:
        raise ValueError("a slot lies outside the years 1970 to 9999")


def check_series(series: Series) -> None:
    """Raise ValueError on a series whose members would not fit a message."""
    if any(isinstance(text, str) and len(text) > LONGEST_WORD for text in series):
        raise ValueError(f"a member of series {series.place} {series.channel} is too long")
