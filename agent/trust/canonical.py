"""Canonical JSON for hashing (RFC 8785), limited to what gardien writes: no fractions."""

from __future__ import annotations

import json
from typing import Any

LARGEST = 2**53 - 1
"""the largest integer that all JSON readers represent exactly"""


def canonical(value: Any) -> bytes:
    """Encode with members sorted by UTF-16 code units and without spaces.

    Raises ValueError on a fraction, an integer beyond 2⁵³ or a lone surrogate.
    """
    return _text(value).encode("utf-8")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        # Python's order of text differs from RFC 8785 for characters beyond U+FFFF
        members = sorted(value.items(), key=lambda member: _units(member[0]))
        return "{" + ",".join(f"{_text(name)}:{_text(inner)}" for name, inner in members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(inner) for inner in value) + "]"
    # before numbers: for Python True is an int, and `True` is not JSON
    if isinstance(value, bool | str) or value is None:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int) and abs(value) <= LARGEST:
        return str(value)
    raise ValueError(f"{value!r} has no canonical form here")


def _units(name: object) -> bytes:
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is not a member name")  # noqa: TRY004 -- one kind of fault
    return name.encode("utf-16-be")
