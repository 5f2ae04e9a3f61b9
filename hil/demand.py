"""Orders for the boiler room, played on a stage: authorized, felt, refused, released.

The judge is the boiler's controller, asked over a line of its own; orders come as they would, over
the broker.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import paho.mqtt.publish as mqtt

from agent.core.model import Point
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from agent.local import ask_daemon
from hil.bacnet.controller import free_udp_port
from hil.signers import GRANTING, Signers

if TYPE_CHECKING:
    from agent.core.model import Value
    from hil.stage import Stage

CONTROLS = """\
controls:
  boiler-offset:
    point: boiler/offset
    equipment: heating
    modality: {action: offset, min: -10, max: 1, max_duration: 2h}
    guards: [{name: stairwell, point: stairs/temp, min: 18.0}]
    require: [building_manager, boiler_operator, residents_council]
    restore: relinquish
    device_watchdog: none-accepted
trust: {threshold: 1}
"""
NAME = "boiler-offset"
ALLOWED, WANTED, TOO_MUCH = -6, "-6", "-9"
"""K: what the assembly allowed, what is ordered, what is ordered beyond that"""
HELD_S = 8
OFFSET = Point("boiler", "offset", "1201", "analog-value,7", 0)
SUPPLY = Point("boiler", "supply", "1201", "analog-input,1", 0)
ROOM = Point("stairs", "temp", "1202", "analog-input,4", 0)
PATIENCE = 30.0


@dataclass
class Demand:
    """What was ordered and what the controller says came of it."""

    on: Stage
    stations: list[str]
    people: Signers = field(default_factory=Signers)
    audience: str = ""
    told: list[str] = field(default_factory=list)
    """what was seen, a sentence each"""
    wrong: list[str] = field(default_factory=list)

    async def prepare(self) -> None:
        """Test the control, and bring trust list and grants, as a person at the gateway does."""
        await self._until(self._guarded)
        await self.on.command("control", "test", NAME)
        raw = self.people.trust().decode()
        sha256 = (await self._ask("trust.look", text=raw))["sha256"]
        await self._ask("trust.accept", text=raw, sha256=sha256, named="demo")
        self.audience = (await self._ask("trust.show"))["audience"]
        gateway = self.audience.partition(".")[0]
        for role in GRANTING:
            least = ALLOWED if role == "residents_council" else -10
            grant = self.people.grant(role, gateway, unit="K", min=least)
            await self._ask("object.accept", text=grant.decode(), named="demo")

    async def obeyed(self) -> None:
        """An authorized order: applied, felt by the rooms, released on time."""
        _, supply, room = await self._seen()
        began = time.monotonic()
        await self._order(WANTED, HELD_S)
        await self._until(self._stands, Decimal(WANTED))
        applied = time.monotonic() - began
        await asyncio.sleep(max(0.0, HELD_S - 1.5 - applied))
        _, cooler, colder = await self._seen()
        await self._until(self._stands, None)
        held = time.monotonic() - began
        self.told.append(
            f"ordered {WANTED} K for {HELD_S} s: in force after {applied:.1f} s, released after"
            f" {held:.1f} s; supply {supply} → {cooler} °C, stairwell {room} → {colder} °C"
        )
        if not HELD_S - 1 < held < HELD_S + 5:
            self.wrong.append(f"it was held for {held:.1f} s instead of {HELD_S} s")
        if Decimal(str(cooler)) >= Decimal(str(supply)):
            self.wrong.append(f"the supply did not feel it: {supply} → {cooler} °C")

    async def refused(self) -> None:
        """A forged order and one beyond the assembly's grant: both refused, with their reasons."""
        forged = self.people.order(self.audience, [NAME], WANTED, HELD_S, by=self.people.stranger)
        await self._publish(forged)
        await self._order(TOO_MUCH, HELD_S)
        found = await self._until(self._refusal)
        log = self.on.log.read_text(encoding="utf-8", errors="replace")
        said = next((line for line in log.splitlines() if "is refused: E_" in line), "")
        self.told.append(f"a forged order: {said.partition('is refused: ')[2] or 'NOT REFUSED'}")
        self.told.append(f"an order of {TOO_MUCH} K: {found['code']}: {found['words']}")
        if not said:
            self.wrong.append("the forged order was not refused")
        if not found["code"].startswith("E_GRANT_LIMIT(residents_council"):
            self.wrong.append(f"refused as {found['code']}")
        if (await self._seen())[0] is not None:
            self.wrong.append("something was written all the same")

    async def ordered_for_long(self) -> None:
        """An order that is in force when the agent is killed."""
        await self._order(WANTED, 600)
        await self._until(self._stands, Decimal(WANTED))

    async def given_back(self) -> None:
        """What systemd does when the agent has died: from its journal alone."""
        if not await self._stands(Decimal(WANTED)):
            self.wrong.append("nothing was in force when the agent was killed")
        began = time.monotonic()
        given = await self.on.command("control", "release", "--all")
        taken = time.monotonic() - began
        if not (given and all(one["done"] for one in given) and await self._stands(None)):
            self.wrong.append(f"not released after kill -9: {given}")
        self.told.append(
            f"killed -9 during an order: released from the journal alone in {taken:.1f} s"
        )

    async def _order(self, value: str, seconds: int) -> None:
        await self._publish(self.people.order(self.audience, [NAME], value, seconds))

    async def _publish(self, raw: bytes) -> None:
        topic = f"gardien/{self.audience.partition('.')[0]}/{self.people.centre.name}/down/objects"
        await asyncio.to_thread(
            mqtt.single, topic, raw, qos=1, hostname="127.0.0.1", port=self.on.broker.port
        )

    async def _ask(self, call: str, **args: Any) -> dict[str, Any]:
        found = await asyncio.to_thread(ask_daemon, self.on.state, call, args, lambda _: None)
        assert found is not None
        return found

    async def _guarded(self) -> bool:
        status = await self.on.status()
        guards = status["controls"][NAME]["guards"] if status else {}
        return bool(guards) and "unknown" not in guards.values()

    async def _refusal(self) -> dict[str, Any] | None:
        outcomes = (await self._ask("control.history", name=NAME))["outcomes"]
        return next((one for one in outcomes if one["state"] == "REJECTED"), None)

    async def _stands(self, value: Decimal | None) -> bool:
        return (await self._seen())[0] == value

    async def _seen(self) -> tuple[Value | None, Value | None, Value | None]:
        """Our priority, supply and stairwell, by the controllers' own word."""
        settings = BacnetSettings(
            address="127.0.0.1/8", port=free_udp_port(), timeout=2.0, ask=tuple(self.stations)
        )
        async with Bacnet.open(settings) as bus:
            held = await bus.held(OFFSET)
            (supply,) = await bus.read([SUPPLY])
            (room,) = await bus.read([ROOM])
            return held.ours[13], supply.value, room.value

    @staticmethod
    async def _until(seen: Any, *args: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            while not (found := await seen(*args)):
                await asyncio.sleep(0.1)
        return found
