"""Guards rules G1, G2 over each transport: the gateway's process and the far side are killed
-9 in turn. Nothing is missing at the platform, and nothing is there twice."""

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from tests.contract.uplink.sides import Side, side
from tests.depth import LONG
from tests.system.sender import DWELLINGS

READINGS, KILLS, FAR_KILLS = (200_000, 10, 4) if LONG else (5_000, 2, 1)
MOST_ROWS = 1_000 if LONG else 500


async def restarted(far: Side) -> None:
    """Kill -9 whatever is out there, and start it again."""
    parts = [far.platform] if far.server in {None, far.platform} else [far.server, far.platform]
    for part in parts:
        await part.kill()
    for part in parts:
        await part.start()


async def scenario(folder: Path, word: str) -> None:
    slots = READINGS // DWELLINGS
    async with side(word, folder) as far:
        told = {
            "transport": "files" if word == "sftp" else word,
            "settings": far.settings.model_dump(mode="json", exclude_defaults=True),
            "identity": str(far.station.credential or ""),
            "slots": slots,
            "start": int(time.time()) // 60 * 60 + 86_400,
            "most_rows": MOST_ROWS,
        }
        (folder / "sender.json").write_text(json.dumps(told))
        kills = 0
        while True:
            sender = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.system.sender", str(folder)
            )
            if kills == KILLS:
                try:
                    async with asyncio.timeout(1500 if LONG else 90):
                        assert await sender.wait() == 0
                finally:
                    if sender.returncode is None:  # nobody else would end it
                        sender.kill()
                        await sender.wait()
                break
            await asyncio.sleep(1.5 + 0.37 * (kills % 4) + (2 if LONG else 0))
            if kills % 2 and kills // 2 < FAR_KILLS:
                await restarted(far)
            if sender.returncode is None:
                sender.kill()
            await sender.wait()
            kills += 1
        counted = await far.platform.report()
    print(word, counted)
    assert counted["rows"] == counted["slots"] == slots * DWELLINGS, "nothing is missing"
    for never in ("alarms", "differing_batches", "overlapping_slots", "seq_gaps", "unreadable"):
        assert counted[never] == 0, never
    assert len(counted["epochs"]) == 1
    assert counted["batches"] >= READINGS // MOST_ROWS


@pytest.mark.timeout(1800 if LONG else 150)
@pytest.mark.parametrize("word", ["mqtt", "https", "sftp"])
def test_all_readings_arrive_once_though_gateway_and_far_side_are_killed(tmp_path: Path, word: str):
    asyncio.run(scenario(tmp_path, word))
