"""HTTPS: a batch is POSTed, and the answer is its receipt.

The client certificate states which gateway it is. Without TLS it serves loopback only, such as a
proxy on the same machine.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from receiver.batch import Rejected
from receiver.databases import Pool
from receiver.intake import Terms, answer
from receiver.sign import receipts
from receiver.store import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable


LARGEST_BATCH, LARGEST_OTHER = 1_000_000, 64 * 1024 * 1024
MOST_CONNECTIONS = 1_000
IDLE_SECONDS, BODY_SECONDS = 120.0, 60.0
RETRY_SECONDS = 10


ENDPOINTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("POST", "/batches"): (200, 400, 411, 413, 500, 503),
    ("GET", "/objects"): (200, 410, 500, 503),
    ("PUT", "/status/{gateway}"): (200, 400, 403, 411, 413, 500, 503),
    ("PUT", "/buildings/{gateway}"): (200, 400, 403, 411, 413, 500, 503),
}
"""what there is, with the statuses that it answers; any other address is 404"""


@dataclass(frozen=True)
class HttpsSettings(Terms):
    """Where it listens. Without `cert` there is no TLS."""

    host: str
    port: int
    connections: int = MOST_CONNECTIONS
    """of each process at a time; further ones are closed"""
    idle: float = IDLE_SECONDS
    """for a handshake, and for a request up to the end of its headers"""
    body: float = BODY_SECONDS

    def __post_init__(self) -> None:
        """Raise ValueError where anybody could write."""
        local = self.host == "localhost" or ip_address(self.host).is_loopback
        if not local and not (self.cert and self.ca):
            raise ValueError(
                f"anybody could write at {self.host}: give --cert and --ca, or listen on 127.0.0.1"
            )


def serve(settings: HttpsSettings, database: str, ready: Callable[[], object]) -> None:
    """Serve until it is ended. Several processes may serve one port."""
    with Server(settings, database) as server:
        ready()
        server.serve_forever()


class Server(ThreadingHTTPServer):
    """A thread for each connection, up to a bound."""

    daemon_threads = True
    allow_reuse_port = True
    request_queue_size = 512

    def __init__(self, settings: HttpsSettings, database: str) -> None:
        if ":" in settings.host:
            self.address_family = socket.AF_INET6  # [::] is all addresses, of IPv4 too
        super().__init__((settings.host, settings.port), Handler)
        self.recipient = settings.only
        self.named, self.signer = settings.ca is not None, settings.signer
        self.pool = Pool(database)
        self.settings = settings
        self._free = threading.BoundedSemaphore(settings.connections)
        self._ends: dict[socket.socket, float] = {}
        """connections that wait for their client, and until when"""
        self.tls: ssl.SSLContext | None = None
        if settings.cert is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(settings.cert)
            if settings.ca is not None:
                self.tls.load_verify_locations(settings.ca)
                self.tls.verify_mode = ssl.CERT_REQUIRED

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; hands are shaken in its own thread."""
        request, address = super().get_request()
        if self.tls is not None:
            request = self.tls.wrap_socket(request, True, do_handshake_on_connect=False)
        return request, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection unless there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._ends.pop(request, None)
            self._free.release()

    def wait_for(self, request: socket.socket, seconds: float | None) -> None:
        """Let a client take so long altogether from now on; None: it waits for us."""
        if seconds is None:
            self._ends.pop(request, None)
        else:
            self._ends[request] = time.monotonic() + seconds

    def service_actions(self) -> None:
        """End connections whose time is over: a socket's own timeout begins anew at each byte."""
        for request, end in list(self._ends.items()):
            if end < time.monotonic():
                with suppress(OSError):  # of the class: that of SSLSocket takes TLS from its reader
                    socket.socket.shutdown(request, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours; others are logged by `_guarded`."""

    def server_close(self) -> None:
        """Close the socket and the databases."""
        super().server_close()
        self.pool.close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Shake hands in this thread: a client that does not costs the others nothing."""
        idle = self.server.settings.idle
        self.request.settimeout(idle)  # for answers that nobody reads
        self.server.wait_for(self.request, idle)
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def handle_one_request(self) -> None:
        """Wait for a request, within its time, and answer it."""
        self.server.wait_for(self.request, self.server.settings.idle)
        super().handle_one_request()

    def do_POST(self) -> None:
        """Take a batch."""
        payload = self._body(LARGEST_BATCH)
        if payload is not None:
            self._guarded(lambda: self._batch(payload))

    def do_PUT(self) -> None:
        """Take a status or a backup."""
        content = self._body(LARGEST_OTHER)
        if content is not None:
            self._guarded(lambda: self._keep(content))

    def do_GET(self) -> None:
        """Give the objects after a cursor."""
        self.server.wait_for(self.request, None)
        self._guarded(self._objects)

    def _batch(self, payload: bytes) -> None:
        if not urlsplit(self.path).path.endswith("/batches"):
            self._answer(404, {"error": "no such address"})
            return
        recipient, name = self.server.recipient, self._name()
        with self.server.pool.store() as store:
            receipt = answer(store, payload, (name, recipient))
            objects = store.objects(name, 0, time.time()) if name else []
        if receipt is None:
            self._answer(400, {"error": "no batch"})
        else:
            signed = receipts(receipt, self.server.signer)[1:]
            self._answer(200, receipt, str(objects[-1].n) if objects else "", *signed)

    def _keep(self, content: bytes) -> None:
        what, _, gateway = urlsplit(self.path).path.rpartition("/")
        name = self._name()
        if name not in {None, gateway}:
            self._answer(403, {"error": f"the certificate is of {name}"})
            return
        with self.server.pool.store() as store:
            if what.endswith("/status"):
                recipient = self.server.recipient or json.loads(content)["recipient"]
                store.keep_status(gateway, recipient, content)
                self._answer(200, {})
            elif what.endswith("/buildings"):
                made, recipient = self.headers["Gardien-Made"], self.headers["Gardien-Recipient"]
                if not made or not recipient:
                    raise ValueError("Gardien-Made or Gardien-Recipient is missing")
                revision = int(self.headers.get("Gardien-Revision", "0"))
                self._answer(200, store.keep_building(gateway, recipient, made, revision, content))
            else:
                self._answer(404, {"error": "no such address"})

    def _objects(self) -> None:
        name = self._name()
        after = parse_qs(urlsplit(self.path).query).get("after", ["0"])[0]
        if not urlsplit(self.path).path.endswith("/objects"):
            self._answer(404, {"error": "no such address"})
            return
        if name is None:
            self._answer(200, {"objects": []})  # whose they are is known by certificate only
            return
        with self.server.pool.store() as store:
            known = after == "0" or (after.isdigit() and store.has_object(name, int(after)))
            found = store.objects(name, int(after), time.time()) if known else []
            for one in found:
                store.sent(one.n, time.time())
        if not known:
            self._answer(410, {"error": "unknown cursor"})
            return
        objects, size = [], 0
        for one in found:
            size += len(one.body)
            if size < LARGEST_BATCH:
                objects.append({"cursor": str(one.n), "object": one.body})
        self._answer(200, {"objects": objects})

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Unavailable as error:
            self.log_error("%s", error)
            self._answer(503, {"error": "the database is not available"})
        except (Rejected, ValueError, TypeError, LookupError) as error:
            self._answer(400, {"error": str(error)[:200]})
        except OSError:
            raise  # the client has gone
        except Exception:  # noqa: BLE001 -- the gateway keeps the batch, and the others come through
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            self._answer(500, {"error": "an unexpected error, see the receiver's log"})

    def _body(self, most: int) -> bytes | None:
        """The body, within its time; None: it was refused."""
        self.server.wait_for(self.request, self.server.settings.body)
        try:
            size = int(self.headers["Content-Length"])
        except (TypeError, ValueError):
            size = -1
        if not 0 <= size <= most:
            self.close_connection = True
            self._answer(
                413 if size > most else 411, {"error": f"0 to {most} bytes, with their number"}
            )
            # a client that still sends when we hang up never reads the answer
            while size > 0 and (part := self.rfile.read1(65_536)):
                size -= len(part)
            return None
        content = self.rfile.read(size)
        self.server.wait_for(self.request, None)
        if len(content) < size:
            self.close_connection = True
            return None
        return content

    def _name(self) -> str | None:
        """The gateway, as its certificate states it; None: no certificates are used."""
        if not self.server.named:
            return None
        subject = self.request.getpeercert()["subject"]
        names = [value for part in subject for key, value in part if key == "commonName"]
        return names[0] if names else ""

    def _answer(
        self, status: int, body: dict[str, Any], latest: str | None = None, signed: str = ""
    ) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if status == 503:  # noqa: PLR2004 -- not available
            self.send_header("Retry-After", str(RETRY_SECONDS))
        if latest is not None:
            self.send_header("Gardien-Objects", latest)
        if signed:
            self.send_header("Gardien-Receipt", signed)
        self.end_headers()
        self.wfile.write(text)

    def log_request(self, *_facts: object) -> None:
        """Write nothing of what succeeds."""
