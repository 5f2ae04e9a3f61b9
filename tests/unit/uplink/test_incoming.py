"""What a broker sends is judged while it arrives, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.uplink.mqtt.wire import (
    LARGEST_MESSAGE,
    LARGEST_OTHER,
    LONGEST_TOPIC,
    Incoming,
    OutOfBounds,
)

TOPIC = b"gardien/G1/r.example/down/receipts"


def number(value: int) -> bytes:
    said = bytearray()
    while True:
        value, byte = divmod(value, 128)
        said.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(said)


def message(payload: bytes, *, topic=TOPIC, qos=1, properties: bytes | None = b"") -> bytes:
    body = len(topic).to_bytes(2) + topic + (b"\0\1" if qos else b"")
    if properties is not None:
        body += number(len(properties)) + properties
    return bytes([0x30 | qos << 1]) + number(len(body + payload)) + body + payload


RIGHT = [
    bytes([0x20, 3, 0, 0, 0]),
    bytes([0x90, 4, 0, 1, 0, 1]),
    message(b"{}"),
    message(bytes(70_000), qos=0, properties=bytes(300)),
    bytes([0xD0, 0]),
    message(b"", topic=bytes(LONGEST_TOPIC), properties=bytes(LARGEST_OTHER)),
    bytes([0x40, 2, 0, 1]),
    bytes([0x20]) + number(LARGEST_OTHER) + bytes(LARGEST_OTHER),
    bytes([0xE0, 0]),
]


@given(st.lists(st.integers(1, 40_000), max_size=30))
def test_what_a_broker_may_send_passes_however_it_is_cut(cuts):
    said, incoming = b"".join(RIGHT), Incoming(properties=True)
    for cut in cuts:
        incoming.feed(said[:cut])
        said = said[cut:]
    incoming.feed(said)
    with pytest.raises(OutOfBounds, match="type 12"):  # so it knows where a packet begins
        incoming.feed(bytes([0xC0, 0]))


@pytest.mark.parametrize(
    ("packet", "words", "at"),
    [
        (bytes([0x30]) + number(LARGEST_MESSAGE + 1), "a message of 1100001 bytes", 4),
        (bytes([0x30, 0xFF, 0xFF, 0xFF, 0xFF]), "more than four bytes", 5),
        (bytes([0x20]) + number(LARGEST_OTHER + 1), "an answer of 16385 bytes", 4),
        (message(b"", topic=bytes(LONGEST_TOPIC + 1)), "a topic of 1001 bytes", 5),
        (message(b"", properties=bytes(LARGEST_OTHER + 1)), "16385 bytes of properties", 45),
        (message(b"", qos=2), "QoS 2", 2),
        (message(b"", qos=3), "QoS 3", 2),
        (bytes([0x62, 2, 0, 1]), "type 6", 2),
        (bytes([0xC0, 0]), "type 12", 2),
        (bytes([0x32, 3, 0, 1, 0x61, 0, 1, 0]), "longer than its stated length", 8),
    ],
)
def test_what_it_may_not_send_is_refused_at_the_byte_that_shows_it(packet, words, at):
    incoming = Incoming(properties=True)
    incoming.feed(packet[: at - 1])
    with pytest.raises(OutOfBounds, match=words):
        incoming.feed(packet[at - 1 : at])


def test_messages_have_no_properties_before_mqtt_5():
    incoming = Incoming(properties=False)
    incoming.feed(message(b"\xff" * 20, properties=None) + bytes([0xD0, 0]))
