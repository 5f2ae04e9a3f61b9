"""A platform asked over HTTP, one question after the other; synchronous.

`requests` is told nothing by the environment, follows nothing, keeps no cookies, and sends no
header that says nothing: by the minute headers are more than readings.
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
from agent.clock import seconds
from agent.enrolment.response import BoundedResponse
from agent.enrolment.tls import explain
from agent.errors import UplinkLost
from agent.trust.strict import json_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from agent.model import SealedBatch
    from agent.uplink.backup_message import BackupMessage
    from agent.uplink.request_worker import Connection

LARGEST_PAGE = 4_000_000
PIECE = 65_536
LONGEST_CURSOR = 1_000
"""bytes"""
CONNECT_SECONDS = 10.0
OPENING, BENEATH = 6_000, 500
"""bytes of TCP and TLS: of a connection made, and of one question with its answer"""
GONE = 410
"""the platform knows no such cursor: it was set up anew"""
NO_ANSWER = (
    requests.RequestException, HTTPError, HTTPException, OSError, ValueError, ArithmeticError,
    LookupError, TypeError, AttributeError,
)  # fmt: skip
"""what the libraries raise where something is no answer: a chunk of a negative size, say"""
HEADERS = {"User-Agent": "gardien", "Accept-Encoding": SKIP_HEADER}


class PlatformRequests:
    """The platform by requests. Its calls raise UplinkLost."""

    def __init__(self, session: requests.Session, settings: Any, own: str) -> None:
        self._session, self._settings, self._own = session, settings, own
        self.moved = OPENING
        """bytes on the wire: what HTTP says, and an allowance for what lies beneath it"""
        self.cursor = ""
        """of the last object that was handed on"""
        self.listed = False
        """the platform has answered the last question for objects with a list"""

    def post(self, batch: SealedBatch) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of the answer to one batch."""
        headers = {
            "Content-Type": "application/zstd",
            "Idempotency-Key": ":".join(map(str, batch.id)),
        }
        return self._asked("POST", "/batches", LARGEST, data=batch.payload, headers=headers)

    def tell(self, gateway: str, status: bytes) -> int:
        """The platform's answer to how the gateway is."""
        headers = {"Content-Type": "application/json"}
        return self._asked("PUT", f"/status/{gateway}", LARGEST, data=status, headers=headers)[0]

    def put(self, one: BackupMessage) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a building file."""
        headers = {
            "Content-Type": "application/pkcs7-mime",
            "Gardien-Recipient": one.recipient,
            "Gardien-Made": one.made,
            "Gardien-Revision": str(one.revision),
        }
        path = f"/buildings/{one.gateway}"
        return self._asked("PUT", path, LARGEST, data=one.content, headers=headers)

    def objects(self) -> list[tuple[str, bytes]]:
        """Signed objects after the cursor, with a cursor each; none where none are offered."""
        words = {"after": self.cursor} if self.cursor else {}
        self.listed = False
        status, _, body = self._asked("GET", "/objects", LARGEST_PAGE, params=words)
        if status in {401, 403}:
            raise UplinkLost(f"{self._host} does not let this gateway in ({status})")
        if status == GONE:
            self.cursor = ""  # from the first on at the next poll: at once, it might never end
        if status != 200:  # noqa: PLR2004 -- OK
            return []
        try:
            if len(body) > LARGEST_PAGE:
                raise ValueError(f"it has more than {LARGEST_PAGE} bytes")
            found = json_of(body, "it")["objects"]
            # half a character is left to whoever judges the object: the others must come through
            page = [
                (_cursor(one["cursor"]), str(one["object"]).encode("utf-8", "surrogatepass"))
                for one in found
            ]
        except (ValueError, LookupError, TypeError) as error:
            raise UplinkLost(f"{self._host}: /objects is no list of objects: {error!r}") from error
        self.listed = True
        return page

    @property
    def _host(self) -> str:
        return urlsplit(self._settings.url).hostname or ""

    def _asked(
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
                told = {name.lower(): value for name, value in answer.headers.items()}
                return answer.status_code, told, body
        except NO_ANSWER as error:
            raise UplinkLost(self._words(error)) from error

    def _read(self, answer: requests.Response, most: int) -> bytes:
        """The body, or so much of it that it is seen to be too long."""
        if (coding := answer.headers.get("Content-Encoding", "identity")) != "identity":
            # not asked for, and a thousand times as much may come out of it
            raise UplinkLost(f"{self._host} answers in the content coding {coding!r}, unasked")
        body = bytearray()
        for piece in answer.iter_content(PIECE):
            body += piece
            if len(body) > most:
                break
        return bytes(body[: most + 1])

    def _words(self, error: Exception) -> str:
        if isinstance(error, requests.exceptions.ProxyError):
            return f"the proxy {self._settings.proxy} does not lead to {self._host}"
        if isinstance(error, requests.Timeout):
            return f"{self._host}: no answer"
        for cause in _causes(error):
            if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
                said = explain(cause, self._host, seconds())
                return f"{said}; {self._own}" if self._own else said
        return f"{self._host}: the connection broke off"


def _cursor(said: object) -> str:
    """A cursor that can stand in an address. Raises ValueError."""
    cursor = str(said)
    if len(cursor.encode()) > LONGEST_CURSOR:
        raise ValueError(f"a cursor has at most {LONGEST_CURSOR} bytes")
    return cursor


def _moved(answer: requests.Response, body: bytes) -> int:
    request = answer.request
    heads = [*request.headers.items(), *answer.headers.items()]
    sent = request.body if isinstance(request.body, bytes) else b""
    said = [(name, str(value)) for name, value in heads if value != SKIP_HEADER]
    lines = len(request.url or "") + sum(len(name) + len(value) + 4 for name, value in said)
    return lines + len(sent) + len(body) + BENEATH


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What an error came from; urllib3 keeps it in its arguments."""
    seen: list[BaseException] = [error]
    for one in seen:
        yield one
        more = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        seen += [m for m in more if isinstance(m, BaseException) and m not in seen]


class _Session(requests.Session):
    """Sees no redirection: of one that is not followed, too, requests would take its address apart
    and read and decompress all of its body.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        del resp


class _Adapter(HTTPAdapter):
    """Uses our TLS context for the platform, directly or through a proxy, over a watched line."""

    def __init__(self, tls: ssl.SSLContext | None, line: Connection) -> None:
        self._tls, self._pools = tls, _pools(line)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *words: Any, **more: Any) -> None:
        super().init_poolmanager(*words, ssl_context=self._tls, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **more)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(line: Connection) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's own, which tell the line which connection they wait on."""

    class BoundedHTTPConnection(HTTPConnection):
        response_class = BoundedResponse

        def connect(self) -> None:
            line.watch(lambda: self.sock)  # a proxy may keep us waiting
            super().connect()
            line.watch(lambda: self.sock)  # and the question may be given up by now

    class Plain(HTTPConnectionPool):
        ConnectionCls = BoundedHTTPConnection

    class Secure(HTTPSConnectionPool):
        ConnectionCls = type("WatchedSecure", (BoundedHTTPConnection, HTTPSConnection), {})

    return {"http": Plain, "https": Secure}


@contextmanager
def asking(
    settings: Any, tls: ssl.SSLContext | None, own: str, line: Connection
) -> Iterator[PlatformRequests]:
    """A session of one platform; `own`: what is known to be wrong with our own certificate."""
    with _Session() as session:
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.verify = str(settings.ca) if settings.ca else True
        if settings.proxy:
            session.proxies = {"https": settings.proxy, "http": settings.proxy}
        adapter = _Adapter(tls, line)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        session.headers.clear()
        session.headers.update(HEADERS)
        yield PlatformRequests(session, settings, own)
