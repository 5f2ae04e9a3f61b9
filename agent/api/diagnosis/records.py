"""Findings about what is recorded and configured: meters, dwellings, duties, recipients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.api.diagnosis.running import names_of
from agent.core.clock import stamp
from agent.core.finding import Actor, Finding, Severity
from agent.core.i18n import Plural, Text
from agent.registry.consent_policy import LONGEST_UNSENT
from agent.registry.index import Unknown
from agent.registry.records import RECORD_OCCUPANCY, covers, occupancy_unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agent.acquisition.device import Device
    from agent.config import Config
    from agent.registry.registry import Registry

DAY = 86_400


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


def _meters(registry: Registry, devices: Iterable[Device], now: int) -> Iterator[Finding]:
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
    if nowhere := reasons.get(Unknown.NO_INSTALLATION):
        shared = Plural(
            "1 meter belongs to no dwelling",
            "{number} meters belong to no dwelling",
            len(nowhere),
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
        shared = Plural(
            "1 meter is not the one that was recorded",
            "{number} meters are not those that were recorded",
            len(others),
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
