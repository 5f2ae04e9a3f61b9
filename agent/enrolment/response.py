"""The answer of an HTTP server, bounded while it arrives: in bytes, and in seconds altogether.

A time limit of a socket is one for a single read: a server that sends a byte a second passes it for
ever. And http.client and urllib3 read the lines between chunks, and those behind the last one, as
long as they are: 30 s of one line took 13 GB of memory.
"""

from __future__ import annotations

import io
import logging
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from agent.clock import monotonic

if TYPE_CHECKING:
    import socket

LARGEST_HEAD = 131_072
"""bytes of status line and headers"""
LARGEST = 20_000_000
"""bytes behind them on the wire; the longest body that is taken has 4 MB, and chunks cost more"""
SLOWEST = 5_000
"""bytes per second: an answer that comes faster than that may take longer than the limit"""
logging.getLogger("urllib3").setLevel(logging.CRITICAL)
"""of headers that are none it would log a traceback at each answer"""


class BoundedResponse(HTTPResponse):
    """An answer that must be whole within the socket's timeout; `response_class` of connections.

    Reading raises TimeoutError, or OSError on one that is too long.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._wire = _Wire(sock)
        self.fp.close()
        self.fp = io.BufferedReader(self._wire)

    def begin(self) -> None:
        """Read status line and headers."""
        super().begin()
        self._wire.left = LARGEST


class _Wire(io.RawIOBase):
    """What can still be read of one answer."""

    def __init__(self, sock: socket.socket) -> None:
        self.left = LARGEST_HEAD
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)  # keeps the socket open for as long
        self._within = sock.gettimeout()
        self._end = monotonic() + (self._within or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        try:
            size = self._read(buffer)
        except TimeoutError as error:
            message = f"its answer has no end after {self._within:g} s: is the connection slow?"
            raise TimeoutError(message) from error
        self.left -= size or 0
        if self.left < 0:
            raise OSError("its answer is longer than anything that was asked for")
        self._end += (size or 0) / SLOWEST
        return size

    def _read(self, buffer: Any) -> int | None:
        if self._within is None:
            return self._file.readinto(buffer)
        if (left := self._end - monotonic()) <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        try:
            return self._file.readinto(buffer)
        finally:
            self._sock.settimeout(self._within)  # the next question is sent on it

    def close(self) -> None:
        self._file.close()
        super().close()
