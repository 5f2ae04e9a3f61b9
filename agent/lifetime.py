"""How long things live: together, ended for sure, reopened when lost. The only retry policy."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from contextlib import AbstractAsyncContextManager

    from agent.errors import AgentError

log = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_WAIT = 60.0
"""seconds between two attempts at most; a link that stood longer counts as a good one"""


async def together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs until the first one ends, end the others, raise what the first one raised.

    Not a TaskGroup: before Python 3.13 one that fails while it is being cancelled forgets the
    cancellation (gh-116720), and a retry loop around it could never be ended.
    """
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # all are looked at: an exception that nobody reads is complained of at some later time
        failed = [e for task in done if not task.cancelled() and (e := task.exception())]
        if failed:
            raise failed[0]
    finally:
        await end(tasks)


class Jobs:
    """Jobs by name that run together, and each of which may be ended before the others."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def start(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        """Begin a job; one that ends by itself ends `serve`."""
        assert name not in self._tasks, name
        self._tasks[name] = asyncio.ensure_future(job)
        self._changed.set()

    async def stop(self, name: str, patience: float = 0.0) -> None:
        """End a job, after giving it `patience` seconds to end by itself; none of that name: fine.

        Raises what it raised.
        """
        task = self._tasks.pop(name, None)
        self._changed.set()
        if task is not None:
            if patience:
                await asyncio.wait([task], timeout=patience)
            await end([task])
            if not task.cancelled():
                task.result()

    async def serve(self) -> None:
        """Return, or raise, as the first job does that ends by itself; then all are ended."""
        try:
            while True:
                self._changed.clear()
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait(
                    [changed, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED
                )
                changed.cancel()
                for task in [task for task in self._tasks.values() if task.done()]:
                    task.result()
                    return
        finally:
            await end(self._tasks.values())


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel again and again until all are done.

    Once is not enough: `asyncio.wait_for` of Python 3.11 swallows a cancellation that meets the
    answer it waits for (39 of 300 with pymodbus).
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)


async def keep_open(  # noqa: PLR0913, PLR0917 -- its ceiling and its sign of health are the caller's
    name: str,
    open_it: Callable[[], AbstractAsyncContextManager[T]],
    serve: Callable[[T], Awaitable[None]],
    lost: type[AgentError],
    longest: float = LONGEST_WAIT,
    good: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _: None,
    level: int = logging.WARNING,
) -> None:
    """Open and serve, for ever; when lost, wait (full jitter, doubling to `longest` s), open again.

    The wait starts over after a connection that stood for a minute or that `good()` vouches for.
    A loss is logged, at `level`, when it begins and when its reason changes, not at every attempt;
    `tell` hears of each.
    """
    now, wait, said = asyncio.get_running_loop().time, 1.0, ""
    while True:
        began = now()
        try:
            async with open_it() as resource:
                if said:
                    log.log(level, "%s is open again", name)
                    said = ""
                await serve(resource)
        except lost as error:
            if now() - began > LONGEST_WAIT or good():
                wait = 1.0
            tell(str(error))
            if str(error) != said:
                said = str(error)
                log.log(level, "%s lost, trying again for as long as it takes: %s", name, error)
        await asyncio.sleep(random.uniform(0, wait))
        wait = min(wait * 2, longest)
