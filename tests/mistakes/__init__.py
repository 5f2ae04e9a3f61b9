"""A hundred mistakes of people, provoked on the real command line: README.md."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

HERE = Path(__file__).parent
WHO = ("installer", "manager", "operator", "platform")
KINDS = ("file", "run time")
WORLDS = ("bare", "own", "shared")


@dataclass(frozen=True)
class Mistake:
    """One entry of mistakes.yaml."""

    id: str
    who: str
    kind: str
    does: str
    world: str
    types: str
    happened: str
    costs: str
    next: str
    setup: str = ""
    after: str = ""
    """steps that undo what a later recipe must not find"""
    account: str = ""
    """who types; default: root"""
    answers: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    """facts and commands that are printed in every language; for those that the suite makes"""
    hides: tuple[str, ...] = ()
    """what must not be printed"""


@cache
def mistakes() -> tuple[Mistake, ...]:
    """Return all entries, in the order of the file. Raises TypeError for an unknown field."""
    entries = YAML(typ="safe").load((HERE / "mistakes.yaml").read_text(encoding="utf-8"))
    lists = ("answers", "shows", "hides")
    return tuple(
        Mistake(**{name: tuple(v) if name in lists else v for name, v in entry.items()})
        for entry in entries
    )
