"""One question and its answer on the line, within the times that the baud rate gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.clock import monotonic
from agent.drivers.mbus.heard import acknowledged, sound, without_echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.drivers.mbus.wire import Wire

BITS = 11
"""of a byte on the wire: start, eight, parity, stop"""
PATIENCE_BITS, PATIENCE = 330, 0.05
"""a meter begins to answer within so many bit times and seconds (EN 13757-2, 5.7.4)"""
GAP_BITS = 33
"""a silence of so many bit times ends what was being said; a meter makes none inside a frame"""
LONGEST = 261
"""bytes of the longest frame"""


class Answer(NamedTuple):
    """What came for one question."""

    data: bytes = b""
    """what was asked for; empty: it did not come"""
    noise: bytes = b""
    """what was heard instead"""


class Line:
    """An open line with its times; one question at a time."""

    def __init__(
        self, wire: Wire, baudrate: int, latency: float, patience: float = PATIENCE
    ) -> None:
        self.wire, self.baudrate, self.latency, self.patience = wire, baudrate, latency, patience
        self.asked = 0
        """questions so far"""
        self.busy = 0.0
        """seconds spent on them"""

    def window(self, request: bytes, baudrate: int) -> float:
        """Seconds from sending a request until an answer must have begun."""
        bits = len(request) * BITS + PATIENCE_BITS + BITS
        return bits / baudrate + self.patience + self.latency

    async def acknowledged(self, request: bytes, baudrate: int | None = None) -> Answer:
        """Ask for an acknowledgement (E5)."""
        return await self._exchange(request, baudrate or self.baudrate, acknowledged)

    async def frame(self, request: bytes, baudrate: int | None = None) -> Answer:
        """Ask for a frame; the first sound one of a meter counts, whatever is around it."""
        return await self._exchange(request, baudrate or self.baudrate, sound)

    async def chorus(self, request: bytes) -> Answer:
        """Ask everybody whom a selection fits, and hear them to the end."""
        return await self._exchange(request, self.baudrate, lambda _: None)

    async def quiet(self, seconds: float) -> bytes:
        """What is heard in so many seconds without asking."""
        self.wire.received.clear()
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            await self.wire.news(left)
        return bytes(self.wire.received)

    async def _exchange(
        self, request: bytes, baudrate: int, wanted: Callable[[bytes], bytes | None]
    ) -> Answer:
        began = monotonic()
        try:
            return await self._answered(request, baudrate, wanted)
        finally:
            self.asked += 1
            self.busy += monotonic() - began

    async def _answered(
        self, request: bytes, baudrate: int, wanted: Callable[[bytes], bytes | None]
    ) -> Answer:
        self.wire.send(request, baudrate)
        began = monotonic()
        begun_by = began + self.window(request, baudrate)
        gap = GAP_BITS / baudrate + self.latency
        last = begun_by + LONGEST * BITS / baudrate + gap
        until, heard = begun_by, b""
        while (left := until - monotonic()) > 0 and await self.wire.news(left):
            heard = without_echo(bytes(self.wire.received), request)
            if answer := wanted(heard):
                return Answer(answer)
            # noise does not end the time in which a meter may begin, nor does it prolong it
            until = min(max(begun_by, monotonic() + gap), last)
        return Answer(noise=heard)
