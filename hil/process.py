"""A process of ours that tests and the demo freeze, kill and start again. Never anybody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

TERM_SECONDS = 3.0
START_SECONDS = 60.0
"""a busy machine takes so long at most, and a child that ends instead is told of at once"""
FIRST_PORT, FIRST_ANY_PORT = 10_000, 32_768
_ports = count(os.getpid() * 997)


class Child:
    """One command that runs until it is stopped; leaving the block ends it, frozen or not.

    With `says`, starting waits for a line of its standard output that begins so.
    """

    def __init__(self, command: Sequence[str], says: str = "") -> None:
        self.command = tuple(command)
        self.port = 0
        """on 127.0.0.1, where it listens on one"""
        self._says = says.encode()
        self.first = ""
        """the line by which it said that it is ready"""
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.thaw()
        await self.stop()

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._running().pid

    async def start(self, within: float = START_SECONDS) -> None:
        """Start, and wait until it says that it is ready. RuntimeError if it ends instead."""
        self._process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(within):
            await self._ready()
        self._drain = asyncio.create_task(self._read_on())

    def freeze(self) -> None:
        """SIGSTOP: it stands still and its connections stand with it."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self._process and self._process.returncode is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(TERM_SECONDS):
                    await self._end(signal.SIGTERM)
        if self._process and self._process.returncode is None:
            await self.kill()

    async def _end(self, how: signal.Signals) -> None:
        process = self._running()
        with suppress(ProcessLookupError):
            process.send_signal(how)
        await process.wait()
        if self._drain:
            await self._drain
        self._drain = None

    async def _ready(self) -> None:
        if not self._says:
            return
        output = self._running().stdout
        assert output is not None
        async for line in output:
            if line.startswith(self._says):
                self.first = line.decode()
                return
        raise RuntimeError(f"{self.command[0]} ended before it was ready")

    async def _read_on(self) -> None:
        output = self._running().stdout
        assert output is not None
        while await output.read(65_536):
            pass  # a full pipe would stop it

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            raise RuntimeError(f"{self.command[0]} does not run")
        return self._process


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """Find a port that nobody has, below those that Linux hands to whoever asks for any.

    Each process looks from elsewhere on: nobody else finds the same one before it is bound.
    """
    while True:
        port = FIRST_PORT + next(_ports) % (FIRST_ANY_PORT - FIRST_PORT)
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind((host, port))
            return port


async def accepts(port: int, within: float = START_SECONDS) -> None:
    """Return once something accepts connections on the loopback port. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.02)
