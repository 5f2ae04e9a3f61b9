"""A batch as docs/batch.schema.json describes it, opened and checked. Pure.

Everything is checked here, so that what the database is given cannot fail in it: anybody with a
gateway's certificate may be at the other end.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LARGEST = 64 * 1024 * 1024
"""bytes of an opened batch"""
MOST_ROWS = 500_000
FIRST_SLOT, LAST_SLOT = 1_420_070_400, 2_524_608_000
"""2015 to 2050: a wrong clock must not make a partition for each month of a century"""
HIGHEST = 9_007_199_254_740_991
INT4 = 2_147_483_647
NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NUMBER = re.compile(r"-?\d{1,60}(\.\d{1,60})?([eE][+-]?\d{1,3})?")
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""PostgreSQL stores neither"""
KINDS = ("REG", "INT", "AVG", "INS", "EVT")
VOIDS = ("withdrawn", "retracted", "expired", "rejected", "gone")
QUALITIES = frozenset("VRSECKMW")
BEFORE = ("INT", "AVG")
"""kinds whose rows are for the time before their slot"""


class Rejected(ValueError):
    """These bytes will never be accepted; `id` if at least that could be read."""

    def __init__(self, reason: str, known: Id | None = None) -> None:
        super().__init__(reason)
        self.id = known


class Id(NamedTuple):
    """The id of a batch. Rule T1."""

    gateway: str
    recipient: str
    epoch: str
    seq: int


class Retraction(NamedTuple):
    """Rows to be removed and refused for ever. None: any value. Rule T19."""

    id: str
    place: str
    channel: str | None
    occupancy: str | None
    basis: str | None
    meter: str | None
    since: int
    until: int | None
    ver: int
    reason: str

    def concerns(self, channel: str, occupancy: str, basis: str, meter: str) -> bool:
        """Whether it may cover rows of such a series of its place."""
        return (  # asked for each series of a batch, of all retractions of its dwelling
            (self.basis is None or self.basis == basis)
            and (self.channel is None or self.channel == channel)
            and (self.occupancy is None or self.occupancy == occupancy)
            and (self.meter is None or self.meter == meter)
        )

    def slots(self, kind: str) -> tuple[int, int | None]:
        """The slots that it covers in rows of this kind, [first, end)."""
        later = 1 if kind in BEFORE else 0
        return self.since + later, None if self.until is None else self.until + later

    def covers(self, kind: str, t: int, ver: int) -> bool:
        """Whether it covers a row of one slot of a series that it concerns."""
        first, end = self.slots(kind)
        return ver <= self.ver and first <= t and (end is None or t < end)


class Row(NamedTuple):
    """One slot, or a run of slots without value."""

    t: int
    ver: int
    value: str | None
    q: str
    delay: int | None = None
    why: str | None = None
    flags: str | None = None
    dwellings: int | None = None
    slots: int = 1
    last: int | None = None
    """the last slot of a run; None: it is one slot"""

    def until_last(self, step: int) -> Row:
        """With its last slot, as its slots say."""
        return self._replace(last=self.t + (self.slots - 1) * step if self.slots > 1 else None)

    def parts(self, step: int, leaves: Callable[[int], bool]) -> Iterator[Row]:
        """The row without the slots that leave it, in as few rows as possible."""
        start = run = 0
        for n in range(self.slots):
            if leaves(self.t + n * step):
                if run:
                    yield self._replace(t=self.t + start * step, slots=run).until_last(step)
                start, run = n + 1, 0
            else:
                run += 1
        if run:
            yield self._replace(t=self.t + start * step, slots=run).until_last(step)


class Source(NamedTuple):
    """What rows of a batch have in common; '' where there is none."""

    place: str
    channel: str
    kind: str
    step: int
    unit: str
    meter: str
    occupancy: str
    basis: str


@dataclass(frozen=True)
class Batch:
    """One batch, opened."""

    id: Id
    sha256: str
    """of the bytes as they came"""
    size: int
    void: str | None = None
    lane: str = ""
    created: str = ""
    kept: str | None = None
    rows: dict[tuple[Source, bool], list[Row]] = field(default_factory=dict)
    """by source and `again`"""
    directory: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    retract: tuple[Retraction, ...] = ()


def opened(payload: bytes) -> Batch:
    """Open a batch as MQTT and HTTPS carry it: JSON in zstd. Raises Rejected."""
    try:
        # a frame that states its size is decompressed to that size, whatever the limit below says
        if zstandard.get_frame_parameters(payload).content_size > LARGEST:
            raise Rejected("it is too large when opened")
        text = zstandard.ZstdDecompressor().decompress(payload, max_output_size=LARGEST)
    except zstandard.ZstdError as error:
        raise Rejected(f"it is not zstd: {error}") from error
    return of_json(text, hashlib.sha256(payload).hexdigest(), len(payload))


def of_json(text: bytes, sha256: str, size: int) -> Batch:
    """Read the JSON of a batch. Raises Rejected."""
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_no_number)
        known = _id(document)
    except (ValueError, TypeError, LookupError, RecursionError, InvalidOperation) as error:
        raise Rejected(_why(error)) from error
    try:
        if document["schema"] != "gardien/batch/1":
            raise ValueError(f"unknown schema {document['schema']!r}")
        if "void" in document:
            return Batch(known, sha256, size, void=_void(document))
        return Batch(
            known,
            sha256,
            size,
            lane=_text(document["lane"]),
            created=_text(document["created"]),
            kept=_optional(document.get("kept")),
            rows=_series(document.get("series", [])),
            directory=_directory(document.get("directory", {})),
            retract=tuple(map(_retraction, document.get("retract", []))),
        )
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Rejected(_why(error), known) from error


def of_csv(text: bytes, sha256: str, size: int) -> Batch:
    """Read the table of a batch with rows, as files have it. Raises Rejected."""
    known = None
    try:
        table = csv.DictReader(io.StringIO(text.decode(), newline=""), delimiter=";")
        cells = next(table)
        gateway, recipient, epoch, seq = cells["batch"].split("/")
        known = Id(_name(gateway), _name(recipient), _name(epoch), _whole(int(seq), 1))
        rows: dict[tuple[Source, bool], list[Row]] = defaultdict(list)
        lane, created, batch = cells["lane"], cells["created"], cells["batch"]
        for line in _chained(cells, table):
            if line["batch"] != batch:
                raise ValueError("rows of two batches")
            source, again, row = _cells(line)
            rows[source, again].append(row)
        _bounded(rows)
        return Batch(known, sha256, size, lane=lane, created=created, rows=dict(rows))
    except (ValueError, TypeError, LookupError, AttributeError, StopIteration, csv.Error) as error:
        raise Rejected(_why(error), known) from error


@lru_cache(maxsize=10_000)
def second(moment: object) -> int:
    """Unix second of a moment as the contract writes it. Raises ValueError."""
    if not isinstance(moment, str) or not MOMENT.fullmatch(moment):
        raise ValueError(f"no moment: {moment!r}"[:80])
    return int(datetime.fromisoformat(moment).timestamp())


def written(t: int) -> str:
    """A Unix second as the contract writes it."""
    return f"{datetime.fromtimestamp(t, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _why(error: BaseException) -> str:
    words = str(error) or type(error).__name__
    return f"a member is missing: {words}" if isinstance(error, KeyError) else words[:200]


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _id(document: Any) -> Id:
    gateway, recipient, epoch = (_name(document[of]) for of in ("gateway", "recipient", "epoch"))
    return Id(gateway, recipient, epoch, _whole(document["seq"], 1))


def _void(document: dict[str, Any]) -> str:
    if document.keys() - {"schema", "gateway", "recipient", "epoch", "seq", "void"}:
        raise ValueError("a void has no other members")
    if document["void"] not in VOIDS:
        raise ValueError(f"unknown void {document['void']!r}"[:80])
    return str(document["void"])


def _series(written_series: Any) -> dict[tuple[Source, bool], list[Row]]:
    rows: dict[tuple[Source, bool], list[Row]] = defaultdict(list)
    for one in written_series:
        source = Source(
            _text(one["place"]),
            _text(one["channel"]),
            _kind(one["kind"]),
            _whole(one["step"], 0, INT4),
            _text(one["unit"]),
            _optional(one.get("meter")) or "",
            _optional(one.get("occupancy")) or "",
            _text(one["basis"]),
        )
        again = one.get("again", False)
        if not isinstance(again, bool):
            raise TypeError("`again` is true or absent")
        rows[source, again] += _rows(one, source.step)
    _bounded(rows)
    return dict(rows)


def _rows(one: dict[str, Any], step: int) -> list[Row]:
    start, times, values, qualities = second(one["t0"]), one["t"], one["v"], one["q"]
    made = [
        Row(start + _whole(t, 0), 0, _value(v, q), q)
        for t, v, q in zip(times, values, qualities, strict=True)
    ]
    for name, member, read in MEMBERS:
        if name in one:
            for index, content in one[name].items():
                at = int(index)
                made[at] = made[at]._replace(**{member: read(content)})  # type: ignore[arg-type]
    for row in made:
        _check(row, step)
    return [row if row.slots == 1 else row.until_last(step) for row in made]


def _check(row: Row, step: int) -> None:
    if row.slots == 1 and FIRST_SLOT <= row.t < LAST_SLOT:
        return
    if not FIRST_SLOT <= row.t <= row.t + (row.slots - 1) * step < LAST_SLOT:
        raise ValueError(f"a slot outside 2015 to 2050: {row.t}")
    if row.slots > 1 and (row.value is not None or not step):
        raise ValueError("a span with a value, or without step")


def _bounded(rows: dict[tuple[Source, bool], list[Row]]) -> None:
    if sum(map(len, rows.values())) > MOST_ROWS:
        raise ValueError(f"more than {MOST_ROWS} rows")


def _value(v: object, q: str) -> str | None:
    if q not in QUALITIES:
        raise ValueError(f"unknown quality {q!r}"[:80])
    if (v is None) != (q in "MW"):
        raise ValueError(f"a value {v!r} of quality {q}"[:80])
    if v is None:
        return None
    if isinstance(v, bool) or not isinstance(v, int | Decimal):
        raise TypeError(f"no number: {v!r}"[:80])
    return _digits(str(v))


def _digits(text: str) -> str:
    if not NUMBER.fullmatch(text):
        raise ValueError(f"no number: {text!r}"[:80])
    return text


def _directory(lists: Any) -> dict[str, list[dict[str, Any]]]:
    """Its items, with what the views need of each checked."""
    plain: dict[str, list[dict[str, Any]]] = json.loads(json.dumps(lists, default=str))
    for name, items in plain.items():
        _text(name)
        if name == "before":
            continue
        for item in items:
            _no_zero(json.dumps(item, ensure_ascii=False).replace("\\u0000", "\0"))
            for member in ("id", "place", "channel", "kind"):
                _optional(item.get(member))
            for member in ("since", "until"):
                _ = item.get(member) is None or second(item[member])
            _ = item.get("step") is None or _whole(item["step"], 0, INT4)
            _ = [_text(channel) for channel in item.get("channels") or ()]
    return plain


def _retraction(one: dict[str, Any]) -> Retraction:
    known = ("id", "place", "channel", "occupancy", "basis", "meter", "from", "to", "ver", "reason")
    if unknown := one.keys() - set(known):
        raise ValueError(f"a retraction has no {min(unknown)!r}"[:80])
    return Retraction(
        _text(one["id"]),
        _text(one["place"]),
        _optional(one.get("channel")),
        _optional(one.get("occupancy")),
        _optional(one.get("basis")),
        _optional(one.get("meter")),
        second(one["from"]),
        second(one["to"]) if "to" in one else None,
        _whole(one["ver"], -HIGHEST),
        _text(one["reason"]),
    )


def _cells(line: dict[str, str]) -> tuple[Source, bool, Row]:
    cells = {name: cell.removeprefix("'") for name, cell in line.items()}
    end = second(cells["t_end"])
    delay = second(cells["read_at"]) - end if cells["read_at"] else 0
    source = Source(
        _text(cells["place"]),
        _text(cells["channel"]),
        _kind(cells["kind"]),
        _whole(int(cells["step"]), 0, INT4),
        *(_no_zero(cells[name]) for name in ("unit", "meter", "occupancy", "basis")),
    )
    value = _digits(line["value"]) if line["value"] else None
    if (
        len(cells["q"]) != 1
        or cells["q"] not in QUALITIES
        or (value is None) != (cells["q"] in "MW")
    ):
        raise ValueError(f"a value {value} of quality {cells['q']}"[:80])
    row = Row(
        end,
        _whole(int(cells["ver"] or 0), 0),
        value,
        cells["q"],
        _delay(delay) or None,
        _no_zero(cells["why"]) or None,
        _no_zero(cells["flags"]) or None,
        _whole(int(cells["n"]), 1, INT4) if cells["n"] else None,
        _whole(int(cells["span"] or 1), 1, INT4),
    )
    _check(row, source.step)
    return source, cells["again"] == "1", row.until_last(source.step)


def _chained(first: dict[str, str], others: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    yield first
    yield from others


def _name(text: object) -> str:
    if not isinstance(text, str) or not NAME.fullmatch(text):
        raise ValueError(f"no name: {text!r}"[:80])
    return text


def _kind(text: object) -> str:
    if text not in KINDS:
        raise ValueError(f"unknown kind {text!r}"[:80])
    return str(text)


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"no text: {text!r}"[:80])
    return _no_zero(text)


def _no_zero(text: str) -> str:
    if UNSTORABLE.search(text):
        raise ValueError("a text with a sign that cannot be stored")
    return text


def _optional(text: object) -> str | None:
    return None if text is None else _text(text)


def _delay(number: object) -> int:
    return _whole(number, -INT4, INT4)


def _whole(number: object, least: int, most: int = HIGHEST) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"no whole number: {number!r}"[:80])
    if not least <= number <= most:
        raise ValueError(f"out of range: {number}")
    return number


MEMBERS: tuple[tuple[str, str, Callable[[Any], object]], ...] = (
    ("d", "delay", lambda n: _whole(n, -INT4, INT4)),
    ("why", "why", _text),
    ("flags", "flags", _text),
    ("ver", "ver", lambda n: _whole(n, 1)),
    ("n", "dwellings", lambda n: _whole(n, 1, INT4)),
    ("span", "slots", lambda n: _whole(n, 2, INT4)),
)
"""members by index: of the contract, of a row, and how they are read"""
