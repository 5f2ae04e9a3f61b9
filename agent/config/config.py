"""The checked configuration, from which the agent is assembled, with its controls."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pydantic import Field

from agent.acquisition.sums import ConfiguredSums
from agent.config.models import (
    Backup,
    Building,
    ClockSource,
    DeviceConfig,
    LinkConfig,
    PointOptions,
    Privacy,
    Section,
    SpoolLimits,
    Syndic,
    Updates,
    UplinkConfig,
)
from agent.config.web import Web
from agent.control import schedule
from agent.control.model import ConfiguredControl, WatchdogTarget, WriteTarget, split
from agent.control.settings import Control, modality
from agent.core.i18n import _
from agent.core.model import Point, ValueKind
from agent.core.quantities import channel_of_quantity, channels
from agent.drivers import driver, family
from agent.drivers.base import DeviceWatchdog, Stations
from agent.enrolment.settings import Enrolment
from agent.registry.aggregate import STEPS
from agent.trust.trust_list import TrustSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.control.model import Modality
    from agent.drivers.profile import Profile

DAY = 86_400
DEMO = "DEMO-1"
"""the policy under which sums are as fine as what is read: for loopback only"""
AFTER = {0: 0, 1: 1, 2: 4, 3: 14}
"""days after publication until a version is installed, by ring"""
BEFORE_A_HOLD = dt.timedelta(hours=2)
"""time before an order in which nothing is upgraded"""
FREE = "free"


def wanted(device: DeviceConfig) -> Mapping[str, PointOptions]:
    """The points that are read, by name; options in the file override those of the profile."""
    known = device.made
    names = [*(known.defaults if known else ()), *device.points]
    return {name: _merged(name, device, known) for name in dict.fromkeys(names)}


def _merged(name: str, device: DeviceConfig, known: Profile | None) -> PointOptions:
    written = device.points.get(name, PointOptions())
    if known is None or name not in known.points:
        return written
    offer = known.points[name]
    from_profile = {
        "at": offer.at,
        "channel": channel_of_quantity().get(name),
        "unit": offer.unit,
        "scale": offer.scale,
        "rating": offer.rating,
        "rolls_at": offer.rolls_at,
    }
    # an option that is not written is None here, and must not hide that of the profile
    over = {key: value for key, value in dict(written).items() if value is not None}
    return PointOptions.model_construct(**(dict(written) | from_profile | over))


def point(device_name: str, device: DeviceConfig, name: str, options: PointOptions) -> Point:
    """The point for drivers. `options.at` must be set."""
    channel = channels().get(options.channel or "")
    return Point(
        device=device_name,
        name=name,
        address=device.address,
        at=options.at or "",
        every=int(options.every or device.every),
        channel=options.channel,
        unit=options.unit or (channel.unit if channel else "1"),
        scale=Decimal(1) if options.scale is None else options.scale,
        place=device.place,
        rating=options.rating,
        rolls_at=options.rolls_at,
        writable=options.writable,
    )


def confirmed(device: DeviceConfig, driver_name: str, read: Point) -> bool:
    """Whether the factor of a point needs no proof (rule F15).

    M-Bus and BACnet devices state their unit. A Modbus register is what the file or the profile
    says that it is.
    """
    known, written = device.made, device.points.get(read.name, PointOptions())
    own = (written.at, written.unit, written.scale) != (None, None, None)
    profiled = known and read.name in known.points and not own and known.confirms(read.name)
    return family(driver_name) != "modbus" or bool(profiled)


def to_prove(device: DeviceConfig, read: Point) -> str:
    """What identifies the factor of a dwelling's index; empty for any other point."""
    index = read.channel is not None and channels()[read.channel].kind is ValueKind.REG
    if not index or read.place is not None:
        return ""
    known = device.made
    # without a serial number only its line and address say that it is still the same device
    where = None if known is not None and known.serial else (device.link, device.address)
    facts = (device.profile, read.at, read.unit, format(read.scale.normalize(), "f"), where)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def derived(index: Point) -> Point:
    """The point for the consumption in each step of an index; it is calculated, not read."""
    unit = channels()[str(index.channel)].unit
    name = f"{index.name}-interval"
    return replace(
        index, name=name, at="", unit=unit, scale=Decimal(1), derived=True, of=index.name
    )


def mean(source: Point, step: float) -> Point:
    """The point for the mean of a momentary value over each step; it is calculated, not read."""
    flow = derived(source)
    return replace(flow, name=f"{source.name}-mean", every=int(step), writable=False)


def watchdog(device_name: str, device: DeviceConfig) -> DeviceWatchdog | None:
    """The watchdog in the device's profile; None: it has none."""
    known = device.made
    if known is None or known.watchdog is None:
        return None
    watchdog_point, fallback = (
        replace(point(device_name, device, name, _merged(name, device, known)), writable=True)
        for name in (known.watchdog.point, known.watchdog.fallback)
    )
    return DeviceWatchdog(watchdog_point, Decimal(known.watchdog.timeout), fallback)


def serial_point(device_name: str, device: DeviceConfig) -> Point | None:
    """The point with the serial number of the device; None: its profile has none."""
    known = device.made
    if known is None or known.serial is None:
        return None
    return Point(device_name, "serial", device.address, known.serial.at, every=0)


def batteries(
    devices: Mapping[str, DeviceConfig], links: Mapping[str, LinkConfig]
) -> Iterator[tuple[Sequence[str], int]]:
    """The names of the devices on each battery, with the readings a day that it allows.

    The inputs of a pulse collector share one battery, so they come together.
    """
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, device in devices.items():
        together[device.link, _station(device, links)].append(name)
    for names in together.values():
        if most := _most([devices[name] for name in names]):
            yield names, most


def spacings(
    devices: Mapping[str, DeviceConfig], links: Mapping[str, LinkConfig]
) -> dict[str, float]:
    """The least time between two readings of a device in seconds, by its name."""
    # the devices on one battery get equal parts of its readings
    return {
        name: DAY * len(names) / most for names, most in batteries(devices, links) for name in names
    }


def _station(device: DeviceConfig, links: Mapping[str, LinkConfig]) -> str:
    link = links.get(device.link)
    with suppress(ValueError):  # an invalid address: pointcheck reports it
        if link and issubclass(kind := driver(link.driver), Stations):
            return kind.station(device.address)
    return device.address


def _most(devices: Sequence[DeviceConfig]) -> int | None:
    """The readings a day of one battery; None: no limit.

    `reads_a_day` in the configuration comes before that of profiles. The lowest one counts.
    """
    configured = [one.reads_a_day for one in devices if one.reads_a_day]
    from_profiles = [one.made.reads_a_day for one in devices if one.made and one.made.reads_a_day]
    return min(configured or from_profiles, default=None)


class Config(Section):
    """A whole configuration. Only `load` and `parse` make one, since they check it as a whole."""

    building: Building
    links: dict[str, LinkConfig]
    devices: dict[str, DeviceConfig]
    uplinks: dict[str, UplinkConfig]
    controls: dict[str, Control] = Field(default_factory=dict)
    privacy: Privacy = Field(default_factory=Privacy)
    clock: ClockSource = Field(default_factory=ClockSource)
    spool: SpoolLimits = Field(default_factory=SpoolLimits)
    enrolment: Enrolment | None = None
    updates: Updates | None = None
    """None: only people upgrade it"""
    trust: TrustSettings = Field(default_factory=TrustSettings)
    backup: Backup | None = None
    syndic: Syndic | None = None
    """None: people record leases and moves"""
    web: Web | None = None
    """None: the page is closed"""
    state: Path
    written: dict[str, Any] = Field({}, repr=False)
    """the plain data of the file"""

    def points(self) -> Mapping[str, tuple[Point, ...]]:
        """The points of each device, from its profile and the file, with derived points.

        Serial points are not among them.
        """
        return self._points

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 that changes with the meaning of the configuration, in hex."""
        # `written` has repr=False: a file that only looks different keeps its fingerprint
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def serial_point(self, device: str) -> Point | None:
        """The point with a device's serial number; None: its profile has none.

        It has `every` 0 and no channel: it is read when the line is opened, and is no reading.
        """
        return serial_point(device, self.devices[device])

    def point(self, reference: str) -> Point:
        """The point with the name DEVICE/POINT. Raises KeyError."""
        device, name = split(reference)
        return {one.name: one for one in self._points[device]}[name]

    def modality(self, control: str) -> Modality:
        """The modality of a control, with the steps and units of its guards."""
        options = self.controls[control]
        named = [one.point for one in options.watched]
        every = {one: (self.point(one).every, self.point(one).unit) for one in named}
        unit, sha256 = self.point(options.point).unit, agreed_sha256(self, control)
        return modality(control, options, unit, every, sha256)

    def watchdog(self, device: str) -> DeviceWatchdog | None:
        """The watchdog of a device, refreshed during a hold; None: its profile has none."""
        return watchdog(device, self.devices[device])

    @property
    def zone(self) -> ZoneInfo:
        """The building's time zone; its days begin at midnight in this zone."""
        return ZoneInfo(self.building.timezone)

    def midnight(self, day: dt.date) -> int:
        """The Unix second at which a day begins at the building."""
        return int(dt.datetime.combine(day, dt.time(), self.zone).timestamp())

    @cached_property
    def _points(self) -> Mapping[str, tuple[Point, ...]]:
        return {name: self._points_of(name) for name in self.devices}

    def _points_of(self, name: str) -> tuple[Point, ...]:
        device = self.devices[name]
        made = []
        for point_name, options in wanted(device).items():
            read = point(name, device, point_name, options)
            driver_name = self.links[device.link].driver
            states = confirmed(device, driver_name, read)
            made.append(replace(read, to_prove=to_prove(device, read), confirmed=states))
            if options.intervals:
                made.append(derived(made[-1]))
            if options.mean:
                made.append(mean(made[-1], options.mean))
        return tuple(made)


def sums_asked(config: Config, uplink: str) -> ConfiguredSums:
    """The sums over dwellings for one uplink: of channels for which the building has no meter."""
    points = [point for group in config.points().values() for point in group if not point.derived]
    own = [point for point in points if point.place is not None and point.place[0] == "B"]
    whole = {point.channel for point in own}
    read: dict[str, list[Point]] = {}
    for point in points:
        if point.place is None and point.channel in config.uplinks[uplink].sums:
            read.setdefault(str(point.channel), []).append(point)
    place, demo = config.building.place, config.privacy.policy == DEMO
    return ConfiguredSums(
        place or "",
        {channel: found for channel, found in read.items() if place and channel not in whole},
        config.privacy.fewest,
        config.zone,
        1 if demo else None,
        config.uplinks[uplink].withheld,
        config.uplinks[uplink].unproven == "withhold",
        tuple(point for point in own if point.channel in STEPS),
    )


def held(controls: Mapping[str, Mapping[str, Any]], now: dt.datetime) -> str:
    """Why an order forbids an upgrade now; empty: none does.

    `controls`: the answer to `control.list`.
    """
    for name, control in controls.items():
        if control["state"] != FREE:
            until = f" {_('until {time}', time=control['until'])}" if control.get("until") else ""
            state = _(control["state"])
            return _("{control} is {state}{until}", control=name, state=state, until=until)
        for event in control.get("next", ()):
            begin = dt.datetime.fromisoformat(event["begin"])
            # the agent restarts for an upgrade, and a failed one is replaced again
            if begin - now < BEFORE_A_HOLD:
                return _("{control} is commanded from {time}", control=name, time=event["begin"])
    return ""


def early(
    updates: Updates | None, published: dt.datetime | None, now: dt.datetime, zone: ZoneInfo
) -> str:
    """Why the configuration forbids an automatic upgrade now; empty: it does not."""
    if updates is None:
        return _("the configuration has no `updates`, so this gateway is only upgraded by hand")
    if not schedule.within([schedule.window(updates.window)], None, now.astimezone(zone)):
        return _("outside of {window}", window=updates.window)
    days = dt.timedelta(days=AFTER[updates.ring])
    # without a date every ring would take the version at once
    if days and published is None:
        return _(
            "the archive does not say when this version appeared, and ring {ring} waits",
            ring=updates.ring,
        )
    if days and published is not None and now < (due := published + days):
        day = due.astimezone(zone).strftime("%Y-%m-%d %H:%M")
        return _("ring {ring} takes this version from {day} on", ring=updates.ring, day=day)
    return ""


def control_definitions(config: Config) -> dict[str, ConfiguredControl]:
    """The definition of each control, by name."""
    return {name: _fitted(config, name) for name in config.controls}


def place(config: Config, reference: str) -> WriteTarget:
    """The target of a point, DEVICE/POINT."""
    return _place(config, config.point(reference))


def _place(config: Config, point: Point) -> WriteTarget:
    device = config.devices[point.device]
    link = config.links[device.link]
    # copied, not referred to: a hold may be released after its line left the file (rule H20)
    serial = config.serial_point(point.device)
    return WriteTarget(
        link=device.link,
        driver=link.driver,
        settings=link.settings.model_dump_json(),
        device=point.device,
        point=point.name,
        address=point.address,
        at=point.at,
        unit=point.unit,
        scale=str(point.scale),
        serial=serial.at if serial else "",
    )


def slots(config: Config, where: WriteTarget) -> tuple[int | None, int | None]:
    """Our BACnet priorities for ordinary and for emergency orders; None: a register has none."""
    if family(where.driver) != "bacnet":
        return (None, None)
    ordinary, emergency = config.links[where.link].settings.slots.ours
    return ordinary, emergency


def _fitted(config: Config, name: str) -> ConfiguredControl:
    control = config.controls[name]
    where = place(config, control.point)
    ours = slots(config, where)
    restore = control.restore if isinstance(control.restore, Decimal) else None
    # Earlier versions called WriteTarget `Place`. With another text, each control that was tested
    # before an upgrade would count as untested, and refuse every order.
    target = str(where).replace("WriteTarget(", "Place(", 1)
    speaks_for = f"{target}{ours}{control.restore}{control.device_watchdog}"
    return ConfiguredControl(
        modality=config.modality(name),
        place=where,
        slots=ours,
        restore=restore,
        fingerprint=hashlib.sha256(speaks_for.encode()).hexdigest()[:16],
        fallback=control.device_watchdog.fallback,
        watchdog=_watchdog(config, control),
        shown=_shown(config, control),
        to_sign=agreed_sha256(config, name) if control.sheet else "",
    )


def agreed_sha256(config: Config, name: str) -> str:
    """The hash of what was agreed for a control.

    With a sheet to sign it covers all that the sheet states: the building, what is written and
    where, and which points are watched. Without one it covers the options of the control alone, so
    that the versions on earlier sheets stay valid.
    """
    control = config.controls[name]
    if control.sheet is None:
        return control.sha256()
    where = place(config, control.point)
    points = [guard.point for guard in control.watched] + [control.inhibit or ""]
    watched = [place(config, point) for point in points if point]
    targets = [
        (one.driver, one.link, one.device, one.address, one.at, one.unit, one.scale)
        for one in (where, *watched)
    ]
    return control.sha256(name, config.building.name, repr(targets), repr(slots(config, where)))


def _shown(config: Config, control: Control) -> dict[str, WriteTarget]:
    """The points that show the operator what is held, by what they show."""
    targets = {word: place(config, point) for word, point in control.shown if point}
    if control.device_watchdog.heartbeat:
        targets["heartbeat"] = place(config, control.device_watchdog.heartbeat)
    return targets


def _watchdog(config: Config, control: Control) -> WatchdogTarget | None:
    """The device's own watchdog, from the control or from the device's profile; None: neither has
    one.
    """
    options = control.device_watchdog
    if options.of_profile:
        own = config.watchdog(split(control.point)[0])
        assert own is not None, "the check refuses a profile without one"
        return WatchdogTarget(
            _place(config, own.point), own.timeout, own.pause, _place(config, own.fallback)
        )
    if options.point is None or options.timeout is None:
        return None
    at = place(config, options.point)
    known = config.watchdog(at.device)
    fallback = None
    if known is not None and known.point.name == at.point:
        held, unit = known.fallback, known.fallback.unit
        fallback = replace(at, point=held.name, at=held.at, unit=unit, scale=str(held.scale))
    return WatchdogTarget(at, Decimal(str(options.timeout)), options.timeout / 2, fallback)
