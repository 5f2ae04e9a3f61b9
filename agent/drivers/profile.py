"""Device profiles: which values a make of device offers, and where. One data file each; no code."""

from __future__ import annotations

from dataclasses import field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML

from agent.core.quantities import channel_of_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL, SERIAL = "all", "serial"
"""what a source may confirm: every point of the profile; the point of the serial number"""
INDEPENDENT = 2
"""sources that must agree before a point counts as confirmed"""
Identity = Literal["number", "plate"]
"""how a device proves which one it is: it reports its serial number, or a person reads the number
on it (rule I18)
"""
FOLDER, SUFFIX = Path(__file__).parent / "profiles", ".yaml"
RECORDED = ".recorded.yaml"
"""ends the name of a recording (agent/config/recording.py)"""
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
class Source:
    """A document, or a program that others use with this device, and what it confirms."""

    where: str
    """title and page, or repository@commit and path"""
    confirms: tuple[str, ...]
    """the points whose address, type, unit and scale it states as the profile does: by name, `all`
    for all but the serial number, and `serial`
    """
    standard: bool = False
    """a published standard that the device states to follow, with its units: confirms by itself"""

    def states(self, name: str) -> bool:
        """Whether it confirms a point, or `serial`."""
        return name in self.confirms or (ALL in self.confirms and name != SERIAL)


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
    points: dict[str, Offer]
    """by quantity"""
    defaults: tuple[str, ...]
    """quantities that are read when a device names only the profile"""
    sources: tuple[Source, ...] = ()
    """where its figures are from; each independent of the others"""
    source: str = ""
    """the only source, as profiles stated it before `sources`"""
    confidence: str = ""
    """what its author states of it, in his words"""
    identity: Identity | None = None
    """how it is proven which device it is; None: by `serial` if there is one, else by its plate"""
    compared: tuple[str, ...] = ()
    """days and people: a recorded device whose display agreed, added when it is loaded"""
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

    @property
    def confirmed(self) -> bool:
        """Whether two independent sources, or a display, confirm each point of `defaults`."""
        return bool(self.compared) or not self.unconfirmed(self.defaults)

    def confirms(self, point: str) -> bool:
        """Whether two independent sources, or a display, confirm one point."""
        return bool(self.compared) or not self.unconfirmed((point,))

    def unconfirmed(self, points: Iterable[str]) -> tuple[str, ...]:
        """Those of these points that fewer than two independent sources confirm."""
        return tuple(name for name in points if self.confirmations(name) < INDEPENDENT)

    def confirmations(self, name: str) -> int:
        """How many independent sources confirm a point, or `serial`. A standard counts as two."""
        return sum(
            INDEPENDENT if source.standard else 1 for source in self.sources if source.states(name)
        )

    @staticmethod
    def channel(quantity: str) -> str:
        """The channel of a quantity. Raises KeyError if there is none."""
        return channel_of_quantity()[quantity]


@cache
def profiles() -> tuple[str, ...]:
    """The names of all profiles, sorted; no file is read."""
    names = (entry.name for entry in FOLDER.iterdir())
    made = (name for name in names if name.endswith(SUFFIX) and not name.endswith(RECORDED))
    return tuple(sorted(name.removesuffix(SUFFIX) for name in made))


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
