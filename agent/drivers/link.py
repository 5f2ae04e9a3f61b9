"""One bus: its lock, and its driver, kept open."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from agent.core.clock import monotonic, seconds
from agent.core.errors import AgentError, LinkLost, OutOfStep, Refused
from agent.core.i18n import text_of
from agent.core.log_fields import LogEvent, fields
from agent.core.model import Why
from agent.core.tasks import ConnectionFields, keep_open
from agent.drivers.base import (
    Attributes,
    Discovers,
    ObservableBus,
    Recalls,
    RecordsDevices,
    Seeks,
    Traceable,
    Writes,
)
from agent.drivers.line_disturbance import Disturbed
from agent.drivers.trace import NOTE, OPENED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from zoneinfo import ZoneInfo

    from agent.core.model import Point, Sample, Value
    from agent.drivers.base import Found, PointSlots, Progress, Reads, StoredHistory, Swept, Wish
    from agent.drivers.line_disturbance import Turn
    from agent.drivers.trace import Record

IDLE = 10.0
"""seconds without a request after which a connection may be dead without notice"""
BROKEN_AFTER = 10
"""unexpected errors in a row after which the line counts as lost, and not just one device"""
OPENED_WITHIN = 5.0
"""seconds that a read waits for a bus to be opened again, if the bus was lost while it was idle or
because its frames could not be told apart
"""


class Link:
    """A bus that `serve` keeps open. At most `at_once` callers use it at the same time."""

    def __init__(
        self,
        name: str,
        open_it: Callable[[], AbstractAsyncContextManager[Reads]],
        at_once: int = 1,
        zone: ZoneInfo | None = None,
    ) -> None:
        self.name = name
        self.at_once = at_once
        """how many devices may be read at the same time"""
        self.idle, self.opened_within = IDLE, OPENED_WITHIN
        self.disturbed = Disturbed(zone)
        """the devices that disturb the bus, as far as the driver can tell; days are in `zone`"""
        self.opened = 0
        """how often the bus was opened: after each opening the devices may be others"""
        self.error = "not tried yet"
        """why the bus is not open; empty while it is open"""
        self.down_since: float | None = None
        """wall time since when the bus is lost or cannot be opened; None: it is open"""
        self._tried = asyncio.Event()
        """set when the first attempt to open has ended, with or without success"""
        self._wanted = asyncio.Event()
        """set when a call needs the bus"""
        self.turned = monotonic()
        """when the bus last did something: a request ended, or an opening began or ended"""
        self._open_it = open_it
        self._driver: Reads | None = None
        self._lost: asyncio.Future[None] | None = None
        self._out_of_step = float("-inf")
        """when frames could last not be told apart: the next caller then waits for the reopening"""
        self._answered = False
        """a device has answered since the opening, or has sent bytes that broke the framing"""
        self._name: Callable[[str], str] = str
        """how the driver's evidence names the device at an address"""
        self._open = asyncio.Event()
        self._searched = False
        self._records: list[Record] = []
        """take all bytes of the bus while they are wanted"""
        self._failed = 0
        """reads in a row that ended in an unexpected error"""
        # A semaphore is fair: a person's read waits for one device, not for a whole round of polls.
        self._turn = asyncio.Semaphore(at_once)

    async def serve(self, level: int = logging.WARNING) -> None:
        """Keep the bus open until cancelled. Losses are logged at `level`.

        Raises only errors in gardien itself. Meanwhile readers get LinkLost, as after a loss.
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
        """Whether a device answered since the last opening. If so, the next opening comes soon."""
        answered, self._answered = self._answered, False
        return answered

    async def serve_if_wanted(self) -> None:
        """As `serve`, but open the bus only once a call needs it. The caller reports the losses."""
        await self._wanted.wait()
        await self.serve(logging.DEBUG)

    async def tried(self) -> None:
        """Wait for the end of the first attempt to open: before it, `error` gives no reason."""
        self._wanted.set()
        await self._tried.wait()

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device when it is our turn. Raises LinkLost while the bus is down.

        If the bus was idle, the converter may have closed the connection, or the adapter may have
        been unplugged for a moment. Then the bus is opened again first, so that no slot is lost.
        The same holds if the bytes of another device broke the framing.
        """
        # Decided before the read: afterwards `turned` is new, whether or not the bus was idle.
        idle = self._driver is not None and monotonic() - self.turned > self.idle
        try:
            return await self._read(points, idle=idle)
        except OutOfStep:
            pass
        except LinkLost:
            if not idle:
                raise
        if not await self._opened_again(self.opened_within):
            raise LinkLost("{name} is not open: {error}", name=self.name, error=self.error)
        return await self._read(points)

    async def record(
        self, points: Sequence[Point], serial: Point | None
    ) -> tuple[list[Sample], dict[str, Any]]:
        """Read a device once, and record it as a test; see `agent.drivers.base.RecordsDevices`.

        Raises LinkLost; Refused if this kind of line cannot record.
        """
        async with self._in_turn() as driver:
            if not isinstance(driver, RecordsDevices):
                raise Refused("devices on the line {name} cannot be recorded", name=self.name)
            recorded = await driver.record(points, serial)
            if isinstance(driver, Attributes):
                driver.turn()  # drop the evidence: this was no reading
            return recorded

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
                    if not (idle and lost):  # a connection lost while idle is no device's fault
                        self._take_note(points[0].address, turn, answered=answered)
        return samples

    def _take_note(self, address: str, turn: Turn, *, answered: bool) -> None:
        """Record which devices sent bytes during a read, and whether the right one answered."""
        whose, now = self.whose(address), monotonic()
        self.disturbed.ended(whose, turn, now, seconds(), answered=answered)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[Reads]:
        """Give the open driver when it is our turn. Raises LinkLost while the bus is down."""
        async with self._turn:
            if self._driver is None:
                await self._opened_again(self._out_of_step + self.opened_within - monotonic())
            driver, lost = self._driver, self._lost
            if driver is None or lost is None:
                raise LinkLost("{name} is not open: {error}", name=self.name, error=self.error)
            try:
                yield driver
            except LinkLost as error:
                self._is_lost(driver, lost, error)
                raise
            except AgentError:
                raise
            except Exception as error:
                # One device with a strange answer must not close the line for all others. Only
                # errors in a row, whichever device, mean that the line itself is broken.
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
        """Whether the device at an address is read after all others because it disturbs the bus."""
        return self.disturbed.goes_last(self.whose(address), monotonic())

    def rest(self, address: str) -> float:
        """Return the seconds for which a device is not read because it disturbs the bus."""
        return self.disturbed.rest(self.whose(address))

    def spares(self, address: str) -> bool:
        """Whether another device that disturbs the bus may have caused this device's silence.

        The device is then read again as if it had answered.
        """
        return self.disturbed.spares(self.whose(address), monotonic())

    def waits(self, address: str) -> bool:
        """Whether a device is not read now because another disturbing one was read just before."""
        return self.disturbed.waits(self.whose(address), monotonic())

    def whose(self, address: str) -> str:
        """Return the name of the device at an address as `disturbed` uses it."""
        return self._name(address)

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write when it is our turn; see `Writes`. Raises LinkLost while the bus is down."""
        async with self._writing() as driver:
            await driver.write(point, value, slot)

    async def held(self, point: Point) -> PointSlots:
        """Read the value and our slots of a point that may be commanded; see `Writes`."""
        async with self._writing() as driver:
            return await driver.held(point)

    async def sweep(self, points: Sequence[Point]) -> list[Swept]:
        """Release the values in our slots; see `Writes`."""
        async with self._writing() as driver:
            return await driver.sweep(points)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Writes]:
        async with self._in_turn() as driver:
            if not isinstance(driver, Writes):
                raise Refused(
                    'the line "{name}" cannot be written to: its driver only reads', name=self.name
                )
            yield driver

    async def quiet(self, seconds: float) -> None:
        """Keep the bus silent for `seconds`. Other callers wait."""
        taken = 0
        try:
            # Take every turn. Count them, since a cancellation may come between two of them.
            for _ in range(self.at_once):
                await self._turn.acquire()
                taken += 1
            self.turned = monotonic() + seconds  # it is not stuck meanwhile
            await asyncio.sleep(seconds)
        finally:
            self.turned = monotonic()
            for _ in range(taken):
                self._turn.release()

    def _is_lost(self, driver: Reads, lost: asyncio.Future[None], error: Exception) -> None:
        if self._driver is driver:  # else the bus was opened again since our request
            self._driver, self.error = None, _why(error)
            self.down_since = seconds()
            self._open.clear()
            if isinstance(error, OutOfStep):
                self._out_of_step, self._answered = monotonic(), True
        if not lost.done():
            lost.set_exception(error)

    @contextmanager
    def recorded(self, record: Record) -> Iterator[None]:
        """Pass all bytes of the bus to `record` during a block, also after a reopening."""
        self._records.append(record)
        self._listen()
        try:
            yield
        finally:
            self._records.remove(record)
            self._listen()

    def _listen(self) -> None:
        driver: object = self._driver
        if isinstance(driver, Traceable):
            driver.record_to(self._record if self._records else None)

    def _record(self, direction: str, data: bytes, peer: str) -> None:
        for record in self._records:
            record(direction, data, peer)

    def kept(self, point: Point) -> StoredHistory | None:
        """Return where the device stores past values of a point; None if it stores none."""
        return self._driver.kept(point) if isinstance(self._driver, Recalls) else None

    def health(self) -> Mapping[str, Any]:
        """Return the statistics of the open bus; empty while it is down."""
        return self._driver.health() if isinstance(self._driver, ObservableBus) else {}

    async def discover(self, request: Wish) -> AsyncGenerator[Found | Progress]:
        """Search the bus step by step. Readings and orders run between the steps.

        Raises LinkLost while the bus is down or when it is opened again meanwhile; Refused if
        another search is running.
        """
        driver = self._open_driver()
        if not isinstance(driver, Discovers):
            raise Refused(
                'the line "{name}" cannot be searched: its driver has no search', name=self.name
            )
        if self._searched:
            raise Refused(
                'the line "{name}" is being searched already: wait for the end', name=self.name
            )
        self._searched = True
        try:
            async for step, _ in self._stepwise(driver.discover(request)):
                yield step
        finally:
            self._searched = False

    async def seek(self) -> AsyncIterator[Found | Progress]:
        """As `discover`, but rest after each step for as long as it took."""
        driver = self._open_driver()
        if not isinstance(driver, Seeks):
            raise Refused(
                'the line "{name}" cannot be searched: its driver has no search', name=self.name
            )
        async for step, took in self._stepwise(driver.seek()):
            yield step
            await asyncio.sleep(took)

    def _open_driver(self) -> Reads:
        if self._driver is None:
            raise LinkLost("{name} is not open: {error}", name=self.name, error=self.error)
        return self._driver

    async def _stepwise(
        self, steps: AsyncIterator[Found | Progress]
    ) -> AsyncIterator[tuple[Found | Progress, float]]:
        """Take each step when it is our turn; yield its result and the seconds that it took."""
        opened = self.opened
        while True:
            async with self._turn:
                # The search belongs to a driver object: after a reopening it would use a dead one.
                if self.opened != opened or self._driver is None or self._lost is None:
                    raise LinkLost("{name} is not open: {error}", name=self.name, error=self.error)
                began = monotonic()
                try:
                    step = await anext(steps, None)
                except LinkLost as error:
                    self._is_lost(self._driver, self._lost, error)
                    raise
                self.turned = monotonic()
                if isinstance(self._driver, Attributes):
                    self._driver.turn()  # drop the evidence: nobody expected these answers
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
            self.down_since = self.down_since or seconds()
            self._tried.set()
            raise

    async def _hold(self, driver: Reads) -> None:
        self._lost = asyncio.get_running_loop().create_future()
        self._driver, self.error, self.turned = driver, "", monotonic()
        self.down_since = None
        self.opened += 1
        if isinstance(driver, Attributes):
            self._name = driver.whose
        self._listen()
        self._record(NOTE, OPENED.encode(), "")
        self._tried.set()
        self._open.set()
        try:
            await self._lost
        finally:
            self._driver = None
            self._open.clear()


def _why(error: Exception) -> str:
    """Describe an error for recipients too: of an unexpected one only its class."""
    return (
        text_of(error)
        if isinstance(error, LinkLost)
        else f"an error in gardien ({type(error).__name__})"
    )
