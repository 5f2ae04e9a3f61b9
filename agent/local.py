"""The door for the command line: JSON lines on a unix socket, or the same call in this process.

One request a connection, `{"call": "place.list", "args": {}}`, answered by `{"here": <pid>}`, any
number of `{"progress": {…}}` and one `{"result": {…}}` or `{"refused": "what to do instead"}`.
Asking the daemon costs none of its parts' start-up time: they are imported where a call is made.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
import socket
import struct
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, Refused
from agent.lifetime import said
from agent.state import SCAN, connect, listening, owned
from agent.storage import made, volatile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from agent.clerk import Asker
    from agent.house import House

log = logging.getLogger(__name__)

CLOSED = "the daemon closed the connection before it answered: its log says why"
FAILED = (
    "an error in gardien itself ({error}) broke this off, perhaps halfway: see what was done before"
    " you try again. It is in the log; `gardien support-bundle` collects what a report needs"
)
GREETING_WITHIN = 10.0
"""seconds until the daemon has said that it is here: systemd's socket takes calls also while the
daemon is starting, or cannot start"""
ROWS = 500
"""of a list in an answer that are encoded at once"""
LONGEST = 64 * 1024 * 1024
"""bytes of one request: a spreadsheet of 50,000 dwellings has a few"""


async def answer(house: House, request: bytes, asker: Asker) -> dict[str, Any]:
    """Make the call a request names. What it cannot do comes back as `refused`, in words."""
    from agent.calls import CALLS  # noqa: PLC0415 -- see the module

    try:
        asked = json.loads(request)
        call, arguments = CALLS[asked["call"]], dict(asked.get("args") or {})
    except (ValueError, KeyError, TypeError) as error:
        return {"refused": f"not a request this version knows: {error}"}
    try:
        result = await call(house, asker, **arguments)
        await house.obey()  # a withdrawal is done when the answer says so
    except AgentError as error:
        return {"refused": str(error)}
    except Exception as error:  # noqa: BLE001 -- told, noted, and nobody else's
        words = f"the call {asked['call']} failed because of an error in gardien: {said(error)}"
        house.jobs.faults.log(error, words, "local socket")
        return {"refused": FAILED.format(error=type(error).__name__)}
    return {"result": result}


async def open_door(house: House, state: Path) -> None:
    """Answer on the state's socket until cancelled."""
    from agent.clerk import Asker  # noqa: PLC0415 -- see the module

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(words: dict[str, Any]) -> None:
            for piece in _pieces(words):
                writer.write(piece.encode())
                await writer.drain()
                await asyncio.sleep(0)  # the room of the socket may be large
            writer.write(b"\n")
            await writer.drain()

        try:
            await say({"here": os.getpid()})
            asker = Asker(_account(writer.get_extra_info("socket")), lambda p: say({"progress": p}))
            await say(await answer(house, await reader.readline(), asker))
        except (ConnectionError, ValueError) as error:
            log.info("a visitor left or said too much: %s", error)
        finally:
            writer.close()

    try:
        door = listening(state)
    except OSError as error:
        log.error("no door in %s: %s", state, error)  # noqa: TRY400 -- no bug
        state = made(volatile(state))
        door = listening(state)
    # not start_unix_server: at the end it would remove the name, which may be systemd's
    server = await asyncio.start_server(visit, sock=door, limit=LONGEST)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        (state / "gardien.sock").unlink(missing_ok=True)


def _pieces(words: dict[str, Any], deep: int = 2) -> Iterator[str]:
    """An answer as JSON, of a long list in it some rows at a time: encoding holds everybody."""
    between = "{"
    for name, value in words.items():
        yield f"{between}{json.dumps(str(name))}: "
        if isinstance(value, dict) and deep:
            yield from _pieces(value, deep - 1)
        elif isinstance(value, list) and len(value) > ROWS:
            for first in range(0, len(value), ROWS):
                yield "," if first else "["
                yield json.dumps(value[first : first + ROWS])[1:-1]
            yield "]"
        else:
            yield json.dumps(value)
        between = ","
    yield "}" if words else "{}"


def _account(door: socket.socket) -> str:
    """Who is at the other end, by the kernel's word."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return account(uid)


def account(uid: int) -> str:
    """The name of an account, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ask_daemon(
    state: Path, call: str, args: dict[str, Any], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """The daemon's answer; None where no daemon owns the state. Raises Refused in its words."""
    door = connect(state) or connect(volatile(state))
    if door is None:
        return None
    try:
        with door, door.makefile("rwb") as lines:
            lines.write(json.dumps({"call": call, "args": args}).encode() + b"\n")
            lines.flush()
            _greeted(door, lines.readline)
            if (result := _answer(lines, progress)) is not None:
                return result
    except (ConnectionError, json.JSONDecodeError):
        pass  # it died while it answered
    raise Refused(CLOSED)


def _answer(
    lines: Iterable[bytes], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """The result behind all progress; None where the lines end before it. Raises Refused."""
    for line in lines:
        said: dict[str, Any] = json.loads(line)
        if "progress" in said:
            progress(said["progress"])
        elif "refused" in said:
            raise Refused(said["refused"])
        else:
            result: dict[str, Any] = said["result"]
            return result
    return None


def _greeted(door: socket.socket, line: Callable[[], bytes]) -> None:
    """Return when the daemon has said that it is here."""
    door.settimeout(GREETING_WITHIN)
    try:
        if not line():
            raise Refused(CLOSED)
    except TimeoutError:
        raise Refused(
            "the daemon does not answer: it is starting, or it cannot start;"
            " `systemctl status gardien` and `journalctl -u gardien` say why"
        ) from None
    door.settimeout(None)


def ask(
    config: Path,
    state: Path,
    call: str,
    args: dict[str, Any],
    progress: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The answer of the daemon or, where none runs, of this process with the same call.

    Raises Refused; ConfigError where this process needs a configuration that is wrong.
    """
    answered = ask_daemon(state, call, args, progress)
    if answered is not None:
        return answered
    with owned(state, _typed(call, args)):
        return asyncio.run(_in_this_process(config, state, call, args, progress))


def _typed(call: str, args: dict[str, Any]) -> str:
    """The command that makes a call, as people type it."""
    return (
        f"{SCAN} {args.get('link', '')}" if call == "scan" else f"gardien {call.replace('.', ' ')}"
    )


async def _in_this_process(
    config: Path,
    state: Path,
    call: str,
    args: dict[str, Any],
    progress: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    from agent.app import visited  # noqa: PLC0415 -- see the module
    from agent.calls import CALLS  # noqa: PLC0415
    from agent.clerk import Asker  # noqa: PLC0415

    async def say(words: dict[str, Any]) -> None:
        progress(words)

    async with visited(config, state) as house:
        return await CALLS[call](house, Asker(account(os.getuid()), say), **args)
