"""Change the configuration as text (rule U7): one value, new devices, the present format number."""

from __future__ import annotations

import datetime as dt
import json
import re
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from ruamel.yaml import MappingNode, Node, ScalarNode, SequenceNode

from agent.config.files import INCLUDE, Files, YamlUnreadable, composed, read
from agent.config.load import checked
from agent.config.models import FORMAT
from agent.config.problem import dotted
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import _
from agent.core.settings import shown
from agent.drivers.base import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from pathlib import Path as File

    from agent.config.problem import ValuePath

WIDE = 80
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*(-+[A-Za-z0-9]+)*|[0-9]+(ms|s|min|h|d)", re.ASCII)
"""a word or a duration that YAML reads as text"""


@dataclass(frozen=True, slots=True)
class EditPosition:
    """How far a path leads in the text."""

    home: File
    """the file that it leads to"""
    key: Node | None
    """the last key of the path that exists"""
    node: Node | None
    """the value of that key; None: the file is empty"""
    missing: ValuePath
    """the keys of the path that do not exist"""


def put(files: Files, keys: ValuePath, value: str) -> tuple[Files, File]:
    """The files with one value set, and the file that contains it; nothing is written to the disk.

    `value` is YAML on one line, or plain text. Raises Refused if the value cannot be set without
    changing something else, YamlUnreadable if the present text is not YAML.
    """
    spot = _spot(files, keys)
    text, before = files.text(spot.home), read(files.text(), files.include).data
    for candidate, meant in _candidates(value):
        changed = files.with_text(spot.home, _written(text, spot, candidate, keys))
        try:
            after = read(changed.text(), changed.include).data
        except YamlUnreadable:
            continue
        # an option of a mapping with an anchor would change wherever its alias stands
        if after == _with(before, keys, meant):
            return changed, spot.home
    what = _(
        "{keys} cannot be changed without changing other options: edit {home} by hand",
        keys=dotted(keys),
        home=spot.home,
    )
    raise Refused(what)


def _candidates(value: str) -> list[tuple[str, Any]]:
    """The ways to write a value, each with its meaning: first as it is, then in quotes."""
    value = value.strip()
    quoted = (json.dumps(value, ensure_ascii=False), value)
    try:
        meant = read(f"x: {value}\n").data["x"]
    except (YamlUnreadable, TypeError, KeyError):
        return [quoted]
    # YAML reads `A #3` as `A`: what follows the # would be lost without quotes
    cut = isinstance(meant, str) and meant != value and value[:1] not in {"'", '"'}
    return [quoted] if cut or "\n" in value else [(value, meant), quoted]


def _spot(files: Files, keys: ValuePath) -> EditPosition:
    home, node, key = files.path, composed(files.text()), None
    for number, name in enumerate(keys):
        if isinstance(node, ScalarNode) and node.tag == INCLUDE:
            home = files.beside(node.value)
            node = composed(files.text(home))
        if (child := _entry(node, name)) is None:
            return EditPosition(home, key, node, keys[number:])
        key, node = child
    return EditPosition(home, key, node, ())


def _entry(node: Node | None, name: str) -> tuple[Node, Node] | None:
    """The key and the value of this name; the key of a list item is the item itself."""
    if isinstance(node, SequenceNode):
        items = {str(number): (item, item) for number, item in enumerate(node.value, start=1)}
        return items.get(name)
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next(((key, value) for key, value in pairs if key.value == name), None)


def _with(data: Any, keys: ValuePath, value: Any) -> Any:
    """The data with one value changed; missing mappings on the way to it are added."""
    if not keys:
        return value
    changed = deepcopy(data) if data is not None else {}
    if isinstance(changed, list) and keys[0].isdecimal() and int(keys[0]) <= len(changed):
        changed[int(keys[0]) - 1] = _with(changed[int(keys[0]) - 1], keys[1:], value)
    elif isinstance(changed, dict):
        changed[keys[0]] = _with(changed.get(keys[0]), keys[1:], value)
    return changed


def _written(text: str, spot: EditPosition, written: str, keys: ValuePath) -> str:
    for key in reversed(spot.missing[1:]):
        written = f"{{{key}: {written}}}"
    node = spot.node
    if not spot.missing:
        return _replaced(text, spot, written, keys)
    entry = f"{spot.missing[0]}: {written}"
    if node is None:
        return f"{text}{_line_end(text)}{entry}\n"
    if isinstance(node, MappingNode):
        return _in_flow(text, node, entry) if node.flow_style else _in_block(text, node, entry)
    if _empty(node):
        return _replaced(text, spot, f"{{{entry}}}", keys)
    raise Refused("{keys} has no options of its own", keys=dotted(keys[: -len(spot.missing)]))


def _replaced(text: str, spot: EditPosition, written: str, keys: ValuePath) -> str:
    node = spot.node
    block = isinstance(node, MappingNode | SequenceNode) and not node.flow_style
    if node is None or block or (isinstance(node, ScalarNode) and node.style in {"|", ">"}):
        raise Refused(
            "{keys} is written on several lines: edit the file by hand", keys=dotted(keys)
        )
    if _empty(node) and spot.key is not None:
        # the mark of an empty value is at the next token, which may be lines below: use its key
        end = text.find(":", spot.key.end_mark.index) + 1
        return f"{text[:end]} {written}{text[end:]}"
    return f"{text[: node.start_mark.index]}{written}{text[node.end_mark.index :]}"


def _empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.value and not node.style


def _in_flow(text: str, node: MappingNode, entry: str) -> str:
    if not node.value:
        end = node.start_mark.index + 1
        return f"{text[:end]}{entry}{text[end:]}"
    key, value = node.value[-1]
    end = max(key.end_mark.index, value.end_mark.index)
    return f"{text[:end]}, {entry}{text[end:]}"


def _in_block(text: str, node: MappingNode, entry: str) -> str:
    lines = text.splitlines(keepends=True)
    row = _last_row(node) + 1
    indent = " " * node.value[0][0].start_mark.column
    before = "".join(lines[:row])
    return f"{before}{_line_end(before)}{indent}{entry}\n{''.join(lines[row:])}"


def _last_row(node: Node) -> int:
    """The last line of a value, counted from 0, without comments and blank lines behind it."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        key, value = last if isinstance(node, MappingNode) else (last, last)
        # a block ends at the next token: only its last entry tells where its text ends
        begun = int(key.start_mark.line)
        return begun if _empty(value) else max(begun, _last_row(value))
    begun_anew = node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line
    return int(node.end_mark.line) - int(begun_anew)


def _line_end(text: str) -> str:
    return "" if not text or text.endswith("\n") else "\n"


def shown_value(data: Any) -> str:
    """A value on one line, as a person might write it in the file."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{key}: {shown_value(one)}" for key, one in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(shown_value(one) for one in data) + "]"
    return shown(data).strip('"') if isinstance(data, str) and data else shown(data)


def differences(old: Any, new: Any, path: ValuePath = ()) -> Iterator[str]:
    """A line for each value that differs: `- gone`, `+ new: value`, `~ changed: old → new`."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield f"~ {dotted(path)}: {shown_value(old)} → {shown_value(new)}"
        return
    for key in {**old, **new}:
        here = (*path, key)
        if key not in new:
            yield f"- {dotted(here)}"
        elif key not in old:
            yield f"+ {dotted(here)}: {shown_value(new[key])}"
        else:
            yield from differences(old[key], new[key], here)


def _numbered(files: Files) -> Files:
    """From format 0, which had no number and the same options, to format 1."""
    return put(files, ("format",), "1")[0]


STEPS: Mapping[int, Callable[[Files], Files]] = {0: _numbered}
"""from each format to the next"""


def migrate(path: Path) -> tuple[int, Path | None]:
    """Upgrade a file to the present format; a copy of the old file is kept beside it.

    Returns the former format and the copy; None: nothing had to be done. Raises Refused, and then
    nothing was changed.
    """
    files = Files(path)
    try:
        had = _form(files)
        for form in range(had, FORMAT):
            files = STEPS[form](files)
    except YamlUnreadable as error:
        raise Refused(
            "{path}:{line}:{column}: {what}",
            path=path,
            line=error.place.line,
            column=error.place.column,
            what=error.what,
        ) from error
    try:
        # before anything is written: the agent would not start with a wrong file
        checked(files)
    except ConfigError as error:
        raise Refused(
            "{value}\n{error}",
            value=_("{path} was not changed, because of other errors in it:", path=path),
            error=error,
        ) from error
    if had >= FORMAT:
        return had, None
    # the copy first: if the disk is full, the old file must still be whole
    kept = path.with_name(f"{path.name}.bak-{had}")
    files.keep(path, kept)
    files.write(path)
    return had, kept


NEW = """\
# {head}
building:
  name: {name}
{place}  timezone: {timezone}

# {lines}
links:

devices:

# {uplinks}
uplinks: {{}}

# {privacy}
privacy: {{policy: FR-1}}
clock: {{source: {clock}}}
format: {format}
state: {state}
"""


def begin(  # noqa: PLR0913 -- as many options
    path: Path, *, name: str, place: str, timezone: str, clock: str, state: Path
) -> None:
    """Write a new configuration, without lines. `place`: may be empty. Raises Refused, and then
    nothing was changed.
    """
    text = NEW.format(
        head=_(
            "gardien's configuration (/usr/share/doc/gardien/configuration.md). To check it:"
            " gardien check"
        ),
        lines=_("The lines, and the devices on them: gardien scan LINE --add"),
        uplinks=_("Who receives readings. Those of a dwelling are sent only with a consent."),
        privacy=_("No step of a dwelling below 10 min is sent, even with a consent."),
        name=json.dumps(name, ensure_ascii=False),
        place=f"  place: {place}\n" if place else "",
        timezone=timezone,
        clock=clock,
        format=FORMAT,
        state=state,
    )
    checked(Files(path).with_text(path, text))
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o640)
        except OSError as error:
            raise Refused("{path}: {reason}", path=path, reason=error) from error
    Files(path).with_text(path, text).write(path)


def add_link(path: Path, kind: str, settings: Mapping[str, Any]) -> str:
    """Add a line to the file; comments are kept. Return its name: the kind and a number.

    Raises Refused, and then nothing was changed.
    """
    files = Files(path)
    taken = set(checked(files).links)
    number = next(number for number in count(1) if f"{kind}-{number}" not in taken)
    name = f"{kind}-{number}"
    value = shown_value(settings)
    spot = _spot(files, ("links", name))
    if spot.node is not None and spot.key is not None and _empty(spot.node):
        # each further line is put below it; a flow mapping would become one long line
        text = files.text(spot.home)
        end = text.find(":", spot.key.end_mark.index) + 1
        longer = files.with_text(spot.home, f"{text[:end]}\n  {name}: {value}{text[end:]}")
        home = spot.home
    else:
        longer, home = put(files, ("links", name), value)
    checked(longer)
    longer.write(home)
    return name


def keep_copy(path: Path, suffix: str) -> Path | None:
    """Copy the file and return the copy, beside it; None: there is a copy with this name already.

    Raises Refused.
    """
    copy = path.with_name(f"{path.name}.{suffix}")
    if copy.exists():
        return None
    Files(path).keep(path, copy)
    return copy


def _form(files: Files) -> int:
    data = read(files.text(), files.include).data
    form = data.get("format", 0) if isinstance(data, dict) else 0
    return form if isinstance(form, int) else 0


@dataclass(frozen=True, slots=True)
class Edited:
    """An edit in memory: checked, and not written yet."""

    added: list[str]
    """names of the new entries"""
    home: File
    """the file that changes"""
    files: Files
    """all files as they would be"""


def add_devices(path: Path, new: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], Path]:
    """Add entries to the file that contains the devices, behind the last one.

    Returns the names under which they were added, and the file. Entries are left out if their
    device is configured already, or if they have neither a profile nor points. The file is changed
    in one step or not at all. Raises Refused with what to do instead.
    """
    edited = with_devices(Files(path), new)
    if edited.added:
        edited.files.write(edited.home)
    return edited.added, edited.home


def with_devices(files: Files, new: Mapping[str, Mapping[str, Any]]) -> Edited:
    """As `add_devices`, in memory. Raises Refused."""
    config = checked(files)
    # by address: a second scan would otherwise add the same devices again under other names
    known = {(one.link, one.address) for one in config.devices.values()}
    added: dict[str, Mapping[str, Any]] = {}
    for name, entry in new.items():
        if readable(entry) and (entry["link"], str(entry["address"])) not in known:
            added[unlike(name, {*config.devices, *added})] = entry
    return _longer(files, "devices", added)


def add_lines(path: Path, new: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], Path]:
    """Add lines to the file that contains `links`, behind the last one; a dated copy of the file is
    kept beside it.

    Returns the names under which they were added, and the file. Raises Refused as `add_devices`.
    """
    files = Files(path)
    edited = with_lines(files, new)
    home = edited.home
    if edited.added:
        files.keep(home, home.with_name(f"{home.name}.{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}"))
        edited.files.write(home)
    return edited.added, home


def with_lines(files: Files, new: Mapping[str, Mapping[str, Any]]) -> Edited:
    """As `add_lines`, in memory. Raises Refused."""
    config = checked(files)
    added: dict[str, Mapping[str, Any]] = {}
    for name, entry in new.items():
        added[unlike(name, {*config.links, *added})] = entry
    return _longer(files, "links", added)


def _longer(files: Files, section: str, added: Mapping[str, Mapping[str, Any]]) -> Edited:
    """Add entries to a section, in memory. Raises Refused."""
    home, root = _home(files, section)
    if not added:
        return Edited([], home, files)
    text = inserted(files.text(home), added, str(home), root=root, section=section)
    longer = files.with_text(home, text)
    try:
        # checked in memory first: a running agent would refuse a wrong file at its next reload
        checked(longer)
    except ConfigError as error:
        refusal = _("{home} was not changed, because the result would have mistakes:", home=home)
        raise Refused("{refusal}\n{error}", refusal=refusal, error=error) from error
    return Edited(list(added), home, longer)


def _home(files: Files, section: str) -> tuple[Path, bool]:
    """The file that contains a section, and whether it contains nothing else."""
    root = composed(files.text())
    for key, value in root.value if isinstance(root, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.value == section and value.tag == INCLUDE:
            return files.beside(value.value), True
    return files.path, False


def unlike(name: str, taken: set[str]) -> str:
    """The name, with a number behind it if it is taken."""
    tries = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(one for one in tries if one not in taken)


def inserted(
    text: str,
    entries: Mapping[str, Mapping[str, Any]],
    name: str,
    *,
    root: bool = False,
    section: str = "devices",
) -> str:
    """The text with the entries inserted behind its devices, or behind those of another section.

    `name`: the file, for messages; `root`: the text contains nothing but that section. Raises
    Refused if nothing can be inserted there.
    """
    text = text if root else _unbraced(text, section)
    lines = text.splitlines(keepends=True)
    # without a line end the first entry would continue the last line
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    row, indent = _behind(composed(text), 1, name) if root else _end_of_section(text, section, name)
    if row is None:
        lines += ["\n", f"{section}:\n"]
        row = len(lines)
    # blank lines and comments in the first column belong to the section that follows
    while row > 0 and (not lines[row - 1].strip() or lines[row - 1].startswith("#")):
        row -= 1
    new = [written(key, entry, " " * indent) for key, entry in entries.items()]
    return "".join([*lines[:row], *new, *lines[row:]])


def _unbraced(text: str, section: str) -> str:
    """The text without the `{}` of an empty `devices: {}`, behind which nothing can be inserted."""
    root = composed(text)
    for key, value in root.value if isinstance(root, MappingNode) else ():
        none = isinstance(value, MappingNode) and not value.value
        if isinstance(key, ScalarNode) and key.value == section and none:
            return text[: value.start_mark.index] + text[value.end_mark.index :]
    return text


def _end_of_section(text: str, section: str, name: str) -> tuple[int | None, int]:
    """The line behind a section's last entry, and the entries' column; None: it is missing."""
    root = composed(text)
    for key, value in root.value if isinstance(root, MappingNode) else ():
        if not isinstance(key, ScalarNode) or key.value != section:
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
            "{name}:{row}: the entries are not on lines of their own, so none can be added:"
            " add them by hand",
            name=name,
            row=row,
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
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_scalar, value))}]"
    text = str(value)
    plain = isinstance(value, int) or PLAIN.fullmatch(text)
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if plain else f'"{quoted}"'
