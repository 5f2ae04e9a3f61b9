"""The options of an MQTT connection, and the limits that the broker states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paho.mqtt.client import MQTTv5

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.properties import Properties


@dataclass(frozen=True, slots=True)
class Hello:
    """The options of one connection."""

    host: str
    port: int
    client_id: str
    keepalive: int
    """whole seconds; a dead connection is noticed after twice as long"""
    status: str
    """topic of the will"""
    offline: bytes
    """payload of the will, published once the connection is lost"""
    retain: bool = True
    """False: the broker accepts no retained messages"""
    session: int = 0
    """seconds for which the broker keeps our subscriptions while we are disconnected; 0: none"""
    tls: ssl.SSLContext | None = None
    doubt: str = ""
    """what is known to be wrong with our certificate; empty: nothing"""
    user: str = ""
    password: str | None = field(default=None, repr=False)
    version: int = MQTTv5


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """The limits in the broker's CONNACK."""

    receive_maximum: int = 65_535
    packet_size: int = 268_435_460
    keepalive: int = 65_535
    retain: bool = True


def limits(properties: Properties | None) -> BrokerLimits:
    """The limits in the properties of a CONNACK (MQTT 5.0, 3.2.2.3)."""
    return BrokerLimits(
        receive_maximum=getattr(properties, "ReceiveMaximum", BrokerLimits().receive_maximum),
        packet_size=getattr(properties, "MaximumPacketSize", BrokerLimits().packet_size),
        # 0 switches the keep-alive off (MQTT 5.0, 3.2.2.3.14): ours stays, or a dead connection
        # would not be noticed
        keepalive=getattr(properties, "ServerKeepAlive", 0) or BrokerLimits().keepalive,
        retain=bool(getattr(properties, "RetainAvailable", 1)),
    )
