"""Device profiles: gardien's own, and those of the manager beside the configuration.

The manager's are files in the folder `profiles/`. They have the same form and the same checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.files import read_text
from agent.config.problem import at
from agent.config.profilecheck import profilecheck
from agent.config.report import Enough, ProblemReport
from agent.config.tree import Tree, read
from agent.config.yamlerror import YamlUnreadable
from agent.core.errors import ConfigError
from agent.core.i18n import _
from agent.core.settings import harmless
from agent.drivers.profile import SUFFIX, Profile, profile, profiles, with_manners

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.problem import Problem

FOLDER = "profiles"
MOST = 1000
"""files of the folder that are used"""


class Profiles:
    """All profiles, by name. The manager's are read when a device names them."""

    def __init__(self, folder: Path | None = None) -> None:
        self._own: dict[str, Path] = {}
        self._made: dict[str, Profile | tuple[Problem, ...]] = {}
        if folder is not None and folder.is_dir():
            files = sorted(folder.glob(f"*{SUFFIX}"))[:MOST]
            self._own = {path.name.removesuffix(SUFFIX): path for path in files}

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the manager's profiles."""
        return tuple(self._own)

    def names(self) -> tuple[str, ...]:
        """All names, those of the manager first."""
        return (*self._own, *(name for name in profiles() if name not in self._own))

    def take(self, name: str) -> Profile | tuple[Problem, ...]:
        """The profile of a name, or its problems. Raises KeyError if there is none."""
        if name not in self._own:
            return profile(name)
        # a thousand devices of one make read its file once
        if name not in self._made:
            self._made[name] = examined(self._own[name])
        return self._made[name]

    def path(self, name: str) -> Path | None:
        """The file of the manager's profile of a name; None: the manager has none of this name."""
        return self._own.get(name)


def examined(path: Path) -> Profile | tuple[Problem, ...]:
    """The profile in a file, or all its problems. Raises ConfigError if it cannot be read."""
    text, name = read_text(path), str(path)
    try:
        tree = read(text)
    except YamlUnreadable as error:
        return (at(error.place, name, "", harmless(error.what)),)
    report = ProblemReport(name, tree)
    try:
        made = _made(report, tree, path)
    except Enough:
        return report.problems()
    return report.problems() or with_manners(made)


def _made(report: ProblemReport, tree: Tree, path: Path) -> Profile:
    report.tree()
    made = report.build(Profile, tree.data, ())
    if made is None:
        raise Enough
    if path.name.removesuffix(SUFFIX) in profiles():
        report.value((), _("gardien has a profile with this name: rename the file"))
    profilecheck(report, made)
    return made


def whole(path: Path) -> Profile:
    """The profile in a file. Raises ConfigError with all its problems."""
    result = examined(path)
    if isinstance(result, Profile):
        return result
    raise ConfigError("\n".join(str(problem) for problem in result))
