"""Find a place by its label, id or alias."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.registry.place import looks_like_id, parse, shown, squeeze
from agent.registry.problems import did_you_mean
from agent.registry.schemes import Cardinality, scheme

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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

    An alias that all places of a building share finds none of them.
    """

    def __init__(self, places: Mapping[str, Place], aliases: Iterable[Alias] = ()) -> None:
        self._places = places
        self.by_label = {label_key(place.label): place for place in places.values()}
        self._loosely: dict[str, list[Place]] = {}
        for place in places.values():
            self._loosely.setdefault(_loose_key(place.label), []).append(place)
        self._hints_left = HINTS
        self._by_alias: dict[str, list[Place]] = {}
        for alias in aliases:
            known = scheme(alias.scheme)
            if known.names is not Cardinality.SHARED and alias.place in places and _in_use(alias):
                # people write 34, lot 34 or fr.lot 34
                for name in (alias.value, known.title + alias.value, known.name + alias.value):
                    named = self._by_alias.setdefault(_loose_key(name), [])
                    if places[alias.place] not in named:
                        named.append(places[alias.place])

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
        loose, named = self._loosely.get(_loose_key(text), []), self._by_alias.get(_loose_key(text))
        # a label that differs only in punctuation comes before an alias, unless several places fit
        # it
        return named if named and len(loose) != 1 and len(named) == 1 else loose or named or []

    def _hint(self, text: str) -> str:
        """Suggestions for a label; limited to HINTS, since every line of a file may be wrong and a
        search for similar labels takes milliseconds.
        """
        self._hints_left -= 1
        labels = [place.label for place in self._places.values()]
        return did_you_mean(text, labels) if self._hints_left >= 0 else ""


def _in_use(alias: Alias) -> bool:
    """Whether an alias has not ended; an ended alias finds nothing."""
    return alias.until is None


def _named(place: Place) -> str:
    return f"{place.label} ({shown(place.id)})"
