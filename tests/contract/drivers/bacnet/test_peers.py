"""A device of plain bacpypes3: all its objects are shown, its accumulators read by their scale."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from pathlib import Path

from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from hil.bacnet.controller import free_udp_port
from hil.process import Child
from tests.contract.drivers.bacnet.net import point
from tests.contract.drivers.hearing import scanned

SERVER = Path(__file__).with_name("bacpypes3_server.py")


def test_all_objects_of_a_device_are_shown_and_its_accumulators_read():
    async def attack():
        there, ours = free_udp_port(), free_udp_port()
        command = (sys.executable, str(SERVER), f"127.0.0.2/32:{there}")
        settings = BacnetSettings(
            address="127.0.0.1/8", port=ours, timeout=1, cov=0, ask=(f"127.0.0.2:{there}",)
        )
        async with Child(command, "ready"), Bacnet.open(settings) as driver:
            found, hearing = await scanned(driver, "bacnet", settings)
            indexes = await driver.read(
                [
                    point("accumulator,1", device=4711, unit="kWh", channel="heat"),
                    point("accumulator,2", device=4711, unit="m3", channel="gas"),
                ]
            )
            return found, hearing, [one.value for one in indexes]

    (device,), hearing, indexes = asyncio.run(attack())
    assert indexes == [Decimal(48_211), Decimal("1234.56")]
    objects = {one["at"]: one for one in device.objects}
    heat, gas, times = objects["accumulator,1"], objects["accumulator,2"], objects["schedule,3"]
    assert (heat["value"], heat["scale"], heat["unit"]) == ("482110", "0.1", "kWh")
    assert (gas["value"], gas["scale"], gas["channel"]) == ("123456", "0.01", "gas")
    assert (times["name"], times["value"]) == ("Nuit", None)
    assert objects["device,4711"]["name"] == "Compteurs"
    assert "accumulator,1 scale" in hearing.heard.values["4711"]
    assert all(one["expected"] for one in hearing.odd.values())
