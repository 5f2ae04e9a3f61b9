"""Messages in the reader's language: English from the code, or a translation from a catalogue.

The catalogues are in gettext's PO format (`agent/locale/fr.po`). They are read directly, so that
nothing must be compiled. The language is that of the terminal, by the same variables as in gettext.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CATALOGUES = Path(__file__).parents[1] / "locale"


def _(message: str, /, **values: object) -> str:
    """Translate a message into the reader's language, and fill its fields with `values`."""
    text = _catalogue(language()).get(message, message)
    return text.format(**values) if values else text


def n_(singular: str, plural: str, number: int, /, **values: object) -> str:
    """Translate the singular or the plural message, and fill its field `number`."""
    # In French 0 takes the singular, in English the plural.
    alone = number == 1 or (number == 0 and language() == "fr")
    return _(singular if alone else plural, number=number, **values)


def retold(text: str, message: str, values: Mapping[str, object]) -> str:
    """Translate a message that another process sent in English; return `text` if there is none.

    Values that are lists hold messages, which are translated too.
    """
    if message not in _catalogue(language()):
        return text
    translated = {
        name: ", ".join(map(_, value)) if isinstance(value, list) else value
        for name, value in values.items()
    }
    return _(message, **translated)


class Text(str):
    """An English sentence that keeps its message and values, so that its reader can translate it.

    `Text("line {line} does not answer", line="hall-b")` is the filled English sentence;
    `in_language` returns it in the reader's language. It crosses a process as `wire()`. Values are
    strings, numbers, other texts, and lists of these; a list is joined with commas.
    """

    __slots__ = ("message", "values")

    message: str
    values: Mapping[str, object]

    def __new__(cls, message: str, /, **values: object) -> Self:  # noqa: D102 -- see above
        here = {name: _joined(value, str) for name, value in values.items()}
        text = super().__new__(cls, message.format(**here) if here else message)
        text.message, text.values = message, values
        return text

    def in_language(self) -> str:
        """Return the sentence in the reader's language."""
        values = {name: _joined(value, _translated) for name, value in self.values.items()}
        return _(self.message, **values)

    def wire(self) -> dict[str, object]:
        """Return the JSON form: the English text, its message, and its values in the same form."""
        values = {name: _wired(value) for name, value in self.values.items()}
        return {"text": str(self), "message": self.message, "values": values}

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> Self:
        """Rebuild a text from its JSON form."""
        values = {name: _unwired(value) for name, value in wire["values"].items()}
        return cls(wire["message"], **values)


def _joined(value: object, form: Callable[[object], object]) -> object:
    if isinstance(value, list | tuple):
        return ", ".join(str(form(part)) for part in value)
    return form(value) if isinstance(value, str) else value


def _translated(value: object) -> object:
    return value.in_language() if isinstance(value, Text) else value


def _wired(value: object) -> object:
    if isinstance(value, Text):
        return value.wire()
    return [_wired(part) for part in value] if isinstance(value, list | tuple) else value


def _unwired(value: object) -> object:
    if isinstance(value, dict):
        return Text.of(value)
    return [_unwired(part) for part in value] if isinstance(value, list) else value


def N_(message: str) -> str:  # noqa: N802 -- gettext's own name for it
    """Mark a message for the catalogue. It is translated later, by `_`."""
    return message


def language() -> str:
    """Return the language of the terminal if there is a catalogue for it; else `en`."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if setting := os.environ.get(name):
            languages = [one.partition(".")[0].partition("_")[0] for one in setting.split(":")]
            return next((one for one in languages if one in _languages()), "en")
    return "en"


@cache
def _languages() -> frozenset[str]:
    names = (entry.name for entry in CATALOGUES.iterdir())
    return frozenset(name.removesuffix(".po") for name in names if name.endswith(".po")) | {"en"}


@cache
def _catalogue(code: str) -> Mapping[str, str]:
    if code == "en":
        return {}
    text = (CATALOGUES / f"{code}.po").read_text(encoding="utf-8")
    return {message: said for message, said in entries(text) if message and said}


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Parse a catalogue into messages and translations (PO format without plurals and contexts)."""
    parts: dict[str, list[str]] = {}
    key = ""
    for line in [*text.splitlines(), "msgid"]:  # the last "msgid" makes the last entry complete
        keyword, _space, quoted = line.partition(" ")
        if keyword == "msgid":
            if "msgstr" in parts:
                yield "".join(parts["msgid"]), "".join(parts["msgstr"])
            parts = {}
        if keyword in {"msgid", "msgstr"}:
            key = keyword
            parts[key] = []
        elif line.startswith('"'):
            quoted = line
        if quoted.startswith('"') and key:
            parts[key].append(str(json.loads(quoted)))
