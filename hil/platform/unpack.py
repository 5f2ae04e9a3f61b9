"""A batch as the published contract describes it (docs/batch.schema.json). Pure."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 64 * 1024 * 1024


class Id(NamedTuple):
    """Of one delivery, for ever."""

    gateway: str
    recipient: str
    epoch: str
    seq: int


class Row(NamedTuple):
    """One slot, or a run of missing ones, as it was sent."""

    place: str
    channel: str
    kind: str
    unit: str
    step: int
    meter: str | None
    occupancy: str | None
    basis: str
    t: int
    v: str | None
    """the number's own digits"""
    q: str
    d: int
    why: str | None
    span: int
    ver: int | None
    again: bool
    flags: str = ""
    n: int | None = None
    """dwellings in a sum"""


class Retract(NamedTuple):
    """Rows taken back for ever. None: whatever it is."""

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

    def covers(self, row: Row) -> bool:
        """Whether this row of one slot is to go: not where its `ver` is higher."""
        at = row.t - 1 if row.kind in ("INT", "AVG") else row.t
        return (
            (row.ver is None or row.ver <= self.ver)
            and self.since <= at
            and (self.until is None or at < self.until)
            and self.place == row.place
            and self.channel in (None, row.channel)
            and self.occupancy in (None, row.occupancy)
            and self.basis in (None, row.basis)
            and self.meter in (None, row.meter)
        )


class Parcel(NamedTuple):
    """One batch, opened."""

    id: Id
    sha256: str
    lane: str
    created: str
    rows: list[Row]
    directory: dict[str, list[dict[str, Any]]] = {}  # noqa: RUF012 -- a tuple's default, never changed
    """what changed of it, by list"""
    retract: tuple[Retract, ...] = ()
    void: str | None = None
    """why nothing is delivered under this id any more"""


class UnreadableError(ValueError):
    """Not a batch by the contract; `id` where at least that could be read."""

    def __init__(self, reason: str, known: Id | None = None) -> None:
        super().__init__(reason)
        self.id = known


class _Number(str):
    """A JSON number, digit by digit."""

    __slots__ = ()


def unpack(payload: bytes) -> Parcel:
    """Open one batch. Raises UnreadableError."""
    try:
        text = zstandard.ZstdDecompressor().decompress(payload, max_output_size=LARGEST)
    except zstandard.ZstdError as error:
        raise UnreadableError(str(error)) from error
    return parcel_of(text, hashlib.sha256(payload).hexdigest())


def parcel_of(text: bytes, sha256: str) -> Parcel:
    """Read the JSON of one batch; `sha256` of the bytes that it came in. Raises UnreadableError."""
    document = _document(text)
    known = None
    try:
        known = _id(document)
        if document["schema"] != "gardien/batch/1":
            raise ValueError(f"unknown schema {document['schema']}")
        if "void" in document:
            return Parcel(known, sha256, "", "", [], void=_reason(document))
        return Parcel(
            id=known,
            sha256=sha256,
            lane=document["lane"],
            created=document["created"],
            rows=[row for series in document.get("series", []) for row in _rows(series)],
            directory=_plain(document.get("directory", {})),
            retract=tuple(map(_retract, document.get("retract", []))),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(f"{type(error).__name__}: {error}", known) from error


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_no)
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    if not isinstance(document, dict):
        raise UnreadableError("not an object")
    return document


def _no(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def _id(document: dict[str, Any]) -> Id:
    words = [document[name] for name in ("gateway", "recipient", "epoch")]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("an id is made of words")
    gateway, recipient, epoch = words
    return Id(gateway, recipient, epoch, _whole(document["seq"]))


def _reason(document: dict[str, Any]) -> str:
    if document.keys() - {"schema", "gateway", "recipient", "epoch", "seq", "void"}:
        raise ValueError("a void says nothing else")
    if document["void"] not in ("withdrawn", "retracted", "expired", "rejected", "gone"):
        raise ValueError(f"unknown void {document['void']}")
    return str(document["void"])


def _retract(one: dict[str, Any]) -> Retract:
    words = ("id", "place", "channel", "occupancy", "basis", "meter", "from", "to", "ver", "reason")
    if unknown := one.keys() - set(words):
        raise ValueError(f"a retraction has no {min(unknown)}")
    return Retract(
        id=one["id"],
        place=one["place"],
        channel=one.get("channel"),
        occupancy=one.get("occupancy"),
        basis=one.get("basis"),
        meter=one.get("meter"),
        since=_second(one["from"]),
        until=_second(one["to"]) if "to" in one else None,
        ver=_whole(one["ver"]),
        reason=one["reason"],
    )


def _second(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def _rows(series: dict[str, Any]) -> Iterator[Row]:
    start = _second(series["t0"])
    columns = zip(series["t"], series["v"], series["q"], strict=True)
    for index, (t, v, q) in enumerate(columns):
        at = str(index)
        yield Row(
            place=series["place"],
            channel=series["channel"],
            kind=series["kind"],
            unit=series["unit"],
            step=_whole(series["step"]),
            meter=series.get("meter"),
            occupancy=series.get("occupancy"),
            basis=series["basis"],
            t=start + _whole(t),
            v=_value(v, q),
            q=q,
            d=_whole(series.get("d", {}).get(at, _Number(0))),
            why=series.get("why", {}).get(at),
            span=_whole(series.get("span", {}).get(at, _Number(1))),
            ver=_whole(series["ver"][at]) if at in series.get("ver", {}) else None,
            again=series.get("again", False),
            flags=series.get("flags", {}).get(at, ""),
            n=_whole(series["n"][at]) if at in series.get("n", {}) else None,
        )


def _plain(of: Any) -> Any:
    if isinstance(of, dict):
        return {key: _plain(value) for key, value in of.items()}
    if isinstance(of, list):
        return [_plain(one) for one in of]
    return int(of) if isinstance(of, _Number) else of


def _value(v: object, q: str) -> str | None:
    if v is None and q in "MW":
        return None
    if not isinstance(v, _Number) or q in "MW":
        raise ValueError(f"a value {v!r} of quality {q}")
    return str(v)


def _whole(number: object) -> int:
    if not isinstance(number, _Number):
        raise TypeError(f"expected a number, found {number!r}")
    return int(number)
