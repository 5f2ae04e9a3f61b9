"""One question and its answer on the line, within the times that the baud rate gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.clock import monotonic
from agent.drivers.line_disturbance import (
    DRAINED_WITHIN,
    LATE_WITHIN,
    MEANT,
    QUIET,
    TALKED_OUT,
    How,
    Listener,
)
from agent.drivers.mbus.frame_search import acknowledged, sound, without_echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.drivers.mbus.wire import MbusWire

BITS = 11
"""of a byte on the wire: start, eight, parity, stop"""
PATIENCE_BITS, PATIENCE = 330, 0.05
"""a meter begins to answer within so many bit times and seconds (EN 13757-2, 5.7.4)"""
GAP_BITS = 33
"""a silence of so many bit times ends what was being said; a meter makes none inside a frame"""
DENSE = 0.8
"""of the time: so long the wire is taken by one that goes on and on; sparks leave gaps"""
LONGEST = 261
"""bytes of the longest frame"""


class Reply(NamedTuple):
    """What came for one question."""

    data: bytes = b""
    """what was asked for; empty: it did not come"""
    noise: bytes = b""
    """what was heard instead"""


class MbusLine:
    """An open line with its times; one question at a time."""

    def __init__(
        self, wire: MbusWire, baudrate: int, latency: float, patience: float = PATIENCE
    ) -> None:
        self.wire, self.baudrate, self.latency, self.patience = wire, baudrate, latency, patience
        self.asked = 0
        """questions so far"""
        self.busy = 0.0
        """seconds spent on them"""
        self.listener = Listener()
        self.turn = ""
        """who is asked next; empty: it is searched who is there"""
        self.spoilt = self.loud = False
        """in this turn bytes were heard instead of an answer that count against whoever is asked;
        somebody went on and on when a question was to be sent
        """
        self._ended, self._got_one, self._looked_at = 0.0, False, 0
        """when the last question was given up or answered, whether it was answered, and how many of
        the bytes that are still there were looked at
        """

    def window(self, request: bytes, baudrate: int) -> float:
        """Seconds from sending a request until an answer must have begun."""
        bits = len(request) * BITS + PATIENCE_BITS + BITS
        return bits / baudrate + self.patience + self.latency

    async def acknowledged(self, request: bytes, baudrate: int | None = None) -> Reply:
        """Ask for an acknowledgement (E5)."""
        return await self._exchange(request, baudrate or self.baudrate, acknowledged)

    async def frame(self, request: bytes, baudrate: int | None = None) -> Reply:
        """Ask for a frame; the first sound one of a meter counts, whatever is around it."""
        return await self._exchange(request, baudrate or self.baudrate, sound)

    async def chorus(self, request: bytes) -> Reply:
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
    ) -> Reply:
        began = monotonic()
        try:
            return await self._answered(request, baudrate, wanted)
        finally:
            self.asked += 1
            self.busy += monotonic() - began

    async def _answered(
        self, request: bytes, baudrate: int, wanted: Callable[[bytes], bytes | None]
    ) -> Reply:
        if self.loud:  # what it says comes in pieces: between them is no silence
            self.loud = not await self._ends(QUIET, TALKED_OUT)
        elif len(self.wire.received) > self._looked_at:
            self.loud = not await self._ends(GAP_BITS / baudrate, DRAINED_WITHIN)
        self._strays()
        self.listener.asks(self.turn, monotonic(), busy=self.loud)
        self.wire.send(request, baudrate)
        began = monotonic()
        begun_by = began + self.window(request, baudrate)
        gap = GAP_BITS / baudrate + self.latency
        last = begun_by + LONGEST * BITS / baudrate + gap
        until, heard = begun_by, b""
        while (left := until - monotonic()) > 0 and await self.wire.news(left):
            heard = without_echo(bytes(self.wire.received), request)
            if answer := wanted(heard):
                self._over(answered=True)
                if len(heard) == len(answer):
                    self.listener.clean()
                return Reply(answer)
            # noise does not end the time in which a meter may begin, nor does it prolong it
            until = min(max(begun_by, monotonic() + gap), last)
        self._over(answered=False)
        if len(heard) >= MEANT:
            self.spoilt |= self.listener.noise(self.wire.heard)
        return Reply(noise=heard)

    def _over(self, *, answered: bool) -> None:
        self._looked_at, self._ended = len(self.wire.received), monotonic()
        self._got_one = answered

    def _strays(self) -> None:
        """Take note of what was heard behind an answer, or behind the end of waiting for one."""
        behind = len(self.wire.received) - self._looked_at
        near = self.wire.began <= self._ended + QUIET
        if behind >= MEANT and near and self.listener.noise(self.wire.heard):
            how = How.MORE if self._got_one else How.NOISE
            self.listener.blame(self.listener.turn, how)
        self.wire.received.clear()
        self._looked_at = 0

    async def silent(self) -> None:
        """Behind a meter that said nothing. One that may have answered late is waited for."""
        if self.turn not in self.listener.late:
            self.listener.silent(monotonic())
            return
        heard, until = False, monotonic() + LATE_WITHIN
        while (left := until - monotonic()) > 0:
            heard |= await self.wire.news(left)
        if heard:
            self.listener.blame(self.turn, How.LATE)
        else:
            self.listener.late.discard(self.turn)

    async def drain(self) -> None:
        """Wait until the line is quiet behind a meter that disturbs it."""
        self.loud = not await self._ends(QUIET, DRAINED_WITHIN)
        self.listener.drained(quiet=not self.loud)
        self._strays()

    async def _ends(self, gap: float, within: float) -> bool:
        """Wait until nobody has spoken for `gap` seconds; False where somebody goes on and on."""
        began, came = monotonic(), self.wire.came
        while (left := self.wire.heard + gap - (now := monotonic())) > 0:
            if now >= began + within:
                return (self.wire.came - came) * BITS / self.baudrate < DENSE * within
            await self.wire.news(min(left, began + within - now))
        return True
