"""What time it is, and whether that may be believed.

Slots, consents and batches are dated by the wall clock, so every part asks here and nowhere else.
`system` believes the operating system's clock, which is for loopback only; with any other source
the time is untrusted until a source that proves it is built.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal


class Trust(StrEnum):
    """How far the wall clock may be believed (domain.md 4.2)."""

    TRUSTED = "trusted"
    HOLDOVER = "holdover"
    UNTRUSTED = "untrusted"


def seconds() -> float:
    """The wall clock: seconds since 1970 UTC."""
    return time.time()


def monotonic() -> float:
    """Seconds that never step; comparable within one boot only."""
    return time.monotonic()


def stamp(at: float) -> str:
    """A moment in RFC 3339, UTC, whole seconds: `2026-11-24T10:15:00Z`."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Clock:
    """The agent's clock; its trust decides whether slots may be closed and commands begun."""

    def __init__(self, source: Literal["system", "ntp"]) -> None:
        self.source = source

    @property
    def trust(self) -> Trust:
        """Whether the wall clock may be believed now."""
        return Trust.TRUSTED if self.source == "system" else Trust.UNTRUSTED

    def now(self) -> float:
        """The wall clock: seconds since 1970 UTC."""
        return seconds()

    async def until(self, when: float) -> None:
        """Return at the wall time `when`, or within a second of a step of the clock beyond it."""
        while (left := when - self.now()) > 0:
            await asyncio.sleep(min(left, 1.0))
