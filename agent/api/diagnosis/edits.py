"""Whether the running agent uses the configuration that is on the disk."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from agent.config import load
from agent.config.problem import FIRST
from agent.config.profiles import FOLDER
from agent.core.clock import stamp
from agent.core.errors import ConfigError
from agent.core.finding import Actor, Finding, Severity
from agent.core.i18n import Plural, Text
from agent.gateway.supervisor import AT_A_START

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config

Versions = tuple[tuple[str, int, int], ...]
"""name, time of the last change and size of each file that may be part of a configuration"""


def edits(path: Path, config: Config) -> list[Finding]:
    """Return a finding if the files on the disk differ from the configuration in use.

    The agent's own account opens them, as its next start would. Blocking; files that have not
    changed since the last call are not read again.
    """
    versions = _versions(path)
    changed = max((time for _name, time, _size in versions), default=0)
    since = stamp(changed / 1e9) if changed else None
    try:
        fingerprint, at_a_start = _loaded(path, versions)
    except ConfigError as error:
        return [_unusable(path, error, since)]
    if fingerprint == config.fingerprint:
        return []
    restart = at_a_start != _at_a_start(config)
    return [
        Finding(
            code="edits",
            subject=Text("configuration"),
            what=Text("{path} was changed, and the agent still uses the old one", path=str(path)),
            outside=Text("the configuration was changed and not applied yet"),
            severity=Severity.LATER,
            since=since,
            cost=Text("The change has no effect yet"),
            actor=Actor.INSTALLER,
            command="sudo systemctl restart gardien" if restart else "sudo gardien reload",
        )
    ]


def _unusable(path: Path, error: ConfigError, since: str | None) -> Finding:
    problems = str(error).splitlines()
    what: Text = Plural(
        "the configuration has a mistake, and the agent still uses the old one: {first}",
        "the configuration has {number} mistakes, and the agent still uses the old one. The"
        " first: {first}",
        len(problems),
        first=error.text.values.get(FIRST, error.text),
    )
    if isinstance(error.__cause__, OSError):
        what = Text(
            "the agent cannot read {path} ({why}), and still uses the configuration that it has",
            path=str(path),
            why=error.__cause__.strerror or str(error.__cause__),
        )
    return Finding(
        code="configuration",
        subject=Text("configuration"),
        what=what,
        outside=Text("the configuration on the disk cannot be used"),
        severity=Severity.LATER,
        since=since,
        cost=Text("After the next restart or power cut the agent would not start"),
        cause="configuration",
        actor=Actor.INSTALLER,
        command="sudo gardien check",
    )


def _versions(path: Path) -> Versions:
    versions: list[tuple[str, int, int]] = []
    for folder in (path.parent, path.parent / FOLDER):
        with suppress(OSError):
            for file in sorted(folder.iterdir()):
                if file.suffix in {".yaml", ".yml"}:
                    facts = file.stat()
                    versions.append((str(file), facts.st_mtime_ns, facts.st_size))
    return tuple(versions)


@lru_cache(maxsize=1)
def _loaded(path: Path, _versions: Versions) -> tuple[str, int]:
    # errors are not cached: a file that cannot be read may become readable without a change. The
    # configuration is not kept either: it takes megabytes
    config = load(path)
    return config.fingerprint, _at_a_start(config)


def _at_a_start(config: Config) -> int:
    """Return a hash of the sections that are only read at a start."""
    return hash(tuple(repr(getattr(config, section)) for section in AT_A_START))
