"""MQTT: batches go up at QoS 1, receipts come down. What the broker says is never a receipt."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from paho.mqtt.client import MQTTv5, MQTTv311

from agent.buffer.receipts import parse
from agent.clock import seconds
from agent.enrolment.tls import context, doubt
from agent.errors import NotRecorded, Refused, TooLarge, UplinkLost
from agent.log_fields import LogEvent, LogNames, fields
from agent.model import Lane
from agent.uplink.backup_message import held, parts
from agent.uplink.connect_options import Hello
from agent.uplink.end_marker import all_sent
from agent.uplink.publish_codes import SealedOtherwise, judge
from agent.uplink.settings.mqtt import Settings, address
from agent.uplink.status import condition
from agent.uplink.topics import Topics
from agent.uplink.wire import HttpConnection, Message, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydantic import BaseModel

    from agent.model import Receipt, SealedBatch
    from agent.settings import Secret
    from agent.uplink.backup_message import BackupMessage
    from agent.uplink.base import GatewayFacts, Turn

log = logging.getLogger(__name__)

LARGEST_PAYLOAD = 60_000
"""bytes; every broker and cloud service we know takes as much"""
FRAME = 16
"""bytes of a PUBLISH beside topic and payload, rounded up (MQTT 5.0, 3.3)"""
TRIED_AGAIN_AFTER = 60.0
"""seconds until an object that the disk did not take is tried again"""
MOST_UNRECORDED, UNRECORDED_BYTES = 100, 8_000_000
"""objects that are kept for that; what was not acknowledged comes again at the next connection"""


class MqttUplink:
    """An open connection to one recipient's broker (agent.uplink.base.Uplink)."""

    Settings: type[BaseModel] = Settings

    def __init__(
        self, wire: HttpConnection, topics: Topics, settings: Any, station: GatewayFacts
    ) -> None:
        self._wire = wire
        self._topics = topics
        self._station = station
        allowed = min(settings.limits.window, wire.limits.receive_maximum)
        self._window = asyncio.Semaphore(min(settings.window, allowed))
        self._retain = settings.limits.retain and wire.limits.retain
        self._by_broker = settings.receipt == "broker"
        self._odd = 0
        self._names: LogNames = {"uplink": station.uplink, "recipient": settings.recipient}
        self.tried_again_after = TRIED_AGAIN_AFTER
        self._unrecorded: list[Message] = []
        """objects that the disk did not take, in their order; they are not acknowledged"""
        self._unrecorded_bytes = 0
        self._retry: asyncio.TimerHandle | None = None
        self._past_window = False
        """whether receipts are asked for at QoS 0"""
        longest = max(len(topics.up(lane)) for lane in Lane)
        fits = wire.limits.packet_size - longest - FRAME
        self.most_bytes = min(LARGEST_PAYLOAD, settings.limits.payload, fits)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any, station: GatewayFacts) -> AsyncIterator[Self]:
        """Connect, listen for receipts, say how we are. Raises UplinkLost if it cannot."""
        topics = Topics(station.gateway, settings.recipient)
        async with connect(_hello(settings, topics, station)) as wire:
            uplink = cls(wire, topics, settings, station)
            await wire.subscribe(topics.receipts)
            if settings.objects:
                await wire.subscribe(topics.objects)
            else:
                station.complete()  # none are wanted from here
            await uplink.tell({})
            try:
                yield uplink
            finally:
                if uplink._retry is not None:
                    uplink._retry.cancel()

    @classmethod
    def packing(cls, settings: Any, station: GatewayFacts) -> None:
        """Batches are sent as they are sealed."""
        del settings, station

    async def send(self, batch: SealedBatch) -> None:
        """Hand one batch to the broker: at most `window` at a time, first come first served.

        Raises TooLarge if it is larger than the broker takes, NotStored (NobodyThere) or
        UplinkLost.
        """
        if batch.form:
            raise SealedOtherwise
        if len(batch.payload) > self.most_bytes:
            raise TooLarge(f"{len(batch.payload)} B: at most {self.most_bytes} B can be sent")
        async with self._window:
            code = await self._wire.publish(self._topics.up(batch.lane), batch.payload)
        judge(code)

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts as they come; what is none is logged and passed over. Raises UplinkLost.

        Signed objects that come between them are handed on, and acknowledged once that is done.
        """
        async for message in self._wire.messages():
            if message.topic == self._topics.objects:
                if not await self._take(message):
                    continue
            elif sha256 := held(message.payload, *self._topics):
                self._station.kept(sha256)
            elif receipt := self._receipt(message.payload):
                yield receipt
            self._wire.acknowledge(message)

    async def _take(self, message: Message) -> bool:
        """Hand on a signed object, or the word that all have come; False: it is tried again."""
        match all_sent(message.payload, self._station.audience):
            case None:
                try:
                    await self._station.objects(message.payload)
                except NotRecorded as error:
                    await self._keep(message, str(error))
                    return False
            case True if self._unrecorded:
                await self._keep(message, "not all that came before it was recorded")
                return False
            case True:
                self._station.complete()
        return True

    async def _keep(self, message: Message, why: str) -> None:
        """Try an object again after a while. Batches and receipts go on meanwhile."""
        if not self._unrecorded:
            log.warning(
                "%s: a signed object is tried again later: %s", self._topics[1], why,
                extra=fields(LogEvent.OBJECT_DELAYED, **self._names),
            )  # fmt: skip
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(self.tried_again_after, self._try_again)
        self._unrecorded_bytes += len(message.payload)  # also of one left out: none overtakes it
        within = self._unrecorded_bytes <= UNRECORDED_BYTES
        if within and len(self._unrecorded) < MOST_UNRECORDED:
            self._unrecorded.append(message)
        if not self._past_window:
            # the broker counts objects that are not acknowledged against its window: receipts at
            # QoS 1 would wait behind them, and with them all batches. One that is lost so is
            # answered again when the batch is sent again
            self._past_window = True
            await self._wire.subscribe(self._topics.receipts, qos=0)

    def _try_again(self) -> None:
        self._wire.requeue(self._unrecorded)
        self._unrecorded, self._unrecorded_bytes = [], 0

    async def tell(self, status: Mapping[str, Any]) -> None:
        """Say how the gateway is, to be kept until it says so anew. Raises UplinkLost."""
        body = condition(*self._topics, "online", status)
        if len(body) <= self.most_bytes:
            await self._wire.publish(self._topics.status, body, retain=self._retain)

    async def offer(self, one: BackupMessage, turn: Turn) -> None:
        """Hand the building file over in parts, each when it is its `turn`.

        Raises NotStored or UplinkLost.
        """
        for part in parts(one):
            await turn()
            async with self._window:
                code = await self._wire.publish(self._topics.building, part)
            judge(code)
        if self._by_broker:
            self._station.kept(one.sha256)

    def used(self) -> int:
        """Bytes on the wire since it was opened, in both directions."""
        return self._wire.used()

    def _receipt(self, payload: bytes) -> Receipt | None:
        try:
            return parse(payload)
        except ValueError as error:
            self._odd += 1
            if self._odd == 1:
                log.warning(
                    "%s sent something that is no receipt: %s", self._topics[1], error,
                    extra=fields(LogEvent.INPUT_UNUSABLE, **self._names),
                )  # fmt: skip
            return None


def _hello(settings: Settings, topics: Topics, station: GatewayFacts) -> Hello:
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
        tls=context(settings.ca, station.credential) if secure else None,
        doubt=doubt(station.credential, topics.gateway, seconds()) if secure else "",
        user=settings.user or (topics.gateway if limits.named else ""),
        password=_revealed(settings.password),
        version=MQTTv311 if settings.version == "3.1.1" else MQTTv5,
    )


def _revealed(password: Secret | None) -> str | None:
    try:
        return password.reveal() if password else None
    except Refused as error:
        raise UplinkLost(str(error)) from error
