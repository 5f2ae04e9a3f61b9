"""Parses receipts, which anybody may have sent (docs/receipt.schema.json).

The parser is strict, because a receipt lets a batch be deleted: anything that is not exactly a
receipt is refused as a whole, and the batch stays.
"""

from __future__ import annotations

import re
from typing import Any

from agent.core.model import Receipt
from agent.trust.strict import json_of

SCHEMA = "gardien/receipt/1"
LARGEST = 1_000_000
"""bytes; a receipt that names 9 batches has less than a thousand"""
MOST_MARKS = 100_000
"""strings, brackets, commas and colons: more than the largest real receipt has"""
LONGEST_STRING = 100_000
LONGEST_PAUSE = 86_400
LONGEST_REASON = 200
LARGEST_SEQ = 2**53
"""every JSON reader counts exactly up to here"""
NEEDED = {"schema", "gateway", "recipient", "epoch"}
ALLOWED = NEEDED | {"stored", "rejected", "retracted", "slow_down"}
HASH = re.compile(r"[0-9a-f]{64}")
IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,253}")


def parse(body: bytes) -> Receipt:
    """Parse a receipt. Raises ValueError, with a message for the platform, on anything else."""
    document = _document(body)
    if unknown := document.keys() - ALLOWED:
        raise ValueError(f"a receipt must not have a member {min(unknown)!r}")
    if missing := NEEDED - document.keys():
        raise ValueError(f"the receipt lacks the member {min(missing)!r}")
    if document["schema"] != SCHEMA:
        raise ValueError(f"not a receipt of schema {SCHEMA}")
    stored = tuple(_stored(entry) for entry in _entries(document, "stored"))
    rejected = tuple(_rejected(entry) for entry in _entries(document, "rejected"))
    retracted = tuple(_retracted(entry) for entry in _entries(document, "retracted"))
    _each_once([seq for seq, _ in stored] + [seq for seq, _, _ in rejected])
    return Receipt(
        gateway=_identifier(document, "gateway"),
        recipient=_identifier(document, "recipient"),
        epoch=_identifier(document, "epoch"),
        stored=stored,
        rejected=rejected,
        retracted=retracted,
        slow_down=_pause(document.get("slow_down", 0)),
    )


def _document(body: bytes) -> dict[str, Any]:
    if len(body) > LARGEST:
        raise ValueError(f"a receipt must have at most {LARGEST} bytes")
    # Bounded before parsing: the bytes may come from anybody.
    document = json_of(body, "a receipt", marks=MOST_MARKS, longest=LONGEST_STRING)
    if not isinstance(document, dict):
        raise ValueError("a receipt must be a JSON object")  # noqa: TRY004 -- one error for all of it
    return document


def _entries(document: dict[str, Any], name: str) -> list[list[Any]]:
    entries = document.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, list) for entry in entries):
        raise ValueError(f"`{name}` must be a list of lists")
    return entries


def _stored(entry: list[Any]) -> tuple[int, str]:
    match entry:
        case [seq, digest]:
            return _seq(seq), _hash(digest)
    raise ValueError("an entry of `stored` must be [seq, sha256]")


def _rejected(entry: list[Any]) -> tuple[int, str, str]:
    match entry:
        case [seq, digest, str(reason)]:
            return _seq(seq), _hash(digest), _printable(reason)
    raise ValueError("an entry of `rejected` must be [seq, sha256, reason]")


def _retracted(entry: list[Any]) -> tuple[str, int]:
    match entry:
        case [str(id_), rows] if IDENTIFIER.fullmatch(id_) and _whole(rows):
            return id_, int(rows)
    raise ValueError("an entry of `retracted` must be [id, rows]")


def _whole(number: object) -> bool:
    # `isinstance` would accept a bool
    return type(number) is int and 0 <= number <= LARGEST_SEQ


def _seq(seq: Any) -> int:
    if not _whole(seq):
        raise ValueError("a seq must be a whole number")
    return int(seq)


def _hash(digest: object) -> str:
    if not isinstance(digest, str) or not HASH.fullmatch(digest):
        raise ValueError("a sha256 must have 64 digits 0-9 a-f")
    return digest


def _identifier(document: dict[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise ValueError(f"`{name}` must be 1 to 253 letters, digits and . _ -")
    return value


def _pause(seconds: Any) -> int:
    if not _whole(seconds) or seconds > LONGEST_PAUSE:
        raise ValueError(f"`slow_down` must be 0 to {LONGEST_PAUSE} whole seconds")
    return int(seconds)


def _printable(reason: str) -> str:
    """The reason on one line without control characters and surrogates, because it is logged."""
    return "".join(c if c.isprintable() else " " for c in reason[:LONGEST_REASON])


def _each_once(seqs: list[int]) -> None:
    if len(set(seqs)) != len(seqs):
        raise ValueError("a receipt must name each seq once")
