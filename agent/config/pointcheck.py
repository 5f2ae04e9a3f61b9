"""Check the points of devices, and whether their line and their battery allow the schedule."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from agent.config.config import batteries, point, wanted
from agent.config.models import ILL_NAMED, NAME, DeviceOptions, no_unit
from agent.config.problem import did_you_mean, options, or_list
from agent.core.i18n import _
from agent.core.model import ValueKind
from agent.core.quantities import channels, factor, units
from agent.core.settings import FROM_A_FILE, shown, took, written
from agent.drivers import driver, family
from agent.drivers.base import Budgets
from agent.registry import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.config.compose import ConfigDraft
    from agent.config.models import DeviceConfig, LinkConfig, PointOptions
    from agent.config.problem import ValuePath
    from agent.core.model import Point

DAY = 86_400
FEWEST = 2
"""the least number of reads in a step: the mean of one read is the read itself"""
Slot = tuple[str, str, int]
"""place or device, channel and step, which only one point may have"""
STEPS = (60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, DAY)
"""seconds: the round steps that messages propose"""


def meancheck(
    draft: ConfigDraft, path: ValuePath, device: DeviceConfig, merged: PointOptions
) -> None:
    """Report a `mean` of an index or state, or over a step that its reads do not fill."""
    if not merged.mean:
        return
    known, step = channels().get(merged.channel or ""), int(merged.every or device.every)
    over = int(merged.mean)
    if merged.channel is None:
        what = _("`{what}` needs a `channel`, such as elec.imp", what="mean")
    elif known is not None and known.kind is ValueKind.REG:
        what = _(
            "{name} is an index: what it counts in a step is `intervals: true`", name=known.name
        )
    elif known is not None and known.at_changes:
        what = _(
            "{name} is a state, which is sent when it changes: it has no mean", name=known.name
        )
    elif over % step or over < FEWEST * step:
        fits = next((n for n in range(over, 0, -1) if _fits(n, over)), over)
        what = _(
            "a mean over {over} needs several reads: write `every: {fits}`, or a longer `mean`",
            over=written(over),
            fits=written(fits),
        )
    else:
        return
    draft.report.value((*path, "mean"), what)


def _fits(step: int, over: int) -> bool:
    """Whether a step of reads divides the day and `over`, with ten reads or more in `over`."""
    return over % step == 0 and DAY % step == 0 and over >= min(10, over) * step


def midnightcheck(
    draft: ConfigDraft, path: ValuePath, device: DeviceConfig, merged: PointOptions
) -> None:
    """Report a step without a slot at midnight, for a meter that may be a dwelling's."""
    known = channels().get(merged.channel or "")
    step = int(merged.every or device.every)
    if known is None or known.kind is not ValueKind.REG or device.place or draft.building is None:
        return
    zone = ZoneInfo(draft.building.timezone)
    if step == DAY or not misses(step, zone):
        return
    fits = max(n for n in range(1, step) if DAY % n == 0 and not misses(n, zone))
    what = _(
        "a step of {step} has no slot at midnight in {zone}, so daily and monthly values would be"
        " missing: write {fits} or 1d",
        step=written(step),
        zone=str(zone),
        fits=written(fits),
    )
    # the problem is at `every` of the point if it has one, else at that of the device
    own = draft.written["devices"][path[1]].get("points") or {}
    at_point = isinstance(own, dict) and "every" in (own.get(path[-1]) or {})
    draft.report.value((*path, "every") if at_point else (*path[:2], "every"), what)


def misses(step: int, zone: ZoneInfo) -> bool:
    """Whether midnight is not a slot of a step, in summer or in winter."""
    # each month, since the dates on which a zone changes its offset are not known here
    seasons = (dt.datetime(2027, month, 1, tzinfo=zone) for month in range(1, 13))
    return any(int(one.timestamp()) % step for one in seasons)


def pointcheck(draft: ConfigDraft) -> None:
    """Report mistakes in devices and their points."""
    measured: dict[Slot, ValuePath] = {}
    for name, device in draft.devices.items():
        _no_dwelling(draft, name, device)
        if not _profile_fits(draft, name, device):
            continue
        for point_name, merged in wanted(device).items():
            path = _path(name, device, point_name)
            _point(draft, path, (name, device, point_name, merged))
            _once(draft, measured, path, (name, device, merged))
            meancheck(draft, path, device, merged)


def _no_dwelling(draft: ConfigDraft, name: str, device: DeviceConfig) -> None:
    if device.place and device.place.startswith("D"):
        command = f"gardien meter assign {name} {place.shown(device.place)}"
        what = _(
            "a dwelling must not be named here, because occupants change: delete this line"
            " and run: {command}",
            command=command,
        )
        draft.report.value(("devices", name, "place"), what)


def _profile_fits(draft: ConfigDraft, name: str, device: DeviceConfig) -> bool:
    """Check a device's profile. Returns whether its points can be checked."""
    path = ("devices", name, "profile")
    names = draft.shelf.names()
    if device.profile is not None and device.made is None:
        near = did_you_mean(device.profile, names) or _("; there is {names}", names=or_list(names))
        # a profile that exists but is invalid has its own problems in the report
        if device.profile not in names:
            draft.report.value(
                path, _("no profile {profile}{near}", profile=shown(device.profile), near=near)
            )
        return False
    known, link = device.made, draft.links.get(device.link)
    if known and link and family(known.driver) != family(link.driver):
        what = _(
            "{profile} is a profile for {driver}, but {link} speaks {other}",
            profile=shown(device.profile),
            driver=known.driver,
            link=shown(device.link),
            other=link.driver,
        )
        draft.report.value(path, what)
        return False
    entry = draft.entry("devices", name)
    # an unknown option may be a misspelt `profile`, and is reported already
    lacks = not device.profile and not entry.get("points") and draft.spoken(device.link)
    if lacks and entry.keys() <= set(options(DeviceOptions)):
        what = _("no value is configured: name a `profile`, or list values under `points`")
        draft.report.key(("devices", name), what)
    return True


def _path(name: str, device: DeviceConfig, point_name: str) -> ValuePath:
    """The path of a point in the file; one that only the profile has is at `profile`."""
    if point_name in device.points:
        return ("devices", name, "points", point_name)
    return ("devices", name, "profile")


def _point(
    draft: ConfigDraft, path: ValuePath, written_as: tuple[str, DeviceConfig, str, PointOptions]
) -> None:
    name, device, point_name, merged = written_as
    if not NAME.fullmatch(point_name):
        draft.report.key(path, _(ILL_NAMED))
    if merged.at is None:
        draft.report.key(path, _no_at(device, point_name))
    elif link := draft.links.get(device.link):
        try:
            driver(link.driver).check(point(name, device, point_name, merged))
        except ValueError as error:
            what = str(error)
            # a driver checks the address of the device and that of the point together: the one that
            # its error quotes is wrong
            whose = shown(device.address) in what and device.address != merged.at
            draft.report.value(("devices", name, "address") if whose else (*path, "at"), what)
    _quantity(draft, path, merged)
    midnightcheck(draft, path, device, merged)


def _no_at(device: DeviceConfig, point_name: str) -> str:
    known = device.made
    if known is None:
        return _(
            "`at` is missing: where the value is on the device, such as `at: input/72/float32`"
        )
    near = did_you_mean(point_name, known.points)
    offers = near or _("; it has {names}", names=or_list(known.points))
    return _(
        "{profile} has no {point_name}{offers} (one of your own needs `at`)",
        profile=shown(device.profile),
        point_name=shown(point_name),
        offers=offers,
    )


def _quantity(draft: ConfigDraft, path: ValuePath, merged: PointOptions) -> None:
    if merged.unit is not None and merged.unit not in units():
        draft.report.value((*path, "unit"), no_unit(merged.unit))
    if merged.channel is None:
        if what := _only_of_an_index(merged):
            draft.report.value(
                (*path, what), _("`{what}` needs a `channel`, such as elec.imp", what=what)
            )
        return
    known = channels().get(merged.channel)
    if known is None:
        near = did_you_mean(merged.channel, channels()) or _(
            "; there is {names}", names=or_list(channels())
        )
        draft.report.value(
            (*path, "channel"),
            _("no channel {channel}{near}", channel=shown(merged.channel), near=near),
        )
    elif merged.unit is None:
        what = _(
            "`unit` is missing: what the device counts in, such as `unit: {unit}`", unit=known.unit
        )
        draft.report.key(path, what)
    elif known.kind is not ValueKind.REG and (what := _only_of_an_index(merged)):
        kind = _(
            "{name} is no index: only what a meter counts up has `{what}`",
            name=known.name,
            what=what,
        )
        draft.report.value((*path, what), kind)
    elif merged.unit in units() and factor(merged.unit, known.unit) is None:
        what = _(
            "{unit} cannot be converted to {other}, the unit of {name}",
            unit=merged.unit,
            other=known.unit,
            name=known.name,
        )
        draft.report.value((*path, "unit"), what)


def _only_of_an_index(merged: PointOptions) -> str:
    options = {
        "rating": merged.rating,
        "rolls_at": merged.rolls_at,
        "intervals": merged.intervals or None,
    }
    return next((word for word, said in options.items() if said is not None), "")


def _once(
    draft: ConfigDraft,
    measured: dict[Slot, ValuePath],
    path: ValuePath,
    of: tuple[str, DeviceConfig, PointOptions],
) -> None:
    """Check that no other point has the same series: a platform could not tell their rows apart."""
    name, device, merged = of
    if merged.channel is None:
        return
    step = int(merged.every or device.every)
    slots = [(merged.channel, step)]
    if merged.mean:
        slots.append((f"mean {merged.channel}", int(merged.mean)))
    for channel, every in slots:
        other = measured.setdefault((device.place or name, channel, every), path)
        if other != path:
            what = _(
                "{other} in {line} already reads {channel} of this place every {step}",
                channel=channel,
                step=written(every),
                other=".".join(other),
                line=draft.report.line(other),
            )
            draft.report.key(path, what)


def linecheck(draft: ConfigDraft) -> None:
    """Report devices that are read more often than their line or battery allows."""
    for together, most in batteries(draft.devices, draft.links):
        _battery(draft, together, most)
    for name, link in draft.links.items():
        if isinstance(link.settings, Budgets):
            _capacity(draft, name, link)


def _battery(draft: ConfigDraft, together: Sequence[str], most: int) -> None:
    devices = [draft.devices[name] for name in together]
    number = sum(map(_reads_a_day, devices))
    if number <= most or not all(_whole(draft, name) for name in together):
        return
    slower = next(
        step for step in _steps(draft) if len(devices) * DAY <= most * step or step == DAY
    )
    what = _(
        "{number} readings a day empty the battery of this meter, which is designed for"
        " {most}: write `every: {slower}`, or `reads_a_day:` if its manufacturer allows"
        " more",
        number=number,
        most=most,
        slower=written(slower),
    )
    if len(together) > 1:
        what += _(" (of {names} together: it is one device)", names=", ".join(together))
    name = together[-1]
    if "every" in draft.entry("devices", name):
        draft.report.value(("devices", name, "every"), what)
    else:
        draft.report.key(("devices", name), what)


def _whole(draft: ConfigDraft, name: str) -> bool:
    """Whether a device is valid: the step of an invalid one is only the default."""
    entry = {key: value for key, value in draft.entry("devices", name).items() if key != "points"}
    try:
        DeviceOptions.model_validate(entry, context=FROM_A_FILE)
    except ValidationError:
        return False
    return True


def _reads_a_day(device: DeviceConfig) -> int:
    """Readings a day of a device; points that are due at the same time are one reading."""
    steps = {int(one.every or device.every) for one in wanted(device).values()}
    return len({slot for step in steps for slot in range(0, DAY, step)})


def _steps(draft: ConfigDraft) -> list[int]:
    """The steps to propose: those with a slot at midnight in summer and in winter."""
    zone = ZoneInfo(draft.building.timezone if draft.building else "UTC")
    return [step for step in STEPS if step == DAY or not misses(step, zone)]


def _capacity(draft: ConfigDraft, name: str, link: LinkConfig) -> None:
    reads = []
    for points in _devices_on(draft, name):
        with suppress(ValueError):  # an invalid address: pointcheck reports it
            reads.append((link.settings.seconds(points), min(one.every for one in points)))
    # the share of time for which the line is busy; above 1, slots are missed every day
    load = sum(seconds / step for seconds, step in reads)
    if load <= 1:
        return
    around, asked = sum(seconds for seconds, _ in reads), min(step for _, step in reads)
    slower = next(step for step in _steps(draft) if around <= step or step == DAY)
    what = _(
        "{name} cannot read its {number} devices so often: to read all once takes {around}, and"
        " the shortest step is {asked}. Write `every: {slower}`, or split the line",
        name=shown(name),
        around=took(around),
        number=len(reads),
        asked=written(asked),
        slower=written(slower),
    )
    draft.report.key(("links", name), what)


def _devices_on(draft: ConfigDraft, link: str) -> Iterator[list[Point]]:
    for name, device in draft.devices.items():
        options = wanted(device).items() if device.link == link else ()
        points = [point(name, device, one, said) for one, said in options if said.at]
        if points:
            yield points
