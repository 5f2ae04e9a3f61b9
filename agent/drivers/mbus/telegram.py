"""The types of a decoded telegram and its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.drivers.mbus.dib import Function

MALFORMED = "malformed"
"""quantity of the record that stands for an end that cannot be decoded"""
MANUFACTURER_DATA = "manufacturer data"
"""quantity of the record after DIF 0F or 1F"""

ENCRYPTED = "encrypted"
"""quantity of the record that stands for encrypted bytes"""


class MeterValue(NamedTuple):
    """One value of a meter, or why there is none."""

    function: Function
    storage: int
    """0: now; higher numbers: due dates and past months"""
    tariff: int
    subunit: int
    quantity: str
    """name of the VIF: `energy`, `volume`, `flow temperature`"""
    unit: str
    """unit of the value; "": none"""
    vif_unit: str
    """unit of the VIF alone; not the same as `unit` if VIFEs make the value a duration, a rate, …
    """
    value: Decimal | str | None
    """an exact decimal, a text (dates and times in ISO 8601, by the meter's clock), or None"""
    modifiers: tuple[str, ...]
    """names of the VIFEs; (): the plain quantity"""
    error: str | None
    """why there is no value"""
    dib: bytes
    vib: bytes
    data: bytes
    """the bytes of the value, as sent"""

    @property
    def identity(self) -> bytes:
        """DIB and VIB, which identify this register of this meter over time.

        The fixed data structure has neither; there it is the counter's number and unit code.
        """
        return self.dib + self.vib


class Telegram(NamedTuple):
    """One decoded answer of a meter. None: this kind of telegram does not have the member."""

    address: int
    """primary address"""
    ci: int
    manufacturer: str | None
    """three letters"""
    id: str | None
    """eight hexadecimal digits"""
    version: int | None
    medium: int | None
    """device type of EN 13757-7 (`device_types.medium`)"""
    access: int | None
    status: int | None
    """status byte (`device_types.status`)"""
    configuration: int
    records: tuple[MeterValue, ...]
    more: bool
    """another telegram follows"""
    encrypted: str
    """how its records are encrypted; "": not at all"""
