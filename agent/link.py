"""One bus: its lock, and its driver kept open."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from agent.clock import monotonic, seconds
from agent.drivers.base import Attributes, Discovers, ObservableBus, Recalls, Seeks, Writes
from agent.drivers.line_disturbance import Disturbed
from agent.errors import AgentError, LinkLost, OutOfStep, Refused
from agent.log_fields import LogEvent, fields
from agent.model import Why
from agent.tasks import ConnectionFields, keep_open

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from zoneinfo import ZoneInfo

    from agent.drivers.base import Found, PointSlots, Progress, Reads, StoredHistory, Swept, Wish
    from agent.drivers.line_disturbance import Turn
    from agent.model import Point, Sample, Value

IDLE = 10.0
"""seconds without a request after which a bus may have gone without anybody's notice"""
BROKEN_AFTER = 10
"""reads in a row that end in an unexpected error: then it is the line, and not one device"""
OPENED_WITHIN = 5.0
"""seconds that a read waits for a bus to be opened again that went while it was idle, or that went
out of step
"""


class Link:
    """A bus that is reopened for as long as `serve` runs, and read by `at_once` callers at most."""

    def __init__(
        self,
        name: str,
        open_it: Callable[[], AbstractAsyncContextManager[Reads]],
        at_once: int = 1,
        zone: ZoneInfo | None = None,
    ) -> None:
        self.name = name
        self.at_once = at_once
        """how many devices may be asked at the same time"""
        self.disturbed = Disturbed(zone)
        """who disturbs it, as far as the driver can tell; days are those of `zone`"""
        self.opened = 0
        """how often the bus has been opened: a new number means that devices may have changed"""
        self.error = "not tried yet"
        """why the bus is not open; empty while it is"""
        self._tried = asyncio.Event()
        """the first attempt to open has ended, well or not"""
        self._wanted = asyncio.Event()
        """somebody wants to use it"""
        self.turned = monotonic()
        """when it was last seen at work: a request ended, an attempt to open it began or ended"""
        self._open_it = open_it
        self._driver: Reads | None = None
        self._lost: asyncio.Future[None] | None = None
        self._out_of_step = float("-inf")
        """when it was last lost for want of step: it is waited for then, by whoever comes next"""
        self._answered = False
        """somebody has answered since it was opened, or brought it out of step"""
        self._name: Callable[[str], str] = str
        """how the driver's evidence names the device at an address"""
        self._open = asyncio.Event()
        self._searched = False
        self._failed = 0
        """reads in a row that ended in an unexpected error"""
        # fair, so a person's read waits for one device's, not for a whole round
        self._turn = asyncio.Semaphore(at_once)

    async def serve(self, level: int = logging.WARNING) -> None:
        """Keep the bus open until cancelled; losses are logged at `level`.

        Raises what is no loss: an error in gardien. Readers are told meanwhile as at a loss.
        """
        logged = ConnectionFields(
            fields(LogEvent.LINE_LOST, line=self.name),
            fields(LogEvent.LINE_RESTORED, line=self.name),
        )
        await keep_open(
            f"line {self.name}", self._opening, self._hold, LinkLost,
            good=self._good, level=level, logged=logged,
        )  # fmt: skip

    def _good(self) -> bool:
        """Whether somebody answered since it was opened: then it is opened again soon."""
        answered, self._answered = self._answered, False
        return answered

    async def serve_if_wanted(self) -> None:
        """The same, from when on somebody wants to use it; he hears why it is not open."""
        await self._wanted.wait()
        await self.serve(logging.DEBUG)

    async def tried(self) -> None:
        """Wait until the first attempt to open has ended, well or not: before, a read would be told
        nothing.
        """
        self._wanted.set()
        await self._tried.wait()

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device when it is our turn. Raises LinkLost while the bus is down.

        Who reads once an hour finds that the converter has hung up on an idle caller, or that the
        adapter was out for a moment: then the bus is opened first, and no slot is lost for it. So
        it is where one device has brought it out of step, which is nobody else's fault.
        """
        idle = self._driver is not None and monotonic() - self.turned > IDLE
        try:
            return await self._read(points, idle=idle)
        except OutOfStep:
            pass
        except LinkLost:
            if not idle:
                raise
        if not await self._opened_again(OPENED_WITHIN):
            raise LinkLost(f"{self.name} is not open: {self.error}")
        return await self._read(points)

    async def _opened_again(self, within: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._open.wait()
        return self._open.is_set()

    async def _read(self, points: Sequence[Point], *, idle: bool = False) -> list[Sample]:
        samples: list[Sample] = []
        lost = True
        async with self._in_turn() as driver:
            try:
                samples = await driver.read(points)
                lost = False
            finally:
                answered = any(sample.why is not Why.SILENT for sample in samples)
                self._answered |= answered
                if isinstance(driver, Attributes):
                    turn = driver.turn()
                    if not (idle and lost):  # it ended while idle, which is nobody's doing
                        self._take_note(points[0].address, turn, answered=answered)
        return samples

    def _take_note(self, address: str, turn: Turn, *, answered: bool) -> None:
        """Note whose bytes were heard."""
        whose, now = self.whose(address), monotonic()
        self.disturbed.ended(whose, turn, now, seconds(), answered=answered)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[Reads]:
        """The open bus when it is our turn. Raises LinkLost while it is down."""
        async with self._turn:
            if self._driver is None:
                await self._opened_again(self._out_of_step + OPENED_WITHIN - monotonic())
            driver, lost = self._driver, self._lost
            if driver is None or lost is None:
                raise LinkLost(f"{self.name} is not open: {self.error}")
            try:
                yield driver
            except LinkLost as error:
                self._is_lost(driver, lost, error)
                raise
            except AgentError:
                raise
            except Exception as error:
                self._failed += 1
                if self._failed >= BROKEN_AFTER:
                    self._failed = 0
                    self._is_lost(driver, lost, error)
                raise
            else:
                self._failed = 0
            finally:
                self.turned = monotonic()

    def disturbs(self, address: str) -> bool:
        """Whether the device at an address is asked after all others, since it disturbs the bus."""
        return self.disturbed.goes_last(self.whose(address), monotonic())

    def rest(self, address: str) -> float:
        """Seconds for which the device at an address is left alone, since it disturbs the bus."""
        return self.disturbed.rest(self.whose(address))

    def spares(self, address: str) -> bool:
        """Whether the silence of the device at an address may be the doing of another one, that
        disturbs the bus: then it is asked again as if it had answered.
        """
        return self.disturbed.spares(self.whose(address), monotonic())

    def waits(self, address: str) -> bool:
        """Whether the device at an address is left alone now, since another one disturbs the bus
        too and was asked a moment ago.
        """
        return self.disturbed.waits(self.whose(address), monotonic())

    def whose(self, address: str) -> str:
        """How `disturbed` names the device at an address."""
        return self._name(address)

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write when it is our turn; see `Writes`. Raises LinkLost while the bus is down."""
        async with self._writing() as driver:
            await driver.write(point, value, slot)

    async def held(self, point: Point) -> PointSlots:
        """What stands at a point that may be commanded; see `Writes`."""
        async with self._writing() as driver:
            return await driver.held(point)

    async def sweep(self, points: Sequence[Point]) -> list[Swept]:
        """Give back what stands in our slots; see `Writes`."""
        async with self._writing() as driver:
            return await driver.sweep(points)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Writes]:
        async with self._in_turn() as driver:
            if not isinstance(driver, Writes):
                raise Refused(f"{self.name}: this kind of line cannot be written to")
            yield driver

    async def quiet(self, seconds: float) -> None:
        """Let them pass while nobody speaks on the bus; whoever waits for his turn waits on."""
        taken = 0
        try:
            for _ in range(self.at_once):
                await self._turn.acquire()
                taken += 1
            until = monotonic() + seconds
            while (left := until - monotonic()) > 0:
                await asyncio.sleep(min(1.0, left))
                self.turned = monotonic()
        finally:
            for _ in range(taken):
                self._turn.release()

    def _is_lost(self, driver: Reads, lost: asyncio.Future[None], error: Exception) -> None:
        if self._driver is driver:  # else it has been opened anew since we asked
            self._driver, self.error = None, _why(error)
            self._open.clear()
            if isinstance(error, OutOfStep):
                self._out_of_step, self._answered = monotonic(), True
        if not lost.done():
            lost.set_exception(error)

    def kept(self, point: Point) -> StoredHistory | None:
        """Where the device may keep values of a point from before, where the bus has such."""
        return self._driver.kept(point) if isinstance(self._driver, Recalls) else None

    def health(self) -> Mapping[str, Any]:
        """What the open bus says of itself beyond its devices; empty while it is down."""
        return self._driver.health() if isinstance(self._driver, ObservableBus) else {}

    async def discover(self, request: Wish) -> AsyncGenerator[Found | Progress]:
        """Search the bus step by step; readings and orders go between.

        Raises LinkLost while the bus is down, and where it was opened anew meanwhile; Refused where
        somebody else is searching it.
        """
        driver = self._open_driver()
        if not isinstance(driver, Discovers):
            raise Refused(f"{self.name}: this kind of line cannot be searched")
        if self._searched:
            raise Refused(f"{self.name} is being searched already: wait until that is over")
        self._searched = True
        try:
            async for step, _ in self._stepwise(driver.discover(request)):
                yield step
        finally:
            self._searched = False

    async def seek(self) -> AsyncIterator[Found | Progress]:
        """Search in free time: as `discover`, and each step is followed by as long a rest."""
        driver = self._open_driver()
        if not isinstance(driver, Seeks):
            raise Refused(f"{self.name}: this kind of line cannot be searched")
        async for step, took in self._stepwise(driver.seek()):
            yield step
            await asyncio.sleep(took)

    def _open_driver(self) -> Reads:
        if self._driver is None:
            raise LinkLost(f"{self.name} is not open: {self.error}")
        return self._driver

    async def _stepwise(
        self, steps: AsyncIterator[Found | Progress]
    ) -> AsyncIterator[tuple[Found | Progress, float]]:
        """Each step when it is its turn, and the seconds that it took."""
        opened = self.opened
        while True:
            async with self._turn:
                if self.opened != opened or self._driver is None or self._lost is None:
                    raise LinkLost(f"{self.name} is not open: {self.error}")
                began = monotonic()
                try:
                    step = await anext(steps, None)
                except LinkLost as error:
                    self._is_lost(self._driver, self._lost, error)
                    raise
                self.turned = monotonic()
                if isinstance(self._driver, Attributes):
                    self._driver.turn()  # who answers a search is asked by nobody's schedule
            if step is None:
                return
            yield step, self.turned - began

    @asynccontextmanager
    async def _opening(self) -> AsyncIterator[Reads]:
        self.turned = monotonic()
        try:
            async with self._open_it() as driver:
                yield driver
        except Exception as error:
            self.error = _why(error)
            self._tried.set()
            raise

    async def _hold(self, driver: Reads) -> None:
        self._lost = asyncio.get_running_loop().create_future()
        self._driver, self.error, self.turned = driver, "", monotonic()
        self.opened += 1
        if isinstance(driver, Attributes):
            self._name = driver.whose
        self._tried.set()
        self._open.set()
        try:
            await self._lost
        finally:
            self._driver = None
            self._open.clear()


def _why(error: Exception) -> str:
    """What recipients may be told, too: of an unexpected error its class alone."""
    return (
        str(error)
        if isinstance(error, LinkLost)
        else f"an error in gardien ({type(error).__name__})"
    )
