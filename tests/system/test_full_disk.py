"""The state directory is on a full disk: what is read now reaches the platform, also
through a restart; while the platform is away only what is stated as M `shed` is lost.
"""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from hil.platform.report import rows
from hil.stage import stage
from tests.contract.buffer.test_full_disk import hog


@pytest.fixture
def folder(tmp_path):
    """A folder whose `state` is 16 MB of their own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", state], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip(f"no mount here: {made.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", state], check=True)


async def scenario(folder: Path) -> None:
    async with stage(folder, lines=1, meters=2, without_consent=0) as on:
        await on.start_agent()
        await on.platform.holds(6)
        await asyncio.to_thread(hog, on.state)
        await on.delivered(int(time.time()) + 5)
        await on.kill_agent()
        await asyncio.to_thread(hog, on.state)
        await on.start_agent()
        await on.delivered(int(time.time()) + 5)
        assert await on.stop_agent() == 0
        on.killed = time.time()
        (on.state / "hog").unlink()
        await asyncio.to_thread(hog, on.state)
        await on.start_agent()
        await on.delivered(int(time.time()) + 5)
        status = await on.status()
        assert status is not None
        (said,) = [one["text"] for one in status["events"] if one["code"] == "disk"]
        assert said.startswith(f"the disk of {on.state} is full, since ")
        assert " MB. Run: sudo du " in said
        assert status["uplinks"]["metropole"]["backlog"]["refused"] == 0
        await on.cut.set("cut")
        await asyncio.sleep(5)
        await on.cut.set("pass")
        last = int(time.time())
        await on.delivered(last)
        verdict = on.prove(last)
        assert verdict.proved, verdict.line()
        assert verdict.missing == 0
        counted = await on.platform.report()
        assert (counted["alarms"], counted["overlapping_slots"]) == (0, 0)
    assert not [row for row in rows(folder / "platform.db") if row.why == "shed"]


def test_a_full_disk_costs_no_reading_while_the_platform_takes_them(folder):
    asyncio.run(scenario(folder))
