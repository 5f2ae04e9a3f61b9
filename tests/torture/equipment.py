"""Equipment as seen from its own side: a Modbus TCP slave and a BACnet/IP device on loopback.

Written from the specifications (Modbus Messaging on TCP/IP V1.0b; ASHRAE 135, clauses 15, 20 and
annex J), so that it agrees with the agent by right or not at all. Every read of a meter serves a
value that was never served before, and notes when: so a row that arrives names the read it is of.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REST = 210
"""tenths of a degree in the register while nobody commands it"""
DEVICE, SETPOINT, METER, DUCT = 1201, (2, 7), (0, 1), (0, 4)
"""BACnet: the device; its commandable analog-value, and two analog-inputs"""
CELSIUS, KWH = 62, 19
VALUE, UNITS, PRIORITIES, DEFAULT, FLAGS = 85, 117, 87, 104, 111
NO_DEFAULT = {(METER, DEFAULT), (DUCT, DEFAULT)}
UNKNOWN, DENIED = 32, 40
"""error codes: unknown property, write access denied"""
Tag = tuple[int, bool, bytes]
"""number, whether of a context, and content; `open` and `close` stand for brackets"""
NULL = b"\x00"


@dataclass
class Equipment:
    """What the meters served and when, and what is commanded now."""

    served: dict[str, dict[int, float]] = field(default_factory=dict)
    """by meter: value to the Unix time at which it was served"""
    register: int = REST
    slots: list[bytes] = field(default_factory=lambda: [NULL] * 16)
    """the priority array, each entry as tagged on the wire"""
    changed: threading.Condition = field(default_factory=threading.Condition)
    writes: deque[tuple[float, str, bool]] = field(default_factory=lambda: deque(maxlen=20))
    """the last ones: monotonic time, bus, and whether it is held from then on"""
    freed: dict[str, float] = field(default_factory=dict)
    """by bus: the monotonic time of the write that gave it back last"""
    ports: dict[str, int] = field(default_factory=dict)

    def serve(self, meter: str) -> int:
        values = self.served.setdefault(meter, {})
        value = len(values) + 1
        values[value] = time.time()
        return value

    @property
    def held(self) -> dict[str, bool]:
        return {"modbus": self.register != REST, "bacnet": self.slots != [NULL] * 16}

    def command(self, bus: str, write: Callable[[], None]) -> None:
        with self.changed:
            before = self.held[bus]
            write()
            self.writes.append((time.monotonic(), bus, self.held[bus]))
            if before and not self.held[bus]:
                self.freed[bus] = time.monotonic()
            self.changed.notify_all()

    def wait(self, held: bool, within: float) -> bool:
        """Until both are held, or both are free."""
        with self.changed:
            return self.changed.wait_for(
                lambda: list(self.held.values()) == [held, held], timeout=within
            )

    # Modbus: units 1 and 2 are meters, unit 3 is a boiler

    def cell(self, unit: int, address: int) -> int:
        return {10: self.register & 0xFFFF, 20: 200}.get(address, 0) if unit == 3 else 0

    def modbus(self, unit: int, pdu: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", pdu[:5])
        if function == 3:
            if unit in {1, 2} and (address, count) == (0, 2):
                cells = struct.pack(">I", self.serve(f"modbus-{unit}"))
            else:
                cells = b"".join(
                    struct.pack(">H", self.cell(unit, address + n)) for n in range(count)
                )
            return bytes((3, len(cells))) + cells
        if function in {6, 16} and unit == 3 and address == 10:
            (value,) = struct.unpack(">h", pdu[3:5] if function == 6 else pdu[6:8])
            self.command("modbus", lambda: setattr(self, "register", value))
            return pdu[:5]
        return bytes((function | 0x80, 2))

    # BACnet

    def property(self, thing: tuple[int, int], name: int, index: int | None) -> bytes | None:
        """Tagged as on the wire; None: unknown."""
        if thing == SETPOINT and name == VALUE:
            return next((one for one in self.slots if one != NULL), real(21.0))
        if thing == SETPOINT and name == PRIORITIES:
            entries = [b"\x21\x10", *self.slots]  # 0 says how many there are
            return b"".join(self.slots) if index is None else entries[index]
        if thing == METER and name == VALUE:
            return real(self.serve("bacnet"))
        if thing == DUCT and name == VALUE:
            return real(20.0)
        units = {METER: KWH, DUCT: CELSIUS, SETPOINT: CELSIUS}.get(thing, 95)
        known = {UNITS: enumerated(units), FLAGS: b"\x82\x04\x00", DEFAULT: real(21.0)}
        return known.get(name) if units != 95 and (thing, name) not in NO_DEFAULT else None

    def bacnet(self, apdu: bytes) -> bytes | None:
        """The answer to one request, if it wants one."""
        if apdu[:2] == b"\x10\x08":  # Who-Is
            return b"\x10\x00" + b"\xc4" + identifier((8, DEVICE)) + b"\x22\x05\xc4\x91\x03\x21\x00"
        if apdu[0] & 0xF0 != 0:
            return None
        invoke, service, body = apdu[2], apdu[3], apdu[4:]
        answer = {12: self._read, 14: self._multiple, 15: self._write}.get(service)
        if answer is None:
            return bytes((0x60, invoke, 9))  # reject: unrecognized service
        found = answer(body, list(tags(body)))
        if isinstance(found, int):
            return bytes((0x50, invoke, service, 0x91, 2, 0x91, found))  # class: property
        head = 0x30 if found else 0x20
        return bytes((head, invoke, service)) + found

    def _read(self, body: bytes, items: list[Tag]) -> bytes | int:
        value = self.property(*reference(items))
        # the request's own reference comes first in the answer
        return UNKNOWN if value is None else body + b"\x3e" + value + b"\x3f"

    def _multiple(self, _: bytes, items: list[Tag]) -> bytes | int:
        out, thing = b"", (0, 0)
        for n, (number, context, data) in enumerate(items):
            if data in {b"open", b"close"}:
                out += b"\x1e" if data == b"open" else b"\x1f"
            elif context and number == 0 and len(data) == 4 and not _inside(items, n):
                thing, out = split(data), out + b"\x0c" + data
            elif number == 0:
                name = int.from_bytes(data, "big")
                after = items[n + 1]
                index = int.from_bytes(after[2], "big") if _indexed(after) else None
                out += bytes((0x28 | len(data),)) + data
                if index is not None:
                    out += bytes((0x38 | len(after[2]),)) + after[2]
                value = self.property(thing, name, index)
                out += b"\x5e\x91\x02\x91\x20\x5f" if value is None else b"\x4e" + value + b"\x4f"
        return out

    def _write(self, _: bytes, items: list[Tag]) -> bytes | int:
        thing, name, _index = reference(items)
        begin, end = (
            next(n for n, item in enumerate(items) if item[::2] == (3, word))
            for word in (b"open", b"close")
        )
        number, _context, data = items[begin + 1]
        assert end == begin + 2, "one value"
        value = NULL if number == 0 else b"\x44" + data
        priority = int.from_bytes(items[end + 1][2], "big") if len(items) > end + 1 else 16
        if (thing, name) != (SETPOINT, VALUE):
            return DENIED
        self.command("bacnet", lambda: self.slots.__setitem__(priority - 1, value))
        return b""


def _inside(items: list[Tag], n: int) -> bool:
    """Whether item n stands between an opening and a closing tag."""
    marks = [data for _, _, data in items[:n] if data in {b"open", b"close"}]
    return marks[-1:] == [b"open"]


def _indexed(item: tuple[int, bool, bytes]) -> bool:
    number, context, data = item
    return context and number == 1 and data not in {b"open", b"close"}


def tags(data: bytes) -> Iterator[Tag]:
    at = 0
    while at < len(data):
        first = data[at]
        number, context, length = first >> 4, bool(first & 8), first & 7
        at += 1
        if context and length > 5:
            yield number, True, b"open" if length == 6 else b"close"
            continue
        if length == 5:
            length, at = data[at], at + 1
        yield number, context, data[at : at + length]
        at += length


def reference(items: list[Tag]) -> tuple[tuple[int, int], int, int | None]:
    index = None
    if len(items) > 2 and items[2][0] == 2:
        index = int.from_bytes(items[2][2], "big")
    return split(items[0][2]), int.from_bytes(items[1][2], "big"), index


def identifier(thing: tuple[int, int]) -> bytes:
    return (thing[0] << 22 | thing[1]).to_bytes(4, "big")


def split(data: bytes) -> tuple[int, int]:
    whole = int.from_bytes(data, "big")
    return whole >> 22, whole & 0x3FFFFF


def real(value: float) -> bytes:
    return b"\x44" + struct.pack(">f", value)


def enumerated(value: int) -> bytes:
    return bytes((0x91, value))


@contextmanager
def equipment() -> Iterator[Equipment]:
    """Both buses, on ports of their own."""
    made = Equipment()

    class Slave(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while len(head := self.rfile.read(7)) == 7:
                    transaction, _, length, unit = struct.unpack(">HHHB", head)
                    answer = made.modbus(unit, self.rfile.read(length - 1))
                    self.wfile.write(
                        struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer
                    )

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Slave)
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("127.0.0.1", 0))

    def listen() -> None:
        while (packet := line.recvfrom(1500))[0] != b"end":
            data, sender = packet
            # 0x81, function, length; version, control: on one network and without routers
            if data[:1] == b"\x81" and data[4:5] == b"\x01" and not data[5] & 0x28:
                apdu = data[6:]
            elif data[:1] == b"\x81" and data[5] & 0x20:  # to everybody: network, length, hops
                apdu = data[10 + data[8] :]
            else:
                continue
            if answer := made.bacnet(apdu):
                frame = b"\x01\x00" + answer
                line.sendto(b"\x81\x0a" + struct.pack(">H", len(frame) + 4) + frame, sender)

    threads = [threading.Thread(target=server.serve_forever), threading.Thread(target=listen)]
    made.ports = {"modbus": server.server_address[1], "bacnet": line.getsockname()[1]}
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        line.sendto(b"end", line.getsockname())
        for thread in threads:
            thread.join()
        server.server_close()
        line.close()
