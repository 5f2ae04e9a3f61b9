"""Check sections against each other: lines, addresses, recipients, controls and their points."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.config.config import wanted, watchdog
from agent.config.problem import did_you_mean, or_list
from agent.control.model import split
from agent.core.i18n import _
from agent.core.quantities import channels, factor
from agent.core.settings import is_loopback, shown, written
from agent.drivers import driver, family
from agent.drivers.base import Writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.compose import ConfigDraft
    from agent.config.models import DeviceConfig, PointOptions
    from agent.config.problem import ValuePath
    from agent.control.settings import Control

PRIMARY_DIGITS = 3
"""digits of an M-Bus primary address; a longer address is the number of a meter"""
SLOWEST_GUARD = 900
"""seconds: the longest step of a guard; one that is read less often protects nothing"""
SLOWEST_SWITCH = 60
"""seconds: the longest step of an off switch; the person who turns it waits for its effect"""
DOG = ("device_watchdog", "point")
Spot = tuple[str, str, str]
"""line, device and register (or object) on it"""


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
                "{address} on {link} is already the address of {other} in {line}: one of"
                " the two is wrong",
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
                "{recipient} already receives through {other} in {line}: one recipient"
                " has one uplink",
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
        demo.append((("clock", "source"), _('"system" is for a demonstration: write "ntp"')))
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
            "{driver} has no priorities to relinquish: write preimage, or a value",
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
    for n, guard in enumerate(control.guards):
        where = (*path, "guards", str(n), "point")
        options = _point_options(draft, where, guard.point)
        if options is None:
            continue
        every = int(options.every or draft.devices[split(guard.point)[0]].every)
        if every > SLOWEST_GUARD:
            what = _(
                "is read only every {every}; a guard must be read at least every 15min",
                every=written(every),
            )
            draft.report.value(where, f"{shown(guard.point)} {what}")


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
