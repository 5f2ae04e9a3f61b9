"""Check sections against each other: lines, addresses, recipients, and what needs loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.config.problem import did_you_mean, or_list
from agent.core.i18n import _
from agent.core.settings import is_loopback, shown
from agent.drivers import family

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.compose import ConfigDraft
    from agent.config.models import DeviceConfig
    from agent.config.problem import Path

PRIMARY_DIGITS = 3
"""digits of an M-Bus primary address; a longer address is the number of a meter"""


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
    demo: list[tuple[Path, str]] = []
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
