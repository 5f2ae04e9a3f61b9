"""paho's client as we use it: one for one connection, that never reconnects by itself."""

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
"""messages that the broker may send us before we have acknowledged one"""
CODE_AT, UNSPECIFIED = 2, 0x80
"""where a PUBACK has its reason code, behind the packet id (MQTT 5.0, 3.4.2), and one for all"""


class OurClient(BoundedClient):
    """Tells of answers that MQTT has no name for, at which paho's thread would end."""

    unnamed: Callable[[int, int], None] = staticmethod(lambda _mid, _code: None)
    """called with packet id and code of one, before `on_publish` with an unspecified error"""

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
    """A client that says so, not connected yet."""
    five = hello.version == MQTTv5
    client = OurClient(
        CallbackAPIVersion.VERSION2,
        hello.client_id,
        clean_session=None if five else not hello.session,
        protocol=hello.version,
        reconnect_on_failure=False,
        manual_ack=True,
    )
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
    """Connect; blocks for DNS, TCP and TLS. Raises OSError or UnicodeError."""
    words: dict[str, Any] = {}
    if hello.version == MQTTv5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = LARGEST_MESSAGE
        properties.ReceiveMaximum = AT_ONCE
        if hello.session:
            properties.SessionExpiryInterval = hello.session
        words = {"clean_start": not hello.session, "properties": properties}
    client.connect(hello.host, hello.port, keepalive=hello.keepalive, **words)


class _Secure(ssl.SSLSocket):
    """A TLS socket whose handshake does not last for ever (paho 2.1 waits for a keep-alive), and
    that is closed when it fails (paho leaves it to chance).
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
