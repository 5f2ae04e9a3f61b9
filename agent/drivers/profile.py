"""Device profiles: what a meter of one make offers, and where. Data, one file each; no code."""

from __future__ import annotations

from dataclasses import field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML

from agent.channels import channel_of_quantity

FOLDER, SUFFIX = Path(__file__).parent / "profiles", ".yaml"
STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, config=STRICT)
class Offer:
    """One value that the device offers."""

    at: str
    """in the driver's notation"""
    unit: str = "1"
    """of raw × scale"""
    scale: Decimal = Decimal(1)
    rating: Decimal | None = None
    """the most that can flow in an hour through a meter of this make, in the channel's unit"""
    rolls_at: Decimal | None = None
    """where its index begins again at 0, in the channel's unit"""
    verify: str = ""
    """what nobody has yet held against the maker's manual"""


@dataclass(frozen=True, slots=True, config=STRICT)
class WatchdogProfile:
    """What makes the device give back by itself when nobody speaks to it any more."""

    point: str
    """the quantity, in seconds, after which it falls back; written again and again during a hold"""
    timeout: int
    """seconds: what is written there"""
    fallback: str
    """the quantity that holds the value to which it falls back"""


@dataclass(frozen=True, slots=True, config=STRICT)
class Profile:
    """One make of device."""

    manufacturer: str
    model: str
    driver: str
    """the driver, or family of drivers, that its notation is for"""
    source: str
    """where its figures were found"""
    confidence: str
    points: dict[str, Offer]
    """by quantity; `channel` gives our name of it"""
    defaults: tuple[str, ...]
    """quantities that are read when a device names only the profile"""
    reads_a_day: int | None = None
    """what its battery was made for; None: it does not matter how often it is read"""
    verify: str = ""
    """what nobody has yet held against the maker's manual, of the whole"""
    manners: str = ""
    """how the device wants to be asked, in the driver's notation: stands behind every `at`"""
    serial: Offer | None = None
    """the serial number, which says that it is the meter we take it for"""
    watchdog: WatchdogProfile | None = None
    """the device's own, where it has one"""
    test: dict[str, Any] = field(default_factory=dict)
    """cells by table and address, and what they must be `reads` as"""

    @staticmethod
    def channel(quantity: str) -> str:
        """Our channel for one of its quantities. Raises KeyError where there is none."""
        return channel_of_quantity()[quantity]


@cache
def profiles() -> tuple[str, ...]:
    """Name all profiles there are, in order; read none."""
    names = (entry.name for entry in FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


@cache
def profile(name: str) -> Profile:
    """Load one profile, once. Raises KeyError if there is none of that name."""
    text = text_of(name)
    return with_manners(
        TypeAdapter(Profile).validate_python(YAML(typ="safe", pure=True).load(text))
    )


def text_of(name: str) -> str:
    """The file of a profile. Raises KeyError if there is none of that name."""
    if name not in profiles():
        raise KeyError(name)
    return (FOLDER / f"{name}{SUFFIX}").read_text(encoding="utf-8")


def with_manners(made: Profile) -> Profile:
    """The profile with its manners behind every `at`, as its driver reads them."""
    if not made.manners:
        return made

    def with_manners_added(offer: Offer) -> Offer:
        return replace(offer, at=f"{offer.at} {made.manners}")

    points = {quantity: with_manners_added(offer) for quantity, offer in made.points.items()}
    return replace(made, points=points, serial=made.serial and with_manners_added(made.serial))
