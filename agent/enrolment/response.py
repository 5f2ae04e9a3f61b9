"""An HTTP answer with limits of total bytes and total seconds, enforced while it arrives.

The timeout of a socket limits a single read only: a server that sends a byte a second never exceeds
it. And http.client and urllib3 do not limit the lines between and after chunks: one line of 30 s
took 13 GB of memory.
"""

from __future__ import annotations

import io
import logging
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from agent.core.clock import monotonic

if TYPE_CHECKING:
    import socket

LARGEST_HEAD = 131_072
"""bytes of status line and headers"""
LARGEST = 20_000_000
"""bytes after the headers; the longest accepted body has 4 MB, and chunks add to it"""
SLOWEST = 5_000
"""bytes per second: an answer that arrives faster may take longer than the timeout"""
logging.getLogger("urllib3").setLevel(logging.CRITICAL)
"""it would log a traceback for each answer with malformed headers"""


class BoundedResponse(HTTPResponse):
    """An answer that must be complete within the socket's timeout; `response_class` of connections.

    Reading raises TimeoutError, or OSError if the answer is too long.
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
    """The socket of one answer, with the bytes and seconds that are left."""

    def __init__(self, sock: socket.socket) -> None:
        self.left = LARGEST_HEAD
        self._sock = sock
        self._file = sock.makefile(
            "rb", buffering=0
        )  # keeps the socket open until the answer is read
        self._within = sock.gettimeout()
        self._end = monotonic() + (self._within or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        try:
            size = self._read(buffer)
        except TimeoutError as error:
            message = f"its answer is incomplete after {self._within:g} s: is the connection slow?"
            raise TimeoutError(message) from error
        self.left -= size or 0
        if self.left < 0:
            raise OSError("its answer is too long")
        # a long answer on a slow line gets more time, and bytes that trickle in do not
        self._end += (size or 0) / SLOWEST
        return size

    def _read(self, buffer: Any) -> int | None:
        if self._within is None:
            return self._file.readinto(buffer)
        if (left := self._end - monotonic()) <= 0:
            raise TimeoutError
        # each read gets the time that is left: a slow server would never exceed the full time
        self._sock.settimeout(left)
        try:
            return self._file.readinto(buffer)
        finally:
            self._sock.settimeout(self._within)  # the next request on this connection needs it

    def close(self) -> None:
        self._file.close()
        super().close()
