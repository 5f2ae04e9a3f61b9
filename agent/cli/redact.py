"""Make text safe to share: remove secrets, and replace names of dwellings by pseudonyms."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent.registry.place import LENGTH, agrees, looks_like_id, squeeze

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GONE = "<taken out>"
SHORTEST = 4
"""characters; removing a shorter secret would damage every text"""
WORDS = r"pass(?:e|word|wd|phrase)?|secret|token|psk|pin|api[-_]?key|private[-_]?key|key"
REFERENCE = r"(?:file|env|credential):"
NAMED = re.compile(
    rf"(?i)([\"']?[\w-]*(?:{WORDS})[\"']?(?:\s*[:=]\s*|\s+(?:is|est)\s+))(?!\s*{REFERENCE})(\"[^\"]*\"|'[^']*'|[^\s,}}#]+)"
)
IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@\"']+@")
PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
BLOCK = re.compile(
    rf"(?im)^(([ \t]*)[\"']?[\w-]*(?:{WORDS})[\"']?\s*:\s*)[|>][^\n]*\n(?:\2[ \t]+[^\n]*(?:\n|\Z))+"
)
"""a YAML block scalar, whose text has several lines"""
RANDOM = re.compile(
    r"(?<![\w/+=.-])(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+_-]{28,}={0,2}"
)
"""a word of at least 28 characters with letters and digits: it may be a key"""


def take_out(text: str, known: Iterable[str]) -> str:
    """Remove the known secrets from a text, the longest first."""
    # the longest first: a secret may contain another one
    for secret in sorted({value.strip() for value in known}, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, GONE)
    return text


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Remove the known secrets, values after a word like `password`, users and passwords in URLs,
    PEM blocks, and long random words.
    """
    # from whole blocks to single words: a smaller match would break up a larger one
    text = PEM.sub(GONE, take_out(text, known))
    text = BLOCK.sub(rf"\1{GONE}\n", text)
    text = IN_URL.sub(rf"\1{GONE}@", text)
    text = NAMED.sub(rf"\1{GONE}", text)
    return RANDOM.sub(GONE, text)


ID = re.compile(rf"(?<![^\W_])[DH](?:[-_. ]?[0-9A-Z]){{{LENGTH - 1}}}(?![^\W_])", re.IGNORECASE)
"""an id of a dwelling or an occupancy, as people write it"""
NUMBER = re.compile(r"(?<![\w.,+-])\d{8,20}(?![\w.,])")
"""a number that may be a meter's serial number"""
ANYWHERE = 6
"""characters; a name of this length or more is also replaced inside longer words"""
SHORTEST_NAME = 2
COMMON = ("B", "C")
"""first letters of the ids of places where nobody lives"""


class Pseudonyms:
    """The pseudonyms of one bundle: each name has the same pseudonym everywhere."""

    def __init__(self) -> None:
        self._pseudonyms: dict[str, str] = {}
        """by `_folded` name"""
        self._spellings: dict[str, str] = {}
        """pseudonyms by name, in the original spelling"""
        self._counts: Counter[str] = Counter()
        self._common: set[str] = set()
        """labels of common areas, which are not replaced"""
        self._forms: dict[str, str] | None = None
        """pseudonyms by each form that a name may have in a text; None: to be rebuilt"""
        self._pattern: re.Pattern[str] | None = None

    def of(self, kind: str, *names: object) -> str:
        """Return the pseudonym of the thing that has these names; a new one if none is known."""
        given = [name.strip() for name in names if isinstance(name, str) and name.strip()]
        folded = [_folded(name) for name in given]
        # label, id and alias of a dwelling come in different rows: one known name is enough
        known = (self._pseudonyms[name] for name in folded if name in self._pseudonyms)
        pseudonym = next(known, None)
        if pseudonym is None:
            self._counts[kind] += 1
            pseudonym = f"{kind}-{self._counts[kind]}"
        for name, spelled in zip(folded, given, strict=True):
            self._pseudonyms.setdefault(name, pseudonym)
            self._spellings[spelled] = self._pseudonyms[name]
        self._forms = None
        return pseudonym

    def learn(self, document: Any) -> None:
        """Learn the names in a document of the registry: rows at any depth."""
        for row in _rows(document):
            self._learn(row)

    def _learn(self, row: dict[str, Any]) -> None:
        id_ = str(row.get("id") or "")
        place = str(row.get("place") or (id_ if "label" in row else ""))
        if is_common(place):
            self._common.add(_folded(str(row.get("label"))))
        elif place:
            self.of("dwelling", place, *(row.get(name) for name in ("label", "value", "note")))
        if not is_common(place) and row.get("device"):
            self.of("device", row["device"])
        if row.get("serial"):
            serial = str(row["serial"])
            # some devices send their number without leading zeros
            self.of("meter", serial, serial.lstrip("0") if len(serial) > ANYWHERE else None)
        for name in ("occupancy", "lease"):
            self.of_given("occupancy", row.get(name))
        self.of_given("occupancy" if id_.startswith("H") else "basis", row.get("reference"), id_)
        # a consent; in the row of a meter, `proof` is one of gardien's own words
        if row.get("recipient"):
            self.of_given("paper", row.get("proof"))

    def of_given(self, kind: str, *names: object) -> None:
        """Like `of`, but without ids of places; nothing if no name is left."""
        if given := [name for name in names if name and not looks_like_id(str(name))]:
            self.of(kind, *given)

    def replace(self, text: str, *, numbers: bool = False) -> str:
        """Return the text with every name replaced, in each encoding that it may have.

        `numbers`: also replace every number that may be the serial number of an unrecorded meter.
        """
        # ids first, in any spelling: a name inside an id would hide it
        text = ID.sub(self._id, text)
        if self._forms is None:
            self._forms = {
                form: pseudonym
                for name, pseudonym in self._spellings.items()
                for form in _forms(name)
            }
            self._pattern = _matching(self._forms)
        if self._pattern is not None:
            forms = self._forms
            text = self._pattern.sub(
                lambda match: forms.get(match[0]) or forms.get(match[0].lower(), GONE), text
            )
        if numbers:
            text = NUMBER.sub(lambda match: self.of("meter", match[0]), text)
        return text

    def in_place(self, document: Any) -> Any:
        """Return a document with the names in its texts replaced; names of places of any length.

        Numbers are kept: they are counts and sizes.
        """
        if isinstance(document, dict):
            return {
                self.replace(name, numbers=True): self.of("dwelling", value)
                if name == "place" and isinstance(value, str) and not self._is_shown(value)
                else self.in_place(value)
                for name, value in document.items()
            }
        if isinstance(document, list):
            return [self.in_place(value) for value in document]
        return self.replace(document, numbers=True) if isinstance(document, str) else document

    def _is_shown(self, place: str) -> bool:
        return is_common(place) or _folded(place) in self._common

    def _id(self, match: re.Match[str]) -> str:
        # other words have the form of an id, too; only ids have the check characters
        squeezed = squeeze(match[0])
        if not agrees(squeezed):
            return match[0]
        return self.of("dwelling" if squeezed[0] == "D" else "occupancy", squeezed)


def without_comments(text: str) -> str:
    """Return a YAML file with its comments removed: people write names into them."""
    # a # without a blank before it is part of a value, such as of a URL
    return re.sub(r"(?m)(^|[ \t])#.*$", rf"\1# {GONE}", text)


def _rows(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
        for value in document.values():
            yield from _rows(value)
    elif isinstance(document, list):
        for value in document:
            yield from _rows(value)


def is_common(place: str) -> bool:
    """Whether this is the id of a place without occupants."""
    return looks_like_id(place) and place.startswith(COMMON)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def _forms(name: str) -> set[str]:
    """Return a name as texts may have it: in JSON, YAML, Python or URLs, NFC or NFD, any case."""
    cases = {name, name.lower(), name.upper()}
    written = {unicodedata.normalize(form, case) for case in cases for form in ("NFC", "NFD")}
    written |= cases
    for spelling in tuple(written):
        written |= {json.dumps(spelling)[1:-1], json.dumps(spelling, ensure_ascii=False)[1:-1]}
        written |= {repr(spelling)[1:-1], repr(spelling.encode())[2:-1]}
        written |= {quote(spelling), quote(spelling, safe="")}
    return written | {spelling.lower() for spelling in written}


def _matching(forms: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that finds the names; None if there is none.

    Short names match only as whole words, else they would be replaced inside other words.
    """
    long = [form for form in forms if len(form) >= ANYWHERE]
    short = [
        form
        for form in forms
        if SHORTEST_NAME <= len(form) < ANYWHERE
        and not (len(form) == SHORTEST_NAME and form.isdigit())
    ]
    parts = [_alternation(long)] if long else []
    parts += [rf"(?<![^\W_]){_alternation(short)}(?![^\W_])"] if short else []
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


def _alternation(names: Iterable[str]) -> str:
    """Return one expression for many names, the longest first, that reads each character once."""
    sorted_names = sorted(set(names))
    pairs = zip(sorted_names[0], sorted_names[-1], strict=False)
    alike = next((n for n, (a, b) in enumerate(pairs) if a != b), len(sorted_names[0]))
    prefix = sorted_names[0][:alike]
    tails: dict[str, list[str]] = {}
    for name in sorted_names:
        tails.setdefault(name[len(prefix) : len(prefix) + 1], []).append(name[len(prefix) :])
    ends = tails.pop("", None)
    if not tails:
        return re.escape(prefix)
    rest = "|".join(_alternation(tail) for tail in tails.values())
    return f"{re.escape(prefix)}(?:{rest}){'?' if ends else ''}"
