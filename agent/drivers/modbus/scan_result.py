"""The results of a search: entries for the configuration, and sentences for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent.drivers.base import Found, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.drivers.modbus.answer import RequestResult
    from agent.drivers.modbus.fingerprint import Fingerprint
    from agent.drivers.modbus.rtu import Speed

IDENTIFY = b"\x2b\x0e\x01\0"
"""request for maker, product and version (Application Protocol V1.1b3, 6.21)"""
UNNAMED = re.compile(r"[^a-z0-9]+", re.ASCII)


def identification(answer: RequestResult) -> str:
    """The texts in the answer to IDENTIFY (function 43/14), in order; empty if it is not one."""
    pdu, texts, at = answer.pdu, [], 7
    if len(pdu) < at or pdu[:2] != IDENTIFY[:2]:
        return ""
    for _ in range(pdu[6]):
        if at + 2 > len(pdu):
            break
        text = pdu[at + 2 : at + 2 + pdu[at + 1]].decode("ascii", "replace").strip("\0 ")
        texts.append("".join(c for c in text if c.isprintable()))
        at += 2 + pdu[at + 1]
    return " ".join(text for text in texts if text)


def several_devices(unit: int) -> Found:
    """The result for several devices with one unit id."""
    warning = (
        f"more than one device answers at {unit}: switch on one at a time, and give each its own"
        " address"
    )
    return Found(
        f"modbus-{unit}", {"address": unit}, f"unit {unit}, more than one device", (warning,)
    )


def found_device(unit: int, fingerprint: Fingerprint, identity: str, other: Speed | None) -> Found:
    """The result for one device, by its fingerprint and its own identification.

    other: the speed at which it answers, if that is not the line's.
    """
    warnings = list(fingerprint.warnings)
    if other:
        warnings.append(f"it uses {other}, and the line is set otherwise: change one of the two")
    entry: dict[str, str | int] = {"address": unit}
    if fingerprint.profile:
        entry["profile"] = fingerprint.profile
    else:
        warnings.append("no profile fits: name a profile, or the values to read under `points`")
    base = UNNAMED.sub("-", _kind(fingerprint.profile)).strip("-")
    name = f"{base}-{UNNAMED.sub('-', fingerprint.serial.lower()).strip('-') or unit}"[:64]
    about = ", ".join(
        part for part in (f"unit {unit}", fingerprint.model, identity, fingerprint.serial) if part
    )
    return Found(name, entry, about, tuple(warnings), fingerprint.serial or None)


def _kind(profile: str) -> str:
    """The first part of a device's name: the model in its profile, or all of `sunspec-203`."""
    model = profile.partition("-")[2]
    return (profile if model.isdecimal() else model) or "modbus"


def answers_everywhere(unit: int, first: int, units: Sequence[int]) -> Progress:
    """The remark on a device that answers at every unit id."""
    text = (
        f"the device at {first} answers at {unit} too: it seems to answer at every unit id, so the"
        " search ends here"
    )
    return Progress(len(units), len(units), text, stays=True)


def other_unit(asked: int, answered: int, units: Sequence[int]) -> Progress:
    """The remark on a host that answers with another unit id than the one asked."""
    text = (
        f"unit {asked} was asked, and another unit answered: {answered}. If this host is one meter,"
        f" write address: {answered}; behind a gateway, set the gateway to answer with the unit id"
        " of the request, then scan again"
    )
    return Progress(len(units), len(units), text, stays=True)
