"""The JSON Schema of the file, for editors that complete and check while a person types.

It is made from the models that check the file. It describes each option by itself; only
`gardien check` checks options against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.config.models import (
    NAME,
    TRANSPORTS,
    Backup,
    Building,
    ClockSource,
    DeviceOptions,
    LinkOptions,
    Privacy,
    SpoolLimits,
    Syndic,
    Top,
    Updates,
    UplinkOptions,
    driver_settings,
    transport_settings,
)
from agent.config.web import Web
from agent.control.settings import Control
from agent.core.settings import BYTES, SECONDS, written, written_size
from agent.drivers import DRIVERS
from agent.enrolment.settings import Enrolment
from agent.trust.trust_list import TrustSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

Json = dict[str, Any]
NONE = ("default", None)


def schema() -> Json:
    """The schema of the whole file."""
    defs: Json = {}
    links = [_variant(defs, LinkOptions, "driver", word, driver_settings(word)) for word in DRIVERS]
    uplinks = [
        _variant(defs, UplinkOptions, "transport", word, transport_settings(word))
        for word in TRANSPORTS
    ]
    top = _model(defs, Top)
    sections = {
        "building": _model(defs, Building),
        "links": _named("Lines to which devices are connected, by names of your choice.", links),
        "devices": _named(
            "Meters, sensors and controllers, by names of your choice.",
            [_model(defs, DeviceOptions)],
        ),
        "uplinks": _named("Recipients of readings, by names of your choice.", uplinks),
        "privacy": _model(defs, Privacy),
        "controls": _named(
            "Points that may be commanded, by names of your choice.", [_model(defs, Control)]
        ),
        "clock": _model(defs, ClockSource),
        "spool": _model(defs, SpoolLimits),
        "enrolment": _model(defs, Enrolment),
        "updates": _model(defs, Updates),
        "trust": _model(defs, TrustSettings),
        "backup": _model(defs, Backup),
        "syndic": _model(defs, Syndic),
        "web": _model(defs, Web),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gardien's configuration",
        "type": "object",
        "additionalProperties": False,
        "required": ["building"],
        "properties": sections | top["properties"],
        "$defs": defs,
    }


def _model(defs: Json, model: type[BaseModel]) -> Json:
    made = model.model_json_schema(ref_template="#/$defs/{model}")
    inner = made.pop("$defs", {})
    for section in (made, *inner.values()):
        section["properties"] = {
            name: _as_written(said) for name, said in section.get("properties", {}).items()
        }
    defs.update(inner)
    return made


def _as_written(option: Json) -> Json:
    """An option with its default as written in the file, without members that no editor shows."""
    # pydantic's default is a number of seconds or bytes, which the file does not accept (rule U2)
    default = option.get("default")
    unit = str(option.get("examples", [""])[0]).lstrip("0123456789.")
    if isinstance(default, int | float) and unit in {*SECONDS, *BYTES}:
        option["default"] = written(default) if unit in SECONDS else written_size(int(default))
    return {key: value for key, value in option.items() if key != "title" and (key, value) != NONE}


def _named(description: str, variants: list[Json]) -> Json:
    return {
        "description": description,
        "type": ["object", "null"],
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": variants[0] if len(variants) == 1 else {"anyOf": variants},
    }


def _variant(
    defs: Json, ours: type[BaseModel], key: str, name: str, theirs: type[BaseModel] | None
) -> Json:
    """The schema of a line or uplink with one driver or transport, whose options are in it, too."""
    # one mapping instead of `allOf`: each of two schemas would refuse the options of the other
    parts = [_model(defs, model) for model in (ours, theirs) if model]
    properties = _merged(part.get("properties", {}) for part in parts)
    # lets an editor choose this variant by the written name, and complete its options only
    properties[key] |= {"const": name}
    return {
        "title": name,
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": [name for part in parts for name in part.get("required", ())],
    }


def _merged(parts: Iterable[Json]) -> Json:
    return {name: dict(said) for part in parts for name, said in part.items()}
