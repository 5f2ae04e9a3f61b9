"""What can be asked of a gardien, by name: the same calls for every door."""

from __future__ import annotations

import json
from contextlib import aclosing, suppress
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent import (
    clerk,
    commission,
    loadtrial,
    notary,
    panel,
    privacy,
    recovery,
    syndic,
    timecalls,
    witness,
)
from agent.channels import channels
from agent.clerk import Asker, author, in_person, passing
from agent.clock import monotonic, stamp
from agent.config.add import unlike
from agent.config.outage import left
from agent.drivers import driver
from agent.drivers.base import Found, Seeks, Wish
from agent.errors import LinkLost, Refused, StorageFailed
from agent.outlet import ways
from agent.pipeline import meterclock
from agent.pipeline.ledger import multiplier
from agent.registry.calls_forms import ending, open_forms
from agent.registry.documents import OccupancyState
from agent.registry.index import Unknown
from agent.restored import waits
from agent.roles import INSTALLER, NAMES, Right, holders
from agent.steering import calls as control_calls
from agent.upstream import keys, offering, uplinks
from agent.upstream.events import events
from agent.upstream.itself import itself, moved
from agent.version import version
from agent.words import N_

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.clerk import Call
    from agent.house import House, Outlet
    from agent.lifetime import Fault
    from agent.lines import Line
    from agent.model import Point, Sample
    from agent.pipeline.device import Device
    from agent.uplink.delivery import Delivery


NOT_PLANT = N_(
    '"{device}" does not measure common plant, so its values are not for the account "{account}":'
    " they are for the role {roles}. Whoever may give it: sudo adduser {account} {group}"
)


async def _nobody(_: dict[str, Any]) -> None:
    """Nobody to tell."""


NOBODY = Asker("gardien", _nobody)
"""the agent itself"""


async def status(house: House, asker: Asker, *, named: str | None = None) -> dict[str, Any]:
    """How everything is, as far as a person can act on it, and as far as the asker may see it.

    From a shared account without a name, no values of dwellings are shown, and no look is noted.
    """
    answer = _status(house) | {"uplinks": await _uplinks(house)}
    answer["events"] = [event._asdict() for event in events(answer)]
    homes = [name for name in answer["devices"] if not privacy.is_common(house, name)]
    who = None
    with suppress(Refused):
        who = author(house, asker, named)
    if who is None or not asker.may(Right.METERS):
        for name in homes:
            latest = answer["devices"][name]["latest"]
            answer["devices"][name]["latest"] = {
                point: one | {"value": None, "detail": ""} for point, one in latest.items()
            }
    elif any(answer["devices"][name]["latest"] for name in homes):
        privacy.note(house, who, "status")
    if not asker.may(Right.SEE_PLANT):
        for control in answer["controls"].values():
            said = {name: words for name, words in SHORT.items() if control[name]}
            control.update(said, guards={})
    return answer if asker.may(Right.SEE_PLACES) else _of_nobody(answer, homes)


SHORT = {"opted_out": "opted out", "forbidden": "forbidden now"}
"""instead of words of people, and of what a guard has seen"""


def _of_nobody(answer: dict[str, Any], homes: Sequence[str]) -> dict[str, Any]:
    """A status for whoever may see nothing of dwellings; their devices may bear their names."""
    for name in homes:
        del answer["devices"][name]
    for link in answer["links"].values():
        link |= {"proposals": [], "disturbers": [], "health": {}}
    for fault in answer["faults"]:
        fault["words"] = fault["error"]
    for event in answer["events"]:
        event["here"] = ""
    return answer


def _status(house: House) -> dict[str, Any]:
    links = {name: _link(house, name, line) for name, line in house.lines.items()}
    return {
        "version": version(),
        "roles": holders(house.config.building),
        "gateway": house.identity.gateway if house.identity else None,
        "building": house.config.building.name,
        "started": stamp(house.started),
        "now": stamp(house.clock.now()),
        "clock": house.clock.trust.value,
        "clock_said": house.clock.said,
        "links": links,
        "devices": {
            name: _device(house, device, of, links[of]["health"])
            for of, line in house.lines.items()
            for name, device in line.devices.items()
        },
        "dwellings": _dwellings(house),
        "authority": notary.standing(house),
        "consents": _consents(house),
        "storage": _storage(house),
        "restored": _restored(house),
        "backup_said": house.backup_said,
        "syndic": syndic.standing(house),
        "faults": [_fault(house, one) for one in house.jobs.faults.all()],
        **itself(house),
        "controls": control_calls.held(house.steering) if house.steering else {},
        "holds": house.steering.holds() if house.steering else [],
    }


def _dwellings(house: House) -> dict[str, int]:
    """How many dwellings are occupied, vacant and unknown."""
    registry, now = house.registry, int(house.clock.now())
    states = [registry.occupancy_state(place, now)[0] for place in registry.dwellings()]
    return {str(state): states.count(state) for state in OccupancyState}


def _fault(house: House, fault: Fault) -> dict[str, Any]:
    """A component that does not work because of an unexpected error, with moments of the clock."""
    passed, now = house.clock.now() - monotonic(), monotonic()
    waits = fault.next_try is not None and fault.next_try > now
    return {
        "component": fault.component,
        "since": stamp(passed + fault.since),
        "error": fault.error,
        "words": fault.words,
        "next_try": stamp(passed + (fault.next_try or now)) if waits else None,
        "uplink": fault.uplink,
    }


def _consents(house: House) -> dict[str, Any]:
    """How many forms nobody has answered, and how many consents end soon, and when the first."""
    now = house.clock.now()
    waits, ends = open_forms(house.registry, now), ending(house.registry, now)
    return {
        "unanswered": len(waits),
        "ending": len(ends),
        "first_end": stamp(ends[0].until) if ends else None,
    }


def _storage(house: House) -> dict[str, Any]:
    """Which stores cannot be written, why and since when; and why nothing is controlled."""
    faults = house.storage.faults.items()
    return {
        "faults": {
            name: {"reason": fault.reason, "since": stamp(fault.since)} for name, fault in faults
        },
        "controls": house.steering.writer.failing if house.steering else "",
    }


def _restored(house: House) -> dict[str, Any] | None:
    """How it stands with what was said since the building file; None: nothing is waited for."""
    found = house.restored
    if found is None or found.made is None or not house.outlets:
        return None
    now, stand = house.clock.now(), ways(house)
    return {
        "made": found.made,
        "listens": found.listens,
        "uplinks": {
            name: {
                "complete": outlet.delivery.complete,
                "waits": round(waits(stand[str(outlet.settings.recipient)], now)),
                "unproved": outlet.settings.recipient in (found.unproved or ()),
            }
            for name, outlet in house.outlets.items()
        },
    }


def _link(house: House, name: str, line: Line) -> dict[str, Any]:
    return {
        "open": not line.link.error,
        "error": line.link.error,
        "opened": line.link.opened,
        "devices": len(line.devices),
        "silent": sum(device.failures > 0 for device in line.devices.values()),
        "health": dict(line.link.health()),
        **_disturbed(line, house.clock.now()),
        "proposals": house.proposals.get(name, []),
    }


def _disturbed(line: Line, now: float) -> dict[str, Any]:
    """Who disturbs a line, or of how many of its devices nobody knows who disturbs them."""
    names = {
        line.link.whose(device.points[0].address): name
        for name, device in line.devices.items()
        if device.points
    }
    bad, asked = line.link.disturbed.noisy()
    return {
        "disturbers": [
            {"address": who, "device": names.get(who), "how": how.value, "today": today}
            for who, how, today in line.link.disturbed.named(now)
        ],
        "disturbed": {"devices": bad, "of": asked},
    }


def _device(house: House, device: Device, link: str, health: Mapping[str, Any]) -> dict[str, Any]:
    held = {
        name: _held(house, device, one.ledger.held[device.name])
        for name, one in house.outlets.items()
        if device.name in one.ledger.held
    }
    return {
        "link": link,
        "place": house.label(device),
        "serial": device.serial,
        "answer_ms": _told(health, device, "answer_ms"),
        "failed": _told(health, device, "failed"),
        "clock": _clock(house, health, device),
        "answered": stamp(device.answered) if device.answered else None,
        "failures": device.failures,
        "rests_s": round(max(0.0, device.rests_until - monotonic())),
        "said": "" if _line_is_back(house, device, link) else device.said,
        "held": held,
        "latest": {name: shown(sample) for name, sample in device.latest.items()},
    }


def _line_is_back(house: House, device: Device, link: str) -> bool:
    """Whether all that was wrong with a device was its line, which is open again."""
    line = house.lines[link].link
    return 0 < device.lost_at_opening < line.opened and not line.error


def _held(house: House, device: Device, held: Mapping[str, str]) -> str:
    """Why its last rows were held back, with the points where it is not all of them; unless whose
    it is has been recorded since.
    """
    now = int(house.clock.now())
    wanted = [p.channel for p in device.points if p.channel is not None and p.place is None]
    whose = (house.registry.whose(device.name, device.serial, one, now) for one in wanted)
    since = not any(isinstance(one, Unknown) for one in whose)
    points: dict[str, list[str]] = {}
    for point, words in held.items():
        said = "whose it is was recorded since: from its next reading on"
        points.setdefault(said if since and words in set(Unknown) else words, []).append(point)
    every = {p.name for p in device.points if p.channel is not None}
    return "; ".join(
        words if every <= set(names) else f"{', '.join(names)}: {words}"
        for words, names in points.items()
    )


def _clock(house: House, health: Mapping[str, Any], device: Device) -> dict[str, Any] | None:
    """The meter's own clock, where the bus knows."""
    if (found := _told(health, device, "clocks")) is None:
        return None
    said, at = found
    seconds = meterclock.drift(said, at, house.config.zone)
    words = meterclock.words(seconds) if house.clock.dates else ""
    return {"said": said, "drift_s": seconds, "words": words}


def _told(health: Mapping[str, Any], device: Device, what: str) -> Any:
    """What the bus knows of a device: how long its last answer took, how often it gave none."""
    known = health.get(what, {})
    return known.get(device.points[0].address) if device.points else None


async def _uplinks(house: House) -> dict[str, Any]:
    """Of each recipient whose spool can be asked; one whose disk has just failed is opened anew."""
    found = {}
    for name, outlet in list(house.outlets.items()):
        with suppress(StorageFailed):
            found[name] = await _uplink(house, outlet)
    return found


async def _uplink(house: House, outlet: Outlet) -> dict[str, Any]:
    spool = outlet.spool
    backlog, epoch = await outlet.thread.run(lambda: (spool.backlog(), spool.epoch))
    beside = []
    for other, own in list(outlet.spools[1:]):
        with suppress(StorageFailed):  # closed in between: it was empty
            beside.append(await own.run(other.backlog))
    largest, usual = outlet.outbox.most_bytes(), outlet.settings.rhythm.most_bytes
    return {
        "recipient": outlet.settings.recipient,
        "epoch": epoch,
        "backlog": asdict(backlog),
        "largest_batch": largest if largest and largest < usual else None,
        "weaker": getattr(outlet.settings, "weaker", ""),
        "receipt": "broker" if outlet.delivery.by_broker else "platform",
        "data": moved(house, outlet),
        "building": offering.told(house, outlet),
        "shed_rows": outlet.intake.shed_rows + backlog.lately_shed,
        "bears_days": left(house.config, backlog.rows + backlog.batch_rows),
        "kept": outlet.kept,
        "in_memory": sum(one.rows + one.batch_rows for one in beside),
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
        "lost": "" if since else delivery.lost,
        "last_error": delivery.last_error,
        "alarm": delivery.alarm(house.clock.now()),
    }


async def read(house: House, asker: Asker, *, device: str, point: str = "") -> dict[str, Any]:
    """Read a device now, between the daemon's own requests. Raises Refused."""
    line, found = house.device(device)
    if not asker.may(Right.METERS) and not privacy.is_common(house, device):
        raise Refused(
            NOT_PLANT,
            account=asker.who,
            device=device,
            roles=[NAMES[INSTALLER]],
            group=INSTALLER.group,
        )
    wanted: list[Point] = [p for p in found.points if point in ("", p.name) and not p.derived]
    if not wanted:
        names = ", ".join(p.name for p in found.points)
        raise Refused(f'{device} has no point "{point}"; it has: {names}')
    serial = [found.serial_point] if found.serial_point else []
    await line.link.tried()
    try:
        samples = await line.link.read([*serial, *wanted])
    except LinkLost as error:
        raise Refused(f"{error}; gardien doctor looks at ports, hosts and rights") from error
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


async def configuration(house: House, asker: Asker) -> dict[str, Any]:
    """What the file said when it was last taken."""
    del asker
    return {"written": json.loads(json.dumps(house.config.written, default=str))}


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
    line, devices, remarks = house.lines[link], [], []
    there, taken = _configured(house, link), set(house.config.devices)
    await line.link.tried()
    try:
        async with aclosing(line.link.discover(Wish(first, last, tuple(expected)))) as search:
            async for found in search:
                if isinstance(found, Found):
                    name = there.get(str(found.entry.get("address")))
                    device = asdict(found) | {
                        "entry": {"link": link, **found.entry},
                        "configured": name is not None,
                        "name": name or unlike(found.name, taken),
                    }
                    taken.add(device["name"])
                    devices.append(device)
                    await asker.progress({"text": f"found {found.about}", "device": device})
                elif found.stays:
                    remarks.append(found.words)
                    await asker.progress({"text": found.words})
                else:
                    await asker.progress(asdict(found))
    except LinkLost as error:
        raise Refused(f"{error}; gardien doctor looks at ports, hosts and rights") from error
    return {"link": link, "devices": devices, "remarks": remarks}


def _configured(house: House, link: str) -> dict[str, str]:
    """The devices of a line, by address and, where that holds more than one, by number."""
    found: dict[str, str] = {}
    kind = driver(house.config.links[link].driver)
    for name, device in house.config.devices.items():
        if device.link == link:
            number = kind.number(device.address) if issubclass(kind, Seeks) else None
            found.setdefault(number or device.address, name)
            found[device.address] = name
    return found


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


def at_home(call: Call) -> Call:
    """The same call; its answer says in which zone its moments are read."""

    @passing(call)
    async def made(house: House, asker: Asker, **args: Any) -> dict[str, Any]:
        return await call(house, asker, **args) | {"timezone": house.config.building.timezone}

    return made


ALL: Mapping[str, Call] = {
    "status": status,
    "read": privacy.seen("read", read),
    "reload": in_person(reload, "configuration.reloaded"),
    "configuration": configuration,
    "scan": scan,
    **clerk.CALLS,
    **commission.CALLS,
    **notary.CALLS,
    **recovery.CALLS,
    **syndic.CALLS,
    **timecalls.CALLS,
    "meter.verify": privacy.seen("meter.verify", commission.meter_verify),
    "meter.load": privacy.seen("meter.load", loadtrial.meter_load),
    **privacy.CALLS,
    **keys.CALLS,
    "key.csr": in_person(keys.csr, "certificate.requested"),
    "key.install": in_person(keys.install, "certificate.installed"),
    "key.enroll": in_person(keys.enroll, "certificate.enrolled"),
    "key.renew": in_person(keys.renew, "certificate.renewed"),
    "key.rotate": in_person(keys.rotate),
    **uplinks.CALLS,
    "uplink.close": in_person(uplinks.close, "uplink.closed", "name", "how"),
    "uplink.retry": in_person(uplinks.retry, "uplink.retried", "name"),
    **panel.CALLS,
    **witness.CALLS,
}
CALLS: Mapping[str, Call] = {name: at_home(call) for name, call in ALL.items()}
"""every call by its name"""
