"""The whole agent with a hold in force, and the disk under it fails: by the bounds of real use.

Guards rule G6; minutes long, so only in the torture.
"""

import asyncio
import time

import pytest

from agent.core.atomic_write import SILENT
from agent.core.storage import HOLDS_END_AFTER, PROBED_EVERY, READ_ONLY
from hil.bacnet.process import BoilerRoom
from tests import disks
from tests.depth import LONG
from tests.system.test_control import Building, held, holds
from tests.waiting import until

pytestmark = pytest.mark.skipif(not LONG or not disks.available(), reason="minutes; needs root")
BOUND = {"read_only": PROBED_EVERY, "freeze": PROBED_EVERY + HOLDS_END_AFTER}


@pytest.mark.parametrize("way", BOUND)
def test_a_disk_that_fails_ends_the_hold_within_its_bound_and_status_says_so(tmp_path, way):
    async def attack(disk):
        async with BoilerRoom() as room:
            here = Building(tmp_path, room)
            here.state = disk.folder
            here.configure()
            await here.gardien("key", "new")
            await here.start()
            try:
                here.trusted()
                await here.gardien("control", "test", "boiler-offset")
                here.accept(here.order("-1.5", 3600))
                await until(lambda: holds(here))
                getattr(disk, way)()
                began = time.monotonic()
                await until(lambda: held(here, None), BOUND[way] + 30)
                took = time.monotonic() - began
                said = await here.gardien("status", status=1)
                return took, said
            finally:
                if disk.frozen:
                    disk.thaw()
                if here.agent is not None:
                    await here.kill()

    with disks.disk() as disk:
        took, said = asyncio.run(attack(disk))
    assert took < BOUND[way] + 5
    why = READ_ONLY if way == "read_only" else SILENT
    assert f"all controls are released, because {why}" in " ".join(said.split())
