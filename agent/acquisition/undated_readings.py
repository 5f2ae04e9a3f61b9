"""Reads made while the clock was not trusted: kept by monotonic time, and dated afterwards.

They are in memory only, and bounded. Reads of a boot whose clock is never trusted cannot be dated:
their slots are M `clock` or `agent` (rule C11).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.model import Sample

ROOM = 50_000
"""samples of one line: 60 devices every minute for 14 hours"""


@dataclass(frozen=True, slots=True)
class UndatedRead:
    """One read of one device, with or without an answer."""

    device: str
    steps: tuple[int, ...]
    """the steps whose slots it is for, seconds"""
    steady: float
    """monotonic time of the answer"""
    samples: Sequence[Sample]
    serial: str | None


class UndatedReadings:
    """Reads in the order of time; when there is no room the oldest are dropped."""

    def __init__(self, room: int = ROOM) -> None:
        self._reads: deque[UndatedRead] = deque()
        self._room = room
        self._samples = 0
        self.dropped = 0
        """samples dropped since the start"""

    def __len__(self) -> int:
        return self._samples

    def add(self, read: UndatedRead) -> None:
        """Keep a read until the clock is trusted."""
        self._reads.append(read)
        self._samples += len(read.samples)
        while self._samples > self._room and len(self._reads) > 1:
            gone = len(self._reads.popleft().samples)
            self._samples -= gone
            self.dropped += gone

    def take(self) -> list[UndatedRead]:
        """Remove and return all reads, the oldest first."""
        reads = list(self._reads)
        self._reads.clear()
        self._samples = 0
        return reads
