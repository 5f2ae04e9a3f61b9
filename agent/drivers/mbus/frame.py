"""Frames of the link layer (EN 13757-2) and the addresses of meters.

Frames are checked, found among noise, and made for a master.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from agent.core.i18n import Text
from agent.drivers.mbus.telegram import MbusError

if TYPE_CHECKING:
    from agent.drivers.mbus.telegram import Telegram

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
SHORT = 5
"""bytes of a short frame"""
SELECTED = 0xFD
"""the address of the meter that is selected"""
ANYBODY = 0xFE
"""every meter answers, for tests of a single one"""
ALL_SILENT = 0xFF
"""broadcast: all meters listen, none answers"""
SND_NKE, REQ_UD2, FCB, SND_UD = 0x40, 0x5B, 0x20, 0x53
SELECT = 0x52
ANY_ID, ANY = "FFFFFFFF", 0xFF
FABRICATION = bytes((0x0C, 0x78))
"""DIF and VIF of the fabrication number, which follow in an enhanced selection"""
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
ID_DIGITS, FEWEST_DIGITS = 8, 5
"""of the number of a meter, and of what is left of one that has lost its leading zeros"""


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
        raise MbusError(
            Text("the start 68 L L 68 is damaged: {hex}", hex=data[:4].hex(" ").upper())
        )
    if len(data) != data[1] + ENVELOPE or data[1] < LEAST:
        raise MbusError(
            Text(
                "{number} bytes, but the L field says {data}",
                number=len(data),
                data=data[1] + ENVELOPE,
            )
        )
    if data[-1] != STOP:
        raise MbusError(Text("the last byte is {data:02X}, not 16", data=data[-1]))
    if (right := checksum(data[4:-2])) != data[-2]:
        raise MbusError(
            Text(
                "the checksum is {data:02X}, the bytes add up to {right:02X}",
                data=data[-2],
                right=right,
            )
        )
    if data[4] & FROM_MASTER:
        raise MbusError(
            Text("a request of the master (C field {data:02X}), not a meter's answer", data=data[4])
        )
    return MbusFrame(data[4], data[5], data[6], data[7:-2])


def _what_instead(data: bytes) -> Text:
    if not data:
        return Text("no bytes")
    if data[0] == ACKNOWLEDGE and len(data) == 1:
        return Text("an acknowledgement (E5), which carries no data")
    if data[0] == START_SHORT:
        return Text("a short frame (10), which is a request and carries no data")
    if data[0] == START_LONG:
        return Text("{number} bytes: too short for a frame", number=len(data))
    return Text("starts with {byte:02X}, not with 68", byte=data[0])


def without_echo(received: bytes, request: bytes) -> bytes:
    """The received bytes without the request itself, which some level converters echo."""
    if request.startswith(received):
        return b""
    before, echo, behind = received.partition(request)
    return before + behind if echo else received


def acknowledged(received: bytes) -> bytes | None:
    """E5 if it is among the received bytes, else None.

    Noise may contain an E5. This does no harm, since an acknowledgement is only followed by a
    request whose answer is checked.
    """
    return b"\xe5" if ACKNOWLEDGE in received else None


def sound(received: bytes) -> bytes | None:
    """The first valid frame of a meter, wherever it begins; None: there is none yet."""
    at = received.find(START_LONG)
    while at >= 0:
        frame = frame_at(received, at)
        # A request is a valid frame too, such as one of another master or a late echo.
        if frame and not frame[4] & FROM_MASTER:
            return frame
        at = received.find(START_LONG, at + 1)
    return None


def foreign(received: bytes) -> bool:
    """Whether another master uses this line: any valid frame, while this gateway sends nothing."""
    for at, byte in enumerate(received):
        if byte == START_LONG and frame_at(received, at):
            return True
        short = received[at : at + SHORT]
        whole = byte == START_SHORT and len(short) == SHORT and short[4] == STOP
        if whole and checksum(short[1:3]) == short[3]:
            return True
    return False


def frame_at(received: bytes, at: int) -> bytes | None:
    """The valid long or control frame that begins at an index, of the master too; None: none."""
    head = received[at : at + 4]
    if len(head) < len("hLLh") or head[1] != head[2] or head[3] != START_LONG or head[1] < LEAST:
        return None
    frame = received[at : at + head[1] + ENVELOPE]
    whole = len(frame) == head[1] + ENVELOPE and frame[-1] == STOP
    return frame if whole and checksum(frame[4:-2]) == frame[-2] else None


def reset(address: int) -> bytes:
    """SND_NKE: reset. A meter answers E5, forgets its frame count bit and begins a new readout."""
    return _short(SND_NKE, address)


def ask(address: int, fcb: bool) -> bytes:
    """REQ_UD2: request data. With the same FCB again, the meter repeats its last answer."""
    return _short(REQ_UD2 | (FCB if fcb else 0), address)


def select(wanted: MeterAddress) -> bytes:
    """Select the meters that match the address; all others deselect themselves."""
    kind = bytes((wanted.version if wanted.version is not None else ANY,))
    kind += bytes((wanted.medium if wanted.medium is not None else ANY,))
    return selection(wanted.id, packed(wanted.manufacturer), kind, wanted.fabrication)


def selection(
    digits: str, maker: bytes = b"\xff\xff", kind: bytes = b"\xff\xff", fabrication: str = ""
) -> bytes:
    """Select by eight digits, maker (2 bytes), version and medium; F or FFh is a wildcard."""
    wanted = bytes.fromhex(digits)[::-1] + maker + kind
    if fabrication:
        wanted += FABRICATION + bytes.fromhex(fabrication)[::-1]
    return _long(SND_UD | FCB, SELECTED, SELECT, wanted)


def packed(manufacturer: str | None) -> bytes:
    """Three letters in two bytes, least significant first; FF FF for any (EN 13757-7)."""
    if manufacturer is None:
        return bytes((ANY, ANY))
    code = 0
    for letter in manufacturer:
        code = code << 5 | (ord(letter) - 64) & 0x1F
    return code.to_bytes(2, "little")


def _short(control: int, address: int) -> bytes:
    counted = bytes((control, address))
    return b"\x10" + counted + bytes((checksum(counted), 0x16))


def _long(control: int, address: int, ci: int, payload: bytes) -> bytes:
    counted = bytes((control, address, ci)) + payload
    length = len(counted)
    return bytes((0x68, length, length, 0x68)) + counted + bytes((checksum(counted), 0x16))


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
                Text(
                    '"{text}": primary addresses are 0 to {last_primary}',
                    text=text,
                    last_primary=LAST_PRIMARY,
                )
            )
        return MeterAddress(number, input=_number(match[2]), baudrate=_baudrate(text, match[3]))
    if not (match := SECONDARY.fullmatch(text)):
        if text.isdecimal() and FEWEST_DIGITS <= len(text) < ID_DIGITS:
            raise ValueError(
                Text(
                    '"{text}" has {number} digits, and the number of an M-Bus meter has eight: did'
                    ' you mean "{meant}"? (Spreadsheets drop leading zeros.) Compare it with the'
                    " plate of the meter, and write it in quotes",
                    text=text,
                    number=len(text),
                    meant=text.zfill(ID_DIGITS),
                )
            )
        raise ValueError(
            Text(
                '"{text}" is not an M-Bus address: write the eight digits on the meter (45123456),'
                " with maker, version and medium where two meters share them (45123456-KAM-1B-04),"
                " or a primary address, 0 to 250",
                text=text,
            )
        )
    digits = match[1].upper()
    # A wildcard would select several meters, whose answers overlap.
    if WILD in digits:
        raise ValueError(
            Text('"{text}": F stands for any digit: write the meter\'s own number', text=text)
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
            Text(
                '"{text}": the baud rates of M-Bus are {rates}',
                text=text,
                rates=", ".join(map(str, BAUD_RATES)),
            )
        )
    return rate
