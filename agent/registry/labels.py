"""Find a place by its label, id or alias."""

from __future__ import annotations

import unicodedata
from copy import copy
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.registry.place import looks_like_id, parse, shown, squeeze
from agent.registry.problems import did_you_mean
from agent.registry.schemes import Cardinality, scheme
from agent.registry.sorted_groups import grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from agent.registry.records import Alias, Place


HINTS = 50
"""suggestions that are made before the registry changes again; each takes milliseconds"""


def label_key(label: str) -> str:
    """Labels with the same key are the same label: case and spacing do not count."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def _loose_key(label: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", label).casefold() if c.isalnum())


class Labels:
    """The places of a building by id, label, label without punctuation, and alias.

    An alias that all places of a building share finds none of them. It never changes; `and_with`
    gives its successor.
    """

    def __init__(self, places: Mapping[str, Place] | None = None) -> None:
        self._places: Mapping[str, Place] = {}
        self.by_label: Mapping[str, Place] = {}
        self._loosely: Mapping[str, tuple[Place, ...]] = {}
        self._by_alias: Mapping[str, tuple[Alias, ...]] = {}
        self._hints_left = HINTS
        if places:
            self._add(places, list(places.values()))

    def and_with(
        self,
        places: Mapping[str, Place],
        new: Sequence[Place],
        gone_aliases: Iterable[Alias],
        new_aliases: Iterable[Alias],
        order: Callable[[Alias], Any],
    ) -> Labels:
        """The labels after a change. `places`: all of them; `order`: of the aliases."""
        after = copy(self)
        after._hints_left = HINTS  # noqa: SLF001 -- of its own
        if new:
            after._add(places, new)  # noqa: SLF001
        gone = [alias for alias in gone_aliases if _names(alias, places)]
        added = [alias for alias in new_aliases if _names(alias, places)]
        if gone or added:
            by = grouped(self._by_alias, gone, added, _alias_keys, order)
            after._by_alias = by  # noqa: SLF001
        return after

    def _add(self, places: Mapping[str, Place], new: Sequence[Place]) -> None:
        self._places = places
        self.by_label = {**self.by_label, **{label_key(place.label): place for place in new}}
        # in the order in which they were recorded: a new one is the last
        self._loosely = grouped(
            self._loosely, (), new, lambda place: (_loose_key(place.label),), lambda _: 0
        )

    def find(self, text: str) -> Place:
        """The place that is meant. Raises Refused if none or several fit, with the candidates."""
        near = self.meant(text)
        if len(near) == 1:
            return near[0]
        if near:
            raise Refused(f'"{text}" may be {" or ".join(_named(place) for place in near)}')
        if looks_like_id(text):
            raise Refused(f"there is no place {shown(parse(text))} in this registry")
        raise Refused(f'there is no place "{text}"{self._hint(text)}')

    def meant(self, text: str) -> list[Place]:
        """The places that may be meant: none, one or several."""
        # exact matches first, so that a loose one can never take their place
        known = self._places.get(squeeze(text)) or self.by_label.get(label_key(text))
        if known:
            return [known]
        loose = list(self._loosely.get(_loose_key(text), ()))
        # several aliases of one place may have the same name
        aliases = self._by_alias.get(_loose_key(text), ())
        named = [self._places[id_] for id_ in dict.fromkeys(alias.place for alias in aliases)]
        # a label that differs only in punctuation comes before an alias, unless several places fit
        # it
        return named if len(loose) != 1 and len(named) == 1 else loose or named

    def _hint(self, text: str) -> str:
        """Suggestions for a label; limited to HINTS, since every line of a file may be wrong and a
        search for similar labels takes milliseconds.
        """
        self._hints_left -= 1
        labels = [place.label for place in self._places.values()]
        return did_you_mean(text, labels) if self._hints_left >= 0 else ""


def _names(alias: Alias, places: Mapping[str, Place]) -> bool:
    """Whether a place is found by an alias: not if it has ended, or if all places share it."""
    return (
        alias.until is None
        and alias.place in places
        and scheme(alias.scheme).names is not Cardinality.SHARED
    )


def _alias_keys(alias: Alias) -> set[str]:
    """What people write for an alias: 34, lot 34 or fr.lot 34."""
    known = scheme(alias.scheme)
    names = (alias.value, known.title + alias.value, known.name + alias.value)
    return {_loose_key(name) for name in names}


def _named(place: Place) -> str:
    return f"{place.label} ({shown(place.id)})"
