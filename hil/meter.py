"""A pretend Eastron SDM120: its registers, and the ways in which it can misbehave."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hil.modbus_server import ILLEGAL_ADDRESS, READ_HOLDING, READ_INPUT, asked, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from hil.curves import Load

ENERGY_IMPORT = 72
SERIAL = 64512
INPUT: dict[int, Callable[[Load, float], float]] = {
    0: lambda load, t: load.voltage(t),
    6: lambda load, t: load.apparent(t) / load.voltage(t),
    12: lambda load, t: load.power(t),
    18: lambda load, t: load.apparent(t),
    24: lambda load, t: load.power(t) * load.tan_phi,
    30: lambda load, _: load.cos_phi,
    70: lambda load, t: load.frequency(t),
    ENERGY_IMPORT: lambda load, t: load.energy(t),
    76: lambda load, t: load.energy(t) * load.tan_phi,
    342: lambda load, t: load.energy(t),
    344: lambda load, t: load.energy(t) * load.tan_phi,
}
"""float32 in two registers each, high word first; between them, and at 74 and 78 (a dwelling feeds
nothing in), it reads zero"""
EXISTS = {READ_INPUT: range(346), READ_HOLDING: range(SERIAL, SERIAL + 2)}
"""addresses by function"""


@dataclass(slots=True)
class Meter:
    """One meter on one line."""

    line: int
    unit: int
    serial: int
    load: Load
    silent: bool = False
    slow: float = 0.0
    """seconds by which it holds every answer back"""
    refused: set[int] = field(default_factory=set)
    """addresses that it will not have read, alone or in a block"""

    def answer(self, pdu: bytes, t: float) -> tuple[bytes, bytes]:
        """Answer a request at `t` (seconds since 1970).

        With the answer come the four bytes of the energy register, where it carries them all.
        """
        request = asked(pdu)
        if isinstance(request, bytes):
            return request, b""
        function, first, count = request
        wanted = range(first, first + count)
        exists = EXISTS[function]
        if first not in exists or wanted[-1] not in exists or not self.refused.isdisjoint(wanted):
            return refuse(function, ILLEGAL_ADDRESS), b""
        cells = self._cells(function, wanted, t)
        energy = function == READ_INPUT and ENERGY_IMPORT in wanted and ENERGY_IMPORT + 1 in wanted
        at = 2 * (ENERGY_IMPORT - first)
        return bytes([function, 2 * count]) + cells, cells[at : at + 4] if energy else b""

    def _cells(self, function: int, wanted: range, t: float) -> bytes:
        if function == READ_HOLDING:
            whole = struct.pack(">I", self.serial)
            return whole[2 * (wanted.start - SERIAL) : 2 * (wanted.stop - SERIAL)]
        # one register of margin on each side, so that half a value can be asked for
        cells = bytearray(2 * (len(wanted) + 2))
        for address, value in INPUT.items():
            if wanted.start - 1 <= address < wanted.stop:
                struct.pack_into(">f", cells, 2 * (address - wanted.start + 1), value(self.load, t))
        return bytes(cells[2:-2])


def serial_of(seed: int, line: int, unit: int) -> int:
    """Give the serial number on the plate: fixed by the seed, no two alike in a building."""
    series = 21_000_000 + math.floor(abs(math.sin(seed + 1)) * 4_000) * 1_000
    return series + line * 256 + unit
