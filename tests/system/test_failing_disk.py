"""The disk fails under a running agent, is read-only, or freezes: readings go on from memory.

The judge is the platform: of each slot it shows one value, or says why there is none, and a value
that was read and delivered never changes. Guards rules G1, G2 (docs/decisions/030). Rules A1, A2.
"""

import asyncio
import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from agent import local
from agent.core.atomic_write import SILENT
from agent.core.errors import Refused
from agent.core.storage import volatile
from agent.registry import identity
from agent.registry.place import mint
from hil.broker import broker
from hil.building import Building as Meters
from hil.platform.child import Platform
from hil.platform.report import rows
from tests.depth import LONG
from tests.disks import available, disk
from tests.system.moved import GCC

CONFIG = """\
building: {{name: Les Alpins}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 2s}}
devices:
{meters}
uplinks:
  one: {{recipient: one.example, transport: mqtt, url: "{url}", seal: 200ms}}
privacy: {{policy: DEMO-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
clock: {{source: system}}
state: {state}
spool: {{max: 5MB, reserve: 1MB, flush: 200ms}}
"""
METER = "  m-{0}: {{link: riser, address: {0}, profile: eastron-sdm120, every: 1s, place: {1}}}"
SOONER = """\
import sys
from agent.gateway import recipient
from agent.buffer import database
recipient.PROBED_EVERY, database.STALLED_AFTER = 1.0, 2.0
from agent.entry import main
sys.argv = ["gardien", "run", "--config", sys.argv[1]]
main()
"""
"""the agent, that waits a second where it waits a minute"""


WAYS = [(errno.EROFS, "read-only")]
if LONG:
    WAYS.append((errno.EIO, "reports errors"))


class Fails:
    """The state directory's disk, by `failing.c`."""

    def __init__(self, folder: Path, state: Path) -> None:
        self._file, library = folder / "fails", folder / "failing.so"
        source = Path(__file__).with_name("failing.c")
        build = [GCC, "-O1", "-Wall", "-shared", "-fPIC", "-o", library, source, "-ldl"]
        subprocess.run(build, check=True)
        self._file.write_bytes(struct.pack("=q", 0))
        self.environment = {
            "LD_PRELOAD": str(library), "FAILS": str(self._file), "DISK": str(state)
        }  # fmt: skip

    def by(self, number: int) -> None:
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", number))


class Agent:
    def __init__(self, folder, state, port, surroundings):
        at, platform, environment = surroundings
        self.folder, self.state, self.platform = folder, state, platform
        self.config, self.broker = folder / "config.yaml", at
        self.environment, self.process, self.program = environment, None, SOONER
        places = {unit: mint("C") for unit in (1, 2)}
        listed = "\n".join(METER.format(*one) for one in places.items())
        self.config.write_text(CONFIG.format(port=port, meters=listed, url=at.url, state=state))

    async def start(self):
        self.log = (self.folder / "log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", self.program, self.config,
            env=os.environ | self.environment, stdout=self.log, stderr=self.log,
        )  # fmt: skip
        await self.until(self.answers)

    async def answers(self):
        try:
            return await self.status()
        except Exception:  # noqa: BLE001 -- not yet
            return None

    async def call(self, name, arguments):
        return await asyncio.to_thread(
            local.ask_daemon, self.state, name, arguments, lambda _: None
        )

    async def status(self):
        return await self.call("status", {})

    async def uplink(self):
        return (await self.status())["uplinks"].get("one", {})

    async def end(self, how=signal.SIGTERM):
        if self.process.returncode is None:
            self.process.send_signal(how)
        async with asyncio.timeout(40):
            code = await self.process.wait()
        self.log.close()
        return code

    async def until(self, fact, within=60.0):
        async with asyncio.timeout(within):
            while not (found := await fact()):
                assert self.process.returncode is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.1)
        return found

    def latest(self):
        return max((one.t for one in rows(self.platform.db) if one.value is not None), default=0)

    async def goes_on(self):
        """Values that are read from now on arrive."""
        after = time.time() + 1

        async def newer():
            return self.latest() > after

        await self.until(newer)

    async def is_kept(self, where):
        async def so():
            found = await self.uplink()
            return bool(found) and (found["kept"], bool(found["in_memory"])) == (where, False)

        await self.until(so)


@asynccontextmanager
async def agent(folder, state, environment, program=SOONER):
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        at = await enter(broker())
        platform = await enter(Platform(at.port, folder / "platform.db"))
        meters = await enter(Meters.open(lines=1, meters=2))
        state.mkdir(mode=0o700, exist_ok=True)
        identity.mint(state)
        here = Agent(folder, state, meters.ports[0], (at, platform, environment))
        here.program = program
        await here.start()
        try:
            yield here
        finally:
            await here.end()
            shutil.rmtree(volatile(state), ignore_errors=True)


def judged(db, most_missing):
    """Each slot of each series, from its first to its last, shows one thing; how many show none."""
    shown = defaultdict(dict)
    for row in rows(db):  # versions in rising order: the last holds
        for slot in range(row.t, row.t + row.span * row.step, row.step):
            before = shown[row.place, row.channel, row.kind].get(slot)
            shown[row.place, row.channel, row.kind][slot] = (row.value, row.why)
            assert not (before and before[0] is not None and row.value is None), (row, before)
    assert len(shown) >= 2
    for series, slots in shown.items():
        assert sorted(slots) == list(range(min(slots), max(slots) + 1)), series
        missing = [why for value, why in slots.values() if value is None]
        assert len(missing) <= most_missing, (series, missing)
        values = [float(value) for _, (value, _) in sorted(slots.items()) if value is not None]
        assert values == sorted(values), series  # an index never falls


async def counted_well(here):
    counted = await here.platform.report()
    wrong = ("alarms", "differing_batches")
    assert not [word for word in wrong if counted[word]], counted
    return counted


async def fails_and_recovers(folder, number, words):
    state = folder / "state"
    fails = Fails(folder, state)
    async with agent(folder, state, fails.environment) as here:
        await here.goes_on()
        fails.by(number)
        await here.is_kept("memory")
        await here.goes_on()
        said = json.dumps(await here.status())
        assert words in said, said
        assert here.process.returncode is None
        fails.by(0)
        await here.is_kept("")

        async def gone():
            return not list(volatile(state).glob("spool-*"))

        await here.until(gone)
        await here.goes_on()
        # away: what waits in memory when the disk is well again is drained beside it
        await here.broker.kill()
        fails.by(number)
        await here.is_kept("memory")
        await asyncio.sleep(3)
        fails.by(0)

        async def disk_again():
            found = await here.uplink()
            return found and not found["kept"] and found["in_memory"]

        await here.until(disk_again)
        await here.broker.start()
        await here.is_kept("")
        await here.goes_on()
    judged(folder / "platform.db", most_missing=12)
    await counted_well(here)


@pytest.mark.skipif(not GCC, reason="needs a C compiler")
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("number", "words"), WAYS)
def test_a_disk_that_fails_costs_no_reading(tmp_path, number, words):
    asyncio.run(fails_and_recovers(tmp_path, number, words))


async def killed_and_started(folder):
    """Kept in memory, killed, started on the failing disk, and the disk recovers."""
    state = folder / "state"
    fails = Fails(folder, state)
    async with agent(folder, state, fails.environment) as here:
        await here.goes_on()
        await here.broker.kill()
        fails.by(errno.EROFS)
        await here.is_kept("memory")
        await asyncio.sleep(2)
        waits = (await here.uplink())["backlog"]["rows"]
        assert waits
        await here.end(signal.SIGKILL)
        await here.start()
        await here.is_kept("memory")
        assert (await here.uplink())["backlog"]["rows"] >= waits
        await here.broker.start()
        await here.goes_on()
        fails.by(0)
        await here.is_kept("")
        await here.goes_on()
    judged(folder / "platform.db", most_missing=60)
    await counted_well(here)


@pytest.mark.skipif(not GCC, reason="needs a C compiler")
@pytest.mark.timeout(240)
def test_what_is_kept_in_memory_survives_kill_9_and_a_start_on_a_disk_that_fails(tmp_path):
    asyncio.run(killed_and_started(tmp_path))


async def freezes(folder, state_of):
    async with agent(folder, state_of.folder / "state", {}) as here:
        await here.goes_on()
        state_of.freeze()
        # a change that comes before anybody knows stops nothing, and is refused
        asked = asyncio.create_task(
            here.call("place.new", {"label": "B", "type": "dwelling", "named": "A. Blanc"})
        )
        async with asyncio.timeout(30):
            while not asked.done():
                await here.status()
        with pytest.raises(Refused, match=SILENT):
            await asked
        await here.is_kept("memory")
        await here.goes_on()
        state_of.thaw()
        await here.is_kept("")
        await here.goes_on()
    judged(folder / "platform.db", most_missing=12)
    await counted_well(here)


@pytest.mark.skipif(not available(), reason="needs root and loop devices")
@pytest.mark.timeout(240)
def test_a_disk_that_freezes_costs_no_reading(tmp_path):
    with disk() as made:
        asyncio.run(freezes(tmp_path, made))
