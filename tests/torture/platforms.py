"""A platform for each transport, each with an exact ledger of the rows that it received.

They know docs/platform.md and nothing else: batches are opened with zstd and json, files with
openssl and csv, and what is answered is written by hand.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import http.server
import io
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import paho.mqtt.client as paho
import zstandard
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

if TYPE_CHECKING:
    from collections.abc import Iterator

Key = tuple[str, str, str, int, int]
"""place, channel, kind, step and slot"""
FRESH = 3
"""orders that are kept for a gateway to fetch: those before have expired"""
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def moment(words: str) -> int:
    return int(datetime.fromisoformat(words).timestamp())


@dataclass
class Ledger:
    """What one platform holds: batches by their id, rows by their identity."""

    recipient: str
    batches: dict[tuple[str, int], str] = field(default_factory=dict)
    rows: dict[Key, dict[int, tuple[Decimal | None, str, bool]]] = field(default_factory=dict)
    """by identity and version: the value, or none and why; whether it was marked `again`"""
    since: dict[tuple[str, str], int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """what docs/platform.md says must not come"""
    audience: str = ""
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, raw: bytes, batch: dict[str, Any], rows: list[dict[str, Any]]) -> bytes:
        """Store a batch and its rows in one step; the receipt."""
        name, seq = (batch["epoch"], batch["seq"]), batch["seq"]
        digest = hashlib.sha256(raw).hexdigest()
        with self.lock:
            if batch["recipient"] != self.recipient:
                self.faults.append(f"a batch for {batch['recipient']}")
            if name not in self.batches:
                self.batches[name] = digest
                self._store(batch, rows, name)
            elif self.batches[name] != digest:
                self.faults.append(f"other bytes under {name}")
            else:
                self.counts["copies"] += 1
        return json.dumps({
            "schema": "gardien/receipt/1", "gateway": batch["gateway"],
            "recipient": self.recipient, "epoch": batch["epoch"],
            "stored": [[seq, self.batches[name]]],
        }).encode()  # fmt: skip

    def _store(self, batch: dict[str, Any], rows: list[dict[str, Any]], name: Any) -> None:
        if batch.get("void") or batch.get("retract"):
            self.faults.append(f"nobody has withdrawn anything: {batch}")
        self.counts["in memory" if batch.get("kept") else "on disk"] += 1
        directory = batch.get("directory", {})
        for one in directory.get("series", []):
            self.since.setdefault((one["place"], one["channel"]), moment(one["since"]))
        self.outcomes += directory.get("outcomes", [])
        for row in rows:
            for n in range(row["span"]):
                key = (*row["key"], row["t"] + n * row["step"])
                held = self.rows.setdefault(key, {})
                entry = (row["value"], row["why"], row["again"])
                if row["ver"] not in held:
                    held[row["ver"]] = entry
                elif not row["again"] and not held[row["ver"]][2]:
                    self.faults.append(f"{key} twice, the second time in {name}")


def of_json(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a batch."""
    rows = []
    for series in batch.get("series", []):
        start = moment(series["t0"])
        for n, (t, value) in enumerate(zip(series["t"], series["v"], strict=True)):
            index = str(n)
            rows.append({
                "key": tuple(series[word] for word in ("place", "channel", "kind", "step")),
                "step": series["step"], "t": start + t, "value": value,
                "why": series.get("why", {}).get(index, ""),
                "span": series.get("span", {}).get(index, 1),
                "ver": series.get("ver", {}).get(index, 0), "again": series.get("again", False),
            })  # fmt: skip
    return rows


def of_csv(table: str) -> list[dict[str, Any]]:
    """The same, of a file."""
    return [
        {
            "key": (row["place"], row["channel"], row["kind"], int(row["step"])),
            "step": int(row["step"]), "t": moment(row["t_end"]),
            "value": Decimal(row["value"]) if row["value"] else None, "why": row["why"],
            "span": int(row["span"] or 1), "ver": int(row["ver"] or 0),
            "again": row["again"] == "1",
        }
        for row in csv.DictReader(io.StringIO(table), delimiter=";")
    ]  # fmt: skip


def opened(raw: bytes) -> dict[str, Any]:
    text = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    return json.loads(text, parse_float=Decimal, parse_int=int)


def free_port() -> int:
    """One that nobody is given by chance while we are away: below the ports of connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < end, f"nothing listens on {port}"
        time.sleep(0.02)


def kill(process: subprocess.Popen[bytes]) -> None:
    """With its children, each by its id."""
    for pid in children(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [one for child in map(int, found.split()) for one in (child, *children(child))]


class Mqtt:
    """A mosquitto that keeps nothing, and who reads from it. Away: the broker is dead."""

    name = "mqtt"

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger("one.example")
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\npersistence false\nallow_anonymous true\nuser root\n"
            "log_dest none\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.gateway = ""
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, "platform", protocol=paho.MQTTv5)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda *_: client.subscribe(
            [("gardien/+/one.example/up/+", 1), ("gardien/+/one.example/status", 1)]
        )
        client.on_message = self.heard
        self.client = client

    def start(self) -> None:
        self.back()
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 7 * 86_400
        self.client.connect("127.0.0.1", self.port, clean_start=False, properties=session)
        self.client.loop_start()

    def heard(self, client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        _, gateway, _, kind, *_ = message.topic.split("/")
        if kind == "status":
            said = json.loads(message.payload or b"{}")
            self.ledger.audience = said.get("audience") or self.ledger.audience
            return
        batch = opened(message.payload)
        if batch["gateway"] != gateway:
            self.ledger.faults.append(f"{batch['gateway']} in the topic of {gateway}")
        self.gateway = gateway
        receipt = self.ledger.take(message.payload, batch, of_json(batch))
        client.publish(f"gardien/{gateway}/one.example/down/receipts", receipt, qos=1)

    def order(self, raw: bytes) -> None:
        self.client.publish(f"gardien/{self.gateway}/one.example/down/objects", raw, qos=1)

    def away(self) -> None:
        if self.process is not None:
            kill(self.process)
            self.process = None

    def back(self) -> None:
        if self.process is None:
            self.process = subprocess.Popen(
                [*DIES_WITH_US, "/usr/sbin/mosquitto", "-c", self.config],
                stderr=subprocess.DEVNULL,  # that it runs as root: else it would outlive us
            )
            accepts(self.port)

    def end(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.away()

    def config_lines(self) -> str:
        return (
            "  one: {recipient: one.example, transport: mqtt, seal: 500ms,"
            f' url: "mqtt://127.0.0.1:{self.port}"}}\n'
        )


class Https:
    """A web server that wants the gateway's certificate. Away: nobody listens."""

    name = "https"

    def __init__(self, certificates: Path) -> None:
        self.ledger = Ledger("two.example")
        self.certificates, self.port = certificates, free_port()
        self.server: http.server.ThreadingHTTPServer | None = None
        self.orders: list[bytes] = []

    def start(self) -> None:
        self.back()

    def back(self) -> None:
        if self.server is not None:
            return
        platform = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def answer(self, status: int, body: bytes = b"") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def body(self) -> bytes:
                return self.rfile.read(int(self.headers["Content-Length"]))

            def do_POST(self) -> None:
                raw = self.body()
                batch = opened(raw)
                (names,) = [
                    dict(one).get("commonName") for one in self.connection.getpeercert()["subject"]
                ]
                if names != batch["gateway"]:
                    platform.ledger.faults.append(f"{names} delivers for {batch['gateway']}")
                self.answer(200, platform.ledger.take(raw, batch, of_json(batch)))

            def do_PUT(self) -> None:
                self.body()
                self.answer(204)

            def do_GET(self) -> None:
                after = parse_qs(urlsplit(self.path).query).get("after", ["0"])[0]
                found = list(enumerate(platform.orders, 1))[int(after or 0) :][-FRESH:]
                said = [{"cursor": str(n), "object": raw.decode()} for n, raw in found]
                self.answer(200, json.dumps({"objects": said}).encode())

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Who was killed in the middle hangs up."""

        server = Server(("127.0.0.1", self.port), Handler)
        context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=str(self.certificates / "ca.pem")
        )
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificates / "server.pem")
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.server = server
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def order(self, raw: bytes) -> None:
        self.orders.append(raw)

    def away(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def end(self) -> None:
        self.away()

    def config_lines(self) -> str:
        return (
            "  two: {recipient: two.example, transport: https, seal: 500ms, poll: 500ms,"
            f' url: "https://localhost:{self.port}", ca: {self.certificates / "ca.pem"}}}\n'
        )


SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {keys}/host
PidFile none
AuthorizedKeysFile {keys}/gateway.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
ForceCommand internal-sftp -d {root}
PerSourcePenalties no
MaxStartups 100
LogLevel QUIET
"""


class Sftp:
    """A real sshd, and who looks into the folder. Away: sshd is dead, and nobody looks."""

    name = "sftp"

    def __init__(self, folder: Path, certificates: Path) -> None:
        self.ledger = Ledger("three.example")
        self.certificates, self.port, self.folder = certificates, free_port(), folder
        self.keys, self.root = folder / "keys", folder / "root"
        (self.root / "out/objects").mkdir(parents=True)
        (self.root / "in").mkdir()
        self.keys.mkdir()
        for name in ("host", "gateway"):
            words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f")
            subprocess.run([*words, self.keys / name], check=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.ended, self.present = threading.Event(), threading.Event()
        self.numbers = 0
        self.reader = threading.Thread(target=self.read, daemon=True)

    def start(self) -> None:
        config = self.keys / "sshd_config"
        config.write_text(SSHD.format(port=self.port, keys=self.keys, root=self.root))
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.back()
        self.reader.start()

    def read(self) -> None:
        while not self.ended.wait(0.2):
            if self.present.is_set():
                for path in sorted((self.root / "in").iterdir()):
                    if path.suffix != ".part":
                        self.fetch(path)

    def fetch(self, path: Path) -> None:
        if path.name.endswith(".status.json.gz.p7m"):
            path.unlink()
            return
        raw = path.read_bytes()
        gateway, recipient, epoch, last = path.name.split("_")
        seq, kind = last.split(".")[:2]
        text = self.unsealed(raw, gateway).decode()
        batch: dict[str, Any] = {
            "gateway": gateway, "recipient": recipient, "epoch": epoch, "seq": int(seq)
        }  # fmt: skip
        if kind == "csv":
            rows = of_csv(text)
            wrong = {row["batch"] for row in csv.DictReader(io.StringIO(text), delimiter=";")}
            if wrong != {f"{gateway}/{recipient}/{epoch}/{seq}"}:
                self.ledger.faults.append(f"{wrong} in {path.name}")
        else:
            rows, inside = [], json.loads(text, parse_float=Decimal)
            if {word: inside[word] for word in batch} != batch:
                self.ledger.faults.append(f"another batch in {path.name}")
            batch = inside
        receipt = self.ledger.take(raw, batch, rows)
        part = self.root / "out" / f"{path.name}.part"
        part.write_bytes(receipt)
        part.rename(self.root / "out" / f"{path.name}.receipt.json")
        path.unlink()

    def unsealed(self, raw: bytes, gateway: str) -> bytes:
        """As docs/platform.md opens a file."""
        here, signer = self.certificates, self.folder / "signer.pem"
        key = here / "platform.pem"
        inner = subprocess.run(
            ["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", key, "-recip", key],
            input=raw, check=True, capture_output=True,
        ).stdout  # fmt: skip
        packed = subprocess.run(
            ["openssl", "cms", "-verify", "-inform", "DER", "-CAfile", here / "ca.pem",
             "-no_check_time", "-signer", signer],
            input=inner, check=True, capture_output=True,
        ).stdout  # fmt: skip
        if f"CN = {gateway}" not in (said := subject(signer)) and f"CN={gateway}" not in said:
            self.ledger.faults.append(f"{said} signs for {gateway}")
        return gzip.decompress(packed)

    def order(self, raw: bytes) -> None:
        self.numbers += 1
        part = self.root / "out" / "order.part"
        part.write_bytes(raw)
        objects = self.root / "out/objects"
        part.rename(objects / f"{self.numbers:06d}.jwt")
        (objects / f"{self.numbers - FRESH:06d}.jwt").unlink(missing_ok=True)

    def away(self) -> None:
        self.present.clear()
        if self.process is not None:
            kill(self.process)
            self.process = None

    def back(self) -> None:
        if self.process is None:
            words = ("/usr/sbin/sshd", "-D", "-e", "-f", self.keys / "sshd_config")
            self.process = subprocess.Popen([*DIES_WITH_US, *words])
            accepts(self.port)
        self.present.set()

    def end(self) -> None:
        self.ended.set()
        self.reader.join()
        self.away()

    def config_lines(self) -> str:
        host = " ".join((self.keys / "host.pub").read_text().split()[:2])
        return (
            "  three: {recipient: three.example, transport: files, seal: 500ms, poll: 500ms,"
            f' url: "sftp://root@127.0.0.1:{self.port}{self.root}/", host_key: "{host}",'
            f' key: "file:{self.keys / "gateway"}",'
            f" encrypt_for: [{self.certificates / 'platform.crt'}]}}\n"
        )


def subject(path: Path) -> str:
    words = ["openssl", "x509", "-in", path, "-noout", "-subject"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


Platform = Mqtt | Https | Sftp


@contextmanager
def platforms(folder: Path, certificates: Path) -> Iterator[tuple[Platform, ...]]:
    """All three."""
    made = (Mqtt(folder), Https(certificates), Sftp(folder, certificates))
    try:
        for one in made:
            one.start()
        yield made
    finally:
        for one in made:
            one.end()
