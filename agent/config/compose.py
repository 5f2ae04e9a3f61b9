"""Build the sections from plain data, each by itself, so that one mistake hides no other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from agent.config.models import (
    ILL_NAMED,
    NAME,
    Backup,
    Building,
    ClockSource,
    DeviceConfig,
    DeviceOptions,
    LinkConfig,
    LinkOptions,
    PointOptions,
    Privacy,
    Section,
    SpoolLimits,
    Syndic,
    Top,
    Updates,
    UplinkConfig,
    UplinkOptions,
    driver_settings,
    transport_settings,
)
from agent.config.problem import did_you_mean, no_mapping, no_such_option, options
from agent.config.web import Web
from agent.control.settings import Control
from agent.core.i18n import _
from agent.core.settings import shown
from agent.drivers import DRIVERS, TAKEN_FOR, family
from agent.drivers.profile import Profile
from agent.enrolment.settings import Enrolment
from agent.trust.trust_list import TrustSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from agent.config.files import ProblemReport
    from agent.config.problem import ValuePath
    from agent.config.profiles import Profiles

SECTIONS = (
    "building",
    "links",
    "devices",
    "uplinks",
    "privacy",
    "controls",
    "clock",
    "spool",
    "enrolment",
    "trust",
    "backup",
    "updates",
    "syndic",
    "web",
)
SERIAL = {"modbus-tcp": "modbus-rtu", "modbus-rtu-tcp": "modbus-rtu", "mbus-tcp": "mbus"}
"""the driver for a serial port, by the one for the network"""
Single = TypeVar("Single", bound=Section)


@dataclass(slots=True)
class ConfigDraft:
    """The sections that are valid so far, and the plain data of the file."""

    report: ProblemReport
    written: Mapping[str, Any]
    shelf: Profiles
    building: Building | None = None
    links: dict[str, LinkConfig] = field(default_factory=dict)
    devices: dict[str, DeviceConfig] = field(default_factory=dict)
    uplinks: dict[str, UplinkConfig] = field(default_factory=dict)
    controls: dict[str, Control] = field(default_factory=dict)
    privacy: Privacy | None = None
    clock: ClockSource | None = None
    spool: SpoolLimits | None = None
    updates: Updates | None = None
    enrolment: Enrolment | None = None
    trust: TrustSettings | None = None
    backup: Backup | None = None
    syndic: Syndic | None = None
    web: Web | None = None
    top: Top | None = None

    def entry(self, section: str, name: str) -> dict[str, Any]:
        """The plain data of a line, device or uplink that was built."""
        entry: dict[str, Any] = self.written[section][name]
        return entry

    def spoken(self, link: str) -> str:
        """The protocol of a line, even if its other options are invalid; empty: unknown."""
        entries = self.written.get("links")
        entry = entries.get(link) if isinstance(entries, dict) else None
        driver_name = entry.get("driver") if isinstance(entry, dict) else None
        return (
            family(driver_name) if isinstance(driver_name, str) and driver_name in DRIVERS else ""
        )

    def names(self, section: str) -> list[str]:
        """The names in a section, including those of invalid entries."""
        entries = self.written.get(section)
        return list(entries) if isinstance(entries, dict) else []


def compose(written: Mapping[str, Any], report: ProblemReport, shelf: Profiles) -> ConfigDraft:
    """Build all valid sections and entries; the problems of the others go to the report."""
    draft = ConfigDraft(report, written, shelf)
    rest = {key: value for key, value in written.items() if key not in SECTIONS}
    # a line or device without indentation would otherwise be called an unknown section
    for key in [key for key, value in rest.items() if _misplaced(value)]:
        section = _misplaced(rest.pop(key))
        what = _("it is not indented enough: indent it below `{section}:`", section=section)
        report.key((key,), what)
    draft.top = report.build(Top, rest, (), beside=SECTIONS)
    if "building" in written:
        draft.building = report.build(Building, written["building"], ("building",))
    else:
        report.key((), _("`building` is missing, such as `building: {name: Résidence Les Alpins}`"))
    draft.privacy = report.build(Privacy, written.get("privacy"), ("privacy",))
    draft.clock = report.build(ClockSource, written.get("clock"), ("clock",))
    draft.spool = report.build(SpoolLimits, written.get("spool"), ("spool",))
    draft.trust = report.build(TrustSettings, written.get("trust"), ("trust",))
    # all options of `updates` have defaults: an empty section must not switch upgrades on
    if written.get("updates") is not None:
        draft.updates = report.build(Updates, written["updates"], ("updates",))
    if "enrolment" in written:
        draft.enrolment = report.build(Enrolment, written["enrolment"], ("enrolment",))
    if "backup" in written:
        draft.backup = report.build(Backup, written["backup"], ("backup",))
    if "syndic" in written:
        draft.syndic = report.build(Syndic, written["syndic"], ("syndic",))
    if "web" in written:
        draft.web = report.build(Web, written["web"], ("web",))
    _compose_entries(draft)
    return draft


def _compose_entries(draft: ConfigDraft) -> None:
    report = draft.report
    for name, entry in _entries(draft, "links"):
        if link := _link(report, entry, ("links", name)):
            draft.links[name] = link
    for name, entry in _entries(draft, "devices"):
        if device := _device(report, entry, ("devices", name)):
            draft.devices[name] = device
    for name, device in draft.devices.items():
        draft.devices[name] = _with_profile(draft, device)
    for name, entry in _entries(draft, "uplinks"):
        if uplink := _uplink(report, entry, ("uplinks", name)):
            draft.uplinks[name] = uplink
    for name, entry in _entries(draft, "controls"):
        if control := report.build(Control, entry, ("controls", name)):
            draft.controls[name] = control


def _with_profile(draft: ConfigDraft, device: DeviceConfig) -> DeviceConfig:
    """The device with the profile that it names, or with the default profile of its protocol."""
    name = device.profile
    if name is None and (known := TAKEN_FOR.get(draft.spoken(device.link))):
        name = known[bool(device.points)]
    if name is None or name not in draft.shelf.names():
        return device
    profile = draft.shelf.take(name)
    if isinstance(profile, Profile):
        return device.model_copy(update={"profile": name, "made": profile})
    for problem in profile:
        draft.report.add(problem)
    return device


def _entries(draft: ConfigDraft, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a section that are mappings; the others are reported."""
    entries = draft.written.get(section)
    if entries is None:
        return
    if not isinstance(entries, dict):
        draft.report.value((section,), no_mapping(entries))
        return
    # reported once: each option would otherwise count as an entry that is no mapping
    if outdented := _outdented(entries):
        name, strays = outdented
        what = _(
            "its options are not indented enough: indent {names} below it",
            names=", ".join(strays),
        )
        draft.report.key((section, name), what)
        entries = {key: entry for key, entry in entries.items() if key not in {name, *strays}}
    for name, entry in entries.items():
        if not NAME.fullmatch(name):
            draft.report.key((section, name), _(ILL_NAMED))
        if isinstance(entry, dict):
            yield name, entry
        else:
            draft.report.value((section, name), no_mapping(entry))


def _outdented(entries: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The first name with nothing below it, and the options beside it that belong below it."""
    hollow = next((name for name, entry in entries.items() if entry is None), None)
    strays = [n for n, e in entries.items() if e is not None and not isinstance(e, (dict, list))]
    return (hollow, strays) if hollow is not None and strays else None


def _misplaced(value: object) -> str | None:
    """The section to which a mapping at the top belongs, judging by its options; None: unknown."""
    entry = value if isinstance(value, dict) else {}
    signs = {"driver": "links", "transport": "uplinks", "link": "devices", "guards": "controls"}
    return next((section for word, section in signs.items() if word in entry), None)


def _link(report: ProblemReport, entry: dict[str, Any], path: ValuePath) -> LinkConfig | None:
    name = entry.get("driver")
    serial, port = SERIAL.get(str(name)), entry.get("port")
    if serial and isinstance(port, str) and port.startswith("/"):
        what = _(
            "{port} is a serial port, and the driver {name} is for the network: write"
            " `driver: {serial}` for a serial line, or `host:` in place of the port",
            port=shown(port),
            name=name,
            serial=serial,
        )
        report.value((*path, "port"), what)
        return None
    model = driver_settings(name)
    fields = _with_settings(report, entry, path, LinkOptions, model)
    return LinkConfig(**fields) if fields else None


def _uplink(report: ProblemReport, entry: dict[str, Any], path: ValuePath) -> UplinkConfig | None:
    model = transport_settings(entry.get("transport"))
    fields = _with_settings(report, entry, path, UplinkOptions, model)
    return UplinkConfig(**fields) if fields else None


def _with_settings(
    report: ProblemReport,
    entry: dict[str, Any],
    path: ValuePath,
    ours: type[Section],
    model: type[BaseModel] | None,
) -> dict[str, Any] | None:
    """Build an entry from `ours` and from `model`, that of its driver or transport.

    Returns the fields; None: it is invalid, and the report says why. `model` is None if the driver
    or transport is unknown.
    """
    own_options, theirs = options(ours), options(model)
    unknown = [key for key in entry if key not in own_options and key not in theirs]
    if model is None:
        # the options of an unknown driver or transport cannot be checked: without this each of them
        # would be reported, instead of the misspelt `driver` or `transport`
        unknown = [
            key
            for key in unknown
            if did_you_mean(key, own_options) and not entry.keys() & own_options
        ]
    for key in unknown:
        report.key((*path, key), no_such_option(key, [*own_options, *theirs]))
    # both are built even if the first is invalid, so that all mistakes are reported at once
    own = report.build(ours, _only(entry, own_options), path, unknown=unknown)
    settings = model and report.build(model, _only(entry, theirs), path, unknown=unknown)
    return dict(own) | {"settings": settings} if own and settings else None


def _only(entry: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key in keys}


def _device(report: ProblemReport, entry: dict[str, Any], path: ValuePath) -> DeviceConfig | None:
    """Build a device, each point by itself; of an invalid device keep what can still be checked."""
    whole = {key: value for key, value in entry.items() if key != "points"}
    device = report.build(DeviceOptions, whole, path) or _salvaged(whole)
    written = entry.get("points")
    if written is not None and not isinstance(written, dict):
        report.value((*path, "points"), no_mapping(written))
    points = {
        name: point
        for name, options in (written.items() if isinstance(written, dict) else ())
        if (point := report.build(PointOptions, options, (*path, "points", name)))
    }
    return DeviceConfig(**(dict(device) | {"points": points})) if device else None


def _salvaged(entry: dict[str, Any]) -> DeviceOptions | None:
    """The options that identify an invalid device, so that its points are still checked."""
    try:
        return DeviceOptions.model_validate({key: entry[key] for key in IDENTITY if key in entry})
    except ValidationError:
        return None


IDENTITY = ("link", "address", "profile")
