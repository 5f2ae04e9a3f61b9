"""Search a Modbus line: ask each unit id, and identify each device that answers. Never writes."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from agent.core.errors import Refused
from agent.core.i18n import EMPTY, Text, joined
from agent.core.model import Point, Why
from agent.core.settings import took
from agent.drivers.base import Found, Progress
from agent.drivers.modbus.master import ModbusMaster
from agent.drivers.modbus.rtu import Speed
from agent.drivers.modbus.wire import RtuWire
from agent.drivers.profile import profile, profiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence

    from agent.core.model import Sample
    from agent.drivers.base import Wish
    from agent.drivers.modbus.answer import RequestResult
    from agent.drivers.modbus.master import ModbusWire
    from agent.drivers.modbus.wire import TcpWire
    from agent.drivers.profile import Profile

BOUNDS = {
    "voltage": (80, 300),
    "frequency": (45, 65),
    "power_factor": (-1, 1),
    "temperature": (-30, 60),
    "supply_temperature": (1, 180),
    "return_temperature": (1, 180),
    "humidity": (1, 100),
    "co2": (250, 10_000),
}
"""plausible values of quantities, by the beginning of their name. Where possible, 0 is outside,
since unused registers are mostly 0
"""
ENOUGH = 3
"""values in bounds, of two kinds at least, that make a match; fewer may match by chance"""
SILENCES = 2
"""unanswered reads after which no more profiles are tried: the device may stop answering at all"""
IDENTIFY = b"\x2b\x0e\x01\0"
"""request for maker, product and version (Application Protocol V1.1b3, 6.21)"""
UNNAMED = re.compile(r"[^a-z0-9]+", re.ASCII)
LISTENS = 3.0
"""seconds of listening for another master: a master that polls sends more often"""
PROBES = (b"\x03\0\0\0\x01", b"\x04\0\0\0\x01")
"""requests that show whether a device is there; an exception is an answer too"""
LINGER = 0.08
"""seconds of waiting for a second answer with the same unit id"""
ATTEMPTS = 3
BAUDRATES = (9600, 19200, 38400, 115200, 4800, 2400)
PARITIES = ("none", "even", "odd")
LAST = 247


Kind = tuple[tuple[str, int], ...]
"""the profiles that fit a device best, each with the number of values in bounds"""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The profile that a device seems to match; all empty: none."""

    profile: str = ""
    model: str = ""
    serial: str = ""
    warnings: tuple[Text, ...] = ()


class _Comparison:
    """A device compared with profiles. `fits`: the number of values in bounds of those that fit."""

    def __init__(self, wire: ModbusWire, unit: int) -> None:
        self.master, self.unit = ModbusMaster(wire), unit
        self.fits: dict[str, int] = {}
        self.silences = 0
        self._compared: set[str] = set()

    async def compare(self, names: Collection[str]) -> AsyncIterator[None]:
        """Compare with each of these profiles once. Raises LinkLost."""
        for name in names:
            points = [] if name in self._compared else list(_points(self.unit, profile(name)))
            if not points or self.silences >= SILENCES:
                continue
            self._compared.add(name)
            # One value rules most profiles out: a block with an address that the device does not
            # have is asked again in parts.
            samples = await self.master.read(points[:1])
            if isinstance(samples[0].value, Decimal):
                yield None
                samples = await self.master.read(points)
            if samples[0].why is Why.SILENT:
                self.silences += 1
            elif number := _values_in_bounds(samples):
                self.fits[name] = number
            yield None

    @property
    def best(self) -> Kind:
        """The profiles that fit best, in the order of all profiles."""
        most = max(self.fits.values(), default=0)
        return tuple((name, most) for name in profiles() if self.fits.get(name) == most)


async def fitting(
    wire: ModbusWire, unit: int, kinds: list[Kind]
) -> AsyncIterator[Fingerprint | None]:
    """Compare a device with the profiles. Yields None after each, and at the end the result.

    `kinds`: what the devices before it turned out to be. Most devices of a line are alike, so it is
    first compared with what could be taken for one of these, and only else with all profiles.
    Raises LinkLost.
    """
    device = _Comparison(wire, unit)
    for kind in kinds:
        async for step in device.compare(_rivals(kind)):
            yield step
        if device.best == kind:
            break
    else:
        async for step in device.compare([n for n in profiles() if profile(n).driver == "modbus"]):
            yield step
        if device.best and device.silences < SILENCES:
            kinds.append(device.best)
    names = [name for name, _ in device.best]
    yield await _fingerprint_of(device.master, unit, names) if names else Fingerprint()


def _rivals(kind: Kind) -> list[str]:
    """The profiles that read an address which one of this kind reads too, and the kind's own."""
    read = set().union(*(_addresses(name) for name, _ in kind))
    return [
        name
        for name in profiles()
        if profile(name).driver == "modbus" and not read.isdisjoint(_addresses(name))
    ]


def _addresses(name: str) -> set[str]:
    """The addresses that a profile reads, such as `input/72`, whatever their type."""
    return {offer.at.rpartition("/")[0] for offer in profile(name).points.values()}


def _points(unit: int, candidate: Profile) -> Iterator[Point]:
    for quantity, offer in candidate.points.items():
        if _bounds(quantity) or quantity in candidate.defaults:
            scale = offer.scale / 100 if offer.unit == "%" else offer.scale
            yield Point("", quantity, str(unit), offer.at, 60, scale=scale)


def _bounds(quantity: str) -> tuple[int, int] | None:
    return next((b for name, b in BOUNDS.items() if quantity.startswith(name)), None)


def _values_in_bounds(samples: list[Sample]) -> int:
    """The number of values in bounds; 0: one is out of bounds, or there are too few."""
    kinds: set[tuple[int, int]] = set()
    number = 0
    for sample in samples:
        if not isinstance(sample.value, Decimal):
            return 0
        bounds = _bounds(sample.point.name)
        if bounds is None:
            continue
        if not bounds[0] <= sample.value * sample.point.scale <= bounds[1]:
            return 0
        kinds.add(bounds)
        number += 1
    return number if number >= min(ENOUGH, len(samples)) and len(kinds) > 1 else 0


async def _fingerprint_of(master: ModbusMaster, unit: int, names: list[str]) -> Fingerprint:
    match = profile(names[0])
    serial = ""
    warnings = [Text("the profile is guessed from the values: compare it with the type plate")]
    if names[1:]:
        warnings.append(Text("it may also be {names}", names=", ".join(names[1:])))
    if match.serial:
        (sample,) = await master.read([Point("", "serial", str(unit), match.serial.at, 0)])
        serial = str(sample.value or "")  # 0: it was never set
    return Fingerprint(names[0], f"{match.manufacturer} {match.model}", serial, tuple(warnings))


def identification(answer: RequestResult) -> str:
    """The texts in the answer to IDENTIFY (function 43/14), in order; empty if it is not one."""
    pdu, texts, at = answer.pdu, [], 7
    if len(pdu) < at or pdu[:2] != IDENTIFY[:2]:
        return ""
    for _ in range(pdu[6]):
        if at + 2 > len(pdu):
            break
        text = pdu[at + 2 : at + 2 + pdu[at + 1]].decode("ascii", "replace").strip("\0 ")
        texts.append("".join(c for c in text if c.isprintable()))
        at += 2 + pdu[at + 1]
    return " ".join(text for text in texts if text)


def several_devices(unit: int) -> Found:
    """The result for several devices with one unit id."""
    warning = Text(
        "more than one device answers at {unit}: switch on one at a time, and give each its own"
        " address",
        unit=unit,
    )
    about = Text("unit {unit}, more than one device", unit=unit)
    return Found(f"modbus-{unit}", {"address": unit}, about, (warning,))


def found_device(unit: int, fingerprint: Fingerprint, identity: str, other: Speed | None) -> Found:
    """The result for one device, by its fingerprint and its own identification.

    other: the speed at which it answers, if that is not the line's.
    """
    warnings = list(fingerprint.warnings)
    if other:
        warnings.append(
            Text(
                "it uses {other}, and the line is set otherwise: change one of the two", other=other
            )
        )
    entry: dict[str, str | int] = {"address": unit}
    if fingerprint.profile:
        entry["profile"] = fingerprint.profile
    else:
        warnings.append(
            Text("no profile fits: name a profile, or the values to read under `points`")
        )
    base = UNNAMED.sub("-", _kind(fingerprint.profile)).strip("-")
    name = f"{base}-{UNNAMED.sub('-', fingerprint.serial.lower()).strip('-') or unit}"[:64]
    known = (Text("unit {unit}", unit=unit), fingerprint.model, identity, fingerprint.serial)
    about = joined(", ", filter(None, known))
    return Found(name, entry, about, tuple(warnings), fingerprint.serial or None)


def _kind(profile: str) -> str:
    """The first part of a device's name: the model in its profile, or all of `sunspec-203`."""
    model = profile.partition("-")[2]
    return (profile if model.isdecimal() else model) or "modbus"


def answers_everywhere(unit: int, first: int, units: Sequence[int]) -> Progress:
    """The remark on a device that answers at every unit id."""
    text = Text(
        "the device at {first} answers at {unit} too: it seems to answer at every unit id, so the"
        " search ends here",
        first=first,
        unit=unit,
    )
    return Progress(len(units), len(units), text, stays=True)


def other_unit(asked: int, answered: int, units: Sequence[int]) -> Progress:
    """The remark on a host that answers with another unit id than the one asked."""
    text = Text(
        "unit {asked} was asked, and another unit answered: {answered}. If this host is one meter,"
        " write address: {answered}; behind a gateway, set the gateway to answer with the unit id"
        " of the request, then scan again",
        asked=asked,
        answered=answered,
    )
    return Progress(len(units), len(units), text, stays=True)


class SearchedLine(Protocol):
    """What a search uses of an open Modbus line."""

    @property
    def wire(self) -> TcpWire | RtuWire:
        """The connection."""

    @property
    def master(self) -> ModbusMaster:
        """Who sends the requests."""


async def search(
    bus: SearchedLine, wish: Wish, speed: Speed | None, listens: float
) -> AsyncIterator[Found | Progress]:
    """Search as `agent.drivers.base.Discovers` promises; `speed`: of a serial port, else None.

    A serial line is searched once no other master has been heard for `listens` seconds.

    If no device answers at that speed, the other usual speeds are tried that the port supports.
    """
    units = range_of(wish)
    if isinstance(bus.wire, RtuWire):
        yield Progress(0, 1, Text("listening for another master"))
        await _refuse_another_master(bus.wire, listens)
    known_at: dict[str, int] = {}
    others: dict[int, int] = {}
    kinds: list[Kind] = []
    trying = list(speeds(speed))
    for at, tried in enumerate(trying):
        other = None if tried == speed else tried
        if at == 1:
            yield _note_to_keep(
                Text("no device answers at {speed}: the other usual speeds are tried", speed=speed)
            )
        later = len(units) * (len(trying) - at - 1) if other else 0
        with _tuned(bus, speed, other) as known:
            pass
        for number, unit in enumerate(units if known else ()):
            yield (progress := _progress(bus, number, units, other, later))
            steps = _unit(bus, unit, other, progress, others, kinds)
            async for step in _at_speed(bus, speed, other, steps):
                if isinstance(step, Found):
                    # Some hosts answer at every unit id. The same serial number at a second id
                    # shows it, and saves listing one meter 247 times.
                    first = known_at.setdefault(step.number or step.name, unit)
                    if first != unit and not isinstance(bus.wire, RtuWire):
                        yield answers_everywhere(unit, first, units)
                        return
                yield step
        async for step in _others(bus, others, units):
            yield step
        if known_at or others:
            return
    yield _note_to_keep(
        Text(
            "no device answers: check that the devices have power and that the wires A and B are"
            " not"
            " swapped"
        )
        if isinstance(bus.wire, RtuWire)
        else Text(
            "no device answers: check that devices are connected to this host or its gateway, and"
            " that they have power"
        )
    )


async def _refuse_another_master(wire: RtuWire, listens: float) -> None:
    """Raise Refused if another master uses a serial line: two at once disturb each other."""
    if heard := await wire.overhear(listens):
        raise Refused(
            "another master uses this line ({heard} bytes in {listens:.0f} s): nothing was"
            " searched; stop it, then scan again",
            heard=heard,
            listens=listens,
        )


async def _others(
    bus: SearchedLine, others: Mapping[int, int], units: Sequence[int]
) -> AsyncIterator[Found | Progress]:
    """The units that answered instead of those that were asked, each searched at its own id."""
    for answered, asked in others.items():
        yield other_unit(asked, answered, units)
        if answered in units:
            continue
        steps = _unit(bus, answered, None, _note_to_keep(EMPTY), {}, [])
        async for step in steps:
            if isinstance(step, Found):
                yield step


def _note_to_keep(text: Text) -> Progress:
    return Progress(1, 1, text, stays=True)


async def _at_speed(
    bus: SearchedLine,
    own: Speed | None,
    other: Speed | None,
    steps: AsyncIterator[Found | Progress],
) -> AsyncIterator[Found | Progress]:
    """Run each step at the other speed. Between steps others read at the line's own speed."""
    while True:
        with _tuned(bus, own, other):
            step = await anext(steps, None)
        if step is None:
            return
        yield step


@contextmanager
def _tuned(bus: SearchedLine, own: Speed | None, other: Speed | None) -> Iterator[bool]:
    """Set the port to another speed for a block. Yields whether the port supports it."""
    if own is None or other is None:
        yield True
        return
    stream = bus.wire.stream
    try:
        yield stream.tune(other)
    finally:
        stream.tune(own)


def speeds(speed: Speed | None) -> Iterator[Speed | None]:
    """The speeds to try: the line's own, then all other usual ones."""
    yield speed
    if speed is not None:
        for baudrate in BAUDRATES:
            for parity in PARITIES:
                other = Speed(baudrate, parity)
                if other != speed:
                    yield other


def range_of(wish: Wish) -> range:
    """The unit ids to ask. Raises Refused if the request gives no valid range."""
    first, last = wish.first or "1", wish.last or str(LAST)
    if not first.isdecimal() or not last.isdecimal() or not 0 < int(first) <= int(last) <= LAST:
        raise Refused(
            '"{first}" to "{last}" is not a range of unit ids, 1 to {most}',
            first=first,
            last=last,
            most=LAST,
        )
    return range(int(first), int(last) + 1)


def _progress(
    bus: SearchedLine, number: int, units: Sequence[int], other: Speed | None, later: int
) -> Progress:
    """The progress at this speed; `later`: units that are still to be asked at other speeds."""
    where = Text(" at {other}", other=other) if other else ""
    left = took(math.ceil((len(units) - number + later) * bus.wire.timeout * len(PROBES)))
    text = Text(
        "unit {units}{where}; the rest takes at most {left}",
        units=units[number],
        where=where,
        left=left,
    )
    return Progress(number, len(units), text)


async def _unit(  # noqa: PLR0913, PLR0917 -- what one unit needs, and what it adds for the next
    bus: SearchedLine,
    unit: int,
    other: Speed | None,
    progress: Progress,
    others: dict[int, int],
    kinds: list[Kind],
) -> AsyncIterator[Found | Progress]:
    """Search one unit id. The last step is the device, if one answers.

    If another unit answers instead, `others` receives its id and the id that was asked. `kinds`
    receives what the device turned out to be.
    """
    if isinstance(bus.wire, RtuWire):
        answers, several = await _probed(bus.wire, unit)
    else:
        answer = await _answer(bus.wire, unit)
        answers, several = answer is not None, False
        if answer and answer.unit is not None:
            others.setdefault(answer.unit, unit)
            return
    if several:
        yield several_devices(unit)
    elif answers:
        async for fingerprint in fitting(bus.master.wire, unit, kinds):
            if fingerprint is None:
                yield replace(
                    progress,
                    words=Text("unit {unit} answers: it is compared with the profiles", unit=unit),
                )
            else:
                yield found_device(
                    unit, fingerprint, await _identification_of(bus.wire, unit), other
                )


async def _answer(wire: TcpWire, unit: int) -> RequestResult | None:
    """The first answer of a unit behind a host; None: no answer."""
    for probe in PROBES:
        answer = await wire.exchange(unit, probe)
        if answer.why is not Why.SILENT:
            return answer
    return None


async def _probed(wire: RtuWire, unit: int) -> tuple[bool, bool]:
    """Whether a device answers on a serial line, and whether more than one does."""
    for probe in PROBES:
        garbled = 0
        for _ in range(ATTEMPTS):
            answer, behind = await wire.once(unit, probe, LINGER)
            # Two devices with one id: their answers follow each other, or they collide, and then
            # every attempt is damaged.
            if behind:
                return True, True
            if not answer.garbled:
                break
            garbled += 1
        if garbled == ATTEMPTS:
            return True, True
        if answer.why is not Why.SILENT:
            return True, False
    return False, False


async def _identification_of(wire: TcpWire | RtuWire, unit: int) -> str:
    """The device's own identification; empty if it gives none."""
    answer = await wire.exchange(unit, IDENTIFY)
    return identification(answer)
