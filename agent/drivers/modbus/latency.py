"""The cost of a request and of a register behind a network connection, measured.

An address may be a meter on Ethernet, where a register costs nothing, or a gateway to a serial
line, where forty registers take as long as two requests (at 9600 baud). The protocol does not tell
which, so the times of answers are compared.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agent.drivers.modbus.answer import REGISTERS
from agent.drivers.modbus.plan import NETWORK, Tariff

if TYPE_CHECKING:
    from agent.drivers.modbus.answer import RequestResult

SERIAL = 0.00015
"""seconds per register from which a serial line is assumed: one takes 0.17 ms at 115200 baud"""
APART = 10
"""registers by which two answers must differ to be compared"""
DEAREST, CHEAPEST = 4.0, 128.0
"""least and greatest cost of a request, in registers. The cost is rounded to a power of two, so
that small variations do not change the plan
"""


class Latency:
    """The quickest answers of each unit, by how many registers they carried."""

    def __init__(self) -> None:
        self._quickest: dict[int, dict[int, float]] = {}

    def note(self, unit: int, pdu: bytes, answer: RequestResult, seconds: float) -> None:
        """Note how long an answer took."""
        if answer.why is None and pdu[0] in REGISTERS:
            count = int.from_bytes(pdu[3:5], "big")
            # The quickest answer is the one with the least waiting in queues, so it shows the cost.
            seen = self._quickest.setdefault(unit, {})
            seen[count] = min(seconds, seen.get(count, seconds))

    def tariff(self, unit: int) -> Tariff:
        """The costs of reading this unit."""
        seen = self._quickest.get(unit, {})
        few, many = min(seen, default=0), max(seen, default=0)
        # With answers of nearly one length, the difference is mostly jitter.
        if many - few < APART:
            return NETWORK
        register = (seen[many] - seen[few]) / (many - few)
        if register < SERIAL:
            return NETWORK
        request = max(1.0, (seen[few] - few * register) / register)
        return Tariff(request=min(CHEAPEST, max(DEAREST, 2.0 ** round(math.log2(request)))))
