"""A thread for each spool: SQLite's commits wait for the disk there, not on the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

from agent.buffer.database import Damaged, at_each_answer
from agent.core.atomic_write import SILENT, STALLED_AFTER
from agent.core.clock import monotonic
from agent.core.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

T = TypeVar("T")
S = TypeVar("S")


class OneThread:
    """Runs calls one after the other in a thread of its own, each to its end."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name, initializer=self._begin)

        self._since: float | None = None
        """monotonic time at which the present call began; None: there is none"""

    def _begin(self) -> None:
        """Called in the thread before its first call."""

    def begin(self, call: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Queue a call. It is made even if nobody waits for it. Raises StorageFailed if the
        thread has ended.
        """
        loop = asyncio.get_running_loop()
        try:
            return loop.run_in_executor(self._pool, self._timed, call, *args)
        except RuntimeError as error:  # the spool was closed while somebody still asks it
            raise StorageFailed("it is closed") from error

    def _timed(self, call: Callable[..., T], *args: object) -> T:
        self._since = monotonic()
        try:
            return self._make(call, *args)
        finally:
            self._since = None

    def stalled(self, now: float) -> bool:
        """Whether the present call has not returned in time: a fault of its storage, not of the
        component. `now` is monotonic.
        """
        since = self._since
        return since is not None and now - since > STALLED_AFTER

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """Run `call(*args)` in the thread.

        A cancellation is raised after the call has ended: otherwise a commit that nobody waited for
        would be made a second time at shutdown.
        """
        future = self.begin(call, *args)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await self._wait(future)
            except asyncio.CancelledError as error:
                cancelled = error
                self._given_up()
            except StorageFailed as error:
                # The caller was cancelled: it must see that, not the failure of the disk.
                raise cancelled or error from None
        if cancelled is not None:
            # Retrieve the exception, or asyncio logs that it was never retrieved.
            _ = future.cancelled() or future.exception()
            raise cancelled
        return future.result()

    def _make(self, call: Callable[..., T], *args: object) -> T:
        return call(*args)

    async def _wait(self, future: asyncio.Future[T]) -> None:
        await asyncio.wait([future])

    def _given_up(self) -> None:
        """Called when nobody waits for the present call any more."""

    async def broken(self) -> NoReturn:
        """Raise once the file must be opened again; here never."""
        await asyncio.Event().wait()
        raise AssertionError

    def close(self, *, wait: bool = True) -> None:
        """End the thread after its calls. `wait`: return after that."""
        self._pool.shutdown(wait=wait)

    async def leave(self, last: Callable[[], object]) -> None:
        """Make a last call, and end the thread."""
        try:
            await self.run(last)
        finally:
            self.close()


class DiskThread(OneThread):
    """A thread whose calls wait for a disk, at most `stalled_after` seconds at each step.

    If the disk does not answer in that time, or a call raises StorageFailed, all later calls raise
    it: only opening the file again shows what it holds.
    """

    def __init__(self, name: str, stalled_after: float | None = None) -> None:
        super().__init__(name)
        self._stalled_after = STALLED_AFTER if stalled_after is None else stalled_after
        self.failed = ""
        """why no more calls are made; empty: the disk works"""
        self._answered = monotonic()
        """monotonic time at which the present call began, or the disk last answered it"""
        self._broken: Damaged | StorageFailed | None = None
        self._is_broken = asyncio.Event()
        self._last: Future[object] | None = None

    def _begin(self) -> None:
        at_each_answer(self._note)

    def _note(self) -> None:
        self._answered = monotonic()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """As OneThread. Raises StorageFailed; the call then counts as not made."""
        if self.failed:
            raise StorageFailed(self.failed)
        try:
            return await super().run(call, *args)
        except (Damaged, StorageFailed) as error:
            self._broken = self._broken or error
            self._is_broken.set()
            raise

    async def broken(self) -> NoReturn:
        """Raise Damaged or StorageFailed once a call has: the file must be opened again."""
        await self._is_broken.wait()
        assert self._broken is not None
        raise self._broken

    def _make(self, call: Callable[..., T], *args: object) -> T:
        if self.failed:
            raise StorageFailed(self.failed)
        self._note()
        try:
            return super()._make(call, *args)
        except StorageFailed as error:
            self.failed = self.failed or str(error)
            raise

    async def _wait(self, future: asyncio.Future[T]) -> None:
        await asyncio.wait([future], timeout=self._stalled_after)
        if not future.done() and monotonic() - self._answered >= self._stalled_after:
            self.failed = self.failed or SILENT
            future.cancel()  # a call that has not begun is not made
            # The call may still fail later; asyncio would log its exception as never retrieved.
            future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise StorageFailed(self.failed)

    async def leave(self, last: Callable[[], object]) -> None:
        """As OneThread, but do not wait for a failed disk: see `over`."""
        with suppress(StorageFailed):
            await self.run(last)
        if self.failed:
            self._last = self._pool.submit(last)
        self.close(wait=not self.failed)

    @property
    def over(self) -> bool:
        """Whether the last call has ended after `leave`, so that another thread may open the
        file.
        """
        return self._last is None or self._last.done()


@asynccontextmanager
async def in_own_thread(
    name: str,
    open_it: Callable[[], AbstractContextManager[S]],
    thread: OneThread | None = None,
) -> AsyncIterator[tuple[S, OneThread]]:
    """Open a synchronous resource in a thread of its own, and close it there.

    Without `thread` it is on the disk: raises StorageFailed.
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
        await thread.leave(leave)
