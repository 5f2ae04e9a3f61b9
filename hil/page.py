"""A pretend building with everything that the web page shows, to look at in a browser.

    python -m hil.page FOLDER [--dwellings 8] [--ready]

Eight meters on a Modbus line, a boiler room on BACnet whose heating can be ordered, a broker and a
platform, the agent and its page. It prints the address and the codes, and serves until it is ended.
Without `--ready` the meters are still to be found and assigned, as on a first visit; with it all of
them are, half of the dwellings consent, and an order is in force.

"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agent.core.errors import Refused
from agent.local import ask_daemon
from hil.bacnet.controller import free_udp_port
from hil.bacnet.process import BoilerRoom
from hil.behind import behind
from hil.building import Building
from hil.signers import GRANTING, Signers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hil.behind import Behind

GARDIEN = Path(sys.executable).with_name("gardien")
RECIPIENT = "energie.metropole.example"
COMMON_AREA = "CZS2Y-FSTBQ-Q5WDC"
"""where the boiler room is: what guards of an order measure is shown only of common areas"""
CONFIG = """\
building: {{name: Résidence Les Alpins, timezone: Europe/Paris}}
links:
  hall: {{driver: modbus-tcp, host: 127.0.0.1, port: {hall}, timeout: 500ms}}
{bms}
devices:
{boiler}
uplinks:
  metropole:
    {{recipient: {recipient}, {uplink}, seal: 2s}}
controls:
  boiler-offset:
    point: boiler/offset
    equipment: heating
    modality: {{action: offset, min: -20, max: 1, max_duration: 2h}}
    guards: [{{name: stairwell, point: stairs/temp, min: 17.0}}]
    require: [{granting}]
    restore: relinquish
    device_watchdog: none-accepted
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
trust: {{threshold: 1}}
web: {{listen: ["127.0.0.1:8443"]}}
state: {state}
spool: {{max: 50MB, flush: 1s}}
"""


class House:
    """The running building."""

    def __init__(self, folder: Path, meters: Building, room: BoilerRoom, far: Behind) -> None:
        self.folder, self.meters, self.room, self.far = folder, meters, room, far
        self.config, self.state, self.log = (
            folder / "config.yaml", folder / "state", folder / "agent.log",
        )  # fmt: skip
        self.people = Signers()
        self.agent: asyncio.subprocess.Process | None = None
        self.labels = {
            f"A-{1 + (unit - 1) // 4}-{1 + (unit - 1) % 4}": unit for _line, unit in meters.meters
        }
        """the flats, each with the unit of its meter"""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folder: Path, *, dwellings: int = 8, ready: bool = False
    ) -> AsyncIterator[Self]:
        """Start everything but the page; the agent runs. `ready`: nothing is left to be done."""
        async with (
            BoilerRoom() as room,
            Building.open(lines=1, meters=dwellings) as meters,
            behind("mqtt", folder) as far,
        ):
            house = cls(folder, meters, room, far)
            house.configure()
            await house.gardien("key", "new")
            try:
                await house.start()
                house.trusted()
                if ready:
                    await house.make_ready()
                yield house
            finally:
                await house.stop()

    def configure(self) -> None:
        """Write the configuration: the boiler room is known, the meters are not."""
        boiler = self.room.devices(COMMON_AREA).replace(
            'offset: {at: "analog-value,7", unit: K, every: 10s}',
            'offset: {at: "analog-value,7", unit: K, every: 10s, writable: true}',
        )
        self.config.write_text(
            CONFIG.format(
                hall=self.meters.ports[0],
                bms=self.room.link(free_udp_port()),
                boiler=boiler,
                recipient=RECIPIENT,
                uplink=self.far.uplink,
                granting=", ".join(GRANTING),
                state=self.state,
            ),
            encoding="utf-8",
        )

    async def gardien(self, *words: str) -> Any:
        """Return what a command answers with --json. Raises RuntimeError if it fails."""
        json_too = () if words[0] == "key" else ("--json",)
        process = await asyncio.create_subprocess_exec(
            GARDIEN, *words, "--config", str(self.config), *json_too,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "GARDIEN_AS": "stage manager"},
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"gardien {' '.join(words)}: {err.decode()}")
        return json.loads(out) if json_too else None

    async def start(self) -> None:
        """Start the agent, and wait until it answers and knows its guards."""
        with self.log.open("ab") as log:
            self.agent = await asyncio.create_subprocess_exec(
                GARDIEN, "run", "--config", str(self.config), stdout=log, stderr=log
            )
        async with asyncio.timeout(90):
            while not await asyncio.to_thread(self._guarded):
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """End the agent."""
        if self.agent is not None and self.agent.returncode is None:
            self.agent.send_signal(signal.SIGTERM)
            await self.agent.wait()

    def ask(self, call: str, **args: Any) -> Any:
        """Return the agent's answer; None while none runs. Raises Refused."""
        return ask_daemon(self.state, call, args, lambda _: None)

    def _guarded(self) -> bool:
        try:
            answer = self.ask("control.list")
        except (OSError, Refused):
            return False
        return bool(answer) and (
            answer["controls"]["boiler-offset"]["guards"].get("stairwell") != "unknown"
        )

    def trusted(self) -> None:
        """Accept the trust list, and the grants of those who agree."""
        raw = self.people.trust().decode()
        sha256 = self.ask("trust.look", text=raw)["sha256"]
        self.ask("trust.accept", text=raw, sha256=sha256, named="Root")
        audience = self.ask("trust.show")["audience"]
        for role in GRANTING:
            grant = self.people.grant(role, audience.partition(".")[0], min=-20, unit="K")
            self.ask("object.accept", text=grant.decode(), named="Root")

    def order(self, value: str = "-1.5", seconds: int = 1800) -> str:
        """Have the centre order a lower heating offset; its id."""
        audience = self.ask("trust.show")["audience"]
        raw = self.people.order(audience, ["boiler-offset"], value, seconds)
        answer = self.ask("object.accept", text=raw.decode(), named="Root")
        return str(answer["targets"]["boiler-offset"])

    def display(self, label: str) -> str:
        """Return what the display of a flat's meter shows now, in kWh."""
        meter = self.meters.meters[0, self.labels[label]]
        return f"{int(meter.load.energy(time.time()) * 10) / 10:.1f}"

    def serial(self, label: str) -> str:
        """Return the number on the plate of a flat's meter."""
        return self.meters.serial(0, self.labels[label])

    async def make_ready(self) -> None:
        """Do what installer and manager do: search, assign, consent; then order."""
        lists = {
            "places.csv": ["label;type;since", *(f"{o};dwelling;2020-01-01" for o in self.labels)],
            "meters.csv": ["serial;dwelling", *(f"{self.serial(o)};{o}" for o in self.labels)],
            "consents.csv": ["place", *[o for n, o in enumerate(self.labels) if n % 2 == 0]],
        }
        for name, lines in lists.items():
            (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        await self.gardien("scan", "hall", "--last", str(len(self.labels)), "--add")
        self.ask("reload", named="Root")
        await self.gardien("place", "import", str(self.folder / "places.csv"))
        await self.gardien("meter", "import", str(self.folder / "meters.csv"))
        await self.gardien(
            "consent", "give", "--file", str(self.folder / "consents.csv"), "--recipient",
            RECIPIENT, "--channel", "elec.imp", "--step", "30min", "--purpose",
            "conseil en énergie",
        )  # fmt: skip
        async with asyncio.timeout(90):
            while not await asyncio.to_thread(self._guarded):
                await asyncio.sleep(0.1)
        await self.gardien("control", "test", "boiler-offset")
        self.order()


async def serve(wanted: argparse.Namespace) -> None:
    """Run the building and its page until ended."""
    from hil.page_server import page_of  # noqa: PLC0415 -- the page's libraries are an extra

    wanted.folder.mkdir(parents=True, exist_ok=True)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with (
        House.open(wanted.folder, dwellings=wanted.dwellings, ready=wanted.ready) as house,
        page_of(house.folder, house.state) as page,
    ):
        code = house.ask("web.open", minutes=120, named="Root")["code"]
        about = {"page": page.url, "installer": code}
        for role in ("manager", "operator", "dpo", "reader"):
            added = house.ask("web.person.add", name=role.title(), roles=[role], named="Root")
            about[role] = added["code"]
        print(json.dumps(about), flush=True)
        await over.wait()


def main() -> None:
    """Run the pretend building."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dwellings", type=int, default=8)
    parser.add_argument("--ready", action="store_true")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
