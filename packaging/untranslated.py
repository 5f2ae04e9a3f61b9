"""Messages for people that pass by the catalogue: `make check` fails on one.

What is searched: errors of agent/core/errors.py whose message has its values in it, so that it
cannot be translated; and, in the packages that write for people, every sentence that is no argument
of a function that marks messages. The help of commands is translated as a whole (`helped` in
packaging/catalogue.py).
"""

from __future__ import annotations

import ast
import re
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

MARKS = {"_", "N_", "n_", "Text", "Plural", "Forged"}
"""functions that mark messages; the details of a refused object (Forged) are for programmers"""
FOR_PEOPLE = (
    "cli/", "api/", "registry/", "control/context", "control/decide", "control/guard",
    "control/history", "control/hold", "control/recovery", "control/release", "control/self_test",
    "core/state", "enrolment/",
)  # fmt: skip
"""where every sentence is for people"""
NOT_FOR_PEOPLE = (
    "api/forms", "api/metric_types", "api/protection/", "api/roles", "api/syndic",
    "registry/explain", "registry/facts/", "registry/forms", "registry/letter", "registry/page",
    "registry/recognition", "registry/records", "registry/storage", "registry/syndic_export",
    "registry/words",
)  # fmt: skip
"""of these: headings of spreadsheets, formats (help of metrics), and pages that have texts in
both languages
"""
NO_MESSAGE = {
    "Argument", "Field", "Option", "TypeVar", "Typer", "add_typer", "command", "compile", "decode",
    "encode", "endswith", "execute", "fields",
    "findall", "finditer", "fullmatch", "get", "getattr", "match", "partition",
    "pop", "removeprefix", "removesuffix", "replace", "search", "setdefault", "split", "startswith",
    "strftime", "sub",
}  # fmt: skip
"""functions whose strings nobody reads, or which declare help"""
NO_WORDS = re.compile(
    r"[\w./-]*[./_=-][\w./-]*|`[^`]*`|^gardien [a-z{} -]+$"
    r"|^ *(sudo|sudoedit|resolvectl|ping|ls|echo|gardien|&&) .+$"
)
"""in a string: names of files and options, commands"""
FOR_PROGRAMS = {"cause", "code", "command"}
"""arguments that nobody reads as a sentence"""
EXEMPT = {
    '{recipient: {}, transport: {}, url: "{}"}', ", transport: ", ', url: "',
    "sudo adduser {} {}", "{} && sudo systemctl restart gardien", "kid {}", "<taken out>",
    "with dwellings", "Lines and devices", "Places, meters and consents", "draft{}",
    "Control and signed objects", "Delivery and keys", "lot {}", "place de parking",
    "parking space", "sha256:{}", "lives in", "is called", "Basic {}", "unexpected end of data",
    "https://{}{}", "https://pki.example{}", "numéro fiscal",
    "card wear", "line {}", "line {} disturbed", "uplink {}", "{}T{}Z",
    "gardien {}, Python {}, {}; {}",
    'SUBSYSTEM=="tty", KERNEL=="{}", GROUP="{}", MODE="0660"', "%Y-%m-%dT%H:%M:%SZ",
    "; confirmed:", "{}; confirmed: {}", "be refused", "be done", "lose against a stronger order",
    "change nothing", 'SUBSYSTEM=="tty", KERNEL=="', "' | sudo tee -a",
    "`gardien control release", "https://{}", "--certificate FILE --key FILE",
}  # fmt: skip
"""strings that are no messages: commands, words of formats and of records, headings of the help"""


def outside(modules: Mapping[Path, ast.Module], top: Path) -> Iterator[str]:
    """Where a message passes by the catalogue: `cli/key.py:33: this gateway is {}`."""
    failing = errors(modules.values())
    for path, tree in modules.items():
        name = str(path.relative_to(top))
        found = _raised(tree, failing)
        if name.startswith(FOR_PEOPLE) and not name.startswith(NOT_FOR_PEOPLE):
            found = chain(found, _sentences(tree, MARKS | failing))
        for line, text in sorted(set(found)):
            yield f"{name}:{line}: {text}"


def errors(trees: Iterable[ast.Module]) -> set[str]:
    """The names of the errors whose first argument is a message: see agent/core/errors.py."""
    classes = [one for tree in trees for one in ast.walk(tree) if isinstance(one, ast.ClassDef)]
    found = {"AgentError"}
    while more := {
        one.name
        for one in classes
        if one.name not in found and found & {getattr(base, "id", "") for base in one.bases}
    }:
        found |= more
    return found - {"Forged"}


def _raised(tree: ast.AST, failing: set[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        # `lost(error)(…)`: a function has chosen the class of the error
        if not isinstance(called, ast.Call) and getattr(called, "id", "") not in failing:
            continue
        for first in node.args[:1]:
            for said in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
                if isinstance(said, ast.JoinedStr | ast.BinOp) and "{}" in _plain(said):
                    yield node.lineno, _plain(said)


def _sentences(node: ast.AST, marks: set[str]) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and _sentence(node)):
        text = _plain(node)
        if _words(text) and text.strip() not in EXEMPT:
            yield node.lineno, text
            return
    for part in _parts(node, marks):
        yield from _sentences(part, marks)


def _parts(node: ast.AST, marks: set[str]) -> Iterable[ast.AST]:
    """The parts of a node in which a sentence may be."""
    parts: Iterable[ast.AST]
    match node:
        case ast.Call():
            parts = _arguments(node, marks)
        case ast.Expr(value=ast.Constant()) | ast.Compare():  # a docstring, a comparison
            parts = ()
        case ast.AnnAssign():
            parts = [node.value] if node.value else ()
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.match_case():
            parts = node.body
        case ast.Subscript():
            parts = [node.value]
        case ast.Dict():
            parts = node.values
        case _:
            parts = ast.iter_child_nodes(node)
    return parts


def _arguments(call: ast.Call, marks: set[str]) -> Iterable[ast.AST]:
    function = call.func
    name = getattr(function, "id", getattr(function, "attr", ""))
    if isinstance(function, ast.Name) and name in marks:
        return [
            *(one for one in call.args if not isinstance(one, ast.Constant)),
            *(one.value for one in call.keywords if one.arg not in FOR_PROGRAMS),
        ]
    logged = isinstance(function, ast.Attribute) and ast.unparse(function.value) == "log"
    foreign = name.endswith("Error") and name != "ValueError"
    return () if logged or foreign or name in NO_MESSAGE else ast.iter_child_nodes(call)


def _sentence(node: ast.Constant) -> bool:
    return isinstance(node.value, str) and " " in node.value.strip()


def _plain(node: ast.AST) -> str:
    match node:
        case ast.JoinedStr():
            return "".join(map(_plain, node.values))
        case ast.BinOp():
            return _plain(node.left) + _plain(node.right)
        case ast.Constant(value=str(text)):
            return text
    return "{}"


def _words(text: str) -> bool:
    return bool(re.search(r"[^\W\d_]{2,}", NO_WORDS.sub("", text)))
