"""Add devices that a scan has found to the configuration, behind the configured ones.

Text is inserted and nothing is rewritten, so comments, order and style stay (rule U7).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ruamel.yaml import MappingNode, Node, ScalarNode

from agent.config.files import Files
from agent.config.load import checked
from agent.config.tree import INCLUDE, composed
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import _

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WIDE = 80
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*(-+[A-Za-z0-9]+)*|[0-9]+(ms|s|min|h|d)", re.ASCII)
"""a word or a duration that YAML reads as text"""


def add_devices(path: Path, new: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], Path]:
    """Add entries to the file that contains the devices, behind the last one.

    Returns the names under which they were added, and the file. Entries are left out if their
    device is configured already, or if they have neither a profile nor points. The file is changed
    in one step or not at all. Raises Refused with what to do instead.
    """
    files = Files(path)
    config = checked(files)
    # by address: a second scan would otherwise add the same devices again under other names
    known = {(one.link, one.address) for one in config.devices.values()}
    added: dict[str, Mapping[str, Any]] = {}
    for name, entry in new.items():
        if readable(entry) and (entry["link"], str(entry["address"])) not in known:
            added[unlike(name, {*config.devices, *added})] = entry
    home, root = _home(files)
    if added:
        # checked in memory first: a running agent would refuse a wrong file at its next reload
        longer = files.with_text(home, inserted(files.text(home), added, str(home), root=root))
        try:
            checked(longer)
        except ConfigError as error:
            refusal = _(
                "{home} was not changed, because the result would have mistakes:", home=home
            )
            raise Refused(f"{refusal}\n{error}") from error
        longer.write(home)
    return list(added), home


def _home(files: Files) -> tuple[Path, bool]:
    """The file that contains the devices, and whether it contains nothing else."""
    root = composed(files.text())
    for key, value in root.value if isinstance(root, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.value == "devices" and value.tag == INCLUDE:
            return files.beside(value.value), True
    return files.path, False


def readable(entry: Mapping[str, Any]) -> bool:
    """Whether the entry of a found device says what to read from it."""
    return bool(entry.keys() & {"profile", "points"})


def unlike(name: str, taken: set[str]) -> str:
    """The name, with a number behind it if it is taken."""
    tries = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(one for one in tries if one not in taken)


def inserted(
    text: str, entries: Mapping[str, Mapping[str, Any]], name: str, *, root: bool = False
) -> str:
    """The text with the entries inserted behind its devices.

    `name`: the file, for messages; `root`: the text contains nothing but devices. Raises Refused
    if nothing can be inserted behind the devices.
    """
    text = text if root else _unbraced(text)
    lines = text.splitlines(keepends=True)
    # without a line end the first entry would continue the last line
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    row, indent = _behind(composed(text), 1, name) if root else _end_of_devices(text, name)
    if row is None:
        lines += ["\n", "devices:\n"]
        row = len(lines)
    # blank lines and comments in the first column belong to the section that follows
    while row > 0 and (not lines[row - 1].strip() or lines[row - 1].startswith("#")):
        row -= 1
    new = [written(key, entry, " " * indent) for key, entry in entries.items()]
    return "".join([*lines[:row], *new, *lines[row:]])


def _unbraced(text: str) -> str:
    """The text without the `{}` of an empty `devices: {}`, behind which nothing can be inserted."""
    root = composed(text)
    for key, value in root.value if isinstance(root, MappingNode) else ():
        none = isinstance(value, MappingNode) and not value.value
        if isinstance(key, ScalarNode) and key.value == "devices" and none:
            return text[: value.start_mark.index] + text[value.end_mark.index :]
    return text


def _end_of_devices(text: str, name: str) -> tuple[int | None, int]:
    """The line behind the last device and the column of the devices; None: no section `devices`."""
    root = composed(text)
    for key, value in root.value if isinstance(root, MappingNode) else ():
        if not isinstance(key, ScalarNode) or key.value != "devices":
            continue
        row = key.start_mark.line + 1
        empty = isinstance(value, ScalarNode) and not value.value
        return (row, 2) if empty else _behind(value, row, name)
    return None, 2


def _behind(devices: Node | None, row: int, name: str) -> tuple[int, int]:
    if devices is None:
        return row - 1, 0
    if not isinstance(devices, MappingNode) or devices.flow_style or not devices.value:
        raise Refused(
            _(
                "{name}:{row}: the devices are not on lines of their own, so none can be added:"
                " add them by hand",
                name=name,
                row=row,
            )
        )
    # a value in braces ends on its own line; a block ends where the next token begins, in column 0
    last = devices.value[-1][1].end_mark
    return last.line + (1 if last.column else 0), devices.value[0][0].start_mark.column


def written(name: str, entry: Mapping[str, Any], indent: str) -> str:
    """A device as text: on one line if it fits, else with a line for each option and point."""
    points = entry.get("points", {})
    line = f"{indent}{name}: {_flow(entry)}\n"
    if not points and len(line) <= WIDE:
        return line
    rest = [f"{key}: {_scalar(value)}" for key, value in entry.items() if key != "points"]
    lines = [f"{name}:", *(f"  {one}" for one in rest), *(["  points:"] if points else ())]
    lines += [f"    {key}: {_flow(options)}" for key, options in points.items()]
    return "".join(f"{indent}{line}\n" for line in lines)


def _flow(entry: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key}: {_scalar(value)}" for key, value in entry.items())
    return f"{{{options}}}"


def _scalar(value: Any) -> str:
    """A value as text, quoted if YAML could read it as something else."""
    text = str(value)
    plain = isinstance(value, int) or PLAIN.fullmatch(text)
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if plain else f'"{quoted}"'
