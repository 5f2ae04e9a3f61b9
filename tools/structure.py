"""The structure of agent/ in numbers: `make house` shows it, `make check` refuses an import cycle.

Files and lines; layers of the import contract; modules at the root; modules whose only importer is
in their own folder; import cycles, also of imports for type hints only.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "agent").rglob("*.py"))
}


def imports() -> dict[str, set[str]]:
    """For each module of the agent, those that it imports at any place."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agent"):
                for name in node.names:
                    whole = f"{node.module}.{name.name}"
                    graph[module].add(whole if whole in MODULES else str(node.module))
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    reached: dict[str, set[str]] = {}
    for module in MODULES:
        seen, stack = set(), [module]
        while stack:
            for other in graph[stack.pop()] - seen:
                seen.add(other)
                stack.append(other)
        reached[module] = seen
    rings = {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in MODULES}
    return sorted(sorted(ring) for ring in rings if len(ring) > 1)


def main() -> None:
    """Print the counts; with `--check` only the cycles, and status 1 where there is one."""
    graph = imports()
    rings = cycles(graph)
    if "--check" in sys.argv:
        for ring in rings:
            print("import each other:", *ring)
        sys.exit(bool(rings))
    importers: dict[str, set[str]] = defaultdict(set)
    for module, others in graph.items():
        for other in others - {module}:
            importers[other].add(module)
    lone = [
        module
        for module, by in importers.items()
        if len(by) == 1 and next(iter(by)).rpartition(".")[0] == module.rpartition(".")[0]
    ]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in MODULES.values())
    print(f"files in agent/                        {len(MODULES)}")
    print(f"lines in agent/                        {lines}")
    print(f"layers                                 {len(contract['layers'])}")
    print(f"modules at the root                    {len([*(ROOT / 'agent').glob('*.py')])}")
    print(f"modules with one importer beside them  {len(lone)}")
    print(f"import cycles                          {len(rings)}")
    if "-v" in sys.argv:
        print(*(f"  {module}" for module in sorted(lone)), sep="\n")


if __name__ == "__main__":
    main()
