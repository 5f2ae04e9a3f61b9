"""What a request and a register cost behind a network connection: seen, since nobody says.

Behind the one address stands a meter on Ethernet, where a register costs nothing, behind the other
a gateway with a serial line, where forty registers take as long as two requests at 9600 baud.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agent.drivers.modbus.answer import REGISTERS
from agent.drivers.modbus.plan import NETWORK, Tariff

if TYPE_CHECKING:
    from agent.drivers.modbus.answer import RequestResult

SERIAL = 0.00015
"""seconds a register, from which on a serial line is behind it: it takes 0.17 ms at 115200 baud"""
APART = 10
"""registers by which two answers must differ to tell anything"""
DEAREST, CHEAPEST = 4.0, 128.0
"""registers that a request costs at least and at most, as a power of two, so that plans stay"""


class Latency:
    """The quickest answers of each unit, by how many registers they carried."""

    def __init__(self) -> None:
        self._quickest: dict[int, dict[int, float]] = {}

    def note(self, unit: int, pdu: bytes, answer: RequestResult, seconds: float) -> None:
        """A request has been answered."""
        if answer.why is None and pdu[0] in REGISTERS:
            count = int.from_bytes(pdu[3:5], "big")
            seen = self._quickest.setdefault(unit, {})
            seen[count] = min(seconds, seen.get(count, seconds))

    def tariff(self, unit: int) -> Tariff:
        """What it costs to ask this unit."""
        seen = self._quickest.get(unit, {})
        few, many = min(seen, default=0), max(seen, default=0)
        if many - few < APART:
            return NETWORK
        register = (seen[many] - seen[few]) / (many - few)
        if register < SERIAL:
            return NETWORK
        request = max(1.0, (seen[few] - few * register) / register)
        return Tariff(request=min(CHEAPEST, max(DEAREST, 2.0 ** round(math.log2(request)))))
