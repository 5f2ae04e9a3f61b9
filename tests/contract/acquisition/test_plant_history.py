"""What a clock that lies does to the small history: nothing stays that was dated by it."""

from __future__ import annotations

from functools import partial

import pytest

from agent.acquisition.timetable import running_slot
from agent.buffer.history_store import DAY, QUARTER, HistoryStore
from tests.contract.acquisition.test_wrong_clock import HOUR, world_of
from tests.contract.acquisition.world import ZONE, utc
from tests.virtual_time import run


async def write(world, store):
    """As the component does every two hours (agent/gateway/plant_history.py)."""
    if world.clock.dates:
        now = world.clock.now()
        world.history.forget_after(int(now))
        store.drop_after(int(now))
        values = world.history.waiting(now - 1200)
        store.append(values)
        world.history.stored(values)
        store.close_days(partial(running_slot, DAY, zone=ZONE), int(now) - 2 * HOUR)


@pytest.mark.parametrize("offset", [2 * HOUR, 3 * DAY, -3 * HOUR], ids=str)
def test_after_a_wrong_clock_every_slot_has_the_true_value_or_none(tmp_path, offset):
    """Rule L7."""

    async def story():
        world = world_of(tmp_path)
        world.history.keep(frozenset({("m1", world.points["m1"][0].name)}), [])
        world.synchronizes()
        with HistoryStore.open(tmp_path / "history.db", b"k" * 32) as store:
            async with world.agent():
                await world.until("2026-10-26T08:17:20")
                world.lies(offset)
                await world.until("2026-10-26T08:40:20")
                store.append(world.history.waiting(2**40))  # what was dated wrongly, too
                world.synchronizes()
                await world.until("2026-10-26T09:40:20")
                await write(world, store)
            (kept,) = store.series
            return world.meters["m1"], store.quarters(kept.number, 0, 2**40)

    meter, rows = run(story())
    end = utc("2026-10-26T09:40:20")
    assert max(rows) <= end, "a slot that has not come"
    for t, (index,) in rows.items():
        # the last read in the quarter: at most a quarter before its end
        assert float(meter.index(t - QUARTER)) <= index <= float(meter.index(t + 60)) + 0.01, t
    assert {utc("2026-10-26T09:00:00"), utc("2026-10-26T09:15:00")} <= set(rows)
