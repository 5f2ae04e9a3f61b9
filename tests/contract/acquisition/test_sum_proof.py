"""The dwellings' meters are compared with the building's, from the readings to the flag of a row.
Rule F18.
"""

import sqlite3
from contextlib import closing
from decimal import Decimal
from types import SimpleNamespace

from agent.gateway.supervisor import record_factors
from tests.contract.acquisition.world import ZONE, Meter, World, utc
from tests.unit.acquisition.house import point
from tests.virtual_time import run

BEGIN, SECOND_MIDNIGHT = "2026-11-09T22:50:00", "2026-11-10T23:05:00"
"""Paris is an hour ahead"""


class Times(Meter):
    """A meter that counts so many times as much as one dwelling uses."""

    def __init__(self, times):
        super().__init__()
        self.times = Decimal(times)

    def index(self, t):
        return self.times * super().index(t)


def indexes(channel, unit, building, *names):
    """The points of dwellings' meters, and of the building's."""
    made = {
        name: [point(name, every=900, channel=channel, unit=unit, to_prove=f"f-{name}")]
        for name in names
    }
    whole = point(building, every=900, channel=channel, unit=unit, place="B0000000000000")
    return made | {building: [whole]}


def recorded(world):
    """What the gateway records once an hour, by device."""
    serials = {f"m{n}": f"100{n}" for n in range(1, 5)}
    record_factors(SimpleNamespace(
        config=SimpleNamespace(points=lambda: world.points, zone=ZONE),
        lines=SimpleNamespace(serial=serials.get),
        factor_days=world.factor_days, registry=world.town.registry,
        clock=SimpleNamespace(now=world.wall),
    ))  # fmt: skip
    registry = world.town.registry
    meters = {one.serial: one for one in registry.installations()}
    proofs = {
        name: registry.factor_proof(meters[serials[name]], point.channel, point.to_prove)
        for name, (point,) in world.points.items()
        if point.to_prove
    }
    return {name: (one.method, one.factor) for name, one in proofs.items() if one}


def test_a_day_of_all_meters_proves_their_factors_and_names_a_wrong_one(tmp_path):
    electricity = indexes("elec.imp", "kWh", "b1", "m1", "m2")
    water = indexes("cw", "m3", "b2", "m3", "m4")
    # the values of m4 are 10 times too high: nobody else explains the sum
    meters = {"b1": Times(2), "b2": Times(2), "m1": Times(1), "m2": Times(1), "m3": Times(1),
              "m4": Times(10)}  # fmt: skip
    world = World(tmp_path, meters, electricity | water, utc(BEGIN))
    world.synchronizes()
    found = {"m1": ("sum", 1), "m2": ("sum", 1), "m4": ("sum", 10)}

    async def day():
        async with world.agent():
            recorded(world)  # it learns which devices are the building's
            await world.until("2026-11-10T22:55:00")
            assert recorded(world) == {}
            await world.until(SECOND_MIDNIGHT)
            assert recorded(world) == found
            revision = world.town.registry.revision
            await world.until("2026-11-10T23:50:00")
            assert recorded(world) == found
            assert world.town.registry.revision == revision

    run(day())
    with closing(sqlite3.connect(tmp_path / "platform.db")) as db:
        rows = db.execute("SELECT meter, t, flags FROM row WHERE v IS NOT NULL").fetchall()
    proven = utc(SECOND_MIDNIGHT)
    flags = [set((flags or "").split("+")) for _, t, flags in rows if t < proven - 900]
    assert len(flags) > 100
    assert all("UNPR" in one for one in flags)
    later = {(meter, flags) for meter, t, flags in rows if t > proven}
    assert {meter for meter, _ in later} == {"1001", "1002"}
    assert not any(flags for _, flags in later)
