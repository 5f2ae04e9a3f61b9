"""What pydantic found, in words for the person who wrote the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from agent.config.problem import did_you_mean, or_list
from agent.settings import BYTES, SECONDS, harmless, shown, written, written_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo

    from agent.config.problem import Path

EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "dict": "a mapping, one `name: …` a line",
    "model": "a mapping, one `name: …` a line",
    "list": "a list, one `- …` a line",
    "tuple": "a list, one `- …` a line",
    "path": "a path such as /var/lib/gardien",
}
"""the first word of pydantic's error types, `int_parsing`, `string_type`, …"""

LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
    "string_too_short": ("at least so many characters:", "min_length"),
    "string_too_long": ("at most so many characters:", "max_length"),
}


def explain(
    model: type[BaseModel], wrong: Mapping[str, Any], beside: Iterable[str]
) -> tuple[Path, bool, str]:
    """Say which keys below the model, whether it is about the last key itself, and what."""
    keys = tuple(str(key) for key in wrong["loc"])
    kind = wrong["type"]
    if kind == "extra_forbidden":
        known = [*beside, *options(_model_at(model, keys[:-1]))]
        return keys, True, no_such_option(keys[-1], known)
    if kind == "missing":
        return keys[:-1], True, _missing(keys[-1], _field(model, keys))
    return keys, False, _wrong(kind, wrong, _field(model, keys))


def options(model: type[BaseModel] | None) -> list[str]:
    """Name the options of a section as the file writes them."""
    fields = model.model_fields.items() if model else ()
    return [field.alias or name for name, field in fields]


def no_such_option(key: str, known: Iterable[str]) -> str:
    """Say that an option does not exist, and which one may be meant."""
    return f"no such option{did_you_mean(key, known) or '; known: ' + ', '.join(known)}"


def _missing(key: str, field: FieldInfo | None) -> str:
    says = f" ({field.description})" if field and field.description else ""
    return f"`{key}` is missing{says}{_such_as(key, field)}"


def _such_as(key: str, field: FieldInfo | None) -> str:
    return f", such as `{key}: {field.examples[0]}`" if field and field.examples else ""


def _wrong(kind: str, wrong: Mapping[str, Any], field: FieldInfo | None) -> str:
    context, found = wrong.get("ctx", {}), shown(wrong["input"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _literal(wrong["input"], field)
    if kind in LIMITS:
        words, limit = LIMITS[kind]
        return f"expected {words} {_in_unit(context[limit], field)}{_but(wrong['input'], field)}"
    if kind == "string_pattern_mismatch":
        example = f"something such as {field.examples[0]}" if field and field.examples else "else"
        return f"expected {example}, found {found}"
    if expected := EXPECTED.get(kind.split("_", maxsplit=1)[0]):
        quotes = f'; write it in quotes: "{wrong["input"]}"' if _needs_quotes(kind, wrong) else ""
        return f"expected {expected}, found {found}{quotes}"
    return f"{wrong['msg'][:1].lower()}{wrong['msg'][1:]}; found {found}"


def _needs_quotes(kind: str, wrong: Mapping[str, Any]) -> bool:
    return kind == "string_type" and not isinstance(wrong["input"], (dict, list, bool, type(None)))


def _literal(found: object, field: FieldInfo | None) -> str:
    known = [str(word) for word in get_args(field.annotation)] if field else []
    near = did_you_mean(str(found), known)
    return f"expected {or_list(known)}, found {shown(found)}{near}"


def _but(found: object, field: FieldInfo | None) -> str:
    if isinstance(found, str):  # pydantic 2.14 gives what was written, 2.10 what it was read as
        return f", found {harmless(found)}"
    return f", found {_in_unit(float(found), field)}" if isinstance(found, (int, float)) else ""


def _in_unit(limit: float, field: FieldInfo | None) -> str:
    """Write a number in the unit that the option's example is written in."""
    example = str(field.examples[0]) if field and field.examples else ""
    unit = example.lstrip("0123456789.")
    if unit in SECONDS:
        return written(limit)
    return written_size(int(limit)) if unit in BYTES else f"{limit:g}"


def _field(model: type[BaseModel], keys: Path) -> FieldInfo | None:
    owner = _model_at(model, keys[:-1])
    fields = owner.model_fields if owner else {}
    return next((f for n, f in fields.items() if keys and keys[-1] in {n, f.alias}), None)


def _model_at(model: type[BaseModel] | None, keys: Path) -> type[BaseModel] | None:
    """Follow keys through nested models and mappings of models."""
    if not keys or model is None:
        return model
    field = next((f for n, f in model.model_fields.items() if keys[0] in {n, f.alias}), None)
    if field is None:
        return None
    nested, is_mapping = _nested(field.annotation)
    return _model_at(nested, keys[2:] if is_mapping else keys[1:])


def _nested(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for inner in get_args(annotation):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner, getattr(annotation, "__origin__", None) is dict
    return None, False
