"""Whose word counts for a device in a dwelling (rule G5). Rule O18."""

from __future__ import annotations

import asyncio
from functools import partial

from agent.app import visited
from agent.gateway.lines import occupied
from agent.registry.inputs import NewInstallation, NewPlace

CONFIG = """\
building: {name: Les Alpins}
links:
  cars: {driver: modbus-tcp, host: 127.0.0.1, port: 9}
devices:
  wallbox: {link: cars, address: 1, profile: eastron-sdm120}
  shared: {link: cars, address: 2, profile: eastron-sdm120, place: CZS2Y-FSTBQ-Q5WDC}
privacy: {policy: DEMO-1}
clock: {source: system}
"""
BY = ("marie", "test", 1_700_000_000)


def test_an_occupant_speaks_for_the_devices_of_the_own_dwelling_only(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"{CONFIG}state: {tmp_path}/state\n", encoding="utf-8")
    (tmp_path / "state").mkdir()

    async def asked():
        async with visited(config) as house:
            registry, now = house.registry, int(house.clock.now())
            home = partial(occupied, house.lines, registry, now)
            own, other = registry.add_places([NewPlace("A-1", "D"), NewPlace("A-2", "D")], *BY)
            registry.install([NewInstallation("A-1", device="wallbox")], *BY)
            lives = {one.place: one.id for one in registry.occupancies()}
            return [
                (who, device, home(lives[place.id], device) is not None)
                for who, place in (("own", own), ("other", other))
                for device in ("wallbox", "shared")
            ]

    assert asyncio.run(asked()) == [
        ("own", "wallbox", True),
        ("own", "shared", True),  # common plant: the scope of the key says whose word counts
        ("other", "wallbox", False),
        ("other", "shared", True),
    ]
