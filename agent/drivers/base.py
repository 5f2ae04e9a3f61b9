"""What a field bus driver is. A driver in hand is open; when its bus is gone it raises LinkLost.

Health, rest, retry, read-back and back-off are not the driver's business; timeouts of one request
are, since only the driver can bring the bus back into step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from agent.drivers.line_disturbance import Turn
    from agent.model import Point, Sample, Value


class Driver(Protocol):
    """An open link to a field bus; exists only while connected.

    Calls never overlap, but for a driver with a class attribute `at_once` above 1: then calls for
    so many devices may.
    """

    Settings: type[Any]
    """pydantic model of the link's options, without `driver:`"""

    @classmethod
    def open(cls, settings: Any) -> AbstractAsyncContextManager[Self]:
        """Connect; close on leaving. Raises LinkLost if it cannot."""
        ...

    @staticmethod
    def check(point: Point) -> None:
        """Raise ValueError, in words for the person who wrote it, on an `address` or `at`
        this driver cannot read. No I/O.
        """
        ...


class Reads(Driver, Protocol):
    """A bus whose devices are asked."""

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device in as few requests as the bus allows.

        One sample a point, in order, each stamped with the wall time of its answer. A device that
        does not answer is `silent` on all its points after ONE timeout; one it refuses is `bad`.
        Raises LinkLost when the bus itself is gone.
        """
        ...


@runtime_checkable
class Rehearses(Protocol):
    """A bus that can tell without a device what one would be read as."""

    @staticmethod
    def rehearse(test: Mapping[str, Any], points: Sequence[Point]) -> list[Sample]:
        """Read points of a device that serves nothing but the cells of a profile's own test.

        One sample a point, in order. No I/O. Raises ValueError where they are no such cells.
        """
        ...


@runtime_checkable
class Budgets(Protocol):
    """Settings of a line that know how long its devices take at best, before it is opened."""

    def seconds(self, points: Sequence[Point]) -> float:
        """How long the line is taken by reading points of one device once."""
        ...


@runtime_checkable
class Stations(Protocol):
    """A bus on which several devices of the configuration may be one on the wire."""

    @staticmethod
    def station(address: str) -> str:
        """What is asked at an address: the same for all inputs of a collector of pulses.

        Raises ValueError where it is no address. No I/O.
        """
        ...


@runtime_checkable
class ObservableBus(Protocol):
    """A bus that has something to say of itself beyond its devices."""

    def health(self) -> Mapping[str, Any]:
        """Figures for programs, and for people a sentence `words` (how it is) and perhaps a
        sentence `worry` (what somebody must look at).
        """
        ...


@runtime_checkable
class Attributes(Protocol):
    """A bus that several devices share, and that can tell whose bytes it hears."""

    def turn(self) -> Turn:
        """What was heard since this was called last, and whose it was."""
        ...

    @staticmethod
    def whose(address: str) -> str:
        """How `turn` names the device at a configured address. No I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What a scan is to look for; a driver takes of it what its bus knows."""

    first: str = ""
    """the address to begin with; empty: the bus's own first"""
    last: str = ""
    expected: tuple[str, ...] = ()
    """serial numbers to ask for first"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is: `done` of `total` steps of one kind, in words for people."""

    done: int
    total: int
    words: str
    stays: bool = False
    """the words are worth keeping when the search is over: who was expected and does not answer"""


@dataclass(frozen=True, slots=True)
class Found:
    """One device that a scan found, and how the configuration would name it."""

    name: str
    """a name for it that fits the configuration, such as `mbus-45123456`"""
    entry: Mapping[str, Any]
    """what stands under that name in `devices:`, without `link:`; plain data, in good order"""
    about: str
    """for people: maker, model, medium, index"""
    warnings: tuple[str, ...] = field(default=())
    """what a person must look at: two devices on one address, an unknown profile"""
    number: str | None = None
    """its serial number, where it says one"""


@runtime_checkable
class Discovers(Protocol):
    """A bus that can be searched. Never writes to a device."""

    def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search; each device once, progress between. Calls never overlap with `read`, but others
        read and write between two steps: a step takes seconds and leaves the bus as it was.

        Raises LinkLost when the bus is gone, Refused when it must not be searched now (another
        master is on the line).
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredHistory:
    """What a device keeps of one point from before, all to be read with one `read`."""

    point: Point
    clock: Point
    """what time the device says it is now"""
    values: tuple[tuple[Point, Point], ...]
    """each: what says when, and what says the value; times in ISO 8601, the device's own"""

    @property
    def points(self) -> list[Point]:
        """All of them."""
        return [self.clock, *(one for pair in self.values for one in pair)]


@runtime_checkable
class Recalls(Protocol):
    """A bus whose devices remember values of before."""

    @staticmethod
    def kept(point: Point) -> StoredHistory | None:
        """Where a device may keep values of this point; None: nowhere. No I/O."""
        ...


@runtime_checkable
class Seeks(Discovers, Protocol):
    """A bus whose devices are addressed by their serial numbers, so that one can be missed."""

    @staticmethod
    def number(address: str) -> str | None:
        """The serial number that an address holds; None: it is found otherwise."""
        ...

    def seek(self) -> AsyncIterator[Found | Progress]:
        """Search as `discover` does, a few questions a step; between steps others may read."""
        ...


@dataclass(frozen=True, slots=True)
class PointSlots:
    """What stands at a commandable point, slot by slot (BACnet: its priority array)."""

    ours: Mapping[int, Value | None]
    """each of our slots; None: empty"""
    minimum: Value | None = None
    """what the device itself holds for its minimum on and off times: no override by a person"""
    others: Mapping[int, Value] = field(default_factory=dict)
    """what others hold, by slot; a smaller number is stronger"""

    def outranking(self, slot: int) -> int | None:
        """The strongest slot of somebody else that is stronger than this one of ours."""
        return min((other for other in self.others if other < slot), default=None)


@dataclass(frozen=True, slots=True)
class Swept:
    """One slot of ours that held a value when nothing should have, or a point nobody could see."""

    point: Point
    slot: int | None
    """None: the point could not be looked at, so its sweep stays due"""
    value: Value | None
    empty: bool
    """it was emptied, and read back empty"""
    detail: str = ""


@runtime_checkable
class Writes(Protocol):
    """A bus whose devices can be commanded; reading back is not the driver's business."""

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write into one of our slots; None: NULL, which gives back that slot only.

        Raises WriteRefused where the device did not acknowledge it (it may stand all the same),
        Refused where the slot or the value is not ours to write; LinkLost.
        """
        ...

    async def held(self, point: Point) -> PointSlots:
        """What stands there. Raises WriteRefused where the device does not say; LinkLost."""
        ...

    async def sweep(self, points: Sequence[Point]) -> list[Swept]:
        """Give back what stands in our slots at these points, whoever left it there.

        Raises LinkLost.
        """
        ...
