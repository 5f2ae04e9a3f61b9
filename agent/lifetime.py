"""How long things live: together, ended for sure, reopened when lost. The only retry policy."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

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


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel again and again until all are done.

    Once is not enough: `asyncio.wait_for` of Python 3.11 swallows a cancellation that meets the
    answer it waits for (39 of 300 with pymodbus).
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)


async def keep_open(  # noqa: PLR0913 -- its ceiling and its sign of health are the caller's
    name: str,
    open_it: Callable[[], AbstractAsyncContextManager[T]],
    serve: Callable[[T], Awaitable[None]],
    lost: type[AgentError],
    longest: float = LONGEST_WAIT,
    good: Callable[[], bool] = lambda: False,
) -> None:
    """Open and serve, for ever; when lost, wait (full jitter, doubling to `longest` s), open again.

    The wait starts over after a connection that stood for a minute or that `good()` vouches for.
    A loss is logged when it begins and when its reason changes, not at every attempt.
    """
    now, wait, said = asyncio.get_running_loop().time, 1.0, ""
    while True:
        began = now()
        try:
            async with open_it() as resource:
                if said:
                    log.warning("%s is open again", name)
                    said = ""
                await serve(resource)
        except lost as error:
            if now() - began > LONGEST_WAIT or good():
                wait = 1.0
            if str(error) != said:
                said = str(error)
                log.warning("%s lost, trying again for as long as it takes: %s", name, error)
        await asyncio.sleep(random.uniform(0, wait))
        wait = min(wait * 2, longest)
