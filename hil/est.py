"""An EST server (RFC 7030) with a CA of its own, for tests: approves, puts off, refuses, renews."""

from __future__ import annotations

import base64
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from cryptography.x509.oid import NameOID

from hil.ca import CA, DAY, GATEWAY_USES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator
    from pathlib import Path

ROOT = "/.well-known/est"


@dataclass
class Policy:
    """What the server does, which a test may change while it runs."""

    ca: CA = field(default_factory=CA)
    tokens: set[str] = field(default_factory=set)
    """each good once"""
    put_off: int = 0
    """so many requests are answered by 202 first"""
    lasts: dt.timedelta = 90 * DAY
    begins: dt.timedelta = -DAY
    uses: tuple[x509.ObjectIdentifier, ...] = GATEWAY_USES
    name: str = ""
    """issue to this name, whoever asks"""
    down: bool = False
    issued: list[x509.Certificate] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    port: int = 0


class _Desk(BaseHTTPRequestHandler):
    """One request of one gateway."""

    policy: Policy

    def do_GET(self) -> None:
        """Only the CA's certificates."""
        self.policy.asked.append(self.path)
        if self.path == f"{ROOT}/cacerts":
            self._certificates(self.policy.ca.certificate)
        else:
            self._say(404, b"no such thing")

    def do_POST(self) -> None:
        """First and next certificates."""
        policy, request = self.policy, self._request()
        policy.asked.append(self.path)
        name = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        if policy.down:
            self._say(503, b"")
        elif not request.is_signature_valid or not self._allowed(str(name)):
            self._say(401, b"")
        elif policy.put_off:
            policy.put_off -= 1
            self._say(202, b"", {"Retry-After": "61"})
        else:
            self._spend()
            key = request.public_key()
            made = policy.ca.issue(
                policy.name or str(name), key, policy.uses,
                begins=policy.begins, lasts=policy.lasts,
            )  # fmt: skip
            policy.issued.append(made)
            self._certificates(made)

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at `asked`."""

    def _request(self) -> x509.CertificateSigningRequest:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        return x509.load_der_x509_csr(base64.b64decode(body))

    def _allowed(self, name: str) -> bool:
        if self.path == f"{ROOT}/simplereenroll":
            told = self.connection.getpeercert()
            return bool(told) and (("commonName", name),) in told["subject"]
        return self.path == f"{ROOT}/simpleenroll" and self._token() in {
            f"{name}:{token}" for token in self.policy.tokens
        }

    def _token(self) -> str:
        scheme, _, word = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(word).decode() if scheme == "Basic" else ""

    def _spend(self) -> None:
        self.policy.tokens.discard(self._token().partition(":")[2])

    def _certificates(self, *found: x509.Certificate) -> None:
        body = base64.encodebytes(serialize_certificates(list(found), Encoding.DER))
        self._say(200, body, {"Content-Type": "application/pkcs7-mime; smime-type=certs-only"})

    def _say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def est(folder: Path, policy: Policy, server: Path | None = None) -> Iterator[str]:
    """Serve on loopback for as long as the block; its URL. `server`: key and certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=policy.ca.file(folder))
    context.load_cert_chain(server or policy.ca.server(folder))
    context.verify_mode = ssl.CERT_OPTIONAL
    desk = type("Desk", (_Desk,), {"policy": policy})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), desk)
    listening.socket = context.wrap_socket(
        listening.socket, server_side=True, do_handshake_on_connect=False
    )
    listening.handle_error = lambda *_: None  # type: ignore[method-assign] # who refuses us
    policy.port = listening.server_address[1]
    thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"https://127.0.0.1:{policy.port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
