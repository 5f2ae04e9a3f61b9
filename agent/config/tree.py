"""YAML text as plain data, every key and value with its place in the file.

Composed from nodes rather than loaded: that gives a place for everything, keeps keys as they are
written (`12:` is the name "12"), keeps decimals exact, and lets nothing run or grow without bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from ruamel.yaml import YAML, MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.error import YAMLError

from agent.config.problem import Place
from agent.config.yamlerror import NO_READER_EXPECTED, Unreadable, in_own_words, stumbled
from agent.settings import harmless, shown

if TYPE_CHECKING:
    from agent.config.problem import Path

CORE = "tag:yaml.org,2002:"
SCALARS = {CORE + kind for kind in ("str", "null", "bool", "int", "float", "timestamp", "value")}
MOST_NODES = 100_000
"""keys and values after unfolding aliases; a building of 1,000 devices has some 10,000"""
MOST_DEPTH = 20
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
DECIMAL = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,2})?", re.ASCII)


SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Tree:
    """What a file says, and where it says it."""

    data: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    wrong: list[tuple[Path, Place, str]] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Find where a value stands, or else what it would stand in."""
        for end in range(len(path), -1, -1):
            if found := self.values.get(path[:end]):
                return found
        return Place(1, 1)

    def key_place(self, path: Path) -> Place:
        """Find where a key stands, or else what it would stand in."""
        return self.keys.get(path) or self.place(path)


def read(text: str) -> Tree:
    """Read a file's text. Raises Unreadable at the first thing that is not YAML."""
    yaml = YAML(pure=True)
    yaml.composer.warn_double_anchors = False
    try:
        node = yaml.compose(text)
    except YAMLError as error:
        raise in_own_words(error, text) from error
    except NO_READER_EXPECTED as error:
        raise stumbled(text, deepest=MOST_DEPTH) from error
    tree = Tree()
    if node is not None:
        tree.data = _Builder(tree).build(node, (), ())
    return tree


@dataclass(slots=True)
class _Builder:
    tree: Tree
    nodes: int = 0

    def build(self, node: Node, path: Path, within: tuple[Node, ...]) -> Any:
        self._bound(node, within)
        self.tree.values[path] = _place(node)
        inner = (*within, node)
        if isinstance(node, MappingNode) and node.tag == CORE + "map":
            return self._mapping(node, path, inner)
        if isinstance(node, SequenceNode) and node.tag == CORE + "seq":
            items = enumerate(node.value, start=1)
            return [self.build(item, (*path, str(number)), inner) for number, item in items]
        return self._scalar(node, path)

    def _bound(self, node: Node, within: tuple[Node, ...]) -> None:
        self.nodes += 1
        if any(node is outer for outer in within):
            raise Unreadable(_place(node), "this is an alias of something that contains it")
        if self.nodes > MOST_NODES:
            raise Unreadable(_place(node), f"the file unfolds to more than {MOST_NODES:,} values")
        if len(within) > MOST_DEPTH:
            raise Unreadable(_place(node), "nested deeper than anything in a configuration")

    def _mapping(self, node: MappingNode, path: Path, inner: tuple[Node, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == CORE + "merge":
                merged |= self._merged(value, path, inner)
                continue
            if (name := self._key(key, path, found)) is None:
                continue
            self.tree.keys[*path, name] = _place(key)
            found[name] = self.build(value, (*path, name), inner)
        return merged | found

    def _key(self, key: Node, path: Path, found: dict[str, Any]) -> str | None:
        if not isinstance(key, ScalarNode):
            what = "a key is one word; if `{{ … }}` stands here, a template was not filled in"
            self._complain(path, key, what)
            return None
        name = SURROGATE.sub("?", cast("str", key.value))
        if name in found:
            first = self.tree.keys[*path, name].line
            what = f"given twice: first in line {first}, and again here; keep one of them"
            self._complain((*path, name), key, what)
            return None
        return name

    def _merged(self, value: Node, path: Path, inner: tuple[Node, ...]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        sources = value.value if isinstance(value, SequenceNode) else [value]
        for source in reversed(sources):
            if not isinstance(source, MappingNode):
                self._complain(path, source, "`<<:` takes an alias of a mapping, such as *meter")
                continue
            merged |= self.build(source, path, inner)
            self.tree.values[path] = _place(inner[-1])
        return merged

    def _scalar(self, node: Node, path: Path) -> Any:
        tag = str(node.tag)
        if not isinstance(node, ScalarNode) or tag not in SCALARS:
            self._complain(path, node, f"the tag {shown(tag)} means nothing here")
            return None
        text = cast("str", node.value)
        if SURROGATE.search(text):
            self._complain(path, node, "half a character stands here: write the character itself")
            return harmless(text)
        match tag.removeprefix(CORE):
            case "null":
                return None
            case "bool" if text.lower() in {"true", "false"}:
                return text.lower() == "true"
            case "int" | "float":
                return _number(text)
            case _:
                return text

    def _complain(self, path: Path, node: Node, what: str) -> None:
        self.tree.wrong.append((path, _place(node), what))


def _number(text: str) -> int | Decimal | str:
    """Keep what is no plain number as text: a serial 01234567 has not the value 1234567."""
    plain = text.replace("_", "")
    if WHOLE.fullmatch(plain):
        return int(plain)
    if DECIMAL.fullmatch(plain) and not plain.lstrip("+-").isdigit():
        return Decimal(plain)
    return text


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
