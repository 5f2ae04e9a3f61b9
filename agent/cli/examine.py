"""What `gardien doctor` looks at, short of the network: configuration, keys, disk, ports, clock."""

from __future__ import annotations

import grp
import os
import platform
import pwd
import re
import shutil
import stat
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import timesync
from agent.clock import seconds
from agent.config.readable import PACKAGED_ACCOUNT, daemon_account, unreadable
from agent.enrolment import credential, judge
from agent.errors import AgentError, NotForYou, Refused
from agent.i18n import _
from agent.protection.breach import UNLIKE, Breaches
from agent.registry import identity
from agent.registry.place import shown
from agent.roles import GROUP, OLD_GROUP, READER, holders, missing, of_the_old_group
from agent.settings import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import Config
    from agent.config.files import Files
    from agent.config.models import Building

LIBRARIES = (
    "cryptography",
    "bacpypes3",
    "paho-mqtt",
    "pydantic",
    "pyserial",
    "tinydb",
    "zstandard",
)
DIALOUT = "dialout"
"""Debian's group for serial ports, and for nothing else"""
RULES = "/etc/udev/rules.d/99-gardien.rules"
PLUGGED = ("ttyUSB", "ttyACM")
UNSAFE = frozenset(("adm", "disk", "docker", "kmem", "lxd", "root", "shadow", "sudo"))
"""groups that are as good as root, or read what only root should"""
FOR_GROUP = stat.S_IRGRP | stat.S_IWGRP
FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
MOUNTS = Path("/proc/self/mounts")
WORN = 0x08
"""of eMMC's life time estimate, in tenths: 80 % of the writes it can take (JESD84-B51, 7.4.28)"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer."""

    what: str
    fine: bool | None
    """None: nobody can say"""
    said: str
    """how it is, or what to do"""


def closed(what: str, path: Path) -> Finding:
    """What this account may not look at: nothing is known to be wrong."""
    said = _("{path} is not for this account: sudo gardien doctor looks at it", path=path)
    return Finding(what, None, said)


def versions() -> Iterator[Finding]:
    """What runs here."""
    held = {name: _version(name) for name in LIBRARIES}
    lacking = [name for name, one in held.items() if one is None]
    python = ".".join(map(str, sys.version_info[:3]))
    listed = ", ".join(f"{name} {one}" for name, one in held.items() if one)
    said = f"gardien {_version('gardien')}, Python {python}, {platform.machine()}; {listed}"
    if lacking:
        said = f"{', '.join(lacking)} missing: sudo apt install --reinstall gardien"
    yield Finding("versions", not lacking, said)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def keys(state: Path) -> Iterator[Finding]:
    """Whether the gateway has its identity, and where the keys lie."""
    if not os.access(state, os.R_OK | os.X_OK):
        yield closed("keys", state)
        return
    try:
        who = identity.load(state)
    except NotForYou:
        yield closed("keys", state / identity.KEYS)
        return
    except AgentError as error:
        yield Finding("keys", False, str(error))
        return
    device, kind = _mounted(state / identity.KEYS)
    yield Finding(
        "keys",
        True,
        f"gateway {shown(who.gateway)}; plain in {state / identity.KEYS}, on {device} ({kind}):"
        " who has the disk has them"
        + ("; the spool key is being rotated" if who.spool_key_before else ""),
    )


def breaches(state: Path) -> Iterator[Finding]:
    """Whether the records of breaches are those that were written, by the audit chain."""
    if not os.access(state, os.R_OK | os.X_OK):
        return  # `keys` says that the state is not for this account
    try:
        standing = Breaches(state).compare_with_chain()
    except (OSError, Refused) as error:
        yield Finding("breaches", False, str(error))
        return
    unlike = [f"{id_}: {_(UNLIKE[how])}" for id_, how in standing.items() if how in UNLIKE]
    if unlike:
        said = _(
            "not the records that were written: {which}. gardien privacy breach list;"
            " docs/privacy.md",
            which="; ".join(unlike),
        )
        yield Finding("breaches", False, said)


def secrets(config: Path) -> Iterator[Finding]:
    """Whether the files of secrets beside the configuration are for root alone."""
    folder = config.parent / "credentials"
    if not os.access(folder, os.F_OK):  # exists() raises where its folder is closed, up to 3.12
        return
    if not os.access(folder, os.R_OK | os.X_OK):
        yield closed("secrets", folder)
        return
    held = [path for path in sorted(folder.iterdir()) if path.is_file()]
    wide = [str(path) for path in held if path.stat().st_mode & FOR_OTHERS]
    said = f"{len(held)} in {folder}, for their owner alone"
    if wide:
        said = f"others may read what only root should: sudo chmod 600 {' '.join(wide)}"
    yield Finding("secrets", not wide, said)


def passwords(config: Config, folder: Path) -> Iterator[Finding]:
    """Whether the secrets that the uplinks name are where they say; `folder`: systemd's."""
    for name, uplink in config.uplinks.items():
        for option in ("password", "key"):
            secret = getattr(uplink.settings, option, None)
            if isinstance(secret, Secret):
                yield from _secret(f"uplink {name}: {option}", secret, folder)


def _secret(what: str, secret: Secret, folder: Path) -> Iterator[Finding]:
    """What a file of a secret lacks; nothing of one that only the service itself can find."""
    prefix, _, name = secret.name.partition("_")
    if secret.kind == "env" or (secret.kind == "credential" and prefix != "gardien"):
        return
    path = Path(secret.name) if secret.kind == "file" else folder / name
    try:
        empty = not path.read_bytes().strip()
    except PermissionError:
        yield closed(what, path)
        return
    except OSError as error:
        yield Finding(what, False, f"{secret} is {path}: {error.strerror}: write it there")
        return
    if empty:
        yield Finding(what, False, f"{secret} is {path}, which is empty")


def permissions(files: Files, config: Config) -> Iterator[Finding]:
    """Whether the agent's account can read the configuration, what it names, and its own state."""
    account = daemon_account(files.path, config.state)
    if account is None:
        return
    lines = unreadable(files, config, account)
    for line in lines:
        yield Finding("permissions", False, line)
    if not lines:
        said = f"{account.pw_name} can read the configuration and what it names, and its state"
        yield Finding("permissions", True, said)


def groups(account: str = PACKAGED_ACCOUNT) -> Iterator[Finding]:
    """Whether the agent's account is in a group that gives it the machine. Silent where not.

    `gardien doctor` up to version 0.1.0 advised group root.
    """
    try:
        numbers = os.getgrouplist(account, pwd.getpwnam(account).pw_gid)
    except KeyError:
        return
    for group in sorted(UNSAFE.intersection(map(_group_name, numbers))):
        said = (
            f"{account} is in group {group} and can do more on this machine than it should:"
            f" sudo deluser {account} {group} && sudo systemctl restart gardien"
        )
        yield Finding("permissions", False, said)


def roles(building: Building) -> Iterator[Finding]:
    """Who may ask what at the local door, and whom the group of before still lets do more."""
    listed = "; ".join(
        f"{role}: {', '.join(who)}" for role, who in holders(building).items() if who
    )
    nobody = _("nobody but root may ask it: sudo adduser NAME {group}", group=READER.group)
    yield Finding("roles", True, listed or nobody)
    for entry in missing(building):
        said = _("building.roles names {entry}, which this machine does not have", entry=entry)
        yield Finding("roles", False, said)
    members, kept = of_the_old_group(building)
    if members and kept:
        said = _(
            "{members}: by group {old} they keep the roles that nobody else has ({kept}). Give"
            " each role to whom it belongs: sudo adduser NAME {group}ROLE; then: sudo deluser NAME"
            " {old}",
            members=", ".join(members),
            kept=", ".join(kept),
            old=OLD_GROUP,
            group=GROUP,
        )
        yield Finding("roles", False, said)
    elif members:
        said = _("group {old} gives nothing any more: sudo delgroup {old}", old=OLD_GROUP)
        yield Finding("roles", False, said)


def certificate(state: Path) -> Iterator[Finding]:
    """Whether the gateway can prove who it is, for how long, and where its key lies."""
    file = credential.path(state)
    if not os.access(state, os.R_OK | os.X_OK):
        return
    try:
        own, who = credential.load(state), identity.load(state)
    except NotForYou:
        yield closed("certificate", file)
        return
    except AgentError as error:
        told = None if not file.exists() else False
        yield Finding("certificate", told, str(error))
        return
    now = seconds()
    said = judge.unfit(own.certificate, who.gateway) or judge.alarm(own.certificate, now)
    how = judge.validity(own.certificate, now)
    device, kind = _mounted(file)
    where = f"; its key is plain in {file}, on {device} ({kind})"
    yield Finding("certificate", not said, (said or how) + where)


def disk(state: Path, config: Config | None) -> Iterator[Finding]:
    """Whether what may be kept has room."""
    if not state.exists():
        yield Finding("disk", False, f"{state} does not exist: `gardien key new` makes it")
        return
    free = shutil.disk_usage(state).free
    wanted = len(config.uplinks) * config.spool.max + config.spool.reserve if config else 0
    kept = sum(one.stat().st_size for one in state.glob("spool-*.db")) if _open(state) else 0
    lacking = wanted - kept - free
    said = f"{free // 10**6} MB free on {_mounted(state)[0]}, {wanted // 10**6} MB may be needed"
    if lacking > 0:
        said += ": make room, or write a smaller `spool: {max: …}`"
    yield Finding("disk", lacking <= 0, said)


def _open(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def wear(
    state: Path, blocks: Path = Path("/sys/class/block"), mounts: Path = MOUNTS
) -> Iterator[Finding]:
    """How worn the card is, where it says so: eMMC does, SD cards do not."""
    name = Path(_mounted(state, mounts)[0]).name
    if not name.startswith("mmcblk"):
        return
    card = name.partition("p")[0]
    try:
        told = (blocks / card / "device/life_time").read_text(encoding="ascii").split()
        tenths = max(int(word, 16) for word in told)
    except (OSError, ValueError):
        yield Finding("card wear", None, f"{card} does not say (SD cards do not): keep a spare one")
        return
    said = f"{card} has used {tenths * 10 - 10} to {tenths * 10} % of its life"
    yield Finding("card wear", tenths <= WORN, said + ("" if tenths <= WORN else ": replace it"))


def _mounted(path: Path, mounts: Path = MOUNTS) -> tuple[str, str]:
    """Device and file system on which a path lies."""
    best = ("", "unknown", "unknown")
    where = str(path.resolve())
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        device, point, kind = line.split(" ")[:3]
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, device, kind)
    return best[1], best[2]


def ports(config: Config, account: str = PACKAGED_ACCOUNT) -> Iterator[Finding]:
    """Whether the serial ports of the lines are there and may be opened by the agent's account."""
    for name, link in config.links.items():
        port = getattr(link.settings, "port", None)
        if isinstance(port, str | Path) and str(port).startswith("/dev/"):
            yield _port(f"line {name}", Path(port), account)


def _port(what: str, port: Path, account: str) -> Finding:
    if not port.exists():
        there = sorted(str(one) for one in Path("/dev/serial/by-id").glob("*"))
        seen = f"; there are: {', '.join(there)}" if there else "; no USB adapter is plugged in"
        return Finding(what, False, f"{port} is not there{seen}")
    facts = port.stat()
    if not _is_serial(facts):
        return Finding(what, False, f"{port} is no serial port; they are in /dev/serial/by-id")
    try:
        daemon = pwd.getpwnam(account)
    except KeyError:
        return Finding(what, None, f"{port} is there; the account {account} is not on this machine")
    groups = os.getgrouplist(account, daemon.pw_gid)
    wanted = FOR_GROUP if facts.st_gid in groups else stat.S_IROTH | stat.S_IWOTH
    if facts.st_uid == daemon.pw_uid:
        wanted = stat.S_IRUSR | stat.S_IWUSR
    if facts.st_mode & wanted == wanted:
        return Finding(what, True, f"{port} is there and for {account}")
    group = _group_name(facts.st_gid)
    member = DIALOUT in map(_group_name, groups)
    remedy = port_remedy(port.resolve().name, group, facts.st_mode, account, member=member)
    return Finding(what, False, f"{port} is for the group {group}, not for {account}: {remedy}")


def _is_serial(facts: os.stat_result, devices: Path = Path("/sys/dev/char")) -> bool:
    """Whether a file may be a serial port; a pseudo-terminal, which has no entry there, may be."""
    device = f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"
    subsystem = devices / device / "subsystem"
    return stat.S_ISCHR(facts.st_mode) and (
        not subsystem.exists() or subsystem.resolve().name == "tty"
    )


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def port_remedy(name: str, group: str, mode: int, account: str, *, member: bool) -> str:
    """Say what gives a serial port to an account, and nothing else with it.

    `group`, `mode`: of the port; `member`: whether the account is in group dialout. The account
    never joins another group: that of a port may be root, disk or shadow.
    """
    join = f"sudo adduser {account} {DIALOUT}"
    if group == DIALOUT and mode & FOR_GROUP == FOR_GROUP:
        return f"{join} && sudo systemctl restart gardien"
    if group == "tty" and re.match(r"tty[A-Z]", name):
        return (
            f"a login console uses it: sudo systemctl disable --now serial-getty@{name}.service,"
            f" delete console={name} from the kernel's command line, and start the machine anew"
        )
    # the number of a USB adapter depends on the order in which they were plugged in
    kernel = re.sub(r"[0-9]+$", "[0-9]*", name) if name.startswith(PLUGGED) else name
    rule = f'SUBSYSTEM=="tty", KERNEL=="{kernel}", GROUP="{DIALOUT}", MODE="0660"'
    return (
        f"echo '{rule}' | sudo tee -a {RULES} && sudo udevadm control --reload"
        " && sudo udevadm trigger --subsystem-match=tty" + ("" if member else f" && {join}")
    )


def components(status: dict[str, Any] | None) -> Iterator[Finding]:
    """Whether an unexpected error has stopped a part of the running agent."""
    if status is None:
        return
    faults = status.get("faults", ())
    if not faults:
        yield Finding("components", True, "none has failed")
    for one in faults:
        said = f"an unexpected error since {one['since']} ({one['words']}); tried again by itself."
        yield Finding(
            one["component"],
            False,
            f"{said} Report it: sudo gardien support-bundle --out FILE",
        )


def clock(config: Config | None, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Whether the time is kept by a time service, and believed."""
    if config is not None and config.clock.source == "system":
        yield Finding("clock", True, "believed as it is (`clock: {source: system}`)")
        return
    found = timesync.evidence()
    kept = found.kernel or found.touched is not None
    remedy = "no time service keeps it: sudo apt install systemd-timesyncd, and let UDP 123 out"
    yield Finding("clock", kept, "kept by a time service" if kept else remedy)
    if status is not None and status["clock"] == "untrusted":
        why = status["clock_said"] or "the agent does not trust it yet"
        yield Finding("clock", False, f"readings wait undated: {why}")


def disturbers(status: dict[str, Any] | None) -> Iterator[Finding]:
    """Which devices, as the agent has heard, break a line for the others."""
    for event in (status or {}).get("events", ()):
        if event["code"] == "line-disturbed":
            yield Finding("line", False, event.get("here") or event["text"])
