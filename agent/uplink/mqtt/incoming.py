"""Checks the bytes from a broker while they arrive, before paho stores any of them.

paho trusts lengths: a packet of 250 MB fills the memory, whatever maximum we announced (in MQTT
3.1.1 we cannot announce one). It keeps every QoS 2 message until the broker releases it, answers
every request, and needs a second or more for thousands of properties. So the first byte that shows
a packet that the broker must not send ends the connection.
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
"""bytes of one message; the largest signed object has 1 MiB"""
LARGEST_OTHER = 16_384
"""bytes of any other packet, and of the properties of a message"""
LONGEST_TOPIC = 1_000
"""bytes; our topics have 550 at most"""
CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
SENT_TO_US = {CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT}
"""packet types that a broker sends to a client that uses QoS 0 and 1 only"""
ANSWERS = 1_000
"""unread acknowledgements of ours; the broker may have ten unacknowledged messages"""


class OutOfBounds(OSError):
    """The broker sent a packet that it must not send; paho then ends the connection."""


class Incoming:
    """Parser of the bytes of one connection (MQTT 5.0 and 3.1.1, 2.1)."""

    def __init__(self, *, properties: bool) -> None:
        """`properties`: whether messages have properties, as in MQTT 5."""
        self._properties = properties
        self._packets = self._read()
        self._needed = next(self._packets)
        """the next bytes: above 0, how many to parse; below 0, how many to skip"""
        self._seen = bytearray()

    def feed(self, data: bytes) -> None:
        """Check the next bytes. Raises OutOfBounds."""
        at = 0
        while at < len(data):
            taken = min(len(data) - at, abs(self._needed) - len(self._seen))
            if self._needed < 0:
                self._needed += taken
            else:
                self._seen += data[at : at + taken]
            at += taken
            if len(self._seen) == self._needed:
                self._needed = self._packets.send(bytes(self._seen))
                self._seen.clear()

    def _read(self) -> Generator[int, bytes]:
        while True:
            first = (yield 1)[0]
            size, _ = yield from _number()
            if first >> 4 != PUBLISH:
                _other(first >> 4, size)
            elif size > LARGEST_MESSAGE:
                raise OutOfBounds(f"a message of {size} bytes; the limit is {LARGEST_MESSAGE}")
            else:
                size -= yield from self._head(first >> 1 & 3)
            if size < 0:
                raise OutOfBounds("a packet that is longer than its stated length")
            if size:
                yield -size

    def _head(self, qos: int) -> Generator[int, bytes, int]:
        """The number of bytes before the properties and payload of a message."""
        if qos > 1:
            raise OutOfBounds(f"a message of QoS {qos}, which was not subscribed")
        topic = int.from_bytes((yield 2))
        if topic > LONGEST_TOPIC:
            raise OutOfBounds(f"a topic of {topic} bytes; the limit is {LONGEST_TOPIC}")
        number = 2 if qos else 0
        if topic + number:
            yield -topic - number
        if not self._properties:
            return 2 + topic + number
        size, counted = yield from _number()
        if size > LARGEST_OTHER:
            raise OutOfBounds(f"{size} bytes of properties; the limit is {LARGEST_OTHER}")
        return 2 + topic + number + counted


def _other(kind: int, size: int) -> None:
    if kind not in SENT_TO_US:
        raise OutOfBounds(f"a packet of type {kind}, which is for brokers or QoS 2")
    if size > LARGEST_OTHER:
        raise OutOfBounds(f"an answer of {size} bytes; the limit is {LARGEST_OTHER}")


def _number() -> Generator[int, bytes, tuple[int, int]]:
    """A variable byte integer, and its length in bytes (MQTT 5.0, 1.5.5)."""
    value = 0
    for at in range(4):
        byte = (yield 1)[0]
        value |= (byte & 0x7F) << 7 * at
        if byte < 0x80:  # noqa: PLR2004 -- no more bytes follow
            return value, at + 1
    raise OutOfBounds("a length of more than four bytes")


class BoundedClient(Client):
    """paho's client with the checks of `Incoming`."""

    complaint = ""
    """what the broker sent, if that ended the connection"""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incoming = Incoming(properties=self._protocol == MQTTv5)
        self._answers = 0

    def _sock_recv(self, bufsize: int) -> bytes:
        data = super()._sock_recv(bufsize)
        try:
            self._incoming.feed(data)
        except OutOfBounds as error:
            self.complaint = str(error)
            raise
        return data

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """As paho's, but a packet that it cannot parse ends the connection, not the thread."""
        try:
            return super().loop_read(max_packets)
        except Exception as error:  # noqa: BLE001 -- paho 2.1 raises whatever a packet makes it do
            self.complaint = f"a packet that cannot be read: {error!r}"
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL)

    def ack(self, mid: int, qos: int) -> MQTTErrorCode:
        """As paho's, but disconnects from a broker that does not read our acknowledgements."""
        # paho keeps unsent acknowledgements without a limit while the socket takes nothing
        self._answers = self._answers + 1 if self.want_write() else 0
        if self._answers > ANSWERS:
            self.complaint = f"messages without reading {ANSWERS} acknowledgements of ours"
            self.hang_up()
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        return super().ack(mid, qos)

    def hang_up(self) -> None:
        """Cut the connection; paho's thread notices at once."""
        wire = self.socket()
        if isinstance(wire, socket.socket):
            with suppress(OSError):  # already cut
                # not SSLSocket.shutdown, which removes the TLS session that paho's thread uses
                socket.socket.shutdown(wire, socket.SHUT_RDWR)
