"""Change one value in the text of the configuration; comments, order and style stay (rule U7).

Only the characters of the value change, or an option is inserted. The result is read again: it must
differ from the old content in this value only.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ruamel.yaml import MappingNode, Node, ScalarNode, SequenceNode

from agent.config.problem import dotted
from agent.config.tree import INCLUDE, composed, read
from agent.config.yamlerror import YamlUnreadable
from agent.core.errors import Refused
from agent.core.i18n import _
from agent.core.settings import shown

if TYPE_CHECKING:
    from pathlib import Path as File

    from agent.config.files import Files
    from agent.config.problem import Path


@dataclass(frozen=True, slots=True)
class EditPosition:
    """How far a path leads in the text."""

    home: File
    """the file that it leads to"""
    key: Node | None
    """the last key of the path that exists"""
    node: Node | None
    """the value of that key; None: the file is empty"""
    missing: Path
    """the keys of the path that do not exist"""


def put(files: Files, keys: Path, value: str) -> tuple[Files, File]:
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


def _spot(files: Files, keys: Path) -> EditPosition:
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


def _with(data: Any, keys: Path, value: Any) -> Any:
    """The data with one value changed; missing mappings on the way to it are added."""
    if not keys:
        return value
    changed = deepcopy(data) if data is not None else {}
    if isinstance(changed, list) and keys[0].isdecimal() and int(keys[0]) <= len(changed):
        changed[int(keys[0]) - 1] = _with(changed[int(keys[0]) - 1], keys[1:], value)
    elif isinstance(changed, dict):
        changed[keys[0]] = _with(changed.get(keys[0]), keys[1:], value)
    return changed


def _written(text: str, spot: EditPosition, written: str, keys: Path) -> str:
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
    raise Refused(_("{keys} has no options of its own", keys=dotted(keys[: -len(spot.missing)])))


def _replaced(text: str, spot: EditPosition, written: str, keys: Path) -> str:
    node = spot.node
    block = isinstance(node, MappingNode | SequenceNode) and not node.flow_style
    if node is None or block or (isinstance(node, ScalarNode) and node.style in {"|", ">"}):
        raise Refused(
            _("{keys} is written on several lines: edit the file by hand", keys=dotted(keys))
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
