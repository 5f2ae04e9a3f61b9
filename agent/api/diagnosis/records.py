"""Findings about what is recorded and configured: meters, dwellings, duties, recipients."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

from agent.acquisition.factors import needed
from agent.api.diagnosis.running import names_of
from agent.api.proofs import too_much
from agent.core.clock import stamp
from agent.core.finding import Actor, Finding, Severity
from agent.core.i18n import Plural, Text
from agent.registry.consent_policy import LONGEST_UNSENT
from agent.registry.dates import typed
from agent.registry.index import Unknown
from agent.registry.records import RECORD_OCCUPANCY, covers, occupancy_unknown, serial_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path

    from agent.acquisition.device import Device
    from agent.acquisition.factors import FactorToProve
    from agent.config import Config
    from agent.registry.records import Installation
    from agent.registry.registry import Registry

DAY = 86_400
MOST_LISTED = 4
"""meters whose numbers one sentence names"""


def findings(  # noqa: PLR0913, PLR0917 -- everything that readings depend on
    config: Config,
    registry: Registry,
    devices: Iterable[Device],
    unknown: int,
    now: int,
    file: Path,
    seen: Mapping[str, int] | None = None,
) -> Iterator[Finding]:
    """Yield what the registry or the configuration lacks, so that readings are not sent.

    `unknown`: dwellings of unknown occupancy; `file`: the configuration, which may have to be
    edited; `seen`: when the number of a meter of nobody was first read, by serial number.
    """
    measuring = any(point.channel for points in config.points().values() for point in points)
    if not config.uplinks:
        if measuring:
            yield _no_uplink(file)
        return
    first = {key: typed(at, config.building.timezone) for key, at in (seen or {}).items()}
    devices = [*devices]
    yield from _meters(registry, devices, now, file, first)
    yield from _factors(config, registry, devices, now, file)
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


def _meters(
    registry: Registry,
    devices: Sequence[Device],
    now: int,
    file: Path,
    first: Mapping[str, str],
) -> Iterator[Finding]:
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
    nowhere = reasons.get(Unknown.NO_INSTALLATION, [])
    exchanged = _exchanged(registry, devices, nowhere, now)
    for device, former in exchanged:
        yield Finding(
            **common | {"cost": _exchange_missing()},
            code="other-meter",
            what=Text(
                "{device} reports number {serial}, but {recorded} is recorded for {place}, and no"
                " device reports it any more",
                device=device.name,
                serial=device.serial,
                recorded=former.serial,
                place=registry.label(former.place),
            ),
            outside=_others(1),
            about=device.name,
            command=_exchange(registry, former, device, first.get(serial_key(device.serial or ""))),
        )
    replaced = {device.name for device, _ in exchanged}
    if nowhere := [name for name in nowhere if name not in replaced]:
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
            since=_left_since(registry, [one for one in devices if one.name in nowhere], now),
            count=len(nowhere),
            command=several if nowhere[1:] else f"gardien meter assign {nowhere[0]} DWELLING",
        )
    if others := [*reasons.get(Unknown.SERIAL_DIFFERS, ()), *reasons.get(Unknown.OTHER_DEVICE, ())]:
        yield _other_meters(registry, devices, others, common, now, file, first)
    yield from _crossed(registry, devices, now)


def _factors(
    config: Config, registry: Registry, devices: Iterable[Device], now: int, file: Path
) -> Iterator[Finding]:
    """Meters of dwellings whose factor is wrong, by the error; and those without a proof."""
    serials = {device.name: device.serial for device in devices}
    wrong: dict[Decimal, list[FactorToProve]] = {}
    unproven: list[FactorToProve] = []
    for need in needed(config.points(), serials.get, registry, now):
        proof = registry.factor_proof(need.meter, str(need.point.channel), need.point.to_prove)
        if proof is None:
            unproven.append(need)
        elif proof.factor != 1:
            wrong.setdefault(proof.factor, []).append(need)
    refuse = [str(one.settings.recipient) for one in config.uplinks.values()
              if one.unproven == "withhold"]  # fmt: skip
    cost = Text("A wrong factor bills a home wrongly. The values carry the flag UNPR")
    if refuse:
        cost = Text("The values are neither sent to {recipients} nor kept", recipients=refuse)
    common: dict[str, Any] = {
        "subject": Text("meters"),
        "actor": Actor.INSTALLER,
        "severity": Severity.LOST if refuse else Severity.LATER,
        "command": "gardien meter proofs",
    }
    for factor, those in sorted(wrong.items()):
        names = sorted({f"{one.point.device} ({registry.label(one.meter.place)})" for one in those})
        yield Finding(
            **common,
            code="factor-wrong",
            what=Text("{names}: {error}", names=names_of(names), error=too_much(factor)),
            outside=Plural(
                "the factor of 1 meter is wrong",
                "the factors of {number} meters are wrong",
                len(those),
            ),
            about=format(factor, "f"),
            cost=Text(
                "{cost}. Correct `scale` or `unit` of the point in {file}, or the multiplier of the"
                " meter; then verify again",
                cost=cost,
                file=file,
            ),
            count=len(those),
        )
    if unproven:
        yield Finding(
            **common,
            code="factor-unproven",
            what=Plural(
                "the factor of 1 meter is not proven",
                "the factors of {number} meters are not proven",
                len(unproven),
            ),
            cost=cost,
            count=len(unproven),
        )


def _left_since(registry: Registry, devices: Sequence[Device], now: int) -> str | None:
    """Since when these meters belong to no dwelling any more; None: one of them never did."""
    ended: dict[str, int] = {}
    for former in registry.installations():
        if former.until is not None and former.until <= now:
            meter = former.device or serial_key(former.serial or "")
            ended[meter] = max(former.until, ended.get(meter, 0))
    ends = [
        ended.get(device.name) or ended.get(serial_key(device.serial or "")) for device in devices
    ]
    return stamp(min(filter(None, ends))) if ends and all(ends) else None


def _others(number: int) -> Text:
    return Plural(
        "1 meter is not the one that was recorded",
        "{number} meters are not those that were recorded",
        number,
    )


def _exchange_missing() -> Text:
    return Text(
        "No value is sent for this dwelling until the exchange is recorded. The readings are kept"
        " for {days} days, then lost",
        days=LONGEST_UNSENT // DAY,
    )


def _exchange(registry: Registry, former: Installation, device: Device, first: str | None) -> str:
    label = quote(str(registry.label(former.place)))
    at = f" --at {first}" if first else ""
    return f"gardien meter exchange {label} --old {former.serial} --serial {device.serial}{at}"


def _exchanged(
    registry: Registry, devices: Sequence[Device], nowhere: Sequence[str], now: int
) -> list[tuple[Device, Installation]]:
    """Return the devices that report an unknown number, each with the meter that was there before.

    A device that reports no number may be any meter, so nothing is concluded beside one, unless the
    device itself reported the number before.
    """
    reported = {serial_key(device.serial) for device in devices if device.serial}
    gone = {
        serial_key(one.serial): one
        for one in registry.installations()
        if one.serial and not one.device and covers(one, now)
    }
    gone = {key: one for key, one in gone.items() if key not in reported}
    unknown = [device for device in devices if device.name in nowhere and device.serial]
    exchanges = [
        (device, gone[serial_key(device.before)])
        for device in unknown
        if device.before and serial_key(device.before) in gone
    ]
    if (
        not exchanges
        and len(unknown) == len(gone) == 1
        and all(device.serial for device in devices)
    ):
        exchanges = [(unknown[0], next(iter(gone.values())))]
    # a device that has been silent since a recorded exchange is known by the number before it
    ended = {(one.place, one.serial) for one in registry.installations() if one.until}
    return [pair for pair in exchanges if (pair[1].place, pair[0].serial) not in ended]


def _other_meters(  # noqa: PLR0913, PLR0917 -- what the finding is made of
    registry: Registry,
    devices: Sequence[Device],
    others: Sequence[str],
    common: Mapping[str, Any],
    now: int,
    file: Path,
    first: Mapping[str, str],
) -> Finding:
    """Return the finding for devices that report another number than the one of their meter."""
    by_name = {device.name: device for device in devices if device.name in others}
    recorded = {
        one.device: one
        for one in registry.installations()
        if one.device in by_name and one.serial and covers(one, now)
    }
    listed = [
        Text(
            "{device} reports {serial}, recorded is {recorded}",
            device=name,
            serial=by_name[name].serial,
            recorded=recorded[name].serial,
        )
        if name in recorded
        else name
        for name in others[:MOST_LISTED]
    ]
    shared = _others(len(others))
    numbers = {serial_key(str(one.serial)) for one in recorded.values()}
    swapped = len(others) > 1 and all(
        serial_key(str(device.serial)) in numbers for device in by_name.values()
    )
    cost, command = common["cost"], "gardien meter list"
    if swapped:
        cost = Text(
            "{cost}. They report each other's numbers: put their addresses right, then reload",
            cost=cost,
        )
        command = f"sudoedit {file}"
    elif len(others) == 1 and others[0] in recorded:
        cost = _exchange_missing()
        device = by_name[others[0]]
        since = first.get(serial_key(device.serial or ""))
        command = _exchange(registry, recorded[device.name], device, since)
    return Finding(
        **{**common, "cost": cost},
        code="other-meter",
        what=Text("{what}: {names}", what=shared, names=listed),
        outside=shared,
        count=len(others),
        command=command,
    )


def _crossed(registry: Registry, devices: Sequence[Device], now: int) -> Iterator[Finding]:
    """Note devices that are named after each other's dwellings: their addresses may be swapped."""
    labels = [place.label for place in registry.places()]
    named = {device.name: label for device in devices if (label := _named(device.name, labels))}
    reads = {}
    for device in devices:
        channels = {one.channel for one in device.points if one.channel and one.place is None}
        if device.name in named and device.serial and channels:
            owner = registry.whose(device.name, device.serial, min(channels), now)
            if not isinstance(owner, Unknown):
                reads[device.name] = str(registry.label(owner.place))
    for name, label in reads.items():
        for other, others_label in reads.items():
            if name < other and (label, others_label) == (named[other], named[name]) != (
                others_label, label
            ):  # fmt: skip
                yield Finding(
                    code="crossed",
                    subject=Text("meters"),
                    what=Text(
                        "{device} reads the meter of {place}, and {other} that of {other_place}:"
                        " their addresses may be swapped",
                        device=name,
                        place=label,
                        other=other,
                        other_place=others_label,
                    ),
                    severity=Severity.NOTE,
                    about=f"{name} {other}",
                    cost=Text(
                        "Their readings still go to the right dwellings, by the numbers of the"
                        " meters. Nothing must be done; only the names of the devices mislead"
                    ),
                    private=True,
                )


def _named(device: str, labels: Iterable[str]) -> str | None:
    """Return the label of the dwelling after which a device is named: `meter-A-01`."""
    folded = device.casefold()
    fitting = [
        label
        for label in labels
        if folded.endswith(label.casefold()) and not folded[: -len(label)][-1:].isalnum()
    ]
    return max(fitting, key=len, default=None)


def _duties(config: Config, registry: Registry, now: int, file: Path) -> Iterator[Finding]:
    recipients = {uplink.settings.recipient for uplink in config.uplinks.values()}
    for duty in registry.duties():
        if covers(duty, now) and duty.recipient not in recipients:
            yield Finding(
                code="duty",
                subject=Text("indexes for {recipient}", recipient=duty.recipient),
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
