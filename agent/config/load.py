"""From a file to a configuration, or to everything that is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.compose import Draft, compose
from agent.config.config import Config
from agent.config.crosscheck import crosscheck
from agent.config.explain import EXPECTED
from agent.config.linecheck import linecheck
from agent.config.pointcheck import pointcheck
from agent.config.problem import Place, Problem
from agent.config.report import Enough, Report
from agent.config.tree import Tree, read
from agent.config.yamlerror import Unreadable
from agent.errors import ConfigError
from agent.settings import harmless, shown

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 1_000_000
"""bytes of a file; 10,000 devices are some 800,000"""


def load(path: Path) -> Config:
    """Read and check a file, opening no connection.

    Raises ConfigError with all that is wrong, one a line: `config.yaml:12:9: devices.…: …`.
    """
    try:
        with path.open("rb") as file:
            written = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(_text(written, str(path)), str(path))


def parse(text: str, name: str) -> Config:
    """Check a text as `load` does; `name` stands for the file in messages."""
    found = examine(text, name)
    if isinstance(found, Config):
        return found
    raise ConfigError("\n".join(str(problem) for problem in found))


def examine(text: str, name: str) -> Config | tuple[Problem, ...]:
    """Make a configuration of a text, or give all its problems in the order of the file."""
    try:
        tree = read(text)
    except Unreadable as error:
        return (Problem(name, *error.place, "", harmless(error.what)),)
    report = Report(name, tree)
    try:
        draft = _checked(tree, report)
    except Enough:
        return report.problems()
    return report.problems() or _config(draft)


def _checked(tree: Tree, report: Report) -> Draft:
    report.tree()
    if not tree.data and not tree.wrong:
        report.value((), "the file is empty: begin with a copy of config.example.yaml")
    elif tree.data and not isinstance(tree.data, dict):
        what = f"expected {EXPECTED['dict']} from the first column on, found {shown(tree.data)}"
        report.value((), what)
    if report.problems() and not isinstance(tree.data, dict):
        raise Enough
    draft = compose(tree.data, report)
    pointcheck(draft)
    crosscheck(draft)
    linecheck(draft)
    return draft


def _config(draft: Draft) -> Config:
    """Put together what the report has nothing against."""
    return Config.model_validate(
        {
            "building": draft.building,
            "links": draft.links,
            "devices": draft.devices,
            "uplinks": draft.uplinks,
            "privacy": draft.privacy,
            "clock": draft.clock,
            "spool": draft.spool,
            "state": draft.top and draft.top.state,
        }
    )


def _text(written: bytes, name: str) -> str:
    if len(written) > LARGEST:
        raise ConfigError(f"{name}: larger than {LARGEST:,} bytes: this is no configuration")
    try:
        return written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place, what = _not_utf8(written, error.start)
        raise ConfigError(str(Problem(name, *place, "", what))) from error


def _not_utf8(written: bytes, start: int) -> tuple[Place, str]:
    before = written[:start]
    line_start = before.rfind(b"\n") + 1
    column = len(before[line_start:].decode("utf-8", "replace")) + 1
    character = written[start : start + 1].decode("cp1252", "replace")
    what = (
        f'not UTF-8 from here on (perhaps "{harmless(character)}" of Windows-1252): save as UTF-8'
    )
    if written[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        what = "this file is in UTF-16: save it as UTF-8"
    return Place(before.count(b"\n") + 1, column), what
