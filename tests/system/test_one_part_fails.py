"""Each part of the daemon fails in turn by an unexpected error: all others go on (decision 030).

Two lines, two uplinks on a broker each, a control, the local socket. The judges are the platforms,
which count what they hold, and the charger that is commanded. Guards rules G1, G2, G6, G7, G11.
"""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import jsonschema
import pytest
from paho.mqtt import subscribe

from agent import app, local
from agent.acquisition.poller import Poller
from agent.acquisition.row_assignment import RowAssignment
from agent.buffer.database import Damaged
from agent.buffer.spool import Spool
from agent.control.controller import Controller
from agent.drivers.modbus.bus import Bus
from agent.gateway.export_log import Exports
from agent.gateway.gateway import DwellingSums
from agent.gateway.uplink_state import Moves
from agent.registry import identity
from agent.registry.place import mint
from hil.broker import broker
from hil.building import Building as Meters
from hil.charger import Charger
from hil.modbus_server import Reply, serving
from hil.platform.child import Platform
from hil.platform.report import rows
from hil.signers import Signers
from tests.system.test_daemon import GARDIEN
from tests.waiting import until

SCHEMA = json.loads(Path("docs/status.schema.json").read_text(encoding="utf-8"))
CONFIG = """\
building: {{name: Les Alpins}}
links:
  riser-0: {{driver: modbus-tcp, host: 127.0.0.1, port: {ports[0]}, timeout: 2s}}
  riser-1: {{driver: modbus-tcp, host: 127.0.0.1, port: {ports[1]}, timeout: 2s}}
  cars: {{driver: modbus-tcp, host: 127.0.0.1, port: {cars}}}
devices:
{meters}
  wallbox:
    link: cars
    address: 255
    points:
      limit: {{at: "holding/1100/uint32 write@5004/uint16 alone", unit: A, scale: 0.001,
        every: 1h, writable: true}}
      current: {{at: "holding/1008/uint32", unit: A, scale: 0.001, every: 1s}}
controls:
  wallbox-limit:
    point: wallbox/limit
    equipment: cars
    modality: {{action: setpoint, min: 6, max: 32, max_duration: 4h}}
    guards: [{{name: drawn, point: wallbox/current, max: 40}}]
    require: [building_manager]
    restore: preimage
    device_watchdog: none-accepted
uplinks:
  one: {{recipient: one.example, transport: mqtt, url: "{one.url}", seal: 200ms}}
  two: {{recipient: two.example, transport: mqtt, url: "{two.url}", seal: 200ms}}
privacy: {{policy: DEMO-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
clock: {{source: system}}
trust: {{threshold: 1}}
syndic:
  {{path: {state}, every: 1s, columns: {{dwelling: D, reference: L, since: S, until: U}}}}
state: {state}
spool: {{max: 50MB, flush: 200ms}}
"""
METER = "  m-{}-{}: {{link: riser-{}, address: {}, profile: eastron-sdm120, every: 1s, place: {}}}"
ODD = TypeError, "nobody expected this"
NAME = "wallbox-limit"


def failing(cls, name, error, when=lambda *_: True):
    """A method that raises for those arguments, and does its work for others."""
    real = getattr(cls, name)

    @contextmanager
    def patched():
        def wrong(*args, **more):
            if when(*args):
                raise error[0](error[1])
            return real(*args, **more)

        setattr(cls, name, wrong)
        try:
            yield
        finally:
            setattr(cls, name, real)

    return patched


PARTS = {
    "poll riser-0": failing(Bus, "read", ODD, lambda _, points: points[0].device == "m-0-1"),
    "uplink one": failing(
        Moves, "of", (OSError, "read-only"), lambda _, to, *__: to == "one.example"
    ),
    "poll riser-1": failing(Poller, "_choose", ODD, lambda of, *_: of.link.name == "riser-1"),
    "rows two": failing(RowAssignment, "at", ODD, lambda gate, *_: gate.recipient == "two.example"),
    "spool one": failing(
        Spool, "append", (Damaged, "odd"), lambda spool, *_: spool._head.recipient == "one.example"
    ),
    "spool two": failing(
        Spool, "append", (sqlite3.OperationalError, "disk I/O error"),
        lambda spool, *_: spool._head.recipient == "two.example",
    ),
    "syndic export": failing(Exports, "begin", ODD),
    "sums two": failing(DwellingSums, "add_up", ODD, lambda _, to, *__: to.name == "two"),
    f"control {NAME}": failing(Controller, "_tend", ODD),
}  # fmt: skip


class Daemon:
    """The whole agent in this process, and what surrounds it."""

    def __init__(self, folder, platforms, brokers, charger):
        self.state, self.config = folder / "state", folder / "config.yaml"
        self.platforms, self.brokers, self.charger = platforms, brokers, charger
        self.house, self.trouble = None, asyncio.Event()

    async def door(self, house, state):
        """The real one, until it is made to fail."""
        self.house = house
        house.jobs.well = 1.0
        answering = asyncio.ensure_future(local.open_door(house, state))
        try:
            await self.trouble.wait()
            self.trouble.clear()
            raise ODD[0](ODD[1])
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering

    async def ask(self, call, **args):
        return await asyncio.to_thread(local.ask_daemon, self.state, call, args, lambda _: None)

    def faults(self):
        return {one.component for one in self.house.jobs.faults.all()}

    def latest(self, uplink, line):
        """The last slot of which the platform has a value, of the meters of a line."""
        mine = {place for (of, _), place in self.places.items() if of == line}
        found = [row.t for row in rows(self.platforms[uplink].db)
                 if row.place in mine and row.value is not None]  # fmt: skip
        return max(found, default=0)

    async def goes_on(self, uplink, line):
        """Values that are read from now on arrive."""
        after = time.time()
        await until(lambda: self.latest(uplink, line) > after)

    async def limited(self, amperes):
        """Order, and see the charger do it."""
        raw = self.people.order(self.audience, [NAME], amperes, 600, act="setpoint", unit="A")
        answer = await self.ask("object.accept", text=raw.decode(), named="a test")
        assert answer["targets"][NAME]["state"] == "SCHEDULED", answer
        await until(lambda: self.charger.limit == int(amperes) * 1000)

    async def control_ready(self):
        await self.ask("control.test", name=NAME, named="a test")
        self.people = Signers()
        raw = self.people.trust().decode()
        sha256 = (await self.ask("trust.look", text=raw))["sha256"]
        await self.ask("trust.accept", text=raw, sha256=sha256, named="a test")
        self.audience = (await self.ask("trust.show"))["audience"]
        gateway = self.audience.partition(".")[0]
        grant = self.people.grant("building_manager", gateway, ("cars", "setpoint"), unit="A")
        await self.ask("object.accept", text=grant.decode(), named="a test")

    async def told(self, uplink):
        """The status that the broker retains."""
        port = self.brokers[uplink].port
        found = await asyncio.to_thread(
            subscribe.simple, "gardien/+/+/status", hostname="127.0.0.1", port=port
        )
        return json.loads(found.payload)

    async def told_of(self, uplink):
        document = await self.told(uplink)
        jsonschema.validate(document, SCHEMA)
        return {one["component"] for one in document.get("faults", ())}


@asynccontextmanager
async def daemon(folder):
    charger = Charger(wanted=32_000)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        brokers = {name: await enter(broker()) for name in ("one", "two")}
        platforms = {
            name: await enter(Platform(at.port, folder / f"{name}.db"))
            for name, at in brokers.items()
        }
        meters = await enter(Meters.open(lines=2, meters=2))
        cars = await enter(serving(lambda _, pdu: Reply(charger(pdu))))
        here = Daemon(folder, platforms, brokers, charger)
        here.state.mkdir(mode=0o700)
        identity.mint(here.state)
        here.places = {(line, unit): mint("C") for line in (0, 1) for unit in (1, 2)}
        listed = [METER.format(a, b, a, b, place) for (a, b), place in here.places.items()]
        here.config.write_text(
            CONFIG.format(ports=meters.ports, cars=cars, meters="\n".join(listed),
                          state=here.state, **brokers)
        )  # fmt: skip
        running = asyncio.ensure_future(app.run(here.config, here.door))
        try:
            await until(lambda: running.done() or (here.state / "gardien.sock").exists())
            yield here
        finally:
            began = time.monotonic()
            if not running.done():
                os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(30):
                await running
            here.ended_within = time.monotonic() - began


def complete(db):
    """Each series' slots, from its first to its last, are stated once each."""
    stated = defaultdict(list)
    for row in rows(db):
        stated[row.place, row.channel, row.kind].extend(
            range(row.t, row.t + row.span * row.step, row.step)
        )
    assert len(stated) >= 4
    for series, slots in stated.items():
        assert sorted(slots) == list(range(min(slots), max(slots) + 1)), series


async def each_in_turn(folder):
    async with daemon(folder) as here:
        await here.control_ready()
        for uplink in ("one", "two"):
            for line in (0, 1):
                await here.goes_on(uplink, line)
        with PARTS["poll riser-0"]():
            await until(lambda: "poll riser-0" in here.faults())
            with PARTS["uplink one"]():
                # it is asked for its address every half second
                await until(lambda: "move one" in here.faults())
                await here.brokers["one"].kill()
                await here.brokers["one"].start()
                await until(lambda: "uplink one" in here.faults())
                await here.goes_on("two", 0)
            await here.goes_on("one", 0)
            assert await here.told_of("one") >= {"poll riser-0"}
        for part, (uplink, line) in {
            "poll riser-1": ("one", 0),
            "rows two": ("one", 1),
            "spool one": ("two", 1),
            "spool two": ("one", 0),
            "sums two": ("two", 0),
            "syndic export": ("one", 0),
        }.items():
            with PARTS[part]():
                await until(lambda part=part: part in here.faults())
                await here.goes_on(uplink, line)
            here.house.jobs.retry(part)
        await here.limited("10")
        with PARTS[f"control {NAME}"]():
            here.house.steering.controller.wake(NAME)
            await until(lambda: f"control {NAME}" in here.faults())
            await until(lambda: here.charger.limit == 32_000)
            status = await asyncio.create_subprocess_exec(
                GARDIEN, "status", "--all", "--config", here.config, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await status.communicate()
            assert status.returncode == 1
            assert (
                f"! control {NAME} stopped after an unexpected error (TypeError); it is restarted"
                in (said.decode())
            )
            assert "nobody expected this" in said.decode()
            assert "support-bundle" in said.decode()
        here.house.jobs.retry(f"control {NAME}")
        here.trouble.set()
        await until(lambda: "local socket" in here.faults())
        await here.goes_on("two", 1)
        await until(lambda: not here.faults())
        assert not [one for one in (await here.ask("status"))["events"] if one["code"] == "fault"]
        await here.limited("12")
        await here.brokers["one"].kill()
        await here.brokers["one"].start()
        await here.goes_on("one", 1)
        assert "poll riser-0" not in await here.told_of("one")
        for uplink in ("one", "two"):
            for line in (0, 1):
                await here.goes_on(uplink, line)
    assert here.charger.limit == 32_000, "given back at the end"
    for uplink in ("one", "two"):
        complete(here.platforms[uplink].db)
        counted = await here.platforms[uplink].report()
        wrong = ("alarms", "duplicate_rows", "overlapping_slots", "differing_batches")
        assert not [word for word in wrong if counted[word]], counted


@pytest.mark.timeout(240)
def test_whichever_part_fails_the_others_go_on_and_nothing_is_lost_or_doubled(tmp_path):
    asyncio.run(each_in_turn(tmp_path))


async def fails_while_it_ends(folder):
    async with daemon(folder) as here:
        await here.control_ready()
        await here.goes_on("two", 0)
        await here.limited("10")
        with PARTS["spool one"]():
            await until(lambda: "spool one" in here.faults())
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: here.charger.limit == 32_000)
            await until(lambda: not (here.state / "gardien.sock").exists())
            await until(lambda: not here.house.jobs.names())
    assert here.ended_within < 20


@pytest.mark.timeout(120)
def test_an_end_is_prompt_and_gives_back_while_a_spool_is_parked(tmp_path):
    asyncio.run(fails_while_it_ends(tmp_path))
