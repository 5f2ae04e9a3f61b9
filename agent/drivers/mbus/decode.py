"""Decode one telegram of a wired meter: `decode(bytes)`. Pure, without dependencies and state.

A record is identified over time by the bytes of its DIB and VIB. Names and units are for people and
for the mapping to channels. An invalid value is None with an error, never 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from agent.core.i18n import EMPTY, Text, text_of
from agent.drivers.mbus import blocks
from agent.drivers.mbus.blocks import LAST, MORE, DataBlock, Function, cut, meaning
from agent.drivers.mbus.frame import unwrap
from agent.drivers.mbus.telegram import (
    ENCRYPTED,
    FIXED,
    MALFORMED,
    MANUFACTURER_DATA,
    MSB_FIRST,
    ApplicationError,
    FixedCounter,
    MbusError,
    MeterValue,
    NoValue,
    Telegram,
    claimed,
    counters,
    plain,
    read,
)
from agent.drivers.mbus.value import bcd, integer, scaled, value

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.drivers.mbus.blocks import Meaning

__all__ = ["ApplicationError", "Function", "MbusError", "MeterValue", "Telegram", "decode"]

TEXT_BEFORE_VIFES = frozenset({"ELV"})
"""manufacturers whose plain-text VIFs have the text first, unlike the standard (Elvaco)"""


def decode(frame: bytes) -> Telegram:
    """Decode exactly one frame, from 68h to 16h.

    Raises MbusError if it is not a valid readout (ApplicationError if the meter reports an error),
    and nothing else, whatever the bytes. A malformed end does not raise: the last record has an
    error instead. An encrypted payload is not decoded: one record stands for it. Sources:
    EN 13757-2, EN 13757-3, EN 13757-7. Rule F13.
    """
    link = unwrap(bytes(frame))
    header, payload = read(link.ci, link.payload)
    if link.ci in FIXED:
        both = counters(payload, msb_first=link.ci in MSB_FIRST)
        records, more, encrypted = tuple(map(_counted, both)), False, EMPTY
    else:
        reverse, text_first = link.ci in MSB_FIRST, header.manufacturer in TEXT_BEFORE_VIFES
        records, more = _records(payload, text_first, reverse)
        # In old meters this field is a signature that may look like a security mode. So the claim
        # counts only if the payload cannot be decoded as it is.
        mode, count = claimed(header.configuration, len(payload))
        encrypted = EMPTY
        if mode and not plain(records):
            encrypted = Text("mode {mode}, {number} bytes", mode=mode, number=count)
        if encrypted:
            clear, more = _records(payload[count:], text_first, reverse)
            records = (
                _no_record(
                    ENCRYPTED,
                    Text("encrypted ({encrypted}), no key", encrypted=encrypted),
                    payload[:count],
                ),
                *clear,
            )
    return Telegram(link.address, link.ci, *header, records, more, encrypted)


def _records(
    payload: bytes, text_first: bool, reverse: bool
) -> tuple[tuple[MeterValue, ...], bool]:
    records = tuple(record(b, reverse=reverse) for b in cut(payload, text_first=text_first))
    return records, bool(records) and records[-1].dib == bytes((MORE,))


def record(block: DataBlock, *, reverse: bool = False) -> MeterValue:
    """Decode one block; `reverse`: its data has the most significant byte first."""
    _, dib, vib, sent, codes, text, mark, fault = block
    if fault:
        return _no_record(MALFORMED, fault, sent)
    if dib[0] in (LAST, MORE):
        return _manufacturers(block)
    front, coding, vib_meaning = _front(dib, codes, text)
    content: Decimal | str | None = None
    error = Text(vib_meaning.error) if vib_meaning.error else None
    if error is None:
        try:
            content = value(coding, sent[::-1] if reverse else sent, vib_meaning, mark)
        except NoValue as why:
            error = text_of(why)
    return MeterValue(*front, content, vib_meaning.modifiers, error, dib, vib, sent)


Front = tuple[Function, int, int, int, str, str, str]
"""the first members of a MeterValue: all that its DIB and VIB determine"""


@lru_cache(maxsize=1024)
def _front(dib: bytes, codes: bytes, text: str) -> tuple[Front, blocks.Coding, Meaning]:
    """Decode DIB and VIB of a block. Cached, since meters send the same ones each time."""
    head, vib_meaning = blocks.read(dib), meaning(codes, text)
    where = (head.function, head.storage, head.tariff, head.subunit)
    return (
        (*where, vib_meaning.quantity, vib_meaning.unit, vib_meaning.vif_unit),
        head.coding,
        vib_meaning,
    )


def _manufacturers(block: DataBlock) -> MeterValue:
    """The record of data after 0F or 1F: kept, never interpreted."""
    return _no_record(MANUFACTURER_DATA, None, block.data)._replace(
        dib=block.dib, value=block.data.hex(" ").upper()
    )


def _no_record(quantity: str, error: Text | None, data: bytes) -> MeterValue:
    return MeterValue(
        Function.INSTANTANEOUS, 0, 0, 0, quantity, "", "", None, (), error, b"", b"", data
    )


def _counted(counter: FixedCounter) -> MeterValue:
    content: Decimal | None = None
    error: Text | None = None
    try:
        number = integer(counter.data, signed=True) if counter.binary else bcd(counter.data)
        content = scaled(number, counter.unit.exponent)
    except NoValue as why:
        error = text_of(why)
    empty = _no_record(counter.unit.quantity, error, counter.data)
    return empty._replace(
        unit=counter.unit.unit,
        vif_unit=counter.unit.unit,
        storage=counter.storage,
        value=content,
        dib=bytes((counter.number,)),
        vib=bytes((counter.code,)),
    )
