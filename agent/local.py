"""The door for the command line: JSON lines on a unix socket, or the same call in this process.

One request a connection, `{"call": "place.list", "args": {}}`, answered by `{"here": <pid>}`, any
number of `{"progress": {…}}` and one `{"result": {…}}` or `{"refused": "what to do instead"}`, with
the `message` and its `values` where the reader may have it in another language. Who asks is the
kernel's word; what they may is in `agent/roles.py`, and who has no role is turned away at once.
An argument that is long is left out of `args` and named with its bytes, `"files": {"text": 81920}`;
its JSON follows behind the line. Asking the daemon costs none of its parts' start-up time: they are
imported where a call is made.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
import socket
import struct
import sys
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError, Refused, StorageFailed
from agent.i18n import _, retold
from agent.log_fields import LogEvent, fields
from agent.state import SCAN, connect, listening, owned
from agent.storage import made, volatile
from agent.tasks import error_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    from agent.gateway import Gateway
    from agent.registry_api import Caller

log = logging.getLogger(__name__)

CLOSED = "the daemon closed the connection before it answered: its log says why"
FAILED = (
    "an error in gardien itself ({error}) broke this off, perhaps halfway: see what was done before"
    " you try again. It is in the log; `gardien support-bundle` collects what a report needs"
)
GREETING_WITHIN = 10.0
"""seconds until the daemon has said that it is here: systemd's socket takes calls also while the
daemon is starting, or cannot start"""
PIECE = 65_536
"""bytes that are read at once"""
ROWS = 500
"""of a list in an answer that are encoded at once"""
LONGEST_LINE = 1_000_000
"""bytes of a request, without its files"""
FILE = 100_000
"""bytes of JSON from which on an argument is sent as a file"""
LARGEST_FILES = 12_000_000
"""bytes of all files of a request: a spreadsheet of 50,000 dwellings has a few"""
AT_ONCE = 2
"""requests with files; others wait"""
MOST_MARKS = 3_000_000
"""strings, brackets, commas and colons of a request"""
PASSED_OVER = 64_000_000
"""bytes of a request that is too long, which are read so that its sender hears why"""
MOST_VISITORS = 32
"""connections at a time"""
LINE_WITHIN, FILES_WITHIN, TAKEN_WITHIN = 10.0, 60.0, 60.0
"""seconds until a request is here, then its files, and until a piece of the answer is taken"""


async def answer(gateway: Gateway, request: Any, asker: Caller) -> dict[str, Any]:
    """Make the call a request names. What it cannot do comes back as `refused`, in words."""
    from agent.calls import CALLS  # noqa: PLC0415 -- see the module
    from agent.registry_api import fit  # noqa: PLC0415
    from agent.roles import see_that_it_may  # noqa: PLC0415

    name, arguments = request.get("call"), request.get("args") or {}
    if not isinstance(name, str) or name not in CALLS:
        return {"refused": f"this version knows no call {json.dumps(name)[:100]}"}
    if not isinstance(arguments, dict):
        return {"refused": f"{name}: its arguments must be an object"}
    try:
        see_that_it_may(asker.who, asker.roles, name)
        try:
            fit(CALLS[name], arguments)
        except AgentError as error:
            return {"refused": f"{name}: {error}"}
        return await _result(gateway, partial(CALLS[name], gateway, asker, **arguments))
    except AgentError as error:
        return _refusal(error)
    except ConnectionError:
        raise  # the visitor has left
    except Exception as error:  # noqa: BLE001 -- told, noted, and nobody else's
        text = f"the call {name} failed because of an error in gardien: {error_text(error)}"
        gateway.jobs.faults.log(error, text, "local socket")
        return {"refused": FAILED.format(error=type(error).__name__)}


def _refusal(error: AgentError) -> dict[str, Any]:
    if isinstance(error, Refused) and error.values:
        return {"refused": str(error), "message": error.message, "values": error.values}
    return {"refused": str(error)}


async def _result(
    gateway: Gateway, call: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    before = gateway.registry.revision
    answer: dict[str, Any] = {"result": await call()}
    with suppress(StorageFailed):  # it is applied before anything leaves again
        await gateway.obey()  # a withdrawal is done when the answer says so
    if gateway.registry.unrecorded and gateway.registry.revision != before:
        answer["unrecorded"] = True
    return answer


class Door:
    """Answers who knocks, within bounds."""

    def __init__(self, gateway: Gateway) -> None:
        self._house = gateway
        self._visitors = 0
        self._with_files = asyncio.Semaphore(AT_ONCE)

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its greeting to its end."""
        from agent.registry_api import Caller  # noqa: PLC0415 -- see the module
        from agent.roles import NO_ROLE, READER, roles_of  # noqa: PLC0415

        async def tell(progress: dict[str, Any]) -> None:
            await _send(writer, {"progress": progress})

        uid = _peer(writer.get_extra_info("socket"))
        asker = Caller(account(uid), tell, roles_of(uid, self._house.config.building))
        if not asker.roles:  # they take no place from others, and nothing of theirs is read
            error = Refused(NO_ROLE, account=asker.who, group=READER.group)
            with suppress(ConnectionError):
                await _send(writer, {"here": os.getpid()})
                await _send(writer, _refusal(error))
            writer.close()
            return
        self._visitors += 1
        try:
            if self._visitors > 2 * MOST_VISITORS:
                return  # no time even to say why
            await _send(writer, {"here": os.getpid()})
            if self._visitors > MOST_VISITORS:
                raise Refused(f"{MOST_VISITORS} others are being answered: try again later")
            await self._serve(reader, writer, asker)
        except (ConnectionError, TimeoutError) as error:
            log.info("a visitor left: %s", error, extra=fields(component="local socket"))
        except Refused as error:
            await _turn_away(reader, writer, str(error))
        finally:
            self._visitors -= 1
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asker: Caller
    ) -> None:
        request = await _read_request(reader)
        async with AsyncExitStack() as stack:
            if files := _sizes(request):
                await stack.enter_async_context(self._with_files)
                request["args"] = (request.get("args") or {}) | await _files(reader, files)
            await _send(writer, await answer(self._house, request, asker))


async def _read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The line of a request. Raises Refused."""
    try:
        async with asyncio.timeout(LINE_WITHIN):
            line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        line = error.partial
    except asyncio.LimitOverrunError:
        raise Refused(
            f"a call has at most {LONGEST_LINE} bytes beside its files: is this command of the"
            " same version as the daemon?"
        ) from None
    except TimeoutError:
        raise Refused(f"the call was not whole within {LINE_WITHIN:.0f} s") from None
    request = _parsed(line)
    if not isinstance(request, dict) or not isinstance(request.get("args") or {}, dict):
        raise Refused("not a call: it must be an object, and so must its arguments")
    return request


def _sizes(request: dict[str, Any]) -> dict[str, int]:
    """The files that follow a request, with their bytes. Raises Refused."""
    files = request.get("files") or {}
    right = isinstance(files, dict) and all(type(n) is int and n >= 0 for n in files.values())
    if not right:
        raise Refused("not a call: its files are not what they must be")
    if sum(files.values()) > LARGEST_FILES:
        raise Refused(
            f"a file of {sum(files.values())} bytes: {LARGEST_FILES} can be taken at once; divide"
            " it into several"
        )
    return dict(files)


async def _files(reader: asyncio.StreamReader, sizes: dict[str, int]) -> dict[str, Any]:
    values = {}
    try:
        async with asyncio.timeout(FILES_WITHIN):
            for name, size in sizes.items():
                content = bytearray()
                while len(content) < size:
                    if not (piece := await reader.read(min(PIECE, size - len(content)))):
                        raise ConnectionResetError("in the middle of a file")
                    content += piece
                values[name] = _parsed(content)
    except TimeoutError:
        raise Refused(f"its file was not whole within {FILES_WITHIN:.0f} s") from None
    return values


def _parsed(raw: bytes | bytearray) -> Any:
    from agent.trust.strict import bound  # noqa: PLC0415 -- see the module

    try:
        text = raw.decode("utf-8")
        bound(text, MOST_MARKS)
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not a call that this version knows: {error}") from None


async def _turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, why: str) -> None:
    """Say why, to somebody who may be in the middle of a request."""
    with suppress(ConnectionError, TimeoutError):
        await _send(writer, {"refused": why})
        writer.write_eof()
        async with asyncio.timeout(LINE_WITHIN):
            left = PASSED_OVER
            while left > 0 and (piece := await reader.read(PIECE)):
                left -= len(piece)


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    """Raises ConnectionError, also where nobody takes it."""
    for piece in chain(_pieces(message), ("\n",)):
        writer.write(piece.encode())
        try:
            async with asyncio.timeout(TAKEN_WITHIN):
                await writer.drain()
        except TimeoutError:
            raise ConnectionAbortedError("it does not take the answer") from None
        await asyncio.sleep(0)  # the room of the socket may be large


async def open_door(gateway: Gateway, state: Path) -> None:
    """Answer on the state's socket until cancelled."""
    try:
        door = listening(state)
    except OSError as error:
        log.error(  # noqa: TRY400 -- no bug
            "no door in %s: %s", state, error,
            extra=fields(LogEvent.COMPONENT_FAILED, component="local socket"),
        )  # fmt: skip
        state = made(volatile(state))
        door = listening(state)
    # not start_unix_server: at the end it would remove the name, which may be systemd's
    server = await asyncio.start_server(Door(gateway).visit, sock=door, limit=LONGEST_LINE)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        with suppress(OSError):
            (state / "gardien.sock").unlink(missing_ok=True)


def _pieces(answer: dict[str, Any], deep: int = 2) -> Iterator[str]:
    """An answer as JSON, of a long list in it some rows at a time: encoding holds everybody."""
    between = "{"
    for name, value in answer.items():
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
    yield "}" if answer else "{}"


def _peer(door: socket.socket) -> int:
    """Whose account is at the other end, by the kernel's word."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


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
        with door, door.makefile("rb") as lines:
            with suppress(BrokenPipeError):  # it may have said why
                for piece in _request(call, args):
                    door.sendall(piece)
            _await_greeting(door, lines.readline)
            if (result := _answer(lines, progress)) is not None:
                return result
    except (ConnectionError, json.JSONDecodeError):
        pass  # it died while it answered
    raise Refused(CLOSED)


def _request(call: str, args: dict[str, Any]) -> Iterator[bytes]:
    """A line, and behind it what is long."""
    written = {name: json.dumps(value).encode() for name, value in args.items()}
    files = {name: text for name, text in written.items() if len(text) > FILE}
    request: dict[str, Any] = {
        "call": call,
        "args": {name: value for name, value in args.items() if name not in files},
    }
    if files:
        request["files"] = {name: len(text) for name, text in files.items()}
    yield json.dumps(request).encode() + b"\n"
    yield from files.values()


def _answer(
    lines: Iterable[bytes], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """The result behind all progress; None where the lines end before it. Raises Refused."""
    for line in lines:
        message: dict[str, Any] = json.loads(line)
        if "progress" in message:
            progress(message["progress"])
        elif "refused" in message:
            more = message.get("message", ""), message.get("values", {})
            raise Refused(retold(message["refused"], *more))
        else:
            if message.get("unrecorded"):
                _warn_unrecorded()
            result: dict[str, Any] = message["result"]
            return result
    return None


def _warn_unrecorded() -> None:
    text = _(
        "In force. Not recorded yet: this gateway's disk is failing."
        " `gardien status` says what to do."
    )
    sys.stderr.write(f"{text}\n")


def _await_greeting(door: socket.socket, line: Callable[[], bytes]) -> None:
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
    with owned(state, _command(call, args)):
        return asyncio.run(_in_this_process(config, state, call, args, progress))


def _command(call: str, args: dict[str, Any]) -> str:
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
    from agent.registry_api import Caller  # noqa: PLC0415

    async def say(message: dict[str, Any]) -> None:
        progress(message)

    async with visited(config, state) as gateway:
        before = gateway.registry.revision
        result = await CALLS[call](gateway, Caller(account(os.getuid()), say), **args)
        if gateway.registry.unrecorded and gateway.registry.revision != before:
            _warn_unrecorded()
        return result
