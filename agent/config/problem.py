"""Mistakes in a file as data: where each is, what to do, and why pydantic refuses a value."""

from __future__ import annotations

import re
from difflib import SequenceMatcher, get_close_matches
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from agent.core.errors import ConfigError
from agent.core.i18n import N_, Text, _, in_language
from agent.core.settings import BYTES, SECONDS, harmless, shown, written, written_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic.fields import FieldInfo

ValuePath = tuple[str, ...]
"""of keys from the top of the file; list items by their number"""
Model = type[Any]
"""a pydantic model or dataclass"""

EXPECTED = {
    "string": N_("text"),
    "int": N_("a whole number"),
    "float": N_("a number"),
    "decimal": N_("a number"),
    "bool": N_("true or false"),
    "dict": N_("a mapping, one `name: …` a line"),
    "model": N_("a mapping, one `name: …` a line"),
    "list": N_("a list, one `- …` a line"),
    "tuple": N_("a list, one `- …` a line"),
    "path": N_("a path such as /var/lib/gardien"),
}
"""the first word of pydantic's error types, `int_parsing`, `string_type`, …"""

UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
"""pydantic's error types for an unknown option, in a model and in a dataclass"""

LIMITS = {
    "greater_than_equal": (N_("at least"), "ge"),
    "greater_than": (N_("more than"), "gt"),
    "less_than_equal": (N_("at most"), "le"),
    "less_than": (N_("less than"), "lt"),
    "too_short": (N_("at least so many entries:"), "min_length"),
    "too_long": (N_("at most so many entries:"), "max_length"),
    "string_too_short": (N_("at least so many characters:"), "min_length"),
    "string_too_long": (N_("at most so many characters:"), "max_length"),
}

COMMA = re.compile(r"-?[0-9]{1,12},[0-9]{1,12}", re.ASCII)
"""a number with a decimal comma, as in French"""
GROUPED = re.compile("[0-9]{1,3}(?:[ \u00a0\u202f.'’][0-9]{3})+")
"""a whole number with separated thousands"""
QUOTED = re.compile("[“”„«‘’].*[“”»‘’]")
"""text in typographic quotation marks, which YAML reads as letters"""
YES_AND_NO = {"oui": "true", "vrai": "true", "non": "false", "faux": "false"}
NO_BLANK = re.compile(r"([\w-]+):(\S.*)")
"""an option without a space behind its colon: YAML reads both as one word"""


class SourcePosition(NamedTuple):
    """A place in a file; line and column count from 1."""

    line: int
    column: int
    file: str = ""
    """the name it is included by; empty for the main file"""


class Problem(NamedTuple):
    """One mistake, for the person who wrote the file."""

    path: str
    """of the file, as the person named it"""
    line: int
    column: int
    where: str
    """the keys from the top, `devices.sdm-12.profile`; empty for the file itself"""
    what: str
    """what is wrong, and what to write instead"""

    def __str__(self) -> str:
        return str(self.text)

    @property
    def text(self) -> Text:
        """Where it is and what it is, as one line."""
        where = f"{self.path}:{self.line}:{self.column}: " + (f"{self.where}: " * bool(self.where))
        return Text("{where}{what}", where=where, what=self.what)


FIRST = "problem_1"
"""the value of a `refusal` that is its first problem"""


def refusal(problems: Sequence[Problem]) -> ConfigError:
    """The error that names all problems, one in each line."""
    values = {f"problem_{number}": one.text for number, one in enumerate(problems, start=1)}
    return ConfigError(Text("\n".join(f"{{{name}}}" for name in values), **values))


def at(place: SourcePosition, main: str, where: str, what: str) -> Problem:
    """A problem at a place; an included file gets the path of the main file's folder."""
    path = str(PurePath(main).parent / place.file) if place.file else main
    return Problem(path, place.line, place.column, where, what)


def dotted(path: ValuePath) -> str:
    """A path as text; characters that cannot be printed are escaped."""
    return ".".join(shown(key)[1:-1] if key else '""' for key in path)


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """The text `; did you mean "…"?` if a known name is similar, else an empty one.

    Names that are as similar as the nearest are named, too: one of them alone may be the wrong one.
    """
    near = [f'"{name}"' for name in _similar(text, known)]
    return _("; did you mean {names}?", names=_(" or ").join(near)) if near else ""


def nearest(text: str, known: Iterable[str]) -> str:
    """The known name that is similar to a text; empty: there is none."""
    return next(iter(_similar(text, known)), "")


def _similar(text: str, known: Iterable[str]) -> list[str]:
    """At most three known names that are equally similar to a text."""
    # bounded (rule U4): to compare 100,000 names takes over a second
    names = {name.lower(): name for name in islice(known, 1000)}
    text = text.lower()[:64]
    near = get_close_matches(text, names, n=3, cutoff=0.6)
    alike = [SequenceMatcher(None, name, text).ratio() for name in near]
    return [names[name] for name, ratio in zip(near, alike, strict=True) if ratio == alike[0]]


def misspelt(text: str, name: str) -> bool:
    """Whether a text is a name, with at most one letter wrong, missing, added or swapped."""
    if text == name:
        return True
    pairs = enumerate(zip(text, name, strict=False))
    same = next((n for n, (one, other) in pairs if one != other), min(len(text), len(name)))
    rest, meant = text[same:], name[same:]
    return (
        rest[1:] == meant[1:]
        or rest[1:] == meant
        or rest == meant[1:]
        or (rest[:2] == meant[1::-1] and rest[2:] == meant[2:])
    )


def no_blank(key: str, value: str) -> str:
    """The text for a missing space behind a colon, which makes key and value one word."""
    return _("a space is missing after the `:`: write `{key}: {value}`", key=key, value=value)


def or_list(known: Iterable[str]) -> str:
    """The names as a text: `"a", "b" or "c"`."""
    quoted = [f'"{word}"' for word in known]
    if len(quoted) < 2:  # noqa: PLR2004 -- nothing to choose from
        return quoted[0] if quoted else _("none")
    return _("{names} or {last}", names=", ".join(quoted[:-1]), last=quoted[-1])


def explain(
    model: Model, wrong: Mapping[str, Any], beside: Iterable[str]
) -> tuple[ValuePath, bool, str]:
    """A pydantic error: the keys below the model, whether the last key itself is wrong, the text.

    `beside`: options in the same mapping that belong to other models.
    """
    # people count the items of a list from 1, and pydantic from 0
    keys = tuple(str(key + 1 if isinstance(key, int) else key) for key in wrong["loc"])
    kind = wrong["type"]
    if kind in UNKNOWN:
        known = [*beside, *options(_model_at(model, keys[:-1]))]
        return keys, True, no_such_option(keys[-1], known)
    if kind == "missing":
        return keys[:-1], True, _missing(keys[-1], _field(model, keys))
    value = wrong["input"]
    if isinstance(value, str) and QUOTED.fullmatch(value):
        return keys, False, curly(value)
    return keys, False, _wrong(kind, wrong, _field(model, keys))


def curly(value: str) -> str:
    """The text for a value in the quotation marks of a word processor."""
    return _(
        'YAML reads the quotation marks around {found} as letters: use straight ones, "…", or none',
        found=shown(value)[1:-1],
    )


def no_mapping(value: object) -> str:
    """The text for a value in place of a mapping."""
    return _(
        "expected {expected}, found {found}{quotes}",
        expected=_(EXPECTED["dict"]),
        found=shown(value),
        quotes=_no_blank_in(value),
    )


def _no_blank_in(value: object) -> str:
    pair = NO_BLANK.fullmatch(value) if isinstance(value, str) else None
    return f"; {no_blank(pair[1], pair[2])}" if pair and "://" not in pair[0] else ""


def options(model: Model | None) -> list[str]:
    """The options of a section, as they are written in the file."""
    return [field.alias or name for name, field in _fields(model).items()]


def no_such_option(key: str, known: Iterable[str]) -> str:
    """The text for an unknown option, with the one that may be meant."""
    known = list(known)
    if (pair := NO_BLANK.fullmatch(key)) and pair[1] in known:
        return no_blank(pair[1], pair[2])
    return _(
        "no such option{near}",
        near=did_you_mean(key, known) or _("; known: {names}", names=", ".join(known)),
    )


def _missing(key: str, field: FieldInfo | None) -> str:
    says = f" ({_aside(field.description)})" if field and field.description else ""
    return _("`{key}` is missing{says}{such_as}", key=key, says=says, such_as=_such_as(key, field))


def _aside(description: str) -> str:
    """A description in the form for parentheses: no full stop, no capital letter."""
    sentence = _(description).rstrip(".")
    # an abbreviation such as BBMD keeps its capital letters
    return sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() else sentence


def _such_as(key: str, field: FieldInfo | None) -> str:
    return (
        _(", such as `{key}: {example}`", key=key, example=field.examples[0])
        if field and field.examples
        else ""
    )


def _wrong(kind: str, wrong: Mapping[str, Any], field: FieldInfo | None) -> str:
    context, value = wrong.get("ctx", {}), shown(wrong["input"])
    if kind == "value_error":
        return in_language(context["error"])
    if kind in {"literal_error", "enum"}:
        return _literal(wrong["input"], context["expected"])
    if kind in LIMITS:
        comparison, limit = LIMITS[kind]
        return _(
            "expected {words} {limit}{but}",
            words=_(comparison),
            limit=_in_unit(context[limit], field),
            but=_but(wrong["input"], field),
        )
    if kind == "string_pattern_mismatch":
        example = (
            _("something such as {example}", example=field.examples[0])
            if field and field.examples
            else _("something else")
        )
        return _("expected {example}, found {found}", example=example, found=value)
    if expected := EXPECTED.get(kind.split("_", maxsplit=1)[0]):
        return _(
            "expected {expected}, found {found}{quotes}",
            expected=_(expected),
            found=value,
            quotes=_remedy(kind, wrong),
        )
    message = f"{wrong['msg'][:1].lower()}{wrong['msg'][1:]}"
    return _("{said}; found {found}", said=message, found=value)


def _remedy(kind: str, wrong: Mapping[str, Any]) -> str:
    text = str(wrong["input"])
    if _needs_quotes(kind, wrong):
        return _('; write it in quotes: "{text}"', text=text)
    if COMMA.fullmatch(text):
        return _("; write {number}", number=text.replace(",", "."))
    if kind.startswith("bool") and text.lower() in YES_AND_NO:
        return _("; write {number}", number=YES_AND_NO[text.lower()])
    if kind.startswith(("dict", "model")):
        return _no_blank_in(wrong["input"])
    if kind.startswith("int") and GROUPED.fullmatch(text):
        return _("; write {number}", number=re.sub("[^0-9]", "", text))
    return ""


def _needs_quotes(kind: str, wrong: Mapping[str, Any]) -> bool:
    return kind == "string_type" and not isinstance(wrong["input"], (dict, list, bool, type(None)))


def _literal(value: object, expected: str) -> str:
    """The text for a value that is no choice; `expected`: pydantic's `'a', 'b' or 'c'`."""
    known = re.findall("'([^']*)'", expected)
    near = did_you_mean(str(value), known)
    return _(
        "expected {expected}, found {found}{quotes}",
        expected=or_list(known),
        found=shown(value),
        quotes=near,
    )


def _but(value: object, field: FieldInfo | None) -> str:
    # pydantic 2.14 gives the text of the file here, and 2.10 the number that it was read as
    if isinstance(value, str):
        return _(", found {found}", found=harmless(value))
    return (
        _(", found {found}", found=_in_unit(float(value), field))
        if isinstance(value, (int, float))
        else ""
    )


def _in_unit(limit: float, field: FieldInfo | None) -> str:
    """A number in the unit of the option's example, so that a limit reads as in the file."""
    example = str(field.examples[0]) if field and field.examples else ""
    unit = example.lstrip("0123456789.")
    if unit in SECONDS:
        return written(limit)
    return written_size(int(limit)) if unit in BYTES else f"{limit:g}"


def _field(model: Model, keys: ValuePath) -> FieldInfo | None:
    fields = _fields(_model_at(model, keys[:-1]))
    return next((f for n, f in fields.items() if keys and keys[-1] in {n, f.alias}), None)


def _fields(model: Model | None) -> Mapping[str, FieldInfo]:
    fields: Mapping[str, FieldInfo] = getattr(model, "__pydantic_fields__", {})
    return fields


def _model_at(model: Model | None, keys: ValuePath) -> Model | None:
    """The model to which keys lead, through nested models, mappings and lists of models."""
    if not keys or model is None:
        return model
    field = next((f for n, f in _fields(model).items() if keys[0] in {n, f.alias}), None)
    if field is None:
        return None
    nested, of_many = _nested(field.annotation)
    # in a mapping or list of models a name or a number comes before the option
    return _model_at(nested, keys[2:] if of_many else keys[1:])


def _nested(annotation: Any) -> tuple[Model | None, bool]:
    if _fields(annotation):
        return annotation, False
    for inner in get_args(annotation):
        if _fields(inner):
            return inner, getattr(annotation, "__origin__", None) in {dict, tuple}
    return None, False
