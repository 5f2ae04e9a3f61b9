"""A stream of bytes to and from a line: a serial port or a TCP connection.

The reader takes bytes out of `received`. When the line is gone, `lost` holds the reason.
"""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import serial

from agent.core.clock import monotonic
from agent.core.errors import LinkLost, OutOfStep
from agent.core.i18n import Text
from agent.drivers.serial_ports import heed_parity, program_with
from agent.drivers.trace import CAME, SENT, Recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.drivers.modbus.rtu import Speed

MOST_KEPT = 4096
"""received bytes that are kept; more is noise or traffic of others, and the oldest are dropped"""
UNKNOWN = (OSError, ValueError, termios.error)
"""the errors of a port that is not there or does not support a speed"""
UNACKNOWLEDGED = 10_000
"""ms without an acknowledgement of TCP data after which the connection counts as lost"""


class ByteStream(asyncio.Protocol, Recorded):
    """The received bytes with their times, and a way to send; unusable once `lost` is set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received = bytearray()
        self.heard_at = 0.0
        """monotonic seconds at which bytes last came or went"""
        self.came = 0
        """number of bytes received so far"""
        self.began_at = 0.0
        """monotonic seconds at which the first byte of `received` came"""
        self.lost = ""
        """why the line is gone; empty: it is open"""
        self._hung_up = False
        """the peer closed the connection after it had accepted it"""
        self._news = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, for sending (called by asyncio)."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection ended (called by asyncio)."""
        self._hung_up = True
        text = Text("{host} closed the connection", host=self.name)
        self.end(Text("{what}: {why}", what=text, why=exc) if exc else text)

    def data_received(self, data: bytes) -> None:
        """Keep received bytes, up to MOST_KEPT (called by asyncio)."""
        if not self.received:
            self.began_at = monotonic()
        self.received += data
        self.came += len(data)
        del self.received[:-MOST_KEPT]
        self.heard_at = monotonic()
        if self.record:
            self.record(CAME, data, "")
        self._news.set()

    def end(self, why: str) -> None:
        """Note that the line is gone; the first reason is kept."""
        self.lost = self.lost or why
        self._news.set()

    def send(self, frame: bytes) -> None:
        """Send bytes, all at once. Raises LinkLost."""
        if self._transport is None:
            raise LinkLost("{name} is not open", name=self.name)
        self._raise_if_lost()
        self._transport.write(frame)
        self._went(frame)

    def _went(self, frame: bytes) -> None:
        self.heard_at = monotonic()
        if self.record:
            self.record(SENT, frame, "")

    def tune(self, speed: Speed) -> bool:
        """Change the speed. Returns whether that was possible; never on a network."""
        del speed
        return False

    async def more(self, within: float) -> bool:
        """Wait for more bytes, at most `within` seconds. Returns whether there are any.

        Raises LinkLost when the line is gone, OutOfStep when the peer closed the connection.
        """
        self._news.clear()
        if not self.lost:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._news.wait()
        self._raise_if_lost()
        return self._news.is_set()

    def _raise_if_lost(self) -> None:
        if self.lost:
            raise OutOfStep(self.lost) if self._hung_up else LinkLost(self.lost)


class _SerialStream(ByteStream):
    """The stream of a serial port."""

    def __init__(self, port: serial.Serial) -> None:
        super().__init__(str(port.port))
        self.port = port
        self.handle = port.fileno()

    def tune(self, speed: Speed) -> bool:
        self.received.clear()
        # pyserial keeps each setting even if the adapter refuses it, and applies all of them again
        # with the next one. Only after the last one is it clear whether all were accepted.
        with suppress(*UNKNOWN):
            self.port.parity = speed.parity[0].upper()
        with suppress(*UNKNOWN):
            self.port.stopbits = speed.stopbits
        try:
            self.port.baudrate = speed.baudrate
        except UNKNOWN:
            return False
        if speed.parity != "none":  # each setting has switched the check off
            heed_parity(self.handle)
        return True

    def readable(self) -> None:
        try:
            data = os.read(self.handle, MOST_KEPT)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(f"{self.name} is gone ({error.strerror}): was the adapter unplugged?")
        else:
            if data:
                self.data_received(data)
                return
            self.end(f"{self.name} is gone: was the adapter unplugged?")
        # A port that is gone stays readable for ever: the loop would call this without pause.
        asyncio.get_running_loop().remove_reader(self.handle)

    def send(self, frame: bytes) -> None:
        if self.lost:
            raise LinkLost(self.lost)
        try:
            sent = os.write(self.handle, frame)
        except OSError as error:
            self.end(Text("{port} cannot be written: {why}", port=self.name, why=error))
            raise LinkLost(self.lost) from error
        if sent != len(frame):
            raise LinkLost(
                "{name} takes no more bytes: what was written is not sent", name=self.name
            )
        self._went(frame)


@asynccontextmanager
async def serial_stream(path: str, speed: Speed) -> AsyncIterator[ByteStream]:
    """Open a serial port exclusively. Raises LinkLost if it is not there or in use."""
    try:
        port = serial.Serial(
            path,
            speed.baudrate,
            parity=speed.parity[0].upper(),
            stopbits=speed.stopbits,
            timeout=0,
            exclusive=True,
        )
    except UNKNOWN as error:
        raise LinkLost(
            "{path} cannot be opened: {why}", path=path, why=_why(error, path)
        ) from error
    loop = asyncio.get_running_loop()
    stream = _SerialStream(port)
    try:
        os.set_blocking(stream.handle, False)
        if speed.parity != "none":
            heed_parity(stream.handle)
        loop.add_reader(stream.handle, stream.readable)
        yield stream
    finally:
        loop.remove_reader(stream.handle)
        port.close()


def _why(error: Exception, path: str = "") -> str:
    text = str(error)
    if "lock" in text:
        if program := program_with(path):
            return Text("the program {program} has it open: end that program", program=program)
        return Text("another program has it open: end that program")
    if isinstance(error, termios.error):
        return Text("it does not support this baud rate, parity or number of stop bits")
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else text


@asynccontextmanager
async def tcp_stream(host: str, port: int, within: float) -> AsyncIterator[ByteStream]:
    """Connect within `within` seconds. Raises LinkLost if that fails."""
    name = f"{host}:{port}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(within):
            transport, stream = await loop.create_connection(lambda: ByteStream(name), host, port)
    except TimeoutError as error:
        raise LinkLost(
            "{name} does not answer within {within:g} s", name=name, within=within
        ) from error
    except (OSError, UnicodeError) as error:
        raise LinkLost("{name} cannot be reached: {why}", name=name, why=_why(error)) from error
    transport.get_extra_info("socket").setsockopt(
        socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED
    )
    try:
        yield stream
    finally:
        transport.close()
