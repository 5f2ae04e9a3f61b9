"""Device profiles: which values a make of device offers, and where. One data file each; no code."""

from __future__ import annotations

from dataclasses import field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML

from agent.core.quantities import channel_of_quantity

FOLDER, SUFFIX = Path(__file__).parent / "profiles", ".yaml"
STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, config=STRICT)
class Offer:
    """One value that a device offers."""

    at: str
    """where the value is, in the driver's notation"""
    unit: str = "1"
    """unit of the raw value × `scale`"""
    scale: Decimal = Decimal(1)
    rating: Decimal | None = None
    """the largest amount in one hour for a meter of this make, in the channel's unit"""
    rolls_at: Decimal | None = None
    """the value at which the index restarts from 0, in the channel's unit"""
    verify: str = ""
    """what has not been checked against the maker's manual yet"""


@dataclass(frozen=True, slots=True, config=STRICT)
class WatchdogProfile:
    """The device's own watchdog, which ends a command when the gateway does not write any more."""

    point: str
    """the quantity that holds the device's timeout in seconds; written repeatedly during a hold"""
    timeout: int
    """seconds: the value that is written there"""
    fallback: str
    """the quantity that holds the fallback value"""


@dataclass(frozen=True, slots=True, config=STRICT)
class Profile:
    """One make of device."""

    manufacturer: str
    model: str
    driver: str
    """the driver, or the family of drivers, whose notation it uses"""
    source: str
    """the document that its figures are from"""
    confidence: str
    points: dict[str, Offer]
    """by quantity"""
    defaults: tuple[str, ...]
    """quantities that are read when a device names only the profile"""
    reads_a_day: int | None = None
    """readings a day that its battery is made for; None: any number"""
    verify: str = ""
    """what has not been checked against the maker's manual yet, of the whole profile"""
    manners: str = ""
    """how the device must be read, as address options of the driver: added to each `at`"""
    serial: Offer | None = None
    """the serial number, which proves that it is the recorded meter"""
    watchdog: WatchdogProfile | None = None
    """the device's own watchdog, where it has one"""
    test: dict[str, Any] = field(default_factory=dict)
    """cells by table and address, and under `reads` the values that they must give"""

    @staticmethod
    def channel(quantity: str) -> str:
        """The channel of a quantity. Raises KeyError if there is none."""
        return channel_of_quantity()[quantity]


def confirmed(made: Profile) -> bool:
    """Whether two independent sources confirm the figures of a profile."""
    stated = getattr(made, "confirmed", None)
    return made.confidence.startswith("two sources") if stated is None else bool(stated)


@cache
def profiles() -> tuple[str, ...]:
    """The names of all profiles, sorted; no file is read."""
    names = (entry.name for entry in FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


@cache
def profile(name: str) -> Profile:
    """Load a profile; cached. Raises KeyError if there is none of that name."""
    text = text_of(name)
    return with_manners(
        TypeAdapter(Profile).validate_python(YAML(typ="safe", pure=True).load(text))
    )


def text_of(name: str) -> str:
    """The text of a profile's file. Raises KeyError if there is none of that name."""
    # A name from a configuration must not lead out of the folder: `../x` is not in the list.
    if name not in profiles():
        raise KeyError(name)
    return (FOLDER / f"{name}{SUFFIX}").read_text(encoding="utf-8")


def with_manners(made: Profile) -> Profile:
    """The profile with its `manners` added to each `at`, where the driver expects them."""
    if not made.manners:
        return made

    def with_manners_added(offer: Offer) -> Offer:
        return replace(offer, at=f"{offer.at} {made.manners}")

    points = {quantity: with_manners_added(offer) for quantity, offer in made.points.items()}
    return replace(made, points=points, serial=made.serial and with_manners_added(made.serial))
