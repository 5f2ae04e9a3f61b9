"""Frames that a master sends: link layer (EN 13757-2) and selection (EN 13757-3, 11.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.drivers.mbus.frame import checksum

if TYPE_CHECKING:
    from agent.drivers.mbus.address import MeterAddress

SELECTED = 0xFD
"""the address of the meter that is selected"""
ALL_SILENT = 0xFF
"""broadcast: all meters listen, none answers"""
SND_NKE, REQ_UD2, FCB, SND_UD = 0x40, 0x5B, 0x20, 0x53
SELECT = 0x52
ANY_ID, ANY = "FFFFFFFF", 0xFF
FABRICATION = bytes((0x0C, 0x78))
"""DIF and VIF of the fabrication number, which follow in an enhanced selection"""


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
