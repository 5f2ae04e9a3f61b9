"""A spool's one thread: SQLite's commits wait for the disk there, and the event loop does not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

from agent.buffer.database import Damaged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

T = TypeVar("T")
S = TypeVar("S")


class OneThread:
    """Runs calls one after the other in a thread of its own, each to its end."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._damage: Damaged | None = None
        self._damaged = asyncio.Event()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """Run `call(*args)` in the thread.

        A cancellation waits for the call to end before it is raised: a commit that nobody waited
        for would otherwise be made a second time at shutdown.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, call, *args)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
                self._given_up()
        if isinstance(failed := future.exception(), Damaged):
            self._damage = failed
            self._damaged.set()
        if cancelled is not None:
            raise cancelled
        return future.result()

    async def damaged(self) -> NoReturn:
        """Raise Damaged once a call has: the file must be closed and opened anew."""
        await self._damaged.wait()
        assert self._damage is not None
        raise self._damage

    def _given_up(self) -> None:
        """Nobody waits any more for the call that is being made: most are soon over."""

    def close(self) -> None:
        """End the thread when its calls are done."""
        self._pool.shutdown(wait=True)


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
