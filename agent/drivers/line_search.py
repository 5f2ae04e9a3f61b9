"""Find out what is connected to a serial port: protocol, speed, parity and addresses.

Only requests to read are sent, and none before the port was listened to: where another master is
active, nothing is sent at all. Usual settings and addresses are tried first.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.core.clock import monotonic
from agent.core.i18n import N_, Plural, Text, joined
from agent.core.settings import took
from agent.drivers.base import Progress
from agent.drivers.listening import HeardTraffic
from agent.drivers.mbus import frame as mbus
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.line import BITS, PATIENCE, PATIENCE_BITS
from agent.drivers.mbus.search import unmistakable
from agent.drivers.mbus.telegram import MbusError, medium
from agent.drivers.modbus.rtu import Speed, find, framed
from agent.drivers.modbus.scan import LAST, LISTENS
from agent.drivers.modbus.stream import serial_stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence

    from agent.drivers.mbus.telegram import Telegram
    from agent.drivers.modbus.stream import ByteStream

MODBUS, MBUS = "modbus-rtu", "mbus"
PARITIES = ("none", "even", "odd")
USUAL = (
    *(Speed(9600), Speed(19200, "even"), Speed(9600, "even"), Speed(19200), Speed(38400)),
    *(Speed(115200), Speed(38400, "even"), Speed(4800), Speed(2400)),
)
"""settings of Modbus RTU, the most common first"""
RATES = (9600, 19200, 38400, 115200, 4800, 2400, 57600, 1200)
METERED = (2400, 300, 9600)
"""baud rates of M-Bus, the most common first; always with even parity"""
FIRST = (1, 2, 3, 4, 5, 6, 10, 20, 100, 247)
"""unit ids that are tried at all settings before any other: what devices are delivered with"""
PROBE = b"\x03\0\0\0\x01"
"""a request to read one register; a device that has none answers with an exception"""
ANSWERS_WITHIN = 0.25
"""seconds in which an answer must begin; a device that takes longer is not found"""
PAUSE = 0.05
"""seconds without a byte that end what was heard"""
ENDLESS = 1024
"""bytes after which listening does not wait for a pause: a device may send without end"""
STRAY = 16
"""bytes heard before anything is sent from which another master is assumed, not noise"""
ENOUGH, BURSTS = 40, 8
"""bytes, or times that something is heard, at one setting before the next one is tried"""
SPEAKS_WITHIN = 10.0
"""seconds for which one setting is listened at, once something was heard"""
AT_LEAST = 10.0
"""seconds for which an identified line is listened to, to learn its addresses"""
SEARCHED, LISTENED = 300.0, 60.0
"""seconds for one port, unless the person says otherwise"""
STRANGERS = N_(
    "bytes are heard ({number}), but at no speed and parity do they form a valid frame. Either the"
    " wires A and B are swapped, or the line is disturbed, or it uses another protocol. Swap A and"
    " B first, then check termination and shield"
)
TOO_SHORT = N_(
    "bytes are heard, but there was time for only {number} of {all} speeds and parities. To listen"
    " longer: gardien scan {port} --listen --seconds 600"
)
ALONE = N_("gardien must not be a second master on this line: the two would disturb each other")


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line that was found, as it can be configured."""

    name: str
    driver: str
    settings: Mapping[str, Any]
    """as in `links:`, without the driver"""
    devices: tuple[str, ...]
    """addresses that answered, also with garbage"""
    sentence: Text
    """the evidence"""
    master: bool = False
    """another master uses it, so it must not be configured"""


@dataclass(frozen=True, slots=True)
class NothingFound:
    """A port or host where no line was found, and why as far as it is known."""

    where: str
    sentence: Text


@dataclass(slots=True)
class PortSearch:
    """The search of one open port."""

    stream: ByteStream
    port: str
    seconds: float
    speed: Speed = field(default_factory=lambda: Speed(9600))
    strange: int = 0
    """bytes that were heard and fit nothing"""
    began: float = field(default_factory=monotonic)

    def tune(self, speed: Speed) -> bool:
        """Set the port. Returns whether it supports that."""
        self.speed = speed
        # A port that keeps no parity, such as a pseudo terminal, refuses a change of parity alone,
        # and accepts it together with another rate.
        other = Speed(RATES[0] if speed.baudrate != RATES[0] else RATES[1])
        return self.stream.tune(speed) or (self.stream.tune(other) and self.stream.tune(speed))

    def left(self) -> float:
        """Seconds that are left."""
        return self.began + self.seconds - monotonic()

    def progress(self, what: Text, total: float) -> Progress:
        """Progress in seconds; `total`: what the rest takes at most, if less than the limit."""
        left = max(0.0, min(self.left(), total))
        done = monotonic() - self.began
        text = Text("{port}: {what}; at most {left} to go", port=self.port, what=what,
                    left=took(round(left)))  # fmt: skip
        return Progress(round(done), round(done + left), text)

    async def gathered(self, within: float) -> bytes:
        """What is heard until a pause; at most `within` seconds for its first byte."""
        received = self.stream.received
        until = monotonic() + within
        while not received and (left := until - monotonic()) > 0:
            await self.stream.more(left)
        while received and len(received) < ENDLESS and await self.stream.more(PAUSE):
            pass
        heard = bytes(received)
        received.clear()
        return heard

    async def asked(self, request: bytes, within: float) -> bytes:
        """What is heard after a request, without its echo."""
        self.stream.received.clear()
        self.stream.send(request)
        bits = 11 * len(request) / self.speed.baudrate
        return mbus.without_echo(await self.gathered(bits + within), request)

    async def unit(self, unit: int, within: float = ANSWERS_WITHIN) -> bool:
        """Whether a Modbus device answers at this setting."""
        heard = await self.asked(framed(unit, PROBE), within)
        answers = bool(find(heard, unit, PROBE).pdu)
        self.strange += 0 if answers else len(heard)
        return answers


def trials() -> Iterator[tuple[str, Speed]]:
    """All settings to try, each with its driver, the most common first."""
    modbus = [*USUAL]
    modbus += [Speed(rate, parity) for parity in PARITIES for rate in RATES]
    modbus += [Speed(rate, "none", 2) for rate in RATES]
    order = dict.fromkeys((MODBUS, speed) for speed in modbus)
    meters = [(MBUS, Speed(rate, "even")) for rate in METERED]
    first, *others = meters
    yield from [*order][:4]
    yield first
    yield from [*order][4:9]
    yield from others
    yield from [*order][9:]


Step = Progress | FoundLine | NothingFound


async def search_port(
    port: str, seconds: float = SEARCHED, listens: float = LISTENS
) -> AsyncIterator[Step]:
    """Search a port: yields progress, and at the end what was found. Raises LinkLost.

    Listens first for `listens` seconds. If another master is heard, its line is identified without
    sending anything.
    """
    async with serial_stream(port, Speed(9600)) as stream:
        search = PortSearch(stream, port, seconds)
        yield search.progress(Text("listening for another master"), seconds)
        heard = await search.gathered(listens)
        until = search.began + listens
        while len(heard) < STRAY and (left := until - monotonic()) > 0:
            heard += await search.gathered(left)
        steps = _overheard(search) if len(heard) >= STRAY else _asking(search)
        async with aclosing(steps):
            async for step in steps:
                yield step


async def listen_to_port(port: str, seconds: float = LISTENED) -> AsyncIterator[Step]:
    """Identify the line at a port without sending anything. Raises LinkLost."""
    async with serial_stream(port, Speed(9600)) as stream:
        async for step in _overheard(PortSearch(stream, port, seconds)):
            yield step


async def _asking(search: PortSearch) -> AsyncGenerator[Step]:
    """Try all settings with the first unit ids, then with all others."""
    settings = list(trials())
    rest = [unit for unit in range(1, LAST + 1) if unit not in FIRST]
    rounds = [(FIRST, settings), (rest, [one for one in settings if one[0] == MODBUS])]
    total = sum(_costs(driver, speed, units) for units, them in rounds for driver, speed in them)
    for units, them in rounds:
        for driver, speed in them:
            yield search.progress(_what(driver, speed), total)
            total -= _costs(driver, speed, units)
            if not search.tune(speed):
                continue
            if driver == MBUS:
                if line := await meters_at(search):
                    yield line
                    return
                continue
            for unit in units:
                if search.left() <= 0:
                    yield _nothing(search, whole=False)
                    return
                strange = search.strange
                clear = await search.unit(unit)
                # at a wrong setting devices are silent: one that always answers with garbage
                # shares its address with another
                if clear or await _collides(search, unit, strange):
                    async for step in _answered(search, unit, clear=clear):
                        yield step
                    return
    yield _nothing(search, whole=True)


def _what(driver: str, speed: Speed) -> Text:
    return Text("{protocol} at {speed}", protocol=_protocol(driver), speed=str(speed))


def _protocol(driver: str) -> Text:
    return Text("Modbus RTU") if driver == MODBUS else Text("M-Bus")


def _costs(driver: str, speed: Speed, units: Sequence[int]) -> float:
    if driver == MBUS:
        return 3 * (25 * BITS + PATIENCE_BITS) / speed.baudrate + 3 * PATIENCE
    return len(units) * (ANSWERS_WITHIN + 8 * speed.character)


def _nothing(search: PortSearch, *, whole: bool) -> NothingFound:
    if search.strange >= STRAY:
        return NothingFound(search.port, Text(STRANGERS, number=search.strange))
    silent = Text(
        "no device answers. Check that the devices have power, and that the wires A and B are not"
        " swapped"
    )
    if whole:
        return NothingFound(search.port, silent)
    more = Text(
        "{silent}. Not every speed and address was tried; to search longer: gardien scan {port}"
        " --seconds 1800",
        silent=silent,
        port=search.port,
    )
    return NothingFound(search.port, more)


async def _collides(search: PortSearch, unit: int, strange: int) -> bool:
    """Whether something was heard that is no answer, and is heard again each time."""
    for _attempt in range(3):
        if search.strange == strange:
            return False
        strange = search.strange
        if await search.unit(unit):
            return True
    return search.strange > strange


async def _answered(search: PortSearch, unit: int, *, clear: bool) -> AsyncIterator[Step]:
    """A Modbus device answers: make sure of the parity, then ask all other unit ids."""
    speed = await _surest(search, unit)
    search.tune(speed)
    began = monotonic()
    await search.unit(unit)
    within = min(ANSWERS_WITHIN, max(0.06, 2 * (monotonic() - began)))
    units = [one for one in range(1, LAST + 1) if one != unit]
    devices, doubtful = ([unit], []) if clear else (list[int](), [unit])
    for number, other in enumerate(units):
        if number % 8 == 0:
            left = (len(units) - number) * within
            what = Text("Modbus RTU at {speed}, unit {unit}", speed=str(speed), unit=other)
            yield search.progress(what, left)
        strange = search.strange
        if await search.unit(other, within) or await _again(search, other, strange):
            devices.append(other)
        elif search.strange > strange:
            doubtful.append(other)
    devices.sort()
    sentence: Text = (
        _what(MODBUS, speed)
        if not devices
        else Plural(
            "Modbus RTU at {speed}: 1 device answers, unit {units}",
            "Modbus RTU at {speed}: {number} devices answer, units {units}",
            len(devices),
            speed=str(speed),
            units=", ".join(map(str, devices)),
        )
    )
    if doubtful:
        sentence = Text(
            "{sentence}. At {units} an answer is garbled: two devices may have the same address",
            sentence=sentence,
            units=", ".join(map(str, doubtful)),
        )
    settings: dict[str, Any] = {"port": search.port, "baudrate": speed.baudrate}
    settings["parity"] = speed.parity
    if speed.stopbits != 1:
        settings["stopbits"] = speed.stopbits
    answered = tuple(map(str, sorted(devices + doubtful)))
    yield FoundLine("modbus", MODBUS, settings, answered, sentence)


async def _again(search: PortSearch, unit: int, strange: int) -> bool:
    """Ask once more if something was heard that was no answer: noise, or a collision."""
    return search.strange > strange and await search.unit(unit)


async def _surest(search: PortSearch, unit: int) -> Speed:
    """The parity of a line whose unit answers. An answer with a parity that is checked proves more
    than one without: some devices accept requests of any parity.
    """
    speed = search.speed
    if speed.parity == "none":
        for parity in PARITIES[1:]:
            other = Speed(speed.baudrate, parity)
            if search.tune(other) and await search.unit(unit):
                return other
    return speed


async def meters_at(search: PortSearch) -> FoundLine | None:
    """The M-Bus line, if meters answer at this rate: all are reset and selected at once."""
    rate = search.speed.baudrate
    within = PATIENCE_BITS / rate + PATIENCE + 0.1
    wild = mbus.selection("F" * 8)
    acknowledged = 0
    for request in (mbus.reset(mbus.SELECTED), mbus.reset(mbus.ANYBODY), wild):
        heard = await search.asked(request, within)
        # all acknowledge with the same byte, so that even at once they mostly leave it whole
        acknowledged += mbus.ACKNOWLEDGE in heard and len(heard) <= 2  # noqa: PLR2004
        search.strange += 0 if mbus.ACKNOWLEDGE in heard else len(heard)
    if not acknowledged:
        return None
    heard = await search.asked(mbus.ask(mbus.SELECTED, fcb=True), within)
    settings = {"port": search.port, "baudrate": rate}
    telegram = _decoded(mbus.sound(heard))
    # the telegrams of several meters at once may look like a valid one
    if telegram and unmistakable(telegram):
        about = joined(", ", filter(None, (telegram.id, medium(telegram.medium))))
        sentence = Text("M-Bus at {rate} baud: a meter answers ({about})", rate=rate, about=about)
        return FoundLine("mbus", MBUS, settings, (telegram.id,) if telegram.id else (), sentence)
    if not heard and acknowledged < 2:  # noqa: PLR2004 -- one byte may be noise
        return None
    sentence = Text(
        "M-Bus at {rate} baud: one or several meters answer; the search of the line finds each",
        rate=rate,
    )
    return FoundLine("mbus", MBUS, settings, (), sentence)


def _decoded(frame: bytes | None) -> Telegram | None:
    try:
        return decode(frame) if frame else None
    except MbusError:
        return None


async def _overheard(search: PortSearch) -> AsyncGenerator[Step]:
    """Identify the protocol of another master, without sending anything."""
    octets = 0
    # a receiver looks at one stop bit only
    speeds = [one for one in dict.fromkeys(speed for _, speed in trials()) if one.stopbits == 1]
    for number, speed in enumerate(speeds):
        if search.left() <= 0:
            if octets:
                yield NothingFound(search.port, Text(TOO_SHORT, number=number, all=len(speeds),
                                                     port=search.port))  # fmt: skip
            else:
                silent = Text(
                    "nothing was heard in {seconds}: no other master is active",
                    seconds=took(round(search.seconds)),
                )
                yield NothingFound(search.port, silent)
            return
        yield search.progress(Text("listening at {speed}", speed=str(speed)), search.seconds)
        # a line that speaks may be silent at a speed far from its own
        traffic = await _traffic(search, speed, SPEAKS_WITHIN if octets else search.seconds)
        octets += traffic[MODBUS].octets
        if driver := next((name for name, one in traffic.items() if one.valid), ""):
            async for step in _followed(search, driver, await _checked(search, driver, speed)):
                yield step
            return
    yield NothingFound(search.port, Text(STRANGERS, number=octets))


async def _traffic(
    search: PortSearch, speed: Speed, within: float = SPEAKS_WITHIN
) -> dict[str, HeardTraffic]:
    """What is heard at one setting, until it is enough to judge, by the driver that would read it.
    `within`: seconds to wait at most.
    """
    traffic = {MODBUS: HeardTraffic(), MBUS: HeardTraffic()}
    if not search.tune(speed):
        return traffic
    bursts, until = 0, monotonic() + min(within, search.left())
    while (
        traffic[MODBUS].octets < ENOUGH
        and bursts < BURSTS
        and not any(one.valid for one in traffic.values())
        and (left := until - monotonic()) > 0
    ):
        heard = await search.gathered(left)
        traffic[MODBUS].modbus(heard)
        traffic[MBUS].mbus(heard)
        bursts += bool(heard)
    return traffic


async def _checked(search: PortSearch, driver: str, speed: Speed) -> Speed:
    """The parity of a line that was identified without one, which may be right by chance."""
    if speed.parity == "none":
        for parity in PARITIES[1:]:
            other = Speed(speed.baudrate, parity)
            if (await _traffic(search, other))[driver].valid:
                return other
        search.tune(speed)
    return speed


async def _followed(search: PortSearch, driver: str, speed: Speed) -> AsyncIterator[Step]:
    """Listen to an identified line for its addresses."""
    traffic, began = HeardTraffic(), monotonic()
    seconds = max(AT_LEAST, search.left())
    while (left := began + seconds - monotonic()) > 0:
        what = Text("{protocol} at {speed}, listening", protocol=_protocol(driver),
                    speed=str(speed))  # fmt: skip
        yield search.progress(what, left)
        heard = await search.gathered(min(left, 1.0))
        (traffic.modbus if driver == MODBUS else traffic.mbus)(heard)
    busy = traffic.octets * speed.character / (monotonic() - began)
    mute = [who for who in traffic.asked if who not in traffic.answered]
    sentence = Text(
        "{what}: another master asks {asked}, and uses the line {busy} % of the time",
        what=_what(driver, speed),
        asked=", ".join(sorted(traffic.asked, key=_in_order)),
        busy=round(100 * busy),
    )
    if mute:
        sentence = Text("{sentence}. No answer from {mute}", sentence=sentence,
                        mute=", ".join(sorted(mute, key=_in_order)))  # fmt: skip
    sentence = Text("{sentence}. {alone}", sentence=sentence, alone=Text(ALONE))
    settings: dict[str, Any] = {"port": search.port, "baudrate": speed.baudrate}
    if driver == MODBUS:
        settings["parity"] = speed.parity
    devices = tuple(sorted(traffic.answered, key=_in_order))
    name = "modbus" if driver == MODBUS else "mbus"
    yield FoundLine(name, driver, settings, devices, sentence, master=True)


def _in_order(address: str) -> tuple[int, str]:
    return len(address), address
