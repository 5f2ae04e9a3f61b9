"""Where SunSpec models begin: the marker at any of its three places, then from one to the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.core.model import Why
from agent.drivers.modbus.answer import RequestResult
from agent.drivers.modbus.master import models
from hil.serial_line import Registers

if TYPE_CHECKING:
    from collections.abc import Mapping

MAP = [0x5375, 0x6E53, 1, 2, 0, 0, 203, 3, 0, 0, 0, 203, 1, 0, 0xFFFF, 0]
"""SunS, the common model, a meter, another meter, the end"""


def found(at: int, cells: list[int], silent: bool = False) -> tuple[Mapping[int, int], bool]:
    there = Registers({(3, at + n): cell for n, cell in enumerate(cells)})

    async def ask(start: int, count: int) -> RequestResult:
        pdu = there(b"\x03" + start.to_bytes(2, "big") + count.to_bytes(2, "big"))
        if pdu[0] & 0x80:
            why = Why.SILENT if silent else Why.BAD
            return RequestResult(0.0, why=why)
        return RequestResult(0.0, pdu)

    known, silence = asyncio.run(models(ask))
    return known, silence is not None


@pytest.mark.parametrize("base", [40000, 0, 50000])
def test_the_models_are_found_wherever_the_map_stands_the_first_of_each_kind(base: int) -> None:
    assert found(base, MAP) == ({1: base + 2, 203: base + 6}, False)


def test_without_the_marker_there_are_none_and_a_map_cut_short_keeps_what_it_has() -> None:
    assert found(40000, [1, 2, 3, 4]) == ({}, False)
    assert found(40000, MAP[:8]) == ({1: 40002, 203: 40006}, False)


def test_a_silence_is_told_and_not_taken_for_the_end_of_the_map() -> None:
    assert found(40000, MAP[:8], silent=True) == ({}, True)
