"""The call `report.commissioning`: what the gateway knows of itself at a visit, signed.

The last report is kept in the state directory, without indexes. The next one is compared with it,
and states what has changed since. Reports of one day belong to one visit: each is compared with the
last one of an earlier day.
"""

from __future__ import annotations

import asyncio
import platform
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.acquisition.slots import multiplier
from agent.api import privacy, visit
from agent.api.proofs import proofs as factor_proofs
from agent.api.registry import author, device_of
from agent.api.report.changes import changes
from agent.api.report.document import (
    BackupReport,
    CertificateReport,
    ControlReport,
    DeviceReport,
    Earlier,
    FactorReport,
    IndexRead,
    LineReport,
    MeasuredPlace,
    MeterProof,
    PageReport,
    PlaceReport,
    Report,
    UnreadMeter,
    UplinkReport,
    exact,
    sha256_of,
    signed,
    stated_by,
    verified,
)
from agent.api.roles import Right
from agent.config.profiles import ANY
from agent.core.atomic_write import StateFile
from agent.core.clock import stamp
from agent.core.errors import AgentError, Refused
from agent.core.finding import Finding, worst_first
from agent.core.i18n import Text
from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.core.version import version
from agent.enrolment import credential
from agent.gateway.delivery import standing
from agent.registry.dates import text_in_local_time
from agent.registry.identity import why_absent
from agent.registry.labels import in_order
from agent.registry.records import EXACT, Installation, covers, serial_key
from agent.trust.jws import Key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from agent.acquisition.device import Device
    from agent.api.registry import Caller
    from agent.config import Config
    from agent.config.models import Backup
    from agent.gateway.gateway import Gateway

FILE = "report.json"
"""file in the state directory: the last report, and the one with which it was compared"""
SECRET = ("password", "token", "key")
FACTOR = ("channel", "proof", "needed", "at", "who", "excludes", "factor")
Plain = dict[str, Any]


async def commissioning(  # noqa: PLR0913 -- as many options
    gateway: Gateway,
    caller: Caller,
    status: Callable[[], Awaitable[Mapping[str, Any]]],
    *,
    named: str | None,
    since: str,
    readings: bool,
) -> Plain:
    """Make and sign the report. Raises Refused.

    `status`: returns the whole status. `since`: the file of an earlier report to compare with;
    empty: the last one of an earlier day. `readings`: with the indexes, if the caller may see them.
    """
    who = author(gateway, caller, named)
    if not gateway.identity:
        raise Refused(why_absent(gateway.identity))
    if not gateway.daemon:
        raise Refused(
            "nothing was written: the report states what the running gateway reads, and gardien is"
            " not running. Start it: sudo systemctl start gardien"
        )
    given = await asyncio.to_thread(verified, since, "--since") if since else None
    recovery = await asyncio.to_thread(_recovery, gateway.config.backup, gateway.clock.now())
    kept = await asyncio.to_thread(Kept, gateway.config.state)
    readings = readings and caller.may(Right.METERS)
    if readings:
        await _read_unread(gateway, caller)
    left_open = (
        (await visit.still_open(gateway, caller))["findings"] if visit.begun(gateway) else []
    )
    report = _report(gateway, who, await status(), recovery, left_open)
    if readings:
        privacy.note(gateway, who, "report", reason=caller.reason)
    last = await asyncio.to_thread(kept.before, gateway.config.zone, report.made)
    before = given or last
    if before is not None:
        earlier, its_hash = before
        zone = gateway.config.building.timezone
        sentences = [
            exact(text_in_local_time(one, zone).wire()) for one in changes(earlier, report)
        ]
        since_then = Earlier(made=earlier.made, by=earlier.by, sha256=its_hash)
        report = replace(report, since=since_then, changes=sentences)
    stripped = report.without_readings()
    text = await asyncio.to_thread(signed, report if readings else stripped, gateway.identity)
    lasting = await asyncio.to_thread(signed, stripped, gateway.identity) if readings else text
    await gateway.disk.ask()
    kept.keep(lasting)
    digest = sha256_of(report if readings else stripped)
    gateway.audit("report", {"sha256": digest, "by": who})
    return {"report": stated_by(text), "file": text, "sha256": digest}


async def _read_unread(gateway: Gateway, caller: Caller) -> None:
    """Wait until each device was read once: right after the start they have no index yet."""
    unread = [
        (line, device)
        for line in gateway.lines.values()
        for device in line.devices.values()
        if line.poller and device.answered is None and not device.failures
    ]
    for number, (line, device) in enumerate(unread, 1):
        await caller.progress(
            {
                "text": Text(
                    "reading {name} ({number} of {number_2})",
                    name=device.name,
                    number=number,
                    number_2=len(unread),
                )
            }
        )
        await line.link.tried()
        assert line.poller
        await line.poller.read_unread(device.name)


class Kept:
    """The last report in the state directory, and the one before the visit to which it belongs."""

    def __init__(self, state: Path) -> None:
        self._file: StateFile[dict[str, str]] = StateFile(state / FILE, dict, missing=dict)
        self._files = self._file.load()

    def before(self, zone: tzinfo, made: str) -> tuple[Report, str] | None:
        """Return the last report of an earlier day, and its hash; None: none can be read."""
        last = self._read("last")
        days = [datetime.fromisoformat(at).astimezone(zone).date()
                for at in (made, last[0].made if last else "1970-01-01T00:00:00Z")]  # fmt: skip
        if days[0] == days[1]:
            return self._read("before")
        self._files["before"] = self._files.pop("last", "")
        return last

    def keep(self, text: str) -> None:
        """Keep a report, already without indexes, as the last one. Raises NotRecorded."""
        self._files["last"] = text
        self._file.save(self._files)

    def _read(self, name: str) -> tuple[Report, str] | None:
        try:
            return verified(self._files[name], FILE) if self._files.get(name) else None
        except Refused:  # of another version, or damaged: as if there were none
            return None


def _report(
    gateway: Gateway,
    who: str,
    status: Mapping[str, Any],
    recovery: CertificateReport | None,
    left_open: Sequence[Plain],
) -> Report:
    """`left_open`: findings of the guided visit."""
    config, registry, now = gateway.config, gateway.registry, int(gateway.clock.now())
    key = Key.of(gateway.identity.signing_key.public_key())
    devices = list(_devices(gateway, status))
    read = {one.place for device in devices for one in device.measures}
    metered = {one.place for one in registry.installations() if covers(one, now)} | read
    findings = worst_first(map(Finding.of, [*status["events"], *left_open]))
    person_until = None if status["clock_said"] else status["clock_person_until"]
    return Report(
        made=status["now"],
        by=who,
        building=config.building.name,
        timezone=config.building.timezone,
        building_place=config.building.place,
        gateway=gateway.identity.gateway,
        key=dict(key.jwk),
        kid=key.kid,
        version=version(),
        system=platform.platform(terse=True),
        started=status["started"],
        configuration=config.fingerprint,
        settings=_settings(config),
        clock="person" if person_until else status["clock"],
        clock_person_until=person_until,
        clock_source=config.clock.source,
        clock_problem=_wire(status["clock_said"]),
        certificate=_certificate(status["certificate"]),
        backup=_backup(gateway, config.backup, recovery),
        page=_page(status["web"]),
        uplinks=[
            UplinkReport(
                uplink=name,
                recipient=str(one.settings.recipient),
                transport=one.transport,
                url=standing(one.settings),
                **_delivery(status["uplinks"].get(name)),
            )
            for name, one in sorted(config.uplinks.items())
        ],
        lines=[_line(name, config, line) for name, line in sorted(status["links"].items())],
        devices=devices,
        places=[
            PlaceReport(
                place=one.id, label=one.label, type=one.type, metered=one.id in metered
            )
            for one in registry.places()
        ],
        unread_meters=[
            UnreadMeter(label=registry.label(one.place) or one.place, meter=one.meter,
                        channel=one.channel)
            for one in registry.installations()
            if covers(one, now) and device_of(gateway, one) is None
        ],
        controls=[
            ControlReport(
                control=name,
                point=one.point,
                alarm=_wire(status["controls"].get(name, {}).get("alarm")),
            )
            for name, one in sorted(config.controls.items())
        ],
        has_readings=True,
        findings=[exact(one.wire()) for one in findings
                  if one.fine is False or one.acknowledged],
    )  # fmt: skip


def _page(web: Mapping[str, Any] | None) -> PageReport | None:
    if not web or not web["listening"]:
        return None
    certificate = web["certificate"] or {}
    return PageReport(
        addresses=web["listening"],
        fingerprint=certificate.get("fingerprint"),
        not_after=certificate.get("not_after"),
    )


def _settings(config: Config) -> dict[str, str]:
    """Return the options of lines, devices and uplinks as they are written, without secrets."""
    made: dict[str, str] = {}

    def add(path: str, value: object) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name not in SECRET:
                    add(f"{path}/{name}", inner)
        else:
            made[path] = str(value)

    for section in ("links", "devices", "uplinks"):
        add(section, config.written.get(section) or {})
    return dict(sorted(made.items()))


def _devices(gateway: Gateway, status: Mapping[str, Any]) -> Iterator[DeviceReport]:
    """Yield each device, in the order of its place."""
    proofs, factors = proofs_by_installation(gateway), dict[tuple[str, str], list[Plain]]()
    for proof in factor_proofs(gateway):
        factors.setdefault((proof["device"], proof["place"]), []).append(proof)
    made = [
        _device(gateway, name, device, status, proofs, factors)
        for name, line in gateway.lines.items()
        for device in line.devices.values()
    ]
    yield from sorted(made, key=_order)


def _order(device: DeviceReport) -> tuple[object, ...]:
    """Sort A-2 before A-10, and what has no place last."""
    label = device.measures[0].label if device.measures else "\uffff"
    return device.line, in_order(label), in_order(device.device)


def _device(  # noqa: PLR0913, PLR0917 -- what is known of it
    gateway: Gateway,
    line: str,
    device: Device,
    status: Mapping[str, Any],
    proofs: Mapping[str, MeterProof],
    factors: Mapping[tuple[str, str], Iterable[Plain]],
) -> DeviceReport:
    options, state = gateway.config.devices[device.name], status["devices"][device.name]
    health = status["links"][line]["health"]
    nameplate = health.get("nameplates", {}).get(options.address, {})
    made, drift = options.made, state["clock"]
    # a profile for all meters of a kind names no make
    profile = None if made is None or made.manufacturer == ANY else made
    measures, recorded = _measures(gateway, device, proofs, factors)
    return DeviceReport(
        device=device.name,
        line=line,
        address=options.address,
        profile=options.profile,
        maker=nameplate.get("maker") or (profile.manufacturer if profile else None),
        model=profile.model if profile else None,
        version=nameplate.get("version"),
        serial=device.serial,
        recorded_serial=recorded,
        silent=bool(state["failures"]) or not device.answered,
        answered=state["answered"],
        problem=_wire(state["said"]),
        answer_ms=None if state["answer_ms"] is None else round(state["answer_ms"]),
        failed=int(state["failed"] or 0),
        clock_drift_s=drift and drift["drift_s"],
        measures=measures,
        indexes=list(_indexes(device)),
    )


def _measures(
    gateway: Gateway,
    device: Device,
    proofs: Mapping[str, MeterProof],
    factors: Mapping[tuple[str, str], Iterable[Plain]],
) -> tuple[list[MeasuredPlace], str | None]:
    """Return the places that a device measures, and its recorded serial number."""
    registry, now = gateway.registry, int(gateway.clock.now())
    owners: dict[str, Installation] = {}
    common: dict[str, MeasuredPlace] = {}
    for point in device.points:
        if point.place is not None:
            common[point.place] = MeasuredPlace(
                place=point.place, label=registry.label(point.place) or point.place,
                type="common" if point.place.startswith("C") else "building",
                channel=None, since=None, proof=MeterProof(method="none"),
            )  # fmt: skip
        elif point.channel is not None:
            owner = registry.whose(device.name, device.serial, point.channel, now)
            if isinstance(owner, Installation):
                owners[owner.id] = owner
    places = {one.id: one for one in registry.places()}
    homes = [
        MeasuredPlace(
            place=one.place,
            label=places[one.place].label if one.place in places else one.place,
            type=places[one.place].type if one.place in places else "dwelling",
            channel=one.channel,
            since=stamp(one.since),
            multiplier=format(one.multiplier, "f"),
            offset=format(one.offset, "f"),
            opened={channel: format(value, "f") for channel, value in one.opened},
            proof=proofs[one.id],
            factors=[
                FactorReport(**{name: each[name] for name in FACTOR})
                for each in factors.get((device.name, one.place), ())
                if one.channel in {None, each["channel"]}
            ],
        )
        for one in owners.values()
    ]
    recorded = next((one.serial for one in owners.values() if one.serial), None)
    both = [*homes, *common.values()]
    return sorted(both, key=lambda one: (one.label, one.channel or "")), recorded


def _indexes(device: Device) -> Iterator[IndexRead]:
    """Yield the last index of each quantity that this meter has given."""
    for point in device.points:
        sample = device.good.get((device.serial, point.name))
        channel = channels().get(point.channel or "")
        if sample is None or channel is None or channel.kind is not ValueKind.REG or point.derived:
            continue
        if isinstance(sample.value, Decimal):
            value = EXACT.multiply(sample.value, multiplier(point))
            yield IndexRead(
                channel=channel.name, value=format(value.normalize(), "f"), unit=channel.unit,
                at=stamp(sample.at),
            )  # fmt: skip


def proofs_by_installation(gateway: Gateway) -> dict[str, MeterProof]:
    """Return how it is known which place each installation measures, from the registry."""
    serials = {serial_key(one.serial) for one in gateway.lines.devices() if one.serial}
    by = gateway.registry.verifications()
    made = {}
    for meter in gateway.registry.installations():
        method, recorded = meter.proof(serials), by.get(meter.id)
        person = recorded if method not in {"none", "serial"} else None
        made[meter.id] = MeterProof(
            method=method,
            at=stamp(person.when) if person else None,
            who=person.who if person else None,
        )
    return made


def _line(name: str, config: Config, line: Mapping[str, Any]) -> LineReport:
    health = line["health"]
    busy = health.get("busy")
    return LineReport(
        line=name,
        driver=config.links[name].driver,
        open=line["open"],
        problem=_wire(line["error"]),
        devices=line["devices"],
        silent=line["silent"],
        requests=health.get("requests"),
        busy_percent=None if busy is None else round(100 * busy),
        worry=_wire(health.get("worry")),
        disturbers=sorted(str(one["device"] or one["address"]) for one in line["disturbers"]),
    )


def _delivery(uplink: Mapping[str, Any] | None) -> Plain:
    if uplink is None:
        return {"connected": False, "last_receipt": None, "waiting": 0}
    backlog = uplink["backlog"]
    return {
        "connected": bool(uplink["delivery"]["connected_since"]),
        "last_receipt": uplink["delivery"]["last_receipt"],
        "waiting": backlog["slots"] + backlog["batch_rows"] + backlog["quarantined_rows"],
    }


def _certificate(own: Mapping[str, Any] | None) -> CertificateReport | None:
    if own is None:
        return None
    return CertificateReport(
        subject=own.get("subject", ""), not_after=own["not_after"], alarm=_wire(own["alarm"])
    )


def _recovery(options: Backup | None, now: float) -> CertificateReport | None:
    """Read the certificate for which backups are encrypted; None: there is none. Blocking."""
    if options is None:
        return None
    try:
        held = credential.certificates(options.to.read_bytes())[0]
    except (OSError, ValueError, AgentError):
        return None  # the report states that it cannot be read
    return CertificateReport(
        subject=credential.subject(held) or held.subject.rfc4514_string(),
        not_after=stamp(credential.ends(held)),
        alarm=_wire(credential.alarm(held, now)),
    )


def _backup(
    gateway: Gateway, options: Backup | None, recovery: CertificateReport | None
) -> BackupReport:
    file = gateway.building
    recipients = [str(one.settings.recipient) for one in gateway.config.uplinks.values()]
    return BackupReport(
        configured=options is not None,
        recovery=recovery,
        made=stamp(file.latest.made) if file.latest else None,
        held_by=sorted(one for one in recipients if file.held_by(one)),
        folder=str(options.folder) if options and options.folder else None,
        problem=_wire(file.problem),
    )


def _wire(text: str | None) -> Plain | None:
    """Return a text in the form that a reader of another language can translate."""
    if not text:
        return None
    whole = text if isinstance(text, Text) else Text("{text}", text=text)
    made: Plain = exact(whole.wire())
    return made
