"""Frames of the link layer (EN 13757-2, format class FT 1.2), from 68h to 16h."""

from __future__ import annotations

from typing import NamedTuple

from agent.drivers.mbus.errors import MbusError

START_LONG = 0x68
START_SHORT = 0x10
STOP = 0x16
ACKNOWLEDGE = 0xE5
FROM_MASTER = 0x40
"""PRM bit of the control field: this frame was sent by the master"""
ENVELOPE = 6
"""bytes that the L field does not count: 68 L L 68 … CS 16"""
LEAST = 3
"""least value of the L field: C, A and CI"""


class MbusFrame(NamedTuple):
    """A long or control frame, its envelope checked and removed."""

    control: int
    address: int
    """primary address of the meter"""
    ci: int
    """the kind of payload"""
    payload: bytes


def checksum(counted: bytes) -> int:
    """Sum of the bytes from C to the last one of the payload, modulo 256."""
    return sum(counted) & 0xFF


def unwrap(data: bytes) -> MbusFrame:
    """Check the envelope of one answer of a meter and remove it.

    `data` is exactly one frame; `frame_search` finds it among noise. Raises MbusError if it is not
    a valid long or control frame from a meter.
    """
    if len(data) < ENVELOPE + LEAST or data[0] != START_LONG:
        raise MbusError(_what_instead(data))
    if data[1] != data[2] or data[3] != START_LONG:
        raise MbusError(f"the start 68 L L 68 is damaged: {data[:4].hex(' ').upper()}")
    if len(data) != data[1] + ENVELOPE or data[1] < LEAST:
        raise MbusError(f"{len(data)} bytes, but the L field says {data[1] + ENVELOPE}")
    if data[-1] != STOP:
        raise MbusError(f"the last byte is {data[-1]:02X}, not 16")
    if (right := checksum(data[4:-2])) != data[-2]:
        raise MbusError(f"the checksum is {data[-2]:02X}, the bytes add up to {right:02X}")
    if data[4] & FROM_MASTER:
        raise MbusError(f"a request of the master (C field {data[4]:02X}), not a meter's answer")
    return MbusFrame(data[4], data[5], data[6], data[7:-2])


def _what_instead(data: bytes) -> str:
    if not data:
        return "no bytes"
    if data[0] == ACKNOWLEDGE and len(data) == 1:
        return "an acknowledgement (E5), which carries no data"
    if data[0] == START_SHORT:
        return "a short frame (10), which is a request and carries no data"
    if data[0] == START_LONG:
        return f"{len(data)} bytes: too short for a frame"
    return f"starts with {data[0]:02X}, not with 68"
