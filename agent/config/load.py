"""Load a configuration from a file, or report all its mistakes (rule U1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.compose import ConfigDraft, compose
from agent.config.config import Config
from agent.config.crosscheck import controlcheck, crosscheck, linecheck, pointcheck
from agent.config.files import (
    Enough,
    Files,
    Include,
    ProblemReport,
    Tree,
    YamlUnreadable,
    no_files,
    read,
)
from agent.config.problem import EXPECTED, Problem, at, refusal
from agent.config.profiles import FOLDER, Profiles
from agent.config.strictcheck import strictcheck
from agent.core.i18n import _
from agent.core.settings import harmless, shown

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path, *, strict: bool = False, whole: bool = False) -> Config:
    """Read and check a file and those that it includes. No connection is opened.

    `strict`: as `gardien check`, which also refuses what an installed gateway tolerates (see
    strictcheck.py). `whole`: also check that no file was being written meanwhile. Raises
    ConfigError with all problems, one on each line: `config.yaml:12:9: devices.…: …`.
    """
    return checked(Files(path), strict=strict, whole=whole)


def checked(files: Files, *, strict: bool = False, whole: bool = False) -> Config:
    """Check texts as `load` does; they may not be on the disk yet."""
    # read before the folder of profiles: its error says that this account may not enter
    text = files.text()
    shelf = Profiles(files.path.parent / FOLDER)
    config = parse(text, str(files.path), files.include, shelf, strict=strict)
    if whole:
        files.must_be_whole()
    return config


def parse(
    text: str,
    name: str,
    include: Include = no_files,
    shelf: Profiles | None = None,
    *,
    strict: bool = False,
) -> Config:
    """Check a text as `load` does; `name`: the file, for messages. Raises ConfigError."""
    result = examine(text, name, include, shelf, strict=strict)
    if isinstance(result, Config):
        return result
    raise refusal(result)


def examine(
    text: str,
    name: str,
    include: Include = no_files,
    shelf: Profiles | None = None,
    *,
    strict: bool = False,
) -> Config | tuple[Problem, ...]:
    """The configuration of a text, or all its problems in the order of the files."""
    try:
        tree = read(text, include)
    except YamlUnreadable as error:
        return (at(error.place, name, "", harmless(error.what)),)
    report = ProblemReport(name, tree)
    try:
        draft = _checked(tree, report, shelf or Profiles())
        if strict:
            strictcheck(draft, tree.data)
    except Enough:
        return report.problems()
    return report.problems() or _config(draft)


def _checked(tree: Tree, report: ProblemReport, shelf: Profiles) -> ConfigDraft:
    report.tree()
    if not tree.data and not tree.wrong:
        report.value((), _("the file is empty: begin with a copy of config.example.yaml"))
    elif tree.data and not isinstance(tree.data, dict):
        what = _(
            "expected {expected} from the first column on, found {data}",
            expected=_(EXPECTED["dict"]),
            data=shown(tree.data),
        )
        report.value((), what)
    # without sections every further check would report the same mistake again
    if report.problems() and not isinstance(tree.data, dict):
        raise Enough
    draft = compose(tree.data, report, shelf)
    pointcheck(draft)
    crosscheck(draft)
    controlcheck(draft)
    linecheck(draft)
    return draft


def _config(draft: ConfigDraft) -> Config:
    """The configuration from a draft without problems."""
    return Config.model_validate(
        {
            "building": draft.building,
            "links": draft.links,
            "devices": draft.devices,
            "uplinks": draft.uplinks,
            "controls": draft.controls,
            "privacy": draft.privacy,
            "clock": draft.clock,
            "spool": draft.spool,
            "enrolment": draft.enrolment,
            "updates": draft.updates,
            "trust": draft.trust,
            "backup": draft.backup,
            "syndic": draft.syndic,
            "web": draft.web,
            "state": draft.top and draft.top.state,
            "written": draft.written,
        }
    )
