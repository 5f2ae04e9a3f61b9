"""YAML text as plain data, with the place of each key and value in the file.

The data are built from nodes instead of loaded: nodes have places, keys stay as they are written
(`12:` is the name "12"), decimals stay exact, and time and memory are bounded (rule U4).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from ruamel.yaml import YAML, MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.error import YAMLError

from agent.config.problem import SourcePosition
from agent.config.yamlerror import (
    MOST_DEPTH,
    NO_READER_EXPECTED,
    TOO_DEEP,
    Bounded,
    YamlUnreadable,
    in_own_words,
    stumbled,
)
from agent.core.errors import Refused
from agent.core.i18n import _
from agent.core.settings import harmless, shown

if TYPE_CHECKING:
    from agent.config.problem import Path

Include = Callable[[str], str]
"""returns the text of an included file by its name; raises Refused"""

INCLUDE = "!include"
CORE = "tag:yaml.org,2002:"
SCALARS = {CORE + kind for kind in ("str", "null", "bool", "int", "float", "timestamp", "value")}
MOST_NODES = 100_000
"""keys and values with all aliases unfolded; a building of 1,000 devices has about 10,000"""
MOST_INCLUDED = 2_000_000
"""characters of all included files; a file counts each time it is included"""
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
DECIMAL = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,2})?", re.ASCII)


SURROGATE = re.compile("[\ud800-\udfff]")
CUT_OFF = re.compile(r"[0-9]{1,6}[A-Za-z]{0,3}", re.ASCII)
"""the part of `1,5GB` behind the comma, which begins the next option inside braces"""


@dataclass(slots=True)
class Tree:
    """The content of a file, with places. `wrong`: problems found while it was read."""

    data: Any = None
    keys: dict[Path, SourcePosition] = field(default_factory=dict)
    values: dict[Path, SourcePosition] = field(default_factory=dict)
    wrong: list[tuple[Path, SourcePosition, str]] = field(default_factory=list)

    def place(self, path: Path) -> SourcePosition:
        """The place of a value, or of the nearest mapping around it."""
        for end in range(len(path), -1, -1):
            if position := self.values.get(path[:end]):
                return position
        return SourcePosition(1, 1)

    def key_place(self, path: Path) -> SourcePosition:
        """The place of a key, or of the nearest mapping around it."""
        return self.keys.get(path) or self.place(path)


def no_files(name: str) -> str:
    """Include nothing, for a text that is not in a file. Raises Refused."""
    raise Refused(_("{name} cannot be included here", name=shown(name)))


def read(text: str, include: Include = no_files) -> Tree:
    """Read the text of a file, and with `include` the files that it includes.

    Raises YamlUnreadable at the first place that is not YAML.
    """
    tree = Tree()
    if (node := composed(text)) is not None:
        tree.data = _Builder(tree, include).build(node, (), ())
    return tree


def composed(text: str) -> Node | None:
    """The nodes of a text, with their places; None: it is empty. Raises YamlUnreadable."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = Bounded
    # YAML allows an anchor again; the reader would print a warning of its own for it
    yaml.composer.warn_double_anchors = False
    try:
        return cast("Node | None", yaml.compose(text))
    except YAMLError as error:
        raise in_own_words(error, text) from error
    except NO_READER_EXPECTED as error:
        raise stumbled(text) from error


@dataclass(slots=True)
class _Builder:
    tree: Tree
    include: Include
    file: str = ""
    """the included file that is being read; empty: the main file"""
    nodes: int = 0
    included: int = 0
    """characters"""

    def build(self, node: Node, path: Path, within: tuple[Node, ...]) -> Any:
        self._bound(node, within)
        self.tree.values[path] = self._place(node)
        inner = (*within, node)
        if isinstance(node, MappingNode) and node.tag == CORE + "map":
            return self._mapping(node, path, inner)
        if isinstance(node, SequenceNode) and node.tag == CORE + "seq":
            items = enumerate(node.value, start=1)
            return [self.build(item, (*path, str(number)), inner) for number, item in items]
        if isinstance(node, ScalarNode) and node.tag == INCLUDE:
            return self._included(node, path, inner)
        return self._scalar(node, path)

    def _bound(self, node: Node, within: tuple[Node, ...]) -> None:
        # counted while aliases are followed: ten short lines can unfold to billions of values
        self.nodes += 1
        if any(node is outer for outer in within):
            raise YamlUnreadable(
                self._place(node),
                _("this alias contains itself: write out its content"),
            )
        if self.nodes > MOST_NODES:
            raise YamlUnreadable(
                self._place(node),
                _("the file unfolds to more than {most:,} values", most=MOST_NODES),
            )
        # the scanner bounds the text only; aliases nest deeper than it
        if len(within) > MOST_DEPTH:
            raise YamlUnreadable(self._place(node), _(TOO_DEEP))

    def _mapping(self, node: MappingNode, path: Path, inner: tuple[Node, ...]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == CORE + "merge":
                merged |= self._merged(value, path, inner)
                continue
            if (name := self._key(key, path, mapping)) is None:
                continue
            if node.flow_style and mapping and self._cut_off(name, value, path, mapping):
                continue
            self.tree.keys[*path, name] = self._place(key)
            mapping[name] = self.build(value, (*path, name), inner)
        return merged | mapping

    def _cut_off(self, name: str, value: Node, path: Path, mapping: dict[str, Any]) -> bool:
        """Whether a key is the second half of a number with a comma; if so, it is corrected."""
        last = next(reversed(mapping))
        whole = isinstance(mapping[last], int) and not isinstance(mapping[last], bool)
        if not whole or value.value or not CUT_OFF.fullmatch(name):
            return False
        meant = f"{mapping[last]}.{name}"
        what = _("inside braces a comma begins the next option: write {number}", number=meant)
        self.tree.wrong.append(((*path, last), self.tree.values[*path, last], what))
        # corrected, so that later checks do not report a wrong number as well
        mapping[last] = _number(meant)
        return True

    def _key(self, key: Node, path: Path, mapping: dict[str, Any]) -> str | None:
        if not isinstance(key, ScalarNode):
            what = _("a key is one word; if `{{ … }}` stands here, a template was not filled in")
            self._complain(path, key, what)
            return None
        name = SURROGATE.sub("?", cast("str", key.value))
        if name in mapping:
            first = self.tree.keys[*path, name].line
            what = _("this key occurs twice, first in line {first}: keep one of them", first=first)
            self._complain((*path, name), key, what)
            return None
        return name

    def _merged(self, value: Node, path: Path, inner: tuple[Node, ...]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        sources = value.value if isinstance(value, SequenceNode) else [value]
        # of several mappings the first wins, so it is applied last
        for source in reversed(sources):
            if not isinstance(source, MappingNode):
                self._complain(path, source, _("`<<:` takes an alias of a mapping, such as *meter"))
                continue
            merged |= self.build(source, path, inner)
            self.tree.values[path] = self._place(inner[-1])
        return merged

    def _included(self, node: ScalarNode, path: Path, inner: tuple[Node, ...]) -> Any:
        name = cast("str", node.value)
        if self.file:
            self._complain(
                path,
                node,
                _("{file} is an included file, and must not include others", file=self.file),
            )
            return None
        try:
            text = self.include(name)
        except Refused as error:
            self._complain(path, node, str(error))
            return None
        self.included += len(text)
        if self.included > MOST_INCLUDED:
            raise YamlUnreadable(
                self._place(node),
                _("more than {most:,} characters are included up to here", most=MOST_INCLUDED),
            )
        self.file = name
        try:
            root = composed(text)
            return None if root is None else self.build(root, path, inner)
        except YamlUnreadable as error:
            raise YamlUnreadable(error.place._replace(file=name), error.what) from error
        finally:
            self.file = ""

    def _scalar(self, node: Node, path: Path) -> Any:
        tag = str(node.tag)
        if not isinstance(node, ScalarNode) or tag not in SCALARS:
            self._complain(
                path, node, _("the tag {tag} is not supported: delete it", tag=shown(tag))
            )
            return None
        text = cast("str", node.value)
        if SURROGATE.search(text):
            self._complain(
                path,
                node,
                _("this is half a character (a lone surrogate): write the whole character"),
            )
            return harmless(text)
        match tag.removeprefix(CORE):
            case "null":
                return None
            # after `%YAML 1.1` the reader takes `no` and `on` for booleans, too: they stay text
            case "bool" if text.lower() in {"true", "false"}:
                return text.lower() == "true"
            case "int" | "float":
                return _number(text)
            case _:
                return text

    def _complain(self, path: Path, node: Node, what: str) -> None:
        self.tree.wrong.append((path, self._place(node), what))

    def _place(self, node: Node) -> SourcePosition:
        return SourcePosition(node.start_mark.line + 1, node.start_mark.column + 1, self.file)


def _number(text: str) -> int | Decimal | str:
    """A plain number, or the text itself: the serial number 01234567 is not 1234567."""
    plain = text.replace("_", "")
    if WHOLE.fullmatch(plain):
        return int(plain)
    if DECIMAL.fullmatch(plain) and not plain.lstrip("+-").isdigit():
        return Decimal(plain)
    return text
