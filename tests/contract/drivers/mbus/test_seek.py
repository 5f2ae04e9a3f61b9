"""A meter silent for a day is looked for in the line's free time; readings go between. Rule M21."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

from agent.app import opened
from agent.config.load import load
from agent.drivers.base import Found
from agent.drivers.mbus.bus import MbusTcp
from agent.gateway.replacement_scan import PATIENCE, seek
from hil.mbus.line import Bus
from hil.mbus.serve import tcp
from tests.contract.drivers.mbus.setting import heat, points, water

CONFIG = """
building: {{name: Les Alpins}}
links: {{heat: {{driver: mbus-tcp, host: 127.0.0.1, port: {port}, baudrate: 38400, latency: 10ms}}}}
devices:
  heat-1: {{link: heat, address: "45123456", every: 1h}}
  heat-2: {{link: heat, address: "11111111", every: 1h}}
  heat-3: {{link: heat, address: "20000000", every: 1h}}
clock: {{source: system}}
state: {state}
"""


async def found_instead(tmp_path, meters, silent):
    """What is proposed once the silent ones have been so for a day; heat-3 is read meanwhile."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(tcp(Bus(meters, 38_400)))
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(port=port, state=tmp_path))
        house = stack.enter_context(opened(load(path)))
        line = house.lines["heat"]
        for name in silent:
            line.devices[name].failures = 5
            line.devices[name].answered = house.clock.now() - PATIENCE - 60
        jobs = [asyncio.ensure_future(line.link.serve()), asyncio.ensure_future(seek(house, 0.05))]
        reads = 0
        try:
            async with asyncio.timeout(60):
                await line.link.tried()
                while not line.proposals:
                    (sample,) = await line.link.read(points("20000000"))
                    assert sample.value is not None, sample.detail
                    reads += 1
                    await asyncio.sleep(0.01)
            proposed = list(line.proposals)
            for name in silent:
                line.devices[name].failures = 0
            async with asyncio.timeout(10):
                while line.proposals:
                    await asyncio.sleep(0.05)  # who answers again is not missed any more
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)
    return proposed, reads


def test_one_silent_and_one_new_are_proposed_as_an_exchange(tmp_path):
    meters = [heat("11111111"), heat("20000000"), heat("85999001"), water("30000000")]
    (said,), reads = asyncio.run(found_instead(tmp_path, meters, ["heat-1"]))
    assert said.startswith("45123456 silent since ")
    assert "; new on the line: GDN 85999001, heat, " in said
    assert said.endswith(" kWh. Exchange?")
    assert reads > 20  # of the other meter, while the line was searched
    # a battery bears that once a day (docs/mbus.md)
    assert max(meter.answers for meter in meters if meter.plate.id != "20000000") <= 3


def test_a_search_for_an_exchanged_meter_spares_one_that_answers_any_wildcard(tmp_path):
    meters = [heat("20000000"), heat("85999001")]
    meters[1].ignores = "wildcards"
    (said,), _ = asyncio.run(found_instead(tmp_path, meters, ["heat-1"]))
    assert "new on the line: GDN 85999001" in said
    assert meters[1].answers + meters[1].repetitions == 1


def test_two_silent_and_two_new_are_not_guessed(tmp_path):
    meters = [heat("20000000"), heat("85999001"), heat("95999002")]
    (said,), _ = asyncio.run(found_instead(tmp_path, meters, ["heat-1", "heat-2"]))
    assert said.startswith("45123456 and 11111111 silent; new on the line: ")
    assert said.endswith("Read their type plates to see which meter replaced which")


def test_a_meter_by_primary_address_is_not_looked_for():
    number = partial(MbusTcp.number)
    assert (number("45123456@300"), number("45120042-KAM-1B-04")) == ("45123456", "45120042")
    assert (number("17"), number("45120042/2")) == (None, None)


def test_a_found_meter_says_its_number():
    assert Found("m", {}, "").number is None
