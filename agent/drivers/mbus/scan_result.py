"""The results of a scan: entries for the configuration, and sentences for people."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.drivers.base import Found
from agent.drivers.mbus.device_types import medium, status
from agent.drivers.mbus.registers import MEDIA

if TYPE_CHECKING:
    from agent.drivers.mbus.address import MeterAddress
    from agent.drivers.mbus.telegram import Telegram

PROFILES = {
    "electricity": "mbus-electricity",
    "gas": "mbus-gas",
    "heat": "mbus-heat",
    "cooling": "mbus-cooling",
    "warm-water": "mbus-warm-water",
    "cold-water": "mbus-cold-water",
    "hca": "mbus-hca",
}
"""by medium, in the order of MEDIA: a meter for heat and cooling gets the profile of heat"""
SHOWN = ("energy", "volume", "HCA units", "counter")


def entry(address: MeterAddress, telegram: Telegram) -> Found:
    """The result for a meter that was read."""
    profile = next(
        (PROFILES[medium_name] for medium_name, codes in MEDIA.items() if telegram.medium in codes),
        "",
    )
    settings: dict[str, str] = {"address": address.station}
    warnings = []
    if profile:
        settings["profile"] = profile
    else:
        warnings.append(
            f"{medium(telegram.medium)}: no profile fits; name what to read under `points`"
        )
    if telegram.encrypted:
        warnings.append("its telegram is encrypted: it cannot be read")
    if telegram.status:
        warnings.append(f"it reports: {status(telegram.status)}")
    settings["every"] = "1h"
    return Found(_name(address), settings, _about(telegram), tuple(warnings), telegram.id)


def unreadable(address: MeterAddress) -> Found:
    """The result for an address that answers without a readable telegram."""
    warning = (
        "answers, but its telegram cannot be read: are there two meters with this"
        f" {'number' if address.primary is None else 'primary address'}, or is the line disturbed?"
    )
    settings = {"address": address.station, "every": "1h"}
    return Found(_name(address), settings, f"unreadable, at {address.station}", (warning,))


def unread(address: MeterAddress) -> Found:
    """The result for one or more meters that acknowledge an address and were not read."""
    warning = (
        "answers to its address, but could not be read within the five telegrams that a scan asks a"
        f" meter for: scan again with --first {address.id}, which also tells whether there are two"
    )
    settings = {"address": address.station, "every": "1h"}
    return Found(_name(address), settings, f"not read, at {address.station}", (warning,))


def other_number(asked: MeterAddress, telegram: Telegram) -> Found:
    """The result for a meter that answers to a number or address that is not in its telegram."""
    named = telegram.id or f"a meter without a number, address {telegram.address}"
    if asked.primary is None:
        warning = (
            f"{named} answered when {asked.id} was asked for: it cannot be read by that number;"
            " compare the plate, and write the number that it says or its primary address"
        )
    else:
        warning = (
            f"{named}, which says it has address {telegram.address}, answered at address"
            f" {asked.primary}: it cannot be read there; write its number as the address"
        )
    settings = {"address": asked.station, "every": "1h"}
    about = f"{_about(telegram)}, answered for {asked.station}"
    return Found(_name(asked), settings, about, (warning,), telegram.id)


def any_number(device: Found) -> Found:
    """Add the warning that the meter answers to every number."""
    warning = (
        "answers whatever number is asked for, so no other meter can be searched by its number"
        " while it is on the line: disconnect it and scan again"
    )
    return replace(device, warnings=(*device.warnings, warning))


def any_kind(device: Found) -> Found:
    """Add the warning that the meter answers to every version and medium."""
    warning = (
        "another meter has the same number, and this one answers whatever version and medium is"
        " asked for: disconnect one of the two and scan again"
    )
    return replace(device, warnings=(*device.warnings, warning))


def any_address(device: Found) -> Found:
    """Add the warning that the meter answers at every primary address."""
    warning = (
        "answers at every primary address, so no other meter can be searched by its primary"
        " address while it is on the line: disconnect it and scan again"
    )
    return replace(device, warnings=(*device.warnings, warning))


def told_apart(device: Found) -> Found:
    """Add the warning that another meter has the same number."""
    warning = "another meter has the same number: its address tells them apart"
    return replace(device, warnings=(*device.warnings, warning))


def _name(address: MeterAddress) -> str:
    return f"mbus-{address.station}".replace("+", "-")


def _about(telegram: Telegram) -> str:
    name = " ".join(part for part in (telegram.manufacturer, telegram.id) if part)
    return ", ".join([name or "a meter", medium(telegram.medium), *_index(telegram)])


def _index(telegram: Telegram) -> list[str]:
    for record in telegram.records:
        if record.quantity in SHOWN and not record.storage and isinstance(record.value, Decimal):
            value, unit = record.value, record.unit
            if unit == "Wh":
                value, unit = value / 1000, "kWh"
            return [f"{value.normalize():f} {unit}"]
    return []
