"""What stands behind an address: no value where the device says so, units by code, manners."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from agent.core.model import Point, Sample, Why
from agent.drivers.modbus.answer import RequestResult
from agent.drivers.modbus.codec import place
from agent.drivers.modbus.master import ModbusMaster, manners_of, value_of
from hil.serial_line import Registers

CELLS = {0: 0x7FFF, 1: 7, 2: 0xFFFE, 3: 2, 4: 9, 5: 0x8000, 6: 1, 7: 1}


class Wire:
    """A device without a line."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.device = Registers({(3, n): cell for n, cell in CELLS.items()})

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        del unit
        self.asked.append((int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")))
        return RequestResult(1.0, self.device(pdu))


def read(*ats: str) -> tuple[list[Sample], list[tuple[int, int]]]:
    wire = Wire()
    points = [Point("m", at, "1", at, 60) for at in ats]
    return asyncio.run(ModbusMaster(wire).read(points)), wire.asked


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("holding/1/int16 sf@2", Decimal("0.07")),
        ("holding/1/int16 unit@3:1=1,2=1000", Decimal(7000)),
        ("holding/1/int16 na=7fff|8000", Decimal(7)),
    ],
)
def test_a_value_is_scaled_by_what_other_registers_say(at: str, value: Decimal) -> None:
    ((sample,), asked) = read(at)
    assert (sample.value, len(asked)) == (value, 1)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("holding/0/int16 na=7fff", "has no value"),
        ("holding/1/int16 unit@4:1=1", "unit code 9, which the profile does not know"),
        ("holding/1/int16 sf@5", "scale factor outside"),
    ],
)
def test_where_the_device_says_that_there_is_none_there_is_no_value(at: str, words: str) -> None:
    ((sample,), _) = read(at)
    assert (sample.value, sample.why) == (None, Why.BAD)
    assert words in sample.detail


def test_a_device_is_asked_as_it_wants_to_be() -> None:
    assert read("holding/0/int16 alone", "holding/1/int16")[1] == [(0, 1), (1, 1)]
    assert read("holding/0/int16 most=2", "holding/1/int16", "holding/3/int16")[1] == [
        (0, 2),
        (3, 1),
    ]
    assert read("holding/1/int16 never=2-5", "holding/6/int16")[1] == [(1, 1), (6, 1)]
    assert manners_of([place("holding/1/int16 pause=100ms")]).pause == 0.1


@pytest.mark.parametrize(
    "note",
    ["na=7ff", "na=", "sf@x", "most=0", "most=126", "alone=1", "never=5", "unit@3", "what", "?"],
)
def test_a_note_that_is_none_is_told_in_words(note: str) -> None:
    with pytest.raises(ValueError, match="is not an address option"):
        place(f"holding/0/int16 {note}")


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("int64", "8000000000000000", None),
        ("int64", "7fffffffffffffff", None),
        ("int64", "ffffffffffffffff", Decimal(-1)),
        ("uint64", "ffffffffffffffff", None),
        ("uint64", "00000000ffffffff", Decimal(0xFFFFFFFF)),
    ],
)
def test_a_number_that_no_meter_reaches_is_no_value(
    kind: str, raw: str, value: Decimal | None
) -> None:
    where = place(f"holding/0/{kind}")
    cells = [int(raw[n : n + 4], 16) for n in range(0, 16, 4)]
    if value is None:
        with pytest.raises(ValueError, match="has no value"):
            value_of(where, {where.spot: cells})
    else:
        assert value_of(where, {where.spot: cells}) == value
