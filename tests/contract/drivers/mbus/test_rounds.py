"""Sixty meters with noise and collisions, round after round: no wrong value, no lost meter.
Rule F1.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from hil.mbus.line import Bus
from tests.contract.drivers.mbus.setting import heat, on_serial, on_tcp, points, water
from tests.depth import LONG

ROUNDS = 1_000 if LONG else 30
RATES = (300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400) if LONG else (38_400,)
BASE, APART = 1_000_000, 100_000


def sixty():
    """Every third one by its primary address; indexes far apart, so that nobody is mistaken."""
    made = []
    for n in range(60):
        kind = water if n % 2 else heat
        made.append(kind(f"{45_120_000 + 7 * n:08d}", primary=n + 1, base=BASE + n * APART))
    return made


def asked(n, meter):
    address = str(n + 1) if n % 3 == 0 else meter.plate.id
    at = "cold-water:volume" if n % 2 else "heat:energy"
    return points(address, at, "id")


async def rounds(driver, meters, count):
    """What each meter last said, and how often it was missed; a wrong value fails at once."""
    missed, wanted = [0] * 60, [asked(n, meter) for n, meter in enumerate(meters)]
    for _ in range(count):
        for n, meter in enumerate(meters):
            value, number = await driver.read(wanted[n])
            if value.value is None:
                missed[n] += 1
                continue
            true = BASE + n * APART + meter.answers - 1
            assert value.value * (1000 if n % 2 else 1) == true
            assert number.value == meter.plate.id
    return missed


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("on", [on_tcp, on_serial])
def test_noise_and_collisions_neither_change_a_value_nor_lose_a_meter(on):
    meters = sixty()
    # one that missed that another was selected answers together with it: a collision
    bus = Bus(meters, 38_400, noise=0.02)
    count = ROUNDS if on is on_tcp else max(10, ROUNDS // 10)

    async def go():
        async with on(bus) as driver:
            return await rounds(driver, meters, count)

    missed = asyncio.run(go())
    print(f"{on.__name__}: {count} rounds, {bus.questions} questions, {bus.damaged} disturbed,")
    print(f"{bus.collisions} collisions, {sum(missed)} readings missed in {60 * count}")
    assert bus.damaged
    assert bus.collisions
    assert max(missed) < count / 10


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("baudrate", RATES)
def test_one_round_at_the_speed_of_the_wire(baudrate):
    meters = sixty()
    bus = Bus(meters, baudrate, paced=True)

    async def go():
        async with on_tcp(bus, baudrate, latency=0.05) as driver:
            began = time.monotonic()
            missed = await rounds(driver, meters, 1)
            return missed, time.monotonic() - began

    missed, seconds = asyncio.run(go())
    print(f"{baudrate} baud: a round of 60 in {seconds:.1f} s, wire busy {bus.busy / seconds:.0%}")
    assert missed == [0] * 60
