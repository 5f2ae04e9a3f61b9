"""Guards rule G6: two sockets of one charger are watched by one register of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control.hold import Holder, PointDependencies, Setpoint
from agent.control.model import WatchdogTarget
from agent.control.point_access import Standing
from tests.contract.control.pretend import BEGIN, PLACE, Site

SOCKETS = [replace(PLACE, point=name, at=f"holding/{n}/uint16") for n, name in enumerate("ab")]
DOG = WatchdogTarget(replace(PLACE, point="timeout", at="holding/9/uint16"), Decimal(60), 30.0)


class Register:
    """One register of a device."""

    def __init__(self, cells, at: str) -> None:
        self.cells, self.at = cells, at

    async def look(self, *, whole: bool = False) -> Standing:
        del whole
        return Standing(self.cells[self.at], effective=self.cells[self.at])

    async def write(self, value) -> None:
        self.cells[self.at] = value


@pytest.mark.parametrize("first", [0, 1])
def test_it_is_left_as_it_was_once_both_are_given_back_and_not_before(first):
    site = Site(array=False)
    site.start()
    cells = {place.at: Decimal(32) for place in SOCKETS} | {DOG.place.at: Decimal(0)}
    alone = PointDependencies(
        site.truth.moment, lambda place, _: Register(cells, place.at), site.save, site.note
    )
    holder = Holder(site.journal, alone)

    async def both():
        rows = []
        for place in SOCKETS:
            end, zero = BEGIN + 600, Decimal(0)
            want = Setpoint(place.point, "one", place, None, Decimal(6), None, end, 600.0, zero,
                        watchdog=DOG)  # fmt: skip
            rows.append((await holder.begin(want, Register(cells, place.at), None), place))
        rows = rows[::-1] if first else rows
        for n, (row, place) in enumerate(rows):
            assert cells[DOG.place.at] == 60
            assert await holder.release(row, Register(cells, place.at)) is None
            assert cells[DOG.place.at] == (60 if n == 0 else 0)

    asyncio.run(both())
    site.close()
