"""Commissioning: check that each meter is the one, and in the place, that the list says."""

from __future__ import annotations

import asyncio
import math
import re
from decimal import Context, Decimal
from itertools import product
from typing import TYPE_CHECKING, Any

from agent.acquisition.factors import (
    ENOUGH,
    PER_SECOND,
    digit,
    excludes,
    likely_error,
    must_be_proven,
)
from agent.acquisition.slots import multiplier
from agent.api import facts, proofs
from agent.api.registry import author, change, device_of, or_nothing, passing, registers
from agent.core.clock import monotonic
from agent.core.errors import LinkLost, Refused
from agent.core.i18n import Text, text_of
from agent.core.quantities import channels, units
from agent.registry import parsers
from agent.registry.background_change import change_in_background
from agent.registry.doubts import confirmations
from agent.registry.inputs import FactorResult, NewExchange, NewInstallation
from agent.registry.labels import in_order
from agent.registry.matching import IndexReading, Listed, OnTheLine, join, verdict
from agent.registry.parsers import checked_channel as channel_name
from agent.registry.records import EXACT, Installation, covers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from agent.api.registry import Call, Caller
    from agent.core.model import Point, Sample
    from agent.gateway.gateway import Gateway
    from agent.gateway.lines import Lines
    from agent.registry.matching import Joined, MoveResult
    from agent.registry.records import Place
    from agent.registry.registry import Registry

DIGITS = 2
"""units of the last digit that people wrote down, by which the meter may differ"""
CLEAR = Decimal("1.2")
"""times by which the limits of what a display means may differ to conclude a wrong factor"""
LOAD_WITHIN = Decimal("0.2")
"""share by which a load may differ from its plate: mains voltage, ageing, a thermostat"""
LOAD_ENOUGH = Decimal("1.6")
"""the smallest error that a load of known power must exclude: it proves less than a display"""
MINUTES = 15
"""minutes for which a meter of known rating may have counted on since people read it"""
ROUGHLY = Context(prec=3)
ALIKE = Decimal("0.02")
"""relative difference by which a value times a power of ten is still the one on the display"""
SWAP = "gardien meter swap"
SHORTEST, LONGEST = 1.0, 900.0
"""limits of each of the two spans, in seconds"""
FASTEST = Decimal(100)
"""kWh or m³ in an hour: no meter of a dwelling counts more"""


@passing(change(facts.meter_import))
async def meter_import(
    gateway: Gateway, caller: Caller, *, join_lines: bool = True, **args: Any
) -> dict[str, Any]:
    """Record a list of meters, and match all recorded meters with the devices on the lines.

    Raises Refused.
    """
    answer = await change(facts.meter_import)(gateway, caller, **args)
    if not join_lines:
        return answer
    on_the_line = await _serials(gateway, caller)
    return answer | {
        "joined": await asyncio.to_thread(_match, gateway, answer["meters"], on_the_line)
    }


def _match(
    gateway: Gateway, new: Sequence[Mapping[str, Any]], on_the_line: Sequence[OnTheLine]
) -> dict[str, Any]:
    # If a list is imported again, the answer has only its new meters. Match the others as well.
    recorded = facts.meter_list(gateway.registry, who="", now=gateway.clock.now())["meters"]
    ids = {one["id"] for one in new}
    others = (one for one in recorded if one["in_force"] and one["id"] not in ids)
    listed = [Listed(one["label"], one["serial"], one["device"]) for one in (*new, *others)]
    return _answer(join(listed, on_the_line))


async def _serials(gateway: Gateway, caller: Caller) -> list[OnTheLine]:
    """Return every device of a dwelling with its serial number; read those not known yet."""
    on_the_line: list[OnTheLine] = []
    devices = [(line, one) for line in gateway.lines.values() for one in line.devices.values()]
    for number, (line, device) in enumerate(devices, 1):
        channels = frozenset(point.channel for point in device.points if point.channel)
        serial, why = device.serial, ""
        if any(point.place for point in device.points):
            continue
        if serial is None and device.serial_point is not None:
            await caller.progress(
                {
                    "text": Text(
                        "reading {name} ({number} of {number_2})",
                        name=device.name,
                        number=number,
                        number_2=len(devices),
                    )
                }
            )
            await line.link.tried()
            try:
                (sample,) = await line.link.read([device.serial_point])
                serial, why = None if sample.value is None else str(sample.value), sample.detail
            except LinkLost as error:
                why = text_of(error)
            device.serial = serial
        on_the_line.append(OnTheLine(device.name, serial, channels, why))
    return on_the_line


def _answer(joined: Joined) -> dict[str, Any]:
    return {
        "matched": [
            {"label": meter.label, "meter": meter.name, "device": device.device}
            for meter, device in joined.matched
        ],
        "silent": [
            {"label": meter.label, "meter": meter.name, "why": why} for meter, why in joined.silent
        ],
        "unlisted": [
            {"device": one.device, "serial": one.serial, "why": one.why} for one in joined.unlisted
        ],
        "doubled": joined.doubled,
    }


async def meter_verify(  # noqa: PLR0913 -- as many options
    gateway: Gateway,
    caller: Caller,
    *,
    place: str,
    shown: Mapping[str, str],
    multiplier: str | None = None,
    named: str | None = None,
) -> dict[str, Any]:
    """Read the meters of a place now, and compare them with what people read on their displays.

    `shown`: the reading on the display, by channel. `multiplier`: of the current transformers, as
    their plates say. A meter that agrees is recorded as proven by `display`, and so is its factor
    if it has counted enough. If one differs, the value is searched on all other meters of the same
    channel. Raises Refused.
    """
    if not shown:
        raise Refused("the value that the meter shows is missing: give it such as --heat 8412")
    who, now = author(gateway, caller, named), gateway.clock.now()
    dwelling = gateway.registry.place(place)
    if any(one.device is None for one in gateway.registry.meters_of(dwelling.id)):
        await _serials(gateway, caller)  # such a meter is found by its serial number
    results = [
        await _compare(
            gateway,
            caller,
            dwelling.id,
            parsers.checked_channel(parsers.channel(channel)),
            parsers.index(text, channel, parsers.unit_of(channel)),
            None if multiplier is None else _ratio(multiplier),
        )
        for channel, text in shown.items()
    ]
    proven = sorted({str(one["installation"]) for one in results if one["agrees"]})
    if proven:
        gateway.registry.verify(proven, "display", who, "gardien meter verify", now)
    factors = [result for one in results if (result := one.pop("result"))]
    if factors:
        gateway.registry.prove_factors(factors, who, "gardien meter verify", now)
    return {"label": dwelling.label, "place": dwelling.id, "results": results}


async def _compare(  # noqa: PLR0913, PLR0917 -- what is compared
    gateway: Gateway,
    caller: Caller,
    place: str,
    channel: str,
    shown: Decimal,
    ratio: Decimal | None,
) -> dict[str, Any]:
    """Find the meter of a place that shows this value; if none does, find others that do.

    If two meters of a place measure the same channel, as water in kitchen and bathroom, people need
    not say which one they read. Raises Refused.
    """
    own = {device: one for one, device in _measuring(gateway, place, channel)}
    if not own:
        raise Refused(
            "{channel}: no meter of this place is both recorded and on a line", channel=channel
        )
    # a value that was read a moment ago is enough to agree, so the person does not wait
    for recent, (device, meter) in product((True, False), own.items()):  # noqa: B007 -- the last one is shown if all differ
        value = await _read(gateway, device, channel, recent=recent)
        agrees = value is not None and _fits(gateway.lines, device, channel, value, shown)
        if agrees:
            break
    others = [] if agrees else await _who_shows(gateway, caller, set(own), channel, shown)
    result = None
    if agrees or not (others or own.keys() - {device}):
        result = _by_display(gateway, meter, device, channel, value, shown, ratio)
    return {
        "result": result,
        "factor": proofs.factor_answer(gateway, meter, device, channel, result),
        "channel": channel,
        "installation": meter.id,
        "meter": meter.meter,
        "shown": format(shown, "f"),
        "read": None if value is None else format(value, "f"),
        "agrees": agrees,
        "times": None if agrees or value is None else _factor(value, shown),
        "shown_by": others,
    }


def _by_display(  # noqa: PLR0913, PLR0917 -- what is compared
    gateway: Gateway,
    meter: Installation,
    device: str,
    channel: str,
    value: Decimal | None,
    shown: Decimal,
    ratio: Decimal | None,
) -> FactorResult | None:
    """What a display shows about the factor of a meter; None: nothing, or nothing new.

    A display does not show the transformers behind which a meter counts, so their ratio must be
    read on their plates.
    """
    point = _index(gateway.lines, device, channel)
    if point is None or not point.to_prove or value is None:
        return None
    within, rounded = _tolerance(gateway.lines, device, channel, shown), digit(shown) * DIGITS
    # the meter counts on after the person has looked, never back
    low, high = shown - rounded, shown + within
    if low <= 0:
        return None
    error = excludes(value, low, high)
    evidence = f"ratio={value / shown:.4f};digits={len(shown.as_tuple().digits)}"
    factor: Decimal | None = Decimal(1)
    if ratio is not None and ratio != meter.multiplier:
        factor, evidence = (
            meter.multiplier / ratio,
            f"multiplier={meter.multiplier:f};plates={ratio:f}",
        )
    elif not low <= value <= high:
        # a few digits may fit by chance
        factor = (
            likely_error(value, low, high, meter.multiplier) if within * CLEAR <= shown else None
        )
        if point.confirmed:
            # a slip of the pen is likelier here, so the digits must be the same
            low, high = shown * (1 - ALIKE), shown * (1 + ALIKE)
            factor = likely_error(value, low, high, meter.multiplier)
    elif error is None or error > ENOUGH or (ratio is None and meter.multiplier != 1):
        factor = None
    if factor is None or error is None:
        return None
    if factor == 1 and not must_be_proven(gateway.registry, meter, point):
        return None
    return FactorResult(meter, channel, "display", factor, error, point.to_prove, evidence)


def _ratio(text: str) -> Decimal:
    """A ratio as plates have it: 200/5, or 40. Raises Refused."""
    first, _, second = text.replace(",", ".").partition("/")
    try:
        ratio = Decimal(first) / Decimal(second or 1)
    except ArithmeticError:
        ratio = Decimal(0)
    if not ratio > 0 or not ratio.is_finite():
        raise Refused('--multiplier: "{text}" is no ratio such as 200/5 or 40', text=text)
    return ratio


def _measuring(gateway: Gateway, place: str, channel: str) -> Iterator[tuple[Installation, str]]:
    """Yield the current meters of a place that are on a line and have an index of this channel."""
    now = int(gateway.clock.now())
    for meter in gateway.registry.meters_of(place):
        name = device_of(gateway, meter) if covers(meter, now) else None
        if name and meter.channel in {None, channel} and _index(gateway.lines, name, channel):
            yield meter, name


def _index(lines: Lines, name: str, channel: str) -> Point | None:
    """Return the point of a device that is its index of a channel; None if it has none."""
    _, device = lines.find(name)
    return next((p for p in device.points if p.channel == channel and not p.derived), None)


async def _who_shows(
    gateway: Gateway, caller: Caller, but: AbstractSet[str], channel: str, shown: Decimal
) -> list[dict[str, Any]]:
    """Find the other meters that show this value now, with the place recorded for each."""
    others: list[dict[str, Any]] = []
    for name in sorted(gateway.config.devices):
        if name in but or not _index(gateway.lines, name, channel):
            continue
        if _recent(gateway, name, channel) is None:
            await caller.progress({"text": Text("reading {name}", name=name)})
        value = await _read(gateway, name, channel, recent=True)
        if value is not None and _may_show(value, shown):
            value = await _read(gateway, name, channel)
        if value is not None and _fits(gateway.lines, name, channel, value, shown):
            _, device = gateway.lines.find(name)
            owner = gateway.registry.whose(name, device.serial, channel, int(gateway.clock.now()))
            place = owner.place if isinstance(owner, Installation) else None
            labels = {one.id: one.label for one in gateway.registry.places()}
            others.append(
                {"device": name, "serial": device.serial, "label": labels.get(place or "")}
            )
    return others


def _recent(gateway: Gateway, name: str, channel: str) -> Sample | None:
    """Return the last sample of a device's index, if it was read within MINUTES."""
    point = _index(gateway.lines, name, channel)
    sample = gateway.lines.latest(name, point.name) if point else None
    age = gateway.clock.now() - sample.at if sample else math.inf
    return sample if 0 <= age < MINUTES * 60 else None


def _may_show(value: Decimal, shown: Decimal) -> bool:
    """Whether a meter that showed `value` within MINUTES may show the other value now."""
    return abs(value - shown) <= FASTEST * MINUTES / 60


def _factor(value: Decimal, shown: Decimal) -> str | None:
    """Return the power of ten by which a meter reads more than its display; None: by no such."""
    if not value or not shown:
        return None
    exponent = round(math.log10(abs(value / shown)))
    factor = Decimal(1).scaleb(exponent)
    return format(factor, "f") if exponent and abs(value / factor / shown - 1) < ALIKE else None


async def _read(
    gateway: Gateway, name: str, channel: str, *, recent: bool = False
) -> Decimal | None:
    """Read a device's index now, in the unit of its channel; None if it gives no value.

    `recent`: a value that was read within MINUTES is good enough.
    """
    line, device = gateway.lines.find(name)
    point = _index(gateway.lines, name, channel)
    if point is None:
        return None
    if recent and (known := _recent(gateway, name, channel)):
        value = known.value
        return EXACT.multiply(value, multiplier(point)) if isinstance(value, Decimal) else None
    await line.link.tried()
    try:
        asked = [device.serial_point] if device.serial_point and device.serial is None else []
        samples = await line.link.read([*asked, point])
    except LinkLost:
        return None
    if asked and samples[0].value is not None:
        device.serial = str(samples[0].value)
    device.latest[point.name] = samples[-1]
    value = samples[-1].value
    return EXACT.multiply(value, multiplier(point)) if isinstance(value, Decimal) else None


def _fits(lines: Lines, name: str, channel: str, value: Decimal, shown: Decimal) -> bool:
    return abs(value - shown) <= _tolerance(lines, name, channel, shown)


def _tolerance(lines: Lines, name: str, channel: str, shown: Decimal) -> Decimal:
    _, device = lines.find(name)
    rating = next((one.rating for one in device.points if one.channel == channel), None)
    # The meter counts on between the person's look and our read. Without a rating only rounding of
    # the last digit is allowed.
    flowed = (rating or Decimal(0)) * MINUTES / 60
    return digit(shown) * DIGITS + flowed


async def meter_match(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Match all recorded meters with the devices on the lines. Raises Refused."""
    on_the_line = await _serials(gateway, caller)
    return await asyncio.to_thread(_match, gateway, (), on_the_line)


async def meter_walk(
    gateway: Gateway, caller: Caller, *, places: Sequence[str] = (), ahead: bool = False
) -> dict[str, Any]:
    """List the meters that people can compare with a display, by place; default: of all dwellings.

    `ahead`: read them now, so that `meter.verify` answers at once. Raises Refused.
    """
    meters = _meters_of(gateway, places)
    if not ahead and any(device_of(gateway, meter) is None for _, meter in meters):
        await _serials(gateway, caller)  # such a meter is found by its serial number
    return {"meters": await walk(gateway, places, ahead=ahead)}


def _meters_of(gateway: Gateway, places: Sequence[str]) -> list[tuple[Place, Installation]]:
    registry, now = gateway.registry, int(gateway.clock.now())
    chosen = [registry.place(place) for place in places] or [
        one for one in registry.places() if one.type == "dwelling"
    ]
    return [
        (place, meter)
        for place in sorted(chosen, key=lambda one: in_order(one.label))
        for meter in registry.meters_of(place.id)
        if covers(meter, now)
    ]


async def walk(
    gateway: Gateway, places: Sequence[str] = (), *, ahead: bool = False
) -> list[dict[str, Any]]:
    """As `meter_walk`, with the serial numbers that are known already."""
    made = []
    for place, meter in _meters_of(gateway, places):
        name = device_of(gateway, meter)
        # what a meter without a device measures may be unknown
        measured: Sequence[str | None] = registers(gateway, name) or [None]
        for channel in [meter.channel] if meter.channel else measured:
            silent = name is None
            if name and channel and ahead:
                silent = await _read(gateway, name, channel, recent=True) is None
            elif name and channel:
                known = _recent(gateway, name, channel)
                silent = known is not None and known.value is None
            made.append(
                {
                    "label": place.label,
                    "place": place.id,
                    "installation": meter.id,
                    "serial": meter.serial,
                    "device": name,
                    "channel": channel,
                    "proof": meter.verified,
                    "silent": silent,
                }
            )
    return made


async def meter_swap(  # noqa: PLR0913 -- as many options
    gateway: Gateway,
    caller: Caller,
    *,
    place: str,
    channel: str,
    device: str,
    named: str | None = None,
) -> dict[str, Any]:
    """Record that a device measures a place, and that the place's meter measures the other place.

    The assignments were wrong from their beginning, so the readings made under them are retracted.
    If the device measured no place, the place's former meter measures none either. Raises Refused.
    """
    who, now = author(gateway, caller, named), gateway.clock.now()
    channel = channel_name(parsers.channel(channel))
    registry, dwelling = gateway.registry, gateway.registry.place(place)
    mine, own_device = _meter_at(gateway, dwelling.id, channel)
    serial = gateway.lines.find(device)[1].serial
    other = registry.whose(device, serial, channel, int(now))
    if device == own_device:
        raise Refused("{device} is the meter of {place} already", device=device, place=place)
    assigned = [(mine, dwelling.id, device, serial)]
    if isinstance(other, Installation):
        assigned.append((other, other.place, own_device, mine.serial))
    wrong = [
        NewExchange(one.place, one.serial or one.device, one.channel, followed=False, never=True)
        for one, *_ in assigned
    ]
    since = max(one.since for one, *_ in assigned)
    right = [
        NewInstallation(
            where, name, number, one.channel, since, one.multiplier, one.offset or None,
            confirmed=confirmations([number or ""], None),
        )
        for one, where, name, number in assigned
    ]  # fmt: skip

    def swap(draft: Registry) -> None:
        draft.exchange(wrong, who, SWAP, now)
        draft.install(right, who, SWAP, now)

    await gateway.disk.ask()
    await change_in_background(registry, swap)
    await gateway.objects.registry_changed()
    labels = [registry.label(one.place) for one, *_ in assigned]
    return {"labels": labels, "devices": [name for _, _, name, _ in assigned]}


CALLS: Mapping[str, Call] = {
    "meter.import": meter_import,
    "meter.verify": meter_verify,
    "meter.match": meter_match,
    "meter.walk": meter_walk,
    "meter.swap": or_nothing(meter_swap),
}
"""calls by name"""


async def meter_load(  # noqa: PLR0913 -- as many options
    gateway: Gateway,
    caller: Caller,
    *,
    place: str,
    channel: str,
    seconds: float = 60.0,
    power: str | None = None,
    named: str | None = None,
) -> dict[str, Any]:
    """Find the meter that moves when a load is switched on; record it if it is the place's own.

    `seconds`: the length of each span. `power`: of the load (2000W, 2kW, 8l/min); with it the
    meter's factor is proven, too. Progress tells the person what to do. Raises Refused.
    """
    if not SHORTEST <= seconds <= LONGEST:
        raise Refused(
            "--for must be {shortest:g} to {longest:g} seconds, not {seconds:g}",
            shortest=SHORTEST,
            longest=LONGEST,
            seconds=seconds,
        )
    who, dwelling, channel = (
        author(gateway, caller, named),
        gateway.registry.place(place),
        channel_name(parsers.channel(channel)),
    )
    meter, own_device = _meter_at(gateway, dwelling.id, channel)
    per_second = None if power is None else _per_second(power, channel)
    readings = await _read_three_times(gateway, caller, dwelling.label, channel, seconds)
    if own_device not in readings:
        raise Refused(
            "{own_device} did not answer all three reads, so nothing is proven: try again",
            own_device=own_device,
        )
    result = verdict(own_device, readings)
    factor = None
    if result.agrees and per_second is not None:
        factor = _by_load(gateway, meter, own_device, channel, result, readings, per_second)
    if factor:
        now = gateway.clock.now()
        gateway.registry.prove_factors([factor], who, "gardien meter load", now)
    if result.agrees:
        gateway.registry.verify([meter.id], "load", who, "gardien meter load", gateway.clock.now())
        await gateway.objects.registry_changed()
    return {
        "label": dwelling.label,
        "channel": channel,
        "meter": meter.meter,
        "agrees": result.agrees,
        "moved": None if result.moved is None else _description(gateway, result.moved, channel),
        "more": format(ROUGHLY.plus(result.more[own_device]), "f"),
        "asked": len(readings),
        "factor": proofs.factor_answer(gateway, meter, own_device, channel, factor),
    }


def _per_second(text: str, channel: str) -> Decimal:
    """What a load adds to an index in a second, in the channel's unit. Raises Refused."""
    known, unit = units(), channels()[channel].unit
    given = re.fullmatch(r"([0-9]+(?:[.,][0-9]+)?) ?([a-zA-Z3/]*)", text.strip())
    size = known.get((given[2] or "W") if given else "")
    scale = PER_SECOND.get((size[0] if size else "", known[unit][0]))
    if given is None or size is None or scale is None:
        raise Refused(
            '--power: "{text}" is no power or flow of {channel}, such as 2000W, 2kW or 8l/min',
            text=text,
            channel=channel,
        )
    rate = float(given[1].replace(",", ".")) * float(size[1]) * scale / float(known[unit][1])
    return Decimal(str(rate))


def _by_load(  # noqa: PLR0913, PLR0917 -- what is compared
    gateway: Gateway,
    meter: Installation,
    device: str,
    channel: str,
    moved: MoveResult,
    readings: Mapping[str, tuple[IndexReading, IndexReading, IndexReading]],
    per_second: Decimal,
) -> FactorResult | None:
    """What a load of known power shows about the factor of a meter and its transformers."""
    point, (_, still, loaded) = _index(gateway.lines, device, channel), readings[device]
    if point is None or not point.to_prove:
        return None
    more, margin = moved.more[device] * meter.multiplier, 2 * digit(loaded.value) * meter.multiplier
    expected = per_second * Decimal(loaded.at - still.at)
    low, high = expected * (1 - LOAD_WITHIN) - margin, expected * (1 + LOAD_WITHIN) + margin
    error = excludes(more, low, high)
    if error is None:
        return None
    factor: Decimal | None = Decimal(1)
    if not low <= more <= high:
        factor = likely_error(more, low, high, meter.multiplier)
    elif error > LOAD_ENOUGH:
        factor = None
    evidence = f"ratio={more / expected:.4f}"
    if factor is None:
        return None
    if factor == 1 and not must_be_proven(gateway.registry, meter, point):
        return None
    return FactorResult(meter, channel, "load", factor, error, point.to_prove, evidence)


def _meter_at(gateway: Gateway, place: str, channel: str) -> tuple[Installation, str]:
    """Return the meter of a place (by id) for a channel, and its device. Raises Refused."""
    now = int(gateway.clock.now())
    meters = [one for one in gateway.registry.meters_of(place) if covers(one, now)]
    meter = next((one for one in meters if one.channel in (None, channel)), None)
    device = None if meter is None else device_of(gateway, meter)
    if meter is None or device is None:
        raise Refused(
            "{channel}: no meter of this place is both recorded and on a line", channel=channel
        )
    return meter, device


async def _read_three_times(
    gateway: Gateway, caller: Caller, label: str, channel: str, seconds: float
) -> dict[str, tuple[IndexReading, IndexReading, IndexReading]]:
    """Read all meters three times: at the start, after a span without and one with the load.

    Meters that did not answer each time are left out.
    """
    asked = _devices(gateway.lines, channel)
    first = await _read_all(gateway.lines, asked, channel)
    await caller.progress(
        {"text": Text("change nothing in {label} for {seconds:g} s", label=label, seconds=seconds)}
    )
    await asyncio.sleep(seconds)
    second = await _read_all(gateway.lines, asked, channel)
    text = Text(
        "now switch on a large load in {label}, or open a tap, for {seconds:g} s",
        label=label,
        seconds=seconds,
    )
    await caller.progress({"text": text})
    await asyncio.sleep(seconds)
    third = await _read_all(gateway.lines, asked, channel)
    # A meter with a missing read cannot be compared: it may have moved in either span.
    always = first.keys() & second.keys() & third.keys()
    return {name: (first[name], second[name], third[name]) for name in always}


def _devices(lines: Lines, channel: str) -> list[str]:
    """Return every device that has an index of this channel, except common plant."""
    devices = [one for line in lines.values() for one in line.devices.values()]
    return sorted(
        one.name
        for one in devices
        if any(p.channel == channel and not p.derived for p in one.points)
        and not any(p.place for p in one.points)
    )


async def _read_all(lines: Lines, devices: list[str], channel: str) -> Mapping[str, IndexReading]:
    """Read each device once. Those that do not answer are left out."""
    readings: dict[str, IndexReading] = {}
    for name in devices:
        line, device = lines.find(name)
        point = next(p for p in device.points if p.channel == channel and not p.derived)
        await line.link.tried()
        try:
            (sample,) = await line.link.read([point])
        except LinkLost:
            continue
        if isinstance(sample.value, Decimal):
            value = EXACT.multiply(sample.value, multiplier(point))
            readings[name] = IndexReading(monotonic(), value)
    return readings


def _description(gateway: Gateway, name: str, channel: str) -> dict[str, Any]:
    """Return a device with its serial number and the recorded place."""
    _, device = gateway.lines.find(name)
    installation = gateway.registry.whose(name, device.serial, channel, int(gateway.clock.now()))
    place = installation.place if isinstance(installation, Installation) else ""
    labels = {one.id: one.label for one in gateway.registry.places()}
    return {"device": name, "serial": device.serial, "label": labels.get(place)}
