"""What a meter said, as types: a telegram and its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.drivers.mbus.dib import Function

MALFORMED = "malformed"
"""quantity of the record that stands for a tail nobody can read"""
MANUFACTURER_DATA = "manufacturer data"
"""quantity of what follows DIF 0F or 1F"""

ENCRYPTED = "encrypted"
"""quantity of the record that stands for bytes nobody can read without a key"""


class MeterValue(NamedTuple):
    """One value of a meter, or why there is none."""

    function: Function
    storage: int
    """0 now, higher ones are due dates and past months"""
    tariff: int
    subunit: int
    quantity: str
    """of the VIF, in our words: `energy`, `volume`, `flow temperature`"""
    unit: str
    """of the value; "" where it has none"""
    vif_unit: str
    """of the VIF alone: differs from `unit` where VIFEs make the value a duration, a rate, …"""
    value: Decimal | str | None
    """an exact decimal, a text (dates and times in ISO 8601, the meter's own time), or none"""
    modifiers: tuple[str, ...]
    """what VIFEs say of it; () is the plain quantity"""
    error: str | None
    """why there is no value"""
    dib: bytes
    vib: bytes
    data: bytes
    """of the value, as sent"""

    @property
    def identity(self) -> bytes:
        """DIB and VIB: what names this register of this meter over time.

        In the fixed data structure, which has neither: the counter's number and unit code.
        """
        return self.dib + self.vib


class Telegram(NamedTuple):
    """What one answer of a meter says. None: this kind of telegram does not carry it."""

    address: int
    """primary address"""
    ci: int
    manufacturer: str | None
    """three letters"""
    id: str | None
    """eight hexadecimal digits"""
    version: int | None
    medium: int | None
    """device type of EN 13757-7 (words.medium)"""
    access: int | None
    status: int | None
    """words.status"""
    configuration: int
    records: tuple[MeterValue, ...]
    more: bool
    """the meter has another telegram"""
    encrypted: str
    """how its records are encrypted; "": they are not"""
