"""Device profiles: what a meter of one make offers, and where. Data, one file each; no code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, TypeAdapter
from ruamel.yaml import YAML

from agent.channels import channel_of_quantity

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SUFFIX = ".yaml"


@dataclass(frozen=True, slots=True)
class Offer:
    """One value that the device offers."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

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


@dataclass(frozen=True, slots=True)
class Profile:
    """One make of device."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

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
    test: dict[str, Any] = field(default_factory=dict)
    """cells by table and address, and what they must be `reads` as"""

    @staticmethod
    def channel(quantity: str) -> str:
        """Our channel for one of its quantities. Raises KeyError where there is none."""
        return channel_of_quantity()[quantity]


def _folder() -> Traversable:
    return files("agent.drivers") / "profiles"


@cache
def profiles() -> tuple[str, ...]:
    """Name all profiles there are, in order; read none."""
    names = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


@cache
def profile(name: str) -> Profile:
    """Load one profile, once. Raises KeyError if there is none of that name."""
    if name not in profiles():
        raise KeyError(name)
    text = (_folder() / f"{name}{SUFFIX}").read_text(encoding="utf-8")
    made = TypeAdapter(Profile).validate_python(YAML(typ="safe", pure=True).load(text))
    return _mannered(made) if made.manners else made


def _mannered(made: Profile) -> Profile:
    def told(offer: Offer) -> Offer:
        return replace(offer, at=f"{offer.at} {made.manners}")

    points = {quantity: told(offer) for quantity, offer in made.points.items()}
    return replace(made, points=points, serial=made.serial and told(made.serial))
