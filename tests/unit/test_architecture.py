"""docs/architecture.md tells what is so: its files exist, its layers are those that are enforced,
and its two stories are those of a reading and an order in a gateway that runs.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
import tomllib
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.publish
import pytest

from agent.api.calls import CALLS
from agent.api.registry import Caller
from agent.registry import identity
from hil.broker import broker
from hil.building import Building
from hil.modbus_server import Reply, serving
from hil.platform.child import Platform
from hil.platform.report import rows
from hil.serial_line import Registers
from hil.signers import Signers
from tests.contract.gateway.running import at_work
from tests.traced import Recorder, Run, Step, story

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.gateway.gateway import Gateway
    from hil.broker import Broker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STORIES = ("One reading", "One order")
PAGES = (
    "docs/architecture.md",
    "docs/glossary.md",
    "docs/decisions/001-the-house.md",
    "docs/decisions/002-libraries.md",
    "docs/decisions/005-modbus.md",
    "CONTRIBUTING.md",
)
ELSEWHERE = "agent/api/syndic.py"
"""a file that has nothing to do with either story"""
TIMES = 4
FILES = 68
"""files that a reading, or an order, may pass through"""
NOT_BUILT = {"agent/web/"}
RECIPIENT = "energie.metropole.example"
CONFIG = """\
building: {{name: Les Alpins, timezone: Europe/Paris}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {riser}}}
  plant: {{driver: modbus-tcp, host: 127.0.0.1, port: {plant}}}
devices:
  sdm-11: {{link: riser, address: 1, profile: eastron-sdm120, every: 1s}}
  boiler:
    link: plant
    address: 7
    place: CZS2Y-FSTBQ-Q5WDC
    points: {{offset: {{at: holding/100/int16, unit: K, scale: 0.1, every: 1h, writable: true}}}}
  stairs:
    link: plant
    address: 8
    points: {{temp: {{at: holding/101/int16, unit: Cel, scale: 0.1, every: 10s}}}}
controls:
  boiler-offset:
    point: boiler/offset
    equipment: heating
    modality: {{action: offset, min: -2, max: -1, max_duration: 2h}}
    guards: [{{name: stairwell, point: stairs/temp, min: 18.0}}]
    require: [building_manager]
    restore: preimage
    device_watchdog: none-accepted
uplinks:
  centre: {{recipient: {recipient}, transport: mqtt, url: "{url}", seal: 500ms}}
privacy: {{policy: DEMO-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
clock: {{source: system}}
trust: {{threshold: 1}}
state: {state}
spool: {{max: 50MB, flush: 200ms}}
"""
PLACES = "label;type;since\nA-3-12;dwelling;2020-01-01\n"
OFFSET, TEMPERATURE = (3, 100), (3, 101)


class Gateway:
    """A gateway at work in this process, in the simulated building."""

    def __init__(self, house: Gateway, broker: Broker, platform: Platform, serial: str) -> None:
        self.house, self.broker, self.platform, self.serial = house, broker, platform, serial
        self.people, self.audience = Signers(), ""

    async def call(self, name: str, /, **args: Any) -> dict[str, Any]:
        return await CALLS[name](self.house, Caller("alice", _nobody), **args)

    async def delivered(self) -> None:
        """Return once a reading of a slot that is still to come has had its receipt."""
        now = time.time()
        while not any(row.t > now for row in rows(self.platform.db)):
            await asyncio.sleep(0.02)  # another process writes it
        while not self.house.recipients["centre"].delivery.idle:
            await asyncio.sleep(0.01)

    async def prepare(self) -> None:
        """Whose the meter is, who consents, who may order; and the control is tested."""
        await self.call("place.import", text=PLACES, name="places.csv")
        await self.call("meter.import", text=f"serial;dwelling\n{self.serial};A-3-12\n", name="m")
        await self.call(
            "consent.give", places=["A-3-12"], recipient=RECIPIENT, channels=["elec.imp"],
            step="1s", purpose="advice",
        )  # fmt: skip
        raw = self.people.trust().decode()
        sha256 = (await self.call("trust.look", text=raw))["sha256"]
        await self.call("trust.accept", text=raw, sha256=sha256)
        self.audience = (await self.call("trust.show"))["audience"]
        name = self.audience.partition(".")[0]
        grant = self.people.grant("building_manager", name, min=-2, unit="K")
        await self.call("object.accept", text=grant.decode())
        await self.call("control.test", name="boiler-offset")

    async def sent(self, order: bytes) -> None:
        """Send an order as the platform does."""
        topic = f"gardien/{self.audience.partition('.')[0]}/{RECIPIENT}/down/objects"
        to = {"hostname": "127.0.0.1", "port": self.broker.port}
        await asyncio.to_thread(paho.mqtt.publish.single, topic, order, qos=1, **to)

    async def told_of_the_end(self, before: int) -> None:
        """Return once the platform knows of one order more that was carried out and is over."""
        while self.carried_out() <= before:
            await asyncio.sleep(0.02)  # another process writes it

    def carried_out(self) -> int:
        """How many orders the platform knows to be carried out and over."""
        with closing(sqlite3.connect(self.platform.db)) as db:
            told = db.execute("SELECT body FROM directory WHERE list = 'outcomes'").fetchall()
        said = [json.loads(body) for (body,) in told]
        return sum(one["state"] == "COMPLETED" and one["jti"] != "test" for one in said)


async def _nobody(_: dict[str, Any]) -> None:
    """Nobody to tell."""


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[Gateway]:
    plant = Registers({OFFSET: 0, TEMPERATURE: 205})
    async with (
        broker() as far,
        Platform(far.port, folder / "platform.db") as platform,
        Building.open(lines=1, meters=1) as building,
        serving(lambda _, pdu: Reply(plant(pdu))) as port,
    ):
        config, state = folder / "config.yaml", folder / "state"
        words = {"riser": building.ports[0], "plant": port, "url": far.url, "state": state}
        config.write_text(CONFIG.format(recipient=RECIPIENT, **words), encoding="utf-8")
        state.mkdir(mode=0o700)
        identity.mint(state)
        async with at_work(config) as house:
            yield Gateway(house, far, platform, building.serial(0, 1))


async def a_reading(here: Gateway, recorder: Recorder) -> None:
    await here.delivered()
    # what the registry says is asked anew after each change of it
    await here.call("place.new", label=f"Hall {time.time()}", type="common")
    recorder.on = True
    await here.delivered()
    recorder.on = False


async def an_order(here: Gateway, recorder: Recorder) -> None:
    before = here.carried_out()
    order = here.people.order(here.audience, ["boiler-offset"], "-1.5", 1)
    recorder.on = True
    await here.sent(order)
    await here.told_of_the_end(before)
    recorder.on = False


def follow_both(recorder: Recorder, folder: Path) -> dict[str, Run]:
    """The calls of one reading and of one order, by the heading of their story.

    Tasks go on beside each other: now and then a batch is begun just before the row is committed
    that it takes. So the next one is looked at where the first was not as the story has it.
    """
    found = {}

    async def run() -> None:
        async with gateway(folder) as here:
            await here.prepare()
            for heading, happens in zip(STORIES, (a_reading, an_order), strict=True):
                for _ in range(TIMES):
                    await happens(here, recorder)
                    found[heading] = recorder.taken()
                    if not found[heading].follow(story(PAGE, heading)):
                        break

    with recorder.recording() as runner:
        runner.run(run())
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return follow_both(Recorder(ROOT), tmp_path_factory.mktemp("gateway"))


@pytest.mark.parametrize("heading", STORIES)
def test_a_story_is_that_of_a_gateway_that_runs(heading: str, runs: dict[str, Run]) -> None:
    steps = story(PAGE, heading)
    assert len(steps) > 20
    assert runs[heading].follow(steps) == []
    assert len({file for file, _ in runs[heading].passed()}) <= FILES


@pytest.mark.parametrize("heading", STORIES)
def test_a_story_with_a_wrong_line_is_found_out(heading: str, runs: dict[str, Run]) -> None:
    steps = story(PAGE, heading)
    for n, step in enumerate(steps):
        assert runs[heading].follow(put(steps, n, replace(step, file=ELSEWHERE))), n
    for n, (step, below) in enumerate(pairwise(steps)):
        if 0 < step.depth < below.depth:
            upside_down = put(steps, n, replace(step, file=below.file))
            upside_down = put(upside_down, n + 1, replace(below, file=step.file))
            assert runs[heading].follow(upside_down), n


def put(steps: Sequence[Step], n: int, step: Step) -> list[Step]:
    return [*steps[:n], step, *steps[n + 1 :]]


@pytest.mark.parametrize("page", PAGES)
def test_each_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_.0-9-]+/)+[a-z_.0-9-]*)`", text)) - NOT_BUILT
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_glossary_has_each_word_once_and_the_french_of_the_messages() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    french = "".join(
        path.read_text(encoding="utf-8").lower()
        for pattern in ("*.po", "*.yaml", "*.toml", "*.html", "*.txt", "registry/*.py")
        for path in (ROOT / "agent").rglob(pattern)
    )
    for part in text.split("\n## ")[1:]:
        rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| .* \|$", part, re.MULTILINE)[1:]
        words = [word for word, _ in rows]
        assert len(words) > 50
        assert words == sorted(set(words), key=str.lower)
        if part.startswith("The domain"):
            said = [term for _, term in rows if term != "–"]
            assert [term for term in said if term not in french] == []


def test_the_layers_are_those_that_are_enforced() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    enforced = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
    section = PAGE.split("## Layers\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (`agent/.*?) \|", section, re.MULTILINE)
    assert [set(re.findall(r"`agent/(\w+)(?:/|\.py)`", cell)) for cell in cells] == enforced
