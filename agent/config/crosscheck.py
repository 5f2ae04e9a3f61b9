"""Check sections against each other: lines, addresses, recipients, controls, points, schedules."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from agent.config.config import batteries, point, wanted, watchdog
from agent.config.models import ILL_NAMED, NAME, DeviceOptions, no_unit
from agent.config.problem import QUOTED, curly, did_you_mean, options, or_list
from agent.control.model import SUPPLY, split
from agent.core.i18n import _, in_language
from agent.core.model import ValueKind
from agent.core.quantities import channels, factor, units
from agent.core.settings import FROM_A_FILE, is_loopback, shown, took, written
from agent.drivers import driver, family
from agent.drivers.base import Budgets, Writes
from agent.registry import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.config.compose import ConfigDraft
    from agent.config.models import DeviceConfig, LinkConfig, PointOptions
    from agent.config.problem import ValuePath
    from agent.control.settings import Control, LowestSupplyOptions
    from agent.core.model import Point

PRIMARY_DIGITS = 3
"""digits of an M-Bus primary address; a longer address is the number of a meter"""
SLOWEST_GUARD = 900
"""seconds: the longest step of a guard; one that is read less often protects nothing"""
SLOWEST_SWITCH = 60
"""seconds: the longest step of an off switch; the person who turns it waits for its effect"""
DOG = ("device_watchdog", "point")
Spot = tuple[str, str, str]
"""line, device and register (or object) on it"""
DAY = 86_400
FEWEST = 2
"""the least number of reads in a step: the mean of one read is the read itself"""
Slot = tuple[str, str, int]
"""place or device, channel and step, which only one point may have"""
STEPS = (60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, DAY)
"""seconds: the round steps that messages propose"""


def crosscheck(draft: ConfigDraft) -> None:
    """Report options of different sections that contradict each other."""
    _lines_exist(draft)
    _one_link_a_line(draft)
    _one_device_an_address(draft)
    _one_uplink_a_recipient(draft)
    _loopback_only(draft)
    _backups_go_somewhere(draft)
    _sums_have_a_place(draft)


def _backups_go_somewhere(draft: ConfigDraft) -> None:
    names = draft.names("uplinks")
    for name in (draft.backup and draft.backup.uplinks) or ():
        if name not in names:
            near = did_you_mean(name, names) or _(
                "; under `uplinks` there is {names}", names=or_list(names)
            )
            draft.report.value(
                ("backup", "uplinks"),
                _("no uplink {uplink}{near}", uplink=shown(name), near=near),
            )


def _sums_have_a_place(draft: ConfigDraft) -> None:
    """Check that a building with sums has an id, under which the sums are sent."""
    if draft.building is None or draft.building.place is not None:
        return
    for name, uplink in draft.uplinks.items():
        if uplink.sums:
            what = _(
                "a sum over dwellings belongs to the building, so it needs an id: write it as"
                " `building.place`"
            )
            draft.report.value(("uplinks", name, "sums"), what)


def _lines_exist(draft: ConfigDraft) -> None:
    names = draft.names("links")
    for name, device in draft.devices.items():
        if device.link not in names:
            near = did_you_mean(device.link, names) or _(
                "; under `links` there is {names}", names=or_list(names)
            )
            draft.report.value(
                ("devices", name, "link"),
                _("no line {link}{near}", link=shown(device.link), near=near),
            )


def _one_link_a_line(draft: ConfigDraft) -> None:
    """Check that no line is configured twice: two links would ask the same devices at once."""
    first: dict[tuple[str, str], str] = {}
    for name, link in draft.links.items():
        port = str(getattr(link.settings, "port", ""))
        # a serial port can be opened only once, whatever the driver
        line = ("", port) if port.startswith("/") else (link.driver, repr(link.settings))
        other = first.setdefault(line, name)
        if other != name:
            what = _(
                "the same line as {other} in {line}: put its devices there",
                other=shown(other),
                line=draft.report.line(("links", other)),
            )
            draft.report.key(("links", name), what)


def _one_device_an_address(draft: ConfigDraft) -> None:
    """Check that no two devices of a line have one address."""
    first: dict[tuple[str, str], str] = {}
    for name, device in draft.devices.items():
        other = first.setdefault((device.link, _address(draft, device)), name)
        if other != name:
            line = draft.report.line(("devices", other))
            what = _(
                "{address} on {link} is already the address of {other} in {line}:"
                " change one of the two addresses",
                address=shown(device.address),
                link=shown(device.link),
                other=shown(other),
                line=line,
            )
            draft.report.value(("devices", name, "address"), what)


def _address(draft: ConfigDraft, device: DeviceConfig) -> str:
    """An address in one form: on Modbus `012` and `12` are the same device."""
    link = draft.links.get(device.link)
    spoken = family(link.driver) if link else ""
    if spoken == "modbus" or (spoken == "mbus" and len(device.address) <= PRIMARY_DIGITS):
        return device.address.lstrip("0") or "0"
    return device.address.upper() if spoken == "mbus" else device.address


def _one_uplink_a_recipient(draft: ConfigDraft) -> None:
    first: dict[str, str] = {}
    for name, uplink in draft.uplinks.items():
        recipient = uplink.settings.recipient
        other = first.setdefault(recipient, name)
        if other != name:
            line = draft.report.line(("uplinks", other))
            what = _(
                "{recipient} already receives through {other} in {line}: a recipient has one"
                " uplink, so delete one of the two",
                recipient=shown(recipient),
                other=shown(other),
                line=line,
            )
            draft.report.value(("uplinks", name, "recipient"), what)


def _loopback_only(draft: ConfigDraft) -> None:
    """Check that options for demonstrations are used only if all lines and uplinks are on loopback.

    DEMO-1 allows rows of dwellings at a step of 1 s (rule P2).
    """
    demo: list[tuple[ValuePath, str]] = []
    if draft.privacy and draft.privacy.policy == "DEMO-1":
        demo.append((("privacy", "policy"), _('DEMO-1 is for a demonstration: write "FR-1"')))
    if draft.clock and draft.clock.source == "system":
        demo.append(
            (
                ("clock", "source"),
                _(
                    '"system" is for a demonstration, for it trusts a clock that may be wrong:'
                    ' write "ntp"'
                ),
            )
        )
    outside = next(_outside(draft), None)
    for path, remedy in demo if outside else ():
        draft.report.value(path, f"{remedy}, {outside}")


def _outside(draft: ConfigDraft) -> Iterator[str]:
    """Reasons why the configuration reaches beyond loopback."""
    for name, link in draft.links.items():
        host = getattr(link.settings, "host", None)
        if host is None:
            yield _("since links.{name} is no host: real equipment may be there", name=name)
        elif not is_loopback(host):
            yield _("since {outside} is not on loopback", outside=f"links.{name}")
    for name, uplink in draft.uplinks.items():
        host = urlsplit(getattr(uplink.settings, "url", "")).hostname
        if host is None:
            yield _("since uplinks.{name} is a folder, which others may fetch from", name=name)
        elif not is_loopback(host):
            yield _("since {outside} is not on loopback", outside=f"uplinks.{name}")
    if draft.syndic and draft.syndic.url and not is_loopback(urlsplit(draft.syndic.url).hostname):
        yield _("since {outside} is not on loopback", outside="syndic")


def controlcheck(draft: ConfigDraft) -> None:
    """Report mistakes in the controls, and complete those that use the watchdog of a profile."""
    taken: dict[Spot, ValuePath] = {}
    for name, control in list(draft.controls.items()):
        path = ("controls", name)
        _alone(draft, path, control, taken)
        _commanded(draft, path, control)
        if control.device_watchdog.of_profile:
            draft.controls[name] = _watched(draft, path, control)
        _guards(draft, path, control)
        for where, reference in _other_written_points(control):
            _writable(draft, (*path, *where), reference)
        if control.device_watchdog.point:
            _same_line(draft, path, control)
        if control.measure:
            _point_options(draft, (*path, "measure"), control.measure)
        if control.inhibit:
            _seen(draft, (*path, "inhibit"), control.inhibit)


def _alone(
    draft: ConfigDraft, path: ValuePath, control: Control, taken: dict[Spot, ValuePath]
) -> None:
    """Check that no other control writes to the same place, even under another name.

    Controls of one device may share its watchdog.
    """
    for where, reference in ((("point",), control.point), *_other_written_points(control)):
        spot = _spot(draft, reference)
        mine: ValuePath = (*path, *where)
        if spot is None:
            continue
        other = taken.setdefault(spot, mine)
        if other == mine or (mine[-2:] == other[-2:] == DOG):
            continue
        what = _(
            "{other} in {line} writes to the same place; only one control may write to a place",
            other=shown(".".join(other[1:])),
            line=draft.report.line(other),
        )
        draft.report.value(mine, what)


def _spot(draft: ConfigDraft, reference: str) -> Spot | None:
    """The line, device and register of a point; None: unknown, which is reported elsewhere."""
    name, point = split(reference)
    device = draft.devices.get(name)
    options = wanted(device).get(point) if device else None
    if device is None or options is None or not options.at:
        return None
    # type and options do not count: holding/5/uint16 and holding/5/int16 are one register
    at = "/".join(options.at.partition(" ")[0].split("/")[:2])
    return device.link, device.address, at


def _watched(draft: ConfigDraft, path: ValuePath, control: Control) -> Control:
    """The control with the timeout of the watchdog in its device's profile."""
    name = split(control.point)[0]
    device = draft.devices.get(name)
    dog = watchdog(name, device) if device else None
    if dog is None:
        if device is not None:
            what = _("the profile of {device} names no watchdog", device=shown(name))
            draft.report.value((*path, "device_watchdog"), what)
        return control
    options = control.device_watchdog.model_copy(update={"timeout": float(dog.timeout)})
    return control.model_copy(update={"device_watchdog": options})


def _other_written_points(control: Control) -> Iterator[tuple[ValuePath, str]]:
    """The other points that a control writes, each with its path below the control."""
    if control.device_watchdog.point:
        yield DOG, control.device_watchdog.point
    if control.device_watchdog.heartbeat:
        yield ("device_watchdog", "heartbeat"), control.device_watchdog.heartbeat
    for purpose, reference in control.shown:
        if reference:
            yield ("shown", purpose), reference


def _commanded(draft: ConfigDraft, path: ValuePath, control: Control) -> None:
    if _writable(draft, (*path, "point"), control.point) is None:
        return
    device = draft.devices[split(control.point)[0]]
    link = draft.links.get(device.link)
    if link is None:
        return
    array = family(link.driver) == "bacnet"
    if control.restore == "relinquish" and not array:
        what = _(
            '"relinquish" is for BACnet only, and {driver} has no priorities: write preimage, or a'
            " value",
            driver=link.driver,
        )
        draft.report.value((*path, "restore"), what)
    if array and control.restore != "relinquish":
        draft.report.value(
            (*path, "restore"),
            _("on BACnet a control is released by emptying its priority: write relinquish"),
        )


def _same_line(draft: ConfigDraft, path: ValuePath, control: Control) -> None:
    """Check that the watchdog is on the line of the point: a release opens that line only."""
    dog, point = (
        draft.devices.get(split(one)[0])
        for one in (str(control.device_watchdog.point), control.point)
    )
    if dog and point and dog.link != point.link:
        what = _("the watchdog is on {link}, and the point is not", link=shown(dog.link))
        draft.report.value((*path, *DOG), what)


def _guards(draft: ConfigDraft, path: ValuePath, control: Control) -> None:
    if not control.guards and control.modality.action != "limit":
        what = _(
            "`guards` is missing: name points that must stay within bounds during a command,"
            " such as `guards: [{point: stairs/temp, min: 18.0}]`"
        )
        draft.report.key(path, what)
    lowest = control.sheet.lowest_supply if control.sheet else None
    watched = {("guards", str(n)): guard.point for n, guard in enumerate(control.guards)}
    if lowest is not None:
        watched["sheet", "lowest_supply"] = lowest.point
        _supply(draft, path, control, lowest)
    for section, reference in watched.items():
        where = (*path, *section, "point")
        options = _point_options(draft, where, reference)
        if options is None:
            continue
        every = int(options.every or draft.devices[split(reference)[0]].every)
        if every > SLOWEST_GUARD:
            what = _(
                "is read only every {every}; a guard must be read at least every 15min",
                every=written(every),
            )
            draft.report.value(where, f"{shown(reference)} {what}")


def _supply(
    draft: ConfigDraft, path: ValuePath, control: Control, lowest: LowestSupplyOptions
) -> None:
    """Check the lowest supply temperature: no value below it may be commanded (rule H34)."""
    where, limits = (*path, "sheet", "lowest_supply"), control.modality
    device, name = split(control.point)
    options = wanted(draft.devices[device]).get(name) if device in draft.devices else None
    temperature = options is not None and options.unit == "Cel"
    if limits.action == "setpoint" and temperature and lowest.commanded is None:
        what = _(
            "`commanded` is missing: write `commanded: true` if {point} is the supply temperature"
            " itself, `commanded: false` if it is another temperature",
            point=control.point,
        )
        draft.report.key(where, what)
    below = [value for value in (limits.min, *limits.choices) if value is not None]
    if lowest.commanded and (coldest := min(below, default=lowest.min)) < lowest.min:
        what = _(
            "the modality permits {value}, which is below the lowest supply temperature {lowest}",
            value=coldest,
            lowest=lowest.min,
        )
        draft.report.value((*where, "min"), what)
    if any(guard.name == SUPPLY for guard in control.guards):
        what = _(
            'a guard cannot have the name "{name}" beside a lowest supply temperature', name=SUPPLY
        )
        draft.report.key(where, what)


def _seen(draft: ConfigDraft, path: ValuePath, reference: str) -> None:
    """Check the operator's off switch."""
    options = _point_options(draft, path, reference)
    if options is None:
        return
    every = int(options.every or draft.devices[split(reference)[0]].every)
    if every > SLOWEST_SWITCH:
        what = _(
            "is read only every {every}; an off switch must be read at least every minute",
            every=written(every),
        )
        draft.report.value(path, f"{shown(reference)} {what}")


def _writable(draft: ConfigDraft, path: ValuePath, reference: str) -> PointOptions | None:
    """The point if it may be written; None: it may not, and the report says why."""
    options = _point_options(draft, path, reference)
    if options is None:
        return None
    device = split(reference)[0]
    if not options.writable:
        what = _(
            "{reference} may not be written: it needs `writable: true` under `devices`",
            reference=shown(reference),
        )
        draft.report.value(path, what)
        return None
    link = draft.links.get(draft.devices[device].link)
    if link and not issubclass(driver(link.driver), Writes):
        draft.report.value(path, _("{driver} cannot be written to", driver=link.driver))
        return None
    return options


def _point_options(draft: ConfigDraft, path: ValuePath, reference: str) -> PointOptions | None:
    """The point DEVICE/POINT; None: it is missing or invalid, and the report says why."""
    device, name = split(reference)
    if device not in draft.devices:
        # an invalid device has a problem of its own, and must not count as missing here
        if device not in draft.names("devices"):
            known = draft.names("devices")
            near = did_you_mean(device, known) or _("; there is {names}", names=or_list(known))
            draft.report.value(path, _("no device {device}{near}", device=shown(device), near=near))
        return None
    points = wanted(draft.devices[device])
    if name not in points:
        near = did_you_mean(name, points) or _("; it has {names}", names=or_list(list(points)))
        draft.report.value(
            path,
            _("{device} has no point {name}{near}", device=device, name=shown(name), near=near),
        )
        return None
    options = points[name]
    channel = channels().get(options.channel or "")
    if channel and options.unit and factor(options.unit, channel.unit) is None:
        return None  # pointcheck reports the unit
    return options


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
    elif QUOTED.fullmatch(device.address):
        draft.report.value(("devices", name, "address"), curly(device.address))
    elif link := draft.links.get(device.link):
        try:
            driver(link.driver).check(point(name, device, point_name, merged))
        except ValueError as error:
            what = in_language(error)
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
