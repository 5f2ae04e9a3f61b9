"""What a broker sends, checked while it arrives, before paho keeps any of it.

paho takes a length at its word: a packet of 250 MB fills the memory, whatever maximum was announced
(MQTT 3.1.1 cannot even announce one). It keeps every message of QoS 2 until the broker releases it,
answers whatever it is asked, and needs a second and more for thousands of properties. So what the
broker may not send to us ends the connection at the byte that shows it.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import MQTTErrorCode

if TYPE_CHECKING:
    from collections.abc import Generator

LARGEST_MESSAGE = 1_100_000
"""bytes of one message that we accept: the largest signed object has 1 MiB"""
LARGEST_OTHER = 16_384
"""bytes of any other packet, and of the properties of a message"""
LONGEST_TOPIC = 1_000
"""bytes; ours have 550 at most"""
CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
SENT_TO_US = {CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT}
"""types of packets that a broker sends to who subscribes and publishes at QoS 0 and 1"""
ANSWERS = 1_000
"""of ours that wait for a broker to read them; it may not send more than ten unacknowledged"""


class OutOfBounds(OSError):
    """The broker sends what it may not; paho then ends the connection."""


class Incoming:
    """The bytes of one connection in their order (MQTT 5.0 and 3.1.1, 2.1)."""

    def __init__(self, *, properties: bool) -> None:
        """`properties`: whether messages have them: in MQTT 5."""
        self._properties = properties
        self._packets = self._read()
        self._wanted = next(self._packets)
        """how many bytes come next: above 0 to be looked at, below 0 to be passed over"""
        self._seen = bytearray()

    def feed(self, said: bytes) -> None:
        """Look at what came next. Raises OutOfBounds."""
        at = 0
        while at < len(said):
            taken = min(len(said) - at, abs(self._wanted) - len(self._seen))
            if self._wanted < 0:
                self._wanted += taken
            else:
                self._seen += said[at : at + taken]
            at += taken
            if len(self._seen) == self._wanted:
                self._wanted = self._packets.send(bytes(self._seen))
                self._seen.clear()

    def _read(self) -> Generator[int, bytes]:
        while True:
            first = (yield 1)[0]
            size, _ = yield from _number()
            if first >> 4 != PUBLISH:
                _other(first >> 4, size)
            elif size > LARGEST_MESSAGE:
                raise OutOfBounds(f"a message of {size} bytes: at most {LARGEST_MESSAGE} are taken")
            else:
                size -= yield from self._head(first >> 1 & 3)
            if size < 0:
                raise OutOfBounds("a packet that is longer than it says")
            if size:
                yield -size

    def _head(self, qos: int) -> Generator[int, bytes, int]:
        """The bytes before a message's properties and payload, and those that count the former."""
        if qos > 1:
            raise OutOfBounds(f"a message of QoS {qos}, which nobody asked for")
        topic = int.from_bytes((yield 2))
        if topic > LONGEST_TOPIC:
            raise OutOfBounds(f"a topic of {topic} bytes: at most {LONGEST_TOPIC} are taken")
        number = 2 if qos else 0
        if topic + number:
            yield -topic - number
        if not self._properties:
            return 2 + topic + number
        size, counted = yield from _number()
        if size > LARGEST_OTHER:
            raise OutOfBounds(f"{size} bytes of properties: at most {LARGEST_OTHER} are taken")
        return 2 + topic + number + counted


def _other(kind: int, size: int) -> None:
    if kind not in SENT_TO_US:
        raise OutOfBounds(f"a packet of type {kind}, which no broker sends to us")
    if size > LARGEST_OTHER:
        raise OutOfBounds(f"an answer of {size} bytes: at most {LARGEST_OTHER} are taken")


def _number() -> Generator[int, bytes, tuple[int, int]]:
    """A number of variable length, and of how many bytes (MQTT 5.0, 1.5.5)."""
    value = 0
    for at in range(4):
        byte = (yield 1)[0]
        value |= (byte & 0x7F) << 7 * at
        if byte < 0x80:  # noqa: PLR2004 -- no more bytes follow
            return value, at + 1
    raise OutOfBounds("a length of more than four bytes")


class BoundedClient(Client):
    """paho's client, which reads nothing that is out of bounds."""

    complaint = ""
    """about what the broker sent, once it has ended the connection"""

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self._incoming = Incoming(properties=self._protocol == MQTTv5)
        self._answers = 0

    def _sock_recv(self, bufsize: int) -> bytes:
        said = super()._sock_recv(bufsize)
        try:
            self._incoming.feed(said)
        except OutOfBounds as error:
            self.complaint = str(error)
            raise
        return said

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """As paho's, but a packet that it cannot read ends the connection, not its thread."""
        try:
            return super().loop_read(max_packets)
        except Exception as error:  # noqa: BLE001 -- paho 2.1 raises whatever a packet makes it do
            self.complaint = f"a packet that cannot be read: {error!r}"
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL)

    def ack(self, mid: int, qos: int) -> MQTTErrorCode:
        """As paho's, but a broker that does not read our answers is left."""
        self._answers = self._answers + 1 if self.want_write() else 0
        if self._answers > ANSWERS:
            self.complaint = f"more, and reads none of {ANSWERS} answers of ours"
            self.hang_up()
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        return super().ack(mid, qos)

    def hang_up(self) -> None:
        """Cut the connection; its thread sees that at once."""
        wire = self.socket()
        if isinstance(wire, socket.socket):
            with suppress(OSError):  # it is cut already
                # not TLS's own, which takes the session from under paho's thread
                socket.socket.shutdown(wire, socket.SHUT_RDWR)
