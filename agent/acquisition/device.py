"""A device on a line, and its health."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.channels import channels
from agent.core.model import ValueKind

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from agent.core.model import MarkKey, Point, Sample


@dataclass(slots=True)
class Device:
    """A device on a link, and its health."""

    name: str
    points: Sequence[Point]
    serial_point: Point | None = None
    serial: str | None = None
    """the serial number that it last reported"""
    asked_at_opening: int = 0
    """the opening of the link at which it last reported its serial number; 0: it must be asked"""
    rests_until: float = 0.0
    """monotonic time before which it is not read"""
    spacing: float = 0.0
    """seconds between two readings that its battery can bear; 0: no limit"""
    answered: float | None = None
    """wall time of its last answer"""
    failures: int = 0
    """consecutive reads without an answer"""
    failed: bool = False
    """whether its last read ended in an error in gardien"""
    clock_wrong: bool = False
    """whether its own clock was wrong at its last answer, as far as the bus knows"""
    problem: str = ""
    """the problem of the last read, for people; empty: none"""
    lost_at_opening: int = 0
    """the opening of the line at which the line was lost during the last read; 0: it was not lost
    """
    latest: dict[str, Sample] = field(default_factory=dict)

    @property
    def keys(self) -> set[MarkKey]:
        """Device name and step, in seconds, of each account of slots."""
        return {(self.name, point.every) for point in self.points}

    def due(self, steps: Container[int]) -> list[Point]:
        """The points to read for these steps. Derived points are calculated, not read."""
        return [point for point in self.points if point.every in steps and not point.derived]

    def flows(self, step: int) -> list[Point]:
        """The points of a step that are differences between indexes."""
        return [point for point in self._derived(ValueKind.INT) if point.every == step]

    def means(self, step: int | None = None) -> list[Point]:
        """The points of a step, or of all steps, that are means of more frequent readings."""
        return [point for point in self._derived(ValueKind.AVG) if step in (None, point.every)]

    def _derived(self, kind: ValueKind) -> list[Point]:
        known = channels()
        return [
            point
            for point in self.points
            if point.derived and known[str(point.channel)].derived is kind
        ]
