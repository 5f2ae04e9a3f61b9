"""Text that may be shown to strangers: secrets are taken out, names of dwellings replaced."""

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
"""characters; a shorter one would take out half of every text"""
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
"""YAML's text of several lines"""
RANDOM = re.compile(
    r"(?<![\w/+=.-])(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+_-]{28,}={0,2}"
)
"""a word of 28 characters with letters and digits in it is a key until somebody proves it is not"""


def take_out(text: str, known: Iterable[str]) -> str:
    """Take out the known secrets, wherever they went."""
    for secret in sorted({one.strip() for one in known}, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, GONE)
    return text


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Take out the known secrets, whatever stands behind a word like `password`, users and
    passwords in URLs, PEM blocks, and long random words.
    """
    text = PEM.sub(GONE, take_out(text, known))
    text = BLOCK.sub(rf"\1{GONE}\n", text)
    text = IN_URL.sub(rf"\1{GONE}@", text)
    text = NAMED.sub(rf"\1{GONE}", text)
    return RANDOM.sub(GONE, text)


ID = re.compile(rf"(?<![^\W_])[DH](?:[-_. ]?[0-9A-Z]){{{LENGTH - 1}}}(?![^\W_])", re.IGNORECASE)
"""an id of a dwelling or an occupancy, as people write it"""
NUMBER = re.compile(r"(?<![\w.,+-])\d{8,20}(?![\w.,])")
"""what a meter may call itself"""
ANYWHERE = 6
"""characters from which a name is replaced inside of longer words, too"""
SHORTEST_NAME = 2
COMMON = ("B", "C")
"""first letters of the ids of places where nobody lives"""


class Pseudonyms:
    """Names of one bundle, each with a word in its place: the same one wherever it stands."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}
        """by name, as `_folded`"""
        self._spelled: dict[str, str] = {}
        """by name, as it was given"""
        self._counts: Counter[str] = Counter()
        self._common: set[str] = set()
        """labels of common plant, which stay"""
        self._forms: dict[str, str] | None = None
        """by each form that a name may have in a text; None: a name has come since"""
        self._pattern: re.Pattern[str] | None = None

    def of(self, kind: str, *names: object) -> str:
        """The word for one thing that has these names; a new one where none of them is known."""
        given = [name.strip() for name in names if isinstance(name, str) and name.strip()]
        folded = [_folded(name) for name in given]
        word = next((self._words[name] for name in folded if name in self._words), None)
        if word is None:
            self._counts[kind] += 1
            word = f"{kind}-{self._counts[kind]}"
        for name, spelled in zip(folded, given, strict=True):
            self._words.setdefault(name, word)
            self._spelled[spelled] = self._words[name]
        self._forms = None
        return word

    def learn(self, told: Any) -> None:
        """Know the names in what the registry has, or says of itself: rows of any depth."""
        for row in _rows(told):
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
            self.of("meter", serial, serial.lstrip("0") if len(serial) > ANYWHERE else None)
        for name in ("occupancy", "lease"):
            self.of_given("occupancy", row.get(name))
        self.of_given("occupancy" if id_.startswith("H") else "basis", row.get("reference"), id_)
        if row.get("recipient"):  # a consent; of a meter it is a word of ours
            self.of_given("paper", row.get("proof"))

    def of_given(self, kind: str, *names: object) -> None:
        """As `of`, where there is any name at all; ids of places have their own."""
        if given := [name for name in names if name and not looks_like_id(str(name))]:
            self.of(kind, *given)

    def replace(self, text: str, *, numbers: bool = False) -> str:
        """The text with every name replaced, however it is encoded in it.

        `numbers`: all that may be the number of a meter which nobody has recorded, too.
        """
        text = ID.sub(self._id, text)
        if self._forms is None:
            self._forms = {
                form: word for name, word in self._spelled.items() for form in _forms(name)
            }
            self._pattern = _matching(self._forms)
        if self._pattern is not None:
            forms = self._forms
            text = self._pattern.sub(
                lambda found: forms.get(found[0]) or forms.get(found[0].lower(), GONE), text
            )
        if numbers:
            text = NUMBER.sub(lambda found: self.of("meter", found[0]), text)
        return text

    def in_place(self, told: Any) -> Any:
        """A document with the names in its texts replaced, those of places however short they are.

        Its numbers stay: they are counts and sizes.
        """
        if isinstance(told, dict):
            return {
                self.replace(name, numbers=True): self.of("dwelling", one)
                if name == "place" and isinstance(one, str) and not self._is_shown(one)
                else self.in_place(one)
                for name, one in told.items()
            }
        if isinstance(told, list):
            return [self.in_place(one) for one in told]
        return self.replace(told, numbers=True) if isinstance(told, str) else told

    def _is_shown(self, place: str) -> bool:
        return is_common(place) or _folded(place) in self._common

    def _id(self, found: re.Match[str]) -> str:
        squeezed = squeeze(found[0])
        if not agrees(squeezed):
            return found[0]
        return self.of("dwelling" if squeezed[0] == "D" else "occupancy", squeezed)


def without_comments(text: str) -> str:
    """A YAML file without what people wrote beside it for themselves."""
    return re.sub(r"(?m)(^|[ \t])#.*$", rf"\1# {GONE}", text)


def _rows(told: Any) -> Iterator[dict[str, Any]]:
    if isinstance(told, dict):
        yield told
        for one in told.values():
            yield from _rows(one)
    elif isinstance(told, list):
        for one in told:
            yield from _rows(one)


def is_common(place: str) -> bool:
    """Whether this is the id of a place where nobody lives."""
    return looks_like_id(place) and place.startswith(COMMON)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def _forms(name: str) -> set[str]:
    """What a text may have of a name: JSON, YAML, Python, an address, or decomposed letters."""
    cases = {name, name.lower(), name.upper()}
    written = {unicodedata.normalize(form, one) for one in cases for form in ("NFC", "NFD")} | cases
    for one in tuple(written):
        written |= {json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]}
        written |= {repr(one)[1:-1], repr(one.encode())[2:-1], quote(one), quote(one, safe="")}
    return written | {one.lower() for one in written}


def _matching(forms: Iterable[str]) -> re.Pattern[str] | None:
    """Finds names: short ones as whole words, so that not half of every text is replaced."""
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


def _alternation(words: Iterable[str]) -> str:
    """One expression for many words, the longest first, that looks at each character once."""
    found = sorted(set(words))
    pairs = zip(found[0], found[-1], strict=False)
    alike = next((n for n, (a, b) in enumerate(pairs) if a != b), len(found[0]))
    prefix = found[0][:alike]
    tails: dict[str, list[str]] = {}
    for word in found:
        tails.setdefault(word[len(prefix) : len(prefix) + 1], []).append(word[len(prefix) :])
    ends = tails.pop("", None)
    if not tails:
        return re.escape(prefix)
    rest = "|".join(_alternation(tail) for tail in tails.values())
    return f"{re.escape(prefix)}(?:{rest}){'?' if ends else ''}"
