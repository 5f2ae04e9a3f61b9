"""The platform behind HTTPS: keeps what is POSTed, and the answer is the receipt.

With a CA of the fleet it wants a client's certificate, and that its name is the batch's gateway.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from hil.platform.answer import receipt, signed
from hil.platform.buildings import Buildings
from hil.platform.ledger import opened
from hil.platform.status import keep_status
from hil.platform.unpack import UnreadableError, unpack

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 1_000_000


class Host(ThreadingHTTPServer):
    """Serves for ever; says `ready` first."""

    daemon_threads = True

    def __init__(
        self, port: int, db: Path, own: Path | None, ca: Path | None, sign: Path | None = None
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.db, self.named, self.sign = db, ca is not None, sign
        self.one_at_a_time = threading.Lock()
        self.tls: ssl.SSLContext | None = None
        if own is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(own)
            if ca is not None:
                self.tls.load_verify_locations(ca)
                self.tls.verify_mode = ssl.CERT_REQUIRED

    def serve(self) -> None:
        """Until killed."""
        with opened(self.db):
            pass  # its tables, for those who look before the first batch
        print(f"ready {self.server_address[1]}", flush=True)
        self.serve_forever()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""

    def keep(self, payload: bytes, key: str, name: str) -> bytes:
        """The receipt for a batch, once what it says is on disk. Raises UnreadableError."""
        with self.one_at_a_time, opened(self.db) as ledger:
            sha256 = hashlib.sha256(payload).hexdigest()
            try:
                parcel = unpack(payload)
                if key != ":".join(map(str, parcel.id)):
                    raise UnreadableError("the Idempotency-Key is another batch's", parcel.id)
                if self.named and name != parcel.id.gateway:
                    raise UnreadableError(f"the client is {name}", parcel.id)
                held = ledger.store(parcel, len(payload))
            except UnreadableError as error:
                ledger.count("rejected_batches" if error.id else "unreadable")
                if error.id is None:
                    raise
                return receipt(ledger, error.id, {"rejected": [[error.id.seq, sha256, str(error)]]})
            return receipt(ledger, parcel.id, ledger.word(parcel.id, held))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Host
    timeout = 60

    def setup(self) -> None:
        """Shake hands here, so that a client that does not costs the others nothing."""
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_POST(self) -> None:
        """A batch."""
        size = int(self.headers.get("Content-Length", "0"))
        if size > LARGEST:
            self._answer(413, {})
            self.close_connection = True
            return
        payload = self.rfile.read(size)
        try:
            said = self.server.keep(payload, self.headers.get("Idempotency-Key", ""), self._name())
        except UnreadableError as error:
            self._answer(400, {"error": str(error)})
            return
        proof = signed(said, self.server.sign)
        self._answer(200, said, (self._objects() or [""])[-1], proof)

    def do_PUT(self) -> None:
        """A building file, or how a gateway is."""
        size = int(self.headers.get("Content-Length", "0"))
        what, _, gateway = self.path.rpartition("/")
        content = self.rfile.read(min(size, LARGEST))
        if size > LARGEST or (self.server.named and self._name() != gateway):
            self._answer(403, {})
            self.close_connection = True
            return
        if what.endswith("/status"):
            keep_status(self.server.db.with_name("status"), gateway, content)
            self._answer(200, {})
            return
        made, recipient = self.headers["Gardien-Made"], self.headers["Gardien-Recipient"]
        with self.server.one_at_a_time:
            said = Buildings.beside(self.server.db).keep(gateway, recipient, made, content)
        self._answer(200, said)

    def do_GET(self) -> None:
        """Signed objects after the cursor."""
        after = parse_qs(urlsplit(self.path).query).get("after", [""])[0]
        folder, names = self._folder, self._objects()
        found = [
            {"cursor": name, "object": (folder / name).read_text()}
            for name in names
            if name > after
        ]
        self._answer(200, {"objects": found[:100]})

    @property
    def _folder(self) -> Path:
        return self.server.db.with_name("objects")

    def _objects(self) -> list[str]:
        """The files of a folder beside the ledger, by name, which is their cursor."""
        return sorted(one.name for one in self._folder.iterdir()) if self._folder.is_dir() else []

    def _name(self) -> str:
        certificate: dict[str, Any] = getattr(self.request, "getpeercert", dict)() or {}
        names = [value for part in certificate.get("subject", ()) for key, value in part
                 if key == "commonName"]  # fmt: skip
        return names[0] if names else ""

    def _answer(
        self,
        status: int,
        body: dict[str, Any] | bytes,
        latest: str | None = None,
        proof: bytes | None = None,
    ) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if latest is not None:
            self.send_header("Gardien-Objects", latest)
        if proof is not None:
            self.send_header("Gardien-Receipt", proof.decode())
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_words: object) -> None:
        """Nothing."""
