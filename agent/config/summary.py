"""What a configuration comes to, on one screen, for the person who wrote it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from agent.config.linecheck import took
from agent.drivers.base import Budgets
from agent.registry import place
from agent.registry.gate import FLOORS
from agent.settings import written, written_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.config.config import Config
    from agent.model import Point

DAY = 86_400
CLOCKS = {
    "ntp": "ntp: readings are dated once a time service keeps the clock",
    "system": "system: believed as it is, for a demonstration only",
}
Row = TypeVar("Row")


def summary(config: Config) -> str:
    """Say in some ten lines of at most 80 columns what is read, sent, kept and what holds it up."""
    rows = [*_building(config), *_lines(config), *_uplinks(config), *_rules(config)]
    return "\n".join(f"{title:<10} {text}".rstrip() for title, text in rows)


def _building(config: Config) -> Iterator[tuple[str, str]]:
    building = config.building
    shown = f" ({place.shown(building.place)})" if building.place else ""
    yield "building", f"{building.name}{shown}, {building.timezone}"


def _lines(config: Config) -> Iterator[tuple[str, str]]:
    if not config.links:
        yield "lines", "none: nothing is read"
    on = Counter(device.link for device in config.devices.values())
    for title, (name, link) in _titled("lines", config.links.items()):
        yield title, f"{name}: {link.driver}, {_count(on[name], 'device')}{_round(config, name)}"
    every = Counter(point.every for of in config.points().values() for point in of if point.channel)
    for title, (step, number) in _titled("read", sorted(every.items())):
        a_day = f"{number * DAY // step:,} readings a day"
        yield title, f"{_count(number, 'value')} every {written(step)}: {a_day}"


def _round(config: Config, link: str) -> str:
    """How long one reading of all devices on a line takes, where its driver knows."""
    of = [points for points in config.points().values() if points]
    settings = config.links[link].settings
    mine = [points for points in of if config.devices[points[0].device].link == link]
    if not isinstance(settings, Budgets) or not mine:
        return ""
    return f", all read in {took(sum(settings.seconds(points) for points in mine))} at best"


def _uplinks(config: Config) -> Iterator[tuple[str, str]]:
    if not config.uplinks:
        yield "uplinks", "none: nothing is kept and nothing leaves"
    for title, (name, uplink) in _titled("uplinks", config.uplinks.items()):
        settings = uplink.settings
        sealed = f"a batch every {written(settings.seal)}"
        yield title, f"{name}: {settings.recipient} over {uplink.transport}, {sealed}"


def _rules(config: Config) -> Iterator[tuple[str, str]]:
    common = config.privacy.common
    yield "privacy", f"{config.privacy.policy}; dwellings by consent only"
    floor = FLOORS[config.privacy.policy]
    if fine := sum(point.every < floor for point in _of_dwellings(config)):
        yield "", f"{_count(fine, 'value')} of dwellings never leave: steps under {written(floor)}"
    if common:
        yield "", f"common plant from {common.from_}: {common.basis}"
    elif any(device.place for device in config.devices.values()):
        yield "", "common plant stays here until `privacy.common` says by what right it leaves"
    yield "clock", CLOCKS[config.clock.source]
    yield "kept in", str(config.state)
    spool = config.spool
    size = f"at most {written_size(spool.max)} for each recipient"
    yield "", f"{size}; received batches for {written(spool.keep)}"


def _of_dwellings(config: Config) -> Iterator[Point]:
    for points in config.points().values():
        yield from (point for point in points if point.channel and point.place is None)


def _titled(title: str, rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    for row in rows:
        yield title, row
        title = ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
