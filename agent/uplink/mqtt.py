"""MQTT 5: batches go up at QoS 1, receipts come down. What the broker says is never a receipt."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.buffer.receipts import parse
from agent.errors import BatchRejected
from agent.model import Lane
from agent.settings import Duration  # noqa: TC001 -- pydantic reads it
from agent.uplink.reasons import judge
from agent.uplink.topics import Topics
from agent.uplink.wire import Hello, Wire, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.model import Receipt, Sealed

log = logging.getLogger(__name__)

PORT = 1883
LARGEST_PAYLOAD = 60_000
"""bytes; every broker and cloud service we know takes as much"""
FRAME = 16
"""bytes of a PUBLISH beside topic and payload, rounded up (MQTT 5.0, 3.3)"""
DNS_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"


def address(url: str) -> tuple[str, int]:
    """Host and port of `mqtt://host:port`. Raises ValueError in words for people."""
    parts = urlsplit(url)
    if parts.scheme == "mqtts":
        raise ValueError("mqtts:// is not built yet: write mqtt:// for a broker on loopback")
    if parts.scheme != "mqtt" or not parts.hostname:
        raise ValueError('expected a broker such as "mqtt://127.0.0.1:1883"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password in a URL: it would be logged")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("nothing may follow the port: topics are made from the ids")
    return parts.hostname, PORT if parts.port is None else parts.port


def _is_address(url: str) -> str:
    address(url)
    return url


class Settings(BaseModel):
    """One uplink over MQTT, without its `transport:` word."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipient: str = Field(
        pattern=f"^{DNS_NAME}$",
        max_length=253,
        description="who receives the data; a DNS name in lower case, which consents name",
        examples=["energie.metropole.example"],
    )
    url: Annotated[str, AfterValidator(_is_address)] = Field(
        description="the broker", examples=["mqtt://127.0.0.1:1883"]
    )
    receipt: Literal["platform"] = Field(
        default="platform",
        description="whose word settles a batch: the platform's, for a broker loses what it took",
        examples=["platform"],
    )
    seal: Duration = Field(
        default=60.0,
        ge=0.02,
        le=86_400,
        description="how often what is new is sent",
        examples=["60s"],
    )
    window: int = Field(
        default=8, ge=1, le=100, description="messages under way at most", examples=[8]
    )
    keepalive: Duration = Field(
        default=30.0,
        ge=1,
        le=1200,
        description="a dead connection is noticed after twice as long",
        examples=["30s"],
    )


class MqttUplink:
    """An open connection to one recipient's broker (agent.uplink.base.Uplink)."""

    Settings: type[BaseModel] = Settings

    def __init__(self, wire: Wire, topics: Topics, window: int) -> None:
        self._wire = wire
        self._topics = topics
        self._window = asyncio.Semaphore(min(window, wire.limits.receive_maximum))
        self._odd = 0
        longest = max(len(topics.up(lane)) for lane in Lane)
        self.most_bytes = min(LARGEST_PAYLOAD, wire.limits.packet_size - longest - FRAME)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any, gateway: str) -> AsyncIterator[Self]:
        """Connect, listen for receipts, say that we are here. Raises UplinkLost if it cannot."""
        topics = Topics(gateway, settings.recipient)
        async with connect(_hello(settings, topics)) as wire:
            await wire.subscribe(topics.receipts)
            await wire.publish(topics.status, _status(topics, "online"), retain=True)
            yield cls(wire, topics, settings.window)

    async def send(self, batch: Sealed) -> None:
        """Hand one batch to the broker: at most `window` at a time, first come first served.

        Raises BatchRejected if it is larger than the broker takes, NotStored (NobodyThere) or
        UplinkLost.
        """
        if len(batch.payload) > self.most_bytes:
            raise BatchRejected(f"{len(batch.payload)} B: at most {self.most_bytes} B can be sent")
        async with self._window:
            code = await self._wire.publish(self._topics.up(batch.lane), batch.payload)
        judge(code)

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts as they come; what is none is logged and passed over. Raises UplinkLost."""
        async for payload in self._wire.messages():
            try:
                receipt = parse(payload)
            except ValueError as error:
                self._odd += 1
                if self._odd == 1:
                    log.warning("%s sent something that is no receipt: %s", self._topics[1], error)
                continue
            yield receipt


def _hello(settings: Settings, topics: Topics) -> Hello:
    host, port = address(settings.url)
    return Hello(
        host=host,
        port=port,
        client_id=f"gardien-{topics.gateway}-{topics.recipient}",
        keepalive=max(1, int(settings.keepalive)),
        status=topics.status,
        offline=_status(topics, "offline"),
    )


def _status(topics: Topics, state: Literal["online", "offline"]) -> bytes:
    members = {"schema": "gardien/status/1", **topics._asdict(), "state": state}
    return json.dumps(members, separators=(",", ":")).encode()
