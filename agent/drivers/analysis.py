"""What was heard on a line, frame by frame in sentences, and which answers are odd. Pure.

`analyser` gives the analyser of a driver. It takes the events of a trace in order, live or from a
file, so that a scan, a read and `gardien decode trace` say the same. Each driver's own analyser is
the module `analysis` in its folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agent.core.i18n import Text
from agent.drivers import family
from agent.drivers.trace import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent.drivers.trace import Event

MOST = 2000
"""odd answers that are kept, counted by device and kind"""
MOST_VALUES = 50_000
"""values that are kept of all devices"""
TIMEOUT, LATENCY, BAUDRATE = 1.0, 0.0, 2400
"""what is assumed of a line whose trace does not say it"""


class Analyser(Protocol):
    """Explains the events of one line."""

    def feed(self, event: Event) -> Iterator[Frame]:
        """Take the next event; yield the frames that are complete by now."""
        ...

    def end(self) -> Iterator[Frame]:
        """Yield what is left at the end."""
        ...


def analyser(driver: str, settings: Mapping[str, Any]) -> Analyser:
    """Return the analyser of a driver, by its name in the configuration."""
    timeout = float(settings.get("timeout") or TIMEOUT)
    if family(driver) == "modbus":
        from agent.drivers.modbus.analysis import RtuAnalyser, TcpAnalyser  # noqa: PLC0415
        from agent.drivers.modbus.rtu import Speed  # noqa: PLC0415

        if driver == "modbus-tcp":
            return TcpAnalyser(timeout)
        speed = Speed(
            int(settings.get("baudrate") or 0),
            str(settings.get("parity") or "none"),
            int(settings.get("stopbits") or 1),
        )
        return RtuAnalyser(timeout, speed)
    if family(driver) == "mbus":
        from agent.drivers.mbus.analysis import MbusAnalyser  # noqa: PLC0415

        return MbusAnalyser()
    if driver == "bacnet":
        from agent.drivers.bacnet.analysis import BacnetAnalyser  # noqa: PLC0415

        return BacnetAnalyser(timeout)
    return _Bytes()


class _Bytes:
    """Explains nothing: the driver is another one."""

    def feed(self, event: Event) -> Iterator[Frame]:
        if event.data:
            text = Text("{number} bytes", number=len(event.data))
            yield Frame(event.at, event.direction, "", event.data, text)

    def end(self) -> Iterator[Frame]:
        yield from ()


@dataclass
class Observations:
    """What a call heard on a line: odd answers by device, and all values."""

    odd: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    values: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    """by device and place"""
    _kept: int = 0

    def take(self, frames: Iterable[Frame]) -> None:
        """Count the odd frames, and keep the last value of each place."""
        for frame in frames:
            if frame.odd:
                self._count(frame)
            for value in frame.values:
                places = self.values.setdefault(frame.device, {})
                if value["at"] in places or self._kept < MOST_VALUES:
                    self._kept += value["at"] not in places
                    places[value["at"]] = value

    def _count(self, frame: Frame) -> None:
        device = frame.asked or frame.device
        key = (device, frame.odd, frame.code)
        if key not in self.odd:
            if len(self.odd) >= MOST:
                return
            self.odd[key] = {
                "device": device,
                "kind": frame.odd,
                "code": frame.code or None,
                "sentence": frame.sentence,
                "times": 0,
                "expected": frame.expected,
            }
        self.odd[key]["times"] += 1

    def odd_by_device(self) -> Sequence[dict[str, Any]]:
        """The odd answers in the order of their devices; numbers in their order."""
        return sorted(self.odd.values(), key=lambda one: (one["device"].zfill(10), one["kind"]))
