"""What is wrong with a device's points: profile, notation, channel, unit, and each value once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.channels import channels
from agent.config.compose import ILL_NAMED, NAME
from agent.config.explain import options
from agent.config.models import Device
from agent.config.points import point, profile_of, wanted
from agent.config.problem import did_you_mean, or_list
from agent.drivers import driver, family
from agent.drivers.profile import profiles
from agent.model import Kind
from agent.registry import place
from agent.settings import shown, written
from agent.units import factor, units

if TYPE_CHECKING:
    from agent.config.compose import Draft
    from agent.config.models import PointOptions
    from agent.config.problem import Path

Slot = tuple[str, str, int]
"""place or device, channel, step: what may be measured once only"""


def pointcheck(draft: Draft) -> None:
    """Add to the report what is wrong with devices and their points."""
    measured: dict[Slot, Path] = {}
    for name, device in draft.devices.items():
        _no_dwelling(draft, name, device)
        if not _profile_fits(draft, name, device):
            continue
        for point_name, merged in wanted(device).items():
            path = _path(name, device, point_name)
            _point(draft, path, (name, device, point_name, merged))
            _once(draft, measured, path, (name, device, merged))


def _no_dwelling(draft: Draft, name: str, device: Device) -> None:
    if device.place and device.place.startswith("D"):
        command = f"gardien meter assign {name} {place.shown(device.place)}"
        what = (
            "a dwelling is not named here, for whose a meter is changes: delete this line and"
            f" run `{command}`"
        )
        draft.report.value(("devices", name, "place"), what)


def _profile_fits(draft: Draft, name: str, device: Device) -> bool:
    path = ("devices", name, "profile")
    if device.profile is not None and device.profile not in profiles():
        near = did_you_mean(device.profile, profiles()) or f"; there is {or_list(profiles())}"
        draft.report.value(path, f"no profile {shown(device.profile)}{near}")
        return False
    known, link = profile_of(device), draft.links.get(device.link)
    if known and link and family(known.driver) != family(link.driver):
        what = f"a profile for {known.driver}, but {shown(device.link)} speaks {link.driver}"
        draft.report.value(path, f"{shown(device.profile)} is {what}")
        return False
    said = draft.entry("devices", name)
    if not device.profile and not said.get("points") and said.keys() <= set(options(Device)):
        what = "nothing says what to read: name its `profile`, or its values under `points`"
        draft.report.key(("devices", name), what)
    return True


def _path(name: str, device: Device, point_name: str) -> Path:
    """Say where a point is written; one of the profile only is written by its name."""
    if point_name in device.points:
        return ("devices", name, "points", point_name)
    return ("devices", name, "profile")


def _point(draft: Draft, path: Path, written_as: tuple[str, Device, str, PointOptions]) -> None:
    name, device, point_name, merged = written_as
    if not NAME.fullmatch(point_name):
        draft.report.key(path, ILL_NAMED)
    if merged.at is None:
        draft.report.key(path, _no_at(device, point_name))
    elif link := draft.links.get(device.link):
        try:
            driver(link.driver).check(point(name, device, point_name, merged))
        except ValueError as error:
            what = str(error)
            # a driver checks address and notation at once, and quotes what is wrong
            whose = shown(device.address) in what and device.address != merged.at
            draft.report.value(("devices", name, "address") if whose else (*path, "at"), what)
    _quantity(draft, path, merged)


def _no_at(device: Device, point_name: str) -> str:
    known = profile_of(device)
    if known is None:
        return "`at` is missing: where the value is on the device, such as `at: input/72/float32`"
    near = did_you_mean(point_name, known.points)
    offers = near or f"; it has {or_list(known.points)}"
    return (
        f"{shown(device.profile)} has no {shown(point_name)}{offers} (one of your own needs `at`)"
    )


def _quantity(draft: Draft, path: Path, merged: PointOptions) -> None:
    if merged.unit is not None and merged.unit not in units():
        draft.report.value((*path, "unit"), _no_unit(merged.unit))
    if merged.channel is None:
        if what := _only_of_an_index(merged):
            draft.report.value((*path, what), f"`{what}` needs a `channel`, such as elec.imp")
        return
    known = channels().get(merged.channel)
    if known is None:
        near = did_you_mean(merged.channel, channels()) or f"; there is {or_list(channels())}"
        draft.report.value((*path, "channel"), f"no channel {shown(merged.channel)}{near}")
    elif merged.unit is None:
        what = f"`unit` is missing: what the device counts in, such as `unit: {known.unit}`"
        draft.report.key(path, what)
    elif known.kind is not Kind.REG and (what := _only_of_an_index(merged)):
        kind = f"{known.name} is no index: only what a meter counts up has `{what}`"
        draft.report.value((*path, what), kind)
    elif merged.unit in units() and factor(merged.unit, known.unit) is None:
        what = f"{merged.unit} cannot be converted to {known.unit}, the unit of {known.name}"
        draft.report.value((*path, "unit"), what)


def _only_of_an_index(merged: PointOptions) -> str:
    words = {
        "rating": merged.rating,
        "rolls_at": merged.rolls_at,
        "intervals": merged.intervals or None,
    }
    return next((word for word, said in words.items() if said is not None), "")


OTHER_SPELLINGS = {"°C": "Cel", "C": "Cel", "degC": "Cel", "m³": "m3", "L": "l", "°": "deg"}


def _no_unit(unit: str) -> str:
    other = OTHER_SPELLINGS.get(unit)
    near = f'; did you mean "{other}"?' if other else did_you_mean(unit, units())
    return f"no unit {shown(unit)}{near or ', known are such as kWh, W, m3, Cel, %RH'}"


def _once(
    draft: Draft,
    measured: dict[Slot, Path],
    path: Path,
    of: tuple[str, Device, PointOptions],
) -> None:
    """Two values for one slot of one series could not be told apart at the platform."""
    name, device, merged = of
    if merged.channel is None:
        return
    step = int(merged.every or device.every)
    other = measured.setdefault((device.place or name, merged.channel, step), path)
    if other != path:
        what = (
            f"{merged.channel} of this place is read every {written(step)} already by"
            f" {'.'.join(other)} in line {draft.report.line(other)}"
        )
        draft.report.key(path, what)
