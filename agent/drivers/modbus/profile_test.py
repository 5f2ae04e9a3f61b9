"""Run the test of a Modbus profile: a simulated device serves its cells, and is read as usual."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.core.clock import seconds
from agent.core.i18n import _
from agent.drivers.modbus.answer import checked
from agent.drivers.modbus.codec import FUNCTIONS
from agent.drivers.modbus.master import ModbusMaster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.core.model import Point, Sample
    from agent.drivers.modbus.answer import RequestResult

BITS = ("coil", "discrete")
REGISTER = range(0x10000)


class Cells:
    """The connection to the simulated device; cells that the test does not name are 0."""

    def __init__(self, test: Mapping[str, Any]) -> None:
        self._tables = {FUNCTIONS[table]: _cells(table, test.get(table, {})) for table in FUNCTIONS}

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        """Answer a read immediately."""
        del unit
        first, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        cells = [self._tables[pdu[0]].get(at, 0) for at in range(first, first + count)]
        if pdu[0] in {FUNCTIONS[table] for table in BITS}:
            bits = sum(bool(cell) << n for n, cell in enumerate(cells))
            data = bits.to_bytes(-(-count // 8), "little")
        else:
            data = b"".join(cell.to_bytes(2, "big") for cell in cells)
        return checked(pdu, bytes((pdu[0], len(data))) + data, seconds())


def _cells(table: str, runs: object) -> dict[int, int]:
    by_address: dict[int, int] = {}
    for first, run in runs.items() if isinstance(runs, dict) else ():
        start, cells = _number(first), run if isinstance(run, list) else [run]
        for at, cell in enumerate(map(_number, cells), start):
            if cell not in REGISTER or at not in REGISTER:
                raise ValueError(
                    _(
                        "{table}: a cell has 16 bits, found {cell} at {at}",
                        table=table,
                        cell=cell,
                        at=at,
                    )
                )
            by_address[at] = cell
    return by_address


def _number(written: object) -> int:
    """A whole number, decimal or as `0x1F`. Raises ValueError with a message."""
    try:
        return int(str(written), 0)
    except ValueError:
        raise ValueError(
            _("expected a cell such as 0x1F or 31, found {written}", written=written)
        ) from None


def rehearse(test: Mapping[str, Any], points: Sequence[Point]) -> list[Sample]:
    """See `agent.drivers.base.Rehearses`."""
    at_once = [replace(point, at=_unhurried(point.at)) for point in points]
    # Nothing in memory waits, so the coroutine ends at its first step, without an event loop: the
    # check of a configuration has none.
    reading = ModbusMaster(Cells(test)).read(at_once)
    try:
        reading.send(None)
    except StopIteration as read:
        samples: list[Sample] = read.value
        return [replace(s, point=point) for s, point in zip(samples, points, strict=True)]
    raise AssertionError("reading cells in memory does not wait")


def _unhurried(at: str) -> str:
    return " ".join(note for note in at.split() if not note.startswith("pause="))
