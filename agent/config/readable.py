"""Check whether the agent's account can read all files that it needs. Only root can check."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from agent.config.profiles import FOLDER, Profiles
from agent.core.i18n import _
from agent.core.settings import Secret
from agent.core.state import DEFAULT_CONFIG, acting_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.config import Config
    from agent.config.files import Files

PACKAGED_ACCOUNT = "gardien"
CREDENTIALS = "credentials"
"""a folder beside the configuration that only systemd reads, as root"""


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


def unreadable(files: Files, config: Config, account: pwd.struct_passwd) -> list[str]:
    """A line for each file that the account cannot read, with the command that helps."""
    group = _group(account)
    home = files.path.absolute().parent
    problems = [
        _line(needed, closed, home, account.pw_name, group)
        for needed in _needed(files, config)
        if needed.path.exists() and (closed := _closed(needed.path, account)) is not None
    ]
    if lacking := _lacking_in_state(config.state, account):
        problems.append(
            _(
                "{path}: the agent runs as {account}, which cannot read and write this: sudo chown"
                " -R {account}:{group} {state}",
                path=lacking,
                account=account.pw_name,
                group=group,
                state=quote(str(config.state)),
            )
        )
    return problems


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
    for name, uplink in config.uplinks.items():
        yield from _named(uplink.settings, f"uplinks.{name}")
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
    """The folder on the way, or the path itself, that an account cannot read; None: it can."""
    real = path.resolve()
    with acting_as(account):
        # through a link, the folders of the link and those of its target must be open. Without
        # effective_ids the system would answer for root, which may read everything
        for folder in (*reversed(path.absolute().parents), *reversed(real.parents)):
            if not os.access(folder, os.X_OK, effective_ids=True):
                return folder
        wanted = os.R_OK | os.X_OK if real.is_dir() else os.R_OK
        return None if os.access(real, wanted, effective_ids=True) else path


def _line(needed: Needed, closed: Path, home: Path, account: str, group: str) -> str:
    path = f"{needed.path} ({needed.where})" if needed.where else str(needed.path)
    remedy = _remedy(needed, closed, home, account, group)
    if closed == needed.path:
        return _(
            "{path}: the agent runs as {account}, which cannot read this: {remedy}",
            path=path,
            account=account,
            remedy=remedy,
        )
    return _(
        "{path}: the agent runs as {account}, which cannot enter {folder}: {remedy}",
        path=path,
        account=account,
        folder=closed,
        remedy=remedy,
    )


def _remedy(needed: Needed, closed: Path, home: Path, account: str, group: str) -> str:
    path, what = quote(str(needed.path)), quote(str(closed))
    if needed.secret and closed == home / CREDENTIALS:
        return _(
            "write credential:gardien_{name} instead of file:{path}",
            name=needed.path.name,
            path=needed.path,
        )
    if closed == home or home in closed.absolute().parents:
        if needed.secret and closed == needed.path:
            return f"sudo chown {account} {what} && sudo chmod 600 {what}"
        return f"sudo chgrp {group} {what} && sudo chmod {_mode(closed)} {what}"
    if not needed.where:
        return _("move the configuration to {folder}", folder=DEFAULT_CONFIG.parent)
    # the copy would otherwise give that account any file of root to which its link leads (rule U17)
    if _planted(needed.path, account):
        return _("put the file itself, and no link, into {folder}", folder=home)
    copy = quote(str(home / needed.path.name))
    whose = f"-o {account} -m 600" if needed.secret else f"-g {group} -m 640"
    return _(
        "name a copy of it: sudo install {whose} {path} {copy}",
        whose=whose,
        path=path,
        copy=copy,
    )


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
