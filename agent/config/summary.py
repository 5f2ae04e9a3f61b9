"""A summary of a configuration on one screen, for the person who wrote it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from agent.config import data_budget
from agent.config.flash_wear import wear
from agent.config.outage import outage
from agent.config.updates import AFTER
from agent.core.i18n import N_, _, n_
from agent.core.settings import took, written, written_size
from agent.drivers.base import Budgets
from agent.registry import place
from agent.registry.consent_policy import FLOORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.config.config import Config
    from agent.core.model import Point

DAY = 86_400
CLOCKS = {
    "ntp": N_("ntp: readings are dated once a time service keeps the clock"),
    "system": N_("system: trusted without a time service, for a demonstration only"),
}
Row = TypeVar("Row")


def summary(config: Config) -> str:
    """About ten lines of at most 80 columns: what is read, sent, kept, and what is missing."""
    rows = [
        *_building(config),
        *_lines(config),
        *_uplinks(config),
        *_controls(config),
        *_rules(config),
    ]
    return "\n".join(f"{title:<10} {text}".rstrip() for title, text in rows)


def _backup(config: Config) -> str:
    """Where the backup is kept."""
    options = config.backup
    if options is None:
        return _("none: if this gateway is replaced, all records must be entered again")
    named = config.uplinks if options.uplinks is None else options.uplinks
    keepers = [*named, *([str(options.folder)] if options.folder else [])]
    if not keepers:
        return _("none: there is neither an uplink nor a `folder` for it")
    return _("after each change to {keepers}", keepers=", ".join(keepers))


def _building(config: Config) -> Iterator[tuple[str, str]]:
    building = config.building
    shown = f" ({place.shown(building.place)})" if building.place else ""
    yield _("building"), f"{building.name}{shown}, {building.timezone}"


def _lines(config: Config) -> Iterator[tuple[str, str]]:
    if not config.links:
        yield _("lines"), _("none: nothing is read")
    on = Counter(device.link for device in config.devices.values())
    for title, (name, link) in _titled(_("lines"), config.links.items()):
        devices = n_("{number:,} device", "{number:,} devices", on[name])
        yield title, f"{name}: {link.driver}, {devices}{_round(config, name)}"
    every = Counter(point.every for of in config.points().values() for point in of if point.channel)
    for title, (step, number) in _titled(_("read"), sorted(every.items())):
        a_day = _("{number:,} readings a day", number=number * DAY // step)
        values = n_("{number:,} value", "{number:,} values", number)
        yield (
            title,
            _("{values} every {step}: {a_day}", values=values, step=written(step), a_day=a_day),
        )


def _round(config: Config, link: str) -> str:
    """The time to read all devices of a line once; empty: its driver cannot estimate it."""
    settings, on = config.links[link].settings, config.devices
    of = {name: points for name, points in config.points().items() if on[name].link == link}
    read = ([one for one in points if not one.derived] for points in of.values())
    mine = [points for points in read if points]
    if not isinstance(settings, Budgets) or not mine:
        return ""
    return _(
        ", all read in {time} at best", time=took(sum(settings.seconds(points) for points in mine))
    )


def _uplinks(config: Config) -> Iterator[tuple[str, str]]:
    if not config.uplinks:
        yield _("uplinks"), _("none: nothing is stored or sent")
    for title, (name, uplink) in _titled(_("uplinks"), config.uplinks.items()):
        settings = uplink.settings
        text = _(
            "{recipient} over {transport}, a batch every {seal}",
            recipient=settings.recipient,
            transport=uplink.transport,
            seal=written(settings.seal),
        )
        yield title, f"{name}: {text}"
        if getattr(settings, "receipt", "platform") == "broker":
            yield "", _("receipts come from the broker only: batches that it loses are lost")
        if weaker := getattr(settings, "weaker", ""):
            yield "", weaker
        if uplink.sums:
            yield (
                "",
                _(
                    "sums over {fewest} dwellings or more: {channels}",
                    fewest=config.privacy.fewest,
                    channels=", ".join(uplink.sums),
                ),
            )
        for line in data_budget.report(uplink, config):
            yield "", line


def _controls(config: Config) -> Iterator[tuple[str, str]]:
    for title, (name, control) in _titled(_("controls"), config.controls.items()):
        limits, unit = control.modality, config.point(control.point).unit
        bounds = (
            _("a choice")
            if limits.choices
            else _("{least} to {most} {unit}", least=limits.min, most=limits.max, unit=unit)
        )
        at_most = _("{time} at most", time=written(limits.max_duration))
        yield title, f"{name}: {limits.action} {bounds}, {at_most}"
        if control.device_watchdog.accepted:
            device = control.point.partition("/")[0]
            accepted = N_("! if this gateway is gone for good, {device} keeps our value: accepted")
            yield "", _(accepted, device=device)


def _rules(config: Config) -> Iterator[tuple[str, str]]:
    common = config.privacy.common
    yield _("privacy"), _("{policy}; dwellings by consent only", policy=config.privacy.policy)
    floor = FLOORS[config.privacy.policy]
    if fine := sum(point.every < floor for point in _of_dwellings(config)):
        text = n_(
            "{number:,} value of dwellings is never sent: its step is under {floor}",
            "{number:,} values of dwellings are never sent: their steps are under {floor}",
            fine,
            floor=written(floor),
        )
        yield "", text
    if common:
        yield "", _("common plant from {day}: {basis}", day=common.from_, basis=common.basis)
    elif any(device.place for device in config.devices.values()):
        yield "", _("common plant is not sent until `privacy.common` names the legal basis")
    yield _("clock"), _(CLOCKS[config.clock.source])
    yield _("kept in"), str(config.state)
    spool = config.spool
    yield (
        "",
        _(
            "at most {size} for each recipient; received batches for {time}",
            size=written_size(spool.max),
            time=written(spool.keep),
        ),
    )
    yield from _titled("", outage(config))
    yield _("backup"), _backup(config)
    if syndic := config.syndic:
        where = str(syndic.path or syndic.url)
        text = _(
            "{files} in {where}, looked for every {every}",
            files=syndic.files,
            where=where,
            every=written(syndic.every),
        )
        yield _("leases"), text
    yield from _titled(_("flash"), wear(config))
    if of := config.updates:
        days = AFTER[of.ring]
        waits = n_("{number} day after it appears", "{number} days after it appears", days)
        yield _("updates"), _("each version {waits}, {window}", waits=waits, window=of.window)
    else:
        yield _("updates"), _("by hand only: sudo gardien-upgrade")


def _of_dwellings(config: Config) -> Iterator[Point]:
    for points in config.points().values():
        yield from (point for point in points if point.channel and point.place is None)


def _titled(title: str, rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    for row in rows:
        yield title, row
        title = ""
