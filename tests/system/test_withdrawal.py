"""Guards rules G2, G3 over the whole agent: a consent withdrawn by command while the agent is dead
and the platform stands still leaves nothing of that dwelling there and all of the other. Rule P13.
Withdrawals of which a running agent is told are those of tests/sim (plan `withdrawn-on-the-way`).
"""

import asyncio
import json
import signal
import subprocess
import sys
import time

import pytest

from hil.broker import broker
from hil.platform.child import Platform
from hil.platform.report import rows
from tests.system.test_daemon import House
from tests.waiting import wait_until

CONFIG = """\
building: {{name: Test}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 2s}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 1s}}
  m-2: {{link: riser, address: 2, profile: eastron-sdm120, every: 1s}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "{url}", seal: 1s}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: {state}
spool: {{flush: 1s}}
"""


@pytest.fixture(scope="module")
def building():
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.building", "--lines", "1", "--meters", "2"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield json.loads(process.stdout.readline())["lines"][0]
    process.terminate()
    process.wait()
    process.stdout.close()


def settled(db, places):
    """Wait until nothing of the first place is at the platform, and something of the other."""

    def told():
        held = {row.place for row in rows(db)}
        return places[0] not in held and places[1] in held

    wait_until(told, within=120)


@pytest.mark.timeout(400)
def test_what_is_withdrawn_while_the_agent_is_dead_does_not_stay_at_the_platform(
    tmp_path, building
):
    async def scenario():
        async with broker() as at, Platform(at.port, tmp_path / "platform.db") as platform:
            await asyncio.to_thread(life, at.url, platform)
            return await platform.report()

    def life(url, platform):
        house = House(tmp_path, building["port"])
        house.config.write_text(CONFIG.format(port=building["port"], state=house.state, url=url))
        house("key", "new")
        for n in (1, 2):
            house("place", "new", f"A-{n}", "--since", "2026-01-01")
            house("meter", "assign", f"m-{n}", f"A-{n}")
            house(
                "consent", "give", f"A-{n}", "--recipient", "centre.example", "--channel",
                "elec.imp", "--purpose", "advice", "--step", "1s",
            )  # fmt: skip
        listed = json.loads(house("place", "list", "--json"))["places"]
        places = [next(one["id"] for one in listed if one["label"] == f"A-{n}") for n in (1, 2)]
        daemon = house.up()
        try:
            wait_until(lambda: {row.place for row in rows(platform.db)} == set(places), within=120)
            platform.freeze()
            time.sleep(3)  # something is sealed and sent, and nobody answers
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            house("consent", "withdraw", "A-1")
            house.up()
            platform.thaw()
            settled(platform.db, places)
            time.sleep(3)
            assert {row.place for row in rows(platform.db)} == {places[1]}
        finally:
            for one in house.daemons:
                one.kill()
                one.wait()

    counted = asyncio.run(scenario())
    assert counted["alarms"] == 0
    assert counted["seq_gaps"] == 0
    assert counted["overlapping_slots"] == 0
