"""Every parser that receives foreign bytes: how it is entered, what is right, what it may raise."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import zstandard
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from openpyxl import Workbook
from paho.mqtt.client import MQTTv5, MQTTv311
from paramiko import SSHException

from agent import local
from agent.api import backup
from agent.api import registry as registry_api
from agent.api.calls import CALLS
from agent.buffer import receipts
from agent.config import files as config_files
from agent.config.load import examine
from agent.core.errors import NotStored, Refused, UplinkLost
from agent.drivers.bacnet import codec
from agent.drivers.mbus import blocks, decode, explain, frame, telegram, value
from agent.drivers.mbus.telegram import MbusError
from agent.drivers.modbus import answer, rtu
from agent.drivers.modbus import wire as modbus_wire
from agent.drivers.modbus.stream import ByteStream
from agent.drivers.modbus.wire import TcpWire
from agent.enrolment import est, http_client
from agent.inbox import registry_adapter
from agent.registry import sheet, workbook
from agent.registry.place import mint
from agent.trust import audit, jws, strict, trust_list, verify
from agent.trust import claims as trust_claims
from agent.trust.error_codes import Forged
from agent.uplink import base
from agent.uplink.files import container, sftp
from agent.uplink.https import transport as https_transport
from agent.uplink.https.settings import Settings
from agent.uplink.https.transport import asking
from agent.uplink.mqtt import transport, wire
from agent.uplink.mqtt.wire import Hello
from agent.uplink.request_worker import Connection
from hil.ca import CA
from tests.unit.buffer.test_receipts import GOOD
from tests.unit.drivers.mbus.test_anything import REAL
from tests.unit.drivers.mbus.wire import long_frame
from tests.unit.trust.objects import RIGHT, SIGNERS, checked, claims, signed
from tests.unit.trust.test_trust_list import made
from tests.unit.uplink.test_incoming import RIGHT as PACKETS
from tests.unit.uplink.test_sftp_packets import listed, number, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Parser:
    """One way by which foreign bytes come in."""

    enter: Callable[[bytes], object]
    seeds: Sequence[bytes]
    raises: tuple[type[Exception], ...] = ()
    """what it says "no" with; nothing else may come out"""
    modules: tuple[ModuleType, ...] = ()
    """whose lines are counted"""
    most: int = 100_000
    """bytes"""


def mqtt(version: int, raw: bytes) -> None:
    """As paho's thread reads it, behind our bounds."""
    paho = wire.made(Hello("h", 1, "c", 30, "s", b"", version=version))
    paho.on_message = lambda *_: None
    near, far = socket.socketpair()
    with near, far:
        far.sendall(raw)
        far.shutdown(socket.SHUT_WR)
        near.setblocking(False)
        paho._sock = near
        for _ in range(len(raw) + 9):
            if paho.loop_read():
                break
        assert paho.socket() is None, "it has seen the end"


def http(raw: bytes) -> object:
    """As our client reads an answer to its question for objects, without the TCP."""
    settings = Settings(recipient="r.example", url="http://127.0.0.1:9", timeout=5.0)
    with asking(settings, None, "", Connection()) as far:
        pools = far._client._session.get_adapter("http://").poolmanager.pool_classes_by_scheme
        ends = []

        class Paired(pools["http"].ConnectionCls):
            def connect(self) -> None:
                self.sock, there = socket.socketpair()
                there.sendall(raw)
                there.shutdown(socket.SHUT_WR)
                ends.append(there)

        pools["http"].ConnectionCls = Paired
        try:
            return far.objects()
        finally:
            for one in ends:
                one.close()


class Channel:
    """An SFTP server that has said everything before it was asked."""

    closed = False

    def __init__(self, raw: bytes) -> None:
        self._raw = io.BytesIO(raw)

    def recv(self, size: int) -> bytes:
        return self._raw.read(size)

    def send(self, said: bytes) -> int:
        return len(said)

    def get_transport(self) -> Any:
        return SimpleNamespace(is_active=lambda: True, getpeername=lambda: ("h", 1))

    def get_name(self) -> str:
        return "c"

    def close(self) -> None:
        pass


def files(raw: bytes) -> None:
    """As our client reads an SFTP server's answers."""
    address = SimpleNamespace(host="h", path="")
    far = sftp.Sftp(SimpleNamespace(left=0, endless=False), Channel(raw), address)
    for ask in (partial(far.entries, "out"), partial(far.entry, "x"), partial(far.read, "x", 999)):
        try:
            ask()
        except NotStored:
            continue


OPENING = (OSError, EOFError, SSHException, *sftp.GARBLED)
"""what `connected` turns into words while it opens a server"""


def packed(kind: int, *parts: bytes) -> bytes:
    body = bytes((kind,)) + b"".join(parts)
    return number(len(body)) + body


def sftp_seeds() -> list[bytes]:
    """Version 3; a folder of two files; the facts of one; and its content."""
    facts = number(1 | 8) + bytes(8) + number(1) + number(2)
    names = listed([(b"a.jwt", b"-rw", facts), (b"b", b"", number(0))])
    ok = [number(0), text(b""), text(b"")]
    names = names[:1] + number(2) + names[5:]
    said = [
        packed(2, number(3)),
        packed(102, number(1), text(b"h")),
        number(len(names)) + names,
        packed(101, number(3), number(1), text(b"eof"), text(b"")),
        packed(101, number(4), *ok),
        packed(105, number(5), facts),
        packed(102, number(6), text(b"h")),
        packed(105, number(7), facts),
        packed(103, number(8), text(b"content")),
        packed(101, number(9), number(1), text(b""), text(b"")),
        packed(101, number(10), *ok),
    ]
    return [
        b"".join(said),
        b"".join(said[:5]),
        said[0] + packed(101, number(1), number(3), *ok[1:]),
    ]


def socket_call(raw: bytes) -> None:
    """A request at the local door, up to the call that it makes."""
    asked = local._parsed(raw)
    if not isinstance(asked, dict):
        raise Refused("no object")
    local._sizes(asked)
    name, arguments = asked.get("call"), asked.get("args") or {}
    if isinstance(name, str) and name in CALLS and isinstance(arguments, dict):
        registry_api.fit(CALLS[name], arguments)


def words(raw: bytes) -> None:
    """What a platform says beside receipts."""
    transport.all_sent(raw, "G/1/B")
    base.held(raw, "G1", "r.example")


def batch_file(raw: bytes, folder: Path) -> None:
    path = folder / "batch"
    path.write_bytes(raw)
    container.unsealed(path, None)


def modbus_tcp(raw: bytes) -> None:
    stream = ByteStream("host")
    wire = TcpWire(stream, 1.0)
    wire._transaction = 1
    answer.in_step(raw)
    stream.received += raw
    for request in (bytes((3, 0, 0, 0, 2)), bytes((6, 0, 1, 0, 2))):
        while found := wire._frame():
            if (said := answer.checked(request, found[1], 0.0)).pdu:
                answer.cells(said.pdu, 2)
            answer.of_another(found[0], found[1], 0.0)


def modbus_rtu(raw: bytes) -> None:
    request = bytes((3, 0, 0, 0, 2))
    debts = modbus_wire.LateResponses()
    debts.asked(1, request, 0.0)
    debts.settle(raw)
    rtu.asked_in(raw, rtu.framed(1, request))
    rtu.began_in(raw, 1, request)
    for unit in (1, 9):
        heard = rtu.find(raw, unit, request)
        if heard.pdu and (said := answer.checked(request, heard.pdu, 0.0)).pdu:
            answer.cells(said.pdu, 2)


def bacnet(raw: bytes) -> None:
    requested = codec.Ref(codec.ObjectId(0, 1), 85)
    for read in (
        codec.i_am,
        codec.notification,
        partial(codec.read_answer, requested=requested),
        codec.read_multiple_answer,
        codec.error,
        lambda data: codec.items(codec.tags(data)),
    ):
        try:
            read(raw)
        except codec.GarbledError:
            continue


def vouched(raw: bytes) -> None:
    """A right key has signed any claims: what a member of the building may do."""
    typ = sorted(RIGHT)[sum(raw[:9]) % len(RIGHT)]
    signer = SIGNERS[RIGHT[typ][0]]
    head = json.dumps({"alg": "EdDSA", "kid": signer.kid, "typ": typ}).encode()
    text = f"{strict.encoded(head)}.{strict.encoded(raw)}"
    checked(f"{text}.{strict.encoded(signer.private.sign(text.encode()))}".encode())


COLUMNS = {"label": "label", "type": "type", "since": "since", "id": "id"}


def table(raw: bytes) -> None:
    """A spreadsheet or CSV as a list of places is read."""
    found = workbook.text_of(raw, "list")
    sheet.read(found, "list", COLUMNS, ("label",))
    sheet.unread(found, "list", COLUMNS)


def workbook_seed() -> bytes:
    made, out = Workbook(), io.BytesIO()
    for row in (("label", "type", "since"), ("A-1", "dwelling", "2026-01-01"), ("A-2", 3, 1.5)):
        made.active.append(row)
    made.save(out)
    return out.getvalue()


def building(raw: bytes) -> None:
    backup._read(raw)


def compressed(enter: Callable[[bytes], object], how: Callable[[bytes], bytes]) -> Any:
    """Mutate what is inside."""
    return lambda raw: enter(how(raw))


BATCH = json.dumps(
    {"schema": "gardien/batch/1", "gateway": "G1", "recipient": "r.example", "epoch": "e", "seq": 1,
     "lane": "live", "created": "2026-01-01T00:00:00Z", "clock": "ok", "policy": "MDP-1",
     "privacy": "FR-1",
     "series": [{"place": "D1", "channel": "heat", "kind": "reg", "unit": "kWh", "step": 60,
                 "t0": "2026-01-01T00:00:00Z", "t": [0, 60, 120], "v": [1.5, 2e3, None],
                 "q": ["G", "G", "M"], "d": {"1": 3}, "reason": {"2": "silent"}}]}
).encode()  # fmt: skip
OBJECT = base64.b64encode(signed("dr-revoke+jwt")).decode()
BUILDING = json.dumps(
    {"schema": backup.SCHEMA, "gateway": mint("G"), "made": "2026-01-01T00:00:00Z",
     "revision": 3, "registry": None, "trust": None, "revoked": [], "taken_back": [],
     "versions": [], "waiting": [{"via": "r.example", "object": OBJECT}],
     "files": {"config.yaml": "building: {name: a}"}}
).encode()  # fmt: skip
YAML = b"""\
building: {name: Test, timezone: Europe/Paris}
links:
  hall: {driver: modbus-tcp, host: 127.0.0.1, port: 1502, timeout: 2s}
devices:
  m-1: {link: hall, address: 1, profile: eastron-sdm120}
uplinks:
  centre: {recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}
clock: {source: system}
"""
CSV = 'label;type;since\nA-1;dwelling;2026-01-01\n"A;2";common;\nÀ-3;dwelling;01.02.2026\n'
WORDS = (
    {"schema": "gardien/objects-end/1", "audience": "G/1/B"},
    {"schema": base.RECEIPT, "gateway": "G1", "recipient": "r.example", "sha256": "00"},
)
MAP = (
    "place_id;type;parent;label;scheme;value;valid_from;valid_to\n"
    "D84G7ZWYRD6Z1GQ;D;;A-3-12;lease;L-1;2026-01-01T00:00:00Z;\n"
    "D84G7ZWYRD6Z1GQ;dwelling;;A-3-12;other;x;;2027-01-01T00:00:00Z\n"
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PAGE = b'{"objects": [{"cursor": "1", "object": "a.b.c"}, {"cursor": "2", "object": "\\ud800"}]}'
CHUNKS = b"".join(
    b"%x\r\n%b\r\n" % (len(PAGE[n : n + 9]), PAGE[n : n + 9]) for n in range(0, 90, 9)
)
ANSWERS = (
    HEAD + b"Content-Length: %d\r\n\r\n" % len(PAGE) + PAGE,
    HEAD
    + b"Transfer-Encoding: chunked\r\nGardien-Objects: 2\r\n\r\n"
    + CHUNKS
    + b"0\r\nA: b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nRetry-After: 120\r\nLocation: /x\r\n\r\n",
    HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(PAGE),
)
RTU = rtu.framed(1, bytes((3, 4, 0, 1, 0, 2)))
TCP = bytes((0, 1, 0, 0, 0, 7, 1, 3, 4, 0, 1, 0, 2))
BACNET = (
    "0c000000011e29554e4441a400004f296f4e8204004f1f", "c4020004b122059691002105",
    "0912 1c020004b1 2c00000001 39 00 4e 0955 2e 4441a40000 2f 096f 2e 8204002f 4f",
    "0c000000011955 3e4441a400003f", "9101 9120", "1e0c00000001 5e 9102 911f 5f 1f",
)  # fmt: skip


def parsers(folder: Path) -> dict[str, Parser]:
    """All of them, by name."""
    ca = CA()
    der = serialize_certificates([ca.certificate], Encoding.DER)
    gzipped, zipped = gzip.compress, zstandard.ZstdCompressor().compress
    objects = [signed(typ) for typ in RIGHT]
    batch = partial(batch_file, folder=folder)
    calls = [
        {"call": "place.new", "args": {"label": "A", "type": "dwelling"}},
        {"call": "scan", "args": {"link": "h", "expected": ["1"]}, "files": {"text": 20}},
        {"call": "backup", "args": {"certificate": "c", "files": {"a": "b"}}},
        {"call": "meter.load", "args": {"place": "A", "channel": "c", "seconds": 6.5}},
    ]
    five = b"".join(one for one in PACKETS if len(one) < 500)
    four = five.replace(b"\x20\x03\0\0\0", b"\x20\x02\0\0")
    return {
        "MQTT 5": Parser(
            partial(mqtt, MQTTv5), [five, *PACKETS], modules=(wire,), most=150_000
        ),
        "MQTT 3.1.1": Parser(partial(mqtt, MQTTv311), [four], modules=(wire,), most=150_000),
        "HTTP answers": Parser(http, ANSWERS, (UplinkLost,), (https_transport, http_client)),
        "SFTP answers": Parser(
            files, sftp_seeds(), (UplinkLost, *OPENING), (sftp, sftp),
        ),
        "receipts": Parser(
            receipts.parse, [json.dumps(GOOD).encode()], (ValueError,), (receipts, strict)
        ),
        "words of the platform": Parser(
            words,
            [json.dumps(one).encode() for one in WORDS], (), (transport, base),
        ),
        "signed objects": Parser(
            checked, objects, (Forged,), (jws, strict, verify, trust_claims, audit)
        ),
        "claims": Parser(
            vouched, [json.dumps(claims(typ)).encode() for typ in RIGHT], (Forged,), (trust_claims,)
        ),
        "place maps": Parser(
            lambda raw: registry_adapter.read_map(raw.decode("utf-8", "replace"), "map", ()),
            [MAP.encode()], (Refused,), (registry_adapter, sheet),
        ),
        "trust lists": Parser(trust_list.read, [made()], (Forged,), (trust_list, strict)),
        "local socket": Parser(
            socket_call,
            [json.dumps(one).encode() for one in calls],
            (Refused,),
            (registry_api, local),
        ),
        "EST answers": Parser(
            lambda raw: est._certificates(base64.b64encode(raw)), [der], (Refused,), (est,)
        ),
        "EST answers in base64": Parser(
            est._certificates, [base64.encodebytes(der)], (Refused,), (est,)
        ),
        "batch files": Parser(
            batch, [zipped(BATCH), gzipped(BATCH)], (Refused,), (container,)
        ),
        "batch texts": Parser(
            compressed(batch, zipped),
            [BATCH, b"batch;row;value\nG1/r.example/e/1;1;2\n", b"batch;row;batch\nG1/r/e/1;1\n"],
            (Refused,), (container,),
        ),
        "building files": Parser(building, [gzipped(BUILDING)], (Refused,), (backup,)),
        "building texts": Parser(
            compressed(building, partial(gzipped, compresslevel=1)), [BUILDING], (Refused,),
            (backup,),
        ),
        "Modbus TCP": Parser(
            modbus_tcp, [TCP, TCP * 2, TCP[:7] + b"\x83\2"], (), (modbus_wire, answer)
        ),
        "Modbus RTU": Parser(
            modbus_rtu, [RTU, RTU * 2, rtu.framed(1, b"\x83\2"), rtu.framed(9, RTU[1:-2])], (),
            (rtu, modbus_wire, answer),
        ),
        "M-Bus frames": Parser(
            lambda raw: list(explain.explained(raw)), [long_frame(REAL)], (MbusError,),
            (frame, decode, explain),
        ),
        "M-Bus telegrams": Parser(
            lambda raw: decode.decode(long_frame(raw[:252])), [REAL], (MbusError,),
            (decode, blocks, blocks, telegram, value),
        ),
        "BACnet": Parser(
            bacnet, [bytes.fromhex(one) for one in BACNET], (), (codec, codec), most=1_500
        ),
        "CSV": Parser(
            table, [CSV.encode(), CSV.encode("utf-16"), CSV.encode("cp1252")], (Refused,),
            (sheet, workbook),
        ),
        "xlsx": Parser(table, [workbook_seed()], (Refused,), (workbook,)),
        "YAML": Parser(
            lambda raw: examine(raw.decode("utf-8", "replace"), "config.yaml"),
            [YAML],
            (),
            (config_files,),
            most=20_000,
        ),
    }  # fmt: skip


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Where files lie; in memory, if there is such a place."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
