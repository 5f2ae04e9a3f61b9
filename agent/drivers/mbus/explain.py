"""Explain a frame byte by byte, for installers and for bug reports."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.core.i18n import Text, joined
from agent.drivers.mbus import blocks
from agent.drivers.mbus.blocks import FILLER, LAST, MORE, DataBlock, cut
from agent.drivers.mbus.decode import TEXT_BEFORE_VIFES, record
from agent.drivers.mbus.frame import unwrap
from agent.drivers.mbus.telegram import BARE, FIXED, LONG, MSB_FIRST, Header, medium, read, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.drivers.mbus.telegram import MeterValue, Telegram

ROW = 8
"""bytes in one line of output"""
HEADER = ("manufacturer", "id", "version", "medium", "access", Text("status"))


def explained(data: bytes) -> Iterator[str]:
    """Lines `bytes  meaning` for one frame, in the order of its bytes.

    Raises MbusError where `decode` does, after the lines of the valid part.
    """
    link = unwrap(data)
    yield from _line(data[:4], Text("start, {number} bytes follow", number=data[1]))
    yield from _line(data[4:5], Text("C: answer of a meter"))
    yield from _line(data[5:6], Text("A: primary address {address}", address=link.address))
    yield from _line(data[6:7], Text("CI: {kind}", kind=_ci(link.ci)))
    header, payload = read(link.ci, link.payload)
    yield from _header(link.payload, link.ci, header)
    if link.ci in FIXED:
        yield from _fixed(payload)
    else:
        text_first = header.manufacturer in TEXT_BEFORE_VIFES
        yield from _blocks(payload, text_first, link.ci in MSB_FIRST)
    yield from _line(data[-2:-1], Text("checksum, right"))
    yield from _line(data[-1:], Text("stop"))


def _line(data: bytes, meaning: Text) -> Iterator[str]:
    yield f"{data[:ROW].hex(' ').upper():{3 * ROW}} {meaning.in_language()}"
    for at in range(ROW, len(data), ROW):
        yield data[at : at + ROW].hex(" ").upper()


def _ci(ci: int) -> Text:
    parts = [Text("records")]
    if ci in FIXED:
        parts = [Text("fixed data structure")]
    elif ci in LONG:
        parts.insert(0, Text("long header"))
    else:
        parts.insert(0, Text("no header") if ci in BARE else Text("short header"))
    if ci in MSB_FIRST:
        parts.append(Text("most significant byte first"))
    return joined(", ", parts)


def _header(payload: bytes, ci: int, header: Header) -> Iterator[str]:
    at = 0
    if ci in LONG:
        yield from _line(payload[:4], Text("id {id}", id=header.id))
        yield from _line(payload[4:6], Text("manufacturer {name}", name=header.manufacturer))
        yield from _line(payload[6:7], Text("version {number}", number=header.version))
        yield from _line(payload[7:8], Text("medium: {medium}", medium=medium(header.medium)))
        at = 8
    if ci in BARE or ci in FIXED:
        return
    yield from _line(payload[at : at + 1], Text("access number {number}", number=header.access))
    yield from _line(
        payload[at + 1 : at + 2], Text("status: {status}", status=status(header.status))
    )
    yield from _line(
        payload[at + 2 : at + 4], Text("configuration word {word:04X}h", word=header.configuration)
    )


def _fixed(payload: bytes) -> Iterator[str]:
    yield from _line(payload[:4], Text("id"))
    yield from _line(payload[4:5], Text("access number"))
    yield from _line(payload[5:6], Text("status"))
    yield from _line(payload[6:8], Text("units of both counters, medium in their upper bits"))
    yield from _line(payload[8:12], Text("first counter"))
    yield from _line(payload[12:16], Text("second counter"))


def _blocks(payload: bytes, text_first: bool, reverse: bool) -> Iterator[str]:
    at = 0
    for block in cut(payload, text_first=text_first):
        while payload[at] == FILLER and at < block.start:
            yield from _line(payload[at : at + 1], Text("filler"))
            at += 1
        decoded = record(block, reverse=reverse)
        yield from _block(block, decoded)
        at = block.start + _length(block)
    yield from _line(payload[at:], Text("filler")) if at < len(payload) else ()


def _length(block: DataBlock) -> int:
    return len(block.dib) + len(block.vib) + len(block.data) + (block.lvar >= 0)


def _block(block: DataBlock, decoded: MeterValue) -> Iterator[str]:
    if block.error:
        yield from _line(block.data, Text("cannot be read: {why}", why=block.error))
        return
    if block.dib[0] in (LAST, MORE):
        what = Text("DIF: the rest is the manufacturer's")
        if block.dib[0] == MORE:
            what += Text(", another telegram follows")
        yield from _line(block.dib, what)
        yield from _line(block.data, Text("manufacturer data")) if block.data else ()
        return
    yield from _line(block.dib, Text("DIF: {what}", what=_dib(block, decoded)))
    yield from _line(
        block.vib, Text("VIF: {what}", what=", ".join((decoded.quantity, *decoded.modifiers)))
    )
    if block.lvar >= 0:
        yield from _line(bytes((block.lvar,)), Text("LVAR: {number} bytes", number=len(block.data)))
    yield from (
        _line(block.data, Text("= {value}", value=_value(decoded)))
        if block.data or decoded.error
        else ()
    )


def _dib(block: DataBlock, decoded: MeterValue) -> Text:
    coding = blocks.read(block.dib).coding
    name = Text("{name}", name=coding.name)
    if coding.length > 0:
        name += Text(" of {number} bytes", number=coding.length)
    numbers = (
        ("storage", decoded.storage),
        ("tariff", decoded.tariff),
        ("subunit", decoded.subunit),
    )
    where = [f"{key} {number}" for key, number in numbers if number]
    return joined(", ", [name, str(decoded.function), *where])


def _value(decoded: MeterValue) -> str:
    if decoded.value is None:
        return Text("no value: {why}", why=decoded.error)
    plain = format(decoded.value, "f") if isinstance(decoded.value, Decimal) else decoded.value
    return plain if decoded.unit in ("", "1") else f"{plain} {decoded.unit}"


def dumps(telegram: Telegram) -> str:
    """`{"ok": true, "manufacturer": …, "records": […]}`; numbers are exact decimals."""
    header = {name: getattr(telegram, name) for name in HEADER}
    return _object(
        {
            "ok": True,
            **header,
            "address": telegram.address,
            "more": telegram.more,
            "encrypted": telegram.encrypted or None,
            "records": [_record(record) for record in telegram.records],
        }
    )


def refusal(error: str) -> str:
    """The line for bytes that are not a telegram."""
    return _object({"ok": False, "error": error})


def _record(record: MeterValue) -> dict[str, object]:
    """`unit` is that of the VIF. If VIFEs change the unit of the value, `value_unit` gives it."""
    members: dict[str, object] = {
        "function": record.function,
        "storage": record.storage,
        "tariff": record.tariff,
        "subunit": record.subunit,
        "quantity": record.quantity,
        "unit": record.vif_unit,
        "value": record.value,
        "error": record.error,
        "modifiers": list(record.modifiers),
        "dib": record.dib.hex(),
        "vib": record.vib.hex(),
        "data": record.data.hex(),
    }
    if record.unit != record.vif_unit:
        members["value_unit"] = record.unit
    return members


def _object(members: dict[str, object]) -> str:
    return "{" + ", ".join(f"{json.dumps(k)}: {_json_value(v)}" for k, v in members.items()) + "}"


def _json_value(item: object) -> str:
    if isinstance(item, Decimal):
        return format(item, "f")
    if isinstance(item, dict):
        return _object(item)
    if isinstance(item, list):
        return f"[{', '.join(map(_json_value, item))}]"
    return json.dumps(item, ensure_ascii=False)
