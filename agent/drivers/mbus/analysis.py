"""M-Bus as heard on a line: each frame in a sentence, and what is odd about it. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.i18n import Text, text_of
from agent.drivers.mbus.decode import ApplicationError, MbusError, decode
from agent.drivers.mbus.frame import (
    ACKNOWLEDGE,
    ENVELOPE,
    LAST_PRIMARY,
    SELECT,
    SELECTED,
    SHORT,
    SND_NKE,
    START_LONG,
    START_SHORT,
    WILD,
    foreign,
    sound,
    without_echo,
)
from agent.drivers.mbus.telegram import medium, status
from agent.drivers.trace import CAME, NOTE, SENT, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.drivers.mbus.telegram import MeterValue, Telegram
    from agent.drivers.trace import Event

MOST_BYTES = 4096
"""bytes of one turn that are looked at; a meter may send without end"""
HEAD = 4
"""bytes of 68 L L 68"""
NUMBER = slice(7, 11)
"""where a selection has the number"""
UNKNOWN = ("reserved", "unknown", "malformed", "manufacturer data", "encrypted")
"""quantities of records that the decoder does not understand, or their beginnings"""


class _Request(NamedTuple):
    """A request of the gateway."""

    at: float
    data: bytes
    device: str
    """the number or primary address that is asked"""
    telegram: bool
    """the answer is a telegram; else it is an acknowledgement"""


class MbusAnalyser:
    """Explains M-Bus. A turn lasts from one request to the next."""

    def __init__(self) -> None:
        self._selected = ""
        """the number that was selected last, with wildcards"""
        self._request: _Request | None = None
        self._silent: _Request | None = None
        """the request of the turn before, if it had no answer"""
        self._pieces: list[tuple[int, float]] = []
        self._heard = bytearray()
        self._numbers: dict[str, str] = {}
        """by primary address: the number of the meter that answered there last"""

    def feed(self, event: Event) -> Iterator[Frame]:
        """Take the next event; see `agent.drivers.analysis.Analyser`."""
        if event.direction == CAME:
            if len(self._heard) < MOST_BYTES:
                self._pieces.append((len(self._heard), event.at))
                self._heard += event.data
            return
        yield from self.end()
        if event.direction == SENT:
            self._request, text = self._asked(event)
            yield Frame(event.at, SENT, self._request.device, event.data, text)

    def _asked(self, event: Event) -> tuple[_Request, Text]:
        data = event.data
        if data[:1] == bytes((START_SHORT,)) and len(data) == SHORT:
            primary = data[2] != SELECTED
            device = str(data[2]) if primary else self._selected
            if data[1] == SND_NKE:
                return _Request(event.at, data, device, False), Text(
                    "meter {meter} is reset, so that it begins its readout anew", meter=device
                )
            return _Request(event.at, data, device, True), Text(
                "meter {meter} is asked for its telegram", meter=device
            )
        if len(data) > NUMBER.stop and data[6] == SELECT:
            self._selected = data[NUMBER][::-1].hex().upper()
            message = (
                Text("all meters with a number like {number} are selected", number=self._selected)
                if WILD in self._selected
                else Text("meter {meter} is selected", meter=self._selected)
            )
            return _Request(event.at, data, self._selected, False), message
        return _Request(event.at, data, "", False), Text("a request that gardien does not know")

    def end(self) -> Iterator[Frame]:
        """Explain the present turn, and end it."""
        request, heard = self._request, bytes(self._heard)
        self._request = None
        try:
            if request is not None and request.data:
                heard = without_echo(heard, request.data)
            frames = list(self._turn(request, heard))
            if request and not heard:
                text = Text("meter {meter} does not answer", meter=request.device)
                frames.append(Frame(request.at, NOTE, request.device, b"", text))
            yield from frames
            if request is not None:
                self._silent = None if heard else request
        finally:
            self._heard.clear()
            self._pieces.clear()

    def _at(self, offset: int) -> float:
        return max((at for start, at in self._pieces if start <= offset), default=0.0)

    def _turn(self, request: _Request | None, heard: bytes) -> Iterator[Frame]:
        at, answers = 0, 0
        # The echo of a request, if the converter gives one, moves the times by its few bytes.
        while frame := sound(heard[at:]):
            start = heard.index(frame, at)
            yield from self._rest(request, heard[at:start], at)
            yield self._telegram(request, frame, self._at(start), answers)
            answers += 1
            at = start + len(frame)
        yield from self._rest(request, heard[at:], at, bool(answers))

    def _rest(  # noqa: PLR0911 -- one return for each kind of bytes
        self,
        request: _Request | None,
        data: bytes,
        begin: int,
        answered: bool = False,
    ) -> Iterator[Frame]:
        """Explain bytes that are no telegram."""
        if not data:
            return
        at, device = self._at(begin), request.device if request else ""
        if request and not request.telegram and set(data) == {ACKNOWLEDGE}:
            yield self._acknowledged(request, data, at)
            return
        if foreign(data):
            text = Text("another master sends on this line")
            yield Frame(at, CAME, "", data, text, odd="master")
            return
        if request and WILD in request.device:
            text = Text(
                "several meters like {number} answer at once ({bytes} bytes)",
                number=request.device, bytes=len(data),
            )  # fmt: skip
            yield Frame(at, CAME, device, data, text, odd="several", expected=True)
            return
        if request and request.telegram and data == bytes((ACKNOWLEDGE,)):
            text = Text("meter {meter} acknowledges, but sends no telegram", meter=device)
            yield Frame(at, CAME, device, data, text, odd="short")
            return
        head = data.find(START_LONG)
        if request and head >= 0 and data[head + 3 : head + 4] == data[head : head + 1]:
            size = data[head + 1] + ENVELOPE
            if head:
                yield self._noise(data[:head], at, device)
            yield _damaged(self._at(begin + head), device, data[head:], size)
            return
        if request and request.telegram and data[:1] == bytes((START_LONG,)) and not answered:
            yield _damaged(at, device, data, max(ENVELOPE + 3, len(data) + 1))
            return
        yield self._noise(data, at, device)

    def _acknowledged(self, request: _Request, data: bytes, at: float) -> Frame:
        device = request.device
        took = (at - request.at) * 1000
        if len(data) > 1:
            text = Text(
                "{number} acknowledgements of {meter}: more than one meter answers, or one sends"
                " twice",
                number=len(data), meter=device,
            )  # fmt: skip
            return Frame(at, CAME, device, data, text, odd="twice", expected=WILD in device)
        if device.startswith("EEEEEEE"):
            text = Text(
                "a meter acknowledges {number}, a number that none has: it answers to any number",
                number=device,
            )
            return Frame(at, CAME, device, data, text, odd="any")
        if device.isdecimal() and len(device) <= len("252") and int(device) > LAST_PRIMARY:
            text = Text(
                "a meter acknowledges address {number}, which none may have: it answers to any"
                " address",
                number=device,
            )
            return Frame(at, CAME, device, data, text, odd="any")
        text = Text("{meter}: acknowledged after {ms:.0f} ms", meter=device, ms=took)
        return Frame(at, CAME, device, data, text)

    def _noise(self, data: bytes, at: float, device: str) -> Frame:
        text = Text("{number} bytes that are no frame: noise", number=len(data))
        return Frame(at, CAME, device, data, text, odd="noise")

    def _telegram(self, request: _Request | None, data: bytes, at: float, before: int) -> Frame:
        asked = request.device if request else ""
        try:
            telegram = decode(data)
        except ApplicationError as error:
            text = Text("meter {meter} refuses: {why}", meter=asked, why=text_of(error))
            return Frame(
                at, CAME, asked, data, text, odd="exception", code=getattr(error, "code", 0) or 0
            )
        except MbusError as error:
            text = Text("meter {meter}: not readable, {why}", meter=asked, why=text_of(error))
            return Frame(at, CAME, asked, data, text, odd="unreadable")
        name = telegram.id or str(telegram.address)
        values = tuple(_value(number, record) for number, record in enumerate(telegram.records, 1))
        kind, text = self._oddness(request, telegram, name, before)
        if not kind:
            took = (at - request.at) * 1000 if request else 0.0
            text = Text(
                "{meter} ({maker}, {medium}, status: {status}) answers after {ms:.0f} ms",
                meter=name, maker=telegram.manufacturer or "?", medium=medium(telegram.medium),
                status=status(telegram.status), ms=took,
            )  # fmt: skip
        other = asked if kind in {"number", "address"} and WILD not in asked else ""
        return Frame(at, CAME, name, data, text, values, other, odd=kind)

    def _oddness(  # noqa: PLR0911 -- one return for each kind
        self, request: _Request | None, telegram: Telegram, name: str, before: int
    ) -> tuple[str, Text]:
        if request is None:
            return "noise", Text("meter {meter} sends without being asked", meter=name)
        asked = request.device
        if before:
            return "twice", Text("meter {meter} sends another telegram unasked", meter=name)
        wrong = not _fits(asked, telegram)
        if wrong and self._silent and _fits(self._silent.device, telegram):
            return "late", Text("meter {meter} answers after its time was over", meter=name)
        if wrong and asked.isdecimal() and len(asked) <= len("250"):
            return "address", Text(
                "meter {meter}, which says it has address {own}, answers at address {asked}",
                meter=name, own=str(telegram.address), asked=asked,
            )  # fmt: skip
        if wrong:
            return "number", Text(
                "meter {meter} answers when {asked} was selected", meter=name, asked=asked
            )
        if len(asked) <= len("250") and telegram.id:
            known = self._numbers.setdefault(asked, telegram.id)
            self._numbers[asked] = telegram.id
            if known != telegram.id:
                return "serial", Text(
                    "address {address} was meter {before}, and is {now} now",
                    address=asked, before=known, now=telegram.id,
                )  # fmt: skip
        return "", Text("")


def _fits(asked: str, telegram: Telegram) -> bool:
    """Whether a telegram is from a meter that was asked: by primary address, or by number."""
    if len(asked) <= len("250"):
        return int(asked or 0) in {telegram.address, SELECTED + 1}
    number = telegram.id or ""
    return len(number) == len(asked) and all(
        ours in {theirs, WILD} for ours, theirs in zip(asked, number, strict=True)
    )


def _value(number: int, record: MeterValue) -> dict[str, Any]:
    value = record.value
    entry: dict[str, Any] = {
        "at": f"{number} {record.identity.hex()}",
        "name": ", ".join((record.quantity, *record.modifiers)),
        "value": format(value, "f") if isinstance(value, Decimal) else value,
        "unit": record.unit,
        "hex": record.data.hex(" "),
        "understood": record.value is not None and not record.quantity.startswith(UNKNOWN),
    }
    places = (("storage", record.storage), ("tariff", record.tariff), ("subunit", record.subunit))
    entry |= {name: where for name, where in places if where}
    return entry | ({"error": record.error} if record.error else {})


def _damaged(at: float, device: str, data: bytes, size: int) -> Frame:
    if len(data) < size:
        text = Text(
            "meter {meter}: its telegram is cut short, {number} of {size} bytes",
            meter=device, number=len(data), size=size,
        )  # fmt: skip
        return Frame(at, CAME, device, data, text, odd="short")
    text = Text(
        "meter {meter}: the checksum of its telegram is wrong ({number} bytes)",
        meter=device, number=len(data),
    )  # fmt: skip
    return Frame(at, CAME, device, data, text, odd="checksum")
