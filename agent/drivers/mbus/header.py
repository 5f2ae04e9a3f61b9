"""The header before the records, which identifies the meter (EN 13757-3 and -7)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from agent.drivers.mbus.errors import ApplicationError, MbusError


class Header(NamedTuple):
    """A meter's identification; None for members that this kind of header does not have."""

    manufacturer: str | None = None
    """three letters (EN 62056-21 flag)"""
    id: str | None = None
    """eight hexadecimal digits as printed on the meter; letters occur in the field"""
    version: int | None = None
    medium: int | None = None
    """device type, EN 13757-7"""
    access: int | None = None
    """access number, which counts answers"""
    status: int | None = None
    configuration: int = 0
    """configuration field; in old meters a signature"""


FIXED = (0x73, 0x77)
MSB_FIRST = (0x76, 0x77)
"""mode 2 of the first editions: multi-byte fields with the most significant byte first"""
LONG = (0x72, 0x75, 0x76, 0x6F)
SHORT = (0x7A, 0x74, 0x6E)
BARE = (0x78, 0x71, 0x70)
ERRORS = (0x6E, 0x6F, 0x70)
ALARMS = (0x71, 0x74, 0x75)
_LONG_LENGTH, _SHORT_LENGTH, _FIXED_LENGTH = 12, 4, 16
_LETTERS = 64
"""each letter of a manufacturer is five bits, A = 1 (EN 13757-3)"""


def read(ci: int, payload: bytes) -> tuple[Header, bytes]:
    """The header and the bytes after it, for every CI field of a meter's answer.

    The fixed data structure (CI 73, 77) has no separate header: all its 16 bytes are returned.
    Raises ApplicationError if the meter reports an error (CI 70), MbusError for any other CI field
    and for an incomplete header.
    """
    if ci in LONG:
        header, rest = _long(payload, msb_first=ci in MSB_FIRST), payload[_LONG_LENGTH:]
    elif ci in SHORT:
        header, rest = _short(payload), payload[_SHORT_LENGTH:]
    elif ci in FIXED:
        header, rest = _fixed(payload, msb_first=ci in MSB_FIRST), payload
    elif ci in BARE:
        header, rest = Header(), payload
    else:
        raise MbusError(f"CI field {ci:02X} does not occur in a readout")
    if ci in ERRORS:
        raise ApplicationError(rest[0] if rest else None)
    if ci in ALARMS:
        raise MbusError(f"an alarm, not a readout: {rest.hex(' ').upper() or 'no status'}")
    return header, rest


def manufacturer(code: int) -> str:
    """The three letters packed into 15 bits (EN 13757-3, 5.6)."""
    return "".join(chr(((code >> shift) & 0x1F) + _LETTERS) for shift in (10, 5, 0))


def _long(payload: bytes, *, msb_first: bool) -> Header:
    if len(payload) < _LONG_LENGTH:
        raise MbusError(f"the header of 12 bytes is cut short after {len(payload)}")
    order: Literal["big", "little"] = "big" if msb_first else "little"
    number = payload[:4] if msb_first else payload[3::-1]
    code = int.from_bytes(payload[4:6], order)
    configuration = int.from_bytes(payload[10:12], order)
    version, medium, access, status = payload[6:10]
    return Header(
        manufacturer(code), number.hex().upper(), version, medium, access, status, configuration
    )


def _short(payload: bytes) -> Header:
    if len(payload) < _SHORT_LENGTH:
        raise MbusError(f"the header of 4 bytes is cut short after {len(payload)}")
    configuration = int.from_bytes(payload[2:4], "little")
    return Header(access=payload[0], status=payload[1], configuration=configuration)


_FIXED_MEDIA = {0x0A: 0x03, 0x0B: 0x04, 0x0C: 0x06, 0x0D: 0x07, 0x0E: 0x08, 0x09: 0x0F}
"""media 10 to 14 of the fixed structure are gas, heat, … "mode 2" and mean the same"""


def _fixed(payload: bytes, *, msb_first: bool) -> Header:
    if len(payload) != _FIXED_LENGTH:
        raise MbusError(f"the fixed data structure has 16 bytes, not {len(payload)}")
    number = payload[:4] if msb_first else payload[3::-1]
    medium = payload[7] >> 6 << 2 | payload[6] >> 6
    return Header(
        id=number.hex().upper(),
        medium=_FIXED_MEDIA.get(medium, medium),
        access=payload[4],
        status=payload[5],
    )
