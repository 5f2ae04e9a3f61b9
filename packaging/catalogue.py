"""What the code says to people, for the catalogues: `python3 packaging/catalogue.py fr`.

Prints the messages that `agent/locale/fr.po` does not have yet, in its own form, ready to be
appended and translated.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import typer
from jinja2 import Environment
from jinja2.ext import extract_from_ast

TOP = Path(__file__).resolve().parents[1]
sys.path += [str(TOP), str(TOP / "packaging")]

from untranslated import errors, outside  # noqa: E402

import agent  # noqa: E402 -- found by the line above
from agent.cli import command_line  # noqa: E402
from agent.config.schema import schema  # noqa: E402
from agent.core.i18n import entries  # noqa: E402
from agent.drivers.profile import Offer, Profile, WatchdogProfile, profile, profiles  # noqa: E402

HERE = Path(agent.__file__).parent

if TYPE_CHECKING:
    from collections.abc import Iterator

SAID = {"_": (0,), "N_": (0,), "n_": (0, 1), "Text": (0,), "Plural": (0, 1)}
"""which arguments of a function are messages: those of agent/core/i18n.py, and the errors"""


def modules() -> dict[Path, ast.Module]:
    """Every module of the agent."""
    return {
        path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(HERE.rglob("*.py"))
    }


def messages() -> dict[str, str]:
    """Every message that the code marks, with the first place where it stands."""
    found: dict[str, str] = {}
    trees = modules()
    said = SAID | dict.fromkeys(errors(trees.values()), (0,))
    for path, tree in trees.items():
        for message in _marked(tree, said):
            found.setdefault(message, str(path.relative_to(HERE.parent)))
    for message, path in in_templates():
        found.setdefault(message, path)
    for word in asked_for():
        found.setdefault(word, "an option that must be written")
    for message in helped(command_line()):
        found.setdefault(message, "help")
    for name in profiles():
        used = profile(name)
        for part in (used, used.serial, *used.points.values()):
            if part and part.verify:
                found.setdefault(part.verify, f"the profile {name}")
    for message in libraries():
        found.setdefault(message, "typer and click")
    return found


def in_templates() -> Iterator[tuple[str, str]]:
    """Each message that a template of the web page marks, with its file."""
    for path in sorted((HERE / "web/templates").glob("*.html")):
        tree = Environment(autoescape=True).parse(path.read_text(encoding="utf-8"))
        for _line, _function, marked in extract_from_ast(tree, ("_", "n_")):
            for message in (marked,) if isinstance(marked, str) else marked or ():
                if message:
                    yield message, str(path.relative_to(HERE.parent))


def _marked(tree: ast.AST, said: dict[str, tuple[int, ...]]) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        for place in said.get(node.func.id, ()):
            argument = node.args[place] if place < len(node.args) else None
            text = argument.value if isinstance(argument, ast.Constant) else None
            # what is marked by N_ is wanted even without words, as the form of a date is
            if isinstance(text, str) and (node.func.id == "N_" or letters(text)):
                yield text


def letters(message: str) -> bool:
    """Whether a message has words of its own beside its values, or marks that French spaces."""
    own = re.sub(r"\{[^}]*\}", "", message)
    return any(letter.isalpha() for letter in own) or bool(re.search("[:;]( |$)", own))


def helped(command: Any) -> Iterator[str]:
    """The help of a command, of its options and of the commands below it."""
    for part, names in (
        (command, ("help", "short_help", "rich_help_panel")),
        *((param, ("help", "metavar", "prompt")) for param in command.params),
    ):
        texts = [getattr(part, name, None) for name in names]
        if getattr(part, "param_type_name", "") == "argument":
            texts = [getattr(part, "help", None), (part.metavar or "").strip("[].")]
        yield from [text for text in texts if isinstance(text, str) and letters(text)]
    for subcommand in getattr(command, "commands", {}).values():
        yield from helped(subcommand)


def libraries() -> Iterator[str]:
    """The words that the installed typer and click take from gettext."""
    for library in (click, typer):
        for path in sorted(Path(library.__file__).parent.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            yield from _marked(tree, {"_": (0,), "gettext": (0,), "ngettext": (0, 1)})


def asked_for() -> Iterator[str]:
    """What the options mean that a file must have: said where one is missing."""
    for part in (Profile, Offer, WatchdogProfile):
        for field in part.__pydantic_fields__.values():  # type: ignore[attr-defined]
            if field.is_required() and field.description:
                yield field.description
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
    """Print what is missing, and what passes by the catalogue."""
    had = known(sys.argv[1])
    for place in outside(modules(), HERE):
        print(f"outside the catalogue: {place}")
    for message, place in messages().items():
        if message not in had:
            print(f'\n#: {place}\nmsgid {json.dumps(message, ensure_ascii=False)}\nmsgstr ""')


if __name__ == "__main__":
    main()
