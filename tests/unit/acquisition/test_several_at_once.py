"""Guards rule G7 (fair) on lines whose devices may be asked several at a time."""

import asyncio
import time
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from agent.acquisition.device import Device
from agent.acquisition.poller import Poller
from agent.core.clock import Clock
from agent.core.errors import LinkLost
from agent.core.model import Sample, Why
from agent.drivers.link import Link
from tests.unit.acquisition.house import point


class Bus:
    """Devices that answer after their own time; `slow` and `dead` ones late or not at all."""

    def __init__(self):
        self.now, self.most, self.reads, self.lost = {}, 0, [], 0

    @asynccontextmanager
    async def open(self):
        yield self

    async def read(self, points):
        device = points[0].device
        assert not self.now.get(device), "one device is asked by one caller at a time"
        self.now[device] = True
        self.most = max(self.most, sum(self.now.values()))
        try:
            await asyncio.sleep({"slow": 0.6, "dead": 0.8}.get(device, 0.01))
        finally:
            self.now[device] = False
        if self.lost:
            self.lost -= 1
            raise LinkLost("the cable")
        self.reads.append((device, time.monotonic()))
        if device == "dead":
            return [Sample(p, time.time(), why=Why.SILENT) for p in points]
        return [Sample(p, time.time(), Decimal(1)) for p in points]


async def polled(bus, names, at_once, seconds):
    link = Link("bms", bus.open, at_once)
    devices = [Device(name, [point(name, every=1)]) for name in names]
    poller = Poller(link, devices, [], Clock("system"), lambda _device, _serial: None)
    jobs = [asyncio.create_task(link.serve()), asyncio.create_task(poller.run())]
    await asyncio.sleep(seconds)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    assert not [j for j in jobs if not j.cancelled() and j.exception()]
    return link


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (3, 3), (8, 6)])
def test_no_more_devices_are_asked_at_once_than_the_line_allows(at_once, most, virtually):
    bus = Bus()
    virtually(polled(bus, ["slow", "dead", "a", "b", "c", "d"], at_once, 1.2))
    assert bus.most == most


def test_a_slow_and_a_dead_device_do_not_delay_the_others(virtually):
    bus = Bus()
    virtually(polled(bus, ["dead", "slow", *"abcdefgh"], 4, 0.3))
    assert {name for name, _ in bus.reads} == set("abcdefgh")


def test_every_device_has_its_slot_though_all_are_busy(virtually):
    bus = Bus()
    virtually(polled(bus, ["slow", *"abc"], 2, 3.2))
    for name in ("slow", *"abc"):
        assert sum(one == name for one, _ in bus.reads) >= 3


def test_a_lost_line_is_opened_once_though_several_reads_find_it_lost(virtually):
    bus = Bus()
    bus.lost = 3
    link = virtually(polled(bus, list("abcdef"), 3, 3))
    assert link.opened == 2
    assert {name for name, _ in bus.reads} == set("abcdef")


def test_nobody_speaks_on_a_line_that_is_to_be_quiet_and_then_all_do_again(virtually):
    bus = Bus()

    async def scenario():
        link = Link("bms", bus.open, 3)
        line = asyncio.create_task(link.serve())
        await link.tried()
        busy = [asyncio.create_task(link.read([point(name)])) for name in ("slow", "a", "b")]
        silence = asyncio.create_task(link.quiet(0.3))
        await asyncio.gather(*busy)
        asked = [asyncio.create_task(link.read([point(name)])) for name in "cdef"]
        await asyncio.sleep(0.2)
        assert not any(name in "cdef" for name, _ in bus.reads)
        await silence
        await asyncio.gather(*asked)
        line.cancel()

    virtually(scenario())
    assert bus.most == 3
