"""Requests that write one point: functions 5, 6, 15 and 16.

Modbus Application Protocol V1.1b3, 6.5, 6.6, 6.11 and 6.12.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.drivers.modbus.codec import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.core.model import Value
    from agent.drivers.modbus.address_options import PointNotes
    from agent.drivers.modbus.codec import RegisterRange

ON = 0xFF00


def requests(point: PointNotes, value: Value | None) -> Iterator[bytes]:
    """The request PDUs that write a value, in the order to try them.

    The second one is for a device that does not support the function of the first. Raises Refused
    if the value cannot be written.
    """
    spot = point.written or point.spot
    if point.exponent or point.code:
        raise Refused("a value that another register scales cannot be written")
    if not isinstance(value, Decimal):
        raise Refused("a register cannot be emptied: only a number can be written to it")
    start = spot.start.to_bytes(2, "big")
    if spot.table == "coil":
        yield from _coil(start, value)
    elif spot.table == "holding":
        yield from _registers(start, spot, value)
    else:
        raise Refused(f"the table {spot.table} is read-only")


def _coil(start: bytes, value: Decimal) -> Iterator[bytes]:
    if value not in {0, 1}:
        raise Refused(f"a coil is 0 or 1, not {value}")
    yield b"\x05" + start + (ON if value else 0).to_bytes(2, "big")
    yield b"\x0f" + start + b"\0\1\1" + bytes([int(value)])


def _registers(start: bytes, spot: RegisterRange, value: Decimal) -> Iterator[bytes]:
    try:
        data = b"".join(cell.to_bytes(2, "big") for cell in encode(spot, value))
    except ValueError as error:
        raise Refused(str(error)) from error
    if spot.width == 1:
        yield b"\x06" + start + data
    yield b"\x10" + start + spot.width.to_bytes(2, "big") + bytes([len(data)]) + data
