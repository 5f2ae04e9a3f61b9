"""A pretend meter: selected or not, with its memory of frame count bits, as EN 13757-2 has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hil.mbus.encode import MORE_FOLLOWS, long_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from hil.mbus.encode import Plate

SELECTED, ANYBODY, EVERYBODY = 0xFD, 0xFE, 0xFF
ACKNOWLEDGE = b"\xe5"


@dataclass
class Slave:
    """One meter on the line."""

    plate: Plate
    says: Callable[[], list[bytes]]
    """the records of each telegram of one readout"""
    primary: int = 0
    fabrication: str = ""
    silent: bool = False
    late: float = 0.0
    """bit times by which an answer begins later than the 11 of the standard"""
    error: int | None = None
    """the application error that it answers with"""
    ignores: str = ""
    """what it does not compare in a selection: `kind` (version and medium), `fabrication` (what
    follows in an enhanced selection), `wildcards` (it fits every selection with an F among the
    digits), `beginning` (of the number: it compares the last four digits only), `numbers` (it fits
    every selection); or `address`: it answers at every primary address
    """
    header: Plate | None = None
    """the plate that its telegrams name, where that is another than it is selected by"""
    selected: bool = False
    answers: int = 0
    """new telegrams sent; repetitions are not"""
    repetitions: int = 0
    _last: dict[int, bool] = field(default_factory=dict)
    """the frame count bit heard last, by station: primary or selected"""
    _telegrams: list[bytes] = field(default_factory=list)
    _next: int = 0
    _sent: bytes = b""

    def hears(self, frame: bytes) -> bytes:
        """What it answers to one sound frame of a master; empty: nothing."""
        if self.silent:
            return b""
        return self._short(frame) if frame[0] == 0x10 else self._long(frame)

    def _short(self, frame: bytes) -> bytes:
        control, address = frame[1], frame[2]
        if not self._addressed(address):
            return b""
        if control == 0x40:  # SND_NKE
            self._last[address] = False
            self._next = 0
            if address == SELECTED:
                self.selected = False
            return b"" if address == EVERYBODY else ACKNOWLEDGE
        if control & 0x4F == 0x4B and address != EVERYBODY:  # REQ_UD2
            return self._data(address, bool(control & 0x20) if control & 0x10 else None)
        return b""

    def _long(self, frame: bytes) -> bytes:
        control, address, ci, payload = frame[4], frame[5], frame[6], frame[7:-2]
        if control & 0x4F == 0x43 and address == SELECTED and ci == 0x52:
            self.selected = self._fits(payload)
            if self.selected:
                self._last[SELECTED] = False  # cleared: the next question has it set
                self._next = 0
            return ACKNOWLEDGE if self.selected else b""
        return b""

    def _addressed(self, address: int) -> bool:
        if address == SELECTED:
            return self.selected
        if self.ignores == "address":
            return True
        return address in (self.primary, ANYBODY, EVERYBODY)

    def _fits(self, wanted: bytes) -> bool:
        """Compare id digit by digit (F: any), maker, version and medium byte by byte (FF: any)."""
        mine = self.plate.selected_by
        if self.ignores == "numbers":
            return True
        if self.ignores == "wildcards" and "f" in wanted[:4].hex():
            return True
        if self.ignores == "beginning":
            wanted = wanted[:2] + b"\xff\xff" + wanted[4:]
        if self.ignores == "kind":
            wanted = wanted[:6] + b"\xff\xff" + wanted[8:]
        for ours, theirs in zip(mine[:4].hex(), wanted[:4].hex(), strict=True):
            if theirs not in ("f", ours):
                return False
        if any(w not in (0xFF, m) for w, m in zip(wanted[4:8], mine[4:8], strict=True)):
            return False
        return len(wanted) == 8 or self._fabricated(wanted[8:])

    def _fabricated(self, wanted: bytes) -> bool:
        """Compare the fabrication number digit by digit, in an enhanced selection."""
        if self.ignores == "fabrication":
            return True
        if wanted[:2] != b"\x0c\x78" or not self.fabrication:
            return False
        asked = wanted[:1:-1].hex()
        return all(a in {"f", d} for a, d in zip(asked, self.fabrication, strict=True))

    def _data(self, station: int, fcb: bool | None) -> bytes:
        if fcb is not None and self._last.get(station) is fcb and self._sent:
            self.repetitions += 1
            return self._sent
        if fcb is not None:
            self._last[station] = fcb
        if self._next == 0 or self._next >= len(self._telegrams):
            self._telegrams, self._next = self.says(), 0
        more = MORE_FOLLOWS if self._next + 1 < len(self._telegrams) else b""
        self._sent = self._frame(self._telegrams[self._next] + more)
        self._next += 1
        self.answers += 1
        return self._sent

    def _frame(self, said: bytes) -> bytes:
        if self.error is not None:
            return long_frame(self.primary, bytes((self.error,)), ci=0x70)
        return long_frame(self.primary, (self.header or self.plate).header(self.answers) + said)
