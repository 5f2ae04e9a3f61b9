"""A gateway's end of each transport, as `conform` needs it: send a batch, wait for its receipt."""

from __future__ import annotations

import csv
import gzip
import http.client
import io
import json
import queue
import ssl
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import zstandard
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from receiver.batch import BEFORE, second, written
from receiver.conform import Reply
from receiver.sign import decoded

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from paho.mqtt.client import MQTTMessage

COLUMNS = (
    "batch", "row", "place", "channel", "obis", "kind", "t_start", "t_end", "value", "unit", "q",
    "flags", "method", "ver", "why", "meter", "n", "basis", "occupancy", "read_at", "policy",
    "privacy", "clock", "audit", "step", "span", "again", "lane", "created",
)  # fmt: skip
BY_EC = "-keyopt ecdh_kdf_md:sha256 -wrap id-aes256-wrap"
BY_RSA = "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"


class Link(ABC):
    """One way to a platform."""

    named = True
    """the transport itself states which gateway it is"""
    sealed = False
    """batches themselves are signed and encrypted"""

    def __init__(self, gateway: str, recipient: str, patience: float) -> None:
        self.gateway, self.recipient, self.patience = gateway, recipient, patience
        self.keys: dict[str, Ed25519PublicKey] = {}
        """with which the platform must sign its receipts; empty: with none"""

    def payload(self, document: dict[str, Any]) -> bytes:
        """The bytes of a batch, always the same."""
        return zstandard.compress(json.dumps(document).encode())

    def forged(self, document: dict[str, Any]) -> bytes:
        """The same signed by a stranger, where batches are signed."""
        return self.payload(document)

    @abstractmethod
    def deliver(self, document: dict[str, Any], payload: bytes) -> Reply:
        """Send a batch, and wait for the answer."""

    @abstractmethod
    def send_only(self, document: dict[str, Any], payload: bytes) -> None:
        """Send a batch, and lose the answer."""


class HttpLink(Link):
    """A POST for each batch."""

    def __init__(self, url: str, gateway: str, recipient: str, chosen: argparse.Namespace) -> None:
        super().__init__(gateway, recipient, chosen.patience)
        self._to = urlsplit(url)
        self.named = chosen.cert is not None
        self._tls = None
        if self._to.scheme == "https":
            self._tls = ssl.create_default_context(cafile=chosen.ca)
            if chosen.cert:
                self._tls.load_cert_chain(chosen.cert)

    def deliver(self, document: dict[str, Any], payload: bytes) -> Reply:
        """Send a batch; the answer is its receipt. Rule T23."""
        try:
            with closing(self._posted(document, payload)) as connection:
                answer = connection.getresponse()
                text = answer.read(1_000_001)
        except (OSError, http.client.HTTPException) as error:
            time.sleep(min(1.0, self.patience))
            return Reply(None, problem=str(error) or type(error).__name__)
        if answer.status not in {200, 201}:
            return Reply(None, answer.status)
        try:
            receipt = json.loads(text)
        except ValueError:
            receipt = None
        signed = answer.getheader("Gardien-Receipt", "")
        return Reply(receipt if isinstance(receipt, dict) else None, answer.status, signed)

    def send_only(self, document: dict[str, Any], payload: bytes) -> None:
        """Send a batch, and hang up."""
        self._posted(document, payload).close()

    def _posted(self, document: dict[str, Any], payload: bytes) -> http.client.HTTPConnection:
        host, port = self._to.hostname or "", self._to.port
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=self.patience)
        else:
            connection = http.client.HTTPSConnection(
                host, port, timeout=self.patience, context=self._tls
            )
        key = ":".join(str(document[name]) for name in ("gateway", "recipient", "epoch", "seq"))
        headers = {"Content-Type": "application/zstd", "Idempotency-Key": key}
        connection.request("POST", f"{self._to.path.rstrip('/')}/batches", payload, headers)
        return connection


class MqttLink(Link):
    """Batches on `up/live`, receipts on `down/receipts`."""

    def __init__(self, url: str, gateway: str, recipient: str, chosen: argparse.Namespace) -> None:
        super().__init__(gateway, recipient, chosen.patience)
        self._receipts: queue.Queue[bytes] = queue.Queue()
        subscribed: queue.Queue[None] = queue.Queue()
        self._client = Client(
            CallbackAPIVersion.VERSION2, f"gardien-{gateway}-{recipient}", protocol=MQTTv311
        )
        to = urlsplit(url)
        if to.username:
            self._client.username_pw_set(unquote(to.username), unquote(to.password or ""))
        if to.scheme == "mqtts":
            cert = str(chosen.cert) if chosen.cert else None
            self._client.tls_set(str(chosen.ca) if chosen.ca else None, cert, cert)
        self._client.on_message = self._arrived
        self._client.on_subscribe = lambda *_: subscribed.put(None)
        self._client.connect(to.hostname or "", to.port or (8883 if to.scheme == "mqtts" else 1883))
        self._client.loop_start()
        self._client.subscribe(f"gardien/{gateway}/{recipient}/down/receipts", 1)
        subscribed.get(timeout=self.patience)

    def _arrived(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._receipts.put(message.payload)

    def deliver(self, document: dict[str, Any], payload: bytes) -> Reply:
        """Publish a batch, and wait for a receipt of its id."""
        self.send_only(document, payload)
        end = time.monotonic() + self.patience
        reply = Reply(None)
        while (left := end - time.monotonic()) > 0:
            try:
                payload = self._receipts.get(timeout=left)
            except queue.Empty:
                break
            signed = payload.startswith(b"ey")
            receipt = json.loads(decoded(payload.split(b".")[1].decode()) if signed else payload)
            entries = [
                entry[0] for name in ("stored", "rejected") for entry in receipt.get(name, [])
            ]
            if receipt.get("epoch") == document["epoch"] and document["seq"] in entries:
                members = {"signed": payload.decode()} if signed else {"receipt": receipt}
                reply = reply._replace(**members)
                if reply.receipt is not None and (reply.signed or not self.keys):
                    break
        return reply

    def send_only(self, document: dict[str, Any], payload: bytes) -> None:
        """Publish a batch."""
        self._client.publish(f"gardien/{self.gateway}/{self.recipient}/up/live", payload, 1)
        _ = document

    def close(self) -> None:
        """Close the connection."""
        self._client.disconnect()
        self._client.loop_stop()


class FolderLink(Link):
    """A file for each batch; with a certificate signed and encrypted, else `container: none`."""

    def __init__(
        self, root: Path, gateway: str, recipient: str, chosen: argparse.Namespace
    ) -> None:
        super().__init__(gateway, recipient, chosen.patience)
        self._root = root
        self._signer, self._reader = chosen.cert, chosen.encrypt_for
        self.sealed = self._signer is not None
        if self.sealed and self._reader is None:
            raise ValueError("files are encrypted for you: give --encrypt-for with --cert")
        if self.sealed:
            certificate = _openssl(b"", "x509", "-in", self._reader, "-noout", "-text")
            to = BY_EC if b"id-ecPublicKey" in certificate else BY_RSA
            self._seal = (
                "-encrypt",
                "-stream",
                "-aes-256-gcm",
                "-recip",
                self._reader,
                *to.split(),
            )
        self._made: dict[str, bytes] = {}
        """by text: encryption is random, and the same batch must stay the same bytes"""

    def payload(self, document: dict[str, Any]) -> bytes:
        """The file of a batch, always the same."""
        text = _file_text(document)
        if text not in self._made:
            self._made[text] = self.file(document, self._signer)
        return self._made[text]

    def file(self, document: dict[str, Any], signer: Path | None) -> bytes:
        """The file of a batch, signed by whoever is given."""
        packed = gzip.compress(_file_text(document).encode(), mtime=0)
        if signer is None:
            return packed
        cms = ("cms", "-binary", "-outform", "DER")
        sign = ("-sign", "-nodetach", "-md", "sha256", "-signer", signer, "-inkey", signer)
        signed = _openssl(packed, *cms, *sign, "-certfile", signer)
        return _openssl(signed, *cms, *self._seal)

    def forged(self, document: dict[str, Any]) -> bytes:
        """The file of a batch, signed by a stranger who uses the gateway's name."""
        with tempfile.TemporaryDirectory() as folder:
            pem, key = Path(folder, "own.pem"), Path(folder, "own.key")
            new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
            name = f"/CN={self.gateway}"
            _openssl(b"", "req", "-x509", *new, "-subj", name, "-keyout", key, "-out", pem)
            pem.write_bytes(key.read_bytes() + pem.read_bytes())
            return self.file(document, pem)

    def deliver(self, document: dict[str, Any], payload: bytes) -> Reply:
        """Write a file, and wait for its answer."""
        answer = self._root / "out" / f"{self._name(document)}.receipt.json"
        proof = answer.with_suffix(".jwt")
        answer.unlink(missing_ok=True)
        proof.unlink(missing_ok=True)
        self.send_only(document, payload)
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            if answer.exists() and (proof.exists() or not self.keys):
                break
            time.sleep(0.01)
        receipt = json.loads(answer.read_text()) if answer.exists() else None
        return Reply(receipt, signed=proof.read_text() if proof.exists() else "")

    def send_only(self, document: dict[str, Any], payload: bytes) -> None:
        """Write a file under another name, and rename it."""
        path = self._root / "in" / self._name(document)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(payload)
        part.replace(path)

    def _name(self, document: dict[str, Any]) -> str:
        id_ = f"{self.gateway}_{self.recipient}_{document['epoch']}_{document['seq']}"
        form = "csv" if _is_table(document) else "json"
        return f"{id_}.{form}.gz{'.p7m' * self.sealed}"


def _is_table(document: dict[str, Any]) -> bool:
    """A batch with rows is a table, or JSON where the gateway is configured so (T12)."""
    return bool(document.get("series")) and "later" not in document


def _file_text(document: dict[str, Any]) -> str:
    return table(document) if _is_table(document) else json.dumps(document)


def _openssl(content: bytes, *arguments: str | Path) -> bytes:
    done = subprocess.run(
        ("openssl", *map(str, arguments)), input=content, capture_output=True, check=False
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines() or [""]
        raise ValueError(f"openssl {arguments[0]} failed: {last[-1][:200]}")
    return done.stdout


def table(document: dict[str, Any]) -> str:
    """The rows of a batch as files have them."""
    out = io.StringIO()
    lines = csv.DictWriter(out, COLUMNS, "", delimiter=";", lineterminator="\n")
    lines.writeheader()
    batch = "/".join(str(document[name]) for name in ("gateway", "recipient", "epoch", "seq"))
    if document["schema"] != "gardien/batch/1":
        batch = document["schema"]  # a table has no schema: this is what it cannot be
    whole = {name: document[name] for name in ("lane", "created", "clock", "privacy")}
    for one in document["series"]:
        names = ("place", "channel", "kind", "unit", "step", "meter", "occupancy", "basis")
        for n, t in enumerate(one["t"]):
            end = second(one["t0"]) + t
            cells = (
                {name: one.get(name, "") for name in names} | whole | {"batch": batch, "row": n + 1}
            )
            cells |= {
                "t_end": written(end),
                "q": one["q"][n],
                "again": "1" if one.get("again") else "",
            }
            cells |= {"t_start": written(end - one["step"]) if one["kind"] in BEFORE else ""}
            cells |= {"value": "" if one["v"][n] is None else one["v"][n]}
            cells |= {
                name: one.get(name, {}).get(str(n), "")
                for name in ("why", "span", "ver", "flags", "n")
            }
            lines.writerow(cells)
    return out.getvalue()


@contextmanager
def connected(
    endpoint: str, gateway: str, recipient: str, chosen: argparse.Namespace
) -> Iterator[Link]:
    """A link to an address, a broker or a folder, for as long as the block."""
    if endpoint.startswith(("http://", "https://")):
        yield HttpLink(endpoint, gateway, recipient, chosen)
    elif endpoint.startswith(("mqtt://", "mqtts://")):
        link = MqttLink(endpoint, gateway, recipient, chosen)
        try:
            yield link
        finally:
            link.close()
    else:
        yield FolderLink(Path(endpoint), gateway, recipient, chosen)
