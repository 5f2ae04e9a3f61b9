"""Requests that wait for the broker's answer, by packet id."""

from __future__ import annotations

import asyncio

from agent.core.errors import UplinkLost

ANSWER_SECONDS = 60.0


class Pending:
    """The pending requests of one connection; used on the event loop only."""

    def __init__(self, where: str) -> None:
        """`where`: the broker's address for messages."""
        self._where = where
        self._open: dict[int, asyncio.Future[int]] = {}
        self._last = 0.0

    def got(self, mid: int, code: int) -> None:
        """Settle a request with the reason code of its answer."""
        self._last = asyncio.get_running_loop().time()
        answer = self._open.get(mid)
        if answer and not answer.done():
            answer.set_result(code)

    def fail(self, why: str, error: type[UplinkLost] = UplinkLost) -> None:
        """Fail all pending requests with `error`: the connection is lost."""
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(error(why))

    async def answer(self, mid: int) -> int:
        """The reason code of the answer to a packet. Raises UplinkLost, also after a timeout."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        self._open[mid], asked = answer, loop.time()
        try:
            while not answer.done():
                # the timeout runs from the last answer: on a slow line a full window takes minutes
                left = max(asked, self._last) + ANSWER_SECONDS - loop.time()
                if left <= 0:
                    raise UplinkLost(f"{self._where}: no answer in {ANSWER_SECONDS:.0f} s")
                await asyncio.wait([answer], timeout=left)
            return answer.result()
        finally:
            answer.cancel()
            del self._open[mid]
