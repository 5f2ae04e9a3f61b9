"""Finding a place by what people call it."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from agent.errors import Refused
from agent.registry.place import looks_like_id, parse, shown, squeeze
from agent.registry.problems import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.registry.documents import Place


def label_key(label: str) -> str:
    """Two labels with one key are one label: case and the amount of space do not count."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def _loose_key(label: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", label).casefold() if c.isalnum())


class Labels:
    """The places of a building by id, label, and label without its punctuation."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places
        self.by_label = {label_key(place.label): place for place in places.values()}
        self._loosely: dict[str, list[Place]] = {}
        for place in places.values():
            self._loosely.setdefault(_loose_key(place.label), []).append(place)

    def find(self, text: str) -> Place:
        """Find the place that is meant. Raises Refused on none or several, with candidates."""
        known = self._places.get(squeeze(text)) or self.by_label.get(label_key(text))
        if known:
            return known
        near = self._loosely.get(_loose_key(text), [])
        if len(near) == 1:
            return near[0]
        if near:
            raise Refused(f'"{text}" may be {" or ".join(_named(place) for place in near)}')
        if looks_like_id(text):
            raise Refused(f"there is no place {shown(parse(text))} in this registry")
        labels = [place.label for place in self._places.values()]
        raise Refused(f'there is no place "{text}"{did_you_mean(text, labels)}')


def _named(place: Place) -> str:
    return f"{place.label} ({shown(place.id)})"
