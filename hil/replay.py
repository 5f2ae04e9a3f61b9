"""Replay a trace as a device: who asks as the gateway asked then, is answered as it was then.

    python -m hil.replay riser.trace
    python -m hil.replay riser.trace --pty

It prints one line of JSON, `{"port": …}` (TCP; UDP for BACnet) or `{"path": …}` (a serial port),
and serves on loopback until it is ended. A trace is what `gardien scan LINE --trace FILE` records
(docs/trace.md); this module reads it by itself and shares no code with the agent. A request that is
not in the trace has no answer. One that is in it several times has the answers in turn, and then
the last one again. Transactions (Modbus TCP) and invoke ids (BACnet) are those of the asker.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tty
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hil.visits import visits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Write = Callable[[bytes], object]

TCP, BACNET = "modbus-tcp", "bacnet"
MBAP = 6
"""bytes of transaction, protocol and length"""


@dataclass
class Exchange:
    """One request of the trace, and what came before the next one."""

    request: bytes
    at: float
    answers: list[tuple[float, bytes]] = field(default_factory=list)
    """seconds after the request, and bytes"""


class Replay:
    """The exchanges of one trace."""

    def __init__(self, text: str, faster: float = 1.0) -> None:
        self.driver, self.faster = "", faster
        self.asked = self.unknown = 0
        self._by_request: dict[bytes, list[Exchange]] = {}
        last: Exchange | None = None
        for line in text.splitlines():
            if line.startswith("# driver: "):
                self.driver = line.removeprefix("# driver: ")
            if not line or line.startswith("#"):
                continue
            at, direction, rest = line.split(" ", 2)
            if direction == "!":
                continue
            data = bytes.fromhex(rest.partition(" ")[2] if rest.startswith("@") else rest)
            if direction == ">":
                last = Exchange(data, float(at))
                self._by_request.setdefault(self._key(data), []).append(last)
            elif last is not None:
                asked = self._whose(last, data)
                asked.answers.append((float(at) - asked.at, data))

    def _whose(self, last: Exchange, answer: bytes) -> Exchange:
        """The exchange that an answer belongs to: on BACnet several may be open at once."""
        number = _invoke_id(answer, 1) if self.driver == BACNET else None
        asked = [
            one
            for exchanges in self._by_request.values()
            for one in exchanges
            if number is not None and _invoke_id(one.request, 2) == number
        ]
        return max(asked, key=lambda one: one.at, default=last)

    def _key(self, request: bytes) -> bytes:
        """What of a request must be the same."""
        if self.driver == TCP:
            return request[2:]
        if self.driver == BACNET and _invoke_id(request, 2) is not None:
            at = _apdu(request) + 2
            return request[:at] + b"\0" + request[at + 1 :]
        return request

    def answers(self, request: bytes) -> list[tuple[float, bytes]]:
        """What comes after a request: after how many seconds, and bytes."""
        self.asked += 1
        exchanges = self._by_request.get(self._key(request), [])
        if not exchanges:
            self.unknown += 1
            return []
        exchange = exchanges.pop(0) if exchanges[1:] else exchanges[0]
        return [(after / self.faster, data) for after, data in self._as_now(exchange, request)]

    def _as_now(self, exchange: Exchange, request: bytes) -> list[tuple[float, bytes]]:
        if self.driver == BACNET:
            return [(after, _renumbered(data, request)) for after, data in exchange.answers]
        if self.driver != TCP:
            return exchange.answers
        heard = bytearray(b"".join(data for _, data in exchange.answers))
        at = 0
        while at + MBAP <= len(heard):
            if heard[at : at + 2] == exchange.request[:2]:
                heard[at : at + 2] = request[:2]
            at += MBAP + int.from_bytes(heard[at + 4 : at + MBAP], "big")
        pieces, at = [], 0
        for after, data in exchange.answers:
            pieces.append((after, bytes(heard[at : at + len(data)])))
            at += len(data)
        return pieces

    def requests_in(self, buffer: bytearray) -> list[bytes]:
        """Remove whole requests from the bytes of a stream."""
        taken = []
        while buffer:
            size = self._size(bytes(buffer))
            if size < 0:
                break
            taken.append(bytes(buffer[:size]))
            del buffer[:size]
        return taken

    def _size(self, heard: bytes) -> int:
        """Bytes of the request at the beginning; -1: it is not whole yet."""
        if self.driver == TCP:
            size = MBAP + int.from_bytes(heard[4:MBAP], "big")
            return size if MBAP <= len(heard) >= size else -1
        fitting = [len(one) for one in self._by_request if heard.startswith(one)]
        if fitting:
            return max(fitting)
        return -1 if any(one.startswith(heard) for one in self._by_request) else len(heard)


def _apdu(packet: bytes) -> int:
    """Where the APDU of a BACnet/IP packet begins."""
    at = 4 + (6 if packet[1] == 4 else 0)
    control, at = packet[at + 1], at + 2
    if control & 0x20:
        at += 3 + packet[at + 2]
    if control & 0x08:
        at += 3 + packet[at + 2]
    return at + (1 if control & 0x20 else 0)


def _invoke_id(packet: bytes, at: int) -> int | None:
    """The invoke id of a request (`at` 2) or an answer (1); None: it has none."""
    apdu = packet[_apdu(packet) :]
    kinds = {0} if at == 2 else {2, 3, 5, 6, 7}
    return apdu[at] if len(apdu) > at and apdu[0] >> 4 in kinds else None


def _renumbered(answer: bytes, request: bytes) -> bytes:
    """An answer with the invoke id of another request."""
    if _invoke_id(answer, 1) is None:
        return answer
    at = _apdu(answer) + 1
    return answer[:at] + request[_apdu(request) + 2 :][:1] + answer[at + 1 :]


class Player:
    """One asker: bytes come in by `feed`, and go out by `write` when they did."""

    def __init__(self, replay: Replay, write: Write) -> None:
        self._replay, self._write = replay, write
        self._buffer = bytearray()
        self._timers: list[asyncio.TimerHandle] = []

    def feed(self, data: bytes) -> None:
        """Bytes from the asker."""
        self._buffer += data
        for request in self._replay.requests_in(self._buffer):
            self.ask(request)

    def ask(self, request: bytes) -> None:
        """One whole request."""
        loop = asyncio.get_running_loop()
        for after, data in self._replay.answers(request):
            self._timers.append(loop.call_later(after, self._write, data))

    def end(self) -> None:
        """Nobody listens any more."""
        for timer in self._timers:
            timer.cancel()


@asynccontextmanager
async def tcp(replay: Replay, port: int = 0) -> AsyncIterator[int]:
    """Serve on 127.0.0.1; gives the port."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        player = Player(replay, writer.write)
        try:
            while data := await reader.read(4096):
                player.feed(data)
        finally:
            player.end()

    async with visits(visit, port) as taken:
        yield taken


@asynccontextmanager
async def pty(replay: Replay) -> AsyncIterator[str]:
    """Serve behind a pseudo terminal; gives the path of the port."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    player = Player(replay, lambda data: os.write(ours, data))
    loop = asyncio.get_running_loop()

    def arrived() -> None:
        with suppress(BlockingIOError, OSError):
            player.feed(os.read(ours, 4096))

    loop.add_reader(ours, arrived)
    try:
        yield os.ttyname(theirs)
    finally:
        loop.remove_reader(ours)
        player.end()
        os.close(theirs)
        os.close(ours)


class _Packets(asyncio.DatagramProtocol):
    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._players: dict[object, Player] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        def write(answer: bytes) -> None:
            self._transport.sendto(answer, addr)

        self._players.setdefault(addr, Player(self._replay, write)).ask(data)

    def end(self) -> None:
        for player in self._players.values():
            player.end()


@asynccontextmanager
async def udp(replay: Replay, port: int = 0) -> AsyncIterator[int]:
    """Serve one BACnet/IP device on 127.0.0.2; gives the port."""
    loop = asyncio.get_running_loop()
    transport, packets = await loop.create_datagram_endpoint(
        lambda: _Packets(replay), ("127.0.0.2", port)
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        packets.end()
        transport.close()


async def serve(wanted: argparse.Namespace) -> None:
    """Serve what the command line asked for, until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    replay = Replay(wanted.file.read_text(), wanted.faster)
    if wanted.pty:
        async with pty(replay) as path:
            print(json.dumps({"path": path}), flush=True)
            await ended.wait()
        return
    async with (udp if replay.driver == BACNET else tcp)(replay, wanted.port) as port:
        print(json.dumps({"port": port}), flush=True)
        await ended.wait()


def main() -> None:
    """Run the player from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="a trace")
    parser.add_argument("--port", type=int, default=0, help="port; without: a free one")
    parser.add_argument("--pty", action="store_true", help="a serial port instead of a network one")
    parser.add_argument("--faster", type=float, default=1.0, help="times as fast as it was")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
