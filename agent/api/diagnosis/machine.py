"""Checks of this machine: libraries, accounts, files, keys, disk and ports.

Those that the agent's account can make are made as this account, as the agent would meet them.
"""

from __future__ import annotations

import errno
import grp
import os
import platform
import pwd
import re
import shutil
import stat
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from agent.api.protection.breach import UNLIKE, Breaches
from agent.api.roles import GROUP, OLD_GROUP, READER, holders, missing, of_the_old_group
from agent.buffer.orphaned_spools import leftovers
from agent.config.check import PACKAGED_ACCOUNT, daemon_account, leftover, named_files, unreadable
from agent.config.strictcheck import samples_left
from agent.core.atomic_write import NO_ROOM
from agent.core.clock import seconds, stamp
from agent.core.errors import AgentError, NotForYou, Refused
from agent.core.finding import Actor, Finding, Severity, as_text
from agent.core.i18n import Text, _
from agent.core.optional import INSTALL
from agent.core.settings import Secret
from agent.core.storage import disk_stated, is_read_only, reason_of
from agent.enrolment import credential
from agent.gateway.uplink_state import UplinkShutdown
from agent.registry import identity
from agent.registry.place import shown

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
"""Debian's group for serial ports; it gives access to nothing else"""
RULES = "/etc/udev/rules.d/99-gardien.rules"
PLUGGED = ("ttyUSB", "ttyACM")
UNSAFE = frozenset(("adm", "disk", "docker", "kmem", "lxd", "root", "shadow", "sudo"))
"""groups that give root's power, or let read what only root should"""
FOR_GROUP = stat.S_IRGRP | stat.S_IWGRP
FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
UPDATER = Path("/usr/bin/unattended-upgrade")
MOUNTS = Path("/proc/self/mounts")
WORN = 0x08
"""of eMMC's life time estimate, in tenths: 80 % of the writes it can take (JESD84-B51, 7.4.28)"""
EXPIRES_SOON = 30
"""days before its end at which a certificate is reported"""
PROBE_BYTES = 65_536
"""written to the disk to see whether it takes it"""


def fine(code: str, subject: Text, what: Text) -> Finding:
    """Return the finding of a check that found nothing wrong."""
    return Finding(code=code, subject=subject, what=what, severity=Severity.FINE)


def unknown(code: str, subject: Text, what: Text) -> Finding:
    """Return the finding of a check without a result."""
    return Finding(code=code, subject=subject, what=what, severity=Severity.UNKNOWN)


def not_checked(why: Exception) -> Finding:
    """Return the finding for checks of files, ports and disk that could not be made."""
    return Finding(
        code="not-checked",
        subject=Text("agent"),
        what=Text("the files, the ports and the disk could not be checked: {why}", why=why),
        severity=Severity.LATER,
        cost=Text("What is wrong with them is not reported"),
        actor=Actor.INSTALLER,
        command="sudo gardien doctor",
    )


def no_access(code: str, subject: Text, path: Path) -> Finding:
    """Return the finding for a file that this account may not read: its state is unknown.

    Root that acts as the agent's account knows more: the agent cannot read it either.
    """
    if os.getuid() == 0:
        return Finding(
            code=code,
            subject=subject,
            what=Text("the agent's account may not read {path}", path=str(path)),
            severity=Severity.LATER,
            actor=Actor.INSTALLER,
            command="sudo gardien check",
        )
    text = Text("this account may not read {path}: sudo gardien doctor", path=str(path))
    return unknown(code, subject, text)


def versions() -> Iterator[Finding]:
    """Check that gardien's libraries are installed; show their versions."""
    held = {name: _version(name) for name in LIBRARIES}
    lacking = [name for name, version_ in held.items() if version_ is None]
    if lacking:
        yield Finding(
            code="versions",
            subject=Text("versions"),
            what=Text("these parts of the package are missing: {names}", names=lacking),
            severity=Severity.LATER,
            cost=Text("What needs them does not work"),
            actor=Actor.INSTALLER,
            command="sudo apt install --reinstall gardien",
        )
        return
    listed = ", ".join(f"{name} {version_}" for name, version_ in held.items())
    python = ".".join(map(str, sys.version_info[:3]))
    text = Text(
        "gardien {version}, Python {python}, {machine}; {parts}",
        version=_version("gardien"), python=python, machine=platform.machine(), parts=listed,
    )  # fmt: skip
    yield fine("versions", Text("versions"), text)


def updates() -> Iterator[Finding]:
    """Note where nothing installs Debian's security updates; silent otherwise."""
    if not UPDATER.exists():
        yield Finding(
            code="package",
            subject=Text("package"),
            what=Text("nothing installs Debian's security updates by itself"),
            severity=Severity.NOTE,
            cost=Text("Faults in the libraries that gardien uses stay until somebody upgrades"),
            actor=Actor.INSTALLER,
            command=f"{INSTALL} unattended-upgrades",
        )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def keys(state: Path) -> Iterator[Finding]:
    """Check that the gateway has its identity; show where its keys are."""
    subject = Text("keys")
    if not os.access(state, os.R_OK | os.X_OK, effective_ids=True):
        yield no_access("keys", subject, state)
        return
    if not (state / identity.KEYS).is_dir():
        yield no_keys(state)
        return
    try:
        with disk_stated(state):
            who = identity.load(state)
    except NotForYou:
        yield no_access("keys", subject, state / identity.KEYS)
        return
    except AgentError as error:
        yield Finding(
            code="keys",
            subject=subject,
            what=as_text(error),
            severity=Severity.LOST,
            cost=Text("The agent cannot start"),
            actor=Actor.INSTALLER,
        )
        return
    device, kind = mounted(state / identity.KEYS)
    text = Text(
        "gateway {gateway}; unencrypted in {folder}, on {device} ({kind}): whoever has the disk has"
        " the keys",
        gateway=shown(who.gateway),
        folder=str(state / identity.KEYS),
        device=device,
        kind=kind,
    )
    if who.spool_key_before:
        text = Text("{what}; the spool key is being rotated", what=text)
    yield fine("keys", subject, text)


def no_keys(state: Path) -> Finding:
    """Return the finding for a gateway without keys. New ones would not open what is here."""
    lost = isinstance(identity.absent(state), identity.LostIdentity)
    gone = Text(
        "the keys of this gateway are gone from {folder}, but its records are here",
        folder=str(state / identity.KEYS),
    )
    restore = Text(
        "Nothing can be stored or sent, and what waits here cannot be read without them. Put back a"
        " copy of that folder, or restore the backup (docs/replace.md). Make no new keys"
    )
    return Finding(
        code="keys",
        subject=Text("keys"),
        what=gone if lost else Text("this gateway has no identity yet"),
        severity=Severity.LOST,
        cost=restore if lost else Text("Nothing can be stored or sent"),
        cause="keys",
        actor=Actor.INSTALLER,
        command="" if lost else "sudo gardien key new",
    )


def breaches(state: Path) -> Iterator[Finding]:
    """Check the records of breaches against the audit chain."""
    if not os.access(state, os.R_OK | os.X_OK, effective_ids=True):
        return  # `keys` reports it
    altered: list[str] = []
    try:
        states = Breaches(state).compare_with_chain()
        altered = [f"{id_}: {Text(UNLIKE[how])}" for id_, how in states.items() if how in UNLIKE]
        what = Text("these records of breaches were altered or are gone: {which}", which=altered)
    except (OSError, Refused) as error:
        what, altered = as_text(error), [str(error)]
    if altered:
        yield Finding(
            code="breaches",
            subject=Text("breaches"),
            what=what,
            severity=Severity.LATER,
            cost=Text("Compare them with the pages that you kept (docs/privacy.md)"),
            actor=Actor.MANAGER,
            command="gardien privacy breach list",
            private=True,
        )


def secrets(config: Path) -> Iterator[Finding]:
    """Check that only root may read the files of secrets beside the configuration."""
    folder, subject = config.parent / "credentials", Text("secrets")
    # exists() raises if the parent is not readable, up to Python 3.12
    if not os.access(folder, os.F_OK):
        return
    if not os.access(folder, os.R_OK | os.X_OK):
        yield no_access("secrets", subject, folder)
        return
    held = [path for path in sorted(folder.iterdir()) if path.is_file()]
    wide = [str(path) for path in held if path.stat().st_mode & FOR_OTHERS]
    if wide:
        yield Finding(
            code="secrets",
            subject=subject,
            what=Text("other accounts may read secrets"),
            severity=Severity.LATER,
            actor=Actor.INSTALLER,
            command=f"sudo chmod 600 {' '.join(wide)}",
            count=len(wide),
        )
        return
    text = Text(
        "{number} in {folder}, readable by their owner only", number=len(held), folder=str(folder)
    )
    yield fine("secrets", subject, text)


def passwords(config: Config, folder: Path) -> Iterator[Finding]:
    """Check that the secrets that the uplinks name exist; `folder`: systemd's credentials."""
    for name, uplink in config.uplinks.items():
        for option in ("password", "key"):
            secret = getattr(uplink.settings, option, None)
            if isinstance(secret, Secret):
                subject = Text("uplink {uplink}: {option}", uplink=name, option=option)
                yield from _secret(subject, secret, folder)


def _secret(subject: Text, secret: Secret, folder: Path) -> Iterator[Finding]:
    """Yield what is wrong with the file of a secret.

    Nothing for a secret that only the service can read: an environment variable, or a credential
    that does not come from `folder`.
    """
    prefix, _, name = secret.name.partition("_")
    if secret.kind == "env" or (secret.kind == "credential" and prefix != "gardien"):
        return
    path = Path(secret.name) if secret.kind == "file" else folder / name
    values = {"secret": str(secret), "path": str(path)}
    try:
        if path.read_bytes().strip():
            return
        what = Text("{secret}: {path} is empty", **values)
    except PermissionError:
        yield no_access("secrets", subject, path)
        return
    except OSError as error:
        what = Text("{secret}: {path}: {why}", **values, why=error.strerror or str(error))
    yield Finding(
        code="secrets",
        subject=subject,
        what=what,
        severity=Severity.WAITING,
        cost=Text("The uplink cannot connect. Write the secret there"),
        actor=Actor.INSTALLER,
        command=f"sudoedit {path}",
    )


def permissions(files: Files, config: Config) -> Iterator[Finding]:
    """Check that the agent's account can read the configuration, the files it names, the state."""
    account = daemon_account(files.path, config.state)
    if account is None:
        return
    problems = unreadable(files, config, account)
    yield from problems
    if not problems:
        text = Text(
            "{account} can read the configuration, the files it names, and the state",
            account=account.pw_name,
        )
        yield fine("permissions", Text("permissions"), text)


def groups(account: str = PACKAGED_ACCOUNT) -> Iterator[Finding]:
    """Check that the agent's account is in no group that gives it root's power; silent if so."""
    # up to version 0.1.0 `gardien doctor` advised to put the account into group root
    try:
        numbers = os.getgrouplist(account, pwd.getpwnam(account).pw_gid)
    except KeyError:
        return
    for group in sorted(UNSAFE.intersection(map(_group_name, numbers))):
        yield Finding(
            code="permissions",
            subject=Text("permissions"),
            what=Text("{account} is in group {group}", account=account, group=group),
            severity=Severity.LATER,
            cost=Text("This gives it too much power over this machine"),
            actor=Actor.INSTALLER,
            command=f"sudo deluser {account} {group} && sudo systemctl restart gardien",
        )


def roles(building: Building) -> Iterator[Finding]:
    """Check who has which role, and who still has roles by the group of earlier versions."""
    subject = Text("roles")
    listed = "; ".join(
        f"{role}: {', '.join(who)}" for role, who in holders(building).items() if who
    )
    nobody = Text("only root has a role. Give one: sudo adduser NAME {group}", group=READER.group)
    yield fine("roles", subject, as_text(listed) if listed else nobody)
    for entry in missing(building):
        yield Finding(
            code="roles",
            subject=subject,
            what=Text(
                "building.roles names {entry}, which does not exist on this machine", entry=entry
            ),
            severity=Severity.LATER,
            actor=Actor.INSTALLER,
            command=f"sudo adduser {entry}" if not entry.startswith("%") else "",
        )
    members, kept = of_the_old_group(building)
    if members and kept:
        yield Finding(
            code="roles",
            subject=subject,
            what=Text(
                "{members}: because of group {old} they have the roles that nobody else has"
                " ({kept})",
                members=members,
                old=OLD_GROUP,
                kept=kept,
            ),
            severity=Severity.LATER,
            cost=Text(
                "Give each role to the right account (sudo adduser NAME {group}ROLE), then take"
                " them out",
                group=GROUP,
            ),
            actor=Actor.INSTALLER,
            command=f"sudo deluser NAME {OLD_GROUP}",
        )
    elif members:
        yield Finding(
            code="roles",
            subject=subject,
            what=Text("group {old} gives no role any more", old=OLD_GROUP),
            severity=Severity.LATER,
            actor=Actor.INSTALLER,
            command=f"sudo delgroup {OLD_GROUP}",
        )


def sample(config: Config) -> Iterator[Finding]:
    """Check that no id, name or basis of the package's sample is left in the configuration."""
    left = [".".join(map(str, path)) for path in samples_left(config.written)]
    if left:
        yield Finding(
            code="sample",
            subject=Text("configuration"),
            what=Text(
                "these options still have the values of the package's sample: {options}",
                options=left,
            ),
            outside=Text("the configuration still has values of the package's sample"),
            severity=Severity.LATER,
            cost=Text("Readings are filed under a building or a basis that is not yours"),
            cause="configuration",
            actor=Actor.INSTALLER,
            command="sudo gardien check",
            count=len(left),
        )


def certificate(state: Path) -> Iterator[Finding]:
    """Check the gateway's certificate; show how long it is valid and where its key is."""
    file, subject = credential.path(state), Text("certificate")
    if not os.access(state, os.R_OK | os.X_OK, effective_ids=True):
        return
    try:
        own, gateway = credential.load(state), identity.load(state)
    except NotForYou:
        yield no_access("certificate", subject, file)
        return
    except AgentError as error:
        if isinstance(identity.absent(state), identity.LostIdentity):
            return  # a new key would do harm: see `no_keys`
        # without a certificate nothing is wrong: not every uplink needs one
        severity = Severity.LATER if file.exists() else Severity.NOTE
        what = as_text(error)
        yield Finding(code="certificate", subject=subject, what=what, severity=severity)
        return
    now, ends = seconds(), credential.ends(own.certificate)
    problem = credential.unfit(own.certificate, gateway.gateway) or credential.alarm(
        own.certificate, now
    )
    device, kind = mounted(file)
    what = Text(
        "{validity}; its key is unencrypted in {file}, on {device} ({kind})",
        validity=problem or credential.validity(own.certificate, now),
        file=str(file),
        device=device,
        kind=kind,
    )
    if not problem:
        yield fine("certificate", subject, what)
        return
    yield Finding(
        code="certificate",
        subject=subject,
        what=what,
        severity=Severity.LATER,
        since=stamp(ends) if ends < now else None,
        until=None if ends < now else stamp(ends),
        actor=Actor.INSTALLER,
        command="sudo gardien key renew",
    )


def named_certificates(config: Config, now: float) -> Iterator[Finding]:
    """Check the certificates that the configuration names: those of CAs, platforms, recovery."""
    for needed in named_files(config):
        if needed.secret:
            continue
        try:
            held = credential.certificates(needed.path.read_bytes())
        except (OSError, ValueError, AgentError):
            continue  # what cannot be read is reported by `permissions`
        # of several CAs in one file, the one that lasts longest counts
        last = max(held, key=credential.ends)
        left, end = credential.days_left(last, now), stamp(credential.ends(last))
        if left > EXPIRES_SOON:
            continue
        values = {"path": str(needed.path), "option": needed.where, "days": left}
        ends = Text("the certificate {path} ({option}) ends in {days} days", **values)
        over = Text("the certificate {path} ({option}) has ended", **values)
        section, _dot, rest = needed.where.partition(".")
        uplink = rest.partition(".")[0] if section == "uplinks" else None
        yield Finding(
            code="certificate",
            subject=Text("certificate"),
            what=over if left < 0 else ends,
            severity=Severity.WAITING if left < 0 else Severity.LATER,
            since=end if left < 0 else None,
            until=None if left < 0 else end,
            cost=Text(
                "What needs it no longer works. Get its successor from whoever gave it to you"
            )
            if left < 0
            else Text("What needs it stops then. Get its successor from whoever gave it to you"),
            cause=f"uplink {uplink}" if uplink and left < 0 else "",
            uplink=uplink,
            actor=Actor.INSTALLER,
            command=f"sudo install -m 644 NEW.pem {needed.path}",
            outside=Text("a certificate that the configuration names ends"),
            about=str(needed.path),
        )


def disk(state: Path, config: Config | None) -> Iterator[Finding]:
    """Check that the disk takes a file, and has room for all that the spools may hold."""
    subject = Text("disk")
    if not state.exists():
        yield Finding(
            code="disk",
            subject=subject,
            what=Text("{folder} does not exist", folder=str(state)),
            severity=Severity.LOST,
            cost=Text("Nothing can be stored"),
            actor=Actor.INSTALLER,
            command="sudo gardien key new",
        )
        return
    device = mounted(state)[0]
    if broken := not_written(state, device):
        yield broken
        return
    free = shutil.disk_usage(state).free
    needed = len(config.uplinks) * config.spool.max + config.spool.reserve if config else 0
    readable = os.access(state, os.R_OK | os.X_OK, effective_ids=True)
    # what the spools hold already needs no more room
    kept = sum(file.stat().st_size for file in state.glob("spool-*.db")) if readable else 0
    text = Text(
        "{free:,} MB free on {device}, {needed:,} MB may be needed",
        free=free // 10**6,
        device=device,
        needed=needed // 10**6,
    )
    if needed - kept - free <= 0:
        yield fine("disk", subject, text)
        return
    yield Finding(
        code="disk",
        subject=subject,
        what=text,
        severity=Severity.LATER,
        cost=Text(
            "In a long outage readings are lost. Free some space, or set a smaller `spool: {max:"
            " …}`"
        ),
        actor=Actor.INSTALLER,
        cause="disk",
        command=f"sudo du -xh --max-depth=3 {state}",
    )


def not_written(state: Path, device: str) -> Finding | None:
    """Write a file to the disk and sync it. Return why that fails; None: it works, or this account
    may not write there.
    """
    path = state / "probe-doctor"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(handle, bytes(PROBE_BYTES), 0)
            os.fsync(handle)
        finally:
            os.close(handle)
            path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM} and not is_read_only(state):
            return None  # `permissions` reports it
        why = reason_of(error, state) or error.strerror or str(error)
        full = error.errno in NO_ROOM
        cost = Text(
            "New readings are kept in memory only, or lost. Replace the disk or card:"
            " docs/replace.md"
        )
        return Finding(
            code="disk",
            subject=Text("disk"),
            what=Text("{device} takes no file in {folder}: {why}", device=device,
                      folder=str(state), why=Text(why)),
            # a full disk loses nothing while the spools have room: the agent says once it does
            severity=Severity.LATER if full else Severity.LOST,
            cost=Text("The spools can no longer grow. Free some space") if full else cost,
            actor=Actor.INSTALLER,
            cause="disk",
            command=f"sudo du -xh --max-depth=3 {state}" if full else "",
        )  # fmt: skip
    return None


def wear(
    state: Path, blocks: Path = Path("/sys/class/block"), mounts: Path = MOUNTS
) -> Iterator[Finding]:
    """Check the wear of the flash: eMMC reports it, SD cards do not."""
    subject = Text("card wear")
    name = Path(mounted(state, mounts)[0]).name
    if not name.startswith("mmcblk"):
        return
    card = name.partition("p")[0]
    tenths = wear_tenths(state, blocks, mounts)
    if tenths is None:
        text = Text("{card} does not report it (SD cards do not): keep a spare card", card=card)
        yield unknown("card wear", subject, text)
        return
    text = Text(
        "{card} has used {least} to {most} % of its lifetime",
        card=card,
        least=tenths * 10 - 10,
        most=tenths * 10,
    )
    if tenths <= WORN:
        yield fine("card wear", subject, text)
        return
    yield Finding(
        code="card wear",
        subject=subject,
        what=text,
        severity=Severity.LATER,
        cost=Text("It may fail soon. Replace it: docs/replace.md"),
        actor=Actor.INSTALLER,
        cause="disk",
    )


def wear_tenths(
    state: Path, blocks: Path = Path("/sys/class/block"), mounts: Path = MOUNTS
) -> int | None:
    """Return up to which tenth of its lifetime the eMMC is used; None: the disk does not report it.

    Blocking.
    """
    # mmcblk0p2 is a partition: the kernel reports the wear of the whole card
    card = Path(mounted(state, mounts)[0]).name.partition("p")[0]
    try:
        levels = (blocks / card / "device/life_time").read_text(encoding="ascii").split()
        return max(int(level, 16) for level in levels)
    except (OSError, ValueError):
        return None


def mounted(path: Path, mounts: Path = MOUNTS) -> tuple[str, str]:
    """Return the device and the type of the file system that hold a path."""
    best = ("", "unknown", "unknown")
    where = str(path.resolve())
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        device, point, kind = line.split(" ")[:3]
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        # the longest match; of two mounts at one point the later one covers the earlier
        if inside and len(point) >= len(best[0]):
            best = (point, device, kind)
    return best[1], best[2]


def leftover_spools(config: Config) -> Iterator[Finding]:
    """Check that no values wait for a recipient that has no uplink any more."""
    recipients = {uplink.settings.recipient for uplink in config.uplinks.values()}
    removed = UplinkShutdown(config.state).removed
    for recipient, waits in leftovers(config.state, recipients):
        since = removed(recipient)
        yield replace(leftover(recipient, waits), since=None if since is None else stamp(since))


def lost_ports(config: Config) -> Iterator[Finding]:
    """Check that the serial port of each line is there."""
    for name, link in config.links.items():
        port = getattr(link.settings, "port", None)
        serial = Path(str(port)) if str(port).startswith("/dev/") else None
        if serial and not serial.exists():
            yield _no_port(name, str(port))


def _no_port(line: str, port: str) -> Finding:
    there = sorted(str(path) for path in Path("/dev/serial/by-id").glob("*"))
    gone = Text("line {line} is not read: {port} does not exist", line=line, port=port)
    nothing = Text(
        "line {line} is not read: {port} does not exist, and no USB adapter is plugged in",
        line=line,
        port=port,
    )
    return Finding(
        code="port",
        subject=Text("line {bus}", bus=line),
        what=gone if there else nothing,
        outside=Text("the adapter of line {line} is gone", line=line),
        severity=Severity.LOST,
        cost=Text(
            "The readings meanwhile are missing. Write the port that is plugged in as `port`:"
            " {ports}",
            ports=there,
        )
        if there
        else Text(
            "The readings meanwhile are missing. Plug it in. If the port has another name, correct"
            " `port`"
        ),
        actor=Actor.INSTALLER,
        cause=f"line {line}",
        command="ls -l /dev/serial/by-id",
    )


def ports(config: Config, held: set[str], account: str = PACKAGED_ACCOUNT) -> Iterator[Finding]:
    """Check that the serial ports of the lines exist and that the agent's account may open them.

    `held`: the lines that the agent has open; their ports are not opened a second time.
    """
    for name, link in config.links.items():
        port = getattr(link.settings, "port", None)
        if isinstance(port, str | Path) and str(port).startswith("/dev/"):
            yield _port(name, Path(port), account, held=name in held)


def _port(line: str, port: Path, account: str, *, held: bool) -> Finding:
    subject, values = Text("line {bus}", bus=line), {"port": str(port), "account": account}
    if not port.exists():
        return _no_port(line, str(port))
    facts = port.stat()
    problem = Finding(
        code="port",
        subject=subject,
        what=Text("{port} is not a serial port; look in /dev/serial/by-id", **values),
        severity=Severity.LOST,
        actor=Actor.INSTALLER,
        cause=f"line {line}",
    )
    if not is_serial(facts):
        return problem
    try:
        daemon = pwd.getpwnam(account)
    except KeyError:
        what = Text("{port} exists, but this machine has no account {account}", **values)
        return unknown("port", subject, what)
    groups = os.getgrouplist(account, daemon.pw_gid)
    # the kernel looks at one set of bits only: the owner's, else the group's, else the others'
    needed = FOR_GROUP if facts.st_gid in groups else stat.S_IROTH | stat.S_IWOTH
    if facts.st_uid == daemon.pw_uid:
        needed = stat.S_IRUSR | stat.S_IWUSR
    group = _group_name(facts.st_gid)
    if facts.st_mode & needed != needed:
        member = DIALOUT in map(_group_name, groups)
        remedy = port_remedy(port.resolve().name, group, facts.st_mode, account, member=member)
        what = Text("{account} may not open {port} (group {group})", **values, group=group)
        return Finding(
            code="port",
            subject=subject,
            what=what,
            severity=Severity.LOST,
            actor=Actor.INSTALLER,
            cause=f"line {line}",
            command=remedy,
        )
    if not held and (why := _not_opened(port)):
        what = Text("{port} cannot be opened: {why}", **values, why=why)
        return Finding(
            code="port",
            subject=subject,
            what=what,
            severity=Severity.LOST,
            cost=Text("Unplug the adapter and plug it in again, or replace it"),
            actor=Actor.INSTALLER,
            cause=f"line {line}",
        )
    return fine("port", subject, Text("{port} exists, and {account} may open it", **values))


def _not_opened(port: Path) -> str:
    """Open a port. Return why that fails; empty if it works, or if this account may not."""
    try:
        os.close(os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def is_serial(facts: os.stat_result, devices: Path = Path("/sys/dev/char")) -> bool:
    """Whether a file may be a serial port. A pseudo-terminal has no entry in `devices` and may."""
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
    """Return the commands that let an account open a serial port, and nothing else.

    `group`, `mode`: of the port; `member`: whether the account is in group dialout.
    """
    # the account never joins the port's own group: it may be root, disk or shadow
    join = f"sudo adduser {account} {DIALOUT}"
    if group == DIALOUT and mode & FOR_GROUP == FOR_GROUP:
        return f"{join} && sudo systemctl restart gardien"
    if group == "tty" and re.match(r"tty[A-Z]", name):
        return _(
            "sudo systemctl disable --now serial-getty@{name}.service # then delete console={name}"
            " from the kernel's command line, and reboot",
            name=name,
        )
    # the number of a USB adapter depends on the order in which they were plugged in
    kernel = re.sub(r"[0-9]+$", "[0-9]*", name) if name.startswith(PLUGGED) else name
    rule = f'SUBSYSTEM=="tty", KERNEL=="{kernel}", GROUP="{DIALOUT}", MODE="0660"'
    return (
        f"echo '{rule}' | sudo tee -a {RULES} && sudo udevadm control --reload"
        " && sudo udevadm trigger --subsystem-match=tty" + ("" if member else f" && {join}")
    )
