"""What a dwelling draws, as a person would believe it: standby, a fridge, breakfast, the evening.

Every part knows its power (W) at a time and the energy (Wh) since 1970, in closed form: the energy
register is the integral of the power register, whenever either is asked for, and nothing needs to
be stepped. All is fixed by the seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Protocol

DAY = 86_400
HOUR = 3_600


class Part(Protocol):
    """A part of the load; never negative."""

    def power(self, t: float) -> float:
        """Watts at `t` (seconds since 1970)."""
        ...

    def energy(self, t: float) -> float:
        """Watt-hours from 1970 to `t`."""
        ...


@dataclass(frozen=True, slots=True)
class Standby:
    """What is always on, breathing slowly: `watts` ± `swing` in `period` seconds."""

    watts: float
    swing: float
    period: float

    def power(self, t: float) -> float:
        """Watts at `t`."""
        return self.watts + self.swing * math.sin(math.tau * t / self.period)

    def energy(self, t: float) -> float:
        """Watt-hours from 1970 to `t`."""
        wave = self.swing * self.period / math.tau * (1 - math.cos(math.tau * t / self.period))
        return (self.watts * t + wave) / HOUR


@dataclass(frozen=True, slots=True)
class Cycle:
    """A fridge or a boiler: `watts` during the first `on` seconds of every `period`."""

    watts: float
    period: float
    on: float
    phase: float

    def power(self, t: float) -> float:
        """Watts at `t`."""
        return self.watts if (t + self.phase) % self.period < self.on else 0.0

    def energy(self, t: float) -> float:
        """Watt-hours from 1970 (and a phase before it) to `t`."""
        whole, rest = divmod(t + self.phase, self.period)
        return self.watts * (whole * self.on + min(rest, self.on)) / HOUR


@dataclass(frozen=True, slots=True)
class Peak:
    """A time at which people are at home: a bell of `watts` at second `at` of the day."""

    watts: float
    at: float
    width: float
    """standard deviation, seconds"""

    def power(self, t: float) -> float:
        """Watts at `t`."""
        return self.watts * math.exp(-(((t % DAY - self.at) / self.width) ** 2) / 2)

    def energy(self, t: float) -> float:
        """Watt-hours from 1970 to `t`."""
        days, second = divmod(t, DAY)
        return days * self._until(DAY) + self._until(second)

    def _until(self, second: float) -> float:
        root = self.width * math.sqrt(2)
        bell = math.erf((second - self.at) / root) - math.erf(-self.at / root)
        return self.watts * self.width * math.sqrt(math.pi / 2) * bell / HOUR


@dataclass(frozen=True, slots=True)
class Switched:
    """Something that a person switched on, and left on."""

    since: float
    watts: float

    def power(self, t: float) -> float:
        """Watts at `t`."""
        return self.watts if t >= self.since else 0.0

    def energy(self, t: float) -> float:
        """Watt-hours to `t`."""
        return max(0.0, t - self.since) * self.watts / HOUR


@dataclass(frozen=True, slots=True)
class Load:
    """One dwelling behind one meter."""

    parts: tuple[Part, ...]
    began: float
    """when the meter was at `index`, seconds since 1970"""
    index: float
    """kWh"""
    cos_phi: float

    def power(self, t: float) -> float:
        """Watts drawn at `t`."""
        return sum(part.power(t) for part in self.parts)

    def energy(self, t: float) -> float:
        """Give the meter's index at `t`, kWh; only rises."""
        drawn = sum(part.energy(t) - part.energy(self.began) for part in self.parts)
        return self.index + drawn / 1000

    def apparent(self, t: float) -> float:
        """Volt-amperes at `t`."""
        return self.power(t) / self.cos_phi

    @property
    def tan_phi(self) -> float:
        """Reactive over active power; the same all day."""
        return math.tan(math.acos(self.cos_phi))

    def voltage(self, t: float) -> float:
        """Volts at `t`: a little lower where much is drawn."""
        return 233.0 + 1.5 * math.sin(math.tau * t / 1300) - self.power(t) / 1500

    def frequency(self, t: float) -> float:
        """Hertz at `t`."""
        return 50.0 + 0.02 * math.sin(math.tau * t / 700)


UTC_TO_BREAKFAST = 6.5 * HOUR
UTC_TO_EVENING = 18.5 * HOUR


def load(seed: int, line: int, unit: int, began: float) -> Load:
    """Draw one dwelling's load; the same for the same arguments.

    Standby never falls below 60 W and the index begins below 100 kWh, where a float32 still shows
    what is drawn in one second; at 12,000 kWh, as on a meter of some years, it would stand still
    for a minute.
    """
    random = Random(f"{seed}/{line}/{unit}")
    base = random.uniform(80, 160)
    parts: tuple[Part, ...] = (
        Standby(base, random.uniform(5, 20), random.uniform(200, 900)),
        Cycle(random.uniform(60, 120), random.uniform(1500, 3000), 700, random.uniform(0, 3000)),
        Cycle(random.uniform(800, 2200), random.uniform(5400, 14400), 240, random.uniform(0, 9000)),
        Peak(
            random.uniform(300, 1200),
            UTC_TO_BREAKFAST + random.gauss(0, 2400),
            random.uniform(1500, 3000),
        ),
        Peak(
            random.uniform(600, 2500),
            UTC_TO_EVENING + random.gauss(0, 3600),
            random.uniform(3000, 7000),
        ),
    )
    return Load(parts, began, random.uniform(10, 100), random.uniform(0.9, 0.99))
