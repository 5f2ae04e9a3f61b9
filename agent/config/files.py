"""The texts of the configuration: files, YAML with places of values, and their problems."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError
from ruamel.yaml import YAML, MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scanner import Scanner

from agent.config.problem import (
    UNKNOWN,
    Problem,
    SourcePosition,
    ValuePath,
    at,
    did_you_mean,
    dotted,
    explain,
    no_blank,
    refusal,
)
from agent.core import atomic_write
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import N_, _, in_language
from agent.core.settings import FROM_A_FILE, harmless, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

LARGEST = 1_000_000
"""bytes of one file; 10,000 devices need about 800,000"""
MOST_FILES = 20
NO_READER_EXPECTED = (
    ValueError,
    OverflowError,
    RecursionError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    AssertionError,
    NotImplementedError,
)
"""exceptions in which the YAML reader itself fails: for `"\\UFFFFFFFF"`, `!<tag`, …"""

MOST_DEPTH = 20
MOST_SIGNS = 80_000
"""words, dashes, colons and brackets of one file; a building of 1,000 devices has about 20,000"""
TOO_DEEP = N_("nested too deeply for a configuration")

NOT_IN_LINE = N_(
    "this line does not line up with the lines before it: lines that belong"
    " together begin in the same column"
)
EXPLANATIONS = {
    r"mapping values are not allowed": (
        N_(
            "a `key:` cannot stand here: this line is indented deeper than the line"
            " before, or that line lacks its `:`, or a value that contains `: `"
            " needs quotes around it"
        )
    ),
    r"expected ',' or '\]'": N_("a `,` or the closing `]` is missing before this"),
    r"expected ',' or '\}'": N_("a `,` or the closing `}` is missing before this"),
    r"expected <block end>": NOT_IN_LINE,
    r"expected '<document start>'": NOT_IN_LINE,
    r"could not find expected ':'": N_("a `:` is missing: each line reads `key: value`"),
    r"but found another document": N_("a second document begins here (`---`): the file holds one"),
    r"escape (character|sequence)": (
        N_("in double quotes `\\` begins an escape: write `\\\\`, or put the text in single quotes")
    ),
    r"sequence entries are not allowed": N_("a `- ` cannot stand here: begin a line with it"),
}
"""our texts, by the pattern of the reader's message"""

BEHIND_A_QUOTE = N_(
    "nothing can stand behind the closing quote: write a `'` inside '…' twice, and"
    ' a `"` inside "…" as `\\"`, or leave the outer quotes out'
)
BLANK = re.compile(r"[ \t]*(?:- )?([\w-]+):(\S.*)")
"""a line without a space behind its colon"""
LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
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
Model = TypeVar("Model")
"""a pydantic model or dataclass"""


MOST = 100
"""problems that are reported at once"""


class Files:
    """The texts of one configuration, by path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts: dict[Path, str] = {}
        self._read: dict[Path, tuple[int, ...]] = {}

    def text(self, path: Path | None = None) -> str:
        """The text of a file; default: the main file. Raises ConfigError."""
        path = self.path if path is None else path
        if path not in self._texts:
            if len(self._texts) >= MOST_FILES:
                raise ConfigError(
                    "{path}: more than {most} files are included; merge some of them",
                    path=path,
                    most=MOST_FILES,
                )
            self._texts[path], was = _read(path)
            self._read[path] = _version(was)
        return self._texts[path]

    def must_be_whole(self) -> None:
        """Check that no file was being written while it was read. Raises ConfigError.

        A file that ends within a line may be half written. A file that has changed since it was
        read is not the one that was checked.
        """
        for path in self._read:
            if not self._texts[path].endswith("\n"):
                line = self._texts[path].count("\n") + 1
                what = _("the file ends within this line and may be half written: end the line")
                raise refusal([Problem(str(path), line, 1, "", what)])
            try:
                now = _version(path.stat())
            except OSError:
                now = ()
            if now != self._read[path]:
                raise ConfigError(
                    "{path}: the file changed while it was read: try again", path=path
                )

    def beside(self, name: str) -> Path:
        """The path of an included file, which must be in the same folder. Raises Refused."""
        if not name or name in {".", ".."} or PurePath(name).name != name:
            raise Refused(
                "expected a file in the same folder, such as devices.yaml, found {name}",
                name=shown(name),
            )
        return self.path.parent / name

    def include(self, name: str) -> str:
        """The text of an included file. Raises Refused."""
        return self.text(self.beside(name))

    def paths(self) -> tuple[Path, ...]:
        """The files that were read so far."""
        return tuple(self._texts)

    def with_text(self, path: Path, text: str) -> Files:
        """A copy of these files with one text changed, in memory only."""
        other = Files(self.path)
        other._texts = {**self._texts, path: text}
        # the changed text is not on the disk: `must_be_whole` must not compare it
        other._read = {one: was for one, was in self._read.items() if one != path}
        return other

    def write(self, path: Path) -> None:
        """Write a text to its file, which keeps its owner and mode. Raises Refused."""
        self._write(path, path, self.text(path))

    def keep(self, path: Path, copy: Path) -> None:
        """Copy a file as it is on the disk, with its owner and mode. Raises Refused."""
        self._write(path, copy, read_text(path))

    @staticmethod
    def _write(like: Path, path: Path, text: str) -> None:
        try:
            # resolved, so that a link keeps pointing to the file instead of being replaced by it
            _put_in_place(path.resolve(), text, like.stat())
        except OSError as error:
            raise Refused(
                "{port} cannot be written: {why}", port=path, why=error.strerror
            ) from error


def read_text(path: Path) -> str:
    """The text of a file of limited size. Raises ConfigError."""
    return _read(path)[0]


def _version(was: os.stat_result) -> tuple[int, ...]:
    """A value that changes when a file is written or replaced."""
    return was.st_dev, was.st_ino, was.st_size, was.st_mtime_ns


def _read(path: Path) -> tuple[str, os.stat_result]:
    try:
        # one byte more shows that the file is too large, without reading all of it
        written, was = atomic_write.read(path, LARGEST + 1)
    except (atomic_write.NoFile, IsADirectoryError) as error:
        raise ConfigError(
            "{path}: not a regular file but a folder, a pipe or a device: name a file", path=path
        ) from error
    except OSError as error:
        raise ConfigError(
            "{path}: cannot be read: {reason}", path=path, reason=error.strerror
        ) from error
    if len(written) > LARGEST:
        raise ConfigError(
            "{path}: larger than {most:,} bytes, too large for a configuration",
            path=path,
            most=LARGEST,
        )
    try:
        # Windows editors put a byte order mark first, which would become part of the first key
        return written.decode("utf-8-sig"), was
    except UnicodeDecodeError as error:
        place, what = _not_utf8(written, error.start)
        raise refusal([Problem(str(path), place.line, place.column, "", what)]) from error


def _not_utf8(written: bytes, start: int) -> tuple[SourcePosition, str]:
    before = written[:start]
    line_start = before.rfind(b"\n") + 1
    column = len(before[line_start:].decode("utf-8", "replace")) + 1
    character = written[start : start + 1].decode("cp1252", "replace")
    what = _(
        'not UTF-8 from here on (perhaps "{character}" of Windows-1252): save as UTF-8',
        character=harmless(character),
    )
    if written[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        what = _("this file is in UTF-16: save it as UTF-8")
    elif b"\0" in written:
        what = _("this is not a text file")
    return SourcePosition(before.count(b"\n") + 1, column), what


def _put_in_place(path: Path, text: str, was: os.stat_result) -> None:
    # in the same folder: no rename replaces a file of another file system in one step
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        # newline="" keeps the line ends of the file (rule U7)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), was.st_mode & 0o7777)
            # otherwise the file would be for root alone, and the agent could not read it
            if os.geteuid() == 0:
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
            # before the rename: a power cut could otherwise leave an empty file under this name
            os.fsync(file.fileno())
        Path(made).replace(path)
    except OSError:
        Path(made).unlink(missing_ok=True)
        raise


class YamlUnreadable(Exception):
    """The text is not YAML. `place`: where; `what`: what to do, for people."""

    def __init__(self, place: SourcePosition, what: str) -> None:
        super().__init__(what)
        self.place = place
        self.what = what


class Bounded(Scanner):
    """A YAML scanner with limits: its time grows with the product of depth and length.

    Raises YamlUnreadable.
    """

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self._signs = 0

    def fetch_more_tokens(self) -> Any:
        """Read the next token. Raises YamlUnreadable if there are too many or it is too deep."""
        self._signs += 1
        if self._signs > MOST_SIGNS:
            what = _(
                "more than {most:,} words and signs up to here: this is no configuration",
                most=MOST_SIGNS,
            )
            raise YamlUnreadable(_place(self.reader.get_mark()), what)
        if max(self.flow_level, len(self.indents)) > MOST_DEPTH:
            raise YamlUnreadable(_place(self.reader.get_mark()), _(TOO_DEEP))
        return super().fetch_more_tokens()


def stumbled(text: str) -> YamlUnreadable:
    """The error for a text in which the reader itself failed."""
    # such an exception has no place: a second scan finds the last token before it
    place = SourcePosition(1, 1)
    try:
        for token in YAML(typ="safe", pure=True).scan(text):
            place = _place(token.end_mark)
    except (YAMLError, *NO_READER_EXPECTED):
        pass
    return YamlUnreadable(place, _("what follows cannot be read as YAML: write it differently"))


def in_own_words(error: YAMLError, text: str) -> YamlUnreadable:
    """The error for a message of the reader: its place, and what to do."""
    if (position := getattr(error, "position", None)) is not None:
        return _forbidden_character(text, position)
    place = _place(getattr(error, "problem_mark", None) or getattr(error, "context_mark", None))
    problem = str(getattr(error, "problem", None) or getattr(error, "context", None) or "")
    # first: after such an indent the reader reports another mistake, or one in another line
    if odd := _odd_blank(text, place.line):
        return odd
    if tab := _tab(text, place):
        return tab
    if "quoted scalar" in str(getattr(error, "context", "")) and "end of stream" in problem:
        opened = _place(error.context_mark)  # type: ignore[attr-defined] # every marked error's
        return YamlUnreadable(opened, _("the quote that opens here is never closed"))
    if "expected ':'" in problem:
        # the reader stops at the next line with a `:`, but the key before it lacks one
        place = _place(getattr(error, "context_mark", None))
    return YamlUnreadable(place, _of_the_line(problem, place, text) or _explanation(problem))


def _of_the_line(problem: str, place: SourcePosition, text: str) -> str:
    """A better text than the reader's, from the line itself; empty: there is none."""
    lines = LINE_END.split(text)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    before, there = line[: place.column - 1], line[place.column - 1 :]
    if line.startswith("```"):
        return _("a line of backquotes is not part of the file: delete it")
    if "expected ':'" in problem and (pair := BLANK.fullmatch(line)):
        return no_blank(pair[1], pair[2].rstrip())
    if "expected <block end>" in problem and there.startswith("- "):
        return _("a `- ` cannot stand here: the lines before it begin with a `key:`")
    if "expected <block end>" in problem and before.strip():
        return _(BEHIND_A_QUOTE)
    return ""


def _explanation(problem: str) -> str:
    for pattern, explanation in EXPLANATIONS.items():
        if re.search(pattern, problem):
            return _(explanation)
    if match := re.search(r"character '(.+)' that cannot start", problem):
        return _("a value cannot begin with `{sign}`: put it in quotes", sign=match[1])
    if match := re.search(r"undefined alias '?([^']+)", problem):
        return _("no `&{name}` stands before this `*{name}`", name=match[1])
    return _("this is not YAML: {found}", found=shown(problem)[1:-1])


def _odd_blank(text: str, until: int) -> YamlUnreadable | None:
    for number, line in enumerate(LINE_END.split(text)[:until], start=1):
        indent = line[: len(line) - len(line.lstrip())]
        odd = indent.lstrip(" ")[:1]
        if odd and line.strip():
            place = SourcePosition(number, indent.index(odd) + 1)
            if odd == "\t":
                what = _("this line is indented with a tab: use two spaces for each level")
                return YamlUnreadable(place, what)
            what = _(
                "this line is indented with U+{code:04X}, which is not a space: use two spaces for"
                " each level",
                code=ord(odd),
            )
            return YamlUnreadable(place, what)
    return None


def _tab(text: str, place: SourcePosition) -> YamlUnreadable | None:
    """The error for a tab that ended a value, at or before the reader's place; None: no tab."""
    lines = LINE_END.split(text)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    value = line[: place.column - 1].rstrip(" \t")
    blanks = line[len(value) : place.column]
    if "\t" not in blanks or value.endswith(("'", '"', "}", "]", ",")):
        return None
    position = SourcePosition(place.line, len(value) + blanks.index("\t") + 1)
    return YamlUnreadable(position, _("there is a tab here: replace it with a space"))


def _forbidden_character(text: str, position: int) -> YamlUnreadable:
    before = text[:position]
    place = SourcePosition(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    what = _(
        "the character U+{code:04X} cannot stand in a configuration: delete it",
        code=ord(text[position]),
    )
    return YamlUnreadable(place, what)


def _place(mark: Any) -> SourcePosition:
    return SourcePosition(mark.line + 1, mark.column + 1) if mark else SourcePosition(1, 1)


@dataclass(slots=True)
class Tree:
    """The content of a file, with places. `wrong`: problems found while it was read."""

    data: Any = None
    keys: dict[ValuePath, SourcePosition] = field(default_factory=dict)
    values: dict[ValuePath, SourcePosition] = field(default_factory=dict)
    wrong: list[tuple[ValuePath, SourcePosition, str]] = field(default_factory=list)

    def place(self, path: ValuePath) -> SourcePosition:
        """The place of a value, or of the nearest mapping around it."""
        for end in range(len(path), -1, -1):
            if position := self.values.get(path[:end]):
                return position
        return SourcePosition(1, 1)

    def key_place(self, path: ValuePath) -> SourcePosition:
        """The place of a key, or of the nearest mapping around it."""
        return self.keys.get(path) or self.place(path)


def no_files(name: str) -> str:
    """Include nothing, for a text that is not in a file. Raises Refused."""
    raise Refused("{name} cannot be included here", name=shown(name))


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

    def build(self, node: Node, path: ValuePath, within: tuple[Node, ...]) -> Any:
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

    def _mapping(
        self, node: MappingNode, path: ValuePath, inner: tuple[Node, ...]
    ) -> dict[str, Any]:
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

    def _cut_off(self, name: str, value: Node, path: ValuePath, mapping: dict[str, Any]) -> bool:
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

    def _key(self, key: Node, path: ValuePath, mapping: dict[str, Any]) -> str | None:
        if not isinstance(key, ScalarNode):
            what = _("a key is one word; if `{{ … }}` stands here, a template was not filled in")
            self._complain(path, key, what)
            return None
        name = SURROGATE.sub("?", cast("str", key.value))
        if name in mapping:
            first = self.tree.keys[*path, name].line
            what = _("this key occurs twice, first in line {first}: keep one of them", first=first)
            if isinstance(mapping[name], dict | list):
                what = _(
                    "`{name}:` occurs twice, first in line {first}: delete this line, and put what"
                    " is below it under the first one",
                    name=name,
                    first=first,
                )
            self._complain((*path, name), key, what)
            return None
        return name

    def _merged(self, value: Node, path: ValuePath, inner: tuple[Node, ...]) -> dict[str, Any]:
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

    def _included(self, node: ScalarNode, path: ValuePath, inner: tuple[Node, ...]) -> Any:
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
            self._complain(path, node, in_language(error))
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

    def _scalar(self, node: Node, path: ValuePath) -> Any:
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

    def _complain(self, path: ValuePath, node: Node, what: str) -> None:
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


class Enough(Exception):
    """There are so many problems that more would not help."""


class ProblemReport:
    """Problems with their places. They are collected, so that one does not hide another."""

    def __init__(self, name: str, tree: Tree) -> None:
        self._name = name
        self._tree = tree
        # a set: each device that names an invalid profile adds the same problems
        self._problems: set[Problem] = set()

    def tree(self) -> None:
        """Add the problems found while the text was read. Raises Enough, as all below do."""
        for path, place, what in self._tree.wrong:
            self._add(path, place, what)

    def problems(self) -> tuple[Problem, ...]:
        """All problems in the order of the files, the main file first."""
        return tuple(sorted(self._problems, key=lambda p: (p.path != self._name, p)))

    def value(self, path: ValuePath, what: str) -> None:
        """Report a problem of a value."""
        self._add(path, self._tree.place(path), what)

    def key(self, path: ValuePath, what: str) -> None:
        """Report a problem of a key, or of the mapping under it."""
        self._add(path, self._tree.key_place(path), what)

    def line(self, path: ValuePath) -> str:
        """The line of a key, for a message that names two places: `line 12`."""
        place = self._tree.key_place(path)
        if place.file:
            return _("line {line} of {file}", line=place.line, file=place.file)
        return _("line {line}", line=place.line)

    def build(
        self,
        model: type[Model],
        data: object,
        path: ValuePath,
        beside: Iterable[str] = (),
        unknown: Iterable[str] = (),
    ) -> Model | None:
        """Validate plain data as a model; None: it is invalid, and its problems are reported.

        `beside`: options in the same mapping that belong to other models; `unknown`: unknown
        options in it, which are reported already.
        """
        # `clock:` with nothing below it is an empty section, not a mistake
        validator: Any = model.__pydantic_validator__  # type: ignore[attr-defined] # both have it
        try:
            made: Model = validator.validate_python(
                {} if data is None else data, context=FROM_A_FILE
            )
        except ValidationError as error:
            errors = error.errors(include_url=False)[:MOST]
            for wrong in errors:
                if not _misspelt(wrong, errors, unknown) and not _follows(wrong, errors):
                    self._explain(model, wrong, path, beside)
            return None
        return made

    def _explain(
        self, model: type[Any], wrong: Any, path: ValuePath, beside: Iterable[str]
    ) -> None:
        keys, on_key, what = explain(model, wrong, beside)
        (self.key if on_key else self.value)((*path, *keys), what)

    def _add(self, path: ValuePath, place: SourcePosition, what: str) -> None:
        self.add(at(place, self._name, dotted(path), harmless(what)))

    def add(self, problem: Problem) -> None:
        """Report a problem in another file that this one needs."""
        self._problems.add(problem)
        # bounded (rule U4): a file that is no configuration can be wrong on every line
        if len(self._problems) >= MOST:
            raise Enough


def _follows(wrong: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """Whether a list is too short only because of an invalid entry, which is reported already."""
    loc = wrong["loc"]
    return wrong["type"] == "too_short" and any(
        len(one["loc"]) > len(loc) and one["loc"][: len(loc)] == loc for one in errors
    )


def _misspelt(wrong: ErrorDetails, errors: list[ErrorDetails], unknown: Iterable[str]) -> bool:
    """Whether a missing option is written under a wrong name, which is reported already."""
    name = wrong["loc"][-1] if wrong["loc"] else ""
    beside = [str(other["loc"][-1]) for other in errors if other["type"] in UNKNOWN]
    near = (did_you_mean(stranger, [str(name)]) for stranger in [*unknown, *beside])
    return wrong["type"] == "missing" and any(near)
