"""Split a payload into data blocks: DIB, VIB and data of each, without interpreting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.drivers.mbus.dib import CODINGS, lvar
from agent.drivers.mbus.vib import CODE, FB, FD, FURTHER, PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

FILLER = 0x2F
LAST, MORE = 0x0F, 0x1F
"""DIF of manufacturer data, to the end of the telegram; MORE: another telegram follows"""
SPECIAL = 0x0F
EXTENDED = 0x80
MOST_EXTENSIONS = 10


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
    error: str = ""
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
            block, at = DataBlock(at, b"", b"", payload[at:], error=str(why)), len(payload)
        yield block


def _block(payload: bytes, at: int, text_first: bool) -> tuple[DataBlock, int]:
    dif = payload[at]
    if dif & SPECIAL == SPECIAL:
        if dif not in (LAST, MORE):
            raise _CutShort(f"DIF {dif:02X} is reserved")
        return DataBlock(at, payload[at : at + 1], b"", payload[at + 1 :]), len(payload)
    vif = _chain(payload, at, "DIFE") if dif & EXTENDED else at + 1
    if vif < len(payload) and payload[vif] & CODE == PLAIN:
        return _plain(payload, at, vif, text_first)
    end = _chain(payload, vif, "VIFE")
    codes = payload[vif:end]
    if codes[0] >= FURTHER and len(codes) < _least(codes):
        raise _CutShort(f"VIF {codes.hex(' ').upper()} is not followed by its code")
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
        raise _CutShort("the telegram ends inside a record's header") from None
    if stop - at > MOST_EXTENSIONS:
        raise _CutShort(f"more than {MOST_EXTENSIONS} {name}s")
    return stop + 1


def _data(payload: bytes, dif: int, at: int) -> tuple[bytes, int, int]:
    """The data at `at`, its LVAR or -1, and its end."""
    length, mark = CODINGS[dif & SPECIAL].length, -1
    if length < 0:
        if at >= len(payload):
            raise _CutShort("the telegram ends before the LVAR of variable data")
        mark, at = payload[at], at + 1
        coding = lvar(mark)
        if coding is None:
            raise _CutShort(f"LVAR {mark:02X} is reserved")
        length = coding.length
    end = at + length
    if end > len(payload):
        raise _CutShort(f"a record of {length} bytes has only {len(payload) - at} left")
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
        raise _CutShort("the telegram ends before the text of a VIF")
    end = at + 1 + payload[at]
    text = payload[end - 1 : at : -1].decode("latin-1")
    if end > len(payload) or not text.isprintable():
        raise _CutShort("the text of a VIF is cut short or not printable")
    return text, end
