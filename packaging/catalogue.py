"""What the code says to people, for the catalogues: `python3 packaging/catalogue.py fr`.

Prints the messages that `agent/locale/fr.po` does not have yet, in its own form, ready to be
appended and translated.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

TOP = Path(__file__).resolve().parents[1]
sys.path.append(str(TOP))

import agent  # noqa: E402 -- found by the line above
from agent.config.schema import schema  # noqa: E402
from agent.core.i18n import entries  # noqa: E402

HERE = Path(agent.__file__).parent

if TYPE_CHECKING:
    from collections.abc import Iterator

SAID = {"_": 1, "N_": 1, "n_": 2, "Text": 1}
"""how many messages each function of agent/core/i18n.py takes first"""


def messages() -> dict[str, str]:
    """Every message that the code marks, with the first place where it stands."""
    found: dict[str, str] = {}
    for path in sorted(HERE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for message in _marked(tree):
            found.setdefault(message, str(path.relative_to(HERE.parent)))
    for word in asked_for():
        found.setdefault(word, "an option that must be written")
    return found


def _marked(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        for argument in node.args[: SAID.get(node.func.id, 0)]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value


def asked_for() -> Iterator[str]:
    """What the options mean that a file must have: said where one is missing."""
    todo: list[object] = [schema()]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            todo += part.values()
            for name in part.get("required", ()):
                said = part.get("properties", {}).get(name, {}).get("description")
                yield from [said] if said else []
        elif isinstance(part, list):
            todo += part


def known(language: str) -> dict[str, str]:
    """What a catalogue has."""
    path = HERE / "locale" / f"{language}.po"
    return dict(entries(path.read_text(encoding="utf-8")))


def main() -> None:
    """Print what is missing."""
    had = known(sys.argv[1])
    for message, place in messages().items():
        if message not in had:
            print(f'\n#: {place}\nmsgid {json.dumps(message, ensure_ascii=False)}\nmsgstr ""')


if __name__ == "__main__":
    main()
