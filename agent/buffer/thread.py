"""A spool's one thread: SQLite's commits wait for the disk there, and the event loop does not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

from agent.buffer.database import Damaged, at_each_answer
from agent.clock import monotonic
from agent.durable import SILENT, STALLED_AFTER
from agent.errors import StorageFailed

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
        """when the call that is being made began"""

    def _begin(self) -> None:
        """In the thread, before its first call."""

    def begin(self, call: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Have the call made after those before it; whoever waits no longer does not end it. Raises
        StorageFailed where the thread has ended.
        """
        loop = asyncio.get_running_loop()
        try:
            return loop.run_in_executor(self._pool, self._timed, call, *args)
        except RuntimeError as error:  # what was opened is closed while somebody still asks it
            raise StorageFailed("it is closed") from error

    def _timed(self, call: Callable[..., T], *args: object) -> T:
        self._since = monotonic()
        try:
            return self._make(call, *args)
        finally:
            self._since = None

    def stalled(self, now: float) -> bool:
        """Whether the call under way has not returned in time: a fault of its storage, and no
        hanging part. `now` is monotonic.
        """
        since = self._since
        return since is not None and now - since > STALLED_AFTER

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """Run `call(*args)` in the thread.

        A cancellation waits for the call to end before it is raised: a commit that nobody waited
        for would otherwise be made a second time at shutdown.
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
                raise cancelled or error from None
        if cancelled is not None:
            _ = future.cancelled() or future.exception()
            raise cancelled
        return future.result()

    def _make(self, call: Callable[..., T], *args: object) -> T:
        return call(*args)

    async def _wait(self, future: asyncio.Future[T]) -> None:
        await asyncio.wait([future])

    def _given_up(self) -> None:
        """Nobody waits any more for the call that is being made: most are soon over."""

    async def broken(self) -> NoReturn:
        """Raise once what the calls use must be opened anew; here never."""
        await asyncio.Event().wait()
        raise AssertionError

    def close(self, *, wait: bool = True) -> None:
        """End the thread when its calls are done; `wait`: and return then."""
        self._pool.shutdown(wait=wait)

    async def leave(self, last: Callable[[], object]) -> None:
        """Make a last call, and end the thread."""
        try:
            await self.run(last)
        finally:
            self.close()


class DiskThread(OneThread):
    """One whose calls wait for a disk, `STALLED_AFTER` seconds at each step.

    Once it has not answered for so long, or a call has raised StorageFailed, all calls raise that:
    what the file holds is known again only when it is opened anew.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.failed = ""
        """why no call is made any more; empty: the disk is well"""
        self._answered = monotonic()
        """when the call that is being made began, or the disk last answered it"""
        self._broken: Damaged | StorageFailed | None = None
        self._is_broken = asyncio.Event()
        self._last: Future[object] | None = None

    def _begin(self) -> None:
        at_each_answer(self._note)

    def _note(self) -> None:
        self._answered = monotonic()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """As OneThread. Raises StorageFailed, and the call then counts as not made."""
        if self.failed:
            raise StorageFailed(self.failed)
        try:
            return await super().run(call, *args)
        except (Damaged, StorageFailed) as error:
            self._broken = self._broken or error
            self._is_broken.set()
            raise

    async def broken(self) -> NoReturn:
        """Raise Damaged or StorageFailed once a call has: the file must be opened anew."""
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
        await asyncio.wait([future], timeout=STALLED_AFTER)
        if not future.done() and monotonic() - self._answered >= STALLED_AFTER:
            self.failed = self.failed or SILENT
            future.cancel()  # what has not begun will not
            future.add_done_callback(lambda one: one.cancelled() or one.exception())
            raise StorageFailed(self.failed)

    async def leave(self, last: Callable[[], object]) -> None:
        """As OneThread; of a disk that has failed nobody waits for it: see `over`."""
        with suppress(StorageFailed):
            await self.run(last)
        if self.failed:
            self._last = self._pool.submit(last)
        self.close(wait=not self.failed)

    @property
    def over(self) -> bool:
        """Whether the last call is made after `leave`, so that another thread may open the file."""
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
        await thread.leave(leave)
