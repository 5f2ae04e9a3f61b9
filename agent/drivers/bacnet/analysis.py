"""BACnet/IP as heard on a network: each packet in a sentence, and what is odd about it. Pure.

ASHRAE 135: annex J (BVLC), clauses 6 (NPDU) and 20 (APDU).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.i18n import Text, text_of
from agent.drivers.bacnet import codec, values
from agent.drivers.bacnet.codec import (
    OPEN,
    PROPERTY_NAMES,
    REJECTS,
    GarbledError,
    ObjectId,
    Ref,
    Refusal,
    object_of,
    reason_text,
    type_name,
)
from agent.drivers.trace import CAME, NOTE, SENT, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.drivers.bacnet.codec import Content
    from agent.drivers.trace import Event

BVLC, HEADER = 0x81, 4
FORWARDED, ORIGINAL = 0x04, frozenset({0x09, 0x0A, 0x0B})
"""functions that carry a packet: forwarded by a BBMD, or sent by a device"""
CONFIRMED, UNCONFIRMED, SIMPLE_ACK, COMPLEX_ACK, SEGMENT_ACK, ERROR, REJECT, ABORT = range(8)
SEGMENTED, MORE = 0x08, 0x04
NETWORK_MESSAGE, HAS_DESTINATION, HAS_SOURCE = 0x80, 0x20, 0x08
NAMING = frozenset({codec.READ, codec.READ_MULTIPLE, codec.SUBSCRIBE_COV})
"""services whose requests name properties or objects"""
ROOM = 0.05
MOST_OPEN = 2000
"""requests that are remembered; each is forgotten after as many others"""
NAMED = 3
"""properties that the sentence of a request names"""


class _Packet(NamedTuple):
    """An APDU and where it comes from or goes to."""

    station: str
    apdu: bytes


class BacnetAnalyser:
    """Explains BACnet/IP, packet by packet."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._asked: dict[tuple[str, int], tuple[float, str, bool]] = {}
        """by station and invoke id: when and what was asked, and whether it was answered"""
        self._parts: dict[tuple[str, int], bytes] = {}
        """answers in segments, as far as they have come"""
        self._instances: dict[str, str] = {}
        """by station: the device's instance"""
        self._stations: dict[str, str] = {}
        """by instance: the station that announced it"""

    def end(self) -> Iterator[Frame]:
        """Name the requests that had no answer."""
        for (station, _), (at, what, answered) in self._asked.items():
            if not answered:
                text = Text("{device} does not answer: {what}", device=self._name(station),
                            what=what)  # fmt: skip
                yield Frame(at, NOTE, self._name(station), b"", text)
        self._asked.clear()

    def feed(self, event: Event) -> Iterator[Frame]:
        """Take the next packet; see `agent.drivers.analysis.Analyser`."""
        if event.direction == NOTE:
            return
        try:
            packet = _unpacked(event.data, event.peer)
            if packet is None:
                text = Text("a packet between networks, without values")
                yield Frame(event.at, event.direction, event.peer, event.data, text)
            elif event.direction == SENT:
                yield self._sent(event, packet)
            else:
                yield self._came(event, packet)
        except (GarbledError, IndexError, ValueError) as error:
            why = text_of(error) if isinstance(error, GarbledError) else Text("cut short")
            name = self._name(event.peer)
            text = Text("{device}: a packet that is not valid ({why})", device=name, why=why)
            yield Frame(event.at, event.direction, name, event.data, text, odd="unreadable")

    def _name(self, station: str) -> str:
        return self._instances.get(station, station)

    def _sent(self, event: Event, packet: _Packet) -> Frame:
        apdu, station = packet.apdu, packet.station
        name, kind = self._name(station), apdu[0] >> 4
        if kind == UNCONFIRMED:
            text = (
                Text("all devices are asked for their numbers (Who-Is)")
                if apdu[1] == codec.WHO_IS
                else Text("service {service} to {device}", service=apdu[1], device=name)
            )
        elif kind == CONFIRMED:
            what = _requested(apdu[3], apdu[4:])
            self._asked[station, apdu[2]] = event.at, what, False
            if len(self._asked) > MOST_OPEN:
                del self._asked[next(iter(self._asked))]
            text = Text("{device} is asked: {what}", device=name, what=what)
        else:
            text = Text("an acknowledgement to {device}", device=name)
        return Frame(event.at, SENT, name, event.data, text)

    def _came(self, event: Event, packet: _Packet) -> Frame:
        apdu, station = packet.apdu, packet.station
        kind = apdu[0] >> 4
        if kind == UNCONFIRMED:
            return self._announced(event, station, apdu)
        name = self._name(station)
        if kind == CONFIRMED:
            text = Text(
                "{device} asks the gateway for service {service}", device=name, service=apdu[3]
            )
            return Frame(event.at, CAME, name, event.data, text)
        if kind == SEGMENT_ACK:
            text = Text("{device} asks for the next part", device=name)
            return Frame(event.at, CAME, name, event.data, text)
        return self._answer(event, station, apdu)

    def _announced(self, event: Event, station: str, apdu: bytes) -> Frame:
        name = self._name(station)
        if apdu[1] == codec.UNCONFIRMED_COV:
            return self._frame(event, name, Text("{device} notifies a change", device=name),
                               _notified(apdu[2:]))  # fmt: skip
        if apdu[1] != codec.I_AM:
            text = Text("{device}: service {service}", device=name, service=apdu[1])
            return self._frame(event, name, text)
        i_am = codec.i_am(apdu[2:])
        instance = str(i_am.instance)
        other = self._stations.setdefault(instance, station)
        self._instances[station] = instance
        if other != station:
            text = Text(
                "two devices have the number {instance}: {one} and {other}",
                instance=instance, one=other, other=station,
            )  # fmt: skip
            return Frame(event.at, CAME, instance, event.data, text, odd="duplicate")
        text = Text(
            "{station} is device {instance}, of maker {vendor}",
            station=station, instance=instance, vendor=str(i_am.vendor),
        )  # fmt: skip
        return self._frame(event, instance, text)

    def _frame(
        self, event: Event, device: str, text: Text, read: tuple[dict[str, Any], ...] = ()
    ) -> Frame:
        return Frame(event.at, CAME, device, event.data, text, read)

    def _answer(self, event: Event, station: str, apdu: bytes) -> Frame:
        kind, key, name = apdu[0] >> 4, (station, apdu[1]), self._name(station)
        at, what, answered = self._asked.get(key, (event.at, "", False))
        if key not in self._asked:
            text = Text("{device} sends an answer that no request asked for", device=name)
            return Frame(event.at, CAME, name, event.data, text, odd="noise")
        segmented = kind == COMPLEX_ACK and bool(apdu[0] & SEGMENTED)
        if answered:
            text = Text("{device} sends its answer twice: {what}", device=name, what=what)
            return Frame(event.at, CAME, name, event.data, text, odd="twice")
        if segmented:
            self._parts[key] = self._parts.get(key, b"") + apdu[5:]
            if apdu[0] & MORE:
                text = Text(
                    "{device} sends part {number} of its answer", device=name, number=apdu[2] + 1
                )
                return self._frame(event, name, text)
            apdu = bytes((apdu[0], apdu[1], apdu[4])) + self._parts.pop(key)
        self._asked[key] = at, what, True
        refusal = _refused(kind, apdu)
        if refusal:
            # devices lack services and properties that a search asks for: it then asks otherwise
            text = Text("{device} refuses: {why}; {what}", device=name, why=refusal.reason,
                        what=what)  # fmt: skip
            return Frame(
                event.at, CAME, name, event.data, text, odd="exception", code=refusal.code or 0,
                expected=True,
            )  # fmt: skip
        read = _read(apdu[2], apdu[3:]) if kind == COMPLEX_ACK else ()
        took = event.at - at
        if took > self._timeout + ROOM:
            text = Text("{device} answers after its timeout: {took:.2f} s", device=name, took=took)
            return Frame(event.at, CAME, name, event.data, text, read, odd="late")
        text = Text("{device} answers after {ms:.0f} ms", device=name, ms=took * 1000)
        return self._frame(event, name, text, read)


def _unpacked(data: bytes, peer: str) -> _Packet | None:
    """The APDU in a packet; None: it is for networks only. Raises GarbledError, IndexError."""
    if data[0] != BVLC or int.from_bytes(data[2:4], "big") != len(data):
        raise GarbledError(Text("its length is not the one that it names"))
    at, station = HEADER, peer
    if data[1] == FORWARDED:
        origin = data[4:10]
        station = ".".join(map(str, origin[:4])) + f":{int.from_bytes(origin[4:], 'big')}"
        at += 6
    elif data[1] not in ORIGINAL:
        return None
    control, at = data[at + 1], at + 2
    if control & HAS_DESTINATION:
        network, length = int.from_bytes(data[at : at + 2], "big"), data[at + 2]
        if length:
            station = f"{network}:{data[at + 3 : at + 3 + length].hex()}"
        at += 3 + length
    if control & HAS_SOURCE:
        network, length = int.from_bytes(data[at : at + 2], "big"), data[at + 2]
        station = f"{network}:{data[at + 3 : at + 3 + length].hex()}"
        at += 3 + length
    if control & HAS_DESTINATION:
        at += 1  # hops that are left
    return None if control & NETWORK_MESSAGE else _Packet(station, data[at:])


def _requested(service: int, data: bytes) -> Text:
    """Say what a confirmed request asks for."""
    if service == codec.WRITE:
        return Text("WRITE {names}", names=", ".join(_named(data)))
    if service not in NAMING:
        return Text("service {service}", service=service)
    names = _named(data)
    more = Text(" and {number} more", number=len(names) - NAMED) if names[NAMED:] else ""
    return Text("{names}{more}", names=", ".join(names[:NAMED]), more=more)


def _named(data: bytes) -> list[str]:
    """The properties in a request, as `analog-input,1 present-value`."""
    names: list[str] = []
    of: ObjectId | None = None
    inside = False
    for tag in codec.tags(data):
        if tag.kind == OPEN and tag.number == 1:
            inside = True
        elif tag.context and tag.number == 0 and not inside and len(tag.data) == 4:  # noqa: PLR2004 -- an object identifier
            of = object_of(tag)
        elif tag.kind != OPEN and not tag.data:
            inside = False
        elif of and tag.context and tag.number == (0 if inside else 1):
            names.append(place(Ref(of, codec.number_of(tag))))
    return names


def place(ref: Ref) -> str:
    """A property as people write it."""
    name = PROPERTY_NAMES.get(ref.property, str(ref.property))
    index = "" if ref.element is None else f"[{ref.element}]"
    return f"{type_name(ref.object.type)},{ref.object.instance} {name}{index}"


def _read(service: int, data: bytes) -> tuple[dict[str, Any], ...]:
    contents: Mapping[Ref, Content] = {}
    if service == codec.READ_MULTIPLE:
        contents = codec.read_multiple_answer(data)
    elif service == codec.READ:
        contents = dict((codec.read_any(data),))
    return tuple({"at": place(ref)} | values.entry(content) for ref, content in contents.items())


def _notified(data: bytes) -> tuple[dict[str, Any], ...]:
    change = codec.notification(data)
    return tuple(
        {"at": place(Ref(change.object, number))} | values.entry(content)
        for number, content in change.values.items()
    )


def _refused(kind: int, apdu: bytes) -> Refusal | None:
    if kind == ERROR:
        return codec.error(apdu[3:])
    if kind == REJECT:
        return Refusal(reason_text(REJECTS, apdu[2]), codec.REJECTED - apdu[2])
    return codec.aborted(apdu[2]) if kind == ABORT else None
