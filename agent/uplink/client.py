"""paho's MQTT client as gardien uses it: one client for each connection, without reconnecting."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.uplink.incoming import LARGEST_MESSAGE, BoundedClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import Client
    from paho.mqtt.enums import MQTTErrorCode

    from agent.uplink.connect_options import Hello

CONNECT_SECONDS = 10.0
AT_ONCE = 10
"""messages that the broker may send before we acknowledge one (Receive Maximum)"""
CODE_AT, UNSPECIFIED = 2, 0x80
"""offset of the reason code in a PUBACK (MQTT 5.0, 3.4.2); the code for an unspecified error"""


class OurClient(BoundedClient):
    """Reports reason codes that MQTT does not define; with them paho's thread would end."""

    unnamed: Callable[[int, int], None] = staticmethod(lambda _mid, _code: None)
    """called with packet id and undefined code, before `on_publish` gets an unspecified error"""

    def _handle_pubackcomp(self, cmd: Any) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if cmd == "PUBACK" and len(packet) > CODE_AT:
            try:
                ReasonCode(PacketTypes.PUBACK, identifier=packet[CODE_AT])
            except (AssertionError, ValueError):
                self.unnamed(int.from_bytes(packet[:CODE_AT], "big"), packet[CODE_AT])
                packet[CODE_AT] = UNSPECIFIED
        return super()._handle_pubackcomp(cmd)


def made(hello: Hello) -> OurClient:
    """A configured client, not connected yet."""
    five = hello.version == MQTTv5
    client = OurClient(
        CallbackAPIVersion.VERSION2,
        hello.client_id,
        # with MQTT 5 paho raises ValueError if this is given; `dial` gives clean_start instead
        clean_session=None if five else not hello.session,
        protocol=hello.version,
        reconnect_on_failure=False,
        # paho would acknowledge an object before the inbox has stored it: a crash would lose it
        # (rule T26)
        manual_ack=True,
    )
    # an exception in a callback would end paho's thread without a sound
    client.suppress_exceptions = True
    client.connect_timeout = CONNECT_SECONDS
    client.will_set(hello.status, hello.offline, qos=1, retain=hello.retain)
    if hello.user:
        client.username_pw_set(hello.user, hello.password)
    if hello.tls is not None:
        hello.tls.sslsocket_class = _Secure
        client.tls_set_context(hello.tls)
    client.on_socket_open = _no_delay
    return client


def dial(client: Client, hello: Hello) -> None:
    """Connect; blocks during DNS, TCP and TLS. Raises OSError or UnicodeError."""
    options: dict[str, Any] = {}
    if hello.version == MQTTv5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = LARGEST_MESSAGE
        properties.ReceiveMaximum = AT_ONCE
        if hello.session:
            properties.SessionExpiryInterval = hello.session
        options = {"clean_start": not hello.session, "properties": properties}
    client.connect(hello.host, hello.port, keepalive=hello.keepalive, **options)


class _Secure(ssl.SSLSocket):
    """A TLS socket with a timeout for the handshake, closed if that fails.

    paho 2.1 lets a handshake last for a keep-alive, and leaves a failed socket to the garbage
    collector.
    """

    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(CONNECT_SECONDS)
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _no_delay(_client: Client, _userdata: object, wire: Any) -> None:
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
