"""Guess the profile of a device that answers, by whether its values are plausible for a profile."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.core.model import Point, Why
from agent.drivers.modbus.master import ModbusMaster
from agent.drivers.profile import profile, profiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.core.model import Sample
    from agent.drivers.modbus.master import ModbusWire
    from agent.drivers.profile import Profile

BOUNDS = {
    "voltage": (80, 300),
    "frequency": (45, 65),
    "power_factor": (-1, 1),
    "temperature": (-30, 60),
    "supply_temperature": (1, 180),
    "return_temperature": (1, 180),
    "humidity": (1, 100),
    "co2": (250, 10_000),
}
"""plausible values of quantities, by the beginning of their name. Where possible, 0 is outside,
since unused registers are mostly 0
"""
ENOUGH = 3
"""values in bounds, of two kinds at least, that make a match; fewer may match by chance"""
SILENCES = 2
"""unanswered reads after which no more profiles are tried: the device may stop answering at all"""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The profile that a device seems to match; all empty: none."""

    profile: str = ""
    model: str = ""
    serial: str = ""
    warnings: tuple[str, ...] = ()


async def fitting(wire: ModbusWire, unit: int) -> AsyncIterator[Fingerprint | None]:
    """Compare a device with all profiles. Yields None after each, and at the end the result.

    Raises LinkLost.
    """
    fits: list[tuple[int, str]] = []
    silences, master = 0, ModbusMaster(wire)
    for name in profiles():
        candidate = profile(name)
        points = list(_points(unit, candidate)) if candidate.driver == "modbus" else []
        if not points or silences >= SILENCES:
            continue
        samples = await master.read(points)
        if samples[0].why is Why.SILENT:
            silences += 1
        elif number := _values_in_bounds(samples):
            fits.append((number, name))
        yield None
    best = max((number for number, _ in fits), default=0)
    names = [name for number, name in fits if number == best]
    yield await _fingerprint_of(master, unit, names) if names else Fingerprint()


def _points(unit: int, candidate: Profile) -> Iterator[Point]:
    for quantity, offer in candidate.points.items():
        if _bounds(quantity) or quantity in candidate.defaults:
            scale = offer.scale / 100 if offer.unit == "%" else offer.scale
            yield Point("", quantity, str(unit), offer.at, 60, scale=scale)


def _bounds(quantity: str) -> tuple[int, int] | None:
    return next((b for name, b in BOUNDS.items() if quantity.startswith(name)), None)


def _values_in_bounds(samples: list[Sample]) -> int:
    """The number of values in bounds; 0: one is out of bounds, or there are too few."""
    kinds: set[tuple[int, int]] = set()
    number = 0
    for sample in samples:
        if not isinstance(sample.value, Decimal):
            return 0
        bounds = _bounds(sample.point.name)
        if bounds is None:
            continue
        if not bounds[0] <= sample.value * sample.point.scale <= bounds[1]:
            return 0
        kinds.add(bounds)
        number += 1
    return number if number >= min(ENOUGH, len(samples)) and len(kinds) > 1 else 0


async def _fingerprint_of(master: ModbusMaster, unit: int, names: list[str]) -> Fingerprint:
    match = profile(names[0])
    serial, warnings = (
        "",
        ["the profile is guessed from the values: compare it with the type plate"],
    )
    if names[1:]:
        warnings.append(f"it may also be {', '.join(names[1:])}")
    if match.serial:
        (sample,) = await master.read([Point("", "serial", str(unit), match.serial.at, 0)])
        serial = str(sample.value or "")  # 0: it was never set
    return Fingerprint(names[0], f"{match.manufacturer} {match.model}", serial, tuple(warnings))
