"""A device on a line, and what is known of its health."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    answered: float | None = None
    """wall time of its last answer"""
    failures: int = 0
    """reads without an answer since the last one"""
    said: str = ""
    """what was wrong at the last read, for people"""
    latest: dict[str, Sample] = field(default_factory=dict)

    @property
    def keys(self) -> set[MarkKey]:
        """Its steps, each an account of its own."""
        return {(self.name, point.every) for point in self.points}

    def due(self, steps: Container[int]) -> list[Point]:
        """The points to read where these steps have a slot due; derived ones are not read."""
        return [point for point in self.points if point.every in steps and not point.derived]

    def derived(self, step: int) -> list[Point]:
        """The points of a step that are differences of others."""
        return [point for point in self.points if point.every == step and point.derived]
