"""What the bytes on a line are that others send: protocol, addresses, and who answers. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.drivers.mbus import frame as mbus
from agent.drivers.modbus.answer import READS, REFUSED
from agent.drivers.modbus.rtu import QUESTION, frames_in

if TYPE_CHECKING:
    from collections.abc import Iterator

FEWEST = 2
"""valid frames that identify a protocol; one may be valid by chance"""
SHARE = 0.3
"""share of the bytes that must be in valid frames: requests to write several registers are not
recognized, and noise is on many lines
"""
MOST_ADDRESSES = 300
"""addresses of a line that are counted; all of Modbus, and the numbers of a full M-Bus line"""


@dataclass
class HeardTraffic:
    """The frames among the bytes that were heard at one setting of a port."""

    octets: int = 0
    framed: int = 0
    """bytes in valid frames"""
    frames: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    _owes: str = ""
    """who was asked last and has not answered; empty: nobody"""

    @property
    def share(self) -> float:
        """The share of valid bytes, from 0 to 1."""
        return self.framed / self.octets if self.octets else 0.0

    @property
    def valid(self) -> bool:
        """Whether these frames identify the protocol."""
        return self.frames >= FEWEST and self.share >= SHARE

    def modbus(self, heard: bytes) -> None:
        """Add the bytes heard up to a pause, as Modbus RTU."""
        self.octets += len(heard)
        for frame in frames_in(heard):
            self._valid(len(frame.data))
            unit, function = str(frame.unit), frame.pdu[0]
            # a request to read has 8 bytes, and no answer with registers has; the confirmation of
            # a write is as long as its request, and follows it
            asks = len(frame.data) == QUESTION and (function in READS or self._owes != unit)
            self._note(unit, asks=asks and not function & REFUSED)

    def mbus(self, heard: bytes) -> None:
        """Add the bytes heard up to a pause, as M-Bus."""
        self.octets += len(heard)
        for control, address, data in mbus_frames(heard):
            self._valid(len(data))
            if control is None:  # an acknowledgement names nobody
                continue
            if control & mbus.FROM_MASTER:
                self._note(address, asks=True)
            else:
                self._note(self._owes or address, asks=False)

    def _valid(self, length: int) -> None:
        self.framed, self.frames = self.framed + length, self.frames + 1

    def _note(self, who: str, *, asks: bool) -> None:
        counted = self.asked if asks else self.answered
        if who in counted or len(counted) < MOST_ADDRESSES:
            counted[who] += 1
        self._owes = who if asks else ""


def mbus_frames(heard: bytes) -> Iterator[tuple[int | None, str, bytes]]:
    """The valid frames among received bytes: control field, address, and all bytes.

    A selection has the number that it selects as its address. An acknowledgement (E5) counts only
    behind a frame; its control field is None.
    """
    at, behind = 0, False
    while at < len(heard):
        data = _frame_at(heard, at)
        if data:
            long = data[0] == mbus.START_LONG
            control, address = (data[4], data[5]) if long else (data[1], data[2])
            who = str(address)
            if long and address == mbus.SELECTED and len(data) >= 15 and data[6] == mbus.SELECT:  # noqa: PLR2004 -- up to the end of the number
                who = data[7:11][::-1].hex().upper()
            yield control, who, data
        elif behind and heard[at] == mbus.ACKNOWLEDGE:
            data = heard[at : at + 1]
            yield None, "", data
        behind = bool(data)
        at += len(data) or 1


def _frame_at(heard: bytes, at: int) -> bytes:
    if heard[at] == mbus.START_SHORT:
        data = heard[at : at + mbus.SHORT]
        whole = len(data) == mbus.SHORT and data[-1] == mbus.STOP
        return data if whole and mbus.checksum(data[1:3]) == data[3] else b""
    return (mbus.frame_at(heard, at) or b"") if heard[at] == mbus.START_LONG else b""
