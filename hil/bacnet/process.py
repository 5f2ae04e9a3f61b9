"""The boiler room as a process of its own, and what a configuration says of it."""

from __future__ import annotations

import json
import sys
from typing import Any

from hil.process import Child

POINTS = {
    1201: {
        "supply": '{at: "analog-input,1", channel: temp.supply, unit: Cel, every: 1s}',
        "return": '{at: "analog-input,2", channel: temp.return, unit: Cel, every: 1s}',
        "heat": '{at: "analog-input,4", channel: heat, unit: kWh, every: 10s}',
        "offset": '{at: "analog-value,7", unit: K, every: 10s}',
    },
    1202: {
        "temp": '{at: "analog-input,4", channel: temp, unit: Cel, every: 1s}',
        "co2": '{at: "analog-input,5", channel: co2, unit: ppm, every: 1s}',
    },
    1204: {
        "energy": '{at: "analog-input,1", channel: elec.imp, unit: kWh, every: 10s}',
        "power": '{at: "analog-input,2", channel: elec.power, unit: W, every: 1s}',
        "pulses": '{at: "accumulator,1", unit: kWh, every: 10s}',
    },
}
NAMES = {1201: "boiler", 1202: "stairs", 1204: "boiler-room-meter"}


class BoilerRoom(Child):
    """`python -m hil.bacnet`; leaving the block ends it."""

    def __init__(self, faster: float = 1.0) -> None:
        super().__init__((sys.executable, "-m", "hil.bacnet", "--faster", str(faster)), "{")

    @property
    def controllers(self) -> list[dict[str, Any]]:
        """Instance number, station and address of each controller."""
        found: list[dict[str, Any]] = json.loads(self.first)["controllers"]
        return found

    def link(self, port: int) -> str:
        """What stands under `links:`, for our own UDP port; the line is called bms."""
        stations = ", ".join(f'"{one["station"]}"' for one in self.controllers)
        return (
            f"  bms: {{driver: bacnet, address: 127.0.0.1/8, port: {port}, timeout: 1s,"
            f" cov: 1min, ask: [{stations}]}}"
        )

    @staticmethod
    def devices(place: str = "") -> str:
        """What stands under `devices:`; with a place, its readings may leave as common plant."""
        lines = []
        for instance, points in POINTS.items():
            lines += [f"  {NAMES[instance]}:", "    link: bms", f"    address: {instance}"]
            lines += [f"    place: {place}"] if place else []
            lines += ["    points:", *(f"      {name}: {said}" for name, said in points.items())]
        return "\n".join(lines)
