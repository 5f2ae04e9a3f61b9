"""What a connection to a broker states about itself, and what the broker asks of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paho.mqtt.client import MQTTv5

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.properties import Properties


@dataclass(frozen=True, slots=True)
class Hello:
    """What a connection states about itself."""

    host: str
    port: int
    client_id: str
    keepalive: int
    """whole seconds; a dead link is noticed after twice as long"""
    status: str
    """topic of the will"""
    offline: bytes
    """what the broker says there, retained, once we are gone"""
    retain: bool = True
    """False: it takes no retained messages"""
    session: int = 0
    """seconds for which the broker keeps our subscriptions while we are away; 0: not at all"""
    tls: ssl.SSLContext | None = None
    doubt: str = ""
    """what is known to be wrong with our own certificate"""
    user: str = ""
    password: str | None = field(default=None, repr=False)
    version: int = MQTTv5


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """What the broker asks of us in its CONNACK."""

    receive_maximum: int = 65_535
    packet_size: int = 268_435_460
    keepalive: int = 65_535
    retain: bool = True


def limits(properties: Properties | None) -> BrokerLimits:
    """Those of a CONNACK (MQTT 5.0, 3.2.2.3)."""
    return BrokerLimits(
        receive_maximum=getattr(properties, "ReceiveMaximum", BrokerLimits().receive_maximum),
        packet_size=getattr(properties, "MaximumPacketSize", BrokerLimits().packet_size),
        keepalive=getattr(properties, "ServerKeepAlive", 0) or BrokerLimits().keepalive,
        retain=bool(getattr(properties, "RetainAvailable", 1)),
    )
