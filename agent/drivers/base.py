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

    from agent.model import Point, Sample


class Driver(Protocol):
    """An open link to a field bus; exists only while connected; calls never overlap."""

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
        does not answer is `silent` on all its points after ONE timeout; a point it refuses is `bad`.
        Raises LinkLost when the bus itself is gone.
        """
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


@runtime_checkable
class Discovers(Protocol):
    """A bus that can be searched. Never writes to a device."""

    def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search; each device once, progress between. Calls never overlap with `read`.

        Raises LinkLost when the bus is gone, Refused when it must not be searched now (another
        master is on the line).
        """
        ...
