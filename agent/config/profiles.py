"""The device profiles at hand: gardien's own, and the manager's beside the configuration.

One of the manager's is a file in the folder `profiles/`, of the same form and as strictly checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.files import read_text
from agent.config.problem import at
from agent.config.profilecheck import profilecheck
from agent.config.report import Enough, ProblemReport
from agent.config.tree import Tree, read
from agent.config.yamlerror import YamlUnreadable
from agent.drivers.profile import SUFFIX, Profile, profile, profiles, with_manners
from agent.errors import ConfigError
from agent.i18n import _
from agent.settings import harmless

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.problem import Problem

FOLDER = "profiles"
MOST = 1000
"""files that are looked at in the folder"""


class Profiles:
    """What profiles there are, by name; the manager's are read when a device names them."""

    def __init__(self, folder: Path | None = None) -> None:
        self._own: dict[str, Path] = {}
        self._made: dict[str, Profile | tuple[Problem, ...]] = {}
        if folder is not None and folder.is_dir():
            files = sorted(folder.glob(f"*{SUFFIX}"))[:MOST]
            self._own = {path.name.removesuffix(SUFFIX): path for path in files}

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the manager's."""
        return tuple(self._own)

    def names(self) -> tuple[str, ...]:
        """All names, the manager's first."""
        return (*self._own, *(name for name in profiles() if name not in self._own))

    def take(self, name: str) -> Profile | tuple[Problem, ...]:
        """Give the profile of that name, or what is wrong with it. Raises KeyError for no such."""
        if name not in self._own:
            return profile(name)
        if name not in self._made:
            self._made[name] = examined(self._own[name])
        return self._made[name]

    def path(self, name: str) -> Path | None:
        """Where the manager's profile of that name lies; None for one of gardien's own."""
        return self._own.get(name)


def examined(path: Path) -> Profile | tuple[Problem, ...]:
    """Read a profile's file, or say all that is wrong with it. Raises ConfigError if unreadable."""
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
    """Read a profile's file. Raises ConfigError with all that is wrong with it."""
    result = examined(path)
    if isinstance(result, Profile):
        return result
    raise ConfigError("\n".join(str(problem) for problem in result))
