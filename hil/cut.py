"""A TCP proxy that cuts, freezes and slows what runs through it: `python -m hil.cut --help`.

pass    hand every byte on
cut     drop all connections (reset) and refuse new ones
freeze  keep connections open and hand nothing on, as a dead radio link does
slow    hand on so many bytes a second, each way

Beside these it can break after so many bytes, once, and let every byte wait for half a round trip.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Mode = Literal["pass", "cut", "freeze", "slow"]
CHUNK = 65_536
MOST_UNDER_WAY = 256
"""pieces on a late line"""
SLOW_CHUNKS = 10
"""pieces a second while slow"""


class Cut:
    """The proxy; `set` changes what it does from one byte to the next."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.rate = 2_000
        """bytes a second while slow"""
        self.mode: Mode = "pass"
        self.delay = 0.0
        """seconds that each byte is under way, each direction"""
        self.passed = 0
        """bytes handed on, both ways together"""
        self.broken = asyncio.Event()
        """set once it has broken after the bytes that `break_after` allowed"""
        self._left: int | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def set(self, mode: Mode, rate: int = 0) -> None:
        """Pass, cut, freeze, or slow to `rate` bytes a second; in force when it returns."""
        self.mode, self.rate = mode, rate or self.rate
        if mode == "freeze":
            self._flows.clear()
        else:
            self._flows.set()
        if mode == "cut":
            await self._shut()
        elif self._server is None:
            await self.listen()

    def break_after(self, count: int) -> None:
        """Drop all connections once so many more bytes have passed, both ways together."""
        self._left = count
        self.broken.clear()

    async def listen(self, port: int = 0) -> None:
        """Accept on loopback: on `port`, on the one we had, or on a free one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port or self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def limit_segments(self, largest: int) -> None:
        """Let the next connections send at most so many bytes in a TCP segment, either way."""
        assert self._server is not None
        for listener in self._server.sockets:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, largest)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets of the open connections, on the client's side."""
        return tuple(writer.get_extra_info("socket") for writer in self._clients)

    async def _shut(self) -> None:
        if self._server:
            self._server.close()
        self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=5)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.add(writer)
        try:
            await self._carry(reader, writer)
        finally:
            self._clients.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return
        finally:
            self._writers.discard(writer)
        both = {writer, far_writer}
        self._writers |= both
        pump = self._late_pump if self.delay else self._pump
        pumps = [
            asyncio.create_task(pump(reader, far_writer)),
            asyncio.create_task(pump(far_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in pumps:
                one.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            far_writer.transport.abort()
            self._writers -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(self._piece()):
                await self._flows.wait()
                if self.mode == "slow":
                    await asyncio.sleep(len(data) / self.rate)
                data = self._allowed(data)
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
                if self._left == 0:
                    self._break()
        await self._flows.wait()  # a frozen line does not hand on a farewell either

    async def _late_pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As a long line does: everything later by the same time, as much at once as comes."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_UNDER_WAY)
        clock = asyncio.get_running_loop().time

        async def arrive() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - clock()))
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
                if not data:
                    return

        arriving = asyncio.create_task(arrive())
        try:
            with suppress(OSError):
                while data := await reader.read(CHUNK):
                    await under_way.put((clock() + self.delay, data))
                await under_way.put((clock() + self.delay, b""))
                await arriving
        finally:
            arriving.cancel()

    def _allowed(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        data = data[: self._left]
        self._left -= len(data)
        return data

    def _break(self) -> None:
        self._left = None
        self.broken.set()
        for writer in tuple(self._writers):
            writer.transport.abort()

    def _piece(self) -> int:
        return max(1, self.rate // SLOW_CHUNKS) if self.mode == "slow" else CHUNK


@asynccontextmanager
async def cut(target: int, port: int = 0) -> AsyncIterator[Cut]:
    """Stand between `port` and the loopback port `target` for as long as the block."""
    proxy = Cut(target)
    await proxy.listen(port)
    try:
        yield proxy
    finally:
        await proxy.set("cut")


async def _run(target: int, port: int) -> None:
    async with cut(target, port) as proxy:
        print(f"ready 127.0.0.1:{proxy.port} -> 127.0.0.1:{target}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            word, _, rate = line.strip().partition(" ")
            if word not in get_args(Mode) or not (rate or "0").isdigit():
                print(f"expected one of: {', '.join(get_args(Mode))} [BYTES A SECOND]", flush=True)
                continue
            await proxy.set(word, int(rate or 0))
            print(line.strip(), flush=True)


def main() -> None:
    """Run until the standard input ends; each line of it is a mode."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.cut",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; default: a free one")
    parser.add_argument("target", type=int, help="port on 127.0.0.1 that it leads to")
    chosen = parser.parse_args()
    try:
        asyncio.run(_run(chosen.target, chosen.port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
