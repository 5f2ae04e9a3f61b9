"""The configuration file: an option of `gardien-receiver run` in each line, as `name = value`.

Its values are the defaults of all commands but `conform`; what the command line states counts.
"""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

ACCOUNT = "gardien-receiver"
FOLDER = Path("/etc/gardien-receiver")
"""both of the Debian package"""


class Refused(Exception):
    """What a person has to correct. Nothing was done."""


def read(path: Path) -> dict[str, tuple[int, str]]:
    """Line and value of each option. Raises Refused."""
    try:
        text = path.read_text("utf-8")
    except PermissionError as error:
        raise Refused(
            f"{path}: only root and the group {ACCOUNT} may read it. Put `sudo` before the command"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in written.partition("="))
        if not equals or not value:
            raise Refused(f"{path}:{number}: write NAME = VALUE, not `{written}`")
        if name in found:
            raise Refused(f"{path}:{number}: `{name}` is also in line {found[name][0]}")
        found[name] = (number, value)
    return found


def apply(path: Path, run: argparse.ArgumentParser, *commands: argparse.ArgumentParser) -> None:
    """Make its values, options of `run`, the defaults of these commands. Raises Refused."""
    known = _options(run)
    for name, (number, value) in read(path).items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise Refused(f"{path}:{number}: there is no option `{name}`{meant}")
        kind = known[name].type
        try:
            meaning = kind(value) if callable(kind) else value
        except ValueError as error:
            raise Refused(f"{path}:{number}: {name}: {error}") from error
        for command in commands:
            if name in _options(command):
                command.set_defaults(**{known[name].dest: meaning})


def _options(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {
        name.removeprefix("--"): action
        for action in command._actions  # noqa: SLF001 -- argparse has no other list of them
        for name in action.option_strings
        if name.startswith("--") and name not in {"--help", "--conf"}
    }


@contextmanager
def account(database: str) -> Iterator[None]:
    """Be the account of the service while root uses its database.

    PostgreSQL knows it by its name, and could not write files that root leaves in its folder.
    """
    try:
        own = pwd.getpwnam(ACCOUNT) if os.geteuid() == 0 else None
    except KeyError:
        own = None
    if own is None or not (database.startswith("postgres") or is_of(own.pw_uid, database)):
        yield
        return
    os.setegid(own.pw_gid)
    os.seteuid(own.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def is_of(uid: int, file: str) -> bool:
    """Whether a file exists and belongs to an account."""
    return Path(file).exists() and Path(file).stat().st_uid == uid
