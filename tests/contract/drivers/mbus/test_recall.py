"""After an outage of the gateway the meter's own month ends fill the slots that nobody read.
Rule M17.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from types import SimpleNamespace
from zoneinfo import ZoneInfo

from agent.acquisition.device import Device
from agent.acquisition.ingest import SlotAccount
from agent.acquisition.poller import Poller
from agent.acquisition.slots import DownGap
from agent.core.clock import Clock
from agent.core.model import Point, SlotMark
from agent.drivers.link import Link
from agent.drivers.mbus.bus import MbusTcp
from agent.drivers.mbus.settings import MbusTcpSettings
from hil.mbus.encode import date, date_time, energy_kwh
from hil.mbus.line import Bus
from hil.mbus.serve import tcp
from tests.contract.drivers.mbus.setting import heat

PARIS = ZoneInfo("Europe/Paris")
KEY = ("heat-1", 3600)


def remembering(off: dt.timedelta):
    """A meter that says what time it is, and 7,000 kWh at the end of last month."""
    now = dt.datetime.now(PARIS)
    end = now.date().replace(day=1) - dt.timedelta(days=1)
    meter = heat("45120042")
    energy = meter.says

    def says():
        kept = energy_kwh(7000, 1) + date(end, 1)
        return [energy()[0][:12] + date_time(now + off) + kept]

    meter.says = says
    midnight = dt.datetime.combine(end + dt.timedelta(days=1), dt.time(), PARIS)
    return meter, int(midnight.timestamp())


class Ledger:
    """Writes down what comes late, and nothing else."""

    def __init__(self, gap):
        self.gaps, self.marks, self.rows = {KEY: gap}, {KEY: SlotMark(gap.last, True)}, []

    def close(self, *_):
        return []

    def late(self, _key, slot, samples, _serial, _made):
        self.rows += [(slot, one.value, one.quality, int(one.at)) for one in samples]
        return []


async def _nothing(*_):
    pass


async def polled(tmp_path, off=dt.timedelta()):
    meter, midnight = remembering(off)
    ledger = Ledger(DownGap(midnight - 7200, midnight + 7200))
    point = Point("heat-1", "e", "45120042", "heat:energy", 3600, "heat", "kWh")
    clock = Clock("system", tmp_path / "clock.json")
    async with tcp(Bus([meter], 38_400)) as port:
        settings = MbusTcpSettings(host="127.0.0.1", port=port, baudrate=38_400, latency=0.01)
        link = Link("heat", lambda: MbusTcp.open(settings))
        account = SlotAccount(
            ledger,
            SimpleNamespace(uplink="centre", put=_nothing, room=_nothing, take=lambda *_: None),
        )
        device = Device("heat-1", [point])
        poller = Poller(link, [device], [account], clock, lambda *_: None, PARIS)
        poller._closed[KEY] = None
        jobs = [asyncio.ensure_future(one) for one in (link.serve(), poller.run())]
        try:
            async with asyncio.timeout(20):
                while ledger.gaps:
                    await asyncio.sleep(0.05)
            poller.finish()
            await asyncio.sleep(1.5)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)
    return ledger.rows, midnight, set(device.latest)


def test_the_end_of_the_month_fills_its_slot_as_measured(tmp_path):
    rows, midnight, latest = asyncio.run(polled(tmp_path))
    assert rows == [(midnight, Decimal(7000), "V", midnight)]
    assert latest == {"e"}


def test_a_meter_whose_clock_is_wrong_fills_nothing(tmp_path):
    rows, _, _ = asyncio.run(polled(tmp_path, dt.timedelta(hours=3)))
    assert rows == []
