"""Pages for people: templates and texts, what channels mean; as HTML or as text."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from html import escape
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.registry.dates import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jinja2 import Environment
    from markupsafe import Markup

LANGUAGES = ("fr", "en")

SHOWS = {
    "elec": {
        "fr": "des relevés fréquents montrent l'heure du lever, des absences et du coucher",
        "en": "read often it shows when people get up, go out and go to bed",
    },
    "water": {
        "fr": "des relevés fréquents montrent la présence et les habitudes de toilette",
        "en": "read often it shows whether people are there, and when they wash",
    },
    "heat": {
        "fr": "des relevés fréquents montrent les absences et le confort choisi",
        "en": "read often it shows absences, and the comfort people choose",
    },
    "air": {
        "fr": "la présence, et le nombre de personnes",
        "en": "it shows whether people are there, and how many",
    },
}
"""what fine readings reveal, by what is measured"""
COARSE = {
    "fr": (
        "la consommation de chaque mois, et un mois d'absence",
        "la consommation de chaque jour, et les jours d'absence",
    ),
    "en": (
        "one index a month shows how much was used that month, and a month of absence",
        "one index a day shows how much was used each day, and days of absence",
    ),
}
"""what an index per month, and one per day, reveal"""
STEPS = {
    "fr": ("un index par mois", "un index par jour"),
    "en": ("one index a month", "one index a day"),
}
EVERY = {
    "fr": {
        "s": ("chaque seconde", "toutes les {} secondes"),
        "min": ("chaque minute", "toutes les {} minutes"),
    },
    "en": {"s": ("every second", "every {} seconds"), "min": ("every minute", "every {} minutes")},
}
"""steps shorter than a day: one of the unit, and several"""
OF = {
    "cw": "water", "dhw": "water", "gas": "heat", "heat": "heat", "cool": "heat", "hca": "heat",
    "temp": "heat", "rh": "air", "co2": "air",
}  # fmt: skip
AGENT = Path(__file__).parents[1]
TEXTS = Path(__file__).with_name("texts.yaml")
WIDTH = 80
UNIT = re.compile(r"(?<=[0-9]) (?=(?:°C|(?:K|h|min|s|kW|kWh)\b))")
"""the space between a number and its unit"""
WRITTEN_DAY = re.compile(r"([0-9]{1,2}(?:er)? \w+) ([0-9]{4})")
WHOLE = re.compile(r"\w\.(?=\w)|[^\s<>&;.-]{15}(?=[^\s<>&;.-])")
"""positions after which a cell may be broken; without them a table can be wider than the page"""
NO_BREAK = "\u00a0"
UNBROKEN = re.compile(
    r"(?<=[\w)’'».…>]) (?=[;:!?»](?!\w))|(?<=«) |(?<=n°) (?=\d)"
    r"|(?<=\d) (?=(?:K|°C|h|min|s|Mo|MB|€)\b)|(?<=\d) (?=\d\d\b)"
    r"|(?:(?<=\d)|(?<=1er)) (?=[A-Z]?[a-zéû]+ \d{4}\b)|(?: (?<=à )| (?<=at ))(?=\d\d:\d\d)"
)
"""spaces at which a line of a page must not end: before French punctuation, in amounts, dates
and telephone numbers"""
COMMAND = re.compile("`([^`]+)`")
"""something that people type, or read in a file"""


def label(channel: str, language: str) -> str:
    """The name of a channel in this language; the channel's id if the catalogue lacks it."""
    known = channels()[channel]
    return (known.fr if language == "fr" else known.en) or channel


def indexed(channel: str) -> bool:
    """Whether a channel is an index, which is read at a meter exchange too (rule P29)."""
    return channels()[channel].kind is ValueKind.REG


def shows(channel: str, language: str, step: int = 0) -> str:
    """What readings of a channel reveal about the occupants; `step` in seconds."""
    if step >= DAY:
        return COARSE[language][step == DAY]
    return SHOWS[OF.get(channel, "elec")][language]


def step_words(seconds: int, language: str) -> str:
    """The granularity of data at a step in seconds, as text."""
    if seconds >= DAY:
        return STEPS[language][seconds == DAY]
    minutes, rest = divmod(seconds, 60)
    single, several = EVERY[language]["s" if rest else "min"]
    number = seconds if rest else minutes
    return single if number == 1 else several.format(number)


@cache
def texts(file: Path, language: str) -> Mapping[str, Any]:
    """The texts of a file (YAML or TOML) in one language, by name."""
    return _in_language(_both(file), language)


@cache
def _both(file: Path) -> dict[str, Any]:
    if file.suffix == ".toml":  # the web page shows these: the parser of YAML takes 1 MB
        return tomllib.loads(file.read_text(encoding="utf-8"))
    from ruamel.yaml import YAML  # noqa: PLC0415 -- see above

    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(file)
    return loaded


def _in_language(both: dict[str, Any], language: str) -> dict[str, Any]:
    return {
        name: text[language] if "en" in text else _in_language(text, language)
        for name, text in both.items()
    }


def texts_of(section: str, language: str) -> Mapping[str, str]:
    """The texts of the letter (`letter`) or of the consent forms (`form`)."""
    chosen: Mapping[str, str] = texts(TEXTS, language)[section]
    return chosen


@cache
def environment() -> Environment:
    """The templates of all pages, by their path in the package."""
    from jinja2 import (  # noqa: PLC0415 -- few gateways make a page, and none when it starts
        Environment,
        FileSystemLoader,
        StrictUndefined,
        select_autoescape,
    )

    made = Environment(
        loader=FileSystemLoader(AGENT),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"marked": marked, "cell": _cell}
    made.tests["indexed"] = indexed
    return made


def render(template: str, **values: Any) -> str:
    """A page made from a template."""
    made = environment().get_template(template).render(values)
    return unbroken(made) if template.endswith(".html") else made


def unbroken(html: str) -> str:
    """A page whose lines do not end before French punctuation, nor in amounts and dates."""
    return UNBROKEN.sub(NO_BREAK, html)


def part(name: str, *values: Any) -> str:
    """One part of a page as HTML: a macro of parts.html."""
    macros = environment().get_template("registry/parts.html").module
    return str(getattr(macros, name)(*values))


def marked(text: str) -> Markup:
    """A text as HTML; parts in `…` become code."""
    return _markup(_coded(text))


def _cell(text: str) -> Markup:
    """A cell's text: a date is broken only before its year, a long name anywhere."""
    if day := WRITTEN_DAY.fullmatch(text):
        return _markup(f'<span class="day">{day[1]}</span> {day[2]}')
    return _markup(WHOLE.sub(r"\g<0><wbr>", _coded(text)))


def _coded(text: str) -> str:
    # escaped first: a label or a purpose may contain < and &
    return COMMAND.sub(r"<code>\1</code>", escape(text))


def _markup(html: str) -> Markup:
    from markupsafe import Markup  # noqa: PLC0415 -- as above

    return Markup(html)  # noqa: S704 -- its texts are escaped


def colon(language: str) -> str:
    """A colon with the spacing of the language."""
    return " :" if language == "fr" else ":"


def joined(parts: Iterable[str], language: str) -> str:
    """Several items in one cell; separated by semicolons, because items may contain commas."""
    return (" ; " if language == "fr" else "; ").join(parts)


class Page:
    """One page, written part by part."""

    def __init__(self, language: str, title: str) -> None:
        self.language, self.title = language, title
        self._colon = colon(language)
        self.parts: list[tuple[str, tuple[Any, ...]]] = []
        """for HTML: a macro of parts.html with its arguments"""
        self._text: list[str] = [title, "=" * min(len(title), WIDTH)]

    def heading(self, text: str) -> None:
        """Begin a part."""
        self.parts.append(("heading", (text,)))
        self._text += ["", text, "-" * min(len(text), WIDTH)]

    def paragraph(self, text: str) -> None:
        """Add a paragraph; line breaks are kept."""
        self.parts.append(("paragraph", (text,)))
        self._text += [_filled(line) for line in text.splitlines()]

    def bullets(self, lines: Sequence[str]) -> None:
        """Add a bulleted list."""
        self.parts.append(("bullets", (lines,)))
        self._text += [_filled(line, "- ") for line in lines]

    def grid(self, rows: Sequence[Sequence[str]], columns: str, *, dated: bool = False) -> None:
        """Add a table with `|` between the names of its columns; in text an entry for each row.
        `dated`: each row begins with a date.
        """
        self.parts.append(("grid", (rows, columns, dated)))
        names = columns.split("|")
        if len(names) == 2:  # noqa: PLR2004 -- something, and what it is
            self._text += [_filled(f"{key}{self._colon} {value}", "- ") for key, value in rows]
            return
        for row in rows:
            self._text.append(_filled(row[0], "* "))
            cells = zip(names[1:], row[1:], strict=True)
            self._text += [
                _filled(f"{name}{self._colon} {cell}", "    ") for name, cell in cells if cell
            ]

    def entry(self, name: str, rows: Sequence[tuple[str, str]]) -> None:
        """Add an item with its properties, one per line."""
        self.parts.append(("entry", (name, rows)))
        self._text.append(_filled(name, "* "))
        self._text += [_filled(f"{key}{self._colon} {value}", "    ") for key, value in rows]

    @property
    def text(self) -> str:
        """The page as text."""
        return "\n".join(self._text) + "\n"


def printed(*pages: Page) -> str:
    """One HTML file; each page begins a new sheet."""
    return render(
        "registry/page.html", language=pages[0].language, title=pages[0].title, pages=pages
    )


def _filled(text: str, sign: str = "") -> str:
    hanging = " " * (len(sign) + (2 if sign.strip() == "" and sign else 0))
    # a name such as boiler-room is not divided, nor a number from its unit
    whole = UNIT.sub(NO_BREAK, text)
    lines = fill(
        whole, WIDTH, initial_indent=sign, subsequent_indent=hanging, break_on_hyphens=False
    )
    return lines.replace(NO_BREAK, " ")
