"""The command `gardien check`: mistakes, unreadable files, a summary. Opens no connection."""

from __future__ import annotations

import os
import pwd
from collections import Counter
from contextlib import suppress
from pathlib import Path
from shlex import quote
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.buffer.orphaned_spools import leftovers
from agent.config import estimates
from agent.config.config import AFTER
from agent.config.estimates import outage, wear
from agent.config.files import Files
from agent.config.load import checked
from agent.config.profiles import FOLDER, Profiles
from agent.config.strictcheck import refuse_start
from agent.core.errors import ConfigError
from agent.core.finding import Actor, Finding, Severity, exit_status, worst_first
from agent.core.i18n import N_, Text, _, duration, n_, size
from agent.core.optional import command
from agent.core.quantities import spoken
from agent.core.settings import Secret, written
from agent.core.state import DEFAULT_CONFIG, acting_as
from agent.drivers.base import Budgets
from agent.registry import place
from agent.registry.consent_policy import FLOORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.config.config import Config
    from agent.core.model import Point

DAY = 86_400
WIDTH = 80
NAMED = N_("{name}: {text}")
CLOCKS = {
    "ntp": N_("ntp: readings are dated once a time service keeps the clock"),
    "system": N_("system: trusted without a time service, for a demonstration only"),
}
Row = TypeVar("Row")
PACKAGED_ACCOUNT = "gardien"
CREDENTIALS = "credentials"
"""a folder beside the configuration that only systemd reads, as root"""


def summary(config: Config) -> str:
    """About ten lines of at most 80 columns: what is read, sent, kept, and what is missing."""
    rows = [
        *_building(config),
        *_lines(config),
        *_uplinks(config),
        *_controls(config),
        *_rules(config),
    ]
    return "\n".join(
        fill(
            f"{title:<10} {text}".rstrip(), WIDTH, subsequent_indent=" " * 13,
            break_on_hyphens=False, break_long_words=False,
        )
        for title, text in rows
    )  # fmt: skip


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
        text = f"{link.driver}, {devices}{_round(config, name)}"
        yield title, _(NAMED, name=name, text=text)
    every = Counter(point.every for of in config.points().values() for point in of if point.channel)
    for title, (step, number) in _titled(_("read"), sorted(every.items())):
        a_day = _("{number:,} readings a day", number=number * DAY // step)
        values = n_("{number:,} value", "{number:,} values", number)
        yield (
            title,
            _("{values} every {step}: {a_day}", values=values, step=duration(step), a_day=a_day),
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
        ", all read in {time} at best",
        time=duration(sum(settings.seconds(points) for points in mine)),
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
            seal=duration(settings.seal),
        )
        yield title, _(NAMED, name=name, text=text)
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
        for line in estimates.report(uplink, config):
            yield "", line


def _controls(config: Config) -> Iterator[tuple[str, str]]:
    for title, (name, control) in _titled(_("controls"), config.controls.items()):
        limits, unit = control.modality, config.point(control.point).unit
        bounds = (
            _("a choice")
            if limits.choices
            else _("{least} to {most} {unit}", least=limits.min, most=limits.max, unit=spoken(unit))
        )
        at_most = _("{time} at most", time=duration(limits.max_duration))
        text = f"{limits.action} {bounds}, {at_most}"
        yield title, _(NAMED, name=name, text=text)
        if control.sheet:
            lowest = control.sheet.lowest_supply
            supply = _("{value} °C", value=lowest.min) if lowest else _("none stated")
            yield (
                "",
                _(
                    "sheet for {operator}: lowest supply temperature {supply}, {notice}",
                    operator=control.sheet.operator, supply=supply,
                    notice=_("notice {time}", time=duration(limits.min_notice))
                    if limits.min_notice
                    else _("no notice"),
                ),
            )  # fmt: skip
            yield "", _("no order before it is signed: gardien control sheet {name}", name=name)
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
    elif devices := without_basis(config):
        yield "", _("! not sent, for the legal basis is missing: {devices}", devices=devices)
        yield "", _("write it below `privacy:`, with the day from which it applies:")
        yield "", "common: {basis: AG du 12 mai 2026, résolution 14, from: 2026-07-12}"
    yield _("clock"), _(CLOCKS[config.clock.source])
    yield _("kept in"), str(config.state)
    spool = config.spool
    yield (
        "",
        _(
            "at most {size} for each recipient; received batches for {time}",
            size=size(spool.max),
            time=duration(spool.keep),
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
            every=duration(syndic.every),
        )
        yield _("leases"), text
    yield from _titled(_("page"), _page(config))
    yield from _titled(_("flash"), wear(config))
    if of := config.updates:
        days = AFTER[of.ring]
        waits = n_("{number} day after it appears", "{number} days after it appears", days)
        yield _("updates"), _("each version {waits}, {window}", waits=waits, window=of.window)
    else:
        yield _("updates"), _("by hand only: sudo gardien-upgrade")


def _page(config: Config) -> Iterator[str]:
    """Where the page listens; nothing if it is closed."""
    if web := config.web:
        yield _("on {addresses}, for those with a password", addresses=", ".join(web.listen))
        for address in web.public:
            yield _(
                "! {address} is an address of the internet, where strangers try passwords: use one"
                " of the building's network, or a VPN",
                address=address,
            )


def _of_dwellings(config: Config) -> Iterator[Point]:
    for points in config.points().values():
        yield from (point for point in points if point.channel and point.place is None)


def _titled(title: str, rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    for row in rows:
        yield title, row
        title = ""


class Needed(NamedTuple):
    """A file or folder that the agent reads."""

    path: Path
    where: str
    """the option that names it; empty: the configuration, or a file beside it"""
    secret: bool = False


def daemon_account(config: Path, state: Path) -> pwd.struct_passwd | None:
    """The account under which the agent runs: the owner of its state directory.

    With the packaged configuration it is `gardien`, even if root owns the state. None: this process
    is not root, or the agent runs as root.
    """
    if os.geteuid() != 0:
        return None
    with suppress(OSError, KeyError):
        if owner := state.stat().st_uid:
            return pwd.getpwuid(owner)
    with suppress(KeyError):
        if config == DEFAULT_CONFIG:
            return pwd.getpwnam(PACKAGED_ACCOUNT)
    return None


def unreadable(files: Files, config: Config, account: pwd.struct_passwd) -> list[Finding]:
    """Return a finding for each file that the account cannot read, with the command that helps."""
    group = _group(account)
    home = files.path.absolute().parent
    problems = [
        _unreadable(needed, closed, home, account.pw_name, group)
        for needed in _needed(files, config)
        if needed.path.exists() and (closed := _closed(needed.path, account)) is not None
    ]
    if lacking := _lacking_in_state(config.state, account):
        what = Text(
            "{path}: the agent runs as {account}, which cannot read and write this",
            path=str(lacking),
            account=account.pw_name,
        )
        owner, state = f"{account.pw_name}:{group}", quote(str(config.state))
        cost = Text("So the agent cannot start")
        problems.append(_permission(what, f"sudo chown -R {owner} {state}", cost))
    return problems


def lacking_packages(config: Config) -> list[Finding]:
    """Return a finding for each uplink, and the syndic's export, whose package is not installed."""
    sections = {f"uplink {name}": one.settings for name, one in config.uplinks.items()}
    urls = {cause: getattr(one, "url", None) for cause, one in sections.items()}
    urls["syndic"] = config.syndic.url if config.syndic else None
    install = command("paramiko")
    return [
        Finding(
            code="package",
            subject=Text("package"),
            what=Text("{url} cannot be used: SFTP needs a package that is not installed", url=url),
            severity=Severity.WAITING,
            cause=cause,
            cost=Text("Nothing is sent there or fetched from there until it is installed"),
            actor=Actor.INSTALLER,
            command=install,
        )
        for cause, url in urls.items()
        if install and url and url.startswith("sftp:")
    ]


def _permission(what: Text, command: str, cost: Text | None = None) -> Finding:
    return Finding(
        code="permissions",
        subject=Text("permissions"),
        what=what,
        severity=Severity.LATER,
        cost=cost,
        actor=Actor.INSTALLER,
        command=command,
    )


def _group(account: pwd.struct_passwd) -> str:
    import grp  # noqa: PLC0415 -- for a remedy only

    try:
        return grp.getgrgid(account.pw_gid).gr_name
    except KeyError:
        return str(account.pw_gid)


def _needed(files: Files, config: Config) -> Iterator[Needed]:
    for path in files.paths():
        yield Needed(path, "")
    folder = files.path.parent / FOLDER
    shelf = Profiles(folder)
    own = {shelf.path(device.profile) for device in config.devices.values() if device.profile}
    if paths := sorted(path for path in own if path is not None):
        yield Needed(folder, "")
        yield from (Needed(path, "") for path in paths)
    yield from named_files(config)


def named_files(config: Config) -> Iterator[Needed]:
    """Yield the certificates, secrets and folders that the configuration names."""
    for name, uplink in config.uplinks.items():
        yield from _named(uplink.settings, f"uplinks.{name}")
        yield from (Needed(path, f"uplinks.{name}.carry_for") for path in uplink.carry_for)
    if config.enrolment is not None:
        yield from _named(config.enrolment, "enrolment")
    if config.backup is not None:
        yield Needed(config.backup.to, "backup.to")
    if config.syndic is not None:
        yield from _named(config.syndic, "syndic")
        if config.syndic.path is not None:
            yield Needed(config.syndic.path, "syndic.path")


def _named(settings: object, where: str) -> Iterator[Needed]:
    """The certificates and secrets that a section names."""
    for option in ("ca", "encrypt_for", "password", "key", "token"):
        value = getattr(settings, option, None)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Path):
                yield Needed(item, f"{where}.{option}")
            elif isinstance(item, Secret) and item.kind == "file":
                yield Needed(Path(item.name), f"{where}.{option}", secret=True)


def _closed(path: Path, account: pwd.struct_passwd) -> Path | None:
    """The folder on the way, or the path itself, that an account cannot read; None: it can.

    The path is opened, not only its mode looked at: a disk, a sandbox or a list of rights may say
    otherwise.
    """
    real = path.resolve()
    with acting_as(account):
        # through a link, the folders of the link and those of its target must be open. Without
        # effective_ids the system would answer for root, which may read everything
        for folder in (*reversed(path.absolute().parents), *reversed(real.parents)):
            if not os.access(folder, os.X_OK, effective_ids=True):
                return folder
        try:
            if real.is_dir():
                next(real.iterdir(), None)
            else:
                os.close(os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError:
            return path
        return None


def _unreadable(needed: Needed, closed: Path, home: Path, account: str, group: str) -> Finding:
    values = {
        "path": f"{needed.path} ({needed.where})" if needed.where else str(needed.path),
        "account": account,
    }
    what = Text("{path}: the agent runs as {account}, which cannot read this", **values)
    if closed != needed.path:
        what = Text(
            "{path}: the agent runs as {account}, which cannot enter {folder}",
            **values,
            folder=str(closed),
        )
    return _permission(what, *_remedy_for(needed, closed, home, account, group))


def _remedy_for(
    needed: Needed, closed: Path, home: Path, account: str, group: str
) -> tuple[str, Text | None]:
    """Return the command that lets the account read a file, and what it is for if that is not
    obvious. No command helps in every case.
    """
    path, what = quote(str(needed.path)), quote(str(closed))
    if needed.secret and closed == home / CREDENTIALS:
        return "", Text(
            "Write credential:gardien_{name} instead of file:{path}",
            name=needed.path.name,
            path=str(needed.path),
        )
    if closed == home or home in closed.absolute().parents:
        if needed.secret and closed == needed.path:
            return f"sudo chown {account} {what} && sudo chmod 600 {what}", None
        return f"sudo chgrp {group} {what} && sudo chmod {_mode(closed)} {what}", None
    if not needed.where:
        return "", Text("Move the configuration to {folder}", folder=str(DEFAULT_CONFIG.parent))
    # the copy would otherwise give that account any file of root to which its link leads (rule U17)
    if _planted(needed.path, account):
        return "", Text("Put the file itself, and no link, into {folder}", folder=str(home))
    copy = quote(str(home / needed.path.name))
    whose = f"-o {account} -m 600" if needed.secret else f"-g {group} -m 640"
    return f"sudo install {whose} {path} {copy}", Text("Name a copy of it in the configuration")


def _planted(path: Path, account: str) -> bool:
    """Whether an account may have chosen the file to which a path leads."""
    uid = pwd.getpwnam(account).pw_uid
    linked = path.resolve() != path.absolute()
    return linked or any(one.lstat().st_uid == uid for one in path.absolute().parents)


def _mode(path: Path) -> str:
    return "g+rx" if path.is_dir() else "g+r"


def _is_ours(path: Path, state: Path) -> bool:
    """Whether gardien wrote a file or folder of the state directory."""
    written = (".json", ".db", ".sqlite")
    return path.parent != state or path.is_dir() or path.name == "lock" or path.suffix in written


def _lacking_in_state(state: Path, account: pwd.struct_passwd) -> Path | None:
    """The first file or folder of the state directory that an account cannot use; no links."""
    if not state.is_dir():
        return None
    entries = [
        path
        for folder in (state, state / "keys")
        if folder.is_dir() and not folder.is_symlink()
        for path in sorted(folder.iterdir())
        if not path.is_symlink() and (path.is_file() or path.is_dir()) and _is_ours(path, state)
    ]
    with acting_as(account):
        for path in (state, *entries):
            wanted = os.R_OK | os.W_OK | (os.X_OK if path in {state, state / "keys"} else 0)
            # a running agent may have removed a file meanwhile
            there = path is state or os.path.lexists(path)
            if there and not os.access(path, wanted, effective_ids=True):
                return path
    return None


def check(path: Path) -> tuple[int, str]:
    """The exit status and the text: 0 and a summary of the configuration, or 1 and its problems."""
    files = Files(path)
    try:
        config = checked(files, strict=True, whole=True)
    except ConfigError as error:
        problems = str(error).splitlines()
        if _starts(files):
            cost = n_(
                "{number} problem: the agent starts with this file, but does not work as meant."
                " Correct it, then: gardien check",
                "{number} problems: the agent starts with this file, but does not work as meant."
                " Correct them, then: gardien check",
                len(problems),
            )
            return 1, f"{error}\n{cost}"
        cost = n_(
            "{number} problem: the agent does not start with this file; an agent that runs"
            " already keeps the previous one. Correct it, then: gardien check",
            "{number} problems: the agent does not start with this file; an agent that runs"
            " already keeps the previous one. Correct them, then: gardien check",
            len(problems),
        )
        return 1, "\n".join([str(error), *_remedy(error), cost])
    account = daemon_account(path, config.state)
    findings = lacking_packages(config) + (unreadable(files, config, account) if account else [])
    recipients = {one.settings.recipient for one in config.uplinks.values()}
    with acting_as(account):  # root must not open files that this account may have planted
        findings += [leftover(*one) for one in leftovers(config.state, recipients)]
    if status := exit_status(findings):
        lines = [finding.text.in_language() for finding in worst_first(findings)]
        return status, "\n".join([*lines, _("nothing was changed")])
    head = _("{path} is fine", path=path)
    if without_basis(config):
        head = _(
            "{path} has no mistakes, but readings of common plant are not sent: see below",
            path=path,
        )
    return 0, f"{head}\n\n{summary(config)}"


def _starts(files: Files) -> bool:
    """Whether the agent starts with the files. `gardien check` refuses more than that."""
    try:
        refuse_start(checked(files))
    except ConfigError:
        return False
    return True


def without_basis(config: Config) -> list[str]:
    """Return the devices of common plant, if the legal basis for sending is missing."""
    if config.privacy.common:
        return []
    return [name for name, device in config.devices.items() if device.place]


def _remedy(error: ConfigError) -> list[str]:
    """The command that helps if the file cannot be read."""
    if isinstance(error.__cause__, FileNotFoundError):
        return [_("start with a copy of config.example.yaml, or name your file: --config FILE")]
    if isinstance(error.__cause__, PermissionError):
        return [_("this account may not read it: sudo gardien check")]
    return []


def leftover(recipient: str, waits: int) -> Finding:
    """Return the finding for values of a recipient that has no uplink any more."""
    return Finding(
        code="leftover",
        subject=Text("uplinks"),
        what=Text(
            "uplinks: {number} values for {recipient} are kept but not sent: it has no uplink any"
            " more",
            number=waits,
            recipient=recipient,
        ),
        severity=Severity.WAITING,
        cost=Text(
            "Put the uplink back until they are delivered (gardien uplink close NAME --drain), or"
            " destroy them"
        ),
        actor=Actor.INSTALLER,
        command=f"gardien uplink close {recipient} --drop",
        count=waits,
        private=True,
        about=recipient,
    )
