"""The checks of `gardien doctor`: on this machine, and on the network."""

from __future__ import annotations

import grp
import os
import platform
import pwd
import re
import shutil
import socket
import ssl
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.api.protection.breach import UNLIKE, Breaches
from agent.api.roles import GROUP, OLD_GROUP, READER, holders, missing, of_the_old_group
from agent.config.check import PACKAGED_ACCOUNT, daemon_account, unreadable
from agent.core.clock import evidence, seconds
from agent.core.errors import AgentError, LinkLost, NotForYou, Refused, UplinkLost
from agent.core.i18n import _
from agent.core.settings import Secret
from agent.enrolment import credential, tls
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
MOUNTS = Path("/proc/self/mounts")
WORN = 0x08
"""of eMMC's life time estimate, in tenths: 80 % of the writes it can take (JESD84-B51, 7.4.28)"""
CONNECT_TIMEOUT = 5.0
"""seconds for one connection"""
PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443, "sftp": 22}
TLS = {"mqtts", "https"}
EXPIRES_SOON = 30
"""days before its end at which a certificate is reported"""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    what: str
    fine: bool | None
    """None: unknown"""
    text: str
    """the state, or the problem and what to do"""

    def members(self) -> dict[str, str | bool | None]:
        """Return the finding as `gardien doctor --json` prints it."""
        return {"what": self.what, "fine": self.fine, "said": self.text}


def no_access(what: str, path: Path) -> Finding:
    """Return the finding for a file that this account may not read: its state is unknown."""
    text = _("this account may not read {path}: sudo gardien doctor", path=path)
    return Finding(what, None, text)


def versions() -> Iterator[Finding]:
    """Check that gardien's libraries are installed; show their versions."""
    held = {name: _version(name) for name in LIBRARIES}
    lacking = [name for name, version_ in held.items() if version_ is None]
    python = ".".join(map(str, sys.version_info[:3]))
    listed = ", ".join(f"{name} {version_}" for name, version_ in held.items() if version_)
    text = f"gardien {_version('gardien')}, Python {python}, {platform.machine()}; {listed}"
    if lacking:
        text = f"{', '.join(lacking)} missing: sudo apt install --reinstall gardien"
    yield Finding("versions", not lacking, text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def keys(state: Path) -> Iterator[Finding]:
    """Check that the gateway has its identity; show where its keys are."""
    if not os.access(state, os.R_OK | os.X_OK):
        yield no_access("keys", state)
        return
    try:
        who = identity.load(state)
    except NotForYou:
        yield no_access("keys", state / identity.KEYS)
        return
    except AgentError as error:
        yield Finding("keys", False, str(error))
        return
    device, kind = _mounted(state / identity.KEYS)
    yield Finding(
        "keys",
        True,
        f"gateway {shown(who.gateway)}; unencrypted in {state / identity.KEYS}, on {device}"
        f" ({kind}):"
        " whoever has the disk has the keys"
        + ("; the spool key is being rotated" if who.spool_key_before else ""),
    )


def breaches(state: Path) -> Iterator[Finding]:
    """Check the records of breaches against the audit chain."""
    if not os.access(state, os.R_OK | os.X_OK):
        return  # `keys` reports it
    try:
        states = Breaches(state).compare_with_chain()
    except (OSError, Refused) as error:
        yield Finding("breaches", False, str(error))
        return
    altered = [f"{id_}: {_(UNLIKE[how])}" for id_, how in states.items() if how in UNLIKE]
    if altered:
        text = _(
            "these records of breaches were altered or are gone: {which}. Compare them with the"
            " pages that you kept (docs/privacy.md): gardien privacy breach list",
            which="; ".join(altered),
        )
        yield Finding("breaches", False, text)


def secrets(config: Path) -> Iterator[Finding]:
    """Check that only root may read the files of secrets beside the configuration."""
    folder = config.parent / "credentials"
    # exists() raises if the parent is not readable, up to Python 3.12
    if not os.access(folder, os.F_OK):
        return
    if not os.access(folder, os.R_OK | os.X_OK):
        yield no_access("secrets", folder)
        return
    held = [path for path in sorted(folder.iterdir()) if path.is_file()]
    wide = [str(path) for path in held if path.stat().st_mode & FOR_OTHERS]
    text = f"{len(held)} in {folder}, readable by their owner only"
    if wide:
        text = f"other accounts may read secrets: sudo chmod 600 {' '.join(wide)}"
    yield Finding("secrets", not wide, text)


def passwords(config: Config, folder: Path) -> Iterator[Finding]:
    """Check that the secrets that the uplinks name exist; `folder`: systemd's credentials."""
    for name, uplink in config.uplinks.items():
        for option in ("password", "key"):
            secret = getattr(uplink.settings, option, None)
            if isinstance(secret, Secret):
                yield from _secret(f"uplink {name}: {option}", secret, folder)


def _secret(what: str, secret: Secret, folder: Path) -> Iterator[Finding]:
    """Yield what is wrong with the file of a secret.

    Nothing for a secret that only the service can read: an environment variable, or a credential
    that does not come from `folder`.
    """
    prefix, _, name = secret.name.partition("_")
    if secret.kind == "env" or (secret.kind == "credential" and prefix != "gardien"):
        return
    path = Path(secret.name) if secret.kind == "file" else folder / name
    try:
        empty = not path.read_bytes().strip()
    except PermissionError:
        yield no_access(what, path)
        return
    except OSError as error:
        yield Finding(what, False, f"{secret}: {path}: {error.strerror}. Write the secret there")
        return
    if empty:
        yield Finding(what, False, f"{secret}: {path} is empty. Write the secret there")


def permissions(files: Files, config: Config) -> Iterator[Finding]:
    """Check that the agent's account can read the configuration, the files it names, the state."""
    account = daemon_account(files.path, config.state)
    if account is None:
        return
    lines = unreadable(files, config, account)
    for line in lines:
        yield Finding("permissions", False, line)
    if not lines:
        text = f"{account.pw_name} can read the configuration, the files it names, and the state"
        yield Finding("permissions", True, text)


def groups(account: str = PACKAGED_ACCOUNT) -> Iterator[Finding]:
    """Check that the agent's account is in no group that gives it root's power; silent if so."""
    # up to version 0.1.0 `gardien doctor` advised to put the account into group root
    try:
        numbers = os.getgrouplist(account, pwd.getpwnam(account).pw_gid)
    except KeyError:
        return
    for group in sorted(UNSAFE.intersection(map(_group_name, numbers))):
        text = (
            f"{account} is in group {group}, which gives it too much power over this machine:"
            f" sudo deluser {account} {group} && sudo systemctl restart gardien"
        )
        yield Finding("permissions", False, text)


def roles(building: Building) -> Iterator[Finding]:
    """Check who has which role, and who still has roles by the group of earlier versions."""
    listed = "; ".join(
        f"{role}: {', '.join(who)}" for role, who in holders(building).items() if who
    )
    nobody = _("only root has a role. Give one: sudo adduser NAME {group}", group=READER.group)
    yield Finding("roles", True, listed or nobody)
    for entry in missing(building):
        text = _("building.roles names {entry}, which does not exist on this machine", entry=entry)
        yield Finding("roles", False, text)
    members, kept = of_the_old_group(building)
    if members and kept:
        text = _(
            "{members}: because of group {old} they have the roles that nobody else has ({kept})."
            " Give each role to the right account: sudo adduser NAME {group}ROLE; then: sudo"
            " deluser NAME {old}",
            members=", ".join(members),
            kept=", ".join(kept),
            old=OLD_GROUP,
            group=GROUP,
        )
        yield Finding("roles", False, text)
    elif members:
        text = _("group {old} gives no role any more: sudo delgroup {old}", old=OLD_GROUP)
        yield Finding("roles", False, text)


def certificate(state: Path) -> Iterator[Finding]:
    """Check the gateway's certificate; show how long it is valid and where its key is."""
    file = credential.path(state)
    if not os.access(state, os.R_OK | os.X_OK):
        return
    try:
        own, gateway = credential.load(state), identity.load(state)
    except NotForYou:
        yield no_access("certificate", file)
        return
    except AgentError as error:
        # without a certificate nothing is wrong: not every uplink needs one
        fine = None if not file.exists() else False
        yield Finding("certificate", fine, str(error))
        return
    now = seconds()
    problem = credential.unfit(own.certificate, gateway.gateway) or credential.alarm(
        own.certificate, now
    )
    validity = credential.validity(own.certificate, now)
    device, kind = _mounted(file)
    where = f"; its key is unencrypted in {file}, on {device} ({kind})"
    yield Finding("certificate", not problem, (problem or validity) + where)


def disk(state: Path, config: Config | None) -> Iterator[Finding]:
    """Check that the disk has room for all that the spools may hold."""
    if not state.exists():
        yield Finding("disk", False, f"{state} does not exist. Create it: gardien key new")
        return
    free = shutil.disk_usage(state).free
    needed = len(config.uplinks) * config.spool.max + config.spool.reserve if config else 0
    # what the spools hold already needs no more room
    kept = sum(file.stat().st_size for file in state.glob("spool-*.db")) if _open(state) else 0
    missing_bytes = needed - kept - free
    text = f"{free // 10**6} MB free on {_mounted(state)[0]}, {needed // 10**6} MB may be needed"
    if missing_bytes > 0:
        text += ": free some space, or set a smaller `spool: {max: …}`"
    yield Finding("disk", missing_bytes <= 0, text)


def _open(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def wear(
    state: Path, blocks: Path = Path("/sys/class/block"), mounts: Path = MOUNTS
) -> Iterator[Finding]:
    """Check the wear of the flash: eMMC reports it, SD cards do not."""
    name = Path(_mounted(state, mounts)[0]).name
    if not name.startswith("mmcblk"):
        return
    # mmcblk0p2 is a partition: the kernel reports the wear of the whole card
    card = name.partition("p")[0]
    try:
        levels = (blocks / card / "device/life_time").read_text(encoding="ascii").split()
        tenths = max(int(level, 16) for level in levels)
    except (OSError, ValueError):
        text = f"{card} does not report it (SD cards do not): keep a spare card"
        yield Finding("card wear", None, text)
        return
    text = f"{card} has used {tenths * 10 - 10} to {tenths * 10} % of its lifetime"
    yield Finding("card wear", tenths <= WORN, text + ("" if tenths <= WORN else ": replace it"))


def _mounted(path: Path, mounts: Path = MOUNTS) -> tuple[str, str]:
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


def ports(config: Config, account: str = PACKAGED_ACCOUNT) -> Iterator[Finding]:
    """Check that the serial ports of the lines exist and that the agent's account may open them."""
    for name, link in config.links.items():
        port = getattr(link.settings, "port", None)
        if isinstance(port, str | Path) and str(port).startswith("/dev/"):
            yield _port(f"line {name}", Path(port), account)


def _port(what: str, port: Path, account: str) -> Finding:
    if not port.exists():
        there = sorted(str(one) for one in Path("/dev/serial/by-id").glob("*"))
        available = f"available: {', '.join(there)}" if there else "no USB adapter is plugged in"
        return Finding(what, False, f"{port} does not exist; {available}")
    facts = port.stat()
    if not _is_serial(facts):
        return Finding(what, False, f"{port} is not a serial port; look in /dev/serial/by-id")
    try:
        daemon = pwd.getpwnam(account)
    except KeyError:
        return Finding(what, None, f"{port} exists, but this machine has no account {account}")
    groups = os.getgrouplist(account, daemon.pw_gid)
    # the kernel looks at one set of bits only: the owner's, else the group's, else the others'
    needed = FOR_GROUP if facts.st_gid in groups else stat.S_IROTH | stat.S_IWOTH
    if facts.st_uid == daemon.pw_uid:
        needed = stat.S_IRUSR | stat.S_IWUSR
    if facts.st_mode & needed == needed:
        return Finding(what, True, f"{port} exists, and {account} may open it")
    group = _group_name(facts.st_gid)
    member = DIALOUT in map(_group_name, groups)
    remedy = port_remedy(port.resolve().name, group, facts.st_mode, account, member=member)
    return Finding(what, False, f"{account} may not open {port} (group {group}): {remedy}")


def _is_serial(facts: os.stat_result, devices: Path = Path("/sys/dev/char")) -> bool:
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
        return (
            f"a login console uses it: sudo systemctl disable --now serial-getty@{name}.service,"
            f" delete console={name} from the kernel's command line, and reboot"
        )
    # the number of a USB adapter depends on the order in which they were plugged in
    kernel = re.sub(r"[0-9]+$", "[0-9]*", name) if name.startswith(PLUGGED) else name
    rule = f'SUBSYSTEM=="tty", KERNEL=="{kernel}", GROUP="{DIALOUT}", MODE="0660"'
    return (
        f"echo '{rule}' | sudo tee -a {RULES} && sudo udevadm control --reload"
        " && sudo udevadm trigger --subsystem-match=tty" + ("" if member else f" && {join}")
    )


def components(status: dict[str, Any] | None) -> Iterator[Finding]:
    """Check whether an unexpected error has stopped a part of the running agent."""
    if status is None:
        return
    faults = status.get("faults", ())
    if not faults:
        yield Finding("components", True, "none has failed")
    for fault in faults:
        text = (
            f"stopped by an unexpected error since {fault['since']} ({fault['words']}). The agent"
            " restarts it by itself. Report the error: sudo gardien support-bundle --out FILE"
        )
        yield Finding(fault["component"], False, text)


def clock(config: Config | None, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Check that a time service keeps the clock, and that the agent trusts it."""
    if config is not None and config.clock.source == "system":
        yield Finding("clock", True, "trusted without a time service (`clock: {source: system}`)")
        return
    service = evidence()
    kept = service.kernel or service.touched is not None
    remedy = (
        "no time service sets it. Allow outgoing UDP 123 in the firewall, then: sudo apt install"
        " systemd-timesyncd"
    )
    yield Finding("clock", kept, "set by a time service" if kept else remedy)
    if status is not None and status["clock"] == "untrusted":
        why = status["clock_said"] or "the agent does not trust it yet"
        yield Finding("clock", False, f"readings wait without a date: {why}")


def disturbers(status: dict[str, Any] | None) -> Iterator[Finding]:
    """List devices that disturb a line, as the agent has heard."""
    for event in (status or {}).get("events", ()):
        if event["code"] == "line-disturbed":
            yield Finding("line", False, event.get("here") or event["text"])


def lines(config: Config, held: set[str]) -> Iterator[Finding]:
    """Check that each line that is a host can be reached, and that the BACnet port is free.

    Lines that the agent has open are not contacted: many devices accept one connection only.
    """
    for name, link in config.links.items():
        if name in held:
            yield Finding(f"line {name}", True, "the agent has it open")
            continue
        if link.driver == "bacnet":
            yield _local_port(f"line {name}", link.settings.address, link.settings.port)
            continue
        host = getattr(link.settings, "host", None)
        port = getattr(link.settings, "port", None)
        if isinstance(host, str) and isinstance(port, int):
            yield _connection(
                f"line {name}", host, port, "check that it is powered and in this network"
            )


def uplinks(config: Config, state: Path) -> Iterator[Finding]:
    """Check that each recipient can be reached and proves its identity."""
    for name, uplink in config.uplinks.items():
        parts = urlsplit(str(getattr(uplink.settings, "url", "")))
        if not parts.hostname or parts.scheme not in PORTS:
            continue
        what, port = f"uplink {name}", parts.port or PORTS[parts.scheme]
        remedy = f"check that the firewall lets TCP {port} out"
        finding = _connection(what, parts.hostname, port, remedy)
        yield finding
        # a host that does not answer would take the timeout a second time
        if finding.fine and parts.scheme in TLS:
            ca = getattr(uplink.settings, "ca", None)
            yield _tls_identity(what, parts.hostname, port, ca, credential.path(state))


def _local_port(what: str, address: str, port: int) -> Finding:
    from bacpypes3.pdu import IPv4Address  # both take a while to import

    from agent.drivers.bacnet.settings import station
    from agent.drivers.bacnet.wire import alone

    try:
        at = station(address, port)
        alone(IPv4Address(at))
    except LinkLost as error:
        return Finding(what, False, str(error))
    return Finding(what, True, f"{at} is an address of this machine, and free")


def _connection(what: str, host: str, port: int, remedy: str) -> Finding:
    try:
        # apart from the connection: a wrong name and a closed port have different remedies
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        text = f"the name {host} is not found ({error.strerror}): check the name and DNS"
        return Finding(what, False, text)
    address = addresses[0][4][0]
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        why = error.strerror or str(error)
        return Finding(what, False, f"{host} ({address}) port {port}: {why}: {remedy}")
    return Finding(what, True, f"{host} ({address}) port {port} accepts connections")


def _tls_identity(
    what: str, host: str, port: int, ca: Path | None, own_certificate: Path
) -> Finding:
    """Check that both sides prove their identity by TLS; no data is sent."""
    try:
        # an account that may not read our certificate tries without it
        context = tls.context(ca, own_certificate if os.access(own_certificate, os.R_OK) else None)
        with (
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            peer = secure.getpeercert() or {}
            tls_version = secure.version()
            _await_alert(secure)
    except UplinkLost as error:
        if ca is not None and isinstance(error.__cause__, PermissionError):
            return no_access(what, ca)
        return Finding(what, False, str(error))
    except (OSError, ValueError) as error:
        if own_certificate.exists() and not os.access(own_certificate, os.R_OK):
            # the error may be due to the certificate that this account could not present
            return no_access(what, own_certificate)
        return Finding(what, False, tls.explain(error, f"{host}:{port}", seconds()))
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(peer["notAfter"])), UTC)
    left = (ends - datetime.now(UTC)).days
    text = f"{tls_version}, its certificate is valid for {left} days"
    return Finding(
        what,
        left > EXPIRES_SOON,
        text + ("" if left > EXPIRES_SOON else ": the platform must renew it"),
    )


def _await_alert(secure: ssl.SSLSocket) -> None:
    """Wait up to 1 s for an alert. Raises OSError if the peer ends the connection.

    In TLS 1.3 a peer refuses our certificate only after the handshake (RFC 8446, 4.4.2.4).
    """
    secure.settimeout(1.0)
    with suppress(TimeoutError):
        if not secure.recv(1):
            raise OSError("it closes the connection; perhaps it refuses our certificate")
