"""The configuration of an uplink over MQTT, and its topics (decision 006)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agent.core.i18n import Text
from agent.core.model import Lane
from agent.core.settings import Duration, FromTheRoot, Secret, checked_host, is_loopback
from agent.uplink.base import Recipient
from agent.uplink.pacing import Rhythm

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR = 3600
PORT, SECURE_PORT = 1883, 8883
ID = 15
"""characters of a gateway's id"""


class Topics(NamedTuple):
    """The topics of one gateway and one recipient."""

    gateway: str
    recipient: str

    def up(self, lane: Lane) -> str:
        """Batches of one lane; two topics, so that a platform can read the live one first."""
        return f"gardien/{self.gateway}/{self.recipient}/up/{lane.value}"

    @property
    def building(self) -> str:
        """The backup, in parts (agent.uplink.base)."""
        return f"gardien/{self.gateway}/{self.recipient}/up/building"

    @property
    def receipts(self) -> str:
        """Receipts from the recipient."""
        return f"gardien/{self.gateway}/{self.recipient}/down/receipts"

    @property
    def objects(self) -> str:
        """Signed objects for the gateway, one in each message."""
        return f"gardien/{self.gateway}/{self.recipient}/down/objects"

    @property
    def status(self) -> str:
        """The status document, retained; the broker publishes the will there."""
        return f"gardien/{self.gateway}/{self.recipient}/status"


@dataclass(frozen=True, slots=True)
class Preset:
    """The limits of one cloud broker, in addition to those in its CONNACK."""

    payload: int = 60_000
    """bytes of one message"""
    window: int = 100
    """unacknowledged messages at most"""
    keepalive: tuple[int, int] = (1, 1200)
    """shortest and longest, in seconds"""
    topic: int = 65_535
    """bytes of one topic"""
    session: int = 7 * 24 * HOUR
    """seconds for which the broker keeps our subscriptions while we are disconnected"""
    retain: bool = True
    """whether it accepts retained messages (status and will)"""
    named: bool = False
    """whether it requires our id as user name, in addition to the certificate"""


PRESETS: Mapping[str, Preset] = {
    "aws": Preset(keepalive=(30, 1200), topic=256),
    # 64 kB may be unacknowledged, and one message may have nearly as much
    "azure-event-grid": Preset(
        window=1, keepalive=(1, 1160), topic=256, session=8 * HOUR, retain=False, named=True
    ),
    "hivemq": Preset(window=10),
    "emqx": Preset(window=32),
}


ANY = Preset()


def address(url: str) -> tuple[str, int]:
    """Host and port of `mqtts://host:port`. Raises ValueError with a message for people."""
    parts = urlsplit(url)
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
        raise ValueError(Text('expected a broker such as "mqtts://platform.example:8883"'))
    checked_host(parts.hostname)
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            Text("a URL must not contain a user or a password, because they would be logged")
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(Text("the URL must end with the port: topics are made from the ids"))
    if parts.scheme == "mqtt" and not is_loopback(parts.hostname):
        raise ValueError(
            Text(
                "mqtt:// is not encrypted: readings and password could be read on the way, so it is"
                " allowed only on this machine. Write mqtts://{host}:{port}",
                host=parts.hostname,
                port=str(SECURE_PORT if parts.port in {None, PORT} else parts.port),
            )
        )
    usual = PORT if parts.scheme == "mqtt" else SECURE_PORT
    return parts.hostname, usual if parts.port is None else parts.port


def _is_address(url: str) -> str:
    address(url)
    return url


class Settings(BaseModel):
    """One uplink over MQTT, without `transport:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipient: Recipient
    url: Annotated[str, AfterValidator(_is_address)] = Field(
        description="the broker: mqtts://, or on this machine mqtt:// without TLS",
        examples=["mqtts://platform.example:8883"],
    )
    ca: FromTheRoot | None = Field(
        default=None,
        description="the certificate of the CA that issued the broker's certificate;"
        " without it, the CAs of the system",
        examples=["/etc/gardien/platform-ca.pem"],
    )
    user: str = Field(
        default="",
        max_length=255,
        description="a user name, if the broker requires one in addition to our certificate",
        examples=["gardien"],
    )
    password: Secret | None = Field(
        default=None,
        description="where that user's password is stored",
        examples=["credential:gardien_broker-password"],
    )
    preset: Literal["aws", "azure-event-grid", "hivemq", "emqx"] | None = Field(
        default=None,
        description="the cloud broker whose limits to keep, in addition to those that it states",
        examples=["aws"],
    )
    version: Literal["5", "3.1.1"] = Field(
        default="5",
        description="the version of MQTT; 5 falls back to 3.1.1 if the broker requires it",
        examples=["5"],
    )
    receipt: Literal["platform", "signed", "broker"] = Field(
        default="platform",
        description="who confirms a batch: the platform; the platform with its signature, even"
        " while the trust list names no key for it; or the broker, which is weaker because a"
        " broker can lose what it accepted",
        examples=["platform"],
    )
    objects: bool = Field(
        default=True,
        description="whether signed objects (consents, orders, requests) are accepted from here;"
        " the broker then keeps them while the gateway is disconnected",
        examples=[True],
    )
    seal: Duration = Field(
        default=60.0,
        ge=0.02,
        le=86_400,
        description="how often new readings are sent",
        examples=["60s"],
    )
    window: int = Field(
        default=8, ge=1, le=100, description="how many messages may be unacknowledged", examples=[8]
    )
    keepalive: Duration = Field(
        default=30.0,
        ge=1,
        le=1200,
        description="the keep-alive interval; a dead connection is noticed after twice as long",
        examples=["30s"],
    )

    @property
    def rhythm(self) -> Rhythm:
        """The intervals and limits of batches."""
        return Rhythm(seal=self.seal)

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        limits, (low, high) = self.limits, self.limits.keepalive
        if not low <= self.keepalive <= high:
            raise ValueError(
                Text(
                    "{preset} requires a `keepalive` from {low}s to {high}s",
                    preset=self.preset,
                    low=low,
                    high=high,
                )
            )
        if len(Topics("G" * ID, self.recipient).up(Lane.BACKFILL)) > limits.topic:
            raise ValueError(
                Text(
                    "{preset} allows topics of {topic} bytes: the recipient's name is too long",
                    preset=self.preset,
                    topic=limits.topic,
                )
            )
        return self

    @property
    def limits(self) -> Preset:
        """The limits of the broker."""
        return PRESETS[self.preset] if self.preset else ANY
