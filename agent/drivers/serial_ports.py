"""The serial ports of this machine, and what must be known before one is opened."""

from __future__ import annotations

import os
import termios
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.i18n import EMPTY, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")
MODEMS = frozenset({"05c6", "1199", "12d1", "19d2", "1bc7", "1e0e", "2c7c", "2cb7"})
"""USB vendors of mobile modems (Qualcomm, Sierra, Huawei, ZTE, Telit, SIMCom, Quectel, Fibocom):
bytes sent to their ports may cut off the gateway's own connection
"""


@dataclass(frozen=True, slots=True)
class SerialPort:
    """One serial port."""

    path: str
    """its lasting name in /dev/serial/by-id, else /dev/ttyS1"""
    device: str
    """such as /dev/ttyUSB0"""
    adapter: str = ""
    """maker, product and serial number of a USB adapter"""
    taken: Text = EMPTY
    """why it must not be touched: the console of this machine, or a modem; empty: it may"""


def serial_ports(root: Path = ROOT) -> list[SerialPort]:
    """The serial ports that exist, by name. Nothing is opened."""
    by_id = {link.resolve(): link for link in sorted((root / "dev/serial/by-id").glob("*"))}
    consoles = _text(root / "sys/class/tty/console/active").split()
    ports = []
    for entry in sorted((root / "sys/class/tty").glob("*")):
        device = root / "dev" / entry.name
        # a PC lists four ports at least; those without a UART have the type 0
        if not (entry / "device").exists() or not device.exists() or _text(entry / "type") == "0":
            continue
        usb = next(_usb(entry), None)
        taken = EMPTY
        if entry.name in consoles:
            taken = Text("it is the console of this machine")
        elif usb and _text(usb / "idVendor") in MODEMS:
            taken = Text("it belongs to a mobile modem")
        named = [_text(usb / name) for name in ("manufacturer", "product", "serial")] if usb else []
        path = by_id.get(device.resolve(), device)
        ports.append(SerialPort(str(path), str(device), " ".join(filter(None, named)), taken))
    return ports


def _usb(entry: Path) -> Iterator[Path]:
    """The USB device to which a port belongs."""
    where = (entry / "device").resolve()
    return (folder for folder in (where, *where.parents) if (folder / "idVendor").exists())


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def program_with(path: str) -> str:
    """Name another program that has a file open; empty if this account may not see it."""
    real = os.path.realpath(path)
    if real.startswith("/dev/pts/"):  # whoever plays its other end has this end open, too
        return ""
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        process = opened.parent.parent
        with suppress(OSError):
            if process.name != str(os.getpid()) and str(opened.readlink()) == real:
                return f"{(process / 'comm').read_text().strip()} ({process.name})"
    return ""


def heed_parity(handle: int) -> None:
    """Let the kernel replace a byte with wrong parity by 00, which the checksum then detects.

    pyserial switches the parity check off. Without it, wrong bits in two bytes may cancel out in
    the checksum.
    """
    attributes = termios.tcgetattr(handle)
    attributes[0] |= termios.INPCK
    attributes[0] &= ~(termios.IGNPAR | termios.PARMRK)
    termios.tcsetattr(handle, termios.TCSANOW, attributes)
