"""The whole agent on a boiler room: ordered, felt, guarded, given back; killed, and given back.

Guards rules G5, G6. The judge is the controller itself, asked over a line of its own.
"""

import asyncio
import json
import signal
import sys
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from agent.core.errors import Refused
from agent.core.model import Point
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from agent.local import ask_daemon
from hil.bacnet.controller import free_udp_port
from hil.bacnet.process import BoilerRoom
from hil.signers import GRANTING, Signers
from tests.waiting import until

GARDIEN = Path(sys.executable).with_name("gardien")
OFFSET = Point("boiler", "offset", "1201", "analog-value,7", 0, writable=True)
ROOM = Point("stairs", "temp", "1202", "analog-input,4", 0)
HELD = 20
"""seconds of an order: a busy machine asks for the status within"""


class Building:
    def __init__(self, folder, room):
        self.folder, self.room = folder, room
        self.config, self.state = folder / "config.yaml", folder / "state"
        self.people = Signers()
        self.agent = None
        self.audience = ""

    def configure(self, least="18.0"):
        devices = self.room.devices().replace(
            'offset: {at: "analog-value,7", unit: K, every: 10s}',
            'offset: {at: "analog-value,7", unit: K, every: 10s, writable: true}',
        )
        self.config.write_text(
            f"building: {{name: Les Alpins}}\nlinks:\n{self.room.link(free_udp_port())}\n"
            f"devices:\n{devices}\n"
            "controls:\n  boiler-offset:\n    point: boiler/offset\n    equipment: heating\n"
            "    modality: {action: offset, min: -20, max: 1, max_duration: 2h}\n"
            f"    guards: [{{name: stairwell, point: stairs/temp, min: {least}}}]\n"
            f"    require: [{', '.join(GRANTING)}]\n    restore: relinquish\n"
            "    device_watchdog: none-accepted\n"
            "privacy: {policy: DEMO-1}\nclock: {source: system}\n"
            f"trust: {{threshold: 1}}\nstate: {self.state}\n"
        )

    def configure_otherwise(self, before, after):
        text = self.config.read_text()
        assert before in text
        self.config.write_text(text.replace(before, after))

    async def gardien(self, *words, status=0):
        process = await asyncio.create_subprocess_exec(
            GARDIEN, *words, "--config", str(self.config),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == status, (words, out.decode(), err.decode())
        return out.decode() + err.decode()

    async def start(self):
        with (self.folder / "log").open("a") as log:
            self.agent = await asyncio.create_subprocess_exec(
                GARDIEN, "run", "--config", str(self.config), stderr=log
            )
        await until(lambda: self.asked("status"))
        await until(self.guard_known)

    def guard_known(self):
        guards = self.asked("control.list")["controls"]["boiler-offset"]["guards"]
        return guards["stairwell"] != "unknown"

    async def kill(self):
        self.agent.kill()
        await self.agent.wait()
        self.agent = None

    async def end(self):
        if self.agent is not None:
            self.agent.send_signal(signal.SIGTERM)
            assert await self.agent.wait() == 0
            self.agent = None

    def asked(self, call, **args):
        try:
            return ask_daemon(self.state, call, args, lambda _: None)
        except OSError:
            return None

    def accept(self, raw):
        args = {"text": raw.decode(), "named": "a test"}
        return self.asked("object.accept", **args)["targets"]["boiler-offset"]

    def trusted(self):
        """The list is accepted by a person, who has compared its sha256; then the grants come."""
        raw = self.people.trust().decode()
        sha256 = self.asked("trust.look", text=raw)["sha256"]
        self.asked("trust.accept", text=raw, sha256=sha256, named="a test")
        self.audience = self.asked("trust.show")["audience"]
        for role in GRANTING:
            grant = self.people.grant(role, self.audience.partition(".")[0], min=-20, unit="K")
            self.asked("object.accept", text=grant.decode(), named="a test")

    def order(self, value="-1.5", seconds=600, **more):
        return self.people.order(self.audience, ["boiler-offset"], value, seconds, **more)

    def beside(self):
        """A line of our own to the controllers, beside the agent's."""
        settings = BacnetSettings(
            address="127.0.0.1/8", port=free_udp_port(), timeout=2.0,
            ask=tuple(one["station"] for one in self.room.controllers),
        )  # fmt: skip
        return Bacnet.open(settings)

    async def standing(self):
        """What stands in our priority, by the controller's own word."""
        async with self.beside() as bus:
            held = await bus.held(OFFSET)
            (room,) = await bus.read([ROOM])
            return held.ours[13], room.value


@asynccontextmanager
async def building(folder, faster=1.0, least="18.0"):
    async with BoilerRoom(faster) as room:
        made = Building(folder, room)
        made.configure(least)
        await made.gardien("key", "new")
        await made.start()
        try:
            made.trusted()
            yield made
            await made.end()
        finally:
            if made.agent is not None:
                made.agent.kill()
                await made.agent.wait()


def test_what_was_authorized_is_done_and_given_back_and_nothing_else(tmp_path):
    async def attack():
        async with building(tmp_path) as here:
            untested = here.accept(here.order())
            assert untested["code"] == "E_UNTESTED"
            said = await here.gardien("control", "test", "boiler-offset")
            assert "boiler-offset passed" in said

            over = here.accept(here.order("-21"))
            assert (over["state"], over["code"]) == ("REJECTED", "E_RANGE")
            for forged in (
                here.order(by=here.people.stranger),
                here.people.order("G84G7ZWYRD6Z1GQ.other", ["boiler-offset"], "-1", 60),
            ):
                with pytest.raises(Refused, match=r"E_SIG|E_KID|E_AUD"):
                    here.accept(forged)
            assert (await here.standing())[0] is None

            file = tmp_path / "order"
            file.write_bytes(here.order("-1.5"))
            said = await here.gardien("control", "dry-run", str(file))
            assert "boiler-offset would be done: -1.5 K from" in said
            assert said.count("authorized by the vote AG, résolution 14") == len(GRANTING)
            assert "starting at random" not in said
            file.write_bytes(here.order("-21"))
            said = await here.gardien("control", "dry-run", str(file), status=1)
            assert "-21 was asked (E_RANGE)" in said
            assert (await here.standing())[0] is None

            file.write_bytes(here.order("-1.5", HELD))
            taken = here.accept(file.read_bytes())
            assert taken["state"] == "SCHEDULED"
            began = time.monotonic()
            await until(lambda: held(here, Decimal("-1.5")))
            status = await here.gardien("status", "--all", status=1)
            assert status.count("\n! ") == 1, "nothing else is wrong"
            assert "! no uplink is configured" in status
            assert "control boiler-offset: -1.5 K until" in status
            said = await here.gardien("control", "dry-run", str(file), status=1)
            assert "was SCHEDULED then (E_REPLAY)" in said
            said = await here.gardien("control", "release", "--all", status=1)
            assert "while it runs, release one control: gardien control release NAME" in said
            await until(lambda: held(here, None))
            assert time.monotonic() - began > HELD - 0.5
            history = await here.gardien("control", "history")
            assert "-1.5 K, asked by energie.metropole.example".replace("-", "−") in history
            assert "released, confirmed" in history
            assert "boiler-offset is agreed down to -20 K, -21 was asked (E_RANGE)" in history
            days = ("--from", "2026-01-01", "--to", "2026-01-02")
            said = await here.gardien("control", "history", *days)
            assert "no order was applied between 2026-01-01 and 2026-01-02" in said
            return json.loads(await here.gardien("control", "list", "--json"))

    answer = asyncio.run(attack())
    assert answer["boiler-offset"]["state"] == "free"


async def held(here, value):
    return (await here.standing())[0] == value


def test_the_agent_is_killed_during_a_hold_and_a_person_gives_the_equipment_back(tmp_path):
    """That a start gives it back by itself is tested in tests/sim (plan `orders-over-restarts`)."""

    async def attack():
        async with building(tmp_path) as here:
            await here.gardien("control", "test", "boiler-offset")
            here.accept(here.order("-1.5"))
            await until(lambda: holds(here))
            said = await here.gardien("updates", "--by-hand", status=1)
            assert "boiler-offset is held until" in said  # no upgrade during a hold
            await here.kill()
            assert await holds(here)  # nobody is there who could have given it back
            said = await here.gardien("updates", "--by-hand", status=1)
            assert "boiler-offset is held until" in said  # nor while nobody runs
            began = time.monotonic()
            said = await here.gardien("control", "release", "--all")
            assert "boiler-offset: released, confirmed" in said
            assert time.monotonic() - began < 20
            assert not await holds(here)
            await here.start()
            return await here.gardien("control", "history")

    history = asyncio.run(attack())
    assert "broken off: the agent does not run" in history


DISPLAY = """\
      dr-inhibit: {at: "binary-value,3", unit: "1", every: 1s}
      dr-active: {at: "binary-value,4", unit: "1", every: 1h, writable: true}
      dr-value: {at: "analog-value,8", unit: K, every: 1h, writable: true}
      dr-minutes: {at: "analog-value,9", unit: min, every: 1h, writable: true}
      dr-by: {at: "analog-value,10", unit: "1", every: 1h, writable: true}
      dr-alive: {at: "analog-value,11", unit: "1", every: 1h, writable: true}
  stairs:
"""
SHOWN = """\
    inhibit: boiler/dr-inhibit
    device_watchdog: {logic: the BMS drops an offset 15 min old, heartbeat: boiler/dr-alive}
    shown: {active: boiler/dr-active, value: boiler/dr-value, minutes: boiler/dr-minutes,
      by: boiler/dr-by}
"""


def test_the_operator_sees_in_the_bms_what_we_do_and_stops_it_there_without_any_key(tmp_path):
    asked = [
        Point("boiler", name, "1201", at, 0, writable=True)
        for name, at in (
            ("active", "binary-value,4"), ("value", "analog-value,8"),
            ("minutes", "analog-value,9"), ("by", "analog-value,10"),
            ("alive", "analog-value,11"),
        )
    ]  # fmt: skip
    inhibit = Point("boiler", "inhibit", "1201", "binary-value,3", 0, writable=True)

    async def attack():
        async with BoilerRoom() as room:
            here = Building(tmp_path, room)
            here.configure()
            here.configure_otherwise("  stairs:\n", DISPLAY)
            here.configure_otherwise("    device_watchdog: none-accepted\n", SHOWN)
            await here.gardien("key", "new")
            await here.start()
            try:
                here.trusted()
                said = await here.gardien("control", "test", "boiler-offset")
                assert "not tested: the BMS drops an offset 15 min old" in " ".join(said.split())
                async with here.beside() as bms:

                    async def shown():
                        return [one.value for one in await bms.read(asked)]

                    assert await shown() == [0, 0, 0, 0, 0]
                    here.accept(here.order("-1.5", 600))
                    await until(lambda: holds(here))
                    await until(lambda: all_of(shown))
                    *told, _ = await shown()
                    assert told == [1, Decimal("-1.5"), 10, 1]
                    await bms.write(inhibit, Decimal(1), 13)
                    await until(lambda: held(here, None))
                    await until(lambda: none_of(shown))
                assert here.accept(here.order("-1"))["code"] == "E_INHIBITED"
                return await here.gardien("control", "history")
            finally:
                await here.kill()

    history = asyncio.run(attack())
    assert "the operator has set boiler/dr-inhibit; released, confirmed" in history


async def all_of(shown):
    return all(await shown())


async def none_of(shown):
    return not any((await shown())[:4])


async def holds(here):
    return (await here.standing())[0] is not None


def test_rooms_cool_until_the_guard_trips_and_come_back_after_it(tmp_path):
    async def attack():
        async with building(tmp_path, faster=3600.0, least="19.3") as here:
            await here.gardien("control", "test", "boiler-offset")
            await until(lambda: warm(here, 19.6))
            here.accept(here.order("-20", 7200))
            # rooms cool so fast here that a busy machine may not see it held
            await until(lambda: told(here, "broken off: stairwell is 1"))
            await until(lambda: free(here))
            assert not await holds(here)
            coldest = (await here.standing())[1]
            await until(lambda: warm(here, float(coldest) + 0.1))
            return here.accept(here.order("-20", 7200))

    again = asyncio.run(attack())
    assert again["code"] in {"E_GUARD(stairwell)", "E_TIMER"} or again["state"] == "SCHEDULED"


async def told(here, words):
    return words in await here.gardien("control", "history")


def free(here):
    return here.asked("control.list")["controls"]["boiler-offset"]["state"] == "free"


async def warm(here, least):
    return float((await here.standing())[1]) >= least


def test_a_reload_gives_back_what_it_defines_otherwise_and_nothing_else(tmp_path):
    async def attack():
        async with building(tmp_path) as here:
            await here.gardien("control", "test", "boiler-offset")
            here.accept(here.order("-1.5"))
            await until(lambda: held(here, Decimal("-1.5")))

            here.configure_otherwise("name: Les Alpins", "name: Les Ecrins")
            await here.gardien("reload")
            assert await held(here, Decimal("-1.5"))
            assert here.asked("control.list")["controls"]["boiler-offset"]["state"] == "held"

            here.configure_otherwise("max_duration: 2h", "max_duration: 1h")
            await here.gardien("reload")
            assert await held(here, None)
            status = here.asked("control.list")["controls"]["boiler-offset"]
            assert (status["state"], status["alarm"]) == ("free", "")
            return await here.gardien("control", "history")

    history = asyncio.run(attack())
    assert "broken off: the configuration was changed; released, confirmed" in history
