"""Guards rules G1, G2, G3: kept, exactly once and provably all, only to whom
it may go. Sixty dwellings on real Modbus TCP, a real mosquitto, the agent and the broker killed."""

import asyncio
import time

import pytest

from hil.platform.plan import judge
from hil.stage import stage
from tests.depth import LONG

ROUNDS = 5 if LONG else 1
TRANSPORTS = ("mqtt", "https", "sftp") if LONG else ("mqtt",)
"""the others' short form: test_killed_deliveries"""
SETTLE = 4.0
"""seconds between two blows: the agent starts, resumes and delivers"""


async def killed_all_over(folder, transport):
    async with stage(folder, transport=transport) as on:
        await on.start_agent()
        await on.begun()  # what was never on the disk nobody owes
        for blow in range(5):
            await on.kill_agent()
            await asyncio.sleep(0.5 + 0.4 * blow)
            await on.start_agent()
            await asyncio.sleep(SETTLE)
            if blow % 2 == 0:
                await lose_what_the_broker_took(on)
        last_slot = int(time.time())
        await asyncio.sleep(1)
        await on.delivered(last_slot)
        verdict, report = on.prove(last_slot), await on.platform.report()
        assert await on.stop_agent() == 0
        return verdict, report, on


async def lose_what_the_broker_took(on):
    """The broker takes batches that the platform, standing still, does not; then it dies."""
    on.platform.freeze()
    await asyncio.sleep(3.5)
    await on.broker.kill()
    if on.platform is not on.broker:
        on.platform.thaw()
    await asyncio.sleep(0.5)
    await on.broker.start()
    await asyncio.sleep(SETTLE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_every_slot_arrives_once_though_agent_and_far_side_are_killed(tmp_path, attempt, transport):  # noqa: ARG001 -- how often
    verdict, report, on = asyncio.run(killed_all_over(tmp_path, transport))
    print(verdict.line(), dict(verdict.reasons), report)
    assert verdict.proved, verdict.line() + "\n" + "\n".join(verdict.findings)
    plan = judge(tmp_path / "platform.db")
    assert (plan.unknown, plan.unstated, plan.unowed, plan.disorder) == ([], [], [], [])
    assert plan.series == 57
    assert len(on.downs) == 5
    assert verdict.reasons["agent"] > 0
    assert report["differing_batches"] == 0
    assert report["seq_gaps"] == 0
    assert report["alarms"] == 0
    assert len(report["epochs"]) == 1
    assert verdict.slots > 57 * 30
