"""What a field bus driver is. A driver in hand is open; when its bus is gone it raises LinkLost.

Health, rest, retry, read-back and back-off are not the driver's business; timeouts of one request
are, since only the driver can bring the bus back into step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
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
