"""A line as bad as they get (hil/torture_line.py), read by the daemon's own rules: no wrong value,
nobody left out.

Rules G7, F1.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from agent.core.model import Point, Sample
from agent.drivers.modbus.bus import ModbusRtu, RtuSettings
from hil.torture_line import (
    BAUDRATE,
    DEAD,
    LATE,
    REST,
    SHAPES,
    TIMEOUT,
    UNITS,
    cell,
    torture_line,
)
from tests.depth import depth

READS = depth(500, 10_000)


@dataclass
class Tally:
    good: int = 0
    wrong: list[str] = field(default_factory=list)
    answered: dict[int, float] = field(default_factory=dict)
    longest: dict[int, float] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)
    missed: dict[int, int] = field(default_factory=dict)

    def take(self, unit: int, start: int, samples: list[Sample]) -> None:
        self.asked[unit] = self.asked.get(unit, 0) + 1
        if any(sample.value is None for sample in samples):
            self.missed[unit] = self.missed.get(unit, 0) + 1
            return
        now = time.monotonic()
        for n, sample in enumerate(samples):
            self.good += 1
            if sample.value != Decimal(cell(unit, start + n)):
                self.wrong.append(f"{unit} {start + n}: {sample.value}")
        gap = now - self.answered.get(unit, now)
        self.longest[unit] = max(gap, self.longest.get(unit, 0.0))
        self.answered[unit] = now


@pytest.mark.alone
@pytest.mark.timeout(3600)
def test_a_line_of_dead_slow_late_and_noisy_devices_gives_no_wrong_value() -> None:
    dice = random.Random(7)
    tally = Tally()

    async def attack() -> float:
        async with torture_line(dice) as line:
            wanted = RtuSettings(port=line.port, baudrate=BAUDRATE, timeout=TIMEOUT)
            async with ModbusRtu.open(wanted) as driver:
                began = time.monotonic()
                await rounds(driver)
                return time.monotonic() - began

    async def rounds(driver: ModbusRtu) -> None:
        rests: dict[int, float] = {}
        done, turn = 0, 0
        while done < READS:
            turn += 1
            for unit in UNITS:
                if rests.get(unit, 0.0) > time.monotonic():
                    continue
                start, count = SHAPES[dice.randrange(len(SHAPES))]
                ats = [f"holding/{start + n}/uint16" for n in range(count)]
                samples = await driver.read([Point("m", at, str(unit), at, 60) for at in ats])
                tally.take(unit, start, samples)
                done += 1
                # the late one is asked again at once: that is when it does harm
                if samples[0].value is None and unit not in LATE:
                    rests[unit] = time.monotonic() + REST

    taken = asyncio.run(attack())
    live = set(UNITS) - DEAD - LATE
    assert tally.wrong == []
    assert not DEAD & set(tally.answered)
    assert live <= set(tally.answered)
    # a rest, a repeat of it by bad luck, and the rounds between
    assert max(tally.longest[unit] for unit in live) < 4 * REST
    assert all(tally.asked[unit] <= taken / REST + 2 for unit in DEAD)
    assert tally.good > READS
    missed = sum(tally.missed.get(unit, 0) for unit in live)
    asked = sum(tally.asked[unit] for unit in live)
    print(f"{tally.good} values, 0 wrong; {missed} of {asked} missed; {taken:.0f} s")
    assert missed <= asked * 0.03
