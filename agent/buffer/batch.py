"""Rows as bytes: the JSON of one batch for a recipient, and compact blocks for the disk."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

from agent.core.clock import stamp
from agent.core.model import Reading, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.core.model import BatchId, Lane, Void

LONGEST_VALUE = 64
"""digits, sign, point and exponent: so that one row always fits a message"""
LONGEST_WORD = 200
LAST_SECOND = 253_402_300_799
"""of the year 9999: the last second that RFC 3339 can write"""
SCHEMA = "gardien/batch/1"
POLICY = "MDP-1"
"""policy on missing, late and implausible values: docs/policy.md"""
SMALL = 256 * 1024
"""bytes of JSON; batches for MQTT and HTTPS are hardly ever larger"""
LEVEL, LEVEL_OF_LARGE, LEVEL_OF_VOID = 17, 9, 9
"""zstd levels. Level 17 makes a small batch a sixth smaller for 20 ms of work. A large batch
becomes a table in a file, and level 17 would need 50 MB of memory. The level of voids must never
change: a void that is made again must have the same bytes
"""
OWN = ("place", "occupancy", "basis", "meter")
"""members with random ids: written next to each other, so that zstd can copy the rest in one
piece
"""
LARGEST_TEXT = 64 * 1024 * 1024
"""bytes of JSON that a payload may decompress to"""


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


@dataclass(frozen=True, slots=True)
class BatchHead:
    """The statements of every batch of one spool."""

    gateway: str
    recipient: str
    """a DNS name"""
    privacy: str
    """name of the privacy policy in force, such as FR-1"""
    audit: Callable[[], str | None] = lambda: None
    """hash of the last record of the audit chain"""
    kept: str = ""
    """`memory`: waiting rows are not on the disk, and lost in a power cut"""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The statements of one batch about itself."""

    id: BatchId
    lane: Lane
    created: float
    """seconds since 1970 UTC"""
    clock: str
    privacy: str
    audit: str | None = None
    kept: str = ""


def write(label: Stamp, rows: Sequence[Reading]) -> bytes:
    """The payload of a batch: the rows of each series together, in their order; series by place."""
    series = ",".join(_object(of[0].series, of) for of in _by_series(rows))
    return _compressed(f'{_json(_head(label))[:-1]},"series":[{series}]}}')


def write_directory(label: Stamp, directory: dict[str, Any]) -> bytes:
    """The payload of a batch without rows that carries directory items."""
    return _compressed(_json(_head(label) | {"series": [], "directory": directory}))


def write_retractions(label: Stamp, retractions: Sequence[dict[str, Any]]) -> bytes:
    """The payload of a batch without rows that retracts rows of other batches."""
    return _compressed(_json(_head(label) | {"series": [], "retract": retractions}))


def write_void(id_: BatchId, reason: Void) -> bytes:
    """The payload of a void; always the same bytes for an id and a reason (rule T5)."""
    return _compressed(_json(_id(id_) | {"void": reason.value}), LEVEL_OF_VOID)


def _head(label: Stamp) -> dict[str, Any]:
    members = _id(label.id) | {
        "lane": label.lane.value,
        "created": stamp(label.created),
        "clock": label.clock,
        "policy": POLICY,
        "privacy": label.privacy,
    }
    optional = {"audit": label.audit, "kept": label.kept}
    return members | {name: value for name, value in optional.items() if value}


def _id(id_: BatchId) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "gateway": id_.gateway,
        "recipient": id_.recipient,
        "epoch": id_.epoch,
        "seq": id_.seq,
    }


def _compressed(text: str, level: int | None = None) -> bytes:
    body = text.encode()
    # A low level for large batches: see LEVEL.
    usual = LEVEL if len(body) <= SMALL else LEVEL_OF_LARGE
    return zstandard.ZstdCompressor(level=level or usual).compress(body)


def read(payload: bytes) -> list[Reading]:
    """The rows of one of our payloads, series by series; a void has none.

    Raises ValueError on anything else.
    """
    try:
        # No float on the way: 0.1 must stay 0.1, and trailing zeros are digits of the meter.
        document = json.loads(_text(payload), parse_float=Decimal, parse_int=_number)
        series = [] if "void" in document else document["series"]
        return [row for of in series for row in read_rows(of)]
    except (zstandard.ZstdError, LookupError, TypeError) as error:
        raise ValueError(f"not a batch: {error!r}") from error


def read_retractions(payload: bytes) -> list[dict[str, Any]]:
    """The retractions in one of our payloads, as they were sent."""
    retract: list[dict[str, Any]] = json.loads(_text(payload)).get("retract", [])
    return retract


def read_audit(payload: bytes) -> str | None:
    """The hash of the audit chain in one of our payloads; None: it has none."""
    audit: str | None = json.loads(_text(payload)).get("audit")
    return audit


def parts(payload: bytes) -> int:
    """Rows of one of our payloads, or its directory items and retractions: into how many it can be
    divided.
    """
    document = json.loads(_text(payload))
    lists = (items for items in document.get("directory", {}).values() if isinstance(items, list))
    items = sum(len(entries) for entries in lists) + len(document.get("retract", ()))
    return items or len(read(payload))


def _text(payload: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(payload, max_output_size=LARGEST_TEXT)


class _Number(int):
    """An integer that keeps its digits: -0 and 007 must be sent as they were read."""

    text: str


def _number(text: str) -> _Number:
    number = _Number(text)
    number.text = text
    return number


def _by_series(rows: Sequence[Reading]) -> list[list[Reading]]:
    groups: dict[tuple[Series, bool], list[Reading]] = {}
    for row in rows:
        groups.setdefault((row.series, row.again), []).append(row)
    return sorted(groups.values(), key=lambda of: (of[0].series.place, of[0].series.channel))


def _object(series: Series, rows: Sequence[Reading]) -> str:
    start = min(row.t for row in rows)
    fields_of = {name: value for name, value in series._asdict().items() if value is not None}
    # Last in the object, so that everything before them is the same text for every dwelling.
    own = {name: fields_of.pop(name) for name in OWN if name in fields_of}
    members: dict[str, Any] = fields_of | {
        "t0": stamp(start),
        "t": [row.t - start for row in rows],
        "q": "".join(row.quality for row in rows),
    }
    members |= {name: column for name, column in _sparse(rows) if column}
    if rows[0].again:
        members["again"] = True
    members |= own
    values = ",".join("null" if row.value is None else str(row.value) for row in rows)
    return f'{_json(members)[:-1]},"v":[{values}]}}'


def _sparse(rows: Sequence[Reading]) -> Iterable[tuple[str, dict[str, Any]]]:
    yield "d", sparse((i, row.delay) for i, row in enumerate(rows) if row.delay)
    yield "flags", sparse((i, row.flags) for i, row in enumerate(rows) if row.flags)
    yield "why", sparse((i, row.why) for i, row in enumerate(rows) if row.why)
    yield "span", sparse((i, row.span) for i, row in enumerate(rows) if row.span != 1)
    yield "ver", sparse((i, row.ver) for i, row in enumerate(rows) if row.ver is not None)
    yield "n", sparse((i, row.n) for i, row in enumerate(rows) if row.n is not None)
    yield "method", sparse((i, row.method) for i, row in enumerate(rows) if row.method)


def read_rows(of: dict[str, Any]) -> Iterable[Reading]:
    """The rows of one series of our payload. Without its exact numbers, values are not exact."""
    fields_of: dict[str, Any] = {name: of.get(name) for name in Series._fields}
    series = Series(**fields_of | {"step": int(of["step"])})
    start = int(datetime.fromisoformat(of["t0"]).timestamp())
    delay, why = of.get("d", {}), of.get("why", {})
    span, ver, flags = of.get("span", {}), of.get("ver", {}), of.get("flags", {})
    n, method = of.get("n", {}), of.get("method", {})
    for i, (t, value, quality) in enumerate(zip(of["t"], of["v"], of["q"], strict=True)):
        made, many = ver.get(str(i)), n.get(str(i))
        yield Reading(
            series=series,
            t=start + int(t),
            value=Decimal(value.text) if isinstance(value, _Number) else value,
            quality=quality,
            delay=int(delay.get(str(i), 0)),
            why=why.get(str(i)),
            span=int(span.get(str(i), 1)),
            ver=None if made is None else int(made),
            again=of.get("again", False),
            flags=flags.get(str(i), ""),
            n=None if many is None else int(many),
            method=method.get(str(i), ""),
        )


def _json(members: dict[str, Any]) -> str:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))
