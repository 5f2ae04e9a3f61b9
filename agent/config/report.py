"""The problems of one file, collected while the checks go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from agent.config.explain import UNKNOWN, explain
from agent.config.problem import Path, Problem, SourcePosition, at, did_you_mean, dotted
from agent.core.i18n import _
from agent.core.settings import FROM_A_FILE, harmless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from agent.config.tree import Tree

Model = TypeVar("Model")
"""a pydantic model or dataclass"""


MOST = 100
"""problems that are reported at once"""


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

    def value(self, path: Path, what: str) -> None:
        """Report a problem of a value."""
        self._add(path, self._tree.place(path), what)

    def key(self, path: Path, what: str) -> None:
        """Report a problem of a key, or of the mapping under it."""
        self._add(path, self._tree.key_place(path), what)

    def line(self, path: Path) -> str:
        """The line of a key, for a message that names two places: `line 12`."""
        place = self._tree.key_place(path)
        if place.file:
            return _("line {line} of {file}", line=place.line, file=place.file)
        return _("line {line}", line=place.line)

    def build(
        self,
        model: type[Model],
        data: object,
        path: Path,
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

    def _explain(self, model: type[Any], wrong: Any, path: Path, beside: Iterable[str]) -> None:
        keys, on_key, what = explain(model, wrong, beside)
        (self.key if on_key else self.value)((*path, *keys), what)

    def _add(self, path: Path, place: SourcePosition, what: str) -> None:
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
