"""What of the house style can be counted: `make house` shows it, `make check` refuses it.

- A class name stands for one thing in `agent/`; `Settings` aside, one in each transport.
- No variable, argument or attribute is called said, found, told, one or word(s); in comprehensions
  and lambdas a short name is allowed.
- Citations of rules (docs/rules) that resolve to no clause.
- Constants of our own modules that tests patch.
- Comments per hundred lines of code.
"""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
ODD = re.compile(r"_*(said|found|told|one|words?)_*")
"""names that say nothing of the thing"""
ROLES = {"Settings"}
"""class names that play the same role in several folders"""
FORMATS = {
    "agent/config/models.py": {"words"},
    "agent/control/model.py": {"word"},
    "agent/control/records.py": {"words"},
    "agent/control/recovery.py": {"words"},
    "agent/drivers/base.py": {"words"},
    "agent/api/protection/breach.py": {"told"},
    "agent/registry/records.py": {"word"},
}
"""members that stand in files, answers or the configuration by these names"""
SHORT = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Lambda
NO_COMMENT = re.compile(r"#\s*(noqa|fmt|type|!|-\*-)")
CITED = re.compile(r"\b[Rr]ules?\s+((?:[A-Z]\d+)(?:,\s+[A-Z]\d+)*)")
CLAUSE = re.compile(r"^\*\*([A-Z]\d+)\*\*", re.MULTILINE)


def sources() -> Iterator[Path]:
    """Each module of the agent."""
    return iter(sorted((ROOT / "agent").rglob("*.py")))


def bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each name that a module binds outside comprehensions and lambdas, with its line."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, SHORT):
            continue
        stack += ast.iter_child_nodes(node)
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno
            case ast.alias(asname=str(name)) | ast.MatchAs(name=str(name)):
                yield name, node.lineno


def odd_names() -> list[str]:
    """`file:line: name` of each name that says nothing."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources()
        for name, line in sorted(bound(ast.parse(path.read_text("utf-8"))), key=lambda it: it[1])
        if ODD.fullmatch(name) and name not in FORMATS.get(str(path.relative_to(ROOT)), ())
    ]


def used_twice() -> list[str]:
    """Each class name that stands for two things, with its files."""
    files: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name not in ROLES:
                files[node.name].append(str(path.relative_to(ROOT)))
    return [f"{name}: {', '.join(of)}" for name, of in sorted(files.items()) if len(of) > 1]


def unresolved() -> list[str]:
    """Each citation of a clause that there is not."""
    pages = (ROOT / "docs/rules").glob("*.md")
    clauses = {clause for page in pages for clause in CLAUSE.findall(page.read_text("utf-8"))}
    return [
        f"{path.relative_to(ROOT)}: {clause}"
        for path in sources()
        for cited in CITED.findall(path.read_text("utf-8"))
        for clause in re.split(r",\s+", cited)
        if clause not in clauses
    ]


def comments() -> tuple[int, int]:
    """Comments that people read, and lines of code."""
    seen: Counter[str] = Counter()
    for path in sources():
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.COMMENT and not NO_COMMENT.match(token.string):
                    seen["comments"] += 1
        seen["lines"] += sum(1 for line in path.read_text("utf-8").splitlines() if line.strip())
    return seen["comments"], seen["lines"]


def patched() -> list[str]:
    """`file:line: name` of each constant of a module of ours that a test patches."""
    patches = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        modules: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.ImportFrom(module=str(module), names=names) if module.startswith("agent"):
                    modules |= {name.asname or name.name for name in names}
                case ast.Call(
                    func=ast.Attribute(attr="setattr"),
                    args=[ast.Name(id=module), ast.Constant(value=str(name)), _],
                ) if module in modules:
                    patches.append(f"{path.relative_to(ROOT)}:{node.lineno}: {module}.{name}")
    return patches


def main() -> None:
    """Print the counts; with `--check` only what is refused, and status 1 where there is any."""
    twice, odd, lost = used_twice(), odd_names(), unresolved()
    if "--check" in sys.argv:
        print(*twice, *odd, *lost, sep="\n", end="\n" if twice or odd or lost else "")
        sys.exit(bool(twice or odd or lost))
    written, lines = comments()
    print(f"class names that stand for two things  {len(twice)}")
    print(f"names that say nothing                 {len(odd)}")
    print(f"citations that resolve to no clause    {len(lost)}")
    print(f"patches of our own modules in tests    {len(patched())}")
    print(f"comments per hundred lines             {100 * written / lines:.1f}")


if __name__ == "__main__":
    main()
