"""Find where the models of a SunSpec device begin, by following the chain of models.

SunSpec Device Information Model Specification V1.1, 6.1 to 6.3: the marker "SunS" at 40000, 0 or
50000, then the models. Each model begins with its number and its length; 0xFFFF ends the chain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from agent.core.model import Why
from agent.drivers.modbus.answer import RequestResult, cells

if TYPE_CHECKING:
    from collections.abc import Mapping

BASES = (40000, 0, 50000)
MARKER = [0x5375, 0x6E53]
"""SunS"""
END = 0xFFFF
MOST_MODELS = 64

Ask = Callable[[int, int], Awaitable[RequestResult]]
"""reads holding registers, by the first one and the count"""


async def models(ask: Ask) -> tuple[Mapping[int, int], RequestResult | None]:
    """By number, the register at which each model begins; of several with one number, the first.

    If the device stops answering, the second item is that result.
    """
    for base in BASES:
        answer = await ask(base, 4)
        if answer.why is Why.SILENT:
            return {}, answer
        if not answer.why and cells(answer.pdu, 4)[:2] == MARKER:
            return await _walk(ask, base + 2, cells(answer.pdu, 4)[2:])
    return {}, None


async def _walk(
    ask: Ask, start: int, header: list[int]
) -> tuple[Mapping[int, int], RequestResult | None]:
    starts: dict[int, int] = {}
    for _ in range(MOST_MODELS):
        number, length = header
        # A wrong length must not lead beyond the last register.
        if number == END or start + length + 4 > END:
            break
        starts.setdefault(number, start)
        start += 2 + length
        answer = await ask(start, 2)
        if answer.why is Why.SILENT:
            return {}, answer
        if answer.why:
            break
        header = cells(answer.pdu, 2)
    return starts, None
