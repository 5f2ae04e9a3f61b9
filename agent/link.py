"""One bus: its lock, and its driver kept open."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.clock import monotonic
from agent.drivers.base import Discovers, Watched
from agent.errors import LinkLost, Refused
from agent.lifetime import keep_open

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from agent.drivers.base import Found, Progress, Reads, Wish
    from agent.model import Point, Sample


class Link:
    """A bus that is reopened for as long as `serve` runs, and read by `at_once` callers at most."""

    def __init__(
        self,
        name: str,
        open_it: Callable[[], AbstractAsyncContextManager[Reads]],
        at_once: int = 1,
    ) -> None:
        self.name = name
        self.at_once = at_once
        """how many devices may be asked at the same time"""
        self.opened = 0
        """how often the bus has been opened: a new number means that devices may have changed"""
        self.error = "not tried yet"
        """why the bus is not open; empty while it is"""
        self.tried = asyncio.Event()
        """the first attempt to open has ended, well or not: before, a read would be told nothing"""
        self.turned = monotonic()
        """when it was last seen at work: a request ended, an attempt to open it began or ended"""
        self._open_it = open_it
        self._driver: Reads | None = None
        self._lost: asyncio.Future[None] | None = None
        # fair, so a person's read waits for one device's, not for a whole round
        self._turn = asyncio.Semaphore(at_once)

    async def serve(self) -> None:
        """Keep the bus open until cancelled."""
        await keep_open(self.name, self._opening, self._hold, LinkLost)

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device when it is our turn. Raises LinkLost while the bus is down."""
        async with self._turn:
            driver, lost = self._driver, self._lost
            if driver is None or lost is None:
                raise LinkLost(f"{self.name} is not open: {self.error}")
            try:
                return await driver.read(points)
            except LinkLost as error:
                if self._driver is driver:  # else it has been opened anew since we asked
                    self._driver, self.error = None, str(error)
                if not lost.done():
                    lost.set_exception(error)
                raise
            finally:
                self.turned = monotonic()

    def health(self) -> Mapping[str, Any]:
        """What the open bus says of itself beyond its devices; empty while it is down."""
        return self._driver.health() if isinstance(self._driver, Watched) else {}

    async def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search the bus; readings wait meanwhile. Raises LinkLost while the bus is down."""
        async with self._turn:
            driver = self._driver
            if driver is None:
                raise LinkLost(f"{self.name} is not open: {self.error}")
            if not isinstance(driver, Discovers):
                raise Refused(f"{self.name}: this kind of line cannot be searched")
            async for found in driver.discover(wish):
                self.turned = monotonic()
                yield found

    @asynccontextmanager
    async def _opening(self) -> AsyncIterator[Reads]:
        self.turned = monotonic()
        try:
            async with self._open_it() as driver:
                yield driver
        except LinkLost as error:
            self.error = str(error)
            self.tried.set()
            raise

    async def _hold(self, driver: Reads) -> None:
        self._lost = asyncio.get_running_loop().create_future()
        self._driver, self.error, self.turned = driver, "", monotonic()
        self.opened += 1
        self.tried.set()
        try:
            await self._lost
        finally:
            self._driver = None
