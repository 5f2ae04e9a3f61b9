"""One BACnet/IP port over bacpypes3, with workarounds for its weaknesses.

The gateway is a client, not a device: others cannot find, read or write anything here. It accepts
answers to its requests, I-Am, and notifications of its subscriptions, and rejects other requests.

- bacpypes3 shares its port (SO_REUSEPORT). Two programs on one port would take each other's
  answers, and it tries an address that does not exist without end. So the port is first bound
  exclusively, once.
- Its errors derive from BaseException, and its decoders reject a whole answer for one invalid
  value. So answers are passed on as bytes, and `services` decodes them.
- It has no reliable time limit. So each request has a timeout here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bacpypes3.apdu import (
    AbortPDU,
    ComplexAckPDU,
    ConfirmedRequestPDU,
    ErrorPDU,
    RejectPDU,
    SimpleAckPDU,
    UnconfirmedRequestPDU,
)
from bacpypes3.appservice import ApplicationServiceAccessPoint
from bacpypes3.basetypes import Segmentation
from bacpypes3.comm import Client, Server, bind
from bacpypes3.errors import ExecutionError
from bacpypes3.ipv4.link import ForeignLinkLayer, NormalLinkLayer
from bacpypes3.netservice import NetworkServiceAccessPoint, NetworkServiceElement
from bacpypes3.pdu import Address, GlobalBroadcast, IPv4Address
from bacpypes3.settings import settings as bacpypes_settings

from agent.core.errors import LinkLost
from agent.core.i18n import Text, text_of
from agent.drivers.bacnet import codec
from agent.drivers.bacnet.codec import (
    HEADER,
    REJECTED,
    REJECTS,
    UNRECOGNIZED_SERVICE,
    Content,
    GarbledError,
    Ref,
    Refusal,
    chunks,
    reason_text,
    size,
)
from agent.drivers.trace import CAME, SENT, Recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from agent.drivers.bacnet.codec import IAm, Notification

# Send requests to a device behind a router through the router from which it was heard.
bacpypes_settings.route_aware = True

MAX_APDU = 1476
"""bytes of an answer that fits an Ethernet frame (clause 20.1.2.5)"""
TRIES = 3
"""how often a request is sent within its timeout, since UDP packets get lost"""
OPENING_S = 2.0
Station = tuple[int, int | None, bytes | None]
CONFIRMED, UNCONFIRMED = 0, 1
"""PDU types (clause 20.1)"""
SEGMENTED = 0x08


NO_RESPONSE = 65
"""abort reason by which bacpypes3 itself reports that no answer came"""
SMALLEST = 50
"""bytes of an answer that every device supports (clause 20.1.2.5)"""


MISSING = Refusal(Text("left out of the answer"))


if TYPE_CHECKING:
    Announced = Callable[[Address, IAm], None]
    Notified = Callable[[Address, Notification], bool]


# bacpypes3 logs every invalid packet, so any device on the network could fill the log. Faults that
# matter are in the samples.
logging.getLogger("bacpypes3").setLevel(logging.CRITICAL + 1)


class NotAnsweredError(Exception):
    """The device did not answer in time, or cannot be reached; the message tells which."""


class DeniedError(Exception):
    """The device refused a request."""

    def __init__(self, refusal: Refusal, *, whole: bool) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.whole = whole
        """the request as a whole was refused (reject, abort), not one property in it (error)"""


class _Nobody:
    """Tells bacpypes3 nothing about devices: `directory` keeps track of their limits."""

    async def get_device_info(self, _address: Any) -> None:
        """No device is known."""


class _Access(ApplicationServiceAccessPoint):  # type: ignore[misc] # bacpypes3 has no types
    """bacpypes3's state machines for confirmed requests; contents are passed on as bytes."""

    def __init__(self, device: Any, wire: BacnetPort) -> None:
        super().__init__(device, _Nobody())
        self.wire = wire

    async def confirmation(self, pdu: Any) -> None:
        first = pdu.pduData[0] if pdu.pduData else 0xFF
        if first >> 4 == CONFIRMED:
            await self.wire.requested(pdu.pduSource, bytes(pdu.pduData))
        elif first >> 4 == UNCONFIRMED:
            self.wire.heard(pdu.pduSource, bytes(pdu.pduData))
        else:
            await super().confirmation(pdu)

    async def sap_response(self, apdu: Any) -> None:
        self.wire.answered(apdu)


class _Packets(Client, Server):  # type: ignore[misc] # bacpypes3 has no types
    """Between bacpypes3 and its socket: passes all packets on, and records them if wanted."""

    def __init__(self, wire: BacnetPort) -> None:
        super().__init__()
        self.wire = wire

    async def indication(self, pdu: Any) -> None:
        if self.wire.record:
            self.wire.record(SENT, pdu.pduData, _peer(pdu.pduDestination))
        await self.request(pdu)

    async def confirmation(self, pdu: Any) -> None:
        if self.wire.record:
            self.wire.record(CAME, pdu.pduData, _peer(pdu.pduSource))
        await self.response(pdu)


def _peer(address: Any) -> str:
    """The other side as `IP:PORT`; `*`: a broadcast."""
    return "{}:{}".format(*address.addrTuple) if isinstance(address, IPv4Address) else "*"


class BacnetPort(Recorded):
    """An open port. Several requests may run at once, also to one device."""

    def __init__(self, address: IPv4Address, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self.announced: Announced = lambda _address, _iam: None
        self.notified: Notified = lambda _address, _notification: False
        self.strays = 0
        """packets that were not valid, or not for the gateway"""
        device = SimpleNamespace(
            numberOfApduRetries=TRIES - 1,
            apduTimeout=int(timeout * 1000 / TRIES),
            apduSegmentTimeout=int(timeout * 1000 / TRIES),
            segmentationSupported=Segmentation.segmentedBoth,
            maxSegmentsAccepted=64,
            maxApduLengthAccepted=MAX_APDU,
        )
        self._access = _Access(device, self)
        self._network = NetworkServiceAccessPoint()
        self._element = NetworkServiceElement()
        bind(self._element, self._network)
        bind(self._access, self._network)
        self._waiting: dict[tuple[Station, int], asyncio.Future[Any]] = {}
        self._next: dict[Station, int] = {}
        self.link: Any = None

    async def open(self, bbmd: str | None, ttl: int) -> None:
        """Bind the port. Raises LinkLost with the reason if that fails."""
        alone(self.address)
        self.link = (
            NormalLinkLayer(self.address) if bbmd is None else ForeignLinkLayer(self.address)
        )
        packets = _Packets(self)
        bind(self.link.multiplexer, packets, self.link.server)
        self._network.bind(self.link, address=self.address)
        if await self._unbound():
            raise LinkLost("{address} cannot be opened", address=self.address)
        if bbmd is not None:
            self.link.register(IPv4Address(bbmd), ttl)

    async def _unbound(self) -> set[asyncio.Task[Any]]:
        """The tasks of bacpypes3 that could not bind their sockets in time.

        They must not be cancelled earlier, since bacpypes3 then reports errors on stderr.
        """
        tasks = self.link.server._transport_tasks  # noqa: SLF001 -- there is no public member
        return (await asyncio.wait(tasks, timeout=OPENING_S))[1] if tasks else set()

    @property
    def registration(self) -> str:
        """The state of the registration with the BBMD, for people; empty: none is configured."""
        if not isinstance(self.link, ForeignLinkLayer):
            return ""
        status = self.link.bbmdRegistrationStatus
        texts = {0: "registered", -1: "no answer yet", -2: "not registered"}
        return texts.get(status, f"refused (code {status})")

    async def ask(self, to: Address, service: int, data: bytes) -> bytes:
        """Send a confirmed request; returns the contents of its answer.

        Raises NotAnsweredError, DeniedError, and LinkLost if the gateway's own address is gone.
        """
        key = (station(to), self._free_number(station(to)))
        request = ConfirmedRequestPDU(service, key[1])
        request.put_data(data)
        request.pduDestination = to
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            # bacpypes3 gives up after `timeout`. This limit acts only if it does not.
            async with asyncio.timeout(self.timeout * 1.1):
                await self._access.sap_indication(request)
                return _contents(await answer, service)
        except TimeoutError:
            self.there()
            raise NotAnsweredError(
                Text("no answer in {seconds:g} s", seconds=self.timeout)
            ) from None
        except ExecutionError:
            raise NotAnsweredError(Text("no route to its network is known")) from None
        finally:
            del self._waiting[key]
            self._forget(key)

    async def say(self, to: Address | None, service: int, data: bytes) -> None:
        """Send an unconfirmed request; `to` None: a broadcast, if the BBMD has accepted us."""
        if to is None and self.registration not in {"", "registered"}:
            return  # bacpypes3 would wait for the BBMD longer than the timeout
        request = UnconfirmedRequestPDU(service)
        request.put_data(data)
        request.pduDestination = to or GlobalBroadcast()
        await self._access.request(request)

    def _free_number(self, to: Station) -> int:
        """The next invoke id for a station. It is not used again before 256 others, so that a late
        answer matches no request.
        """
        number = self._next.get(to, 0)
        for _ in range(256):
            if (to, number) not in self._waiting:
                break
            number = (number + 1) % 256
        self._next[to] = (number + 1) % 256
        return number

    def _forget(self, key: tuple[Station, int]) -> None:
        """End bacpypes3's own transaction of a request that is over."""
        for transaction in list(self._access.clientTransactions):
            if (station(transaction.pdu_address), transaction.invokeID) == key:
                transaction.stop_timer()
                self._access.clientTransactions.remove(transaction)

    def there(self) -> None:
        """Raise LinkLost if the gateway's own address is no longer on this machine."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((self.address.addrTuple[0], 0))
            except OSError as error:
                raise LinkLost(
                    "{address} is no longer an address of this machine: {reason}",
                    address=self.address,
                    reason=error,
                ) from error

    def answered(self, apdu: Any) -> None:
        """Take an answer to a confirmed request."""
        waiting = self._waiting.get((station(apdu.pduSource), apdu.apduInvokeID))
        if waiting is None or waiting.done():
            self.strays += 1
        else:
            waiting.set_result(apdu)

    def heard(self, source: Address, data: bytes) -> None:
        """Take an unconfirmed request: an I-Am or a notification."""
        try:
            if data[1] == codec.I_AM:
                self.announced(source, codec.i_am(data[2:]))
            elif data[1] == codec.UNCONFIRMED_COV:
                self.notified(source, codec.notification(data[2:]))
        except (GarbledError, IndexError):
            self.strays += 1

    async def requested(self, source: Address, data: bytes) -> None:
        """Acknowledge a notification of a subscription; reject any other confirmed request."""
        header = 4
        if len(data) < header or data[0] & SEGMENTED:
            self.strays += 1
            return
        number, service = data[2], data[3]
        answer: Any = RejectPDU(number, UNRECOGNIZED_SERVICE)
        if service == codec.CONFIRMED_COV:
            try:
                ours = self.notified(source, codec.notification(data[header:]))
            except GarbledError:
                ours = False
            if ours:
                answer = SimpleAckPDU(service, number)
        self.strays += isinstance(answer, RejectPDU)
        answer.pduDestination = source
        await self._access.request(answer)

    async def close(self) -> None:
        """Close the port."""
        for transaction in self._access.clientTransactions:
            transaction.stop_timer()
        if isinstance(self.link, ForeignLinkLayer):
            self.link.unregister()
            await asyncio.sleep(0)
        if self.link is not None:
            for task in await self._unbound():
                task.cancel()  # otherwise it tries to bind without end
            self.link.close()
            await asyncio.sleep(0)  # the transports close in the next turn of the loop


def station(address: Address) -> Station:
    """The identity of an address, whatever router leads to it."""
    return address.addrType, address.addrNet, address.addrAddr


def _contents(apdu: Any, service: int) -> bytes:
    if isinstance(apdu, AbortPDU) and int(apdu.apduAbortRejectReason) == NO_RESPONSE:
        raise TimeoutError
    if isinstance(apdu, AbortPDU):
        raise DeniedError(codec.aborted(int(apdu.apduAbortRejectReason)), whole=True)
    if isinstance(apdu, RejectPDU):
        reason = int(apdu.apduAbortRejectReason)
        raise DeniedError(Refusal(reason_text(REJECTS, reason), REJECTED - reason), whole=True)
    if isinstance(apdu, ErrorPDU):
        raise DeniedError(codec.error(bytes(apdu.pduData)), whole=False)
    if apdu.apduService != service:
        raise DeniedError(Refusal(Text("answer to another request")), whole=False)
    return bytes(apdu.pduData) if isinstance(apdu, ComplexAckPDU) else b""


def alone(address: IPv4Address) -> None:
    """Raise LinkLost if another program has this address and port, or it does not exist here."""
    host, port = address.addrTuple
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LinkLost(
                "{host}, port {port}: {reason}", host=host, port=port, reason=_reason(error)
            ) from error


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program has it: is a second gardien or a BACnet tool running?"
    if error.errno == errno.EADDRNOTAVAIL:
        return "not an address of this machine"
    return error.strerror or str(error)


@asynccontextmanager
async def opened(
    address: str,
    timeout: float,  # noqa: ASYNC109 -- of each request, not of this block
    bbmd: str | None = None,
    ttl: int = 600,
) -> AsyncIterator[BacnetPort]:
    """Open the port `IP/BITS:PORT`; close it on leaving. Raises LinkLost if that fails."""
    wire = BacnetPort(IPv4Address(address), timeout)
    try:
        await wire.open(bbmd, ttl)
        yield wire
    finally:
        await wire.close()


if TYPE_CHECKING:
    Contents = dict[Ref, Content]


@dataclass(slots=True)
class Peer:
    """A device that was found, and its limits as learnt so far."""

    instance: int
    address: Address
    room: int = MAX_APDU
    """greatest number of bytes in an answer without segmentation"""
    multiple: bool = True
    """the device supports ReadPropertyMultiple"""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """allows one request at a time; devices behind one router share it and their slow line"""


async def read(wire: BacnetPort, peer: Peer, refs: Sequence[Ref], contents: Contents) -> None:
    """Read properties of one device into `contents`; a Refusal for each that cannot be read.

    Raises NotAnsweredError at the first request without an answer; `contents` then holds the
    earlier answers. Raises LinkLost.
    """
    for chunk in chunks(refs, min(peer.room, MAX_APDU) - HEADER):
        await _chunk(wire, peer, chunk, contents)


async def _chunk(wire: BacnetPort, peer: Peer, refs: Sequence[Ref], contents: Contents) -> None:
    if not peer.multiple or len(refs) == 1:
        for ref in refs:
            contents[ref] = await read_property(wire, peer, ref)
        return
    try:
        data = await wire.ask(peer.address, codec.READ_MULTIPLE, codec.read_multiple(refs))
        answer = codec.read_multiple_answer(data)
    except (GarbledError, DeniedError) as error:
        _learn(peer, refs, error)
        half = (len(refs) + 1) // 2
        await _chunk(wire, peer, refs[:half], contents)
        await _chunk(wire, peer, refs[half:], contents)
    else:
        contents.update((ref, answer.get(ref, MISSING)) for ref in refs)


def _learn(peer: Peer, refs: Sequence[Ref], error: GarbledError | DeniedError) -> None:
    """Learn the limits of a device from the reason why it refused to read these together."""
    if isinstance(error, GarbledError):
        return  # one value makes the whole answer unreadable; reading the halves isolates it
    # Only this reject means that the service is missing. After any other one, smaller requests may
    # work.
    if error.refusal.code == REJECTED - UNRECOGNIZED_SERVICE:
        peer.multiple = False
    elif error.whole:
        peer.room = max(SMALLEST, min(peer.room, size(refs)) // 2 + HEADER)


async def read_property(wire: BacnetPort, peer: Peer, ref: Ref) -> Content:
    """Read one property with ReadProperty, which every device has. Raises NotAnsweredError."""
    try:
        data = await wire.ask(peer.address, codec.READ, codec.read_request(ref))
        return codec.read_answer(data, ref)
    except GarbledError as error:
        return Refusal(text_of(error))
    except DeniedError as error:
        return error.refusal
