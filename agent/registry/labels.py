"""Find a place by label, id or alias; systems of aliases and their form (rule I6)."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, insort
from copy import copy
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from agent.core.errors import Refused
from agent.core.i18n import N_, Text, joined
from agent.registry.place import looks_like_id, parse, shown, squeeze
from agent.registry.sheet import did_you_mean
from agent.registry.words import SCHEMES as SCHEME_WORDS
from agent.registry.words import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from typing import Any

    from agent.registry.records import Alias, Place

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

FEW = 100
"""new members that are put in their places; sorting the whole list is quicker for more"""
VENDOR = re.compile(r"bis:[a-z0-9][a-z0-9.-]{0,30}")
"""the building management system's own key: `bis:desigo`"""
LONGEST_KEY = 200
HINTS = 50
"""suggestions that are made before the registry changes again; each takes milliseconds"""


def natural(name: str) -> list[int | str]:
    """Return a key by which the numbers in names are sorted as numbers."""
    # every second part is a number; `isdecimal` would also take digits of other scripts
    parts = enumerate(re.split("([0-9]+)", name))
    return [int(part) if place % 2 else part for place, part in parts]


def listed(
    members: Sequence[V], gone: Iterable[V], new: Sequence[V], order: Callable[[V], Any]
) -> list[V]:
    """A sorted list with other members. `order` must tell all members apart."""
    after = list(members)
    for member in gone:
        del after[bisect_left(after, order(member), key=order)]
    if len(new) > FEW:
        return sorted([*after, *new], key=order)
    for member in new:
        insort(after, member, key=order)
    return after


def grouped(
    groups: Mapping[K, tuple[V, ...]],
    gone: Iterable[V],
    new: Iterable[V],
    keys: Callable[[V], Iterable[K]],
    order: Callable[[V], Any],
) -> Mapping[K, tuple[V, ...]]:
    """Sorted groups with other members; `keys`: the groups to which a member belongs."""
    changed: dict[K, list[V]] = {}
    for member in gone:
        for key in keys(member):
            if key not in changed:
                changed[key] = list(groups[key])
            changed[key].remove(member)
    for member in new:
        for key in keys(member):
            if (members := changed.get(key)) is None:
                changed[key] = [*groups.get(key, ()), member]
            else:
                members.append(member)
    after = dict(groups)
    for key, members in changed.items():
        if len(members) > 1:
            members.sort(key=order)
        after[key] = tuple(members)
    for key in [key for key, members in changed.items() if not members]:
        del after[key]
    return after


class Cardinality(Enum):
    """How many places and values may belong together at any one time."""

    ONE_TO_ONE = N_("one place has one value")
    PARTS = N_("one place may have several, such as the lots of a flat and its cellar")
    SHARED = N_("all places of a building share it: it finds none of them")


@dataclass(frozen=True, slots=True)
class Scheme:
    """One system of aliases."""

    name: str
    title: str
    """its name for people"""
    names: Cardinality
    example: str
    pattern: re.Pattern[str]
    checks: Callable[[str], bool] | None = None


def _malo(value: str) -> bool:
    digits = [int(digit) for digit in value]
    total = sum(digits[0:10:2]) + 2 * sum(digits[1:10:2])
    return digits[10] == -total % 10


def _cups(value: str) -> bool:
    letters = "TRWAGMYFPDXBNJZSQVHLCKE"
    high, low = divmod(int(value[2:18]) % 529, 23)
    return value[18:20] == letters[high] + letters[low]


def _scheme(  # noqa: PLR0913, PLR0917 -- a row of the table below
    name: str,
    title: str,
    names: Cardinality,
    example: str,
    pattern: str,
    checks: Callable[[str], bool] | None = None,
) -> Scheme:
    return Scheme(name, title, names, example, re.compile(pattern), checks)


def scheme(name: str) -> Scheme:
    """A scheme by its name, `fr.prm`, or its title, `PRM`. Raises Refused."""
    plain = SCHEME_WORDS.find(name) or name.strip().casefold()
    if plain in SCHEMES:
        return SCHEMES[plain]
    if VENDOR.fullmatch(plain):
        return Scheme(
            plain, plain, Cardinality.PARTS, "bldg/3/12", re.compile(r"[^\x00-\x1f\x7f]+")
        )
    for candidate in SCHEMES.values():
        if plain == candidate.title.casefold():
            return candidate
    raise unknown("scheme", name, [*SCHEMES, "bis:<system>", *SCHEME_WORDS.all()])


# Check digits are verified only if their rule is published. The GS1 examples of the operators
# themselves have wrong check digits, so only the form of a GSRN is checked.
SCHEMES = {
    scheme.name: scheme
    for scheme in (
        _scheme("fr.rnb", "RNB", Cardinality.SHARED, "D8T7TQQ4JHMY", r"[1-9A-HJKMNP-TV-Z]{12}"),
        _scheme(
            "fr.ban",
            "BAN",
            Cardinality.SHARED,
            "01093_0041_00131",
            r"[0-9][0-9AB][0-9]{3}_[0-9A-Z]{4}_[0-9]{5}(_[a-z0-9]+)?",
        ),
        _scheme("fr.rnic", "RNIC", Cardinality.SHARED, "AA1234567", r"[A-Z]{2}[0-9]{7}"),
        _scheme(
            "fr.invariant",
            "numéro fiscal",
            Cardinality.ONE_TO_ONE,
            "381850123456",
            r"([0-9]{2}|2A|2B)[0-9]{10}",
        ),
        _scheme("fr.prm", "PRM", Cardinality.ONE_TO_ONE, "19123456789012", r"[0-9]{14}"),
        _scheme(
            "fr.pce", "PCE", Cardinality.ONE_TO_ONE, "21123456789012", r"[0-9]{8,14}|GI[0-9]{6}"
        ),
        _scheme("fr.lot", "lot", Cardinality.PARTS, "34", r"[0-9]{1,6}"),
        _scheme("uk.uprn", "UPRN", Cardinality.ONE_TO_ONE, "100023336956", r"[0-9]{1,12}"),
        _scheme("gs1.gsrn", "GSRN", Cardinality.ONE_TO_ONE, "541400000000000000", r"[0-9]{18}"),
        _scheme("de.malo", "MaLo", Cardinality.ONE_TO_ONE, "41373559241", r"[1-9][0-9]{10}", _malo),
        _scheme(
            "eu.zpb33",
            "Messpunkt",
            Cardinality.ONE_TO_ONE,
            "CH1234567890100000000000000012345",
            r"[A-Z]{2}[0-9]{11}[0-9A-Z]{20}",
        ),
        _scheme(
            "es.cups",
            "CUPS",
            Cardinality.ONE_TO_ONE,
            "ES1234123456789012JY",
            r"ES[0-9]{16}[A-Z]{2}([0-9][FPRCXYZ])?",
            _cups,
        ),
    )
}


def value_of(scheme: Scheme, written: str) -> str:
    """A value as people write it, in its canonical form. Raises Refused with what is wrong."""
    value = written.strip()
    if not scheme.name.startswith("bis:"):
        value = re.sub(r"[\s.]" if scheme.name == "fr.ban" else r"[\s._-]", "", value)
        # only a BAN key has small letters
        value = value if scheme.name == "fr.ban" else value.upper()
    if scheme.name == "fr.lot":
        # spreadsheets drop leading zeros: 034 and 34 are one lot
        value = value.lstrip("0") or "0"
    if len(value) > LONGEST_KEY or not scheme.pattern.fullmatch(value):
        raise Refused(_wrong(scheme, written, value))
    if scheme.checks and not scheme.checks(value):
        raise Refused(
            '{title}: the check characters of "{written}" do not match',
            title=scheme.title,
            written=written,
        )
    return value


def _wrong(scheme: Scheme, written: str, value: str) -> str:
    message = Text(
        '{title}: "{written}" does not look like {example} (an example)',
        title=scheme.title,
        written=written,
        example=scheme.example,
    )
    zeros = value.replace("O", "0")
    if "O" in value and scheme.pattern.fullmatch(zeros):
        return Text("{message}: it has a letter O where a zero belongs", message=message)
    if value.isdigit() and (wanted := len(scheme.example)) != len(value):
        return Text(
            "{message}: it has {number} characters, not {wanted}. Copy it again from the document"
            " or the meter on which it is printed",
            message=message,
            number=len(value),
            wanted=wanted,
        )
    return message


def label_key(label: str) -> str:
    """Labels with the same key are the same label: case and spacing do not count."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def plain_key(text: str) -> str:
    """A text for a search: small letters without accents, and single spaces."""
    whole = unicodedata.normalize("NFKD", text).casefold()
    return " ".join("".join(c for c in whole if not unicodedata.combining(c)).split())


def in_order(label: str) -> list[int | str]:
    """Return a key that sorts labels as people do: A-2 before A-10, é beside e, in any case."""
    return natural(plain_key(label))


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
            raise Refused(
                '"{text}" may be {names}',
                text=text,
                names=joined(Text(" or "), map(_named, near)),
            )
        if looks_like_id(text):
            raise Refused("there is no place {parse} in this registry", parse=shown(parse(text)))
        raise Refused('there is no place "{text}"{hint}', text=text, hint=self._hint(text))

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
        if not any(letter.isdigit() for letter in text):
            return Text(
                "; names of people are not stored. Use the label of the dwelling: gardien place"
                " list"
            )
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
