"""The HTTP client for one platform; synchronous, one request after the other.

`requests` is set up to ignore the environment, to follow no redirection, to keep no cookies and to
send no superfluous header: at one batch a minute, headers cost more data than readings.
"""

from __future__ import annotations

from contextlib import contextmanager
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

from agent.buffer.receipts import LARGEST
from agent.core.clock import seconds
from agent.core.errors import CertificateRefused, UplinkLost
from agent.enrolment.response import BoundedResponse
from agent.enrolment.tls import explain, lost
from agent.trust.strict import json_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from agent.core.model import SealedBatch
    from agent.uplink.backup_message import BackupMessage
    from agent.uplink.request_worker import Connection

LARGEST_PAGE = 4_000_000
PIECE = 65_536
LONGEST_CURSOR = 1_000
"""bytes"""
CONNECT_SECONDS = 10.0
OPENING, BENEATH = 6_000, 500
"""bytes of TCP and TLS: of a new connection, and of one request with its answer"""
GONE = 410
"""the platform does not know the cursor: it was set up again"""
NO_ANSWER = (
    requests.RequestException, HTTPError, HTTPException, OSError, ValueError, ArithmeticError,
    LookupError, TypeError, AttributeError,
)  # fmt: skip
"""what the libraries raise on a malformed answer, such as a chunk of negative size"""
HEADERS = {"User-Agent": "gardien", "Accept-Encoding": SKIP_HEADER}


class PlatformRequests:
    """Requests to one platform. All calls raise UplinkLost."""

    def __init__(self, session: requests.Session, settings: Any, own: str) -> None:
        self._session, self._settings, self._own = session, settings, own
        self.moved = OPENING
        """bytes sent and received: of HTTP, with an estimate for TLS and TCP"""
        self.cursor = ""
        """of the last object that was passed on"""
        self.listed = False
        """the platform answered the last request for objects with a list"""

    def post(self, batch: SealedBatch) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of the answer to one batch."""
        headers = {
            "Content-Type": "application/zstd",
            "Idempotency-Key": ":".join(map(str, batch.id)),
        }
        return self._request("POST", "/batches", LARGEST, data=batch.payload, headers=headers)

    def tell(self, gateway: str, status: bytes) -> int:
        """Send the status document; return the HTTP status."""
        headers = {"Content-Type": "application/json"}
        return self._request("PUT", f"/status/{gateway}", LARGEST, data=status, headers=headers)[0]

    def put(self, message: BackupMessage) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a backup."""
        headers = {
            "Content-Type": "application/pkcs7-mime",
            "Gardien-Recipient": message.recipient,
            "Gardien-Made": message.made,
            "Gardien-Revision": str(message.revision),
        }
        path = f"/buildings/{message.gateway}"
        return self._request("PUT", path, LARGEST, data=message.content, headers=headers)

    def objects(self) -> list[tuple[str, bytes]]:
        """Signed objects after the cursor, each with its cursor; empty if the platform has none."""
        parameters = {"after": self.cursor} if self.cursor else {}
        self.listed = False
        status, _, body = self._request("GET", "/objects", LARGEST_PAGE, params=parameters)
        if status in {401, 403}:
            raise CertificateRefused(f"{self._host} does not let this gateway in ({status})")
        if status == GONE:
            self.cursor = ""  # restart at the next poll; an immediate restart could loop for ever
        if status != 200:  # noqa: PLR2004 -- OK
            return []
        try:
            if len(body) > LARGEST_PAGE:
                raise ValueError(f"more than {LARGEST_PAGE} bytes")
            listed = json_of(body, "it")["objects"]
            # an object with an invalid character is passed on and refused by the inbox: it must not
            # hold up the others
            page = [
                (_cursor(item["cursor"]), str(item["object"]).encode("utf-8", "surrogatepass"))
                for item in listed
            ]
        except (ValueError, LookupError, TypeError) as error:
            raise UplinkLost(
                f"{self._host}: the answer of /objects is not a list of objects: {error!r}"
            ) from error
        self.listed = True
        return page

    @property
    def _host(self) -> str:
        return urlsplit(self._settings.url).hostname or ""

    def _request(
        self, method: str, path: str, most: int, **more: Any
    ) -> tuple[int, dict[str, str], bytes]:
        limits = min(CONNECT_SECONDS, self._settings.timeout), self._settings.timeout
        try:
            with self._session.request(
                method,
                self._settings.url + path,
                timeout=limits,
                allow_redirects=False,
                stream=True,
                **more,
            ) as answer:
                body = self._read(answer, most)
                self.moved += _moved(answer, body)
                answer_headers = {name.lower(): value for name, value in answer.headers.items()}
                return answer.status_code, answer_headers, body
        except NO_ANSWER as error:
            raise self._lost(error) from error

    def _read(self, answer: requests.Response, most: int) -> bytes:
        """The body; at most `most` + 1 bytes, which show that it is too long."""
        if (coding := answer.headers.get("Content-Encoding", "identity")) != "identity":
            # we asked for none, and a compressed body may unpack to a thousand times its size
            raise UplinkLost(
                f"{self._host} uses the content coding {coding!r}, which was not requested"
            )
        body = bytearray()
        for piece in answer.iter_content(PIECE):
            body += piece
            if len(body) > most:
                break
        return bytes(body[: most + 1])

    def _lost(self, error: Exception) -> UplinkLost:
        if isinstance(error, requests.exceptions.ProxyError):
            return UplinkLost(f"the proxy {self._settings.proxy} cannot reach {self._host}")
        if isinstance(error, requests.Timeout):
            return UplinkLost(f"{self._host}: no answer")
        for cause in _causes(error):
            if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
                reason = explain(cause, self._host, seconds())
                return lost(cause)(f"{reason}; {self._own}" if self._own else reason)
        return UplinkLost(f"{self._host}: the connection was lost")


def _cursor(value: object) -> str:
    """A cursor short enough for a URL. Raises ValueError."""
    cursor = str(value)
    if len(cursor.encode()) > LONGEST_CURSOR:
        raise ValueError(f"a cursor has at most {LONGEST_CURSOR} bytes")
    return cursor


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

    def __init__(self, tls: ssl.SSLContext | None, connection: Connection) -> None:
        self._tls, self._pools = tls, _pools(connection)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **more)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(connection: Connection) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's connection pools, which register the socket that the thread waits on."""

    class BoundedHTTPConnection(HTTPConnection):
        response_class = BoundedResponse

        def connect(self) -> None:
            connection.watch(lambda: self.sock)  # the proxy may not answer
            super().connect()
            connection.watch(
                lambda: self.sock
            )  # TLS has wrapped the socket; the request may have been cancelled

    class Plain(HTTPConnectionPool):
        ConnectionCls = BoundedHTTPConnection

    class Secure(HTTPSConnectionPool):
        ConnectionCls = type("WatchedSecure", (BoundedHTTPConnection, HTTPSConnection), {})

    return {"http": Plain, "https": Secure}


@contextmanager
def asking(
    settings: Any, tls: ssl.SSLContext | None, own: str, connection: Connection
) -> Iterator[PlatformRequests]:
    """A session with one platform; `own`: what is known to be wrong with our certificate."""
    with _Session() as session:
        # a proxy or netrc of the environment must not redirect readings or add credentials
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.verify = str(settings.ca) if settings.ca else True
        if settings.proxy:
            session.proxies = {"https": settings.proxy, "http": settings.proxy}
        adapter = _Adapter(tls, connection)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        session.headers.clear()
        session.headers.update(HEADERS)
        yield PlatformRequests(session, settings, own)
