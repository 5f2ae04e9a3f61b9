"""A spool's one thread: SQLite's commits wait for the disk there, and the event loop does not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from agent.clock import monotonic
from agent.storage import STALLED_AFTER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

T = TypeVar("T")
S = TypeVar("S")


class OneThread:
    """Runs calls one after the other in a thread of its own, each to its end."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._since: float | None = None

    def begin(self, call: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Have the call made after those before it; whoever waits no longer does not end it."""
        return asyncio.get_running_loop().run_in_executor(self._pool, self._timed, call, *args)

    def _timed(self, call: Callable[..., T], *args: object) -> T:
        self._since = monotonic()
        try:
            return call(*args)
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
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
                self._given_up()
        if cancelled is not None:
            future.exception()
            raise cancelled
        return future.result()

    def _given_up(self) -> None:
        """Nobody waits any more for the call that is being made: most are soon over."""

    def close(self, *, wait: bool = True) -> None:
        """End the thread when its calls are done; `wait`: and return then."""
        self._pool.shutdown(wait=wait)


@asynccontextmanager
async def in_own_thread(
    name: str,
    open_it: Callable[[], AbstractContextManager[S]],
    thread: OneThread | None = None,
) -> AsyncIterator[tuple[S, OneThread]]:
    """Open a synchronous resource in a thread of its own and close it there."""
    thread = thread or OneThread(name)
    try:
        manager = open_it()
        resource = await thread.run(manager.__enter__)
        try:
            yield resource, thread
        finally:
            await thread.run(manager.__exit__, None, None, None)
    finally:
        thread.close()
