"""The protocols that a field bus driver implements.

A driver object is an open bus. It raises LinkLost when the bus is gone. The driver applies the
timeout of each request, since only it can resynchronize the bus. Health, pauses, retries of a
device, read-back and back-off are the caller's part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from agent.core.quantities import from_raw, to_raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from decimal import Decimal

    from agent.core.i18n import Text
    from agent.core.model import Point, Sample, Value
    from agent.drivers.line_disturbance import Turn
    from agent.drivers.trace import Record


class Driver(Protocol):
    """An open field bus; the object exists only while it is connected.

    Calls never overlap, except on a driver with a class attribute `at_once` above 1: there, calls
    for that many devices may overlap.
    """

    Settings: type[Any]
    """pydantic model of the link's options, without `driver:`"""

    @classmethod
    def open(cls, settings: Any) -> AbstractAsyncContextManager[Self]:
        """Connect; close on leaving. Raises LinkLost if it cannot."""
        ...

    @staticmethod
    def check(point: Point) -> None:
        """Raise ValueError if this driver cannot read the point's `address` or `at`. The message
        is for the author of the configuration. No I/O.
        """
        ...


class Reads(Driver, Protocol):
    """A bus whose devices are polled."""

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device in as few requests as the bus allows.

        Returns one sample for each point, in order, with the wall time of its answer. If the device
        does not answer, all its points are `silent` after ONE timeout. A point that the device
        refuses is `bad`. Raises LinkLost when the bus itself is gone.
        """
        ...


@runtime_checkable
class Rehearses(Protocol):
    """A driver that can run the test of a profile without a device."""

    @staticmethod
    def rehearse(test: Mapping[str, Any], points: Sequence[Point]) -> list[Sample]:
        """Read points of a simulated device that serves only the cells of a profile's `test`.

        Returns one sample for each point, in order. No I/O. Raises ValueError if `test` is not
        valid.
        """
        ...


@runtime_checkable
class RecordsDevices(Protocol):
    """A driver that can record a device as the test of its profile."""

    async def record(
        self, points: Sequence[Point], serial: Point | None
    ) -> tuple[list[Sample], dict[str, Any]]:
        """Read points of one device as `read` does.

        Also returns the `test` that gives the same values when it is rehearsed: only what these
        points need, without times, with another number in the place of the serial number. The
        sample of `serial`, if there is one, comes first and has the real number. Raises LinkLost;
        Refused if this device cannot be recorded.
        """
        ...


@runtime_checkable
class Budgets(Protocol):
    """Settings of a line that can estimate, before it is opened, how long its devices take."""

    def seconds(self, points: Sequence[Point]) -> float:
        """Seconds for which reading these points of one device once occupies the line, at least."""
        ...


@runtime_checkable
class Stations(Protocol):
    """A bus on which several configured devices may be one device on the wire."""

    @staticmethod
    def station(address: str) -> str:
        """The device on the wire at an address: the same for all inputs of a pulse collector.

        Raises ValueError if `address` is not valid. No I/O.
        """
        ...


@runtime_checkable
class ObservableBus(Protocol):
    """A bus that reports its own state, beside that of its devices."""

    def health(self) -> Mapping[str, Any]:
        """Figures for programs; for people a sentence `words` (the state) and, where something
        must be looked at, a sentence `worry`.
        """
        ...


@runtime_checkable
class Attributes(Protocol):
    """A shared bus that can tell which device sent the bytes that it receives."""

    def turn(self) -> Turn:
        """What was heard since the last call, and from which device."""
        ...

    @staticmethod
    def whose(address: str) -> str:
        """The name by which `turn` calls the device at a configured address. No I/O."""
        ...


@runtime_checkable
class Traceable(Protocol):
    """A bus whose bytes can be recorded (`agent/drivers/trace.py`)."""

    def record_to(self, record: Record | None) -> None:
        """Pass all bytes that come and go to `record`; None: to nobody any more."""
        ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What a scan shall look for. A driver uses the parts that apply to its bus."""

    first: str = ""
    """first address; empty: the lowest one of the bus"""
    last: str = ""
    """last address; empty: the highest one of the bus"""
    expected: tuple[str, ...] = ()
    """serial numbers that are asked for first"""
    expected_only: bool = False
    """on a bus that is searched by number: end once these were asked for"""
    listen: bool = True
    """listen for another master first; not right after a search that did"""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a scan: `done` of `total` steps, and a sentence for people."""

    done: int
    total: int
    words: Text
    stays: bool = False
    """the sentence is also a result: it is kept after the search, such as a missing meter"""


@dataclass(frozen=True, slots=True)
class Found:
    """One device that a scan found, and its entry for the configuration."""

    name: str
    """a name for it that fits the configuration, such as `mbus-45123456`"""
    entry: Mapping[str, Any]
    """the entry under that name in `devices:`, without `link:`; plain data, in print order"""
    about: Text
    """for people: maker, model, medium, index"""
    warnings: tuple[Text, ...] = field(default=())
    """what a person must check: two devices on one address, an unknown profile"""
    number: str | None = None
    """serial number; None: the device does not give one"""
    objects: tuple[Mapping[str, Any], ...] = field(default=())
    """all that the device lists, also what no channel fits: `at`, `name`, `value`, `unit`"""


def readable(entry: Mapping[str, Any]) -> bool:
    """Whether the entry of a found device says what to read from it."""
    return bool(entry.keys() & {"profile", "points"})


@runtime_checkable
class Discovers(Protocol):
    """A bus that can be searched. A search never writes to a device."""

    def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search: yields each device once, and progress in between.

        A step takes seconds and never overlaps with `read`; it leaves the bus as it was, since
        others read and write between two steps. Raises LinkLost when the bus is gone, Refused when
        it must not be searched now (another master is on the line).
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredHistory:
    """The earlier values of one point that a device stores. One `read` reads them all."""

    point: Point
    clock: Point
    """the point that gives the device's present time"""
    values: tuple[tuple[Point, Point], ...]
    """pairs: the point that gives the time of a value, and the point that gives the value. Times
    are in ISO 8601, by the device's own clock
    """

    @property
    def points(self) -> list[Point]:
        """All points to read: the clock first, then each pair."""
        return [self.clock, *(point for pair in self.values for point in pair)]


@runtime_checkable
class Recalls(Protocol):
    """A bus whose devices store earlier values."""

    @staticmethod
    def kept(point: Point) -> StoredHistory | None:
        """Where a device may store earlier values of this point; None: nowhere. No I/O."""
        ...


@runtime_checkable
class Seeks(Discovers, Protocol):
    """A bus whose devices are addressed by serial number, so that a replaced one is not found."""

    @staticmethod
    def number(address: str) -> str | None:
        """The serial number in an address; None: the address has none."""
        ...

    def seek(self) -> AsyncIterator[Found | Progress]:
        """Search as `discover` does, with few requests in each step; others read in between."""
        ...


@dataclass(frozen=True, slots=True)
class PointSlots:
    """The values at a commandable point, by slot (BACnet: its priority array)."""

    ours: Mapping[int, Value | None]
    """each of the gateway's slots; None: empty"""
    minimum: Value | None = None
    """the value that the device holds for its minimum on and off times; not an override"""
    others: Mapping[int, Value] = field(default_factory=dict)
    """values of others, by slot; a smaller number has priority"""

    def outranking(self, slot: int) -> int | None:
        """The slot of others with the highest priority above `slot`; None: there is none."""
        return min((other for other in self.others if other < slot), default=None)


@dataclass(frozen=True, slots=True)
class Swept:
    """A slot of the gateway that held a value without an order, or a point that is not readable."""

    point: Point
    slot: int | None
    """None: the point could not be read, so its sweep is still due"""
    value: Value | None
    empty: bool
    """the slot was emptied, and read back as empty"""
    detail: str = ""


@runtime_checkable
class Writes(Protocol):
    """A bus whose devices can be commanded. The caller reads back."""

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write `value` into one of the gateway's slots; None: NULL, which releases that slot only.

        Raises WriteRefused if the device did not acknowledge (the value may be in force all the
        same), Refused if the slot or the value must not be written; LinkLost.
        """
        ...

    async def held(self, point: Point) -> PointSlots:
        """The values at a point. Raises WriteRefused if they cannot be read; LinkLost."""
        ...

    async def sweep(self, points: Sequence[Point]) -> list[Swept]:
        """Empty the gateway's slots at these points, whoever wrote the values in them.

        Returns an entry for each slot that held a value and each point that could not be read.
        Raises LinkLost.
        """
        ...


@dataclass(frozen=True, slots=True)
class DeviceWatchdog:
    """The watchdog of one device, as its profile describes it.

    While a hold is in force, the controller writes `raw_timeout` to `point`, first at the beginning
    of the hold and then every `pause` seconds. If these writes stop, the device falls back to the
    value in `fallback`.
    """

    point: Point
    timeout: Decimal
    """seconds without a write after which the device falls back"""
    fallback: Point
    """the point that holds the fallback value"""

    @property
    def pause(self) -> float:
        """Seconds between two writes: half of the timeout, so that one write may be lost."""
        return float(self.timeout) / 2

    @property
    def raw_timeout(self) -> Decimal:
        """The raw value that the driver writes to `point`."""
        return to_raw(self.point, self.timeout)

    def on(self, held: Decimal) -> bool:
        """Whether the watchdog is active, by the raw value `held` in `point`.

        0 switches it off. A time longer than `timeout` does not count either: the device would fall
        back later than the form for the assembly promises.
        """
        return 0 < from_raw(self.point, held) <= self.timeout
