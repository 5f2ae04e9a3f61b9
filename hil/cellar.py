"""What stands in the cellar: heat and water meters on M-Bus, and a boiler room on BACnet.

Added to a stage before its agent starts: the meters belong to the first dwellings, the boiler is
common plant.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hil.demand import CONTROLS, Demand
from hil.platform.report import rows as platform_rows
from hil.process import Child, free_port
from hil.stage import CHANNELS, sheet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hil.stage import Stage

LINES = """\
  heat: {{driver: mbus-tcp, host: 127.0.0.1, port: {mbus}}}
  boiler-room: {{driver: bacnet, address: 127.0.0.1/8, port: {bacnet}}}
"""
BOILER = """\
  boiler:
    link: boiler-room
    address: "{address}"
    place: {place}
    every: 5s
    points:
      supply: {{at: "analog-input,1", channel: temp.supply, unit: Cel}}
      return: {{at: "analog-input,2", channel: temp.return, unit: Cel}}
      offset: {{at: "analog-value,7", channel: state.offset, unit: K, writable: true}}
  stairs:
    link: boiler-room
    address: "{stairs}"
    points: {{temp: {{at: "analog-input,4", unit: Cel, every: 1s}}}}
"""
FASTER = 900.0
"""how much faster time runs in the boiler room: a quarter of an hour a second, so that an order of
seconds is felt
"""
COMMON = "privacy: {policy: DEMO-1, common: {basis: vote of the assembly, from: 2026-01-01}}"
METERS = 12


@dataclass
class Cellar:
    """The meters on the M-Bus line, and the stage they stand on."""

    on: Stage
    meters: list[dict[str, Any]]
    demand: Demand
    """orders for the boiler"""

    def verdict(self) -> tuple[int, int]:
        """Values of M-Bus meters at the platform, and how many of them no meter ever said."""
        said: dict[tuple[str, str], set[Decimal]] = defaultdict(set)
        home = {
            meter["serial"]: one.place
            for meter, one in zip(self.meters, self.on.dwellings, strict=False)
        }
        log = self.on.folder / "mbus.jsonl"
        for line in log.read_text().splitlines() if log.exists() else ():
            one = json.loads(line)
            said[home[one["serial"]], one["channel"]].add(Decimal(one["thousandths"]) / 1000)
        rows = [
            row
            for row in platform_rows(self.on.platform.db)
            if row.channel in CHANNELS[1:] and row.value is not None
        ]
        wrong = sum(Decimal(row.value or 0) not in said[row.place, row.channel] for row in rows)
        return len(rows), wrong

    def boiler_values(self) -> int:
        """Values of the boiler room at the platform."""
        rows = platform_rows(self.on.platform.db)
        return sum(row.channel.startswith("temp.") and row.value is not None for row in rows)


@asynccontextmanager
async def cellar(on: Stage) -> AsyncIterator[Cellar]:
    """Start the line and the boiler room, and configure them as a person would."""
    async with AsyncExitStack() as open_now:
        log = on.folder / "mbus.jsonl"
        mbus = Child(
            (sys.executable, "-m", "hil.mbus", "--meters", str(METERS), "--log", str(log)), "{"
        )
        boilers = Child((sys.executable, "-m", "hil.bacnet", "--faster", str(FASTER)), "{")
        said = json.loads((await open_now.enter_async_context(mbus)).first)
        rooms = json.loads((await open_now.enter_async_context(boilers)).first)["controllers"]
        (plant,) = (await on.command("place", "new", "Chaufferie", "--type", "common"))["places"]
        devices = "".join(
            f'  {one["channel"]}-{one["serial"]}: {{link: heat, address: "{one["serial"]}", '
            f"profile: {one['profile']}, every: 10s, reads_a_day: 20000}}\n"
            for one in said["meters"]
        ) + BOILER.format(
            address=rooms[0]["address"], place=plant["id"], stairs=rooms[1]["address"]
        )
        links = LINES.format(mbus=said["port"], bacnet=free_port())
        text = on.config.read_text(encoding="utf-8")
        text = text.replace("devices:\n", f"{links}devices:\n{devices}")
        text = text.replace("privacy: {policy: DEMO-1}", f"{CONTROLS}{COMMON}")
        on.config.write_text(text, encoding="utf-8")
        pairs = zip(said["meters"], on.dwellings, strict=False)
        rows = [f"{meter['serial']};{home.label}" for meter, home in pairs]
        await on.command("meter", "import", sheet(on, "mbus.csv", "serial;dwelling", rows))
        yield Cellar(on, said["meters"], Demand(on, [one["station"] for one in rooms]))
