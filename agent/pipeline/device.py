"""A device on a line, and what is known of its health."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.channels import channels
from agent.model import ValueKind

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from agent.model import MarkKey, Point, Sample


@dataclass(slots=True)
class Device:
    """A device on a link, and what is known of its health."""

    name: str
    points: Sequence[Point]
    serial_point: Point | None = None
    serial: str | None = None
    """the serial number it last said"""
    asked_at_opening: int = 0
    """the opening of the link at which it last said its serial number; 0: to be asked"""
    rests_until: float = 0.0
    """monotonic"""
    spacing: float = 0.0
    """seconds between two readings that its battery bears; 0: as it comes"""
    answered: float | None = None
    """wall time of its last answer"""
    failures: int = 0
    """reads without an answer since the last one"""
    failed: bool = False
    """its last read ended in an error in gardien"""
    clock_wrong: bool = False
    """its own clock was off at its last answer, as far as the bus knows"""
    said: str = ""
    """what was wrong at the last read, for people"""
    lost_at_opening: int = 0
    """that was the line: the number of its opening then; 0: it was not"""
    latest: dict[str, Sample] = field(default_factory=dict)

    @property
    def keys(self) -> set[MarkKey]:
        """Its steps, each an account of its own."""
        return {(self.name, point.every) for point in self.points}

    def due(self, steps: Container[int]) -> list[Point]:
        """The points to read where these steps have a slot due; derived ones are not read."""
        return [point for point in self.points if point.every in steps and not point.derived]

    def flows(self, step: int) -> list[Point]:
        """The points of a step that are differences of indexes."""
        return [point for point in self._derived(ValueKind.INT) if point.every == step]

    def means(self, step: int | None = None) -> list[Point]:
        """The points of a step, or of all, that are means of what is read more often."""
        return [point for point in self._derived(ValueKind.AVG) if step in (None, point.every)]

    def _derived(self, kind: ValueKind) -> list[Point]:
        known = channels()
        return [
            point
            for point in self.points
            if point.derived and known[str(point.channel)].derived is kind
        ]
