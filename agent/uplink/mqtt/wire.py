"""One connection to a broker over paho.

Its bytes are checked while they arrive. Each request waits for its answer by packet id.

paho trusts lengths: a packet of 250 MB fills the memory, whatever maximum we announced (in MQTT
3.1.1 we cannot announce one). It keeps every QoS 2 message until the broker releases it, answers
every request, and needs a second or more for thousands of properties. So the first byte that shows
a packet that the broker must not send ends the connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.client import Client, MQTTv5, MQTTv311, error_string
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.core.clock import seconds
from agent.core.errors import CertificateRefused, UplinkLost
from agent.core.i18n import N_, Text, text_of
from agent.enrolment.tls import explain, lost, refusal, refuses
from agent.uplink.base import WRONG_LOGIN, used

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Sequence

    from paho.mqtt.client import MQTTMessage

ANSWER_SECONDS = 60.0
CONNECT_SECONDS = 10.0
AT_ONCE = 10
"""messages that the broker may send before we acknowledge one (Receive Maximum)"""
CODE_AT, UNSPECIFIED = 2, 0x80
"""offset of the reason code in a PUBACK (MQTT 5.0, 3.4.2); the code for an unspecified error"""
CLOSE_SECONDS = 2.0
LATEST_PING = 0.25
"""share of the keep-alive after which paho's thread looks at it"""
INBOX, INBOX_BYTES = 256, 12_000_000
"""messages that wait for a slow reader, and their bytes: ten of the largest messages, which a
broker may send before we acknowledge one
"""
UNSPOKEN = "Unsupported protocol version"
STRANGER = {N_("Not authorized"), N_("Bad user name or password")}
"""paho's texts of the reason codes for an unknown client"""
REFUSED = 0x80
"""reason codes from this one on are refusals (MQTT 5.0, 2.4; 3.1.1, 3.9.3)"""
LARGEST_MESSAGE = 1_100_000
"""bytes of one message; the largest signed object has 1 MiB"""
LARGEST_OTHER = 16_384
"""bytes of any other packet, and of the properties of a message"""
LONGEST_TOPIC = 1_000
"""bytes; our topics have 550 at most"""
CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
SENT_TO_US = {CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT}
"""packet types that a broker sends to a client that uses QoS 0 and 1 only"""
ANSWERS = 1_000
"""unread acknowledgements of ours; the broker may have ten unacknowledged messages"""


class Pending:
    """The pending requests of one connection; used on the event loop only."""

    def __init__(self, where: str) -> None:
        """`where`: the broker's address for messages."""
        self._where = where
        self._open: dict[int, asyncio.Future[int]] = {}
        self._last = 0.0

    def got(self, mid: int, code: int) -> None:
        """Settle a request with the reason code of its answer."""
        self._last = asyncio.get_running_loop().time()
        answer = self._open.get(mid)
        if answer and not answer.done():
            answer.set_result(code)

    def fail(self, why: str, error: type[UplinkLost] = UplinkLost) -> None:
        """Fail all pending requests with `error`: the connection is lost."""
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(error(why))

    async def answer(self, mid: int) -> int:
        """The reason code of the answer to a packet. Raises UplinkLost, also after a timeout."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        self._open[mid], asked = answer, loop.time()
        try:
            while not answer.done():
                # the timeout runs from the last answer: on a slow line a full window takes minutes
                left = max(asked, self._last) + ANSWER_SECONDS - loop.time()
                if left <= 0:
                    raise UplinkLost(
                        "{where}: no answer in {answer_seconds:.0f} s",
                        where=self._where,
                        answer_seconds=ANSWER_SECONDS,
                    )
                await asyncio.wait([answer], timeout=left)
            return answer.result()
        finally:
            answer.cancel()
            del self._open[mid]


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


class BoundedClient(Client):
    """paho's client with the checks of `Incoming`.

    Its thread sleeps until something comes, something is to be sent, `hang_up` is called or the
    keep-alive is to be looked at; paho's own looks at it every second.
    """

    complaint = ""
    """what the broker sent, if that ended the connection"""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incoming = Incoming(properties=self._protocol == MQTTv5)
        self._answers = 0

    def loop_forever(
        self, timeout: float = 0.0, retry_first_connection: bool = False
    ) -> MQTTErrorCode:
        """As paho's, which `loop_start` runs in a thread, but for one connection. `timeout`: the
        longest sleep in seconds; 0: a quarter of the keep-alive. A ping then leaves at most that
        late, and a broker waits for one and a half (MQTT 5, 3.1.2.10).
        """
        del retry_first_connection
        longest = timeout or self.keepalive * LATEST_PING
        while (code := self.loop(longest)) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass
        return code

    def _sock_recv(self, bufsize: int) -> bytes:
        data = super()._sock_recv(bufsize)
        try:
            self._incoming.feed(data)
        except OutOfBounds as error:
            self.complaint = text_of(error)
            raise
        return data

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """As paho's, but a packet that it cannot parse ends the connection, not the thread."""
        try:
            return super().loop_read(max_packets)
        except Exception as error:  # noqa: BLE001 -- paho 2.1 raises whatever a packet makes it do
            self.complaint = Text("a packet that cannot be read: {error}", error=repr(error))
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL)

    def ack(self, mid: int, qos: int) -> MQTTErrorCode:
        """As paho's, but disconnects from a broker that does not read our acknowledgements."""
        # paho keeps unsent acknowledgements without a limit while the socket takes nothing
        self._answers = self._answers + 1 if self.want_write() else 0
        if self._answers > ANSWERS:
            self.complaint = Text(
                "messages without reading {answers} acknowledgements of ours", answers=ANSWERS
            )
            self.hang_up()
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        return super().ack(mid, qos)

    def hang_up(self) -> None:
        """Cut the connection; paho's thread notices at once."""
        wire = self.socket()
        if isinstance(wire, socket.socket):
            with suppress(OSError):  # already cut
                # not SSLSocket.shutdown, which removes the TLS session that paho's thread uses
                socket.socket.shutdown(wire, socket.SHUT_RDWR)


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


class Message(NamedTuple):
    """One received message; it is acknowledged once it is settled."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    again: bool = False
    """it was read before, and put back by `requeue`"""


class _Unspoken(UplinkLost):
    """The broker does not speak this version of MQTT."""


class MqttConnection:
    """An open MQTT connection; made by `connect`."""

    def __init__(self, hello: Hello) -> None:
        self.limits = BrokerLimits()
        self._hello = hello
        self._loop = asyncio.get_running_loop()
        self._lost = ""
        """why the connection is lost; empty: it is open"""
        self._error: type[UplinkLost] = UplinkLost
        """the class of the error that says so"""
        self._complaint = ""
        """paho's message about the socket before it was lost"""
        self._used = 0
        self._gone = asyncio.Event()
        self._abandoned = threading.Event()
        self._connack: asyncio.Future[tuple[ReasonCode, Properties | None]]
        self._connack = self._loop.create_future()
        self._pending = Pending(self._where)
        self._inbox: deque[Message] = deque()
        self._counting = threading.Lock()
        self._held = self._held_bytes = 0
        """messages from paho's thread that are not read yet: the loop may be busy"""
        self._news = asyncio.Event()
        self._client = self._paho()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish at QoS 1; return the reason code of the PUBACK. Raises UplinkLost."""
        self._check_open()
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise UplinkLost(error_string(info.rc))
        return await self._pending.answer(info.mid)

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe. Raises UplinkLost, also if the broker refuses."""
        self._check_open()
        rc, mid = self._client.subscribe(topic, qos=qos)
        if mid is None or rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise UplinkLost(error_string(rc))
        if (code := await self._pending.answer(mid)) >= REFUSED:
            raise UplinkLost(
                "the broker refuses the subscription to {topic} (0x{code:02X})",
                topic=topic,
                code=code,
            )

    async def messages(self) -> AsyncIterator[Message]:
        """Messages as they arrive. Raises UplinkLost when the connection is lost, even while idle.

        At the next connection of the session the broker repeats unacknowledged messages.
        """
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                if not message.again:
                    self._count(-1, -len(message.payload))
                yield message
            self._check_open()
            self._news.clear()
            await self._news.wait()

    def requeue(self, messages: Sequence[Message]) -> None:
        """Put unacknowledged messages back, before all later ones."""
        self._inbox.extendleft(message._replace(again=True) for message in reversed(messages))
        self._news.set()

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a settled message."""
        self._client.ack(message.mid, message.qos)

    def used(self) -> int:
        """Bytes sent and received since the connection was opened, with all headers."""
        tcp = self._client.socket()
        if isinstance(tcp, socket.socket):
            # a closed socket counts 0: keep what was counted before
            self._used = used(tcp) or self._used
        return self._used

    async def dial(self) -> None:
        """Connect within 10 s. Raises UplinkLost with a message for people."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.to_thread(self._dial)
                self._client.loop_start()
                code, properties = await self._connack
        except TimeoutError:
            raise UplinkLost(
                "no answer from {where} in {connect_seconds:.0f} s",
                where=self._where,
                connect_seconds=CONNECT_SECONDS,
            ) from None
        except (OSError, UnicodeError) as error:
            raise lost(error)(self._with_doubt(self._dial_reason(error))) from error
        if str(code) == UNSPOKEN and self._hello.version == MQTTv5:
            raise _Unspoken("{where} does not speak MQTT 5", where=self._where)
        if code.is_failure:
            hint = Text(WRONG_LOGIN) if str(code) in STRANGER else ""
            raise UplinkLost(
                self._with_doubt(
                    Text(
                        "{where} refuses the connection: {code}{hint}",
                        where=self._where,
                        code=Text(str(code)),
                        hint=hint,
                    )
                )
            )
        self.limits = limits(properties)

    async def close(self) -> None:
        """Disconnect so that the broker publishes the will; takes a few seconds at most."""
        self._abandoned.set()
        try:
            if not self._lost and self._connack.done():
                with suppress(TimeoutError, UplinkLost):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._disconnect()
                        await self._gone.wait()
        finally:
            self._client.hang_up()
            self._close_with("closed")
            # loop_stop joins paho's thread, which would block the event loop
            await asyncio.to_thread(self._client.loop_stop)
            # paho leaves two file descriptors of each connection to the garbage collector
            self._client._reset_sockets(sockpair_only=True)  # noqa: SLF001

    async def _disconnect(self) -> None:
        hello = self._hello
        if hello.version == MQTTv5:
            reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
            self._client.disconnect(reasoncode=reason)
            return
        # in 3.1.1 a broker drops the will at a DISCONNECT: publish it ourselves
        await self.publish(hello.status, hello.offline, retain=hello.retain)
        self._client.disconnect()

    @property
    def _where(self) -> str:
        return f"{self._hello.host}:{self._hello.port}"

    def _dial_reason(self, error: Exception) -> str:
        cut = self._hello.tls is not None and isinstance(error, ConnectionResetError)
        if cut or isinstance(error, ssl.SSLError):
            return explain(error, self._where, seconds())
        return Text("cannot connect to {where}: {value}", where=self._where, value=error)

    def _with_doubt(self, why: str) -> str:
        doubt = self._hello.doubt
        return Text("{why}; {doubt}", why=why, doubt=doubt) if doubt else why

    def _paho(self) -> BoundedClient:
        paho = made(self._hello)
        # each callback runs in paho's thread and must not raise: it would end the thread silently
        paho.on_log = self._on_log
        paho.on_connect = lambda _c, _u, _f, code, props: self._to_loop(
            self._on_connack, code, props
        )
        paho.on_disconnect = lambda _c, _u, flags, code, _p: self._to_loop(
            self._on_disconnect, code, flags.is_disconnect_packet_from_server
        )
        paho.on_publish = lambda _c, _u, mid, code, _p: self._to_loop(
            self._pending.got, mid, code.value
        )
        paho.unnamed = lambda mid, code: self._to_loop(self._pending.got, mid, code)
        paho.on_subscribe = lambda _c, _u, mid, codes, _p: self._to_loop(
            self._pending.got, mid, max(code.value for code in codes)
        )
        paho.on_message = lambda _c, _u, message: self._receive(_copied(message))
        return paho

    def _dial(self) -> None:
        dial(self._client, self._hello)
        # `close` ran while this thread was connecting, so nobody else would close this socket
        if self._abandoned.is_set():
            self._client.hang_up()

    def _on_log(self, _client: Client, _userdata: object, level: int, text: str) -> None:
        """In paho's thread: only the log states why a socket was lost."""
        if level == LogLevel.MQTT_LOG_ERR and not self._complaint:
            self._complaint = text

    def _to_loop(self, what: Callable[..., None], *facts: Any) -> None:
        with suppress(RuntimeError):  # the event loop has ended before paho's thread
            self._loop.call_soon_threadsafe(what, *facts)

    def _on_connack(self, code: ReasonCode, properties: Properties | None) -> None:
        if not self._connack.done():
            self._connack.set_result((code, properties))

    def _receive(self, message: Message) -> None:
        """In paho's thread: if the inbox is full, drop a QoS 0 message; at QoS 1 end the
        connection.
        """
        size = len(message.payload)
        # limits memory: the broker may send faster than a busy event loop reads
        if self._held < INBOX and self._held_bytes + size <= INBOX_BYTES:
            self._count(1, size)
            self._to_loop(self._enqueue, message)
        elif message.qos and not self._client.complaint:
            self._client.complaint = Text("more messages than it may before we acknowledge one")
            self._client.hang_up()

    def _count(self, messages: int, size: int) -> None:
        # paho's thread adds while the event loop subtracts
        with self._counting:
            self._held += messages
            self._held_bytes += size

    def _enqueue(self, message: Message) -> None:
        self._inbox.append(message)
        self._news.set()

    def _on_disconnect(self, code: ReasonCode, by_broker: bool) -> None:
        early = self._hello.tls is not None and not self._connack.done() and not by_broker
        if self._client.complaint:
            self._close_with(Text("the broker sent {complaint}", complaint=self._client.complaint))
        elif "SSL" in self._complaint:
            error = CertificateRefused if refuses(self._complaint) else UplinkLost
            self._close_with(self._with_doubt(refusal(self._complaint, self._where)), error)
        elif early:
            self._close_with(
                self._with_doubt(
                    Text("the broker closed the connection; perhaps it refuses our certificate")
                ),
                CertificateRefused,
            )
        else:
            self._close_with(_disconnect_reason(code, by_broker=by_broker))

    def _close_with(self, why: str, error: type[UplinkLost] = UplinkLost) -> None:
        if not self._lost:
            whole = Text("{where}: {why}", where=self._where, why=why)
            self._lost = why if self._where in why else whole
            self._error = error
        self._pending.fail(self._lost, self._error)
        if not self._connack.done():
            self._connack.set_exception(self._error(self._lost))
        if not self._connack.cancelled():
            self._connack.exception()  # marks the exception as retrieved
        self._gone.set()
        self._news.set()

    def _check_open(self) -> None:
        if self._lost:
            raise self._error(self._lost)


@asynccontextmanager
async def connect(hello: Hello) -> AsyncIterator[MqttConnection]:
    """Open a connection in the version and with the keep-alive that the broker asks for.

    Raises UplinkLost.
    """
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(_connection(hello))
        except _Unspoken:
            hello = replace(hello, version=MQTTv311)
            connection = await stack.enter_async_context(_connection(hello))
        if connection.limits.keepalive < hello.keepalive:
            # paho 2.1 ignores the broker's keep-alive and would be cut off: connect again with it
            await stack.aclose()
            hello = replace(hello, keepalive=connection.limits.keepalive)
            connection = await stack.enter_async_context(_connection(hello))
        yield connection


@asynccontextmanager
async def _connection(hello: Hello) -> AsyncIterator[MqttConnection]:
    connection = MqttConnection(hello)
    try:
        await connection.dial()
        yield connection
    finally:
        await connection.close()


def _disconnect_reason(code: ReasonCode, *, by_broker: bool) -> str:
    if by_broker and code == "Normal disconnection":  # paho 2.1 loses the reason of a short packet
        return Text("the broker closed the connection; perhaps another client uses our client id")
    if by_broker:
        return Text("the broker closed the connection: {code}", code=code)
    silent = code == "Keep alive timeout"
    return Text("the broker does not answer") if silent else Text("the connection was lost")


def _copied(message: MQTTMessage) -> Message:
    return Message(message.topic, message.payload, message.mid, message.qos)


class OutOfBounds(OSError):
    """The broker sent a packet that it must not send; paho then ends the connection."""


class Incoming:
    """Parser of the bytes of one connection (MQTT 5.0 and 3.1.1, 2.1)."""

    def __init__(self, *, properties: bool) -> None:
        """`properties`: whether messages have properties, as in MQTT 5."""
        self._properties = properties
        self._packets = self._read()
        self._needed = next(self._packets)
        """the next bytes: above 0, how many to parse; below 0, how many to skip"""
        self._seen = bytearray()

    def feed(self, data: bytes) -> None:
        """Check the next bytes. Raises OutOfBounds."""
        at = 0
        while at < len(data):
            taken = min(len(data) - at, abs(self._needed) - len(self._seen))
            if self._needed < 0:
                self._needed += taken
            else:
                self._seen += data[at : at + taken]
            at += taken
            if len(self._seen) == self._needed:
                self._needed = self._packets.send(bytes(self._seen))
                self._seen.clear()

    def _read(self) -> Generator[int, bytes]:
        while True:
            first = (yield 1)[0]
            size, _ = yield from _number()
            if first >> 4 != PUBLISH:
                _other(first >> 4, size)
            elif size > LARGEST_MESSAGE:
                raise OutOfBounds(
                    Text(
                        "a message of {size} bytes; the limit is {largest_message}",
                        size=size,
                        largest_message=LARGEST_MESSAGE,
                    )
                )
            else:
                size -= yield from self._head(first >> 1 & 3)
            if size < 0:
                raise OutOfBounds(Text("a packet that is longer than its stated length"))
            if size:
                yield -size

    def _head(self, qos: int) -> Generator[int, bytes, int]:
        """The number of bytes before the properties and payload of a message."""
        if qos > 1:
            raise OutOfBounds(Text("a message of QoS {qos}, which was not subscribed", qos=qos))
        topic = int.from_bytes((yield 2))
        if topic > LONGEST_TOPIC:
            raise OutOfBounds(
                Text(
                    "a topic of {topic} bytes; the limit is {longest_topic}",
                    topic=topic,
                    longest_topic=LONGEST_TOPIC,
                )
            )
        number = 2 if qos else 0
        if topic + number:
            yield -topic - number
        if not self._properties:
            return 2 + topic + number
        size, counted = yield from _number()
        if size > LARGEST_OTHER:
            raise OutOfBounds(
                Text(
                    "{size} bytes of properties; the limit is {largest_other}",
                    size=size,
                    largest_other=LARGEST_OTHER,
                )
            )
        return 2 + topic + number + counted


def _other(kind: int, size: int) -> None:
    if kind not in SENT_TO_US:
        raise OutOfBounds(Text("a packet of type {kind}, which is for brokers or QoS 2", kind=kind))
    if size > LARGEST_OTHER:
        raise OutOfBounds(
            Text(
                "an answer of {size} bytes; the limit is {largest_other}",
                size=size,
                largest_other=LARGEST_OTHER,
            )
        )


def _number() -> Generator[int, bytes, tuple[int, int]]:
    """A variable byte integer, and its length in bytes (MQTT 5.0, 1.5.5)."""
    value = 0
    for at in range(4):
        byte = (yield 1)[0]
        value |= (byte & 0x7F) << 7 * at
        if byte < 0x80:  # noqa: PLR2004 -- no more bytes follow
            return value, at + 1
    raise OutOfBounds(Text("a length of more than four bytes"))
