"""Calls to the daemon over its local socket, as the person of a login."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from agent.core.errors import LoginNeeded, ReasonNeeded, Refused
from agent.core.i18n import Text, from_wire
from agent.core.state import connect
from agent.core.storage import volatile
from agent.local import request_pieces
from agent.registry.doubts import NeedsConfirmation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Answer = dict[str, Any]
AT_ONCE = 12
"""calls made at the same time: the daemon answers 32, and the command line needs some"""
GREETING_WITHIN, LINE_WITHIN = 10.0, 600.0
"""seconds for the daemon's greeting, and between two messages of a call: a search may be quiet"""
LIVE = "live "
"""before the login of a call that nobody has asked for"""
LONGEST_LINE = 16_000_000
"""most bytes of one message of the daemon"""


class Unreachable(Refused):
    """The daemon does not answer."""


class Client:
    """Makes calls to the daemon that owns a state."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._free = asyncio.Semaphore(AT_ONCE)

    async def ask(self, call: str, login: str = "", reason: str = "", /, **args: Any) -> Answer:
        """Make a call and return its answer. Raises Refused as the daemon says, Unreachable.

        `login`: of the person, or `live LOGIN` if nobody has asked: it does not keep a login alive.
        """
        async for message in self.follow(call, login, reason, **args):
            if "result" in message:
                result: Answer = message["result"]
                return result
        raise Unreachable("gardien was stopped before it answered. Try again in a minute")

    async def follow(
        self, call: str, login: str = "", reason: str = "", /, **args: Any
    ) -> AsyncIterator[Answer]:
        """Make a call; yield each `{"progress": …}` and at the end `{"result": …}`.

        Closing the iterator ends the call. Raises Refused as the daemon says, Unreachable.
        """
        async with self._free:
            reader, writer = await self._connected()
            try:
                async with asyncio.timeout(GREETING_WITHIN):
                    for piece in request_pieces(call, args, _members(login, reason)):
                        writer.write(piece)
                    await writer.drain()
                    await reader.readuntil(b"\n")
                while True:
                    async with asyncio.timeout(LINE_WITHIN):
                        message = json.loads(await reader.readuntil(b"\n"), object_hook=from_wire)
                    if "refused" in message:
                        raise _refusal(message)
                    yield message
                    if "result" in message:
                        return
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                raise Unreachable(
                    "gardien does not answer: {error}. Try again in a minute",
                    error=str(error) or type(error).__name__,
                ) from error
            finally:
                writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        door = connect(self._state) or connect(volatile(self._state))
        if door is None:
            raise Unreachable(
                "gardien is not running. On the gateway: sudo systemctl start gardien"
            )
        door.setblocking(False)
        return await asyncio.open_unix_connection(sock=door, limit=LONGEST_LINE)


def _members(login: str, reason: str) -> dict[str, Any]:
    live, token = login.startswith(LIVE), login.removeprefix(LIVE)
    return {"login": token, "reason": reason, "live": live}


def _refusal(message: Answer) -> Refused:
    text = message.get("text") or Text("{text}", text=message["refused"])
    if message.get("login") is False:
        return LoginNeeded(text)
    if message.get("reason"):
        return ReasonNeeded(text)
    return NeedsConfirmation.of(message) if "doubts" in message else Refused(text)
