"""What templates show: messages in the language of the reader, times, numbers, labels.

Templates mark their messages as the code does: `{{ _("{number} devices", number=3) }}`. All that is
inserted is escaped.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from agent.core.finding import to_type
from agent.core.i18n import Plural, Size, Text, in_language
from agent.core.quantities import channels, spoken
from agent.registry.dates import text_in_local_time
from agent.registry.place import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import SourceFileLoader
    from types import CodeType

    from aiohttp.web import Request
    from jinja2.bccache import Bucket

LANGUAGES = {"fr": "Français", "en": "English"}
"""the languages of the page, as each names itself; the first is for readers of neither"""
TEMPLATES = Path(__file__).with_name("templates")
SET_OFF = re.compile(r"(?<=«) | (?=[:;?!»%])")
"""the space between French punctuation and what it belongs to"""
CODE = re.compile(r"`([^`]+)`")


class TemplateCode(BytecodeCache):
    """The code of the templates, each compiled once for all languages.

    So a template must not apply a filter to a constant: it would be computed once, too. The code is
    kept where Python keeps that of modules, and the package has all of it: compiling takes 2 MB of
    memory, and for all of them 0.3 s of a desktop.
    """

    def __init__(self) -> None:
        self._compiled: dict[str, CodeType] = {}

    def get_cache_key(self, name: str, filename: str | None = None) -> str:  # noqa: ARG002
        """Return the name: there is one folder of templates."""
        return name

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take the code of a template if it was compiled of this source."""
        bucket.code = self._compiled.get(bucket.key)
        if bucket.code is None:
            with suppress(OSError, EOFError, UnpicklingError):
                bucket.bytecode_from_string(LOADER.get_data(compiled_file(bucket.key)))
            self._keep(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep code that was just compiled."""
        self._keep(bucket)
        if not sys.dont_write_bytecode:
            LOADER.set_data(compiled_file(bucket.key), bucket.bytecode_to_string())

    def _keep(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._compiled[bucket.key] = bucket.code


LOADER = cast("SourceFileLoader", __spec__.loader)
"""reads and writes compiled files; the package's reads them from its one packed file"""
CODE_OF_TEMPLATES = TemplateCode()


def compiled_file(template: str) -> str:
    """Return the file for the code of a template."""
    return cache_from_source(str(TEMPLATES / template))


def compiled_templates() -> Iterator[tuple[Path, bytes]]:
    """Compile all templates; yield each with the content of its compiled file."""
    env = environment(next(iter(LANGUAGES)))
    for file in sorted(TEMPLATES.glob("*.html")):
        env.get_template(file.name)
        source = file.read_text(encoding="utf-8")
        bucket = CODE_OF_TEMPLATES.get_bucket(env, file.name, None, source)
        yield file, bucket.bytecode_to_string()


@cache
def environment(language: str) -> Environment:
    """Return the templates of a language."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        bytecode_cache=CODE_OF_TEMPLATES,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def translated(message: str, /, **values: object) -> str:
        return set_in(language, Text(message, **values))

    def counted(singular: str, plural: str, number: float, /, **values: object) -> str:
        return set_in(language, Plural(singular, plural, number, **values))

    def text(value: object) -> str:
        return set_in(language, value)

    def number(value: object, unit: str = "") -> str:
        return number_text(value, unit, language)

    def command(value: str) -> str:
        return to_type(value).in_language(language)

    def channel(name: str) -> str:
        known = channels().get(name)
        return (known and (known.fr if language == "fr" else known.en)) or name

    env.globals |= {"_": translated, "n_": counted, "LANGUAGES": LANGUAGES, "language": language}
    env.filters |= {
        "text": text,
        "number": number,
        "command": command,
        "with_code": with_code,
        "channel": channel,
        "size": lambda value: text(Size(value)),
        "duration": lambda seconds: text(dt.timedelta(seconds=round(seconds))),
        "place_id": lambda value: shown(value) if value else "–",
    }
    return env


def set_in(language: str, value: object) -> str:
    """Return a value as the reader sees it. No line begins with the punctuation that French sets
    off by a space.
    """
    text = in_language(value, language)
    return SET_OFF.sub("\N{NO-BREAK SPACE}", text) if language == "fr" else text


def with_code(text: str) -> Markup:
    """Return a text as HTML, with what it has between backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- escaped


class LocalTime:
    """Shows times in the building's time zone."""

    def __init__(self, zone: str, language: str) -> None:
        self.zone, self._language = ZoneInfo(zone), language
        self._name = zone

    def time(self, at: str | float | None) -> str:
        """Return a time (RFC 3339, or Unix seconds) as people read it; the hour alone today."""
        if at is None or at == "":
            return "–"
        here = self.local(at)
        if here.date() == self.now().date():
            return f"{here:%H:%M}"
        return in_language(here, self._language)

    def day(self, at: str | float | None) -> str:
        """Return the day of a time."""
        return "–" if at is None else in_language(self.local(at).date(), self._language)

    def now(self) -> dt.datetime:
        """Return the present time in the building's zone."""
        return dt.datetime.now(self.zone)

    def local(self, at: str | float) -> dt.datetime:
        """Return a time in the building's zone."""
        if isinstance(at, str):
            return dt.datetime.fromisoformat(at).astimezone(self.zone)
        return dt.datetime.fromtimestamp(at, self.zone)

    def sentence(self, text: object) -> str:
        """Return a text with its times in the building's zone."""
        if isinstance(text, Text):
            return set_in(self._language, text_in_local_time(text, self._name))
        return set_in(self._language, text)


def number_text(value: object, unit: str, language: str) -> str:
    """Return a value, which may be a number written as text, with its unit."""
    return f"{in_language(_number(value), language)} {spoken(unit)}".strip()


def _number(value: object) -> object:
    try:
        return Decimal(value) if isinstance(value, str) else value
    except InvalidOperation:
        return value


def language_of(request: Request) -> str:
    """Return the language that a reader chose, or that their browser prefers."""
    chosen = request.cookies.get("gardien-language", "")
    if chosen in LANGUAGES:
        return chosen
    return next((one for one in _preferred(request) if one in LANGUAGES), next(iter(LANGUAGES)))


def _preferred(request: Request) -> Sequence[str]:
    """Return the languages of the browser, the preferred first (RFC 9110, 12.5.4)."""
    weighted: list[tuple[float, str]] = []
    for entry in request.headers.get("Accept-Language", "")[:200].split(","):
        name, _semicolon, weight = entry.strip().partition(";q=")
        try:
            weighted.append((-float(weight or 1), name.partition("-")[0].lower()))
        except ValueError:
            continue
    return [name for _weight, name in sorted(weighted)]


def values_of(**values: Any) -> dict[str, Any]:
    """Return the values that are not empty, for arguments of a call."""
    return {name: value for name, value in values.items() if value not in ("", None, [])}
