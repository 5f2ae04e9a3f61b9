"""Receipts that count only with the recipient's signature, over a real broker, with real keys.

Guards rules T35, T36, T37, T38 and counter-examples of signed receipts: the names say which.
"""

import asyncio
import hashlib
import json
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import zstandard
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.api.calls import NOBODY, status
from agent.api.diagnosis.running import findings
from agent.gateway.gateway import Gateway
from agent.trust.error_codes import Forged
from agent.trust.sign import Signer, new_jti, trust_list
from agent.trust.trust_list import read
from agent.uplink.pacing import UNSIGNED_AFTER
from hil.broker import broker
from hil.platform.child import Platform
from tests.contract.gateway.running import RECIPIENT, at_work, configured, put, settled
from tests.waiting import until

NOW = int(time.time())
DAY = 86_400
ROOT = Signer.new("root")
FIRST, SECOND, STRANGER = (Signer.new(RECIPIENT) for _ in range(3))
OTHER = Signer.new("o.example")


def listing(*keys: Signer, ver: int = 1, expires: int = NOW + 300 * DAY, role="recipient", **more):
    """A trust list that names these keys."""
    members = [
        {"kid": one.kid, "jwk": dict(one.key.jwk), "role": role, "name": one.name, "scope": {},
         "nbf": NOW - 9 * DAY, "exp": NOW + 300 * DAY} | more
        for one in keys
    ]  # fmt: skip
    said = {"ver": ver, "iss": "m", "iat": NOW - 9 * DAY, "exp": expires, "threshold": 1,
            "roots": [ROOT.public_jwk()], "keys": members}  # fmt: skip
    return trust_list(json.dumps(said), [ROOT])


class Desk:
    """The platform's side of the broker, in our hands: what came up, and what we answer."""

    def __init__(self, port: int, gateway: str) -> None:
        self.came: list[tuple[str, int, str]] = []
        """epoch, seq and sha256 of each batch, as often as it came"""
        down = f"gardien/{gateway}/{RECIPIENT}/down"
        self._receipts, self._objects, self.gateway = f"{down}/receipts", f"{down}/objects", gateway
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "desk", protocol=MQTTv5)
        self._client.on_message = self._took
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(f"gardien/{gateway}/+/up/+", 1)
        assert subscribed.wait(30)

    def _took(self, _client, _userdata, message) -> None:
        batch = json.loads(zstandard.decompress(message.payload))
        sha256 = hashlib.sha256(message.payload).hexdigest()
        self.came.append((batch["epoch"], batch["seq"], sha256))

    def said(self, about: tuple[str, int, str], **other: object) -> str:
        """The receipt for a batch, with other members."""
        epoch, seq, sha256 = about
        head = {"schema": "gardien/receipt/1", "gateway": self.gateway, "recipient": RECIPIENT}
        return json.dumps(head | {"epoch": epoch, "stored": [[seq, sha256]]} | other)

    def answer(self, receipt: str | bytes) -> None:
        self._client.publish(self._receipts, receipt, 1)

    def sign(self, receipt: str, by: Signer = FIRST, typ: str = "receipt+jwt") -> bytes:
        signed = by.sign_text(typ, receipt)
        self.answer(signed)
        return signed

    def deliver(self, raw: bytes) -> None:
        self._client.publish(self._objects, raw, 1)

    async def batches(self, count: int) -> list[tuple[str, int, str]]:
        """The first batches that came, once there are so many different ones."""
        await until(lambda: len(set(self.came)) >= count)
        return list(dict.fromkeys(self.came))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@asynccontextmanager
async def at_desk(
    folder: Path, more: str = ""
) -> AsyncIterator[tuple[Gateway, Desk, Callable[[], Awaitable[set[int]]]]]:
    """A gateway at work, its platform's desk, and which batches wait for a receipt."""
    async with broker() as far:
        config = trusting(configured(folder, far.url, more))
        async with at_work(config) as house:
            desk = Desk(far.port, house.identity.gateway)
            recipient = house.recipients["centre"]

            async def waiting() -> set[int]:
                return {
                    one.id.seq for one in await recipient.thread.run(recipient.spool.unreceipted)
                }

            try:
                yield house, desk, waiting
            finally:
                desk.close()


def revoking(key: Signer, by: Signer) -> bytes:
    about = {"iss": by.name, "jti": new_jti(NOW), "iat": NOW, "ver": 1}
    return by.sign("dr-revoke+jwt", about | {"rev": [{"kid": key.kid}]})


def trusting(config: Path) -> Path:
    text = config.read_text(encoding="utf-8")
    if "trust:" not in text:
        config.write_text(text + "trust: {threshold: 1}\n", encoding="utf-8")
    return config


def accept(house: Gateway, raw: bytes) -> None:
    """As a person does, who has compared the roots."""
    house.objects.inbox.renew_trust(raw, read(raw).sha256)


async def gone(waiting: Callable[[], Awaitable[set[int]]], seq: int) -> None:
    async def fact() -> bool:
        return seq not in await waiting()

    await until(fact)


def test_no_forgery_settles_a_batch_once_the_list_names_a_key(tmp_path):
    """Rule T35: unsigned, by a stranger, by another recipient, of another gateway, batch, epoch or
    hash, of another type, altered, with another role. The list came while batches waited.
    """

    async def scenario() -> None:
        async with at_desk(tmp_path) as (house, desk, waiting):
            accept(house, listing(OTHER))
            await put(house, 3)
            first = (await desk.batches(1))[0]
            desk.sign(desk.said(first), STRANGER)
            desk.answer(desk.said(first))  # nobody has a key: as ever
            await gone(waiting, first[1])
            assert not house.recipients["centre"].delivery.unsigned(NOW + DAY)
            two = (await desk.batches(2))[1]
            await put(house, 3, NOW + 50)
            three = (await desk.batches(3))[2]
            desk.deliver(listing(FIRST, OTHER, ver=2))  # nothing is receipted, and it is accepted
            await until(lambda: house.objects.inbox.trust_store.trust.ver == 2)
            good, (_, seq, sha256) = desk.said(two), two
            desk.answer(good)
            desk.sign(good, STRANGER)
            desk.sign(good, OTHER)
            desk.sign(good, ROOT)
            desk.sign(good, typ="consent+jwt")
            for other in (
                {"gateway": "G00000000000000"}, {"recipient": "o.example"},
                {"epoch": "000000000000"}, {"stored": [[three[1], sha256[::-1]]]}, {"more": 1},
            ):  # fmt: skip
                desk.sign(json.dumps(json.loads(good) | other))
            signed = FIRST.sign_text("receipt+jwt", desk.said(three)).decode()
            head, _, signature = signed.split(".")
            body = FIRST.sign_text("receipt+jwt", good).decode().split(".")[1]
            desk.answer(f"{head}.{body}.{signature}")
            desk.answer(signed)
            await gone(waiting, three[1])
            assert seq in await waiting(), "what was forged came before what was right"
            desk.sign(good)
            await gone(waiting, seq)

    asyncio.run(scenario())


def test_with_receipt_signed_nothing_counts_before_the_list_which_waits_for_nothing(
    tmp_path,
):
    """Rules T35, T37: a broker that withholds the list gains nothing; a finding says what waits."""

    async def scenario() -> None:
        async with at_desk(tmp_path, "receipt: signed") as (house, desk, waiting):
            delivery = house.recipients["centre"].delivery
            await put(house, 3)
            first = (await desk.batches(1))[0]
            desk.answer(desk.said(first))
            desk.sign(desk.said(first))
            await until(lambda: delivery.signature_problem and delivery.unsigned_since)
            assert first[1] in await waiting()
            assert not delivery.unsigned(NOW), "the signed receipt may still come"
            delivery.unsigned_since -= UNSIGNED_AFTER
            answer = await status(house, NOBODY)
            (finding,) = (one for one in findings(answer) if one.code == "unsigned")
            assert FIRST.kid in finding.what
            assert finding.command == "gardien trust show"
            assert answer["uplinks"]["centre"]["receipt"] == "signed"
            accept(house, listing(FIRST))
            desk.sign(desk.said(first))
            await gone(waiting, first[1])
            assert not delivery.unsigned_since

    asyncio.run(scenario())


def test_what_a_revoked_key_has_settled_is_offered_again_once(tmp_path):
    """Rules T37, T38: two keys overlap; one is revoked with the other."""

    async def scenario() -> None:
        async with at_desk(tmp_path) as (house, desk, waiting):
            accept(house, listing(FIRST, SECOND, OTHER))
            await put(house, 3)
            first, second = await desk.batches(2)  # the directory, and the rows
            desk.sign(desk.said(first))
            desk.sign(desk.said(second), SECOND)
            await gone(waiting, first[1])
            await gone(waiting, second[1])
            with pytest.raises(Forged):  # another recipient
                await house.objects.accept(revoking(FIRST, OTHER), "centre")
            desk.deliver(revoking(FIRST, SECOND))
            await until(lambda: desk.came.count(first) == 2)
            assert first[1] in await waiting()
            desk.sign(desk.said(first))
            desk.answer(desk.said(first))
            desk.sign(desk.said(second))  # settled already
            await until(lambda: house.recipients["centre"].delivery.unsigned_since)
            assert first[1] in await waiting()
            desk.sign(desk.said(first), SECOND)
            await gone(waiting, first[1])
            recipient = house.recipients["centre"]
            again = partial(recipient.spool.distrust, [FIRST.kid], NOW)
            assert await recipient.thread.run(again) == 0, "once is enough"
            assert desk.came.count(second) == 1, "the other key's batch stays settled"

    asyncio.run(scenario())


def test_a_platform_that_signs_gets_every_row_once_also_from_a_gateway_put_back(tmp_path):
    """Rules T9, T36: the independent platform. The gateway goes on with an older copy of its state,
    and gets the signed receipts of what it has forgotten.
    """
    key, config = tmp_path / "key.jwk", tmp_path / "config.yaml"
    key.write_text(json.dumps(FIRST.private_jwk()), encoding="utf-8")

    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db", sign=key) as platform,
        ):
            trusting(configured(tmp_path, far.url, "receipt: signed"))
            async with at_work(config) as house:
                accept(house, listing(FIRST, SECOND))
                await put(house, 4, NOW)
                await settled(house)
            # what is half written when it is copied does not exist for who starts with the copy
            whole = shutil.ignore_patterns("*.new")
            shutil.copytree(tmp_path / "state", tmp_path / "copy", ignore=whole)
            async with at_work(config) as house:
                await put(house, 4, NOW + 10)
                await settled(house)
            shutil.rmtree(tmp_path / "state")
            (tmp_path / "copy").rename(tmp_path / "state")
            # a resend is answered with the present key
            key.write_text(json.dumps(SECOND.private_jwk()), encoding="utf-8")
            async with at_work(config) as house:
                await put(house, 4, NOW + 20)
                await settled(house)
                assert house.recipients["centre"].delivery.conflicts
            assert (await platform.report())["rows"] == 12

    asyncio.run(scenario())


def test_the_broker_settles_nothing_that_the_recipient_must_sign(tmp_path):
    """Rules T11, T35."""

    async def scenario() -> None:
        async with at_desk(tmp_path, "receipt: broker") as (house, desk, waiting):
            await put(house, 3)
            await settled(house)
            accept(house, listing(FIRST))
            await put(house, 3, NOW + 50)
            last = (await desk.batches(len(set(desk.came)) + 1))[-1]
            await until(lambda: house.recipients["centre"].delivery.unsigned_since)
            assert last[1] in await waiting()
            for about in set(desk.came):
                desk.sign(desk.said(about))
            await settled(house)

    asyncio.run(scenario())
