"""A broker that sends more than it may costs its connection, not the memory.

Guards rules G9, T30.
"""

import asyncio
import json
import socket
from contextlib import aclosing, suppress

import pytest

from agent.core.errors import NotRecorded, UplinkLost
from agent.uplink.base import GatewayFacts
from agent.uplink.mqtt.transport import MqttUplink
from agent.uplink.mqtt.wire import INBOX_BYTES
from tests.contract.uplink.house import GATEWAY, RECIPIENT
from tests.contract.uplink.sides import so
from tests.contract.uplink.stub import stub
from tests.contract.uplink.test_mqtt import settings
from tests.memory import forget, peak
from tests.unit.uplink.test_incoming import message, number

RECEIPTS = f"gardien/{GATEWAY}/{RECIPIENT}/down/receipts".encode()
OBJECTS = f"gardien/{GATEWAY}/{RECIPIENT}/down/objects".encode()
MOST = 60
"""MB that the memory may grow by"""


async def against(say, version="5"):
    """How the connection is lost to a broker that does `say(writer)`, and MB that it costs."""
    async with stub() as far:
        async with asyncio.timeout(60):
            async with MqttUplink.open(
                settings(far.port, version=version), GatewayFacts(GATEWAY)
            ) as uplink:
                before = forget()
                saying = asyncio.create_task(say(far._writer))
                with pytest.raises(UplinkLost) as lost:
                    await anext(uplink.receipts())
                saying.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await saying
                return str(lost.value), peak() - before


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_message_of_250_mb_costs_the_connection(version):
    """MQTT 3.1.1 cannot announce how much we take, and in MQTT 5 nobody must heed it."""

    async def say(writer) -> None:
        head = len(RECEIPTS).to_bytes(2) + RECEIPTS + bytes(version == "5")
        writer.write(b"\x30" + number(len(head) + 250_000_000) + head)
        for _ in range(250):
            writer.write(bytes(1_000_000))
            await writer.drain()

    words, grown = asyncio.run(against(say, version))
    assert "a message of 2500000" in words
    assert grown < MOST


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (message(b"", topic=RECEIPTS, qos=2), "QoS 2"),
        (bytes([0xC0, 0]), "type 12"),
        (message(b"", topic=RECEIPTS, properties=b"\x26\0\1a\0\1b" * 9_000), "63000 bytes of prop"),
        # a property that there is not, a topic that is none, an answer cut short
        (message(b"", topic=RECEIPTS, properties=b"\xff\1"), "cannot be read|was lost|Protocol"),
        (bytes([0x90, 2, 0, 1]), "cannot be read|was lost|Protocol"),
        (bytes([0x32, 2, 0, 9]), "cannot be read|was lost|Protocol"),
    ],
)
def test_what_is_no_message_for_us_costs_the_connection_at_once(packet, words):
    """Not the thread that reads: nobody would notice, and no receipt would ever come again."""

    async def say(writer) -> None:
        writer.write(packet)
        await writer.drain()

    lost, _ = asyncio.run(against(say))
    assert any(word in lost for word in words.split("|")), lost


def test_properties_that_say_nothing_to_us_pass():
    receipt = {"schema": "gardien/receipt/1", "gateway": GATEWAY, "recipient": RECIPIENT,
               "epoch": "5f1c09a3b7e2", "stored": [[1, "0" * 64]]}  # fmt: skip

    async def scenario() -> None:
        async with (
            stub() as far,
            MqttUplink.open(settings(far.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            body = json.dumps(receipt).encode()
            more = b"\x26\0\1a\0\1b" * 2_000
            far._writer.write(message(body, topic=RECEIPTS, properties=more))
            async with asyncio.timeout(30), aclosing(uplink.receipts()) as receipts:
                assert (await anext(receipts)).stored == ((1, "0" * 64),)

    asyncio.run(scenario())


def test_large_messages_wait_in_bounded_memory_while_one_is_dealt_with():
    """They come at QoS 1 without regard for the ten that we allow."""

    async def busy(_: bytes) -> None:
        await asyncio.sleep(3600)

    async def say(writer) -> None:
        while True:
            writer.write(message(bytes(1_000_000), topic=OBJECTS))
            await writer.drain()

    async def scenario() -> None:
        async with stub() as far:
            station = GatewayFacts(GATEWAY, objects=busy)
            async with MqttUplink.open(settings(far.port), station) as uplink:
                before = forget()
                listening = asyncio.create_task(anext(uplink.receipts()))
                saying = asyncio.create_task(say(far._writer))
                await so(lambda: uplink._connection._lost)
                assert "more messages than it may before we acknowledge" in uplink._connection._lost
                held = sum(len(one.payload) for one in uplink._connection._inbox)
                assert held <= INBOX_BYTES
                assert peak() - before < MOST
                for task in (listening, saying):
                    task.cancel()
                await asyncio.wait([listening, saying])
                with suppress(asyncio.CancelledError, ConnectionError):
                    saying.result()

    asyncio.run(scenario())


def test_objects_that_cannot_be_recorded_are_kept_in_bounded_memory_and_in_their_order():
    async def full(_: bytes) -> None:
        raise NotRecorded("the disk is full")

    async def scenario() -> None:
        async with stub() as far:
            station = GatewayFacts(GATEWAY, objects=full)
            async with MqttUplink.open(settings(far.port), station) as uplink:
                listening = asyncio.create_task(anext(uplink.receipts()))
                sizes = [900_000] * 12 + [10]
                for mark, size in enumerate(sizes):
                    far._writer.write(message(bytes([mark]) * size, topic=OBJECTS))
                    await far._writer.drain()
                await so(lambda: uplink._unrecorded_bytes == sum(sizes))
                kept = [one.payload[0] for one in uplink._unrecorded]
                assert kept == list(range(8)), "and not the small one behind what was left out"
                listening.cancel()
                await asyncio.wait([listening])

    asyncio.run(scenario())


def test_a_broker_that_reads_no_answer_is_left():
    """Else each answer to what it sends would wait in memory."""
    taken: list[bytes] = []

    async def take(raw: bytes) -> None:
        taken.append(raw)

    async def scenario() -> None:
        async with stub() as far:
            station = GatewayFacts(GATEWAY, objects=take)
            async with MqttUplink.open(settings(far.port), station) as uplink:
                far._writer.transport.pause_reading()
                # little room on the way: it is full after some thousand answers
                there = far._writer.get_extra_info("socket")
                there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                uplink._connection._client.socket().setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDBUF, 1
                )
                listening = asyncio.create_task(anext(uplink.receipts()))
                while not listening.done() and len(taken) < 100_000:
                    said = len(taken) + 100
                    far._writer.write(message(b"x", topic=OBJECTS) * 100)
                    await so(lambda said=said: len(taken) >= said or listening.done())
                with pytest.raises(UplinkLost, match="without reading 1000 acknowledgements"):
                    await listening

    asyncio.run(scenario())
