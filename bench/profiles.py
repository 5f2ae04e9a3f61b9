"""How many requests a poll of each profile takes: `python -m bench.profiles`.

Every Modbus profile is read by the driver's own way from a device of nothing but the profile's test
cells, which counts. Beside it: one request a value, and the fewest that Modbus allows at all (125
registers a request, tables apart, whatever lies between).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.model import Point
from agent.drivers.modbus.codec import place
from agent.drivers.modbus.master import Cells, ModbusMaster
from agent.drivers.profile import profile, profiles

if TYPE_CHECKING:
    from agent.drivers.modbus.answer import RequestResult
    from agent.drivers.profile import Profile

MOST = 125
"""registers that one request may ask for (Application Protocol V1.1b3, 6.3)"""


class Counting(Cells):
    """A device that counts what it is asked."""

    def __init__(self, test) -> None:
        super().__init__(test)
        self.asked = 0

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        self.asked += 1
        return await super().exchange(unit, pdu)


def points(made: Profile, names) -> list[Point]:
    points = [Point("m", name, "1", made.points[name].at, 60) for name in names]
    unhurried = [" ".join(w for w in p.at.split() if not w.startswith("pause=")) for p in points]
    return [replace(point, at=at) for point, at in zip(points, unhurried, strict=True)]


def asked(made: Profile, wanted: list[Point]) -> int:
    """Requests of the second round: the first one learns where SunSpec models begin."""
    device = Counting(made.test)
    master = ModbusMaster(device)
    for _ in range(2):
        device.asked = 0
        samples = asyncio.run(master.read(wanted))
        assert all(sample.why is None for sample in samples), made.model
    return device.asked


def fewest(wanted: list[Point]) -> int:
    """Windows of 125 registers that hold every value whole; no device can be asked less often."""
    spots = sorted({spot for p in wanted for spot in place(p.at).spots}, key=_where)
    count, table, end = 0, "", -1
    for spot in spots:
        if spot.table != table or spot.end > end:
            count, table, end = count + 1, spot.table, spot.start + MOST
    return count


def _where(spot):
    return spot.table, spot.start, spot.end


def main() -> None:
    print(f"{'profile':28}{'values':>8}{'one a value':>13}{'gardien':>9}{'fewest':>8}{'saved':>8}")
    total = [0, 0, 0]
    for name in profiles():
        made = profile(name)
        if made.driver != "modbus":
            continue
        wanted = points(made, made.points)
        figures = len(wanted), asked(made, wanted), fewest(wanted)
        total = [before + one for before, one in zip(total, figures, strict=True)]
        saved = f"{figures[0] / figures[1]:.1f} x"
        print(f"{name:28}{figures[0]:8}{figures[0]:13}{figures[1]:9}{figures[2]:8}{saved:>8}")
    saved = f"{total[0] / total[1]:.1f} x"
    print(f"{'all':28}{total[0]:8}{total[0]:13}{total[1]:9}{total[2]:8}{saved:>8}")


if __name__ == "__main__":
    main()
