"""Data blocks of a payload: DIB, VIB with its modifiers, and data, not interpreted (EN 13757-3)."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.i18n import EMPTY, N_, Text, text_of
from agent.drivers.mbus.tables import (
    FB_PAGE,
    FD_PAGE,
    FDFD_PAGE,
    PRIMARY_PAGE,
    RESERVED,
    CodeMeaning,
    matches,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RANGES = (
    (0x00, 0xBF, "text", lambda lvar: lvar),
    # editions before 2018 go on to CF and DF with the same lengths
    (0xC0, 0xCF, "BCD", lambda lvar: lvar - 0xC0),
    (0xD0, 0xDF, "negative BCD", lambda lvar: lvar - 0xD0),
    (0xE0, 0xEF, "integer", lambda lvar: lvar - 0xE0),
    (0xF0, 0xF4, "integer", lambda lvar: 4 * (lvar - 0xEC)),
    (0xF5, 0xF5, "integer", lambda _: 48),
    (0xF6, 0xF6, "integer", lambda _: 64),
)
COMBINABLE = """
0010010|average|
0010011|inverse compact profile|profile
0010100|relative deviation|
0011101|standard conform data content|
0011110|compact profile with register numbers|profile
0011111|compact profile|profile
0100000|per second|per s
0100001|per minute|per min
0100010|per hour|per h
0100011|per day|per d
0100100|per week|per week
0100101|per month|per month
0100110|per year|per year
0100111|per revolution|per rev
010100p|per input pulse on channel {p}|per pulse
010101p|per output pulse on channel {p}|per pulse
0101100|per litre|per l
0101101|per m3|per m3
0101110|per kg|per kg
0101111|per K|per K
0110000|per kWh|per kWh
0110001|per GJ|per GJ
0110010|per kW|per kW
0110011|per K and litre|per (K.l)
0110100|per V|per V
0110101|per A|per A
0110110|multiplied by s|by s
0110111|multiplied by s/V|by s/V
0111000|multiplied by s/A|by s/A
0111001|start of|date
0111010|uncorrected|
0111011|positive contributions only|
0111100|negative contributions only, absolute|
0111101|non-metric units|
0111110|at base conditions|
0111111|OBIS declaration|
100u000|{u} limit|
100u001|exceeds of {u} limit|count
100uf1b|{b} of {f} {u} limit exceed|date
101ufnn|duration of {f} {u} limit exceed|time
1100fnn|duration of {f}|time
1101u00|during {u} limit exceed|
1101001|leakage|
1101101|overflow|
1101f1b|{b} of {f}|date
1110nnn||scale -6
11110nn|corrected by a constant|add -3
1111101||scale 3
1111110|future value|
"""

EXTENSION = """
0000001|phase L1|
0000010|phase L2|
0000011|phase L3|
0000100|neutral|
0000101|between L1 and L2|
0000110|between L2 and L3|
0000111|between L3 and L1|
0001000|quadrant Q1|
0001001|quadrant Q2|
0001010|quadrant Q3|
0001011|quadrant Q4|
0001100|import minus export|
0001101|non-metric units|
0001110|secondary sensor|
0001111|higher resolution|
0010000|absolute value of both contributions|
0010001|unsigned|C
0010010|bits|D
"""
"""codes after FC; those that differ between editions (13h and higher) are left reserved"""

ERRORS = {
    0x00: "",
    0x01: N_("too many DIFEs"),
    0x02: N_("storage number not implemented"),
    0x03: N_("subunit not implemented"),
    0x04: N_("tariff not implemented"),
    0x05: N_("function not implemented"),
    0x06: N_("data class not implemented"),
    0x07: N_("data size not implemented"),
    0x0B: N_("too many VIFEs"),
    0x0C: N_("illegal VIF group"),
    0x0D: N_("illegal VIF exponent"),
    0x0E: N_("VIF does not fit DIF"),
    0x0F: N_("action not implemented"),
    0x15: N_("no data available"),
    0x16: N_("data overflow"),
    0x17: N_("data underflow"),
    0x18: N_("data error"),
    0x1C: N_("premature end of record"),
}
"""VIFE E00x xxxx: the error that a meter reports for the record"""

ERROR_CODES = range(0x20)
CODE = 0x7F
FB, FD, FURTHER = 0xFB, 0xFD, 0xEF
PLAIN, COMBINABLE_FURTHER, MANUFACTURER = 0x7C, 0x7C, 0x7F


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
FILLER = 0x2F
LAST, MORE = 0x0F, 0x1F
"""DIF of manufacturer data, to the end of the telegram; MORE: another telegram follows"""
SPECIAL = 0x0F
EXTENDED = 0x80
MOST_EXTENSIONS = 10


class Function(StrEnum):
    """The kind of value (EN 13757-3, function field)."""

    INSTANTANEOUS = "instantaneous"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    ERROR = "error"
    """value during error state"""


FUNCTIONS = tuple(Function)


class Coding(NamedTuple):
    """The coding in a data field: its name and its length in bytes."""

    name: str
    length: int
    """-1: the first byte of the data gives it"""


CODINGS = (
    Coding("none", 0),
    Coding("integer", 1),
    Coding("integer", 2),
    Coding("integer", 3),
    Coding("integer", 4),
    Coding("real", 4),
    Coding("integer", 6),
    Coding("integer", 8),
    Coding("selection", 0),
    Coding("BCD", 1),
    Coding("BCD", 2),
    Coding("BCD", 3),
    Coding("BCD", 4),
    Coding("variable", -1),
    Coding("BCD", 6),
    Coding("special", 0),
)


class Dib(NamedTuple):
    """A decoded DIB."""

    function: Function
    storage: int
    tariff: int
    subunit: int
    coding: Coding


@lru_cache(maxsize=1024)
def read(dib: bytes) -> Dib:
    """Decode a DIF and its DIFEs (EN 13757-3, 6.3). Cached, since meters repeat them."""
    dif = dib[0]
    storage, tariff, subunit = dif >> 6 & 1, 0, 0
    for n, dife in enumerate(dib[1:]):
        storage |= (dife & 0x0F) << 1 + 4 * n
        tariff |= (dife >> 4 & 3) << 2 * n
        subunit |= (dife >> 6 & 1) << n
    return Dib(FUNCTIONS[dif >> 4 & 3], storage, tariff, subunit, CODINGS[dif & 0x0F])


class Lvar(NamedTuple):
    """The coding that the first byte of variable-length data gives."""

    name: str
    length: int


def lvar(byte: int) -> Lvar | None:
    """The coding of an LVAR byte; None for the reserved F7 to FF."""
    for first, last, name, length in _RANGES:
        if first <= byte <= last:
            return Lvar(name, length(byte))
    return None


class Vife(NamedTuple):
    """The meaning of one VIFE."""

    text: str
    """for people; "": the value itself already shows it"""
    effect: str = ""
    by: str = ""
    """parameter of the effect: a unit, an exponent or an error text"""


def _expand(text: str) -> tuple[Vife | None, ...]:
    lines = [line.split("|") for line in text.split("\n") if line]
    return tuple(_vife(lines, code) for code in range(128))


def _vife(lines: list[list[str]], code: int) -> Vife | None:
    for bits, text, effect in lines:
        letters = matches(bits, code)
        if letters is not None:
            return _filled(text, effect, letters)
    return None


def _filled(template: str, effect: str, letters: dict[str, int]) -> Vife:
    n = letters.get("n", 0)
    text = template.format(
        u=("lower", "upper")[letters.get("u", 0)],
        f=("first", "last")[letters.get("f", 0)],
        b=("begin", "end")[letters.get("b", 0)],
        p=letters.get("p", 0),
    )
    verb, _, by = effect.partition(" ")
    if verb == "time":
        by = ("s", "min", "h", "d")[n]
    elif verb in ("scale", "add"):
        by = str(int(by) + n)
    return Vife(text, verb, by)


def _error(code: int) -> Vife:
    text = ERRORS.get(code, f"reserved error code {code:02X}h")
    return Vife(text, "error", text)


COMBINABLE_PAGE = tuple(
    vife or (_error(code) if code in ERROR_CODES else Vife(f"reserved VIFE {code:02X}h"))
    for code, vife in enumerate(_expand(COMBINABLE))
)


EXTENSION_PAGE = tuple(
    vife or Vife(f"reserved VIFE FC {code:02X}h") for code, vife in enumerate(_expand(EXTENSION))
)


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


def _manufacturers(before: Meaning, codes: bytes) -> Meaning:
    """Add the VIFEs after FF, which the manufacturer defines: kept, never interpreted."""
    text = f"manufacturer {codes.hex(' ').upper()}" if codes else "manufacturer"
    return before._replace(modifiers=(*before.modifiers, text))


class DataBlock(NamedTuple):
    """One data block, uninterpreted."""

    start: int
    """offset in the payload"""
    dib: bytes
    vib: bytes
    data: bytes
    """without LVAR"""
    codes: bytes = b""
    """the VIB without its plain text"""
    text: str = ""
    """the plain text of the VIB"""
    lvar: int = -1
    """first byte of variable-length data; -1: the DIF gives the length"""
    error: Text = EMPTY
    """why the payload cannot be split from here on; `data` is the rest"""


class _CutShort(Exception):
    """The block is not complete, or not valid."""


def cut(payload: bytes, *, text_first: bool) -> Iterator[DataBlock]:
    """The data blocks of a payload, in order, without idle filler (2F).

    If the rest is not valid, the last block has an `error`; nothing is raised. In a plain-text VIB
    the text is before or after the VIFEs. `text_first` gives the order that is tried first; the
    other one is used if that does not fit.
    """
    at = 0
    while at < len(payload):
        if payload[at] == FILLER:
            at += 1
            continue
        try:
            block, at = _block(payload, at, text_first)
        except _CutShort as why:
            block, at = DataBlock(at, b"", b"", payload[at:], error=text_of(why)), len(payload)
        yield block


def _block(payload: bytes, at: int, text_first: bool) -> tuple[DataBlock, int]:
    dif = payload[at]
    if dif & SPECIAL == SPECIAL:
        if dif not in (LAST, MORE):
            raise _CutShort(Text("DIF {dif:02X} is reserved", dif=dif))
        return DataBlock(at, payload[at : at + 1], b"", payload[at + 1 :]), len(payload)
    vif = _chain(payload, at, "DIFE") if dif & EXTENDED else at + 1
    if vif < len(payload) and payload[vif] & CODE == PLAIN:
        return _plain(payload, at, vif, text_first)
    end = _chain(payload, vif, "VIFE")
    codes = payload[vif:end]
    if codes[0] >= FURTHER and len(codes) < _least(codes):
        raise _CutShort(
            Text("VIF {codes} is not followed by its code", codes=codes.hex(" ").upper())
        )
    data, mark, stop = _data(payload, dif, end)
    return DataBlock(at, payload[at:vif], codes, data, codes, "", mark), stop


def _least(codes: bytes) -> int:
    if codes[0] == FD and codes[1:2] == bytes((FD,)):
        return 3
    return 2 if codes[0] in (FB, FD, FURTHER) else 1


def _chain(payload: bytes, at: int, name: str) -> int:
    """The end of the byte at `at` and its extension bytes."""
    stop = at
    try:
        while payload[stop] & EXTENDED:
            stop += 1
    except IndexError:
        raise _CutShort(Text("the telegram ends inside a record's header")) from None
    if stop - at > MOST_EXTENSIONS:
        raise _CutShort(Text("more than {number} {name}s", number=MOST_EXTENSIONS, name=name))
    return stop + 1


def _data(payload: bytes, dif: int, at: int) -> tuple[bytes, int, int]:
    """The data at `at`, its LVAR or -1, and its end."""
    length, mark = CODINGS[dif & SPECIAL].length, -1
    if length < 0:
        if at >= len(payload):
            raise _CutShort(Text("the telegram ends before the LVAR of variable data"))
        mark, at = payload[at], at + 1
        coding = lvar(mark)
        if coding is None:
            raise _CutShort(Text("LVAR {mark:02X} is reserved", mark=mark))
        length = coding.length
    end = at + length
    if end > len(payload):
        raise _CutShort(
            Text(
                "a record of {length} bytes has only {number} left",
                length=length,
                number=len(payload) - at,
            )
        )
    return payload[at:end], mark, end


def _plain(payload: bytes, at: int, vif: int, text_first: bool) -> tuple[DataBlock, int]:
    """A block with a plain-text VIF. Both orders occur in the field, so both are tried."""
    # With the wrong order the lengths rarely fit the rest of the payload, so the other one is
    # tried after an error.
    for first in (text_first, not text_first):
        try:
            return _plain_block(payload, at, vif, first)
        except _CutShort as error:
            why = error
    raise why


def _plain_block(payload: bytes, at: int, vif: int, text_first: bool) -> tuple[DataBlock, int]:
    if text_first or payload[vif] == PLAIN:
        text, codes_at = _text(payload, vif + 1)
        end = _chain(payload, codes_at, "VIFE") if payload[vif] & EXTENDED else codes_at
        codes = payload[vif : vif + 1] + payload[codes_at:end]
    else:
        codes_at = _chain(payload, vif, "VIFE")
        text, end = _text(payload, codes_at)
        codes = payload[vif:codes_at]
    data, mark, stop = _data(payload, payload[at], end)
    return DataBlock(at, payload[at:vif], payload[vif:end], data, codes, text, mark), stop


def _text(payload: bytes, at: int) -> tuple[str, int]:
    """The text at `at`, and its end. Its first byte is its length; the last character is first."""
    if at >= len(payload):
        raise _CutShort(Text("the telegram ends before the text of a VIF"))
    end = at + 1 + payload[at]
    text = payload[end - 1 : at : -1].decode("latin-1")
    if end > len(payload) or not text.isprintable():
        raise _CutShort(Text("the text of a VIF is cut short or not printable"))
    return text, end
