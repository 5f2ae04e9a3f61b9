"""The MQTT transport: batches are published, receipts and signed objects arrive.

An end marker follows the signed objects: the platform has sent all of them for this gateway.
A broker keeps messages only for a limited time, and does not repeat what an earlier state of the
gateway has acknowledged. So a restored gateway asks in its status for all objects. The platform
sends them on the objects' topic, followed by this marker (docs/platform.md).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from paho.mqtt.client import MQTTv5, MQTTv311

from agent.core.clock import seconds
from agent.core.errors import NotRecorded, Refused, TooLarge, UplinkLost
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, LogNames, fields
from agent.core.model import Lane
from agent.enrolment.tls import context, doubt
from agent.trust.strict import json_of
from agent.uplink.base import SealedOtherwise, condition, held, judge_publish, parts
from agent.uplink.mqtt.settings import Settings, Topics, address
from agent.uplink.mqtt.wire import Hello, Message, MqttConnection, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydantic import BaseModel

    from agent.core.model import Receipt, SealedBatch
    from agent.core.settings import Secret
    from agent.uplink.base import BackupMessage, GatewayFacts, Turn

log = logging.getLogger(__name__)

SCHEMA = "gardien/objects-end/1"
LARGEST = 1_000
LARGEST_PAYLOAD = 60_000
"""bytes; every broker and cloud service that we know accepts this size"""
FRAME = 16
"""bytes of a PUBLISH beside topic and payload, rounded up (MQTT 5.0, 3.3)"""
TRIED_AGAIN_AFTER = 60.0
"""seconds until an object that could not be recorded is tried again"""
MOST_UNRECORDED, UNRECORDED_BYTES = 100, 8_000_000
"""limits of objects kept for a retry; the broker repeats the others at the next connection"""


def all_sent(payload: bytes, audience: str) -> bool | None:
    """Whether a message is the end marker for this state of the gateway; None: another message."""
    # signed objects of 1 MiB arrive on the same topic: parse only what can be a marker
    if len(payload) > LARGEST or SCHEMA.encode() not in payload:
        return None
    try:
        marker = json_of(payload, "it")
        if marker["schema"] != SCHEMA:
            return None
        return bool(audience) and marker["audience"] == audience
    except (ValueError, LookupError, TypeError):
        return None


class MqttUplink:
    """An open connection to one recipient's broker (agent.uplink.base.Uplink)."""

    Settings: type[BaseModel] = Settings

    def __init__(
        self, connection: MqttConnection, topics: Topics, settings: Any, facts: GatewayFacts
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._facts = facts
        # a broker disconnects a client that exceeds its Receive Maximum (MQTT 5.0, 3.3.4)
        allowed = min(settings.limits.window, connection.limits.receive_maximum)
        self._window = asyncio.Semaphore(min(settings.window, allowed))
        self._retain = settings.limits.retain and connection.limits.retain
        self._by_broker = settings.receipt == "broker"
        self._unusable = 0
        self._names: LogNames = {"uplink": facts.uplink, "recipient": settings.recipient}
        self.tried_again_after = TRIED_AGAIN_AFTER
        self._unrecorded: list[Message] = []
        """objects that could not be recorded, in order; they are not acknowledged"""
        self._unrecorded_bytes = 0
        self._retry: asyncio.TimerHandle | None = None
        self._past_window = False
        """receipts are subscribed at QoS 0, see `_postpone`"""
        longest = max(len(topics.up(lane)) for lane in Lane)
        fits = connection.limits.packet_size - longest - FRAME
        self.most_bytes = min(LARGEST_PAYLOAD, settings.limits.payload, fits)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any, facts: GatewayFacts) -> AsyncIterator[Self]:
        """Connect, subscribe, and publish the status. Raises UplinkLost."""
        topics = Topics(facts.gateway, settings.recipient)
        async with connect(_hello(settings, topics, facts)) as connection:
            uplink = cls(connection, topics, settings, facts)
            await connection.subscribe(topics.receipts)
            if settings.objects:
                await connection.subscribe(topics.objects)
            else:
                facts.complete()  # no objects are taken from this uplink
            await uplink.tell({})
            try:
                yield uplink
            finally:
                if uplink._retry is not None:
                    uplink._retry.cancel()

    @classmethod
    def packing(cls, settings: Any, facts: GatewayFacts) -> None:
        """Batches are sent as they are sealed."""
        del settings, facts

    async def send(self, batch: SealedBatch) -> None:
        """Publish one batch; at most `window` messages wait for the broker, in order of the calls.

        Raises TooLarge if the broker does not accept the size, NotStored (NobodyThere), or
        UplinkLost.
        """
        if batch.form:
            raise SealedOtherwise
        if len(batch.payload) > self.most_bytes:
            raise TooLarge(
                "{number} B is too large; the limit is {most_bytes} B",
                number=len(batch.payload),
                most_bytes=self.most_bytes,
            )
        async with self._window:
            code = await self._connection.publish(self._topics.up(batch.lane), batch.payload)
        judge_publish(code)

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts as they arrive; anything else there is logged and ignored. Raises UplinkLost.

        Signed objects that arrive in between are passed on, and acknowledged once settled.
        """
        async for message in self._connection.messages():
            if message.topic == self._topics.objects:
                if not await self._take(message):
                    continue
            elif sha256 := held(message.payload, *self._topics):
                self._facts.kept(sha256)
            elif receipt := self._receipt(message.payload):
                yield receipt
            # after the inbox has stored the object: else a crash would lose it
            self._connection.acknowledge(message)

    async def _take(self, message: Message) -> bool:
        """Pass on a signed object or the end marker; False: it is tried again later."""
        match all_sent(message.payload, self._facts.audience):
            case None:
                try:
                    await self._facts.objects(message.payload)
                except NotRecorded as error:
                    await self._postpone(message, text_of(error))
                    return False
            case True if self._unrecorded:
                await self._postpone(
                    message, Text("objects that arrived before it are not recorded yet")
                )
                return False
            case True:
                self._facts.complete()
        return True

    async def _postpone(self, message: Message, why: str) -> None:
        """Try an object again after a while, without blocking batches and receipts."""
        if not self._unrecorded:
            log.warning(
                "recipient %s: a signed object could not be recorded and is tried again later: %s",
                self._topics[1], why,
                extra=fields(LogEvent.OBJECT_DELAYED, **self._names),
            )  # fmt: skip
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(self.tried_again_after, self._try_again)
        self._unrecorded_bytes += len(
            message.payload
        )  # count dropped ones too: none overtakes them
        within = self._unrecorded_bytes <= UNRECORDED_BYTES
        if within and len(self._unrecorded) < MOST_UNRECORDED:
            self._unrecorded.append(message)
        if not self._past_window:
            # unacknowledged objects use up the broker's window: receipts at QoS 1 would wait behind
            # them, and all batches with them. A receipt that is lost at QoS 0 is sent again when
            # the batch is sent again
            self._past_window = True
            await self._connection.subscribe(self._topics.receipts, qos=0)

    def _try_again(self) -> None:
        self._connection.requeue(self._unrecorded)
        self._unrecorded, self._unrecorded_bytes = [], 0

    async def tell(self, status: Mapping[str, Any]) -> None:
        """Publish the status document, retained. Raises UplinkLost."""
        body = condition(*self._topics, "online", status)
        # a status that is too large is left out: a broker would end the connection, and no batch
        # would be sent
        if len(body) <= self.most_bytes:
            await self._connection.publish(self._topics.status, body, retain=self._retain)

    async def offer(self, message: BackupMessage, turn: Turn) -> None:
        """Publish the backup in parts; wait for `turn` before each.

        Raises NotStored or UplinkLost.
        """
        for part in parts(message):
            await turn()
            async with self._window:
                code = await self._connection.publish(self._topics.building, part)
            judge_publish(code)
        if self._by_broker:
            self._facts.kept(message.sha256)

    def used(self) -> int:
        """Bytes sent and received since the connection was opened."""
        return self._connection.used()

    def _receipt(self, payload: bytes) -> Receipt | None:
        try:
            return self._facts.receipt(payload)
        except ValueError as error:
            self._unusable += 1
            if self._unusable == 1:
                log.warning(
                    "recipient %s: a message on the receipts' topic is not a receipt: %s",
                    self._topics[1], error,
                    extra=fields(LogEvent.INPUT_UNUSABLE, **self._names),
                )  # fmt: skip
            return None


def _hello(settings: Settings, topics: Topics, facts: GatewayFacts) -> Hello:
    host, port = address(settings.url)
    secure = settings.url.startswith("mqtts:")
    limits = settings.limits
    return Hello(
        host=host,
        port=port,
        client_id=f"gardien-{topics.gateway}-{topics.recipient}",
        keepalive=max(1, int(settings.keepalive)),
        status=topics.status,
        offline=condition(*topics, "offline", {}),
        retain=limits.retain,
        session=limits.session if settings.objects else 0,
        tls=context(settings.ca, facts.credential) if secure else None,
        doubt=doubt(facts.credential, topics.gateway, seconds()) if secure else "",
        user=settings.user or (topics.gateway if limits.named else ""),
        password=_revealed(settings.password),
        version=MQTTv311 if settings.version == "3.1.1" else MQTTv5,
    )


def _revealed(password: Secret | None) -> str | None:
    try:
        return password.reveal() if password else None
    except Refused as error:
        raise UplinkLost(text_of(error)) from error
