"""A proxy before an HTTPS platform that takes no large bodies and answers as nginx does.

Its settings may be changed while it runs.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body><center><h1>{0}</h1></center></body></html>"
)


class Proxy(ThreadingHTTPServer):
    """Hands requests on to a platform that speaks plain HTTP on loopback."""

    daemon_threads = True

    def __init__(self, platform: int, own: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.platform = platform
        self.largest = 1_000_000
        """bytes of a body; a larger one is answered 413"""
        self.mistake = 0
        """the status by which every POST is answered; 0: none"""
        self.refused: list[int] = []
        """sizes of the bodies that were refused"""
        self.passed: list[int] = []
        """sizes of the bodies that were handed on"""
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(own)

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy
    timeout = 60

    def setup(self) -> None:
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def do_GET(self) -> None:
        self._hand_on(b"")

    def do_PUT(self) -> None:
        self._hand_on(self._body())

    def do_POST(self) -> None:
        body = self._body()
        status = self.server.mistake or (413 if len(body) > self.server.largest else 0)
        if status:
            self.server.refused.append(len(body))
            self._answer(status, "text/html", PAGE.format(f"{status} refused").encode())
            return
        self.server.passed.append(len(body))
        self._hand_on(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _hand_on(self, body: bytes) -> None:
        far = http.client.HTTPConnection("127.0.0.1", self.server.platform, timeout=30)
        try:
            far.request(self.command, self.path, body, dict(self.headers))
            answer = far.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            self._answer(502, "text/html", PAGE.format("502 Bad Gateway").encode())
            return
        finally:
            far.close()
        kind = answer.headers.get("Content-Type", "")
        self._answer(answer.status, kind, said, answer.headers.get("Gardien-Objects"))

    def _answer(self, status: int, kind: str, body: bytes, latest: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if latest is not None:
            self.send_header("Gardien-Objects", latest)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Nothing."""


@contextmanager
def proxy(platform: int, own: Path) -> Iterator[Proxy]:
    """Run one with the server certificate `own` for as long as the block."""
    server = Proxy(platform, own)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
