"""All calls by name. The local socket and the command line make the same calls."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from contextlib import aclosing, suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.acquisition.device import describe, drift
from agent.api import (
    backup,
    bundle,
    carry,
    commission,
    control,
    dwellings,
    findings,
    history,
    keys,
    line_find,
    privacy,
    proofs,
    syndic,
    uplinks,
    visit,
    web,
)
from agent.api import clock as clock_api
from agent.api import configuration as configuration_api
from agent.api import metrics as metrics_api
from agent.api import registry as registry_api
from agent.api import trust as trust_api
from agent.api.diagnosis import edits, machine, records, running
from agent.api.forms import ending, open_forms
from agent.api.listening import listening
from agent.api.registry import Caller, author, in_person, or_nothing, passing
from agent.api.roles import INSTALLER, NAMES, NOT_AT_THE_PAGE, PERSONS, Right, holders
from agent.api.status import moved, own_status, shown
from agent.config.edit import unlike
from agent.config.estimates import left
from agent.core.clock import monotonic, stamp
from agent.core.errors import AgentError, LinkLost, Refused, StorageFailed
from agent.core.finding import RANK, worst_first
from agent.core.i18n import N_, Text, joined
from agent.core.model import Point
from agent.core.tasks import pause
from agent.core.version import version
from agent.drivers import driver
from agent.drivers.base import Found, Seeks, Wish
from agent.gateway import delivery
from agent.gateway.lines import label_of
from agent.gateway.recipient import needs_signature, uplink_states
from agent.registry.dates import sentences_in_local_time, text_in_local_time
from agent.registry.index import Unknown
from agent.registry.records import OccupancyState
from agent.uplink import pacing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from pathlib import Path

    from agent.acquisition.device import Device
    from agent.api.registry import Call
    from agent.buffer.upkeep import Backlog
    from agent.config import Config
    from agent.core.finding import Finding
    from agent.core.model import Sample
    from agent.core.tasks import ComponentFault
    from agent.drivers.link import Link
    from agent.gateway.gateway import Gateway, Recipient
    from agent.gateway.lines import LinkDevices
    from agent.registry.registry import Registry
    from agent.uplink.pacing import Delivery


NOT_PLANT = N_(
    'the device "{device}" measures a dwelling, so the account "{account}" may not read it. It'
    " needs the role {roles}. An administrator can give it: sudo adduser {account} {group}"
)


async def _nobody(_: dict[str, Any]) -> None:
    """Discard progress."""


NOBODY = Caller("gardien", _nobody)
"""the agent itself"""
SHARED_FOR = 1.0
"""seconds for which a description is that of all who ask for it"""


async def status(gateway: Gateway, caller: Caller, *, named: str | None = None) -> dict[str, Any]:
    """Return the state of every part, as far as the caller may see it.

    A caller on a shared account who gives no name sees no values of dwellings, and nothing is
    written to the access log.
    """
    answer = _status(gateway) | {"uplinks": await _uplinks(gateway)}
    # Findings are made from the full answer; what the caller may not see is removed afterwards.
    events = await _findings(gateway, answer)
    if not caller.may(Right.SEE_PLACES):
        shared = worst_first(finding for finding in events if not finding.private)
        events = [finding.without_names() for finding in shared]
    answer["events"] = [finding.wire() for finding in events]
    common = privacy.is_common
    if caller.page:
        from agent.api.page_view import is_plant as common  # noqa: PLC0415 -- see `at_home`
    for name, device in answer["devices"].items():
        device["common"] = common(gateway, name)
    homes = [name for name, device in answer["devices"].items() if not device["common"]]
    who = None
    with suppress(Refused):
        who = author(gateway, caller, named)
    # the page asks again and again, so it gets no values of dwellings at all
    if who is None or caller.page or not caller.may(Right.METERS):
        for name in homes:
            latest = answer["devices"][name]["latest"]
            answer["devices"][name]["latest"] = {
                point: one | {"value": None, "detail": ""} for point, one in latest.items()
            }
    elif any(answer["devices"][name]["latest"] for name in homes):
        privacy.note(gateway, who, "status")
    if not caller.may(Right.SEE_PLANT):
        for control in answer["controls"].values():
            short = {name: words for name, words in SHORT.items() if control[name]}
            control.update(short, guards={}, sheet=None)
    return answer if caller.may(Right.SEE_PLACES) else _without_dwellings(answer, homes)


async def _findings(gateway: Gateway, answer: Mapping[str, Any]) -> list[Finding]:
    """Return all findings about this gateway, the worst first. The agent's own account makes them.

    Those that have the same cause are separate: recipients see not all of them.
    """
    config, now, file = gateway.config, int(gateway.clock.now()), gateway.daemon.path
    made = running.findings(answer)
    if not gateway.identity and config.uplinks:
        made.append(machine.no_keys(config.state))
    unknown = answer["dwellings"][OccupancyState.UNKNOWN]
    devices = gateway.lines.devices()
    shelf = gateway.unsent.get("shelf")
    seen = shelf.seen if shelf else {}
    made += records.findings(config, gateway.registry, devices, unknown, now, file, seen)
    # they open files, and a disk may be slow
    path = file if gateway.daemon else None
    try:
        made += await gateway.disk.read(_on_this_machine, config, path, now)
    except StorageFailed as error:  # the rest is known all the same
        made.append(machine.not_checked(error))
    made = gateway.first_seen.dated(made, keep=bool(gateway.daemon))
    made = gateway.acknowledged.applied(made, keep=bool(gateway.daemon))
    return sorted(made, key=lambda finding: RANK[finding.severity])


async def described(gateway: Gateway) -> dict[str, Any]:
    """Return the whole answer to `status`, with the numbers that each recipient gets, by uplink."""
    answer = await status(gateway, NOBODY)
    made = await metrics_api.families(gateway, answer)
    numbers = {
        name: metrics_api.of_recipient(made, one["recipient"])
        for name, one in answer["uplinks"].items()
    }
    return answer | {"metrics": numbers}


class Description:
    """What `described` returns, made once for all who look in the same moment.

    The diagnosis and the report to each recipient look each minute, and share one wake (`pause`).
    Making the answer is most of the work of a gateway at which nothing happens.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._one_at_a_time = gateway, asyncio.Lock()
        self._made: dict[str, Any] = {}
        self._until = -math.inf

    async def get(self) -> dict[str, Any]:
        """Return the answer, at most `SHARED_FOR` old. It is also the others': do not change it."""
        async with self._one_at_a_time:
            if monotonic() >= self._until:
                self._made = await described(self._gateway)
                self._until = monotonic() + SHARED_FOR
            return self._made


async def metrics(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return the state of the gateway in numbers; see `agent.api.metrics.families`."""
    del caller
    return {"families": await metrics_api.families(gateway, await status(gateway, NOBODY))}


async def _all_findings(gateway: Gateway) -> list[Finding]:
    return await _findings(gateway, _status(gateway) | {"uplinks": await _uplinks(gateway)})


async def diagnose(description: Description, every: float) -> None:
    """Make the diagnosis every so many seconds, so that each finding knows when it began."""
    while True:
        await description.get()
        await pause(every)


def _on_this_machine(config: Config, file: Path | None, now: int) -> list[Finding]:
    """Make the checks of files and ports. `file`: the configuration in use, if a daemon runs."""
    made = [
        *machine.sample(config),
        *machine.lost_ports(config),
        *machine.named_certificates(config, now),
        *machine.leftover_spools(config),
        *machine.wear(config.state),
        *(edits.edits(file, config) if file else ()),
    ]
    return [finding for finding in made if finding.fine is False]


SHORT = {"opted_out": Text("opted out"), "forbidden": Text("forbidden now")}
"""texts shown in place of reasons that may name people or values of a guard"""


def _without_dwellings(answer: dict[str, Any], homes: Sequence[str]) -> dict[str, Any]:
    """Remove from a status everything about dwellings. Names of devices may contain labels."""
    for name in homes:
        del answer["devices"][name]
    for link in answer["links"].values():
        link |= {"proposals": [], "disturbers": [], "health": {}}
    for fault in answer["faults"]:
        fault["words"] = fault["error"]
    return answer


def _status(gateway: Gateway) -> dict[str, Any]:
    now = gateway.clock.now()
    links = {name: _link(line, now) for name, line in gateway.lines.items()}
    return {
        "version": version(),
        "roles": holders(gateway.config.building),
        "gateway": gateway.identity.gateway if gateway.identity else None,
        "building": gateway.config.building.name,
        "started": stamp(gateway.started),
        "now": stamp(now),
        "clock": gateway.clock.sealing_trust.value,
        "clock_person_until": _stamped(gateway.clock.person_until),
        "clock_said": gateway.clock.distrust_reason,
        "clock_since": _stamped(gateway.clock.doubted_since),
        "links": links,
        "devices": {
            name: _device(gateway, device, of, links[of]["health"])
            for of, line in gateway.lines.items()
            for name, device in line.devices.items()
        },
        "dwellings": _dwellings(gateway.registry, int(now)),
        "page": web.standing(gateway),
        "authority": trust_api.standing(gateway),
        "consents": _consents(gateway.registry, now),
        "storage": _storage(gateway),
        "restored": _restore_state(gateway),
        "backup_said": gateway.building.problem,
        "backup_since": _stamped(latest.made if (latest := gateway.building.latest) else None),
        "syndic": syndic.standing(gateway),
        "faults": [_fault(one, now) for one in gateway.jobs.faults.all()],
        **own_status(gateway),
        "controls": control.held(gateway.steering) if gateway.steering else {},
        "holds": gateway.steering.holds(),
    }


def _stamped(at: float | None) -> str | None:
    return None if at is None else stamp(at)


def _dwellings(registry: Registry, now: int) -> dict[str, int]:
    """Count the dwellings that are occupied, vacant and unknown."""
    states = [registry.occupancy_state(place, now)[0] for place in registry.dwellings()]
    return {str(state): states.count(state) for state in OccupancyState}


def _fault(fault: ComponentFault, wall: float) -> dict[str, Any]:
    """Describe a component that an unexpected error has stopped, with times of the wall clock."""
    # Faults are dated by the loop's clock, which does not step. Convert only for the display.
    passed, now = wall - monotonic(), monotonic()
    waits = fault.next_try is not None and fault.next_try > now
    return {
        "component": fault.component,
        "since": stamp(passed + fault.since),
        "error": fault.error,
        "words": fault.text,
        "next_try": stamp(passed + (fault.next_try or now)) if waits else None,
        "uplink": fault.uplink,
    }


def _consents(registry: Registry, now: float) -> dict[str, Any]:
    """Count the forms without an answer and the consents that end soon; say when the first ends."""
    waits, ends = open_forms(registry, now), ending(registry, now)
    return {
        "unanswered": len(waits),
        "ending": len(ends),
        "first_end": stamp(ends[0].until) if ends else None,
    }


def _storage(gateway: Gateway) -> dict[str, Any]:
    """Say which stores cannot be written, why and since when, and why no control is carried out."""
    faults = gateway.disk.storage.faults.items()
    return {
        "faults": {
            name: {"reason": fault.reason, "since": stamp(fault.since)} for name, fault in faults
        },
        "controls": gateway.steering.writer.failing if gateway.steering else "",
    }


def _restore_state(gateway: Gateway) -> dict[str, Any] | None:
    """Describe the wait for withdrawals since the backup; None if nothing is waited for."""
    gate = gateway.restored
    if gate.made is None or not gateway.recipients:
        return None
    now, uplinks = gateway.clock.now(), uplink_states(gateway.recipients)
    return {
        "made": gate.made,
        "listens": gate.listens,
        "uplinks": {
            name: {
                "complete": recipient.delivery.complete,
                "waits": round(gate.waits(uplinks[str(recipient.settings.recipient)], now)),
                "unproved": recipient.settings.recipient in (gate.unproved or ()),
            }
            for name, recipient in gateway.recipients.items()
        },
    }


def _link(line: LinkDevices, now: float) -> dict[str, Any]:
    return {
        "open": not line.link.error,
        "error": line.link.error,
        "down_since": stamp(line.link.down_since) if line.link.down_since else None,
        "opened": line.link.opened,
        "devices": len(line.devices),
        "silent": sum(device.failures > 0 for device in line.devices.values()),
        "health": dict(line.link.health()),
        **_disturbed(line, now),
        "proposals": line.proposals,
    }


def _disturbed(line: LinkDevices, now: float) -> dict[str, Any]:
    """Name the devices that disturb a line, and count the disturbed devices without known cause."""
    names = {
        line.link.whose(device.points[0].address): name
        for name, device in line.devices.items()
        if device.points
    }
    disturbed, total = line.link.disturbed.noisy()
    return {
        "disturbers": [
            {"address": who, "device": names.get(who), "how": how.value, "today": today}
            for who, how, today in line.link.disturbed.named(now)
        ],
        "disturbed": {"devices": disturbed, "of": total},
    }


def _device(
    gateway: Gateway, device: Device, link: str, health: Mapping[str, Any]
) -> dict[str, Any]:
    now = int(gateway.clock.now())
    held = {
        name: _held_back(gateway.registry, now, device, one.ledger.held[device.name])
        for name, one in gateway.recipients.items()
        if device.name in one.ledger.held
    }
    return {
        "link": link,
        "place": label_of(device, gateway.registry, now),
        "serial": device.serial,
        "answer_ms": _health_value(health, device, "answer_ms"),
        "failed": _health_value(health, device, "failed"),
        "clock": _clock(gateway, health, device),
        "answered": stamp(device.answered) if device.answered else None,
        "failures": device.failures,
        "rests_s": round(max(0.0, device.rests_until - monotonic())),
        "said": "" if _line_is_back(device, gateway.lines[link].link) else device.problem,
        "held": held,
        "odd": [
            {**one, "since": _stamped(one["since"])}
            for one in gateway.plausibility.of(device.name, now)
        ],
        "latest": {name: shown(sample) for name, sample in device.latest.items()},
    }


def _line_is_back(device: Device, link: Link) -> bool:
    """Whether a device failed only because its line was lost, and the line is open again."""
    return 0 < device.lost_at_opening < link.opened and not link.error


def _held_back(registry: Registry, now: int, device: Device, held: Mapping[str, str]) -> str:
    """Say why the last rows of a device were withheld, and for which points if not for all.

    A reason that the registry no longer has is replaced: the next reading is sent.
    """
    wanted = [p.channel for p in device.points if p.channel is not None and p.place is None]
    assignments = (registry.whose(device.name, device.serial, one, now) for one in wanted)
    since = not any(isinstance(one, Unknown) for one in assignments)
    points: dict[str, list[str]] = {}
    for point, reason in held.items():
        text = Text("its place has been recorded since: sent from its next reading on")
        points.setdefault(text if since and reason in set(Unknown) else reason, []).append(point)
    every = {p.name for p in device.points if p.channel is not None}
    return joined(
        "; ",
        [
            Text(words)
            if every <= set(names)
            else Text("{names}: {reason}", names=names, reason=Text(words))
            for words, names in points.items()
        ],
    )


def _clock(gateway: Gateway, health: Mapping[str, Any], device: Device) -> dict[str, Any] | None:
    """Describe the meter's own clock, if the driver reads it."""
    if (reading := _health_value(health, device, "clocks")) is None:
        return None
    meter_time, at = reading
    seconds = drift(meter_time, at, gateway.config.zone)
    text = describe(seconds) if gateway.clock.dates else ""
    return {"said": meter_time, "drift_s": seconds, "words": text}


def _health_value(health: Mapping[str, Any], device: Device, what: str) -> Any:
    """Return one value that a line's statistics hold for a device, such as its response time."""
    known = health.get(what, {})
    return known.get(device.points[0].address) if device.points else None


CLOSED = (StorageFailed, sqlite3.ProgrammingError)
"""what a spool raises that was closed between two steps, such as one that returns to its disk"""


async def _uplinks(gateway: Gateway) -> dict[str, Any]:
    """Describe each recipient whose spool is open, except one whose disk has just failed."""
    states = {}
    for name, recipient in list(gateway.recipients.items()):  # a copy: spools may close meanwhile
        with suppress(*CLOSED):
            states[name] = await _uplink(gateway, recipient)
    return states


async def _uplink(gateway: Gateway, recipient: Recipient) -> dict[str, Any]:
    spool = recipient.spool
    backlog, epoch = await recipient.thread.run(lambda: (spool.backlog(), spool.epoch))
    in_memory = []
    for other, own in list(recipient.spools[1:]):
        with suppress(*CLOSED):  # closed in between: it was empty
            in_memory.append(await own.run(other.backlog))
    largest, usual = recipient.outbox.most_bytes(), recipient.settings.rhythm.most_bytes
    return {
        "recipient": recipient.settings.recipient,
        "epoch": epoch,
        "backlog": asdict(backlog),
        "largest_batch": largest if largest and largest < usual else None,
        "weaker": getattr(recipient.settings, "weaker", ""),
        "receipt": _receipts(gateway, recipient),
        "data": moved(gateway, recipient),
        "building": delivery.upload_state(gateway, recipient),
        "shed_rows": recipient.intake.shed_rows + backlog.lately_shed,
        "bears_days": left(gateway.config, backlog.rows + backlog.batch_rows),
        "kept": recipient.kept,
        "late": _late(recipient, backlog, gateway.clock.now()),
        "in_memory": sum(one.rows + one.batch_rows for one in in_memory),
        "held_devices": len(recipient.ledger.held),
        "files": {
            option: str(path)
            for option in ("ca", "password")
            if (path := getattr(recipient.settings, option, None))
        },
        "delivery": _delivery(recipient.delivery, gateway.clock.now()),
    }


def _receipts(gateway: Gateway, recipient: Recipient) -> str:
    """Whose receipts settle the batches of a recipient."""
    if needs_signature(gateway, recipient.settings):
        return Text("signed")
    return Text("broker") if recipient.delivery.by_broker else Text("platform")


def _late(recipient: Recipient, backlog: Backlog, now: float) -> bool:
    """Whether values wait longer than the interval of sending explains."""
    delivery = recipient.delivery
    if backlog.quarantined or delivery.connected_since is None or delivery.silent_since(now):
        return True
    live_after = pacing.live_after(now, recipient.settings.rhythm)
    return bool(delivery.alarm(now)) or (backlog.oldest or live_after) < live_after


def _delivery(delivery: Delivery, now: float) -> dict[str, Any]:
    last, since = delivery.last_receipt, delivery.connected_since
    lost, owed = delivery.lost_since, delivery.nobody_since or delivery.owed_since
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
        "lost_since": stamp(lost) if not since and lost else None,
        "owed_since": stamp(owed) if owed else None,
        "silent_since": _stamped(delivery.silent_since(now) if since else None),
        "last_error": delivery.last_error,
        "alarm": delivery.alarm(now),
        "unsigned": delivery.unsigned(now),
        "unsigned_since": stamp(delivery.unsigned_since) if delivery.unsigned_since else None,
    }


def _must_be_readable(gateway: Gateway, caller: Caller, device: str) -> None:
    if not caller.may(Right.METERS) and not privacy.is_common(gateway, device):
        if caller.page:
            role, names = str(INSTALLER), [Text(PERSONS[INSTALLER])]
            raise Refused(NOT_AT_THE_PAGE, person=caller.who, roles=names, role=role)
        raise Refused(
            NOT_PLANT,
            account=caller.who,
            device=device,
            roles=[NAMES[INSTALLER]],
            group=INSTALLER.group,
        )


async def record(
    gateway: Gateway, caller: Caller, *, device: str, named: str | None = None
) -> dict[str, Any]:
    """Read all that a device's profile offers, and record it as a test. Raises Refused.

    The `test` has no serial number; `serial` is the one that the device reported.
    """
    who = author(gateway, caller, named)
    line, target = gateway.lines.find(device)
    _must_be_readable(gateway, caller, device)
    settings = gateway.config.devices[device]
    made = settings.made
    if made is None:
        raise Refused("{device} has no profile, so there is nothing to record", device=device)
    points = [
        Point(device, name, settings.address, offer.at, 60, unit=offer.unit, scale=offer.scale)
        for name, offer in made.points.items()
    ]
    await line.link.tried()
    try:
        samples, test = await line.link.record(points, target.serial_point)
    except LinkLost as error:
        raise Refused(
            "{error}. To check ports, hosts and rights: gardien doctor", error=error
        ) from error
    serial = samples.pop(0).value if target.serial_point else None
    return {
        "profile": settings.profile,
        "by": who,
        "test": test,
        "serial": None if serial is None else str(serial),
        "points": {sample.point.name: shown(sample) for sample in samples},
    }


async def read(  # noqa: PLR0913 -- as many wishes
    gateway: Gateway,
    caller: Caller,
    *,
    device: str,
    point: str = "",
    everything: bool = False,
    trace: bool = False,
) -> dict[str, Any]:
    """Read a device now, between the daemon's own requests. Raises Refused.

    `ok` is false if any point of the device itself has no value. `odd`: what else was heard
    meanwhile. `everything`: also all values in its answers. `trace`: also send the line's bytes.
    """
    line, target = gateway.lines.find(device)
    if trace and not caller.may(Right.METERS):
        raise Refused(
            "a trace has the readings of other devices of the line too, so the account {account}"
            " may not record one. Read without --trace",
            account=caller.who,
        )
    _must_be_readable(gateway, caller, device)
    points: list[Point] = [p for p in target.points if point in ("", p.name) and not p.derived]
    if not points:
        names = ", ".join(p.name for p in target.points)
        raise Refused(
            'the device "{device}" has no point "{point}". Its points: {names}',
            device=device,
            point=point,
            names=names,
        )
    serial = [target.serial_point] if target.serial_point else []
    await line.link.tried()
    if trace:
        privacy.note(gateway, caller.who, "trace")
    address = points[0].address
    try:
        async with listening(gateway, caller, line.link.name, trace=trace) as heard:
            # The serial number goes along, so that people see which meter has answered.
            samples = await line.link.read([*serial, *points])
    except LinkLost as error:
        raise Refused(
            "{error}. To check ports, hosts and rights: gardien doctor", error=error
        ) from error
    if serial and samples[0].value is not None:
        heard.serial(gateway, device, address, str(samples[0].value))
    whose = line.link.whose(address)
    return {
        "device": device,
        "link": line.link.name,
        "odd": [one for one in heard.odd({whose: device}) if one["device"] in {address, whose, ""}],
        "objects": heard.values(whose, device_serial(samples)) if everything else [],
        "points": {sample.point.name: shown(sample) for sample in samples},
        "ok": all(sample.why is None for sample in samples[len(serial) :]),
    }


async def reload(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Load the configuration again. Raises Refused; then the old one stays in force."""
    del caller
    return await gateway.daemon.reload()


async def configuration(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return the configuration as the file had it when it was last loaded."""
    del caller
    return {"written": json.loads(json.dumps(gateway.config.written, default=str))}


def _line(gateway: Gateway, link: str) -> LinkDevices:
    if link not in gateway.lines:
        known = ", ".join(sorted(gateway.lines)) or Text("none")
        raise Refused(
            'no line "{link}" is configured. Configured lines: {known}', link=link, known=known
        )
    return gateway.lines[link]


def _listed(step: Found, link: str, name: str | None, used_names: set[str]) -> dict[str, Any]:
    """A found device as it is listed. `name`: in the configuration; None: it gets a new one."""
    device = asdict(step) | {
        "objects": [],
        "entry": {"link": link, **step.entry},
        "configured": name is not None,
        "name": name or unlike(step.name, used_names),
    }
    used_names.add(device["name"])
    return device


async def scan(  # noqa: PLR0913 -- as many wishes
    gateway: Gateway,
    caller: Caller,
    *,
    link: str,
    first: str = "",
    last: str = "",
    expected: Sequence[str] = (),
    expected_only: bool = False,
    listen: bool = True,
    everything: bool = False,
    trace: bool = False,
) -> dict[str, Any]:
    """Search a line for devices and report progress. Raises Refused.

    The odd answers so far are progress too (`odd`), as the devices are: a caller that interrupts
    the search has no answer.

    `first`, `last`: the range of addresses. `expected`: serial numbers that should answer.
    `expected_only`: on a bus that is searched by number, search for no others. `listen`: first
    for another master. `everything`: also all that the devices list or send. `trace`: also send the
    line's bytes.
    """
    line, remarks = _line(gateway, link), []
    devices: list[dict[str, Any]] = []
    listed: list[Found] = []
    known_names, used_names = _configured(gateway.config, link), set(gateway.config.devices)
    wish = Wish(first, last, tuple(expected), expected_only, listen)
    await line.link.tried()
    if trace:
        privacy.note(gateway, caller.who, "trace")

    def names() -> dict[str, str]:
        return {str(one["entry"].get("address")): one["name"] for one in devices}

    try:
        async with (
            listening(gateway, caller, link, trace=trace) as heard,
            aclosing(line.link.discover(wish)) as search,
        ):
            async for step in search:
                await heard.take()
                if isinstance(step, Found):
                    name = known_names.get(address := str(step.entry.get("address")))
                    if name is not None:
                        heard.serial(gateway, name, address, step.number)
                    device = _listed(step, link, name, used_names)
                    devices.append(device)
                    listed.append(step)
                    await caller.progress(
                        {"text": Text("found {about}", about=step.about), "device": device}
                    )
                elif step.stays:
                    remarks.append(step.words)
                    await caller.progress({"text": step.words})
                else:
                    await caller.progress(asdict(step))
                await heard.report(names())
    except LinkLost as error:
        await caller.progress({"odd": heard.odd(names())})
        raise Refused(
            "{error}. To check ports, hosts and rights: gardien doctor", error=error
        ) from error
    for device, step in zip(devices if everything else (), listed, strict=False):
        address = str(step.entry.get("address"))
        device["objects"] = list(step.objects) or heard.values(step.number, address)
    return {"link": link, "devices": devices, "remarks": remarks, "odd": heard.odd(names())}


def _configured(config: Config, link: str) -> dict[str, str]:
    """Return the devices of a line by address and, if several share an address, by number."""
    names: dict[str, str] = {}
    kind = driver(config.links[link].driver)
    for name, device in config.devices.items():
        if device.link == link:
            number = kind.number(device.address) if issubclass(kind, Seeks) else None
            names.setdefault(number or device.address, name)
            names[device.address] = name
    return names


def device_serial(samples: Sequence[Sample]) -> str | None:
    """The serial number among samples of one device; None: it was not read."""
    return next((str(one.value) for one in samples if one.point.name == "serial" and one.value),
                None)  # fmt: skip


async def report(
    gateway: Gateway,
    caller: Caller,
    *,
    named: str | None = None,
    since: str = "",
    readings: bool = True,
) -> dict[str, Any]:
    """Return the commissioning report, signed; see `agent.api.report.gather`. Raises Refused."""
    from agent.api.report.gather import commissioning  # noqa: PLC0415 -- only installers make it

    whole = partial(status, gateway, NOBODY)
    return await commissioning(gateway, caller, whole, named=named, since=since, readings=readings)


def at_home(name: str, call: Call) -> Call:
    """Wrap a call: its answer names the building's time zone, and times in sentences are in it.

    A person of the web page sees what the page may show (agent/api/page_view.py).
    """

    @passing(call)
    async def wrapper(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
        zone = gateway.config.building.timezone
        try:
            made: Awaitable[dict[str, Any]]
            if caller.page:
                # only where the page is used, since the daemon's memory is bounded
                from agent.api.page_view import at_the_page  # noqa: PLC0415

                made = at_the_page(gateway, caller, name, call, args)
            else:
                made = call(gateway, caller, **args)
            answer: dict[str, Any] = await made | {"timezone": zone}
        except AgentError as error:
            error.text = text_in_local_time(error.text, zone)
            error.args = (error.text,)
            raise
        answer = sentences_in_local_time(answer, zone)
        return answer  # noqa: RET504 -- the other is of any type

    return wrapper


ALL: Mapping[str, Call] = {
    "status": status,
    "metrics": metrics,
    "read": privacy.seen("read", read),
    "profile.record": privacy.seen("read", record),
    "reload": in_person(reload, "configuration.reloaded"),
    "configuration": configuration,
    "scan": scan,
    "line.find": line_find.find,
    "report.commissioning": report,
    **registry_api.CALLS,
    **commission.CALLS,
    **visit.CALLS,
    **dwellings.CALLS,
    **trust_api.CALLS,
    **backup.CALLS,
    **syndic.CALLS,
    **clock_api.CALLS,
    "meter.verify": privacy.seen("meter.verify", or_nothing(commission.meter_verify)),
    "meter.proofs": proofs.meter_proofs,
    "meter.load": privacy.seen("meter.load", or_nothing(commission.meter_load)),
    **privacy.CALLS,
    **keys.CALLS,
    "key.csr": in_person(keys.csr, "certificate.requested"),
    "key.install": in_person(keys.install, "certificate.installed"),
    "key.enroll": in_person(keys.enroll, "certificate.enrolled"),
    "key.renew": in_person(keys.renew, "certificate.renewed"),
    "key.rotate": in_person(keys.rotate),
    **uplinks.CALLS,
    **carry.CALLS,
    "uplink.close": in_person(uplinks.close, "uplink.closed", "name", "how"),
    "uplink.retry": in_person(uplinks.retry, "uplink.retried", "name"),
    **control.CALLS,
    **history.CALLS,
    **configuration_api.CALLS,
    "bundle": in_person(bundle.bundle, "bundle"),
    **bundle.CALLS,
    "finding.acknowledge": partial(findings.acknowledge, _all_findings),
    **web.CALLS,
}
CALLS: Mapping[str, Call] = {name: at_home(name, call) for name, call in ALL.items()}
"""all calls by name"""
