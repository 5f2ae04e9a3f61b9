"""Run the test of an M-Bus profile: a simulated meter sends its records, and is read as usual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.clock import seconds
from agent.core.model import Sample, Why
from agent.drivers.mbus import registers
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.frame import checksum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.core.model import Point

HEAD = bytes.fromhex("08 01 72 78 56 34 12 2D 2C 01")
"""beginning of an answer of meter 1: number 12345678, maker KAM, version 1"""
STATE = bytes(4)
"""access number, status, no security"""


def frame(test: Mapping[str, Any]) -> bytes:
    """The telegram of the simulated meter. Raises ValueError if the test's records are invalid."""
    try:
        records = bytes.fromhex(str(test.get("records", "")))
        medium = int(str(test.get("medium", 0)), 0)
        counted = HEAD + bytes([medium]) + STATE + records
        length = bytes([len(counted)])
    except ValueError as error:
        what = '`medium` and `records` as a meter sends them, such as "0C 06 67 45 23 01"'
        raise ValueError(f"expected {what}: {error}") from error
    return b"\x68" + length * 2 + b"\x68" + counted + bytes([checksum(counted), 0x16])


def rehearse(test: Mapping[str, Any], points: Sequence[Point]) -> list[Sample]:
    """See `agent.drivers.base.Rehearses`."""
    telegrams, now, samples = [decode(frame(test))], seconds(), []
    for point in points:
        try:
            value = registers.value(registers.parse(point.at), telegrams, point.unit)
            samples.append(Sample(point, now, value))
        except registers.Unfit as error:
            samples.append(Sample(point, now, why=Why.BAD, detail=str(error)))
    return samples
