"""A running agent, its spool key half rotated: the disk fails, fills, or the agent is killed, and
again at its next start. The judge is the platform: each row arrives once, and the rotation ends.
Guards rules G1, G2 (docs/decisions/031).
"""

import asyncio
import errno
import signal
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial

import pytest

from agent.buffer.batch import BatchHead
from agent.buffer.orphaned_spools import spool_of
from agent.buffer.spool import KEPT, Spool
from agent.core.model import Reading, Series
from agent.core.storage import made, volatile
from agent.registry import identity
from hil.platform.report import rows
from tests.depth import LONG
from tests.disks import available, disk
from tests.system.moved import GCC
from tests.system.test_failing_disk import SOONER, Fails, agent, counted_well, judged

SLOWER = f"""\
import asyncio
from agent.buffer import keys as lots
from agent.gateway import key_rotation as rotation
lots.MOST = 1
rotation.sleep = lambda _: asyncio.sleep(0.05)
{SOONER}"""
"""the agent on a slow card: it seals one body in a commit, and rests; it tries again at once"""
LOTS, EACH = 400, 20
PLANT = Series("CZS2YFSTBQQ5WDC", "elec.imp", "REG", "kWh", 1, "m1", None, "common")
WAYS = [errno.EROFS]
if LONG:
    WAYS.append(errno.EIO)


def waiting(folder, who, kept=""):
    """So much waits that a rotation takes a while."""
    first = int(time.time()) - LOTS * EACH - 1000
    head = BatchHead(who.gateway, "one.example", "DEMO-1", kept=kept)
    with Spool.open(spool_of(folder, "one.example"), who.spool_key, head, 5_000_000) as spool:
        for lot in range(0, LOTS * EACH, EACH):
            slots = range(first + lot, first + lot + EACH)
            spool.append([Reading(PLANT, slot, Decimal(slot), "V") for slot in slots], {})


async def in_the_middle(here):
    found = (await here.status())["rotation"]
    return found and not found["waits"] and found["passed"] > 0


async def over(here):
    return (await here.status())["rotation"] is None


async def on_disk(here):
    found = await here.uplink()
    return bool(found) and not found["kept"]


@asynccontextmanager
async def half_rotated(folder, state, environment):
    """An agent whose platform is away, in the middle of a rotation."""
    async with agent(folder, state, environment, SLOWER) as here:
        await here.end()
        waiting(state, identity.load(state))
        await here.broker.kill()
        await here.start()
        here.old = identity.load(state).spool_key
        here.asked = asyncio.create_task(
            here.call("key.rotate", {"what": "spool", "named": "a test"})
        )
        await here.until(partial(in_the_middle, here))
        yield here


async def ended(here):
    """The rotation goes on to its end, and all arrives."""
    await here.until(partial(over, here))
    who = identity.load(here.state)
    assert who.spool_key_before is None
    assert here.old not in (here.state / "keys/spool.key").read_bytes()
    await here.broker.start()
    await here.goes_on()

    def arrived():
        return [one.t for one in rows(here.platform.db) if one.place == PLANT.place]

    async def all_arrived():
        backlog = (await here.uplink()).get("backlog", {"rows": 1})
        return len(arrived()) >= LOTS * EACH and not any(map(backlog.get, ("rows", "batches")))

    await here.until(all_arrived)
    await here.end()
    assert len(arrived()) == len(set(arrived())) == LOTS * EACH


async def disk_fails(folder, number):
    """In the middle, and a start on the disk that fails."""
    state = folder / "state"
    fails = Fails(folder, state)
    async with half_rotated(folder, state, fails.environment) as here:
        fails.by(number)
        await here.is_kept("memory")
        answer = await here.asked
        assert not answer["spool"]["done"]
        assert answer["spool"]["standing"]["waits"]
        await here.end(signal.SIGKILL)
        await here.start()
        await here.is_kept("memory")
        assert identity.load(state).spool_key_before == here.old
        fails.by(0)
        await here.until(partial(on_disk, here))
        await ended(here)
    judged(folder / "platform.db", most_missing=60)
    await counted_well(here)


@pytest.mark.skipif(not GCC, reason="needs a C compiler")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", WAYS)
def test_a_disk_that_fails_in_the_middle_is_waited_for(tmp_path, number):
    asyncio.run(disk_fails(tmp_path, number))


async def disk_fills(folder, full):
    async with half_rotated(folder, full.folder / "state", {}) as here:
        full.fill()
        answer = await here.asked
        assert not answer["spool"]["done"]
        assert "No space left on device; free some" in answer["spool"]["standing"]["waits"]
        assert here.process.returncode is None
        (full.folder / "hog").unlink()
        await ended(here)
    judged(folder / "platform.db", most_missing=12)
    await counted_well(here)


@pytest.mark.skipif(not available(), reason="needs root and loop devices")
@pytest.mark.timeout(240)
def test_a_disk_that_fills_in_the_middle_is_waited_for(tmp_path):
    with disk() as made:
        asyncio.run(disk_fills(tmp_path, made))


async def killed(folder):
    async with half_rotated(folder, folder / "state", {}) as here:
        await here.end(signal.SIGKILL)
        with pytest.raises(Exception, match="closed the connection"):
            await here.asked
        await here.start()
        await here.until(partial(in_the_middle, here))
        await here.end(signal.SIGKILL)
        await here.start()
        await ended(here)
    judged(folder / "platform.db", most_missing=60)
    await counted_well(here)


@pytest.mark.timeout(240)
def test_killed_in_the_middle_and_again_at_its_next_start(tmp_path):
    asyncio.run(killed(tmp_path))


async def left_in_memory(folder, state):
    """The disk failed as the new key was written: the old one stayed in use, for memory, too."""
    async with agent(folder, state, {}, SLOWER) as here:
        await here.goes_on()
        await here.broker.kill()
        await here.end()
        who = identity.load(state)
        here.old = who.spool_key
        waiting(made(volatile(state)), who, kept=KEPT)
        identity.begin_rotation(state, who)
        await here.start()
        await here.until(partial(over, here))
        assert list(volatile(state).glob("spool-*")), "it is still to be delivered"
        await here.end(signal.SIGKILL)
        await here.start()
        await ended(here)
    judged(folder / "platform.db", most_missing=60)
    await counted_well(here)


@pytest.mark.timeout(240)
def test_readings_in_memory_under_the_old_key_are_delivered(tmp_path):
    asyncio.run(left_in_memory(tmp_path, tmp_path / "state"))
