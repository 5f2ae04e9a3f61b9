"""Guards rule M3: slots that a step of the clock skips are M `clock`, and nobody's fault."""

from hil.platform.plan import judge
from tests.contract.acquisition.checker import by_slot, check_slots, rows_of
from tests.contract.acquisition.test_the_day import meter_point
from tests.contract.acquisition.world import Meter, World, utc
from tests.virtual_time import run

BEGIN = "2026-10-26T08:00:10"


def test_slots_that_a_step_of_the_clock_skips_say_so(tmp_path):
    async def story():
        points = {"m1": [meter_point("m1", 60)]}
        world = World(tmp_path, {"m1": Meter("100")}, points, utc(BEGIN))
        world.offset, world.kernel = -600.0, True
        async with world.agent():
            await world.until("2026-10-26T08:05:10")
            world.synchronizes()  # the time service itself was wrong until now
            await world.until("2026-10-26T08:09:10")
        return world.town.place("D1")

    place = run(story())
    held = by_slot(rows_of(tmp_path / "platform.db"))[place, "REG", 60]
    first, last = utc("2026-10-26T07:50:00"), utc("2026-10-26T08:09:00")
    check_slots({0: held}, 0, range(first, last + 1, 60))
    missing = {slot: row.why for slot, row in held.items() if row.why}
    skipped = range(utc("2026-10-26T07:56:00"), utc("2026-10-26T08:05:00"), 60)
    assert missing == dict.fromkeys(skipped, "clock")
    assert judge(tmp_path / "platform.db").unstated == []
