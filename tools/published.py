"""What is published of the contract, made from the code: `make check` refuses a page that differs.

`python -m tools.published` writes the files in docs/; with `--check` it only compares them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from agent.control.schedule import SEASON, WINDOW
from agent.trust import claims
from agent.trust.jws import ALGORITHMS
from agent.trust.trust_list import TYP, TrustListClaims

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import core_schema

Json = dict[str, Any]
DOCS = Path(__file__).resolve().parent.parent / "docs"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
NOT_PRINTABLE = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u08e2\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ue000-\uf8ff\ufeff\ufff9-\ufffb"
)
"""what Python's `isprintable` refuses of the first plane, except code points without a character"""
LINE = rf"^(?! )[^{NOT_PRINTABLE}]*[^ {NOT_PRINTABLE}]$"
MOMENT = (
    r"^(?!0000)[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
)
BASE64URL = r"^[A-Za-z0-9_-]+$"
BEYOND = (
    "A schema cannot state these, and a gateway refuses them with E_FORM: a whole number written"
    " with a point or an exponent; a number with more than 30 digits behind the point, or 60"
    " characters; a member that occurs twice; 29 February outside a leap year; a window of no"
    " length, and a day that a season's month does not have; `exp` before the begin, or later than"
    " 48 hours (orders, requests, uplink moves) or 24 months (grants); in a text, half of a"
    " surrogate pair, code points without a character, or unprintable ones above U+FFFF; a kid that"
    " is not its key's thumbprint, a key that occurs twice, and a threshold above the number of"
    " roots; an object above its size. All other codes concern what the gateway knows:"
    " docs/authority.md"
)


def _ecma(pattern: str) -> str:
    """A pattern of Python as ECMA-262 and all others read it: anchored, digits of ASCII only."""
    return f"^(?:{pattern})$".replace(r"\d", "[0-9]")


LIMIT = 10**claims.LARGEST_AT
FORMS: dict[str, Json] = {
    "_printable": {"pattern": LINE},
    "_a_moment": {"pattern": MOMENT},
    "_a_duration": {
        "pattern": _ecma(claims.DURATION.pattern.replace("P", "P(?=.)").replace("T", "T(?=.)"))
    },
    "_ordinary": {"type": "number", "exclusiveMinimum": -LIMIT, "exclusiveMaximum": LIMIT},
    "ConsentClaims._whole": {
        "allOf": [
            {
                "if": {"properties": {"status": {"const": status}}, "required": ["status"]},
                "then": {
                    "properties": {name: {"not": {"type": "null"}} for name in needed},
                    "required": list(needed),
                },
            }
            for status, needed in claims.NEEDED.items()
        ]
    },
    "Revoked._exactly_one": {
        "oneOf": [
            {"properties": {name: {"type": "string"}}, "required": [name]}
            for name in ("jti", "kid")
        ]
    },
}
"""what each validator in the code demands, by its name"""
PUBLIC_KEY: Json = {
    "type": "object",
    "description": "A public Ed25519 key (RFC 8037); other members are ignored.",
    "properties": {
        "kty": {"const": "OKP"},
        "crv": {"const": "Ed25519"},
        "x": {"type": "string", "pattern": "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"},
        "d": False,
    },
    "required": ["kty", "crv", "x"],
}


class _Forms(GenerateJsonSchema):
    """Also states what our own validators demand. Raises KeyError for one without a form."""

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> Json:
        """The schema of a value, with the form that its validator demands."""
        form = FORMS[schema["function"]["function"].__qualname__]
        made = super().function_after_schema(schema)
        if "$ref" in made:
            name = made["$ref"].rpartition("/")[2]
            self.definitions[name].update(form)  # type: ignore[index]
            return made
        return form if "type" in form else made | form


def objects() -> Json:
    """The claims of each signed object, by its `typ`."""
    defs: Json = {}
    models: dict[str, type[BaseModel]] = {typ: kind.model for typ, kind in claims.KINDS.items()}
    models[TYP] = TrustListClaims
    for typ, model in models.items():
        made = model.model_json_schema(schema_generator=_Forms)
        defs |= made.pop("$defs", {})
        defs[typ] = made
    for name, said in defs.items():
        defs[name] = _plain(said)
    _patch(defs)
    defs["line"] = {"type": "string", "pattern": LINE}
    defs["header"] = {
        "type": "object",
        "description": "The protected header of each object, in base64url before the first dot.",
        "properties": {
            "alg": {"enum": list(ALGORITHMS)},
            "kid": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
            "typ": {"enum": [*claims.KINDS, TYP]},
        },
        "required": ["alg", "kid", "typ"],
        "additionalProperties": False,
    }
    part = {"type": "string", "pattern": BASE64URL}
    signature = {"protected": part, "signature": part}
    defs["signed-trust-list"] = {
        "type": "object",
        "description": "A trust list as it is sent: general JSON form, the payload in base64url.",
        "properties": {
            "payload": part,
            "signatures": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": signature,
                    "required": list(signature),
                    "additionalProperties": False,
                },
            },
        },
        "required": ["payload", "signatures"],
        "additionalProperties": False,
    }
    return {
        "$schema": DRAFT,
        "$id": "https://gardien.example/schema/objects/1",
        "title": "gardien's signed objects",
        "description": f"The claims of each object are in `#/$defs/<typ>`. {BEYOND}",
        "anyOf": [{"$ref": f"#/$defs/{typ}"} for typ in models],
        "$defs": dict(sorted(defs.items())),
    }


def _plain(said: Any) -> Any:
    """Without what pydantic adds and nobody reads, and with the form of each claim in words."""
    if isinstance(said, list):
        return [_plain(one) for one in said]
    if not isinstance(said, dict):
        return said
    made = {
        key: _plain(value)
        for key, value in said.items()
        if key != "title" and (key, value) != ("default", None)
    }
    if made.get("pattern") == LINE:
        made["$ref"] = "#/$defs/line"
        del made["pattern"]
    for name, claim in made.get("properties", {}).items():
        if isinstance(claim, dict) and name in claims.EXAMPLES and "not" not in claim:
            claim.setdefault("description", claims.EXAMPLES[name])
    return made


def _patch(defs: Json) -> None:
    """What the code demands of a claim behind its model."""
    lim, grant = defs["Lim"]["properties"], defs["dr-grant+jwt"]
    lim["windows"]["anyOf"][0]["items"] = {"type": "string", "pattern": _ecma(WINDOW.pattern)}
    lim["season"]["anyOf"][0] = {"type": "string", "pattern": _ecma(SEASON.pattern)}
    grant["if"] = {"properties": {"role": {"const": claims.OCCUPANT}}, "required": ["role"]}
    grant["then"] = {"properties": {"occ": {"type": "string"}}, "required": ["occ"]}
    defs["dr-grant+jwt"]["properties"]["sub"]["description"] = "the name of the key that may order"
    for name in ("from", "to"):
        defs["request+jwt"]["properties"][name]["description"] = claims.WHOLE
    defs["public-key"] = PUBLIC_KEY
    defs["MemberClaims"]["properties"]["jwk"] = {"$ref": "#/$defs/public-key"}
    name = {"name": {"type": "string", "pattern": f"^[^{NOT_PRINTABLE}]*$"}}
    root = {**PUBLIC_KEY, "properties": PUBLIC_KEY["properties"] | name}
    defs[TYP]["properties"]["roots"]["items"] = root


FILES = {"objects.schema.json": objects}


def main() -> None:
    """Write the files, or compare them; status 1 if one differs."""
    check, wrong = "--check" in sys.argv[1:], []
    for name, make in FILES.items():
        path, text = DOCS / name, json.dumps(make(), ensure_ascii=False, indent=2) + "\n"
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(name)
    if wrong:
        sys.exit(f"docs/ differs from the code in {', '.join(wrong)}: python -m tools.published")


if __name__ == "__main__":
    main()
