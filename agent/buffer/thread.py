"""A spool's one thread: SQLite's commits wait for the disk there, and the event loop does not."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from agent.clock import monotonic
from agent.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

T = TypeVar("T")
S = TypeVar("S")

STALL = 10.0
"""seconds that a disk may take for one step before it counts as failed"""
_here = threading.local()


def beat() -> None:
    """Note, in a thread of OneThread's, that the disk has answered."""
    thread: OneThread | None = getattr(_here, "thread", None)
    if thread is not None:
        thread.turned = monotonic()


class OneThread:
    """Runs calls one after the other in a thread of its own, each to its end."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name, initializer=self._begin)
        self.turned = monotonic()
        """when the call that is being made began, or the disk last answered it"""

    def _begin(self) -> None:
        _here.thread = self

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """Run `call(*args)` in the thread.

        A cancellation waits for the call to end before it is raised: a commit that nobody waited
        for would otherwise be made a second time at shutdown.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._make, call, *args)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await self._wait(future)
            except asyncio.CancelledError as error:
                cancelled = error
                self._given_up()
            except StorageFailed as error:
                raise cancelled or error from None
        if cancelled is not None:
            _ = future.cancelled() or future.exception()
            raise cancelled
        return future.result()

    def _make(self, call: Callable[..., T], *args: object) -> T:
        self.turned = monotonic()
        return call(*args)

    async def _wait(self, future: asyncio.Future[T]) -> None:
        await asyncio.wait([future])

    def _given_up(self) -> None:
        """Nobody waits any more for the call that is being made: most are soon over."""

    async def close(self, last: Callable[[], object]) -> None:
        """Make a last call, and end the thread."""
        try:
            await self.run(last)
        finally:
            self._pool.shutdown(wait=True)


class DiskThread(OneThread):
    """One whose calls wait for a disk, `STALL` seconds at each step.

    Once it has not answered for so long, or a call has raised StorageFailed, all calls raise that:
    what the file holds is known again only when it is opened anew.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._name = name
        self.failed = ""
        """why no call is made any more; empty: the disk is well"""
        self._last: Future[object] | None = None

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """As OneThread. Raises StorageFailed, and the call then counts as not made."""
        if self.failed:
            raise StorageFailed(self.failed)
        return await super().run(call, *args)

    def _make(self, call: Callable[..., T], *args: object) -> T:
        if self.failed:
            raise StorageFailed(self.failed)
        try:
            return super()._make(call, *args)
        except StorageFailed as error:
            self.failed = self.failed or str(error)
            raise

    async def _wait(self, future: asyncio.Future[T]) -> None:
        await asyncio.wait([future], timeout=STALL)
        if not future.done() and monotonic() - self.turned >= STALL:
            self.failed = self.failed or f"the disk has not answered for {STALL:.0f} s"
            future.cancel()  # what has not begun will not
            raise StorageFailed(self.failed)

    async def close(self, last: Callable[[], object]) -> None:
        """As OneThread; of a disk that has failed nobody waits for it: see `over`."""
        with suppress(StorageFailed):
            await self.run(last)
        if self.failed:
            self._last = self._pool.submit(last)
        self._pool.shutdown(wait=not self.failed)

    @property
    def over(self) -> bool:
        """Whether the last call is made after `close`, so that another thread may open the file."""
        return self._last is None or self._last.done()


@asynccontextmanager
async def in_own_thread(
    name: str,
    open_it: Callable[[], AbstractContextManager[S]],
    thread: OneThread | None = None,
) -> AsyncIterator[tuple[S, OneThread]]:
    """Open a synchronous resource in a thread of its own and close it there.

    Without `thread` it is one on the disk: raises StorageFailed.
    """
    thread, manager = thread or DiskThread(name), open_it()
    opened: list[S] = []

    def leave() -> None:
        if opened:
            opened.clear()
            manager.__exit__(None, None, None)

    def enter() -> S:
        resource = manager.__enter__()
        opened.append(resource)
        return resource

    try:
        yield await thread.run(enter), thread
    finally:
        await thread.close(leave)
