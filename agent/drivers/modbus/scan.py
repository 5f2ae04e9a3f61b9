"""Search a Modbus line: ask each unit id, and identify each device that answers. Never writes."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.model import Why
from agent.core.settings import took
from agent.drivers.base import Found, Progress
from agent.drivers.modbus.fingerprint import fitting
from agent.drivers.modbus.rtu import Speed
from agent.drivers.modbus.rtuwire import RtuWire
from agent.drivers.modbus.scan_result import (
    IDENTIFY,
    answers_everywhere,
    found_device,
    identification,
    other_unit,
    several_devices,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from agent.drivers.base import Wish
    from agent.drivers.modbus.answer import RequestResult
    from agent.drivers.modbus.bus import Bus
    from agent.drivers.modbus.tcpwire import TcpWire

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


async def search(
    bus: Bus, wish: Wish, speed: Speed | None, listens: float
) -> AsyncIterator[Found | Progress]:
    """Search as `agent.drivers.base.Discovers` promises; `speed`: of a serial port, else None.

    A serial line is searched once no other master has been heard for `listens` seconds.

    If no device answers at that speed, the other usual speeds are tried that the port supports.
    """
    units = range_of(wish)
    if isinstance(bus.wire, RtuWire):
        yield Progress(0, 1, "listening for another master")
        await _refuse_another_master(bus.wire, listens)
    known_at: dict[str, int] = {}
    others: dict[int, int] = {}
    trying = list(speeds(speed))
    for at, tried in enumerate(trying):
        other = None if tried == speed else tried
        if at == 1:
            yield _note_to_keep(f"no device answers at {speed}: the other usual speeds are tried")
        later = len(units) * (len(trying) - at - 1) if other else 0
        with _tuned(bus, speed, other) as known:
            pass
        for number, unit in enumerate(units if known else ()):
            yield (progress := _progress(bus, number, units, other, later))
            steps = _unit(bus, unit, other, progress, others)
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
        "no device answers: check that the devices have power and that the wires A and B are not"
        " swapped"
        if isinstance(bus.wire, RtuWire)
        else "no device answers: check that devices are connected to this host or its gateway, and"
        " that they have power"
    )


async def _refuse_another_master(wire: RtuWire, listens: float) -> None:
    """Raise Refused if another master uses a serial line: two at once disturb each other."""
    if heard := await wire.overhear(listens):
        raise Refused(
            f"another master uses this line ({heard} bytes in {listens:.0f} s): nothing was"
            " searched; stop it, then scan again"
        )


async def _others(
    bus: Bus, others: Mapping[int, int], units: Sequence[int]
) -> AsyncIterator[Found | Progress]:
    """The units that answered instead of those that were asked, each searched at its own id."""
    for answered, asked in others.items():
        yield other_unit(asked, answered, units)
        if answered in units:
            continue
        steps = _unit(bus, answered, None, _note_to_keep(""), {})
        async for step in steps:
            if isinstance(step, Found):
                yield step


def _note_to_keep(text: str) -> Progress:
    return Progress(1, 1, text, stays=True)


async def _at_speed(
    bus: Bus, own: Speed | None, other: Speed | None, steps: AsyncIterator[Found | Progress]
) -> AsyncIterator[Found | Progress]:
    """Run each step at the other speed. Between steps others read at the line's own speed."""
    while True:
        with _tuned(bus, own, other):
            step = await anext(steps, None)
        if step is None:
            return
        yield step


@contextmanager
def _tuned(bus: Bus, own: Speed | None, other: Speed | None) -> Iterator[bool]:
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
        raise Refused(f'"{first}" to "{last}" is not a range of unit ids, 1 to {LAST}')
    return range(int(first), int(last) + 1)


def _progress(
    bus: Bus, number: int, units: Sequence[int], other: Speed | None, later: int
) -> Progress:
    """The progress at this speed; `later`: units that are still to be asked at other speeds."""
    where = f" at {other}" if other else ""
    left = took(math.ceil((len(units) - number + later) * bus.wire.timeout * len(PROBES)))
    text = f"unit {units[number]}{where}; the rest takes at most {left}"
    return Progress(number, len(units), text)


async def _unit(
    bus: Bus, unit: int, other: Speed | None, progress: Progress, others: dict[int, int]
) -> AsyncIterator[Found | Progress]:
    """Search one unit id. The last step is the device, if one answers.

    If another unit answers instead, `others` receives its id and the id that was asked.
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
        async for fingerprint in fitting(bus.master.wire, unit):
            if fingerprint is None:
                yield replace(
                    progress, words=f"unit {unit} answers: it is compared with the profiles"
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
