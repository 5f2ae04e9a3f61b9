"""A boiler room and the rooms behind it, as physics of one line each. Pure; time goes in.

The boiler follows its heating curve plus the offset that somebody commands; the rooms cool towards
the outdoors and are warmed by the supply. A command too strong or too long is therefore felt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DAY = 86_400.0
LOSS = 1 / (30 * 3600)
"""of a room's temperature to the outdoors, per second: a day and a quarter to cool by two thirds"""
GAIN = LOSS * 15 / 33
"""from the supply, per second: 20 °C inside where it is 5 °C outside and the supply has 53 °C"""
QUICK = 1 / 600
"""how fast the supply follows its setpoint, per second"""


def outdoor(t: float) -> float:
    """°C outside: 5 ± 4 in a day, coldest at six in the morning."""
    return 5 - 4 * math.cos(math.tau * (t % DAY - 6 * 3600) / DAY)


def curve(outside: float) -> float:
    """°C of supply that the heating curve asks for: 53 at 5 °C, 1.5 more for each degree less."""
    return min(75.0, max(25.0, 53 + 1.5 * (5 - outside)))


@dataclass
class Plant:
    """The state of the boiler room; `step` moves it on."""

    supply: float = 53.0
    room: float = 20.0
    heat_kwh: float = 48_211.0
    pump_kwh: float = 3_120.0

    def step(self, t: float, seconds: float, *, offset: float, pump: bool, speed: float) -> None:
        """Let `seconds` pass at time `t`. `offset` K on the supply, `speed` % of ventilation."""
        asked = curve(outdoor(t)) + offset if pump else self.room
        self.supply += (asked - self.supply) * min(1.0, QUICK * seconds)
        warmed = GAIN * (self.supply - self.room) if pump else 0.0
        lost = LOSS * (0.7 + 0.3 * speed / 60) * (self.room - outdoor(t))
        self.room += (warmed - lost) * seconds
        self.heat_kwh += self.power_kw(pump=pump) * seconds / 3600
        self.pump_kwh += (0.4 if pump else 0.02) * seconds / 3600

    def power_kw(self, *, pump: bool) -> float:
        """KW of heat that leaves the boiler."""
        return max(0.0, 2.2 * (self.supply - self.room)) if pump else 0.0

    @property
    def back(self) -> float:
        """°C of the return."""
        return self.supply - 0.35 * (self.supply - self.room)

    def co2(self, t: float, speed: float) -> float:
        """PPM in the stairs: people in the evening, less where the ventilation runs."""
        evening = max(0.0, math.sin(math.tau * (t % DAY - 12 * 3600) / DAY))
        return 420 + 500 * evening * 60 / max(10.0, speed)
