"""Addresses of meters on the line: the primary address, or the number on the type plate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from agent.core.i18n import _

if TYPE_CHECKING:
    from agent.drivers.mbus.telegram import Telegram

LAST_PRIMARY = 250
"""251 to 255 are reserved or have special meanings, such as broadcast (EN 13757-2, 5.7.5)"""
BAUD_RATES = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400)
WILD = "F"
"""the digit that stands for any digit in a selection"""

PRIMARY = re.compile(r"([0-9]{1,3})(?:/([0-9]{1,3}))?(?:@([0-9]{3,5}))?", re.ASCII)
SECONDARY = re.compile(
    r"([0-9A-Fa-f]{8})(?:-([A-Z]{3})(?:-([0-9A-Fa-f]{2})(?:-([0-9A-Fa-f]{2}))?)?)?"
    r"(?:\+([0-9]{8}))?(?:/([0-9]{1,3}))?(?:@([0-9]{3,5}))?",
    re.ASCII,
)
HINT = (
    "the eight digits on the meter (45123456), with maker, version and medium where two meters"
    " share them (45123456-KAM-1B-04), or a primary address, 0 to 250"
)


class MeterAddress(NamedTuple):
    """One meter on the line, or one input of a pulse collector."""

    primary: int | None = None
    """None: addressed by its number"""
    id: str = ""
    """eight hexadecimal digits, capital letters; "" with a primary address"""
    manufacturer: str | None = None
    version: int | None = None
    medium: int | None = None
    fabrication: str = ""
    """a second number of eight digits, for meters that share all the rest (enhanced selection)"""
    input: int | None = None
    """of a pulse collector: the subunit that counts the pulses of this meter"""
    baudrate: int | None = None
    """None: the baud rate of the line"""

    @property
    def station(self) -> str:
        """The meter on the wire, for people and as a key; one for all inputs of a collector."""
        if self.primary is not None:
            return str(self.primary)
        kind = "" if self.manufacturer is None else f"-{self.manufacturer}"
        kind += "" if self.version is None else f"-{self.version:02X}"
        kind += "" if self.medium is None else f"-{self.medium:02X}"
        return self.id + kind + (f"+{self.fabrication}" if self.fabrication else "")

    def fits(self, telegram: Telegram) -> bool:
        """Whether a telegram is from this meter, by all parts of the address.

        With a primary address, only the address field counts. Whether it is the recorded meter is
        checked by its serial number.
        """
        if self.primary is not None:
            return telegram.address == self.primary
        wanted = (self.manufacturer, self.version, self.medium)
        actual = (telegram.manufacturer, telegram.version, telegram.medium)
        same = all(w is None or w == s for w, s in zip(wanted, actual, strict=True))
        return telegram.id == self.id and same


def parse(text: str) -> MeterAddress:
    """Parse a configured address. Raises ValueError with a message for its author."""
    if match := PRIMARY.fullmatch(text):
        number = int(match[1])
        if number > LAST_PRIMARY:
            raise ValueError(
                _(
                    '"{text}": primary addresses are 0 to {last_primary}',
                    text=text,
                    last_primary=LAST_PRIMARY,
                )
            )
        return MeterAddress(number, input=_number(match[2]), baudrate=_baudrate(text, match[3]))
    if not (match := SECONDARY.fullmatch(text)):
        raise ValueError(_('"{text}" is not an M-Bus address: write {hint}', text=text, hint=HINT))
    digits = match[1].upper()
    # A wildcard would select several meters, whose answers overlap.
    if WILD in digits:
        raise ValueError(
            _('"{text}": F stands for any digit: write the meter\'s own number', text=text)
        )
    return MeterAddress(
        None,
        digits,
        match[2],
        int(match[3], 16) if match[3] else None,
        int(match[4], 16) if match[4] else None,
        match[5] or "",
        _number(match[6]),
        _baudrate(text, match[7]),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _baudrate(text: str, digits: str | None) -> int | None:
    rate = _number(digits)
    if rate is not None and rate not in BAUD_RATES:
        raise ValueError(
            _(
                '"{text}": the baud rates of M-Bus are {rates}',
                text=text,
                rates=", ".join(map(str, BAUD_RATES)),
            )
        )
    return rate
