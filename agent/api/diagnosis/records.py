"""Findings about what is recorded and configured: meters, dwellings, duties, recipients."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING, Any

from agent.api.diagnosis.running import names_of
from agent.core.clock import stamp
from agent.core.finding import Actor, Finding, Severity, numbered
from agent.core.i18n import N_, Text
from agent.registry.consent_policy import LONGEST_UNSENT
from agent.registry.index import Unknown
from agent.registry.records import (
    RECORD_OCCUPANCY,
    Installation,
    covers,
    occupancy_unknown,
    serial_key,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from agent.acquisition.device import Device
    from agent.config import Config
    from agent.registry.registry import Registry

DAY = 86_400
MOST = 20
"""meters for which it is searched which one they replace, and words of a name"""


def findings(  # noqa: PLR0913, PLR0917 -- everything that readings depend on
    config: Config,
    registry: Registry,
    devices: Iterable[Device],
    unknown: int,
    now: int,
    file: Path,
) -> Iterator[Finding]:
    """Yield what the registry or the configuration lacks, so that readings are not sent.

    `unknown`: dwellings of unknown occupancy; `file`: the configuration, which may have to be
    edited.
    """
    measuring = any(point.channel for points in config.points().values() for point in points)
    if not config.uplinks:
        if measuring:
            yield _no_uplink(file)
        return
    yield from _meters(registry, devices, now)
    yield from _duties(config, registry, now, file)
    if unknown:
        yield Finding(
            code="occupancy",
            subject=Text("dwellings"),
            what=occupancy_unknown(unknown),
            severity=Severity.NOTE,
            actor=Actor.MANAGER,
            command=RECORD_OCCUPANCY,
            count=unknown,
            private=True,
        )


def _no_uplink(file: Path) -> Finding:
    return Finding(
        code="no-uplink",
        subject=Text("uplinks"),
        what=Text("no uplink is configured"),
        severity=Severity.LOST,
        cost=Text("What is read is neither stored nor sent. Add an uplink, then reload"),
        actor=Actor.INSTALLER,
        command=f"sudoedit {file}",
    )


def unassigned(registry: Registry, devices: Iterable[Device], now: int) -> dict[Unknown, list[str]]:
    """Return the devices of which it is unknown whose readings they give, by the reason."""
    reasons: dict[Unknown, list[str]] = {}
    for device in devices:
        # assigned by its serial number perhaps, which it has not reported yet
        if device.serial is None and device.answered is None:
            continue
        channels = {p.channel for p in device.points if p.channel is not None and p.place is None}
        owners = [registry.whose(device.name, device.serial, one, now) for one in sorted(channels)]
        reason = next((owner for owner in owners if isinstance(owner, Unknown)), None)
        if reason is not None:
            reasons.setdefault(reason, []).append(device.name)
    return reasons


def _taken_out(
    registry: Registry, device: Device, reported: Collection[str], now: int
) -> Installation | None:
    """The recorded meter in whose place a device reports another number; None: unknown."""
    for meter in registry.installations():
        key = serial_key(meter.serial) if meter.serial else ""
        if not key or key in reported or not covers(meter, now):
            continue
        if device.name == meter.device or _last_read(device, key) is not None:
            return meter
        # after a restart only its name can tell: many people name a device after the dwelling
        if meter.device is None and registry.label(meter.place) in _parts(device.name):
            return meter
    return None


def _not_sent() -> Text:
    days = LONGEST_UNSENT // DAY
    return Text("Its readings are not sent. They are kept for {days} days, then lost", days=days)


def _last_read(device: Device, serial: str) -> float | None:
    """When a device last gave a value as the meter with this number."""
    times = [
        sample.at
        for (number, _), sample in device.good.items()
        if number and serial_key(number) == serial_key(serial)
    ]
    return max(times, default=None)


def _swapped(registry: Registry, devices: Iterable[Device], now: int) -> Iterator[Finding]:
    """Yield pairs of devices of which each is named after the dwelling of the other's meter."""
    of: dict[str, Device] = {}
    labels: dict[str, str] = {}
    for device in devices:
        channels = [p.channel for p in device.points if p.channel and p.place is None]
        owner = registry.whose(device.name, device.serial, channels[0], now) if channels else None
        label = registry.label(owner.place) if isinstance(owner, Installation) else None
        if label and label not in _parts(device.name):
            of[label], labels[device.name] = device, label
    for name, label in labels.items():
        other = next((of[part].name for part in _parts(name) if part in of), "")
        if name < other and label in _parts(other):
            yield Finding(
                code="swapped",
                subject=Text("meters"),
                what=Text(
                    "{name} reports the meter of {label}, and {other} the meter of {label_2}",
                    name=name, label=label, other=other, label_2=labels[other],
                ),
                outside=Text("two devices report each other's meter"),
                severity=Severity.NOTE,
                cost=Text(
                    "Readings belong to the dwelling of the number that was read, so each is still"
                    " sent for the right dwelling. Nothing must be done; to make the names right,"
                    " swap the two addresses in the configuration"
                ),
                private=True,
            )  # fmt: skip


def _parts(name: str) -> list[str]:
    """The parts of a name that whole pieces make up: a-1-2, a-1, 1-2, a, 1, 2."""
    pieces = re.findall(r"[^\W_]+|[\W_]+", name)[:MOST]
    ends = range(1, len(pieces) + 1)
    return ["".join(pieces[first:last]) for last in ends for first in range(last)]


def _meters(registry: Registry, devices: Iterable[Device], now: int) -> Iterator[Finding]:
    devices = list(devices)
    reported = {serial_key(device.serial) for device in devices if device.serial}
    reasons = unassigned(registry, devices, now)
    common: dict[str, Any] = {
        "subject": Text("meters"),
        "severity": Severity.WAITING,
        "actor": Actor.INSTALLER,
        "cost": Text(
            "Their readings are not sent. They are kept for {days} days, then lost",
            days=LONGEST_UNSENT // DAY,
        ),
    }
    unrecorded = {name for names in reasons.values() for name in names[:MOST]}
    for device in devices:
        old = _taken_out(registry, device, reported, now) if device.name in unrecorded else None
        if old is None or device.serial is None:
            continue
        for names in reasons.values():
            if device.name in names:
                names.remove(device.name)
        label, last = registry.label(old.place) or "", _last_read(device, str(old.serial))
        yield Finding(
            **common | {"cost": _not_sent()},
            code="exchanged",
            what=Text(
                "for {label} the meter {old} is recorded, but {device} reports {new}",
                device=device.name, new=device.serial, label=label, old=old.serial,
            ),
            outside=Text("1 meter was exchanged, and the exchange is not recorded"),
            since=None if last is None else stamp(last),
            command=f"gardien meter exchange {quote(label)} --old {quote(str(old.serial))} --serial"
            f" {quote(device.serial)}",
        )  # fmt: skip
    yield from _swapped(registry, devices, now)
    if nowhere := reasons.get(Unknown.NO_INSTALLATION):
        shared = numbered(
            len(nowhere),
            N_("1 meter belongs to no dwelling"),
            N_("{number} meters belong to no dwelling"),
        )
        several = "gardien meter import FILE"
        yield Finding(
            **common,
            code="unassigned",
            what=Text("{what}: {names}", what=shared, names=names_of(nowhere)),
            outside=shared,
            count=len(nowhere),
            command=several if nowhere[1:] else f"gardien meter assign {nowhere[0]} DWELLING",
        )
    others = [*reasons.get(Unknown.SERIAL_DIFFERS, ()), *reasons.get(Unknown.OTHER_DEVICE, ())]
    if others:
        shared = numbered(
            len(others),
            N_("1 meter is not the one that was recorded"),
            N_("{number} meters are not those that were recorded"),
        )
        yield Finding(
            **common,
            code="other-meter",
            what=Text("{what}: {names}", what=shared, names=names_of(others)),
            outside=shared,
            count=len(others),
            command="gardien meter list",
        )


def _duties(config: Config, registry: Registry, now: int, file: Path) -> Iterator[Finding]:
    recipients = {uplink.settings.recipient for uplink in config.uplinks.values()}
    for duty in registry.duties():
        if covers(duty, now) and duty.recipient not in recipients:
            yield Finding(
                code="duty",
                subject=Text("duties"),
                what=Text(
                    "{recipient} must receive indexes ({reference}), but no uplink delivers to it",
                    recipient=duty.recipient,
                    reference=duty.reference,
                ),
                severity=Severity.LOST,
                since=stamp(duty.since),
                cost=Text(
                    "The indexes of the duty are not sent. Add its uplink, or end the duty (gardien"
                    " duty end)"
                ),
                actor=Actor.INSTALLER,
                command=f"sudoedit {file}",
                private=True,
            )
