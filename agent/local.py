"""The local socket: JSON lines from the command line to the daemon, or the call in this process.

Each connection carries one request, `{"call": "place.list", "args": {}}`. The daemon answers
`{"here": <pid>}`, any number of `{"progress": {…}}`, and one `{"result": {…}}` or
`{"refused": "what to do instead"}`. A refusal also has its `text`; one that a person can answer has
`doubts` (agent/registry/doubts.py). The web page adds the `login` of a person, with the `reason`
that the person gave, or with `live` if nobody has asked (agent/api/logins.py). A refusal for want
of a login has `"login": false`, one for want of a reason `"reason": true`. A text that its reader
can translate is sent as `{"": {"text": …, "message": …, "values": …}}`, wherever it is. The kernel
tells the account of the caller, `agent/api/roles.py` what it may do. An account without a role is
refused at once. A long argument is not in `args`: `"files": {"text": 81920}` names it with its
length, and its JSON follows after the line.

Modules of the daemon are imported inside functions, so that a command that only asks a running
daemon starts quickly.
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

from agent.core.errors import AgentError, LoginNeeded, ReasonNeeded, Refused, StorageFailed
from agent.core.i18n import _, from_wire, to_wire
from agent.core.log_fields import LogEvent, fields
from agent.core.state import SCAN, connect, listening, owned
from agent.core.storage import made, volatile
from agent.core.tasks import error_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    from agent.api.registry import Caller
    from agent.gateway.gateway import Gateway

log = logging.getLogger(__name__)

CLOSED = (
    "the daemon closed the connection before it answered. Its log says why: journalctl -u gardien"
)
FAILED = (
    "an error in gardien itself ({error}) stopped this command, perhaps halfway. Check what was"
    " done before you try again. The log has the error. To collect a report: gardien support-bundle"
)
GREETING_WITHIN = 10.0
"""seconds to wait for the daemon's greeting: systemd's socket accepts connections even while the
daemon is starting or cannot start"""
PIECE = 65_536
"""bytes read at once"""
ROWS = 500
"""rows of a list in an answer that are encoded at once"""
LONGEST_LINE = 1_000_000
"""most bytes of a request without its files"""
FILE = 100_000
"""bytes of JSON from which an argument is sent as a file"""
LARGESTS = 12_000_000
"""most bytes of all files of a request: a list of 50,000 dwellings has a few million"""
AT_ONCE = 2
"""requests with files served at the same time; others wait"""
MOST_MARKS = 3_000_000
"""most strings, brackets, commas and colons of a request"""
PASSED_OVER = 64_000_000
"""most bytes read and dropped of a refused request, so that its sender gets the reason"""
MOST_VISITORS = 32
"""most connections answered at the same time"""
OF_THE_PAGE = 2
"""the share of these that the web page gets: one of so many, so that commands are answered too"""
LINE_WITHIN, FILES_WITHIN, TAKEN_WITHIN = 10.0, 60.0, 60.0
"""seconds for the request line, for its files, and for a piece of the answer to be read"""


async def answer(
    gateway: Gateway, request: Any, caller: Caller, *, for_others: bool = False
) -> dict[str, Any]:
    """Make the call that a request names. A refusal or an error is returned as `refused`.

    `for_others`: whether the caller's account may make the calls of the web page.
    """
    from agent.api.calls import CALLS  # noqa: PLC0415 -- see the module

    name = request.get("call")
    if not isinstance(name, str) or name not in CALLS:
        return {"refused": f"this version has no call {json.dumps(name)[:100]}"}
    made = await _made(gateway, name, request.get("args") or {}, caller, for_others=for_others)
    gateway.flight.called(name, refused="refused" in made)
    return made


async def _made(
    gateway: Gateway, name: str, arguments: Any, caller: Caller, *, for_others: bool
) -> dict[str, Any]:
    from agent.api.calls import CALLS  # noqa: PLC0415 -- see the module
    from agent.api.logins import check_may  # noqa: PLC0415
    from agent.api.registry import fit  # noqa: PLC0415

    if not isinstance(arguments, dict):
        return {"refused": f"{name}: its arguments must be an object"}
    try:
        # Rights before arguments: a caller without the right learns nothing about the call.
        check_may(caller, name, for_others=for_others)
        try:
            fit(CALLS[name], arguments)
        except AgentError as error:
            return _refusal(Refused("{name}: {error}", name=name, error=error))
        return await _result(gateway, partial(CALLS[name], gateway, caller, **arguments))
    except AgentError as error:
        return _refusal(error)
    except ConnectionError:
        raise  # the caller has disconnected
    except Exception as error:  # noqa: BLE001 -- answered and logged; other calls go on
        text = f"the call {name} failed because of an error in gardien: {error_text(error)}"
        gateway.jobs.faults.log(error, text, "local socket")
        return {"refused": FAILED.format(error=type(error).__name__)}


def _refusal(error: AgentError) -> dict[str, Any]:
    from agent.registry.doubts import NeedsConfirmation  # noqa: PLC0415 -- see the module

    if isinstance(error, NeedsConfirmation):
        return {"refused": str(error)} | error.wire()
    marks = {"login": False} if isinstance(error, LoginNeeded) else {}
    if isinstance(error, ReasonNeeded):
        marks = {"reason": True}
    return {"refused": str(error), "text": error.text, **marks}


async def _result(
    gateway: Gateway, call: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    before = gateway.registry.revision
    answer: dict[str, Any] = {"result": await call()}
    # A withdrawal must be in force everywhere before its answer. A spool whose disk fails applies
    # it when it is opened again, before anything is sent.
    with suppress(StorageFailed):
        await gateway.recipients.catch_up()
    if gateway.registry.unrecorded and gateway.registry.revision != before:
        answer["unrecorded"] = True
    return answer


class Door:
    """Serves connections to the local socket, within bounds."""

    def __init__(self, gateway: Gateway, line_within: float, most_visitors: int) -> None:
        self._gateway, self._line_within, self._most_visitors = gateway, line_within, most_visitors
        self._visitors, self._pages = 0, 0
        self._with_files = asyncio.Semaphore(AT_ONCE)

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection from its greeting to its end."""
        from agent.api.logins import acts_for_others, is_page  # noqa: PLC0415 -- see the module
        from agent.api.registry import Caller  # noqa: PLC0415
        from agent.api.roles import NO_ROLE, Role, roles_of  # noqa: PLC0415

        sending = asyncio.Lock()

        async def tell(progress: dict[str, Any]) -> None:
            # a search of several ports tells of all of them: their messages must not mix
            async with sending:
                await _send(writer, {"progress": progress})

        uid = _peer(writer.get_extra_info("socket"))
        name = account(uid)
        page, for_others = is_page(name), acts_for_others(uid, name)
        roles = frozenset() if page else roles_of(uid, self._gateway.config.building)
        caller = Caller(name, tell, roles)
        if not roles and not page:  # refused before it counts and before anything is read
            error = Refused(NO_ROLE, account=caller.who, group=Role.READER.group)
            with suppress(ConnectionError):
                await _send(writer, {"here": os.getpid()})
                await _send(writer, _refusal(error))
            writer.close()
            return
        self._visitors += 1
        self._pages += page
        try:
            if self._visitors > 2 * self._most_visitors:
                return  # too many even for a refusal
            await _send(writer, {"here": os.getpid()})
            if self._too_many(page=page):
                raise Refused(
                    "{most_visitors} other calls are being answered: try again later",
                    most_visitors=self._most_visitors // (OF_THE_PAGE if page else 1),
                )
            await self._serve(reader, writer, caller, for_others=for_others)
        except (ConnectionError, TimeoutError) as error:
            log.info("a caller disconnected: %s", error, extra=fields(component="local socket"))
        except Refused as error:
            await _turn_away(reader, writer, _refusal(error), self._line_within)
        finally:
            self._visitors -= 1
            self._pages -= page
            writer.close()

    def _too_many(self, *, page: bool) -> bool:
        if page and self._pages > self._most_visitors // OF_THE_PAGE:
            return True
        return self._visitors > self._most_visitors

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        caller: Caller,
        *,
        for_others: bool,
    ) -> None:
        from agent.api.logins import caller_of  # noqa: PLC0415 -- see the module

        request = await _read_request(reader, self._line_within)
        # before its files: the page may send none for nobody
        who = caller_of(self._gateway, caller, request, for_others=for_others)
        async with AsyncExitStack() as stack:
            if files := _sizes(request):
                await stack.enter_async_context(self._with_files)
                request["args"] = (request.get("args") or {}) | await _files(reader, files)
            made = await answer(self._gateway, request, who, for_others=for_others)
            await _send(writer, made)


async def _read_request(reader: asyncio.StreamReader, within: float) -> dict[str, Any]:
    """Read and parse the line of a request. Raises Refused."""
    try:
        async with asyncio.timeout(within):
            line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        line = error.partial
    except asyncio.LimitOverrunError:
        raise Refused(
            "the request has more than {longest_line} bytes without its files: check that"
            " the command and the daemon have the same version",
            longest_line=LONGEST_LINE,
        ) from None
    except TimeoutError:
        raise Refused("the request was not complete within {within:.0f} s", within=within) from None
    request = _parsed(line)
    if not isinstance(request, dict) or not isinstance(request.get("args") or {}, dict):
        raise Refused("not a call: the request and its arguments must be objects")
    return request


def _sizes(request: dict[str, Any]) -> dict[str, int]:
    """Return the names and lengths of the files that follow a request. Raises Refused."""
    files = request.get("files") or {}
    right = isinstance(files, dict) and all(type(n) is int and n >= 0 for n in files.values())
    if not right:
        raise Refused("not a call: `files` must name each file with its length")
    if sum(files.values()) > LARGESTS:
        raise Refused(
            "a file of {sum} bytes is too large, the limit is {largests}: divide it into"
            " several files",
            sum=sum(files.values()),
            largests=LARGESTS,
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
                        raise ConnectionResetError("the connection ended in the middle of a file")
                    content += piece
                values[name] = _parsed(content)
    except TimeoutError:
        raise Refused(
            "the file was not complete within {files_within:.0f} s", files_within=FILES_WITHIN
        ) from None
    return values


def _parsed(raw: bytes | bytearray) -> Any:
    from agent.trust.strict import bound  # noqa: PLC0415 -- see the module

    try:
        text = raw.decode("utf-8")
        bound(text, MOST_MARKS)
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("not a call that this version knows: {error}", error=error) from None


async def _turn_away(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    refusal: dict[str, Any],
    within: float,
) -> None:
    """Send a refusal to a caller who may still be sending its request."""
    with suppress(ConnectionError, TimeoutError):
        await _send(writer, refusal)
        writer.write_eof()
        async with asyncio.timeout(within):
            # Closing with unread bytes resets the connection, and the caller would lose the reason.
            left = PASSED_OVER
            while left > 0 and (piece := await reader.read(PIECE)):
                left -= len(piece)


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    """Send one message. Raises ConnectionError, also if the other side does not read it."""
    for piece in chain(_pieces(message), ("\n",)):
        writer.write(piece.encode())
        try:
            async with asyncio.timeout(TAKEN_WITHIN):
                await writer.drain()
        except TimeoutError:
            raise ConnectionAbortedError("the caller does not read the answer") from None
        # `drain` may return without a pause; other tasks must run between the pieces.
        await asyncio.sleep(0)


async def open_door(
    gateway: Gateway,
    state: Path,
    line_within: float = LINE_WITHIN,
    most_visitors: int = MOST_VISITORS,
) -> None:
    """Serve the local socket of the state until cancelled."""
    try:
        door = listening(state)
    except OSError as error:
        log.error(  # noqa: TRY400 -- no bug
            "the local socket cannot be made in %s, so it is made in memory: %s", state, error,
            extra=fields(LogEvent.COMPONENT_FAILED, component="local socket"),
        )  # fmt: skip
        state = made(volatile(state))
        door = listening(state)
    # start_unix_server would remove the socket's name at the end, and that may be systemd's.
    visit = Door(gateway, line_within, most_visitors).visit
    server = await asyncio.start_server(visit, sock=door, limit=LONGEST_LINE)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        with suppress(OSError):
            (state / "gardien.sock").unlink(missing_ok=True)


def _pieces(answer: dict[str, Any], deep: int = 2) -> Iterator[str]:
    """Encode an answer as JSON, a long list a few rows at a time: encoding blocks the loop."""
    between = "{"
    for name, value in answer.items():
        yield f"{between}{json.dumps(str(name))}: "
        if isinstance(value, dict) and deep:
            yield from _pieces(value, deep - 1)
        elif isinstance(value, list) and len(value) > ROWS:
            for first in range(0, len(value), ROWS):
                yield "," if first else "["
                yield json.dumps(to_wire(value[first : first + ROWS]))[1:-1]
            yield "]"
        else:
            yield json.dumps(to_wire(value))
        between = ","
    yield "}" if answer else "{}"


def _peer(door: socket.socket) -> int:
    """Return the user id of the process at the other end, as the kernel gives it."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def account(uid: int) -> str:
    """Return the name of an account; its number if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ask_daemon(  # noqa: PLR0913, PLR0917 -- the last two have defaults
    state: Path,
    call: str,
    args: dict[str, Any],
    progress: Callable[[dict[str, Any]], None],
    greeting_within: float = GREETING_WITHIN,
    typed: str = "",
) -> dict[str, Any] | None:
    """Return the daemon's answer; None if no daemon owns the state. Raises Refused as it says.

    `typed`: the command, such as `place.list`: it may make other calls before its own.
    """
    door = connect(state) or connect(volatile(state))
    if door is None:
        return None
    try:
        with door, door.makefile("rb") as lines:
            with suppress(BrokenPipeError):  # the reason may already wait in the answer
                for piece in request_pieces(call, args):
                    door.sendall(piece)
            _await_greeting(door, lines.readline, greeting_within)
            if (result := _answer(lines, progress)) is not None:
                return result
    except (ConnectionError, json.JSONDecodeError):
        pass  # the daemon ended while it answered
    except Refused as error:
        from agent.api.roles import NEEDS, NO_ROLE, OF_ROOT, see_that_it_may  # noqa: PLC0415

        if error.text.message == NO_ROLE:  # said before the call was read
            known = NEEDS.keys() | OF_ROOT
            see_that_it_may(account(os.getuid()), frozenset(), typed if typed in known else call)
        raise
    raise Refused(CLOSED)


def request_pieces(
    call: str, args: dict[str, Any], more: dict[str, Any] | None = None
) -> Iterator[bytes]:
    """Yield the request line, then the long arguments. `more`: members beside them."""
    written = {name: json.dumps(value).encode() for name, value in args.items()}
    files = {name: text for name, text in written.items() if len(text) > FILE}
    request: dict[str, Any] = {
        "call": call,
        "args": {name: value for name, value in args.items() if name not in files},
    } | {name: value for name, value in (more or {}).items() if value}
    if files:
        request["files"] = {name: len(text) for name, text in files.items()}
    yield json.dumps(request).encode() + b"\n"
    yield from files.values()


def _answer(
    lines: Iterable[bytes], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """Report progress until the result; None if the lines end before it. Raises Refused."""
    for line in lines:
        message: dict[str, Any] = json.loads(line, object_hook=from_wire)
        if "progress" in message:
            progress(message["progress"])
        elif "doubts" in message:
            from agent.registry.doubts import NeedsConfirmation  # noqa: PLC0415

            raise NeedsConfirmation.of(message)
        elif "refused" in message:
            raise Refused(message.get("text", message["refused"]))
        else:
            if message.get("unrecorded"):
                _warn_unrecorded()
            result: dict[str, Any] = message["result"]
            return result
    return None


def _warn_unrecorded() -> None:
    text = _(
        "In force. Not recorded yet: this gateway's disk is failing. What to do: gardien status"
    )
    sys.stderr.write(f"{text}\n")


def _await_greeting(door: socket.socket, line: Callable[[], bytes], within: float) -> None:
    """Wait for the daemon's greeting. Raises Refused if it does not come."""
    door.settimeout(within)
    try:
        if not line():
            raise Refused(CLOSED)
    except TimeoutError:
        raise Refused(
            "the daemon does not answer: it is starting, or it cannot start. To see why: systemctl"
            " status gardien; journalctl -u gardien"
        ) from None
    door.settimeout(None)


def ask(  # noqa: PLR0913, PLR0917 -- the last one has a default
    config: Path,
    state: Path,
    call: str,
    args: dict[str, Any],
    progress: Callable[[dict[str, Any]], None],
    typed: str = "",
) -> dict[str, Any]:
    """Return the answer of the daemon; if none runs, make the call in this process.

    `typed`: see `ask_daemon`. Raises Refused; ConfigError if this process needs the configuration
    and it is wrong.
    """
    answered = ask_daemon(state, call, args, progress, typed=typed)
    if answered is not None:
        return answered
    # The lock keeps a daemon from starting while this process writes to the state.
    with owned(state, _command(call, args)):
        return asyncio.run(_in_this_process(config, state, call, args, progress))


def _command(call: str, args: dict[str, Any]) -> str:
    """Return the command that makes a call, as people type it."""
    if call in {"scan", "line.find"}:
        return f"{SCAN} {args.get('link', '')}".rstrip()
    return f"gardien {call.replace('.', ' ')}"


async def _in_this_process(
    config: Path,
    state: Path,
    call: str,
    args: dict[str, Any],
    progress: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    from agent.api.calls import CALLS  # noqa: PLC0415
    from agent.api.registry import Caller  # noqa: PLC0415
    from agent.app import visited  # noqa: PLC0415 -- see the module

    async def say(message: dict[str, Any]) -> None:
        progress(message)

    async with visited(config, state) as gateway:
        before = gateway.registry.revision
        result = await CALLS[call](gateway, Caller(account(os.getuid()), say), **args)
        if gateway.registry.unrecorded and gateway.registry.revision != before:
            _warn_unrecorded()
        return result
