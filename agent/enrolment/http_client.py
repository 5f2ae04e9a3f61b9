"""One synchronous HTTP client for every server: platforms, and the EST server of the CA.

`requests` is set up to ignore the environment, to follow no redirection, to keep no cookies and to
send no superfluous header: at one batch a minute, headers cost more data than readings.

An answer is limited in total bytes and total seconds while it arrives. The timeout of a socket
limits a single read only: a server that sends a byte a second never exceeds it. And http.client and
urllib3 do not limit the lines between and after chunks: one line of 30 s took 13 GB of memory.
"""

from __future__ import annotations

import io
import logging
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

from agent.core.clock import monotonic, seconds
from agent.core.errors import UplinkLost
from agent.core.i18n import Text, joined
from agent.enrolment.tls import explain, lost

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator

    Watch = Callable[[Callable[[], object]], None]

LARGEST_HEAD = 131_072
"""bytes of status line and headers"""
LARGEST = 20_000_000
"""bytes after the headers; the longest accepted body has 4 MB, and chunks add to it"""
SLOWEST = 5_000
"""bytes per second: an answer that arrives faster may take longer than the timeout"""
PIECE = 65_536
CONNECT_SECONDS = 10.0
BENEATH = 500
"""bytes of TCP and TLS of one request with its answer"""
NO_ANSWER = (
    requests.RequestException, HTTPError, HTTPException, OSError, ValueError, ArithmeticError,
    LookupError, TypeError, AttributeError,
)  # fmt: skip
"""what the libraries raise on a malformed answer, such as a chunk of negative size"""
HEADERS = {"User-Agent": "gardien", "Accept-Encoding": SKIP_HEADER}
logging.getLogger("urllib3").setLevel(logging.CRITICAL)
"""it would log a traceback for each answer with malformed headers"""


class HttpAnswer(NamedTuple):
    """A complete answer."""

    status: int
    headers: dict[str, str]
    """names in lower case"""
    body: bytes
    moved: int
    """bytes sent and received: of HTTP, with an estimate for TLS and TCP"""


class HttpClient:
    """Requests to one server, over one connection, one after the other."""

    def __init__(
        self, session: requests.Session, server: str, timeout: float, proxy: str | None, own: str
    ) -> None:
        self._session, self._server, self._own = session, server, own
        self._timeout, self._proxy = timeout, proxy

    @classmethod
    @contextmanager
    def open(  # noqa: PLR0913 -- what differs between the servers
        cls,
        server: str,
        tls: ssl.SSLContext | None,
        timeout: float,
        *,
        proxy: str | None = None,
        own: str = "",
        watch: Watch = lambda _socket: None,
    ) -> Iterator[HttpClient]:
        """A client for one server, which is named `server` in errors.

        `tls` decides whom we trust; `own`: what is known to be wrong with our certificate; `watch`
        is given a function that returns the socket in use, whenever it changes.
        """
        with _Session() as session:
            # a proxy or netrc of the environment must not redirect readings or add credentials
            session.trust_env = False
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            if proxy:
                session.proxies = {"https": proxy, "http": proxy}
            adapter = _Adapter(tls, watch)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            session.headers.clear()
            session.headers.update(HEADERS)
            yield cls(session, server, timeout, proxy, own)

    def request(self, method: str, url: str, most: int, **more: Any) -> HttpAnswer:
        """The answer to one request, with at most `most` + 1 bytes of its body, which show that it
        is too long. Raises UplinkLost.
        """
        limits = min(CONNECT_SECONDS, self._timeout), self._timeout
        try:
            with self._session.request(
                method, url, timeout=limits, allow_redirects=False, stream=True, **more
            ) as answer:
                body = self._read(answer, most)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return HttpAnswer(answer.status_code, headers, body, _moved(answer, body))
        except NO_ANSWER as error:
            raise self._lost(error) from error

    def _read(self, answer: requests.Response, most: int) -> bytes:
        if (coding := answer.headers.get("Content-Encoding", "identity")) != "identity":
            # we asked for none, and a compressed body may unpack to a thousand times its size
            raise UplinkLost(
                "{server} uses the content coding {coding!r}, which was not requested",
                server=self._server,
                coding=coding,
            )
        body = bytearray()
        for piece in answer.iter_content(PIECE):
            body += piece
            if len(body) > most:
                break
        return bytes(body[: most + 1])

    def _lost(self, error: Exception) -> UplinkLost:
        if isinstance(error, requests.exceptions.ProxyError):
            return UplinkLost(
                "the proxy {proxy} cannot reach {server}", proxy=self._proxy, server=self._server
            )
        if isinstance(error, requests.Timeout):
            return UplinkLost("{server}: no answer", server=self._server)
        for cause in _causes(error):
            if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
                reason = explain(cause, self._server, seconds())
                return lost(cause)(joined("; ", filter(None, (reason, self._own))))
        return UplinkLost("{server}: the connection was lost", server=self._server)


def _moved(answer: requests.Response, body: bytes) -> int:
    request = answer.request
    heads = [*request.headers.items(), *answer.headers.items()]
    sent = request.body if isinstance(request.body, bytes) else b""
    fields = [(name, str(value)) for name, value in heads if value != SKIP_HEADER]
    lines = len(request.url or "") + sum(len(name) + len(value) + 4 for name, value in fields)
    return lines + len(sent) + len(body) + BENEATH


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes; urllib3 keeps some of them in `args`."""
    seen: list[BaseException] = [error]
    for cause in seen:
        yield cause
        more = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        seen += [m for m in more if isinstance(m, BaseException) and m not in seen]


class _Session(requests.Session):
    """Ignores redirections. Even for one that is not followed, requests parses the target and reads
    and decompresses the whole body.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        del resp


class _Adapter(HTTPAdapter):
    """Uses our TLS context, directly or through a proxy, and registers the connection."""

    def __init__(self, tls: ssl.SSLContext | None, watch: Watch) -> None:
        self._tls, self._pools = tls, _pools(watch)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Leave it to the TLS context whom we trust: requests would add the CAs of certifi to it,
        in some versions only.
        """
        conn.cert_reqs = "CERT_REQUIRED"

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **more)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(watch: Watch) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's connection pools, which register the socket that the thread waits on."""

    class BoundedHTTPConnection(HTTPConnection):
        response_class = BoundedResponse

        def connect(self) -> None:
            watch(lambda: self.sock)  # the proxy may not answer
            super().connect()
            # TLS has wrapped the socket; the request may have been cancelled
            watch(lambda: self.sock)

    class Plain(HTTPConnectionPool):
        ConnectionCls = BoundedHTTPConnection

    class Secure(HTTPSConnectionPool):
        ConnectionCls = type("WatchedSecure", (BoundedHTTPConnection, HTTPSConnection), {})

    return {"http": Plain, "https": Secure}


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
            message = Text(
                "its answer is incomplete after {within:g} s: is the connection slow?",
                within=self._within,
            )
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
