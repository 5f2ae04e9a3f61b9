"""Guards rule G2: means reach the platform for every step of theirs, or a reason does."""

from dataclasses import replace
from decimal import Decimal

from agent.config.config import mean
from agent.core.model import Point
from hil.platform.plan import judge
from tests.contract.acquisition.checker import by_slot, check_slots, rows_of
from tests.contract.acquisition.world import Sensor, World, utc
from tests.virtual_time import run

BEGIN, END = "2026-10-25T06:00:10", "2026-10-25T10:00:30"
AIR = Point("m1", "air", "m1", "x", 60, "temp", "Cel")
STEP = 900


def test_means_over_a_quarter_of_an_hour(tmp_path):
    says = [(f"2026-10-25T0{hour}:{minute:02}:00", f"2{hour % 3}.{minute % 7}")
            for hour in range(5, 10) for minute in range(60)]  # fmt: skip
    meters = {"m1": Sensor(*says, ("2026-10-25T10:00:00", "21.0"))}

    async def story():
        world = World(tmp_path, meters, {"m1": [AIR, mean(AIR, STEP)]}, utc(BEGIN))
        world.town.consent("D1", channel="temp")
        world.synchronizes()
        async with world.agent():
            await world.until("2026-10-25T07:20:30")
            meters["m1"].silent = True
            await world.until("2026-10-25T07:29:30")
            meters["m1"].silent = False
            await world.until("2026-10-25T08:35:10")
        await world.until("2026-10-25T08:50:10")
        async with world.agent():
            await world.until(END)
        return world.town.place("D1")

    place = run(story())
    held = by_slot(rows_of(tmp_path / "platform.db"))
    assert judge(tmp_path / "platform.db").unstated == []
    minutes, means = held[place, "INS", 60], held[place, "AVG", STEP]
    first = utc("2026-10-25T06:00:00")
    check_slots(held, (place, "AVG", STEP), range(first, utc(END), STEP))
    gone = {}
    for slot, row in means.items():
        read = [minutes.get(slot - n * 60) for n in range(STEP // 60)]
        good = [Decimal(one.v) for one in read if one is not None and one.q in "VR"]
        if len(good) < 12:
            gone[slot] = row.why
            assert row.v is None
            continue
        assert row.q == "K"
        assert Decimal(row.v) == round(sum(good) / len(good), 2), row
    assert gone == {
        first: "early",
        utc("2026-10-25T07:30:00"): "silent",
        utc("2026-10-25T08:45:00"): "agent",
        utc("2026-10-25T09:00:00"): "agent",
    }


def test_no_mean_is_asked_of_the_bus():
    assert mean(AIR, STEP) == replace(
        AIR, name="air-mean", at="", every=STEP, derived=True, of="air"
    )
