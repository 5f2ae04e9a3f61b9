"""A line as bad as they get, read by the daemon's own rules: no wrong value, nobody left out.

Guards rules G7, F1: 20 devices, 3 dead, 2 slow, 1 late by random times, noise
on every second frame.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from agent.drivers.modbus.serialline import ModbusRtu, RtuSettings
from agent.model import Point, Sample
from hil.serial_line import SerialLine

READS = 10_000 if os.environ.get("GARDIEN_TORTURE") else 1_000
BAUDRATE = 115_200
TIMEOUT = 0.05
DEAD, SLOW, LATE = {3, 9, 17}, {5, 12}, {14}
UNITS = range(1, 21)
REST = 2.0
"""seconds that a silent device is left alone: the daemon's minute, shortened with all else"""
SHAPES = ((0, 1), (7, 1), (20, 3), (50, 1), (60, 3), (80, 8))
"""blocks of different devices' maps: several of one length, so that a late answer could fit"""


def cell(unit: int, address: int) -> int:
    return unit << 8 ^ address * 257 & 0xFFFF


def device(unit: int):
    def answer(pdu: bytes) -> bytes:
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        data = b"".join(cell(unit, start + n).to_bytes(2, "big") for n in range(count))
        return bytes([pdu[0], len(data)]) + data

    return answer


def noisy(dice: random.Random):
    """Every second frame: characters before it, behind it, one bit of it, or its tail lost."""
    turn = iter(range(10**9))

    def noise(sent: bytes) -> bytes:
        if next(turn) % 2:
            return sent
        what = dice.randrange(8)
        if what < 4:
            return dice.randbytes(dice.randrange(1, 4)) + sent if len(sent) > 8 else sent
        if what < 6:
            return sent + dice.randbytes(dice.randrange(1, 4)) if len(sent) > 8 else sent
        at = dice.randrange(len(sent))
        if what == 6:
            return sent[:at] + bytes([sent[at] ^ 1 << dice.randrange(8)]) + sent[at + 1 :]
        return sent[: at or 1]

    return noise


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
        async with SerialLine.open(BAUDRATE) as line:
            for unit in UNITS:
                after: object = 0.002
                if unit in SLOW:
                    after = 0.03
                if unit in LATE:
                    after = lambda: dice.uniform(0.0, 6 * TIMEOUT)  # noqa: E731 -- one of three
                line.add(unit, device(unit), after).dead = unit in DEAD  # type: ignore[arg-type]
            line.trouble.noise = noisy(dice)
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
