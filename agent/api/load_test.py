"""Prove a meter by a load: a load switched on in the dwelling must move this meter and no other.

This is for meters whose display cannot be read. It measures two spans of equal length: one without
the load, and one with a large load switched on or a tap opened.
"""

from __future__ import annotations

import asyncio
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from agent.acquisition.slots import multiplier
from agent.api.registry import author, device_of
from agent.core.clock import monotonic
from agent.core.errors import LinkLost, Refused
from agent.registry.fields import channel as channel_name
from agent.registry.load_verdict import IndexReading, verdict
from agent.registry.records import EXACT, Installation, covers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.api.registry import Caller
    from agent.gateway.gateway import Gateway

ROUGHLY = Context(prec=3)
SHORTEST, LONGEST = 1.0, 900.0
"""limits of each of the two spans, in seconds"""


async def meter_load(  # noqa: PLR0913 -- as many options
    gateway: Gateway,
    caller: Caller,
    *,
    place: str,
    channel: str,
    seconds: float = 60.0,
    named: str | None = None,
) -> dict[str, Any]:
    """Find the meter that moves when a load is switched on; record it if it is the place's own.

    `seconds`: the length of each span. Progress tells the person what to do. Raises Refused.
    """
    if not SHORTEST <= seconds <= LONGEST:
        raise Refused(f"--for must be {SHORTEST:g} to {LONGEST:g} seconds, not {seconds:g}")
    who, dwelling, channel = (
        author(gateway, caller, named),
        gateway.registry.place(place),
        channel_name(channel),
    )
    meter, own_device = _meter_at(gateway, dwelling.id, channel)
    readings = await _read_three_times(gateway, caller, dwelling.label, channel, seconds)
    if own_device not in readings:
        raise Refused(
            f"{own_device} did not answer all three reads, so nothing is proven: try again"
        )
    result = verdict(own_device, readings)
    if result.agrees:
        gateway.registry.verify([meter.id], "load", who, "gardien meter load", gateway.clock.now())
        await gateway.registry_changed()
    return {
        "label": dwelling.label,
        "channel": channel,
        "meter": meter.meter,
        "agrees": result.agrees,
        "moved": None if result.moved is None else _description(gateway, result.moved, channel),
        "more": format(ROUGHLY.plus(result.more[own_device]), "f"),
        "asked": len(readings),
    }


def _meter_at(gateway: Gateway, place: str, channel: str) -> tuple[Installation, str]:
    """Return the meter of a place (by id) for a channel, and its device. Raises Refused."""
    now = int(gateway.clock.now())
    meters = [one for one in gateway.registry.meters_of(place) if covers(one, now)]
    meter = next((one for one in meters if one.channel in (None, channel)), None)
    device = None if meter is None else device_of(gateway, meter)
    if meter is None or device is None:
        raise Refused(f"{channel}: no meter of this place is both recorded and on a line")
    return meter, device


async def _read_three_times(
    gateway: Gateway, caller: Caller, label: str, channel: str, seconds: float
) -> dict[str, tuple[IndexReading, IndexReading, IndexReading]]:
    """Read all meters three times: at the start, after a span without and one with the load.

    Meters that did not answer each time are left out.
    """
    asked = _devices(gateway, channel)
    first = await _read_all(gateway, asked, channel)
    await caller.progress({"text": f"change nothing in {label} for {seconds:g} s"})
    await asyncio.sleep(seconds)
    second = await _read_all(gateway, asked, channel)
    text = f"now switch on a large load in {label}, or open a tap, for {seconds:g} s"
    await caller.progress({"text": text})
    await asyncio.sleep(seconds)
    third = await _read_all(gateway, asked, channel)
    # A meter with a missing read cannot be compared: it may have moved in either span.
    always = first.keys() & second.keys() & third.keys()
    return {name: (first[name], second[name], third[name]) for name in always}


def _devices(gateway: Gateway, channel: str) -> list[str]:
    """Return every device that has an index of this channel, except common plant."""
    devices = [one for line in gateway.lines.values() for one in line.devices.values()]
    return sorted(
        one.name
        for one in devices
        if any(p.channel == channel and not p.derived for p in one.points)
        and not any(p.place for p in one.points)
    )


async def _read_all(
    gateway: Gateway, devices: list[str], channel: str
) -> Mapping[str, IndexReading]:
    """Read each device once. Those that do not answer are left out."""
    readings: dict[str, IndexReading] = {}
    for name in devices:
        line, device = gateway.device(name)
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
    _, device = gateway.device(name)
    installation = gateway.registry.whose(name, device.serial, channel, int(gateway.clock.now()))
    place = installation.place if isinstance(installation, Installation) else ""
    labels = {one.id: one.label for one in gateway.registry.places()}
    return {"device": name, "serial": device.serial, "label": labels.get(place)}
