"""What a pretend meter says, byte for byte, put together from the standard.

Sources: EN 13757-2 (FT 1.2 frames), EN 13757-3 (headers, DIF, VIF, BCD and dates), EN 13757-7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

ELECTRICITY, GAS, HEAT, WARM_WATER, WATER, HCA, COOLING = 0x02, 0x03, 0x04, 0x06, 0x07, 0x08, 0x0A
PULSES = 0x0F
"""a collector of pulses says "unknown medium": each input may count another"""
MORE_FOLLOWS = b"\x1f"


@dataclass(frozen=True, slots=True)
class Plate:
    """What is printed on the meter."""

    id: str
    """eight hexadecimal digits"""
    manufacturer: str = "GDN"
    version: int = 1
    medium: int = HEAT

    @property
    def selected_by(self) -> bytes:
        """The eight bytes that a selection is compared with: id, maker, version, medium."""
        first, second, third = (ord(letter) - ord("A") + 1 for letter in self.manufacturer)
        maker = (first * 32 + second) * 32 + third
        return (
            bytes.fromhex(self.id)[::-1]
            + bytes((maker % 256, maker // 256))
            + bytes((self.version, self.medium))
        )

    def header(self, access: int, status: int = 0) -> bytes:
        """The long header (CI 72): plate, access number, status, no encryption."""
        return self.selected_by + bytes((access % 256, status, 0, 0))


def bcd(number: int, size: int) -> bytes:
    """A number in `size` bytes of two decimal digits each, lowest first."""
    digits = f"{number:0{2 * size}d}"[-2 * size :]
    return bytes(int(digits[at : at + 2], 16) for at in range(0, 2 * size, 2))[::-1]


def binary(number: int, size: int) -> bytes:
    """A signed number in `size` bytes, lowest first."""
    return number.to_bytes(size, "little", signed=True)


def energy_kwh(kwh: int, storage: int = 0) -> bytes:
    """Energy in kWh, eight digits BCD (DIF 0C, VIF 06: 10^(6-3) Wh)."""
    return _dib(0x0C, storage) + b"\x06" + bcd(kwh, 4)


def energy_wh(wh: int, storage: int = 0) -> bytes:
    """Energy in Wh, eight digits BCD (VIF 03: 10^(3-3) Wh)."""
    return _dib(0x0C, storage) + b"\x03" + bcd(wh, 4)


def volume_litres(litres: int, storage: int = 0) -> bytes:
    """Volume in litres, eight digits BCD (VIF 13: 10^(3-6) m³)."""
    return _dib(0x0C, storage) + b"\x13" + bcd(litres, 4)


def power_w(watts: int) -> bytes:
    """Power in W, 32 bits (DIF 04, VIF 2B: 10^(3-3) W)."""
    return b"\x04\x2b" + binary(watts, 4)


def flow_temperature(tenths: int) -> bytes:
    """Flow temperature in tenths of a degree, 16 bits (VIF 5A: 10^(2-3) °C)."""
    return b"\x02\x5a" + binary(tenths, 2)


def hca_units(units: int) -> bytes:
    """Units of a heat cost allocator, 32 bits (VIF 6E)."""
    return b"\x04\x6e" + binary(units, 4)


def pulses_litres(channel: int, litres: int) -> bytes:
    """Litres counted by one input of a collector: its subunit (DIFE bit 6, twice for 2 and 3)."""
    dife = (
        bytes((0x40 * (channel & 1),))
        if channel < 2
        else bytes((0x80 | 0x40 * (channel & 1), 0x40))
    )
    return bytes((0x8C,)) + dife + b"\x13" + bcd(litres, 4)


def date_time(moment: dt.datetime) -> bytes:
    """What time it is, type F (VIF 6D; EN 13757-3 annex A): minute, hour, day, month, year."""
    year = moment.year - 2000
    hour, day = moment.hour | 1 << 5, moment.day | (year & 7) << 5
    return b"\x04\x6d" + bytes((moment.minute, hour, day, moment.month | year >> 3 << 4))


def date(day: dt.date, storage: int) -> bytes:
    """The day at whose end the values of this storage number were kept, type G (VIF 6C)."""
    year = day.year - 2000
    kept = bytes((day.day | (year & 7) << 5, day.month | year >> 3 << 4))
    return _dib(0x02, storage) + b"\x6c" + kept


def long_frame(address: int, payload: bytes, ci: int = 0x72, control: int = 0x08) -> bytes:
    """68 L L 68 C A CI … CS 16."""
    counted = bytes((control, address, ci)) + payload
    size = len(counted)
    return bytes((0x68, size, size, 0x68)) + counted + bytes((sum(counted) % 256, 0x16))


def records(parts: Sequence[bytes]) -> bytes:
    """One telegram's records."""
    return b"".join(parts)


def _dib(dif: int, storage: int) -> bytes:
    """A DIF with a storage number up to 31: its lowest bit in the DIF, the rest in a DIFE."""
    dif |= (storage & 1) << 6
    return bytes((dif,)) if storage < 2 else bytes((dif | 0x80, storage >> 1))
