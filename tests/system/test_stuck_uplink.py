"""A line to one recipient that stands still costs the other recipient nothing, and the building
nothing (rule G7): the whole agent, one platform that fetches files over SFTP, one behind a
broker, and the line to the first frozen."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hil.broker import broker
from hil.platform.child import Keeper, Platform
from hil.platform.report import rows
from hil.stage import CHANNELS, Stage, sheet, stage

SCHEMA = json.loads(Path("docs/status.schema.json").read_text(encoding="utf-8"))
OTHER = "other.example"
STUCK, LAG = 4, 16
"""seconds: how long the line stands still, and how late what was read then may be at the other
platform: later than on any busy machine, sooner than a line that stands still is given up"""


def latest(platform: Keeper) -> int:
    return max((row.t for row in rows(platform.db)), default=0)


def read(platform: Keeper) -> int:
    """The last slot of which it has a value."""
    return max((row.t for row in rows(platform.db) if row.value is not None), default=0)


async def with_another_recipient(on: Stage, port: int) -> None:
    """Everybody consents once more, and a second uplink stands in the file."""
    told = f'{{recipient: {OTHER}, transport: mqtt, url: "mqtt://127.0.0.1:{port}", seal: 1s}}'
    text = on.config.read_text(encoding="utf-8")
    on.config.write_text(text.replace("privacy:", f"  other:\n    {told}\nprivacy:"))
    await on.command(
        "consent", "give", "--file",
        sheet(on, "more.csv", "place", [one.label for one in on.dwellings]),
        "--recipient", OTHER, *(word for channel in CHANNELS for word in ("--channel", channel)),
        "--step", "1s", "--purpose", "advice on consumption",
    )  # fmt: skip


def told(on: Stage) -> Any:
    """How the gateway is, as it said by file."""
    (file,) = Path(getattr(on.broker, "root"), "status").glob("*.json")  # noqa: B009 -- sshd's
    return json.loads(file.read_text(encoding="utf-8"))


async def scenario(folder: Path) -> None:
    async with (
        stage(folder, lines=1, meters=2, without_consent=0, transport="sftp") as on,
        broker() as second,
        Platform(second.port, folder / "other.db") as other,
    ):
        await with_another_recipient(on, second.port)
        await on.start_agent()
        await on.platform.holds(6)
        await other.holds(6)
        await on.cut.set("freeze")
        began = time.time()
        async with asyncio.timeout(STUCK + LAG):
            while await asyncio.to_thread(read, other) < began + STUCK:
                await asyncio.sleep(0.2)
        assert latest(on.platform) <= began, "the line did stand still"
        assert (await on.backlog() or 0) >= 2, "what is read waits for it"
        await on.cut.set("cut")
        await on.cut.set("pass")
        last = int(time.time())
        await on.delivered(last)
        verdict = on.prove(last)
        assert verdict.proved, verdict.line()
        assert verdict.missing == 0
        for keeper in (on.platform, other):
            counted = await keeper.report()
            assert counted["alarms"] == counted["differing_batches"] == 0
        jsonschema.validate(told(on), SCHEMA)
        assert await on.stop_agent() == 0


@pytest.mark.timeout(240)
def test_a_frozen_line_to_one_recipient_delays_neither_the_other_nor_the_reading(tmp_path: Path):
    asyncio.run(scenario(tmp_path))
