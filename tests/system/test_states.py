"""A door (kind EVT) over the whole agent: a row when it changes, none between, kept over a kill -9.

Guards rules G1, G2 for rows that are told when something is new, not in every slot.
"""

from __future__ import annotations

import asyncio
import struct
from itertools import groupby, pairwise

import pytest

from agent.local import ask_daemon
from hil.broker import broker
from hil.modbus_server import Reply, asked, serving
from hil.platform.child import Platform
from hil.platform.report import rows
from tests.system.test_daemon import House
from tests.waiting import wait_until

CONFIG = """\
building: {{name: Test}}
links:
  plant: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 1s}}
devices:
  cellar:
    link: plant
    address: 1
    place: CZS2Y-FSTBQ-Q5WDC
    points: {{door: {{at: holding/0/uint16, channel: state.door, unit: "1", every: 3s}}}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "{url}", seal: 1s}}
privacy: {{policy: DEMO-1, common: {{basis: resolution 14, from: 2026-01-01}}}}
clock: {{source: system}}
state: {state}
spool: {{flush: 1s}}
"""


class Door:
    """A module with one input, and how often it was looked at as it is now."""

    def __init__(self) -> None:
        self.open, self.looked = 0, 0

    def turn(self, open_: int) -> None:
        self.open, self.looked = open_, 0

    def answer(self, unit: int, pdu: bytes) -> Reply | None:
        request = asked(pdu)
        if unit != 1 or isinstance(request, bytes):
            return None
        self.looked += 1
        function, _, count = request
        return Reply(struct.pack(f">BB{count}H", function, 2 * count, *[self.open] * count))


@pytest.mark.timeout(300)
def test_a_door_is_told_when_it_opens_and_shuts_and_a_kill_repeats_nothing(
    tmp_path,
):
    async def scenario():
        door, folder = Door(), tmp_path / "platform.db"
        async with (
            serving(door.answer) as port,
            broker() as at,
            Platform(at.port, folder) as platform,
        ):
            house = House(tmp_path, port)
            text = CONFIG.format(port=port, state=house.state, url=at.url)
            house.config.write_text(text)
            try:
                await asyncio.to_thread(life, house, door, platform)
                return await platform.report()
            finally:
                for one in house.daemons:
                    one.kill()
                    one.wait()

    def life(house, door, platform):
        def told():
            held = [row for row in rows(platform.db) if row.channel == "state.door"]
            assert {row.kind for row in held} <= {"EVT"}
            said = [row.value or row.why for row in held]
            # what a busy machine misses is said, and then the state anew; else nothing is repeated
            assert all(one != other for one, other in pairwise(said)), said
            known = [word for word in said if word in {"0", "1"}]
            return [word for word, _ in groupby(known)]

        def waits():
            status = ask_daemon(house.state, "status", {}, lambda _: None)
            backlog = status["uplinks"]["centre"]["backlog"]
            return backlog["slots"] + backlog["batch_rows"]

        house("key", "new")
        daemon = house.up()
        wait_until(lambda: told() == ["0"] and not waits())
        platform.freeze()
        door.turn(1)
        wait_until(lambda: door.looked and waits())
        daemon.kill()
        daemon.wait()
        house.up()
        platform.thaw()
        wait_until(lambda: told() == ["0", "1"])
        looked = door.looked
        wait_until(lambda: door.looked > looked + 1)  # slots in which nothing is new
        assert told() == ["0", "1"]
        door.turn(0)
        wait_until(lambda: told() == ["0", "1", "0"] and not waits())

    counted = asyncio.run(scenario())
    assert counted["alarms"] == 0
    assert counted["seq_gaps"] == 0
    assert counted["overlapping_slots"] == 0
