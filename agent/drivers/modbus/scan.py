"""Who is on the line: every unit id is asked, whoever answers is asked what it is. Never writes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.drivers.base import Found, Progress
from agent.drivers.modbus.fingerprint import fitting
from agent.drivers.modbus.rtu import Speed
from agent.drivers.modbus.rtuwire import RtuWire
from agent.errors import Refused
from agent.model import Why

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from agent.drivers.base import Wish
    from agent.drivers.modbus.answer import Answer
    from agent.drivers.modbus.bus import Bus
    from agent.drivers.modbus.fingerprint import Looks
    from agent.drivers.modbus.tcpwire import TcpWire

LISTEN = 3.0
"""seconds for which another master is listened for: one that polls speaks more often"""
PROBES = (b"\x03\0\0\0\x01", b"\x04\0\0\0\x01")
"""any answer will do, a refusal too"""
IDENTIFY = b"\x2b\x0e\x01\0"
"""maker, product, version (Application Protocol V1.1b3, 6.21)"""
LINGER = 0.08
"""seconds in which a second answer of one address is listened for"""
ATTEMPTS = 3
BAUDRATES = (9600, 19200, 38400, 115200, 4800, 2400)
PARITIES = ("none", "even", "odd")
LAST = 247
UNNAMED = re.compile(r"[^a-z0-9]+", re.ASCII)


async def search(bus: Bus, wish: Wish, speed: Speed | None) -> AsyncIterator[Found | Progress]:
    """Search as `agent.drivers.base.Discovers` promises; `speed` of a serial port of ours.

    Where nobody answers at that speed, the other usual ones are tried.
    """
    units = range_of(wish)
    if isinstance(bus.wire, RtuWire):
        yield Progress(0, 1, "listening whether another master speaks")
        if heard := await bus.wire.overhear(LISTEN):
            raise Refused(
                f"another master speaks on this line ({heard} bytes in {LISTEN:.0f} s): stop it,"
                " then scan again"
            )
    found = 0
    for tried in _speeds(speed):
        if tried is not None:
            bus.wire.stream.tune(tried)
        async for one in _units(bus, units, tried if tried != speed else None):
            found += isinstance(one, Found)
            yield one
        if found:
            break
    if speed is not None:
        bus.wire.stream.tune(speed)


def _speeds(speed: Speed | None) -> Iterator[Speed | None]:
    yield speed
    if speed is not None:
        for baudrate in BAUDRATES:
            for parity in PARITIES:
                other = Speed(baudrate, parity)
                if other != speed:
                    yield other


def range_of(wish: Wish) -> range:
    """The unit ids to ask. Raises Refused."""
    first, last = wish.first or "1", wish.last or str(LAST)
    if not first.isdecimal() or not last.isdecimal() or not 0 < int(first) <= int(last) <= LAST:
        raise Refused(f'"{first}" to "{last}" are not unit ids: 1 to {LAST}, the smaller first')
    return range(int(first), int(last) + 1)


async def _units(
    bus: Bus, units: Sequence[int], other: Speed | None
) -> AsyncIterator[Found | Progress]:
    wire, where = bus.wire, f" at {other}" if other else ""
    for number, unit in enumerate(units):
        left = (len(units) - number) * wire.timeout * len(PROBES)
        words = f"unit {unit}{where}; the rest takes at most {left / 60:.0f} min"
        yield Progress(number, len(units), words)
        answers, crowd = await _probed(wire, unit)
        if crowd:
            yield _crowd(unit)
        elif answers:
            looks = await fitting(bus.master.wire, unit)
            yield _found(unit, looks, await _said(wire, unit), other)


async def _probed(wire: TcpWire | RtuWire, unit: int) -> tuple[bool, bool]:
    """Whether anybody answers, and whether more than one does."""
    for probe in PROBES:
        if not isinstance(wire, RtuWire):
            answer = await wire.exchange(unit, probe)
            if answer.why is not Why.SILENT:
                return True, False
            continue
        garbled = 0
        for _ in range(ATTEMPTS):
            answer, behind = await wire.once(unit, probe, LINGER)
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


async def _said(wire: TcpWire | RtuWire, unit: int) -> str:
    """What a device says of itself, where it can."""
    answer = await wire.exchange(unit, IDENTIFY)
    return identification(answer)


def identification(answer: Answer) -> str:
    """The texts of an answer to 43/14, in their order; empty where it is none."""
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


def _crowd(unit: int) -> Found:
    warning = (
        f"more than one device answers at {unit}: switch the others off and set their addresses"
    )
    return Found(f"modbus-{unit}", {"address": unit}, f"unit {unit}, several", (warning,))


def _found(unit: int, looks: Looks, said: str, other: Speed | None) -> Found:
    warnings = list(looks.warnings)
    if other:
        warnings.append(f"it speaks {other}, not what this line is set to: set one of the two")
    entry: dict[str, str | int] = {"address": unit}
    if looks.profile:
        entry["profile"] = looks.profile
    else:
        warnings.append("no profile fits: name one, or its values under `points`")
    base = UNNAMED.sub("-", looks.profile.partition("-")[2] or "modbus").strip("-")
    name = f"{base}-{UNNAMED.sub('-', looks.serial.lower()).strip('-') or unit}"[:64]
    about = ", ".join(part for part in (f"unit {unit}", looks.model, said, looks.serial) if part)
    return Found(name, entry, about, tuple(warnings))
