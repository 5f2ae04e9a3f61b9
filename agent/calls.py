"""What can be asked of a gardien, by name: the same calls for every door."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from agent.channels import channels
from agent.clock import monotonic, stamp
from agent.drivers.base import Found, Wish
from agent.errors import LinkLost, Refused
from agent.pipeline.ledger import multiplier
from agent.registry import calls as registry_calls
from agent.registry.documents import Installation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agent.house import House, Line, Outlet
    from agent.model import Point, Sample
    from agent.pipeline.poll import Device
    from agent.uplink.delivery import Delivery

    Call = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Asker:
    """Who asks, by the kernel's word, and how to tell them how far the work is."""

    who: str
    progress: Callable[[dict[str, Any]], Awaitable[None]]


async def status(house: House, asker: Asker) -> dict[str, Any]:
    """How everything is, as far as a person can act on it."""
    del asker
    return {
        "version": version("gardien"),
        "gateway": house.identity.gateway if house.identity else None,
        "building": house.config.building.name,
        "started": stamp(house.started),
        "now": stamp(house.clock.now()),
        "clock": house.clock.trust.value,
        "clock_said": house.clock.said,
        "links": {name: _link(line) for name, line in house.lines.items()},
        "devices": {
            name: _device(house, line, device)
            for line in house.lines.values()
            for name, device in line.devices.items()
        },
        "uplinks": {name: await _uplink(house, one) for name, one in house.outlets.items()},
    }


def _link(line: Line) -> dict[str, Any]:
    return {
        "open": not line.link.error,
        "error": line.link.error,
        "opened": line.link.opened,
        "devices": len(line.devices),
        "silent": sum(device.failures > 0 for device in line.devices.values()),
        "health": dict(line.link.health()),
    }


def _device(house: House, line: Line, device: Device) -> dict[str, Any]:
    held = {
        name: one.ledger.held[device.name]
        for name, one in house.outlets.items()
        if device.name in one.ledger.held
    }
    return {
        "link": line.link.name,
        "place": _label(house, device),
        "serial": device.serial,
        "answer_ms": _answer_ms(line, device),
        "answered": stamp(device.answered) if device.answered else None,
        "failures": device.failures,
        "rests_s": round(max(0.0, device.rests_until - monotonic())),
        "said": device.said,
        "held": held,
        "latest": {name: shown(sample) for name, sample in device.latest.items()},
    }


def _label(house: House, device: Device) -> str | None:
    """What people call the place that a device measures now; None where nobody knows."""
    for point in device.points:
        place = point.place
        if place is None and point.channel is not None:
            now = int(house.clock.now())
            found = house.registry.whose(device.name, device.serial, point.channel, now)
            place = found.place if isinstance(found, Installation) else None
        if place is not None:
            labels = (one.label for one in house.registry.places() if one.id == place)
            return next(labels, place)
    return None


def _answer_ms(line: Line, device: Device) -> float | None:
    """How long its last answer took, where the bus knows."""
    known = line.link.health().get("answer_ms", {})
    return known.get(device.points[0].address) if device.points else None


async def _uplink(house: House, outlet: Outlet) -> dict[str, Any]:
    spool = outlet.spool
    backlog, epoch = await outlet.thread.run(lambda: (spool.backlog(), spool.epoch))
    return {
        "recipient": outlet.settings.recipient,
        "epoch": epoch,
        "backlog": asdict(backlog),
        "shed_rows": outlet.intake.shed_rows,
        "held_devices": len(outlet.ledger.held),
        "delivery": _delivery(house, outlet.delivery),
    }


def _delivery(house: House, delivery: Delivery) -> dict[str, Any]:
    last, since = delivery.last_receipt, delivery.connected_since
    return {
        "connected_since": stamp(since) if since else None,
        "last_receipt": stamp(last) if last else None,
        "receipt_s": delivery.receipt_seconds,
        "sent": delivery.sent,
        "resent": delivery.resent,
        "settled": delivery.settled,
        "rejected": delivery.rejected,
        "conflicts": delivery.conflicts,
        "last_error": delivery.last_error,
        "alarm": delivery.alarm(house.clock.now()),
    }


async def read(house: House, asker: Asker, *, device: str, point: str = "") -> dict[str, Any]:
    """Read a device now, between the daemon's own requests. Raises Refused."""
    del asker
    line, found = house.device(device)
    wanted: list[Point] = [p for p in found.points if point in ("", p.name) and not p.derived]
    if not wanted:
        names = ", ".join(p.name for p in found.points)
        raise Refused(f'{device} has no point "{point}"; it has: {names}')
    serial = [found.serial_point] if found.serial_point else []
    await line.link.tried.wait()
    try:
        samples = await line.link.read([*serial, *wanted])
    except LinkLost as error:
        raise Refused(str(error)) from error
    return {
        "device": device,
        "link": line.link.name,
        "points": {sample.point.name: shown(sample) for sample in samples},
        "ok": all(sample.why is None for sample in samples[len(serial) :]),
    }


async def reload(house: House, asker: Asker) -> dict[str, Any]:
    """Take the configuration anew. Raises Refused, and the old one stays."""
    del asker
    if house.reload is None:
        raise Refused("gardien is not running: the next start takes the configuration as it is")
    answer: dict[str, Any] = await house.reload()
    return answer


async def scan(  # noqa: PLR0913 -- as many wishes
    house: House,
    asker: Asker,
    *,
    link: str,
    first: str = "",
    last: str = "",
    expected: Sequence[str] = (),
) -> dict[str, Any]:
    """Search a line for devices, telling how far it is. Raises Refused."""
    if link not in house.lines:
        known = ", ".join(sorted(house.lines)) or "none"
        raise Refused(f'no line "{link}" is configured; there are: {known}')
    line, devices = house.lines[link], []
    await line.link.tried.wait()
    try:
        async for found in line.link.discover(Wish(first, last, tuple(expected))):
            if isinstance(found, Found):
                await asker.progress({"text": f"found {found.about}"})
                devices.append(asdict(found) | {"entry": {"link": link, **found.entry}})
            else:
                await asker.progress(asdict(found))
    except LinkLost as error:
        raise Refused(str(error)) from error
    known_addresses = {
        device.address for device in house.config.devices.values() if device.link == link
    }
    for device in devices:
        device["configured"] = str(device["entry"].get("address")) in known_addresses
    return {"link": link, "devices": devices}


def shown(sample: Sample) -> dict[str, Any]:
    """A sample for people: in the channel's unit, its digits as the meter gave them."""
    value, point = sample.value, sample.point
    unit = channels()[point.channel].unit if point.channel else point.unit
    if isinstance(value, Decimal):
        value = format((value * multiplier(point)).normalize(), "f")
    return {
        "value": value,
        "unit": unit,
        "channel": point.channel,
        "at": stamp(sample.at),
        "why": sample.why,
        "detail": sample.detail,
    }


def _of_the_registry(call: Callable[..., dict[str, Any]], *, zone: bool = False) -> Call:
    """A call of the registry, made by whoever asks, at the building's own time."""

    async def made(house: House, asker: Asker, **args: Any) -> dict[str, Any]:
        if zone:
            args["zone"] = house.config.building.timezone
        answer = call(house.registry, who=asker.who, now=house.clock.now(), **args)
        house.pin_all()
        return answer

    return made


async def consent_give(house: House, asker: Asker, **args: Any) -> dict[str, Any]:
    """Record consents within the building's privacy policy."""
    policy = house.config.privacy.policy
    give = _of_the_registry(registry_calls.consent_give, zone=True)
    return await give(house, asker, policy=policy, **args)


CALLS: Mapping[str, Call] = {
    "status": status,
    "read": read,
    "reload": reload,
    "scan": scan,
    "place.new": _of_the_registry(registry_calls.place_new, zone=True),
    "place.check": _of_the_registry(registry_calls.place_check),
    "place.import": _of_the_registry(registry_calls.place_import, zone=True),
    "place.list": _of_the_registry(registry_calls.place_list),
    "meter.import": _of_the_registry(registry_calls.meter_import, zone=True),
    "meter.assign": _of_the_registry(registry_calls.meter_assign, zone=True),
    "meter.list": _of_the_registry(registry_calls.meter_list),
    "consent.give": consent_give,
    "consent.list": _of_the_registry(registry_calls.consent_list),
}
"""every call by its name"""
