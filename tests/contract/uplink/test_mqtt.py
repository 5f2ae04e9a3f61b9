"""The MQTT transport against a real mosquitto, and against a broker in its worst hours."""

import asyncio
import hashlib
import json
import os
import socket
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from agent.core.errors import BatchRejected, NotRecorded, NotStored, UplinkLost
from agent.core.model import BatchId, Lane, Receipt, SealedBatch
from agent.trust.verify import Audience
from agent.uplink.base import GatewayFacts, NobodyThere
from agent.uplink.mqtt.settings import Settings
from agent.uplink.mqtt.transport import MqttUplink
from hil.broker import broker
from hil.cut import cut
from hil.process import free_port
from tests.contract.uplink.sides import so
from tests.contract.uplink.stub import MAXIMUM_PACKET, RECEIVE_MAXIMUM, SERVER_KEEP_ALIVE, stub

GATEWAY, RECIPIENT = "GTEST", "r.example"


def settings(port: int, **options: object) -> Settings:
    return Settings(recipient=RECIPIENT, url=f"mqtt://127.0.0.1:{port}", **options)


def batch(seq: int, size: int = 100) -> SealedBatch:
    payload = os.urandom(size)
    digest = hashlib.sha256(payload).hexdigest()
    return SealedBatch(BatchId(GATEWAY, RECIPIENT, "e", seq), Lane.LIVE, payload, digest, 1)


async def mosquitto(*words: str) -> bytes:
    """Run a client of mosquitto's own; what it printed."""
    client = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    printed, _ = await client.communicate()
    return printed


async def first(uplink: MqttUplink, within: float = 10) -> Receipt:
    async with asyncio.timeout(within), aclosing(uplink.receipts()) as receipts:
        return await anext(receipts)


def test_no_matching_subscriber_is_not_stored_and_the_connection_stands():
    async def scenario() -> None:
        async with (
            broker() as b,
            MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            for seq in (1, 2):
                with pytest.raises(NobodyThere):
                    await uplink.send(batch(seq))

    asyncio.run(scenario())


def test_what_is_sent_arrives_byte_for_byte_without_waiting_for_nagle():
    async def scenario() -> None:
        async with (
            broker() as b,
            MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            listen = ("mosquitto_sub", "-p", str(b.port), "-t", "gardien/+/+/up/live", "-C", "1")
            heard = asyncio.create_task(mosquitto(*listen, "-F", "%x", "-W", "10"))
            sent = batch(1)
            while not heard.done():
                try:
                    await uplink.send(sent)
                except NobodyThere:
                    await asyncio.sleep(0.05)
            assert bytes.fromhex(heard.result().decode().strip()) == sent.payload
            wire = uplink._connection._client.socket()
            assert isinstance(wire, socket.socket)
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    asyncio.run(scenario())


def test_a_batch_larger_than_the_broker_takes_is_rejected_and_a_small_one_still_passes():
    async def scenario() -> None:
        async with (
            broker(more=("max_packet_size 20000",)) as b,
            MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            assert 19_000 < uplink.most_bytes < 20_000
            with pytest.raises(BatchRejected, match="too large"):
                await uplink.send(batch(1, 20_000))
            for size in (uplink.most_bytes, 100):
                with pytest.raises(NobodyThere):
                    await uplink.send(batch(2, size))

    asyncio.run(scenario())


def test_nothing_above_sixty_thousand_bytes_is_sent_to_anybody():
    """Rule T15."""

    async def scenario() -> None:
        async with (
            stub() as far,
            MqttUplink.open(settings(far.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            await uplink.send(batch(1, 60_000))
            with pytest.raises(BatchRejected):
                await uplink.send(batch(2, 60_001))
            assert len(far.batches) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(("asked", "window", "under_way"), [(3, 8, 3), (20, 8, 8), (20, 2, 2)])
def test_no_more_is_under_way_than_receive_maximum_and_window_allow(asked, window, under_way):
    """Rule T24."""

    async def scenario() -> None:
        properties = bytes([RECEIVE_MAXIMUM]) + asked.to_bytes(2, "big")
        async with (
            stub(properties, lambda _: None) as far,
            MqttUplink.open(settings(far.port, window=window), GatewayFacts(GATEWAY)) as uplink,
        ):
            sends = [asyncio.create_task(uplink.send(batch(seq))) for seq in range(12)]
            await so(lambda: len(far.batches) >= under_way)
            await asyncio.sleep(0.3)
            assert len(far.batches) == under_way
            for _ in range(12 - under_way):
                far.puback(far.unanswered.pop(0), 0)
                await so(lambda: len(far.unanswered) >= under_way)
                await asyncio.sleep(0.05)
                assert len(far.unanswered) == under_way
            for packet_id in far.unanswered:
                far.puback(packet_id, 0)
            await asyncio.gather(*sends)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "error"),
    [(0x10, NobodyThere), (0x80, NotStored), (0x87, NotStored), (0x97, NotStored),
     (0x99, BatchRejected)],
)  # fmt: skip
def test_a_puback_is_read_before_it_is_believed(code, error):
    async def scenario() -> None:
        async with (
            stub(answer=lambda _: code) as far,
            MqttUplink.open(settings(far.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            with pytest.raises(error):
                await uplink.send(batch(1))

    asyncio.run(scenario())


def test_the_keep_alive_that_a_broker_asks_for_is_kept():
    """Rule T24."""

    async def scenario() -> None:
        properties = bytes([SERVER_KEEP_ALIVE, 0, 7])
        async with (
            stub(properties) as far,
            MqttUplink.open(settings(far.port), GatewayFacts(GATEWAY)),
        ):
            assert far.keepalives == [30, 7]

    asyncio.run(scenario())


def test_a_packet_limit_in_connack_lowers_what_is_sealed():
    async def scenario() -> None:
        properties = bytes([MAXIMUM_PACKET]) + (10_000).to_bytes(4, "big")
        async with (
            stub(properties) as far,
            MqttUplink.open(settings(far.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            assert uplink.most_bytes < 10_000

    asyncio.run(scenario())


def test_the_death_of_the_broker_fails_every_pending_publish_promptly():
    async def scenario() -> None:
        async with (
            broker() as b,
            MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            b.freeze()
            sends = [asyncio.create_task(uplink.send(batch(seq, 50_000))) for seq in range(30)]
            await asyncio.sleep(0.3)
            began = time.monotonic()
            await b.kill()
            results = await asyncio.gather(*sends, return_exceptions=True)
            assert time.monotonic() - began < 20
            assert {type(result) for result in results} == {UplinkLost}
            with pytest.raises(UplinkLost):
                await uplink.send(batch(99))

    asyncio.run(scenario())


def test_the_death_of_the_broker_is_noticed_while_idle():
    async def scenario() -> None:
        async with (
            broker() as b,
            MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            listening = asyncio.create_task(first(uplink))
            await asyncio.sleep(0.1)
            began = time.monotonic()
            await b.kill()
            with pytest.raises(UplinkLost):
                await listening
            assert time.monotonic() - began < 20

    asyncio.run(scenario())


def test_a_frozen_link_is_noticed_while_idle_after_twice_the_keep_alive():
    async def scenario() -> None:
        async with broker() as b, cut(b.port) as line:
            async with MqttUplink.open(
                settings(line.port, keepalive=1), GatewayFacts(GATEWAY)
            ) as uplink:
                await line.set("freeze")
                began = time.monotonic()
                with pytest.raises(UplinkLost, match="the broker does not answer"):
                    await first(uplink)
                assert time.monotonic() - began < 20
                began = time.monotonic()
            assert time.monotonic() - began < 15, "closing a frozen link is bounded"

    asyncio.run(scenario())


def test_what_is_no_receipt_is_passed_over_and_receipts_still_come():
    async def scenario() -> None:
        async with (
            broker() as b,
            MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            topic = f"gardien/{GATEWAY}/{RECIPIENT}/down/receipts"
            receipt = {"schema": "gardien/receipt/1", "gateway": GATEWAY, "recipient": RECIPIENT,
                       "epoch": "e", "stored": [[1, "0" * 64]]}  # fmt: skip
            for body in ("", "{", "\x00\xff", "[" * 9_000, json.dumps(receipt)):
                tell = ("mosquitto_pub", "-p", str(b.port), "-q", "1", "-t", topic, "-s")
                client = await asyncio.create_subprocess_exec(*tell, stdin=asyncio.subprocess.PIPE)
                await client.communicate(body.encode())
            assert (await first(uplink)).stored == ((1, "0" * 64),)
            with pytest.raises(NobodyThere):
                await uplink.send(batch(1))

    asyncio.run(scenario())


def test_the_status_is_retained_online_while_we_are_and_offline_afterwards():
    """Rule T31."""

    async def scenario() -> None:
        async with broker() as b, cut(b.port) as line:
            topic = f"gardien/{GATEWAY}/{RECIPIENT}/status"
            ask = ("mosquitto_sub", "-p", str(b.port), "-t", topic, "-C", "1", "-W", "5")
            async with MqttUplink.open(settings(line.port), GatewayFacts(GATEWAY)):
                assert json.loads(await mosquitto(*ask))["state"] == "online"
            assert json.loads(await mosquitto(*ask))["state"] == "offline", "we said goodbye"
            async with MqttUplink.open(settings(line.port), GatewayFacts(GATEWAY)):
                assert json.loads(await mosquitto(*ask))["state"] == "online"
                await line.set("cut")
                assert json.loads(await mosquitto(*ask))["state"] == "offline", "the will"

    asyncio.run(scenario())


def test_a_broker_that_is_not_there_is_a_loss_in_words():
    async def scenario() -> None:
        with pytest.raises(UplinkLost, match="cannot connect"):
            async with MqttUplink.open(settings(free_port()), GatewayFacts(GATEWAY)):
                pass

    asyncio.run(scenario())


def test_a_broker_that_lets_nobody_in_is_a_loss_in_words():
    async def scenario() -> None:
        async with broker(more=("allow_anonymous false",)) as b:
            with pytest.raises(
                UplinkLost, match=r"refuses the connection: Not authorized. Check `user`"
            ):
                async with MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)):
                    pass

    asyncio.run(scenario())


def test_a_broker_that_forbids_the_topic_never_counts_as_delivered(tmp_path: Path):
    rights = tmp_path / "rights"
    rights.write_text("topic read gardien/#\ntopic write gardien/+/+/status\n", encoding="utf-8")

    async def scenario() -> None:
        async with (
            broker(more=("user root", f"acl_file {rights}")) as b,
            MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            with pytest.raises((NotStored, UplinkLost)):
                await uplink.send(batch(1))

    asyncio.run(scenario())


def test_a_second_gateway_of_the_same_name_takes_over_and_the_first_is_told_why():
    async def scenario() -> None:
        async with (
            broker() as b,
            MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            listening = asyncio.create_task(first(uplink))
            async with MqttUplink.open(settings(b.port), GatewayFacts(GATEWAY)):
                with pytest.raises(UplinkLost, match=r"our client id|taken over"):
                    await listening

    asyncio.run(scenario())


def test_a_broker_that_speaks_only_3_1_1_is_spoken_to_in_it():
    async def scenario() -> None:
        async with (
            stub(versions=(4,)) as far,
            MqttUplink.open(settings(far.port), GatewayFacts(GATEWAY)) as uplink,
        ):
            assert far.version == 4
            await uplink.send(batch(1))
            assert len(far.batches) == 1

    asyncio.run(scenario())


def test_a_preset_lowers_the_window_and_the_messages_under_way_keep_to_it():
    async def scenario() -> None:
        one = settings(0, preset="azure-event-grid")
        async with stub(answer=lambda _: None) as far:
            there = one.model_copy(update={"url": f"mqtt://127.0.0.1:{far.port}"})
            async with MqttUplink.open(there, GatewayFacts(GATEWAY)) as uplink:
                sends = [asyncio.create_task(uplink.send(batch(n))) for n in range(5)]
                await so(lambda: far.batches)
                await asyncio.sleep(0.5)
                assert len(far.batches) == 1
                for send in sends:
                    send.cancel()
                await asyncio.wait(sends)

    asyncio.run(scenario())


def test_an_object_that_the_disk_did_not_take_is_tried_again_and_comes_again():
    """Nor does the word that all objects have come count before it was taken."""
    here, came, complete = Audience("GTEST", "s", None).exact, [], []

    async def take(raw: bytes) -> None:
        came.append(raw)
        if len(came) <= 3:
            raise NotRecorded("the disk is full")

    async def scenario() -> None:
        station = GatewayFacts(
            GATEWAY, objects=take, audience=here, complete=lambda: complete.append(len(came))
        )
        end = json.dumps({"schema": "gardien/objects-end/1", "audience": here})
        async with broker() as b:
            async with MqttUplink.open(settings(b.port), station) as uplink:
                listening = asyncio.create_task(first(uplink, 60))
                for words in ("first", "second", end):
                    await sent(b.port, "objects", words)
                await so(lambda: len(came) == 2)
                listening.cancel()
            assert not complete
            async with MqttUplink.open(settings(b.port), station) as uplink:
                uplink.tried_again_after = 0.2
                listening = asyncio.create_task(first(uplink, 60))
                await so(lambda: complete)
                listening.cancel()
            assert came == [b"first", b"second", b"first", b"second", b"first"]
            assert complete == [5]

    asyncio.run(scenario())


def test_the_word_that_all_have_come_does_not_overtake_an_object_that_is_tried_again():
    """After a restore something personal may leave from that word on: no withdrawal may be left."""
    here, came, complete = Audience("GTEST", "s", None).exact, [], []

    async def scenario() -> None:
        may_go_on = asyncio.Event()

        async def take(raw: bytes) -> None:
            came.append(raw)
            if raw == b"second":
                await may_go_on.wait()
            elif len(came) == 1:
                raise NotRecorded("the disk is full")

        station = GatewayFacts(
            GATEWAY, objects=take, audience=here, complete=lambda: complete.append(tuple(came))
        )
        end = json.dumps({"schema": "gardien/objects-end/1", "audience": here})
        async with broker() as b, MqttUplink.open(settings(b.port), station) as uplink:
            uplink.tried_again_after = 3600
            listening = asyncio.create_task(first(uplink, 60))
            for words in ("first", "second", end):
                await sent(b.port, "objects", words)
            await so(lambda: came == [b"first", b"second"] and len(uplink._connection._inbox) == 1)
            uplink._try_again()  # as its timer does, while the end waits behind the second
            may_go_on.set()
            await so(lambda: complete)
            listening.cancel()
        assert complete == [(b"first", b"second", b"first")]

    asyncio.run(scenario())


def test_objects_that_the_disk_does_not_take_keep_no_receipt_back():
    """More of them than the broker sends without an acknowledgement: else all batches would wait,
    and with them the room that a receipt makes on a full disk."""
    came: list[bytes] = []
    receipt = {"schema": "gardien/receipt/1", "gateway": GATEWAY, "recipient": RECIPIENT,
               "epoch": "5f1c09a3b7e2", "stored": [[1, "0" * 64]]}  # fmt: skip

    async def take(raw: bytes) -> None:
        came.append(raw)
        raise NotRecorded("the disk is full")

    async def scenario() -> None:
        station = GatewayFacts(GATEWAY, objects=take)
        async with broker() as b, MqttUplink.open(settings(b.port), station) as uplink:
            listening = asyncio.create_task(first(uplink, 60))
            for number in range(25):
                await sent(b.port, "objects", f"object {number}")
            await so(lambda: len(came) >= 10)
            await sent(b.port, "receipts", json.dumps(receipt))
            assert (await listening).stored == ((1, "0" * 64),)

    asyncio.run(scenario())


async def sent(port: int, topic: str, words: str) -> None:
    topic = f"gardien/{GATEWAY}/{RECIPIENT}/down/{topic}"
    await mosquitto("mosquitto_pub", "-p", str(port), "-q", "1", "-t", topic, "-m", words)
