"""Check the points of devices: profile, address, channel, unit, and that no value comes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.explain import options
from agent.config.meancheck import meancheck
from agent.config.midnightcheck import midnightcheck
from agent.config.models import DeviceOptions
from agent.config.names import ILL_NAMED, NAME, no_unit
from agent.config.points import point, wanted
from agent.config.problem import did_you_mean, or_list
from agent.core.channels import channels
from agent.core.i18n import _
from agent.core.model import ValueKind
from agent.core.settings import shown, written
from agent.core.units import factor, units
from agent.drivers import driver, family
from agent.registry import place

if TYPE_CHECKING:
    from agent.config.compose import ConfigDraft
    from agent.config.models import DeviceConfig, PointOptions
    from agent.config.problem import Path

Slot = tuple[str, str, int]
"""place or device, channel and step, which only one point may have"""


def pointcheck(draft: ConfigDraft) -> None:
    """Report mistakes in devices and their points."""
    measured: dict[Slot, Path] = {}
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


def _path(name: str, device: DeviceConfig, point_name: str) -> Path:
    """The path of a point in the file; one that only the profile has is at `profile`."""
    if point_name in device.points:
        return ("devices", name, "points", point_name)
    return ("devices", name, "profile")


def _point(
    draft: ConfigDraft, path: Path, written_as: tuple[str, DeviceConfig, str, PointOptions]
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


def _quantity(draft: ConfigDraft, path: Path, merged: PointOptions) -> None:
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
    measured: dict[Slot, Path],
    path: Path,
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
