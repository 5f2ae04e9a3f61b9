"""One paho client for one connection, seen from asyncio (design note 006).

Every rule here answers a measured fault of paho: it keeps unsent messages in memory and floods them
out at its own reconnects (so it never reconnects, and each attempt has a client of its own); a
callback that raises kills its thread without a word (so callbacks only hand over to the loop); a
PUBACK may overtake the return of `publish` (so answers are matched on the loop, in order); without
TCP_NODELAY small windows stall 40 ms a message; and it ignores the keep-alive a broker asks for.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTv5, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import UplinkLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
CLOSE_SECONDS = 2.0
INBOX = 256
"""messages held for a slow reader; the oldest goes first, and its sender will repeat it"""
LARGEST_ANSWER = 1_048_576
"""bytes of one packet that we accept"""


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker asks of us in its CONNACK."""

    receive_maximum: int = 65_535
    packet_size: int = 268_435_460
    keepalive: int = 65_535


class Wire:
    """An open MQTT 5 connection; `connect` makes it."""

    def __init__(self, hello: Hello) -> None:
        self.limits = Limits()
        self._hello = hello
        self._loop = asyncio.get_running_loop()
        self._lost = ""
        self._gone = asyncio.Event()
        self._abandoned = threading.Event()
        self._connack: asyncio.Future[tuple[ReasonCode, Properties | None]]
        self._connack = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._answered = 0.0
        self._inbox: deque[bytes] = deque(maxlen=INBOX)
        self._news = asyncio.Event()
        self._client = self._paho()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish at QoS 1; the reason code of the PUBACK. Raises UplinkLost."""
        self._standing()
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise UplinkLost(error_string(info.rc))
        return await self._answer(info.mid)

    async def subscribe(self, topic: str) -> None:
        """Subscribe at QoS 1. Raises UplinkLost, also when the broker does not allow it."""
        self._standing()
        rc, mid = self._client.subscribe(topic, qos=1)
        if mid is None or rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise UplinkLost(error_string(rc))
        if (code := await self._answer(mid)) >= 0x80:  # noqa: PLR2004 -- MQTT 5.0, 2.4
            raise UplinkLost(f"the broker does not let us subscribe to {topic} (0x{code:02X})")

    async def messages(self) -> AsyncIterator[bytes]:
        """Payloads as they come, for ever. Raises UplinkLost when the link is gone, idle or not."""
        while True:
            while self._inbox:
                yield self._inbox.popleft()
            self._standing()
            self._news.clear()
            await self._news.wait()

    async def dial(self) -> None:
        """Connect within 10 s. Raises UplinkLost."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.to_thread(self._dial)
                self._client.loop_start()
                code, properties = await self._connack
        except TimeoutError:
            raise UplinkLost(f"no answer from {self._where} in {CONNECT_SECONDS:.0f} s") from None
        except (OSError, UnicodeError) as error:
            raise UplinkLost(f"cannot connect to {self._where}: {error}") from error
        if code.is_failure:
            raise UplinkLost(f"{self._where} refuses the connection: {code}")
        self.limits = _limits(properties)

    async def close(self) -> None:
        """Say goodbye so that the broker states the will; never longer than some seconds."""
        self._abandoned.set()
        farewell = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        try:
            if not self._lost and self._connack.done():
                self._client.disconnect(reasoncode=farewell)
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._gone.wait()
        finally:
            self._hang_up()
            self._lose("closed")
            await asyncio.to_thread(self._client.loop_stop)

    @property
    def _where(self) -> str:
        return f"{self._hello.host}:{self._hello.port}"

    def _paho(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            self._hello.client_id,
            protocol=MQTTv5,
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True
        client.connect_timeout = CONNECT_SECONDS
        client.will_set(self._hello.status, self._hello.offline, qos=1, retain=True)
        client.on_socket_open = _no_delay
        client.on_connect = lambda _c, _u, _f, code, props: self._tell(self._connected, code, props)
        client.on_disconnect = lambda _c, _u, flags, code, _p: self._tell(
            self._lose, _parting(code, told=flags.is_disconnect_packet_from_server)
        )
        client.on_publish = lambda _c, _u, mid, code, _p: self._tell(self._got, mid, code.value)
        client.on_subscribe = lambda _c, _u, mid, codes, _p: self._tell(
            self._got, mid, max(code.value for code in codes)
        )
        client.on_message = lambda _c, _u, message: self._tell(self._heard, message.payload)
        return client

    def _dial(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = LARGEST_ANSWER
        self._client.connect(
            self._hello.host,
            self._hello.port,
            keepalive=self._hello.keepalive,
            clean_start=True,
            properties=properties,
        )
        if self._abandoned.is_set():
            self._hang_up()

    def _hang_up(self) -> None:
        wire = self._client.socket()
        if isinstance(wire, socket.socket):
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def _tell(self, what: Callable[..., None], *facts: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended before paho's thread
            self._loop.call_soon_threadsafe(what, *facts)

    def _connected(self, code: ReasonCode, properties: Properties | None) -> None:
        if not self._connack.done():
            self._connack.set_result((code, properties))

    def _got(self, mid: int, code: int) -> None:
        self._answered = self._loop.time()
        answer = self._answers.get(mid)
        if answer and not answer.done():
            answer.set_result(code)

    def _heard(self, payload: bytes) -> None:
        self._inbox.append(payload)
        self._news.set()

    def _lose(self, why: str) -> None:
        self._lost = self._lost or f"{self._where}: {why}"
        for answer in self._answers.values():
            _fail(answer, self._lost)
        _fail(self._connack, self._lost)
        if not self._connack.cancelled():
            self._connack.exception()  # nobody may be waiting for it any more
        self._gone.set()
        self._news.set()

    def _standing(self) -> None:
        if self._lost:
            raise UplinkLost(self._lost)

    async def _answer(self, mid: int) -> int:
        answer: asyncio.Future[int] = self._loop.create_future()
        self._answers[mid], asked = answer, self._loop.time()
        try:
            while not answer.done():
                # counted from the last answer: on a slow line a full window takes minutes
                left = max(asked, self._answered) + ANSWER_SECONDS - self._loop.time()
                if left <= 0:
                    raise UplinkLost(f"{self._where}: no answer in {ANSWER_SECONDS:.0f} s")
                await asyncio.wait([answer], timeout=left)
            return answer.result()
        finally:
            answer.cancel()
            del self._answers[mid]


@asynccontextmanager
async def connect(hello: Hello) -> AsyncIterator[Wire]:
    """Open a connection that keeps alive as often as the broker asks. Raises UplinkLost."""
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(_connection(hello))
        if wire.limits.keepalive < hello.keepalive:
            # paho 2.1 ignores the broker's word, and would be dropped: connect again as it wishes
            await stack.aclose()
            hello = replace(hello, keepalive=wire.limits.keepalive)
            wire = await stack.enter_async_context(_connection(hello))
        yield wire


@asynccontextmanager
async def _connection(hello: Hello) -> AsyncIterator[Wire]:
    wire = Wire(hello)
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


def _no_delay(_client: Client, _userdata: object, wire: Any) -> None:
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _limits(properties: Properties | None) -> Limits:
    return Limits(
        receive_maximum=getattr(properties, "ReceiveMaximum", Limits().receive_maximum),
        packet_size=getattr(properties, "MaximumPacketSize", Limits().packet_size),
        keepalive=getattr(properties, "ServerKeepAlive", 0) or Limits().keepalive,
    )
