"""Which readings leave each place, to whom and why; and which are withheld, and why: a part of the
dossier of a place (dossier.py). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.core.i18n import N_
from agent.core.model import Why
from agent.core.quantities import channels
from agent.registry.consent_policy import NOT_OCCUPIED, steps_wanted
from agent.registry.index import Unknown
from agent.registry.records import Consent, Duty, Installation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.registry.consent_policy import Policy
    from agent.registry.registry import Registry

HELD = {
    Why.CONSENT: N_("no consent, and no duty, covers it"),
    **NOT_OCCUPIED,
    Why.FEW: N_("it would cover too few of the dwellings that are not sent one by one"),
}
UNNUMBERED = N_("its serial number is not known yet; the running agent asks for it")
NOT_EXPLAINED = N_("the catalogue does not explain it to people")
NO_BASIS_COMMON = N_("the configuration gives no basis for common areas")


@dataclass(frozen=True, slots=True)
class ConfiguredReading:
    """One channel that is read of a device, as configured."""

    device: str
    serial: str | None
    """serial number that the device reports; None: not known yet"""
    channel: str
    every: int
    """seconds"""
    derived: bool
    """whether it is the quantity in each step, calculated from the index"""
    place: str | None
    """place of common plant, as configured"""
    numbered: bool = False
    """whether the device can report its serial number"""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happens to one channel of one place for one recipient."""

    place: str | None
    """None: it is unknown whose meter it is"""
    device: str
    channel: str
    recipient: str
    step: int | None
    """seconds at which it leaves; None: it is withheld"""
    basis: str
    """id of a consent or duty, or `common`; empty: it is withheld"""
    why: str
    """text for people: the purpose, the reference, or why it is withheld"""
    derived: bool = False
    """whether it is the quantity in each step, not the index"""
    withheld: str = ""
    """of a dwelling, why it is withheld, as a code: `consent`, `vacant`, `occupancy`…"""


def explain(
    registry: Registry,
    policy: Policy,
    read: Iterable[ConfiguredReading],
    recipients: Sequence[str],
    t: int,
) -> list[Explanation]:
    """All channels that are read, for each recipient, as of t by what is recorded now.

    A device whose serial number is not known yet is taken for the one that is recorded.
    """
    known: dict[str, Consent | Duty] = {one.id: one for one in registry.consents()}
    known |= {one.id: one for one in registry.duties()}
    explanations: list[Explanation] = []
    for reading in read:
        place = reading.place or place_of(registry, reading, t)
        for recipient in recipients:
            explanations += _of(registry, policy, reading, place, recipient, t, known)
    return explanations


def _of(  # noqa: PLR0913, PLR0917 -- the question has as many parts
    registry: Registry,
    policy: Policy,
    reading: ConfiguredReading,
    place: str | UnassignedDevice,
    recipient: str,
    t: int,
    known: dict[str, Consent | Duty],
) -> Iterator[Explanation]:
    channel = channels()[reading.channel]
    if isinstance(place, UnassignedDevice):
        yield Explanation(None, reading.device, reading.channel, recipient, None, "", place.why)
        return
    if reading.derived:
        channel = replace(channel, kind=channel.derived)
    answer = steps_wanted(registry, policy, place, channel, reading.every, t, recipient)
    if isinstance(answer, Why):
        untold = place[0] == "D" and channel.en is None
        why = NOT_EXPLAINED if untold else _held(answer, place)
        code = "unexplained" if untold else str(answer)
        yield Explanation(
            *(place, reading.device, reading.channel, recipient, None, "", why), withheld=code
        )
        return
    for step, basis in answer.items():
        why = _why(known.get(basis.id), policy)
        yield Explanation(
            place, reading.device, reading.channel, recipient, step, basis.id, why, reading.derived
        )


@dataclass(frozen=True, slots=True)
class UnassignedDevice:
    """It is unknown which place a device measures."""

    why: str


def place_of(registry: Registry, reading: ConfiguredReading, t: int) -> str | UnassignedDevice:
    """The id of the place that a device measures at t, or why it is unknown."""
    installation = registry.whose(reading.device, reading.serial, reading.channel, t)
    if not isinstance(installation, Installation) and reading.serial is None:
        recorded = [
            meter
            for meter in registry.installations()
            if meter.device == reading.device
            and meter.channel in (None, reading.channel)
            and meter.since <= t
            and (meter.until is None or t < meter.until)
        ]
        # before the device has answered, the recorded number is taken as its own
        installation = recorded[0] if recorded and recorded[0].serial else installation
        by_number = any(meter.device is None for meter in registry.installations())
        if installation is Unknown.NO_INSTALLATION and reading.numbered and by_number:
            return UnassignedDevice(UNNUMBERED)  # it may be any of the meters recorded by number
    return (
        installation.place
        if isinstance(installation, Installation)
        else UnassignedDevice(installation.value)
    )


def _held(why: Why, place: str) -> str:
    if place[0] == "D" or why is Why.FEW:
        return HELD[why]
    return NO_BASIS_COMMON


def _why(basis: Consent | Duty | None, policy: Policy) -> str:
    if isinstance(basis, Consent):
        return basis.purpose
    if isinstance(basis, Duty):
        return basis.reference
    return policy.common.evidence if policy.common else ""
