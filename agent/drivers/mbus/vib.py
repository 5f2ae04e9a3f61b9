"""The value information block (VIB): quantity, unit and modifiers of a value."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.drivers.mbus.tables import (
    FB_PAGE,
    FD_PAGE,
    FDFD_PAGE,
    PRIMARY_PAGE,
    RESERVED,
    CodeMeaning,
)
from agent.drivers.mbus.vife import COMBINABLE_PAGE, EXTENSION_PAGE, Vife

if TYPE_CHECKING:
    from collections.abc import Callable

CODE = 0x7F
FB, FD, FURTHER = 0xFB, 0xFD, 0xEF
PLAIN, COMBINABLE_FURTHER, MANUFACTURER = 0x7C, 0x7C, 0x7F


class Meaning(NamedTuple):
    """A decoded VIB."""

    quantity: str
    vif_unit: str
    """unit of the VIF alone"""
    unit: str
    """unit of the value: that of the VIF, unless VIFEs change it (to a duration, a rate)"""
    exponent: int
    """value = integer x factor x 10^exponent + 10^add"""
    kind: str
    """kind as in tables.py, or `P`: a compact profile"""
    factor: int
    add: int | None
    modifiers: tuple[str, ...]
    """in the order of the VIFEs"""
    error: str
    """the error that the meter reports for the record; "": none"""


@lru_cache(maxsize=1024)
def meaning(codes: bytes, text: str) -> Meaning:
    """Decode a VIF and its VIFEs; `text` is the unit of a plain-text VIF.

    Never raises: an unknown code is `reserved`. Cached, since meters send the same ones each time.
    """
    row, used = _row(codes, text)
    result = Meaning(
        row.quantity, row.unit, row.unit, row.exponent, row.kind, row.factor, None, (), ""
    )
    if codes[0] & CODE == MANUFACTURER:
        return _manufacturers(result, codes[1:])
    while used < len(codes):
        code, used = codes[used] & CODE, used + 1
        if code == MANUFACTURER:
            return _manufacturers(result, codes[used:])
        if code == COMBINABLE_FURTHER and used < len(codes):
            vife, used = EXTENSION_PAGE[codes[used] & CODE], used + 1
        else:
            vife = COMBINABLE_PAGE[code]
        result = _with(result, vife)
    return result


def _row(codes: bytes, text: str) -> tuple[CodeMeaning, int]:
    """The meaning of the VIF, and the number of codes that it consists of."""
    first, second = codes[0], codes[1] & CODE if len(codes) > 1 else 0
    if first & CODE == PLAIN:
        return CodeMeaning("plain text", text), 1
    if first == FB:
        return FB_PAGE[second], 2
    if first == FD and codes[1] == FD:
        return FDFD_PAGE[codes[2] & CODE], 3
    if first == FD:
        return FD_PAGE[second], 2
    if first == FURTHER:
        return RESERVED, 2
    return PRIMARY_PAGE[first & CODE], 1


def _with(before: Meaning, vife: Vife) -> Meaning:
    """The meaning after one more VIFE."""
    if vife.text:
        before = before._replace(modifiers=(*before.modifiers, vife.text))
    change = _EFFECTS.get(vife.effect)
    return before._replace(**change(before, vife.by)) if change else before


_EFFECTS: dict[str, Callable[[Meaning, str], dict[str, Any]]] = {
    "scale": lambda said, by: {"exponent": said.exponent + int(by)},
    "add": lambda _, by: {"add": int(by)},
    "per": lambda said, by: {"unit": f"{said.unit or 1}/{by}"},
    "by": lambda said, by: {"unit": f"{said.unit or 1}.{by}"},
    "date": lambda *_: {"unit": "", "kind": "T"},
    "time": lambda _, by: {"unit": by, "kind": "B", "exponent": 0, "factor": 1},
    "count": lambda *_: {"unit": "1", "kind": "C", "exponent": 0, "factor": 1},
    "profile": lambda *_: {"kind": "P"},
    "C": lambda *_: {"kind": "C"},
    "D": lambda *_: {"kind": "D"},
    "error": lambda _, by: {"error": by},
}


def _manufacturers(before: Meaning, codes: bytes) -> Meaning:
    """Add the VIFEs after FF, which the manufacturer defines: kept, never interpreted."""
    text = f"manufacturer {codes.hex(' ').upper()}" if codes else "manufacturer"
    return before._replace(modifiers=(*before.modifiers, text))
