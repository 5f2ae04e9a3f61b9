"""NATS JetStream: workers that pull batches, which gateways publish over MQTT 3.1.1.

A nats-server stores each MQTT message of QoS 1 in the stream STREAM, replicated, before it sends
the PUBACK, and keeps it until every consumer has acknowledged it. So we read that stream: one of
our own beside it would store each batch twice, and loses what arrives while its leader is elected.
The post office of `receiver.mqtt` does the rest, over MQTT.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nats
from nats.errors import Error, TimeoutError  # noqa: A004 -- it is one of asyncio's too
from nats.js.api import ConsumerConfig

from receiver.databases import open_store
from receiver.intake import Terms, attempted
from receiver.sign import receipts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from receiver.sign import Signer
    from receiver.store import Store

STREAM, PREFIX = "$MQTT_msgs", "$MQTT.msgs."
"""of the server, which makes both for its first MQTT client"""
KEPT_SECONDS, KEPT_BYTES = 7 * 86_400.0, 1024**3
"""what nobody takes is dropped after this; gateways still have it"""
PULL_SECONDS = 2.0
"""a pull that a server took to its grave is noticed after this"""


@dataclass(frozen=True)
class NatsSettings(Terms):
    """Where the servers are, and who we are."""

    urls: str
    """separated by commas"""

    def tls(self) -> ssl.SSLContext | None:
        """With our certificate, if there is a CA."""
        if self.ca is None:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert)
        return context


def work(settings: NatsSettings, database: str, ready: Callable[[], object]) -> None:
    """Take batches until something fails; then start again: the stream has what was not stored."""
    asyncio.run(_work(settings, open_store(database), ready))


async def _work(settings: NatsSettings, store: Store, ready: Callable[[], object]) -> None:
    try:
        connection = await nats.connect(
            settings.urls.split(","),
            allow_reconnect=False,  # a new process starts with another server
            error_cb=_complain,
            **({"tls": tls} if (tls := settings.tls()) else {}),
        )
        stream = connection.jetstream(timeout=PULL_SECONDS)
        await _bound(stream)
        # two consumers, so that a backlog does not hold up what is new
        pulls = [await _consumer(stream, settings.recipient, lane) for lane in ("live", "backfill")]
        ready()
        await asyncio.gather(*(_take(connection, pull, settings.signer, store) for pull in pulls))
    except Error as error:
        raise ConnectionError(f"NATS: {error or type(error).__name__}") from error


async def _complain(error: Exception) -> None:
    print(f"NATS: {error}", file=sys.stderr, flush=True)


async def _bound(stream: JetStreamContext) -> None:
    """Limit what the servers keep; by themselves they would keep it for as long as we are away."""
    config = (await stream.stream_info(STREAM)).config
    if (config.max_age, config.max_bytes) != (KEPT_SECONDS, KEPT_BYTES):
        config.max_age, config.max_bytes = KEPT_SECONDS, KEPT_BYTES
        await stream.update_stream(config)


async def _consumer(
    stream: JetStreamContext, recipient: str, lane: str
) -> JetStreamContext.PullSubscription:
    """The durable consumer that all workers share; the first one makes it."""
    to = "all" if recipient == "+" else recipient.replace(".", "_")
    name = f"gardien-receiver-{to}-{lane}"
    config = ConsumerConfig(
        name=name,
        durable_name=name,
        filter_subject=f"{PREFIX}gardien.*.{token(recipient)}.up.{lane}",
        inactive_threshold=KEPT_SECONDS,
    )
    await stream.add_consumer(STREAM, config)
    return await stream.pull_subscribe_bind(name, STREAM)


async def _take(
    connection: Client,
    pull: JetStreamContext.PullSubscription,
    signer: Signer | None,
    store: Store,
) -> None:
    while True:
        try:
            (message,) = await pull.fetch(1, PULL_SECONDS)
        except TimeoutError:
            continue
        topic = message.subject.removeprefix(PREFIX)
        _, gateway, recipient, *_ = topic.split(".")
        receipt = attempted(store, message.data, (gateway, recipient.replace("//", ".")))
        if receipt is not None:
            # reaches gateways that are connected; others send the batch again when they are
            down = f"gardien.{gateway}.{recipient}.down.receipts"
            for text in receipts(receipt, signer):
                await connection.publish(down, text.encode())
        await message.ack()


def token(recipient: str) -> str:
    """A recipient in subjects: a dot within a level of a topic is `//` there."""
    return "*" if recipient == "+" else recipient.replace(".", "//")


def users(recipient: str, gateways: Sequence[str]) -> str:
    """Who may do what at the servers, by the subject of the certificate, for their configuration.

    Of a gateway: its own topics, over MQTT only. `$MQTT.sub` is where the server delivers QoS 1; no
    MQTT client may subscribe to it, but a client of NATS would hear what others are sent.
    """
    us = token(recipient)
    rights: dict[str, Any] = {
        f"CN={recipient}": {"permissions": {
            "publish": [f"gardien.*.{us}.down.*", "$JS.API.>", "$JS.ACK.>"],
            "subscribe": [f"gardien.*.{us}.status", f"gardien.*.{us}.up.building",
                          "$MQTT.sub.>", "_INBOX.>"],
        }}
    } | {
        f"CN={gateway}": {"allowed_connection_types": ["MQTT"], "permissions": {
            "publish": [f"gardien.{gateway}.*.up.*", f"gardien.{gateway}.*.status"],
            "subscribe": [f"gardien.{gateway}.*.down.*", "$MQTT.sub.>"],
        }}
        for gateway in gateways
    }  # fmt: skip
    lines = [json.dumps({"user": name} | may) for name, may in rights.items()]
    return "authorization: {users: [\n" + "\n".join(lines) + "\n]}"
