"""Readings that contradict each other over days: a heat meter whose return is hotter than its
supply, power beyond the fuse, a month-end index above today's. Nothing is changed or dropped; each
is a finding. Rule M23.

- Return: every read with flow, for 3 days and at least 12 reads, has the return at least 1 K above
  the supply (3 K if neither flow nor power is read). It ends with one read with flow whose return
  is not above its supply.
- Power: three reads in a row above 1.2 times the `rating` of the device's index. It ends a day
  after the last such read.
- Month-end: the index that the meter stored is above the present one, and the index has not rolled
  over. It ends with the next read without this.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.acquisition.slots import multiplier
from agent.acquisition.values import MARGIN
from agent.core.atomic_write import StateFile
from agent.core.quantities import channels, return_hotter

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.acquisition.device import Device
    from agent.core.model import Sample

FILE = "plausibility.json"
DAY = 86_400.0
HOTTER_FOR, HOTTER_READS = 3 * DAY, 12
BEYOND_READS, BEYOND_FOR = 3, DAY
GAP = 2 * DAY
"""seconds between two reads after which counting begins anew"""
SUPPLY, RETURN, POWER = "supply_temperature", "return_temperature", "elec.power"
FLOWS = frozenset({"heat_power", "flow"})
COOLING = "cool"
KILO = 1000


@dataclass(slots=True)
class DeviceDoubt:
    """What is odd with one device, so far."""

    at: float = 0.0
    """wall time of the last read that counted"""
    hotter_since: float | None = None
    hotter_reads: int = 0
    beyond_since: float | None = None
    beyond_reads: int = 0
    """in a row"""
    beyond_at: float = 0.0
    """wall time of the last read above the rating, once there were enough in a row"""
    month_end: list[str] = field(default_factory=list)
    """indexes whose stored value is above the present one"""

    @property
    def hotter(self) -> bool:
        """Whether the return has been hotter than the supply for days."""
        since = self.hotter_since
        return (
            since is not None
            and self.hotter_reads >= HOTTER_READS
            and self.at - since >= HOTTER_FOR
        )


class Plausibility:
    """Remembers for each device what is odd with it. A restart of the agent does not lose days."""

    def __init__(self, path: Path | None, devices: Container[str]) -> None:
        """`devices`: those that are configured; all others are forgotten."""
        self._file = StateFile[dict[str, DeviceDoubt]](path, _parsed, missing=dict)
        self._known = devices
        self._take(self._file.load(self._take))
        self._saved = 0.0

    def _take(self, stored: dict[str, DeviceDoubt]) -> None:
        self._devices = {name: doubt for name, doubt in stored.items() if name in self._known}

    def note(
        self, device: Device, samples: Sequence[Sample], now: float, odd: Mapping[str, Any]
    ) -> None:
        """Take one read. `odd`: what the driver itself saw in the meter's telegram."""
        doubt = self._devices.get(device.name) or DeviceDoubt()
        before = (doubt.hotter_since, doubt.beyond_at > 0, doubt.month_end)
        if now - doubt.at > GAP:
            doubt.hotter_since, doubt.hotter_reads, doubt.beyond_reads = None, 0, 0
        _temperatures(doubt, now, odd.get("hotter", _hotter(device, samples)))
        _powers(doubt, now, device, samples)
        if "month_end" in odd:
            doubt.month_end = list(odd["month_end"])
        after = (doubt.hotter_since, doubt.beyond_at > 0, doubt.month_end)
        if any(after) or doubt.beyond_reads:
            self._devices[device.name] = doubt
        else:
            self._devices.pop(device.name, None)
        # once a day otherwise: a card bears few writes
        if before != after or (any(after) and now - self._saved > DAY):
            self._save(now)

    def forget(self, device: str) -> None:
        """Forget a device: another meter has taken its place."""
        if self._devices.pop(device, None):
            self._save(self._saved)

    def of(self, device: str, now: float) -> Iterator[dict[str, Any]]:
        """What is odd with a device now: `kind`, `since` (wall time or None), `points`."""
        doubt = self._devices.get(device)
        if doubt is None:
            return
        if doubt.month_end:
            yield {"kind": "month-end", "since": None, "points": doubt.month_end}
        if doubt.hotter:
            yield {"kind": "hotter-return", "since": doubt.hotter_since, "points": []}
        if doubt.beyond_at and now - doubt.beyond_at < BEYOND_FOR:
            yield {"kind": "beyond-fuse", "since": doubt.beyond_since, "points": []}

    def _save(self, now: float) -> None:
        self._saved = now
        self._file.save_later({name: asdict(doubt) for name, doubt in self._devices.items()})


def _parsed(stored: Any) -> dict[str, DeviceDoubt]:
    return {str(name): DeviceDoubt(**doubt) for name, doubt in stored.items()}


def _temperatures(doubt: DeviceDoubt, now: float, hotter: bool | None) -> None:
    if hotter is None:
        return
    doubt.at = now
    if not hotter:
        doubt.hotter_since, doubt.hotter_reads = None, 0
        return
    doubt.hotter_reads += 1
    if doubt.hotter_since is None:
        doubt.hotter_since = now


def _hotter(device: Device, samples: Sequence[Sample]) -> bool | None:
    values = {
        sample.point.name: sample.value * sample.point.scale
        for sample in samples
        if isinstance(sample.value, Decimal)
    }
    cools = any(point.channel == COOLING for point in device.points)
    if cools or SUPPLY not in values or RETURN not in values:
        return None
    flows = [values[name] for name in FLOWS & values.keys()]
    return return_hotter(values[SUPPLY], values[RETURN], flows)


def _powers(doubt: DeviceDoubt, now: float, device: Device, samples: Sequence[Sample]) -> None:
    powers = [
        abs(sample.value * multiplier(sample.point))
        for sample in samples
        if isinstance(sample.value, Decimal) and sample.point.channel == POWER
    ]
    ratings = [
        point.rating * KILO
        for point in device.points
        if point.rating is not None and channels()[str(point.channel)].unit == "kWh"
    ]
    if not powers or not ratings:
        return
    doubt.at = now
    if max(powers) <= MARGIN * max(ratings):
        doubt.beyond_reads = 0
        if now - doubt.beyond_at >= BEYOND_FOR:
            doubt.beyond_at, doubt.beyond_since = 0.0, None
        return
    doubt.beyond_reads += 1
    if doubt.beyond_reads == 1 and not doubt.beyond_at:
        doubt.beyond_since = now
    if doubt.beyond_reads >= BEYOND_READS:
        doubt.beyond_at = now
