"""One paho client for one connection, seen from asyncio (design note 006).

Every rule here answers a measured fault of paho: it keeps unsent messages in memory and floods them
out at its own reconnects (so it never reconnects, and each attempt has a client of its own); a
callback that raises kills its thread without a word (so callbacks only hand over to the loop); a
PUBACK may overtake the return of `publish` (so answers are matched on the loop, in order); without
TCP_NODELAY small windows stall 40 ms a message; and it ignores the keep-alive a broker asks for.
MQTT 5; a broker that does not speak it is spoken to in 3.1.1, where no answer has a reason.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.client import MQTTv5, MQTTv311, error_string
from paho.mqtt.enums import LogLevel, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.clock import seconds
from agent.enrolment.tls import explain, refusal
from agent.errors import UplinkLost
from agent.uplink import client
from agent.uplink.client import CONNECT_SECONDS
from agent.uplink.connect_options import BrokerLimits, Hello, limits
from agent.uplink.pending import Pending
from agent.uplink.traffic import used

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.properties import Properties

    from agent.uplink.incoming import BoundedClient

CLOSE_SECONDS = 2.0
INBOX, INBOX_BYTES = 256, 12_000_000
"""messages held for a slow reader, and their bytes: ten of the largest, which a broker may send
before we have acknowledged one
"""
UNSPOKEN = "Unsupported protocol version"
STRANGER = {"Not authorized", "Bad user name or password"}
"""what a broker says of who it does not know, as paho words the reason codes"""
REFUSED = 0x80
"""and above: a refusal (MQTT 5.0, 2.4; 3.1.1, 3.9.3)"""


class Message(NamedTuple):
    """One message as it came; to be acknowledged once it is dealt with."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    again: bool = False
    """it was taken before, and put back"""


class _Unspoken(UplinkLost):
    """The broker does not speak this version of MQTT."""


class HttpConnection:
    """An open connection; `connect` makes it."""

    def __init__(self, hello: Hello) -> None:
        self.limits = BrokerLimits()
        self._hello = hello
        self._loop = asyncio.get_running_loop()
        self._lost = ""
        self._complaint = ""
        """of the socket, in paho's words, before it gave up"""
        self._used = 0
        self._gone = asyncio.Event()
        self._abandoned = threading.Event()
        self._connack: asyncio.Future[tuple[ReasonCode, Properties | None]]
        self._connack = self._loop.create_future()
        self._pending = Pending(self._where)
        self._inbox: deque[Message] = deque()
        self._counting = threading.Lock()
        self._held = self._held_bytes = 0
        """messages that paho's thread handed over and nobody has taken yet: the loop may be busy"""
        self._news = asyncio.Event()
        self._client = self._paho()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish at QoS 1; the reason code of the PUBACK. Raises UplinkLost."""
        self._standing()
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise UplinkLost(error_string(info.rc))
        return await self._pending.answer(info.mid)

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe. Raises UplinkLost, also when the broker does not allow it."""
        self._standing()
        rc, mid = self._client.subscribe(topic, qos=qos)
        if mid is None or rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise UplinkLost(error_string(rc))
        if (code := await self._pending.answer(mid)) >= REFUSED:
            raise UplinkLost(f"the broker does not let us subscribe to {topic} (0x{code:02X})")

    async def messages(self) -> AsyncIterator[Message]:
        """What comes, for ever. Raises UplinkLost when the link is gone, idle or not.

        The broker sends again what was not acknowledged, at the next connection of a session.
        """
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                if not message.again:
                    self._count(-1, -len(message.payload))
                yield message
            self._standing()
            self._news.clear()
            await self._news.wait()

    def requeue(self, messages: Sequence[Message]) -> None:
        """Let messages that were not acknowledged come once more, before all that came later."""
        self._inbox.extendleft(message._replace(again=True) for message in reversed(messages))
        self._news.set()

    def acknowledge(self, message: Message) -> None:
        """Say that a message was dealt with."""
        self._client.ack(message.mid, message.qos)

    def used(self) -> int:
        """Bytes on the wire in both directions since it was opened, with all headers."""
        wire = self._client.socket()
        if isinstance(wire, socket.socket):
            self._used = used(wire) or self._used
        return self._used

    async def dial(self) -> None:
        """Connect within 10 s. Raises UplinkLost, in words for people."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.to_thread(self._dial)
                self._client.loop_start()
                code, properties = await self._connack
        except TimeoutError:
            raise UplinkLost(f"no answer from {self._where} in {CONNECT_SECONDS:.0f} s") from None
        except (OSError, UnicodeError) as error:
            raise UplinkLost(self._doubted(self._undialled(error))) from error
        if str(code) == UNSPOKEN and self._hello.version == MQTTv5:
            raise _Unspoken(f"{self._where} does not speak MQTT 5")
        if code.is_failure:
            hint = "; does it know this `user` and `password`?" if str(code) in STRANGER else ""
            raise UplinkLost(self._doubted(f"{self._where} refuses the connection: {code}{hint}"))
        self.limits = limits(properties)

    async def close(self) -> None:
        """Say goodbye so that the broker states the will; never longer than some seconds."""
        self._abandoned.set()
        try:
            if not self._lost and self._connack.done():
                with suppress(TimeoutError, UplinkLost):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._farewell()
                        await self._gone.wait()
        finally:
            self._client.hang_up()
            self._lose("closed")
            await asyncio.to_thread(self._client.loop_stop)
            # paho leaves two descriptors a connection to the garbage collector
            self._client._reset_sockets(sockpair_only=True)  # noqa: SLF001

    async def _farewell(self) -> None:
        hello = self._hello
        if hello.version == MQTTv5:
            reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
            self._client.disconnect(reasoncode=reason)
            return
        # in 3.1.1 a goodbye forgets the will
        await self.publish(hello.status, hello.offline, retain=hello.retain)
        self._client.disconnect()

    @property
    def _where(self) -> str:
        return f"{self._hello.host}:{self._hello.port}"

    def _undialled(self, error: Exception) -> str:
        cut = self._hello.tls is not None and isinstance(error, ConnectionResetError)
        if cut or isinstance(error, ssl.SSLError):
            return explain(error, self._where, seconds())
        return f"cannot connect to {self._where}: {error}"

    def _doubted(self, why: str) -> str:
        return f"{why}; {self._hello.doubt}" if self._hello.doubt else why

    def _paho(self) -> BoundedClient:
        paho = client.made(self._hello)
        paho.on_log = self._overheard
        paho.on_connect = lambda _c, _u, _f, code, props: self._tell(self._connected, code, props)
        paho.on_disconnect = lambda _c, _u, flags, code, _p: self._tell(
            self._part, code, flags.is_disconnect_packet_from_server
        )
        paho.on_publish = lambda _c, _u, mid, code, _p: self._tell(
            self._pending.got, mid, code.value
        )
        paho.unnamed = lambda mid, code: self._tell(self._pending.got, mid, code)
        paho.on_subscribe = lambda _c, _u, mid, codes, _p: self._tell(
            self._pending.got, mid, max(code.value for code in codes)
        )
        paho.on_message = lambda _c, _u, message: self._arrived(_copied(message))
        return paho

    def _dial(self) -> None:
        client.dial(self._client, self._hello)
        if self._abandoned.is_set():
            self._client.hang_up()

    def _overheard(self, _client: Client, _userdata: object, level: int, said: str) -> None:
        """In paho's thread: the only place where the reason of a lost socket is told."""
        if level == LogLevel.MQTT_LOG_ERR and not self._complaint:
            self._complaint = said

    def _tell(self, what: Callable[..., None], *facts: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended before paho's thread
            self._loop.call_soon_threadsafe(what, *facts)

    def _connected(self, code: ReasonCode, properties: Properties | None) -> None:
        if not self._connack.done():
            self._connack.set_result((code, properties))

    def _arrived(self, message: Message) -> None:
        """In paho's thread: one that may be lost is, where there is no room."""
        size = len(message.payload)
        if self._held < INBOX and self._held_bytes + size <= INBOX_BYTES:
            self._count(1, size)
            self._tell(self._heard, message)
        elif message.qos and not self._client.complaint:
            self._client.complaint = "more than it may before we have acknowledged anything"
            self._client.hang_up()

    def _count(self, messages: int, size: int) -> None:
        with self._counting:
            self._held += messages
            self._held_bytes += size

    def _heard(self, message: Message) -> None:
        self._inbox.append(message)
        self._news.set()

    def _part(self, code: ReasonCode, told: bool) -> None:
        early = self._hello.tls is not None and not self._connack.done() and not told
        if self._client.complaint:
            self._lose(f"the broker sends {self._client.complaint}")
        elif "SSL" in self._complaint:
            self._lose(self._doubted(refusal(self._complaint, self._where)))
        elif early:
            self._lose(self._doubted("it ends the connection; perhaps it refuses our certificate"))
        else:
            self._lose(_parting(code, told=told))

    def _lose(self, why: str) -> None:
        self._lost = self._lost or (why if self._where in why else f"{self._where}: {why}")
        self._pending.fail(self._lost)
        _fail(self._connack, self._lost)
        if not self._connack.cancelled():
            self._connack.exception()  # nobody may be waiting for it any more
        self._gone.set()
        self._news.set()

    def _standing(self) -> None:
        if self._lost:
            raise UplinkLost(self._lost)


@asynccontextmanager
async def connect(hello: Hello) -> AsyncIterator[HttpConnection]:
    """Open a connection as the broker speaks, and that keeps alive as often as it asks.

    Raises UplinkLost.
    """
    async with AsyncExitStack() as stack:
        try:
            wire = await stack.enter_async_context(_connection(hello))
        except _Unspoken:
            hello = replace(hello, version=MQTTv311)
            wire = await stack.enter_async_context(_connection(hello))
        if wire.limits.keepalive < hello.keepalive:
            # paho 2.1 ignores the broker's word, and would be dropped: connect again as it wishes
            await stack.aclose()
            hello = replace(hello, keepalive=wire.limits.keepalive)
            wire = await stack.enter_async_context(_connection(hello))
        yield wire


@asynccontextmanager
async def _connection(hello: Hello) -> AsyncIterator[HttpConnection]:
    wire = HttpConnection(hello)
    try:
        await wire.dial()
        yield wire
    finally:
        await wire.close()


def _parting(code: ReasonCode, *, told: bool) -> str:
    if told and code == "Normal disconnection":  # paho 2.1 loses the reason of a short packet
        return "the broker ends the connection; perhaps somebody else connects by our name"
    if told:
        return f"the broker ends the connection: {code}"
    silent = code == "Keep alive timeout"
    return "no sign of life from the broker" if silent else "the connection broke off"


def _fail(answer: asyncio.Future[Any], why: str) -> None:
    if not answer.done():
        answer.set_exception(UplinkLost(why))


def _copied(message: MQTTMessage) -> Message:
    return Message(message.topic, message.payload, message.mid, message.qos)
