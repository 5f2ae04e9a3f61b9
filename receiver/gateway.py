"""A gateway's end of each transport, as `conform` needs it: send a batch, wait for its receipt."""

from __future__ import annotations

import csv
import gzip
import http.client
import io
import json
import queue
import ssl
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

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from paho.mqtt.client import MQTTMessage

COLUMNS = (
    "batch", "row", "place", "channel", "obis", "kind", "t_start", "t_end", "value", "unit", "q",
    "flags", "method", "ver", "why", "meter", "n", "basis", "occupancy", "read_at", "policy",
    "privacy", "clock", "audit", "step", "span", "again", "lane", "created",
)  # fmt: skip


class Link(ABC):
    """One way to a platform."""

    named = True
    """the transport itself states which gateway it is"""
    rows_are_json = True

    def __init__(self, gateway: str, recipient: str, patience: float) -> None:
        self.gateway, self.recipient, self.patience = gateway, recipient, patience

    def payload(self, document: dict[str, Any]) -> bytes:
        """The bytes of a batch, always the same."""
        return zstandard.compress(json.dumps(document).encode())

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
        except (OSError, http.client.HTTPException):
            time.sleep(min(1.0, self.patience))
            return Reply(None)
        if answer.status not in {200, 201}:
            return Reply(None, answer.status)
        try:
            receipt = json.loads(text)
        except ValueError:
            receipt = None
        return Reply(receipt if isinstance(receipt, dict) else None, answer.status)

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
        self._receipts: queue.Queue[dict[str, Any]] = queue.Queue()
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
        self._receipts.put(json.loads(message.payload))

    def deliver(self, document: dict[str, Any], payload: bytes) -> Reply:
        """Publish a batch, and wait for a receipt of its id."""
        self.send_only(document, payload)
        end = time.monotonic() + self.patience
        while (left := end - time.monotonic()) > 0:
            try:
                receipt = self._receipts.get(timeout=left)
            except queue.Empty:
                break
            entries = [
                entry[0] for name in ("stored", "rejected") for entry in receipt.get(name, [])
            ]
            if receipt.get("epoch") == document["epoch"] and document["seq"] in entries:
                return Reply(receipt)
        return Reply(None)

    def send_only(self, document: dict[str, Any], payload: bytes) -> None:
        """Publish a batch."""
        self._client.publish(f"gardien/{self.gateway}/{self.recipient}/up/live", payload, 1)
        _ = document

    def close(self) -> None:
        """Close the connection."""
        self._client.disconnect()
        self._client.loop_stop()


class FolderLink(Link):
    """A file for each batch, neither encrypted nor signed (`container: none`)."""

    rows_are_json = False

    def __init__(self, root: Path, gateway: str, recipient: str, patience: float) -> None:
        super().__init__(gateway, recipient, patience)
        self._root = root

    def payload(self, document: dict[str, Any]) -> bytes:
        """A table if there are rows, else JSON."""
        text = table(document) if document.get("series") else json.dumps(document)
        return gzip.compress(text.encode(), mtime=0)

    def deliver(self, document: dict[str, Any], payload: bytes) -> Reply:
        """Write a file, and wait for its answer."""
        answer = self._root / "out" / f"{self._name(document)}.receipt.json"
        answer.unlink(missing_ok=True)
        self.send_only(document, payload)
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            if answer.exists():
                return Reply(json.loads(answer.read_text()))
            time.sleep(0.01)
        return Reply(None)

    def send_only(self, document: dict[str, Any], payload: bytes) -> None:
        """Write a file under another name, and rename it."""
        path = self._root / "in" / self._name(document)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(payload)
        part.replace(path)

    def _name(self, document: dict[str, Any]) -> str:
        id_ = f"{self.gateway}_{self.recipient}_{document['epoch']}_{document['seq']}"
        return f"{id_}.{'csv' if document.get('series') else 'json'}.gz"


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
        yield FolderLink(Path(endpoint), gateway, recipient, chosen.patience)
