"""Messages in the reader's language: English from the code, or a translation from a catalogue.

The catalogues are in gettext's PO format (`agent/locale/fr.po`). They are read directly, so that
nothing must be compiled. The language is that of the terminal, by the same variables as in gettext.
A further language is one more file, here or in the folder that GARDIEN_LOCALES names.

Values are shown in the reader's language too: numbers (8 412,5), sizes (`Size`), durations
(`timedelta`), days and times (`date`, `datetime`), other texts, and lists of these. A number that
is a name (an address, a port) is passed as a string, so that it is not grouped.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from decimal import Decimal
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

CATALOGUES = Path(__file__).parents[1] / "locale"
ENGLISH = "en"


def _(message: str, /, **values: object) -> str:
    """Translate a message into the reader's language, and fill its fields with `values`.

    In English the result is a `Text`: the daemon runs in English, so that a caller in another
    language gets what it says as a text that can be translated.
    """
    code = language()
    return Text(message, **values) if code == ENGLISH else _filled(code, message, values)


def n_(singular: str, plural: str, number: float, /, **values: object) -> str:
    """Translate the singular or the plural message, and fill its field `number`."""
    code = language()
    if code == ENGLISH:
        return Plural(singular, plural, number, **values)
    message = singular if _takes_singular(code, number) else plural
    return _filled(code, message, {"number": number, **values})


def N_(message: str) -> str:  # noqa: N802 -- gettext's own name for it
    """Mark a message for the catalogue. It is translated later, by `_`."""
    return message


class Size(int):
    """A number of bytes, shown as `8.4 MB` or `8,4 Mo`."""


class Text(str):
    """An English sentence that keeps its message and values, so that its reader can translate it.

    `Text("line {line} does not answer", line="hall-b")` is the filled English sentence;
    `in_language` returns it in the reader's language. It crosses a process as `wire()`. Values are
    those that the module names; an exception stands for its text, anything else for its `str`.
    """

    __slots__ = ("message", "values")

    message: str
    values: Mapping[str, object]

    def __new__(cls, message: str, /, **values: object) -> Self:  # noqa: D102 -- see above
        kept = {name: _kept(value) for name, value in values.items()}
        text = super().__new__(cls, _filled(ENGLISH, message, kept))
        text.message, text.values = message, kept
        return text

    def in_language(self, code: str = "") -> str:
        """Return the sentence in the reader's language, or in another one."""
        return _filled(code or language(), self.message, self.values)

    def __deepcopy__(self, memo: object) -> Self:
        return self  # it never changes

    def __add__(self, other: str) -> Text:
        return Text("{first}{then}", first=self, then=other) if other else self

    def __radd__(self, other: str) -> Text:
        return Text("{first}{then}", first=other, then=self) if other else self

    def wire(self) -> dict[str, object]:
        """Return the JSON form: the English text, its message, and its values in the same form."""
        values = {name: _wired(value) for name, value in self.values.items()}
        return {"text": str(self), "message": self.message, "values": values}

    def with_values(self, form: Callable[[object], object]) -> Text:
        """Return the same text with each value in another form."""
        return Text(self.message, **{name: form(value) for name, value in self.values.items()})

    @staticmethod
    def of(wire: Mapping[str, Any]) -> Text:
        """Rebuild a text from its JSON form."""
        values: dict[str, Any] = {n: _unwired(value) for n, value in wire["values"].items()}
        if "plural" in wire:
            return Plural(wire["message"], wire["plural"], **values)
        return Text(wire["message"], **values)


class Plural(Text):
    """A text with a singular and a plural: `Plural("{number} day", "{number} days", 3)`."""

    __slots__ = ("plural",)

    plural: str

    def __new__(cls, singular: str, plural: str, /, number: float, **values: object) -> Self:  # noqa: D102
        message = singular if _takes_singular(ENGLISH, number) else plural
        text = super().__new__(cls, message, number=number, **values)
        text.message, text.plural = singular, plural
        return text

    def in_language(self, code: str = "") -> str:
        """Return the sentence in the reader's language, or in another one."""
        code, number = code or language(), cast("float", self.values["number"])
        message = self.message if _takes_singular(code, number) else self.plural
        return _filled(code, message, self.values)

    def with_values(self, form: Callable[[object], object]) -> Text:
        """Return the same text with each value in another form."""
        values: dict[str, Any] = {name: form(value) for name, value in self.values.items()}
        return Plural(self.message, self.plural, **values)

    def wire(self) -> dict[str, object]:
        """Return the JSON form."""
        return super().wire() | {"plural": self.plural}


def text_of(error: BaseException) -> Text:
    """Return what an error says, as a text if it was raised with one."""
    text = _kept(error)
    return text if isinstance(text, Text) else Text(str(text))


def joined(separator: str, parts: Iterable[str]) -> Text:
    """Join texts as `str.join` does; the result can be translated, and so can a separator."""
    whole = Text("")
    # a language may space a separator in its own way
    message = f"{{first}}{separator}{{then}}"
    between: dict[str, object] = {}
    if isinstance(separator, Text):
        message, between = "{first}{separator}{then}", {"separator": separator}
    for part in parts:
        whole = Text(message, first=whole, then=part, **between) if whole else whole + part
    return whole


def in_language(value: object, code: str = "") -> str:
    """Return any value as the reader sees it, or one of another language: a text translated, a
    number in its notation.
    """
    return str(_shown(code or language(), _kept(value)))


def to_wire(value: Any) -> Any:
    """Return an answer for JSON: each text in it, at any depth, as `{"": its wire form}`."""
    if isinstance(value, Text):
        return {"": value.wire()}
    if isinstance(value, dict):
        return {name: to_wire(part) for name, part in value.items()}
    return [to_wire(part) for part in value] if isinstance(value, list | tuple) else value


def from_wire(value: dict[str, Any]) -> Any:
    """Rebuild the texts of an answer: the `object_hook` of json."""
    return Text.of(value[""]) if value.keys() == {""} else value


def number(value: float | Decimal, form: str = "") -> str:
    """Return a number in the reader's notation: `8412.5`, `8 412,5`. `form`: as for `format`."""
    return format(_shown(language(), value), form)


def size(number_of_bytes: float) -> str:
    """Return a number of bytes in the reader's language: `8.4 MB`, `8,4 Mo`."""
    return in_language(Size(number_of_bytes))


def duration(seconds: float) -> str:
    """Return a duration in the reader's language: `1 h 30 min`, `1 h 30`."""
    return in_language(dt.timedelta(seconds=seconds))


def _filled(code: str, message: str, values: Mapping[str, object]) -> str:
    text = _catalogue(code).get(message, message) if message else ""  # "": a catalogue's header
    return text.format(**{n: _shown(code, v) for n, v in values.items()}) if values else text


def _kept(value: object) -> object:
    """Return a value in a form that a text keeps and JSON can carry."""
    if type(value) is str:  # most of them
        return Text(value) if value in OF_THE_SYSTEM else value
    if isinstance(value, BaseException):
        first = value.args[0] if value.args else ""
        if isinstance(value, OSError) and value.strerror:
            return Text(value.strerror)
        return first if isinstance(first, Text) else str(value)
    if isinstance(value, list) or type(value) is tuple:  # a named tuple has its own `__str__`
        return [_kept(part) for part in value]
    if isinstance(value, Text | bool | int | float | Decimal | dt.date | dt.timedelta):
        return value
    return str(value)  # a text, if the value's `__str__` gives one


def _shown(code: str, value: Any) -> Any:
    """Return a value as it is put into a message of a language."""
    if type(value) is str:  # most of them
        return value
    if isinstance(value, Text):
        return str(value) if code == ENGLISH else value.in_language(code)
    if isinstance(value, list | tuple):
        return ", ".join(str(_shown(code, part)) for part in value)
    if isinstance(value, BaseException):
        return _shown(code, _kept(value))
    form = next((form for kind, form in _FORMS.items() if isinstance(value, kind)), None)
    return form(code, value) if form else value


class LocalNumber:
    """A number that formats itself in the notation of a language."""

    def __init__(self, code: str, value: float | Decimal) -> None:
        self._code, self._value = code, value

    def __format__(self, form: str) -> str:
        value: Any = self._value
        if not form:
            # four digits are grouped only with decimals: 2026 may be a year, 1502 a port
            least = 10_000 if isinstance(value, int) else 1_000
            plain = isinstance(value, float) and value % 1 == 0
            form = (",f" if isinstance(value, Decimal) else ",") if abs(value) >= least else ""
            value = int(value) if plain else value
        comma, group = _separators(self._code)
        english = format(value, form)
        percent = " %" if comma == "," else "%"
        letters = {",": group, ".": comma, "%": percent}
        return "".join(letters.get(letter, letter) for letter in english)

    def __str__(self) -> str:
        return format(self, "")

    __repr__ = __str__


def lend_to_gettext() -> None:
    """Have the standard `gettext` read these catalogues. typer and click take their own words
    (Usage, Missing option …) from it, and bind it when they are imported.
    """
    import gettext  # noqa: PLC0415 -- the daemon does without

    def plain(message: str) -> str:
        return _(message) if message else ""

    def counted(singular: str, plural: str, number: int) -> str:
        return plain(singular if _takes_singular(language(), number) else plural)

    gettext.gettext, gettext.ngettext = plain, counted  # type: ignore[assignment]


NUMBER = N_("1,234.5")
"""its translation states the separators of a language"""


@cache
def _separators(code: str) -> tuple[str, str]:
    """Return the decimal separator and the one between thousands."""
    written = re.search(r"1(\D?)234(\D)5", _catalogue(code).get(NUMBER, NUMBER))
    return (written[2], written[1]) if written else (".", ",")


UNITS = (
    (1e12, N_("{number} TB")),
    (1e9, N_("{number} GB")),
    (1e6, N_("{number} MB")),
    (1e3, N_("{number} kB")),
    (1, N_("{number} bytes")),
)
THREE_DIGITS = 100


def _size(code: str, number_of_bytes: int) -> str:
    unit, message = next((u for u in UNITS if number_of_bytes >= u[0]), UNITS[-1])
    value = number_of_bytes / unit
    places = round(value, 1) if value < THREE_DIGITS and round(value, 1) % 1 else round(value)
    return _filled(code, message, {"number": places})


MINUTE, HOUR, DAY = 60, 3600, 86_400


def _duration(code: str, lasts: dt.timedelta) -> str:
    """Return a duration in its largest unit, with minutes below ten hours."""
    whole = round(lasts.total_seconds())
    if whole >= 2 * DAY:
        return _filled(code, N_("{number} days"), {"number": whole // DAY})
    if whole >= 10 * HOUR or (whole >= HOUR and whole % HOUR < MINUTE):
        return _filled(code, N_("{number} h"), {"number": whole // HOUR})
    if whole >= HOUR:
        values = {"hours": whole // HOUR, "minutes": f"{whole % HOUR // MINUTE:02}"}
        return _filled(code, N_("{hours} h {minutes} min"), values)
    if whole >= 2 * MINUTE or (whole >= MINUTE and not whole % MINUTE):
        return _filled(code, N_("{number} min"), {"number": whole // MINUTE})
    return _filled(code, N_("{number} s"), {"number": whole})


MONTHS = (
    N_("January"), N_("February"), N_("March"), N_("April"), N_("May"), N_("June"), N_("July"),
    N_("August"), N_("September"), N_("October"), N_("November"), N_("December"),
)  # fmt: skip
FIRST = N_("1 (first day of a month)")
"""how a language writes the first day of a month, such as `1er`"""


def _date(code: str, value: dt.date) -> str:
    """Return a day; with its time if it has one."""
    known = _catalogue(code)
    written = {
        "year": f"{value.year:04}",
        "month": f"{value.month:02}",
        "day": f"{value.day:02}",
        "name": known.get(MONTHS[value.month - 1], ""),
        "number": known.get(FIRST, "1") if value.day == 1 else f"{value.day}",
    }
    day = known.get("{year}-{month}-{day}", N_("{year}-{month}-{day}")).format(**written)
    if not isinstance(value, dt.datetime):
        return day
    return _filled(code, N_("{day} {time}"), {"day": day, "time": f"{value:%H:%M}"})


_FORMS: dict[Any, Callable[[str, Any], object]] = {
    str: lambda _code, value: value,
    bool: lambda _code, value: value,
    Size: _size,
    dt.timedelta: _duration,
    dt.date: _date,
    (int, float, Decimal): lambda code, value: (
        value if code == ENGLISH else LocalNumber(code, value)
    ),
}
"""how the values of a class are shown; the first that fits"""


def short_date(value: dt.date) -> str:
    """Return a day in figures, with its time if it has one, as tables show it: `12/05/2026`."""
    day = f"{value:%Y-%m-%d}"
    if form := _catalogue(language()).get(SHORT_DATE):
        day = form.format(year=f"{value:%Y}", month=f"{value:%m}", day=f"{value:%d}")
    return f"{day} {value:%H:%M}" if isinstance(value, dt.datetime) else day


SHORT_DATE = N_("in a table: {year}-{month}-{day}")


def _wired(value: object) -> object:
    if isinstance(value, Text):
        return value.wire()
    if isinstance(value, list):
        return [_wired(part) for part in value]
    for name, (kind, written, _read) in _KINDS.items():
        if isinstance(value, kind):
            return {name: written(value)}
    return value


def _unwired(value: object) -> object:
    if isinstance(value, dict):
        if "message" in value:
            return Text.of(value)
        ((name, written),) = value.items()
        return _KINDS[name][2](written)
    return [_unwired(part) for part in value] if isinstance(value, list) else value


_KINDS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "bytes": (Size, int, Size),
    "decimal": (Decimal, str, Decimal),
    "seconds": (
        dt.timedelta,
        lambda lasts: lasts.total_seconds(),
        lambda seconds: dt.timedelta(seconds=seconds),
    ),
    "time": (dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
}
"""the values that JSON does not have: their class, and how they are written and read"""

OF_THE_SYSTEM = (
    N_("No such file or directory"),
    N_("Permission denied"),
    N_("Is a directory"),
    N_("Not a directory"),
    N_("File exists"),
    N_("No space left on device"),
    N_("Read-only file system"),
    N_("Input/output error"),
    N_("Operation not permitted"),
    N_("Disk quota exceeded"),
    N_("File name too long"),
    N_("Connection refused"),
    N_("Connection reset by peer"),
    N_("Connection timed out"),
    N_("No route to host"),
    N_("Network is unreachable"),
    N_("Name or service not known"),
    N_("Temporary failure in name resolution"),
    N_("Broken pipe"),
    N_("Device or resource busy"),
)
"""what the operating system says of an error (`OSError.strerror`)"""


def language() -> str:
    """Return the language of the terminal if there is a catalogue for it; else `en`."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if setting := os.environ.get(name):
            languages = [one.partition(".")[0].partition("_")[0] for one in setting.split(":")]
            known = _catalogues(os.environ.get("GARDIEN_LOCALES", ""))
            return next((one for one in languages if one in known or one == ENGLISH), ENGLISH)
    return ENGLISH


@cache
def _catalogues(more: str) -> Mapping[str, Path]:
    """Return the files of all languages; those of the folder `more` come first."""
    folders = (CATALOGUES, Path(more)) if more else (CATALOGUES,)
    return {path.stem: path for folder in folders for path in folder.glob("*.po")}


def _catalogue(code: str) -> Mapping[str, str]:
    if code == ENGLISH:
        return {}
    return _read(_catalogues(os.environ.get("GARDIEN_LOCALES", ""))[code])


@cache
def _read(path: Path) -> Mapping[str, str]:
    return {message: said for message, said in entries(path.read_text(encoding="utf-8")) if said}


def _takes_singular(code: str, number: float) -> bool:
    # In French 0 and 1.5 take the singular, in English the plural. The catalogue says which.
    french = "n > 1" in _catalogue(code).get("", "")
    return number < 2 if french else number == 1  # noqa: PLR2004 -- the first plural


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Parse a catalogue into messages and translations (PO format without plurals and contexts)."""
    parts: dict[str, list[str]] = {}
    key = ""
    # not all lines at once: they would take 3 MB, and leave holes. The last "msgid" makes the last
    # entry complete
    for line in chain((match[0] for match in re.finditer(r"[^\r\n]+", text)), ("msgid",)):
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


EMPTY = Text("")
"""no text; at the end, where all that makes a text is defined"""
