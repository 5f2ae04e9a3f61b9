"""The fixed data structure of old meters (EN 1434-3, CI 73): two counters and their units."""

from __future__ import annotations

from typing import NamedTuple

BCD_STATUS, STORED_STATUS = 0x01, 0x02
"""status bits: the counters are binary instead of BCD; they were stored at a fixed date"""
UNIT = 0x3F
HISTORIC = 0x3E
"""unit of the second counter: the same as the first one, of an earlier date"""


class Unit(NamedTuple):
    """The meaning of a unit code of the fixed structure."""

    quantity: str
    unit: str = ""
    exponent: int = 0


def _decades(first: int, count: int, quantity: str, unit: str, exponent: int) -> dict[int, Unit]:
    return {first + n: Unit(quantity, unit, exponent + n) for n in range(count)}


UNITS = {
    0x00: Unit("time of day h, min, s"),
    0x01: Unit("date d, month, year"),
    **_decades(0x02, 9, "energy", "Wh", 0),
    **_decades(0x0B, 9, "energy", "J", 3),
    **_decades(0x14, 9, "power", "W", 0),
    **_decades(0x1D, 9, "power", "J/h", 3),
    **_decades(0x26, 9, "volume", "m3", -6),
    **_decades(0x2F, 9, "volume flow", "m3/h", -6),
    0x38: Unit("temperature", "Cel", -3),
    0x39: Unit("HCA units", "1"),
    0x3F: Unit("counter", "1"),
}
RESERVED = Unit("reserved")


class FixedCounter(NamedTuple):
    """One counter of the fixed structure, not decoded yet."""

    number: int
    """1 or 2"""
    unit: Unit
    storage: int
    """0 now, 1 at the fixed date"""
    binary: bool
    data: bytes
    """least significant byte first"""
    code: int
    """the unit's byte, as sent"""


def counters(payload: bytes, *, msb_first: bool) -> tuple[FixedCounter, FixedCounter]:
    """Both counters of the 16 bytes after the CI field."""
    status, step = payload[5], -1 if msb_first else 1
    stored, binary = int(bool(status & STORED_STATUS)), bool(status & BCD_STATUS)
    first, second = payload[6] & UNIT, payload[7] & UNIT
    historic = second == HISTORIC
    return (
        FixedCounter(
            1, UNITS.get(first, RESERVED), stored, binary, payload[8:12][::step], payload[6]
        ),
        FixedCounter(
            2,
            UNITS.get(first if historic else second, RESERVED),
            1 if historic else stored,
            binary,
            payload[12:16][::step],
            payload[7],
        ),
    )
