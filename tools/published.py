"""What is published of the contract, made from the code: `make check` refuses a page that differs.

`python -m tools.published` writes the files in docs/; with `--check` it only compares them.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from agent.api.metric_types import METRICS
from agent.api.report import document
from agent.control.schedule import SEASON, WINDOW
from agent.core.errors import BatchRejected, TooLarge
from agent.core.model import BatchId, Lane, SealedBatch
from agent.enrolment.http_client import HttpAnswer
from agent.trust import claims
from agent.trust.jws import ALGORITHMS
from agent.trust.trust_list import TYP, TrustListClaims
from agent.uplink.base import (
    ABOUT_THE_BYTES,
    RESPONSE_REASONS,
    STORED,
    TOO_LARGE,
    BackupMessage,
    NotNow,
    judge_response,
)
from agent.uplink.https.transport import GONE, PlatformRequests
from agent.uplink.mqtt.settings import Topics
from receiver.https import ENDPOINTS

if TYPE_CHECKING:
    from types import ModuleType

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


class _Recorded:
    """In place of the connection to a platform: what the gateway's own code requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, Any]]] = []

    def request(self, method: str, url: str, _most: int, **more: Any) -> HttpAnswer:
        """Note a request; the answer is an empty list."""
        self.requests.append((method, url, more))
        return HttpAnswer(200, {}, b'{"objects": []}', 0)


BINARY: Json = {"type": "string", "contentEncoding": "binary"}
ANSWERED: dict[str, tuple[str, Json]] = {
    "/batches": ("A receipt for this batch: it is stored, or will never be.",
                 {"$ref": "receipt.schema.json"}),
    "/buildings/{gateway}": ("A receipt for the backup: it is on your disk.",
                             {"$ref": "building.schema.json#/$defs/receipt"}),
    "/objects": ("Signed objects after the cursor, oldest first.", {
        "type": "object", "required": ["objects"], "properties": {"objects": {
            "type": "array", "items": {
                "type": "object", "required": ["cursor", "object"],
                "properties": {"cursor": {"type": "string", "maxLength": 1000},
                               "object": {"type": "string"}},
            },
        }},
    }),
}  # fmt: skip
"""what a platform answers to each request with 200 (statuses: nothing that is read)"""
ASKED: dict[str, tuple[str, Json]] = {
    "/batches": (
        "Deliver a batch: JSON by batch.schema.json, compressed with zstd.",
        BINARY,
    ),
    "/buildings/{gateway}": ("Leave the gateway's encrypted backup.", BINARY),
    "/status/{gateway}": ("Report the state of the gateway.", {"$ref": "status.schema.json"}),
    "/objects": ("Fetch signed objects: objects.schema.json describes their claims.", {}),
}
OBJECTS_HEADER: Json = {
    "description": "the cursor of the last object for this gateway; empty: there is none",
    "schema": {"type": "string"},
}


def openapi() -> Json:
    """The requests of a gateway over HTTPS, as its own code makes them, and what answers mean."""
    recorded = _Recorded()
    platform = PlatformRequests(recorded, "")  # type: ignore[arg-type]
    platform.objects()
    platform.cursor = "{after}"
    platform.objects()
    batch = SealedBatch(BatchId("{gateway}", "{recipient}", "{epoch}", 1), Lane.LIVE, b"", "", 1)
    platform.post(batch)
    platform.tell("{gateway}", b"")
    platform.put(BackupMessage("{gateway}", "{recipient}", "{made}", 0, "", b""))
    paths: Json = {}
    for method, path, more in recorded.requests:
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, more)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gardien, as a platform sees it over HTTPS",
            "version": "1",
            "description": "What a gateway requests from a platform: docs/platform.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "https://platform.example/gardien", "description": "the uplink's url"}],
        "security": [{"certificate": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "certificate": {
                    "type": "mutualTLS",
                    "description": "the certificate's common name is the gateway's id",
                }
            }
        },
    }


def _operation(method: str, path: str, more: Json) -> Json:
    summary, body = ASKED[path]
    headers = more.get("headers", {})
    parameters = [_parameter("path", name, True) for name in re.findall(r"{(\w+)}", path)]
    parameters += [_parameter("header", name, True) for name in headers if name != "Content-Type"]
    parameters += [_parameter("query", name, False) for name in more.get("params", {})]
    made: Json = {
        "operationId": f"{method.lower()}{path.split('/')[1].capitalize()}",
        "summary": summary,
        "responses": _responses(method, path),
    }
    if parameters:
        made["parameters"] = parameters
    if "data" in more:
        made["requestBody"] = {
            "required": True, "content": {headers["Content-Type"]: {"schema": body}}
        }  # fmt: skip
    return made


def _parameter(where: str, name: str, required: bool) -> Json:
    return {"name": name, "in": where, "required": required, "schema": {"type": "string"}}


def _responses(method: str, path: str) -> Json:
    """Each status with what the gateway does then; of batches as `judge_response` decides it."""
    ours = ENDPOINTS[method, path]
    statuses = sorted({*ours, *(STATUSES if path == "/batches" else (200, 404))})
    made: Json = {str(status): {"description": _reaction(path, status)} for status in statuses}
    if path == "/batches":
        made["default"] = {"description": _reaction(path, 500)}
    for status in ("200", "201"):
        if status in made and path in ANSWERED:
            made[status]["content"] = {"application/json": {"schema": ANSWERED[path][1]}}
            if path == "/batches":
                made[status]["headers"] = {"Gardien-Objects": OBJECTS_HEADER}
    if "503" in made:
        made["503"]["headers"] = {
            "Retry-After": {"description": "seconds", "schema": {"type": "string"}}
        }
    return made


STATUSES = (*STORED, TOO_LARGE, *ABOUT_THE_BYTES, *RESPONSE_REASONS)


def _reaction(path: str, status: int) -> str:
    if status in STORED:
        return ANSWERED[path][0] if path in ANSWERED else "The status was taken."
    if path == "/objects":
        return "The cursor is unknown: the gateway asks for all objects again."\
            if status == GONE else "The gateway asks again later."  # fmt: skip
    if path != "/batches":
        return "The gateway sends it again later."
    try:
        judge_response(status, {}, 0)
    except TooLarge:
        return "The batch is sent again, then as a void, with its rows in smaller batches."
    except BatchRejected:
        return "The batch is sent two more times, then put in quarantine."
    except NotNow:
        reason = RESPONSE_REASONS.get(status)
        return f"The batch is kept and sent again{f' ({reason})' if reason else ''}."
    raise AssertionError(status)


def report() -> Json:
    """The file of `gardien report`, and how its signature is checked."""
    made = _plain(TypeAdapter(document.Report).json_schema())
    defs = made.pop("$defs") | {"Report": made}
    _described(defs, document)
    return {
        "$schema": DRAFT,
        "$id": "https://gardien.example/schema/report/1",
        "title": document.SCHEMA,
        "description": (
            "The commissioning report of a gateway, signed by its key. `signature` is a JWS with"
            f" detached payload (RFC 7515, appendix F) whose header has `typ` {document.TYP}; the"
            " payload is `report` in canonical form (RFC 8785), and the key is `report.key`, whose"
            " RFC 7638 thumbprint `kid` must be compared with one that is known. Sentences have"
            " their English text, and message and values for other languages. Members that are not"
            " named here belong to later versions."
        ),
        "type": "object",
        "properties": {
            "report": {"$ref": "#/$defs/Report"},
            "signature": {"type": "string", "pattern": r"^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]{86}$"},
        },
        "required": ["report", "signature"],
        "additionalProperties": False,
        "$defs": dict(sorted(defs.items())),
    }


def _described(defs: Json, module: ModuleType) -> None:
    """Add what the docstrings of dataclasses say of them and their members."""
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef) or node.name not in defs:
            continue
        defs[node.name]["description"] = " ".join(str(ast.get_docstring(node)).split())
        for member, after in pairwise(node.body):
            match member, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    properties = defs[node.name]["properties"]
                    properties[name]["description"] = " ".join(text.split())


UP, DOWN = "receive", "send"
"""what the platform does on a channel"""


def asyncapi() -> Json:
    """The topics of a gateway over MQTT, as its own code names them, from the platform's side."""
    topics = Topics("{gateway}", "{recipient}")
    zstd = {"contentType": "application/zstd", "payload": _schema("batch.schema.json")}
    json_ = {"contentType": "application/json"}
    message: Json = {
        "batch": zstd | {"summary": "a batch, compressed with zstd, of at most 60,000 bytes"},
        "backupPart": {
            "summary": "a line of JSON, then bytes of the backup",
            "contentType": "application/octet-stream",
            "payload": _schema("building.schema.json#/$defs/part"),
        },
        "status": json_ | {
            "summary": "how the gateway is; retained", "payload": _schema("status.schema.json")
        },
        "receipt": json_ | {
            "summary": "what you hold of one epoch", "payload": _schema("receipt.schema.json")
        },
        "backupReceipt": json_ | {
            "summary": "the backup is on your disk",
            "payload": _schema("building.schema.json#/$defs/receipt"),
        },
        "signedObject": {
            "summary": "one signed object, byte for byte; objects.schema.json has its claims",
            "contentType": "application/jose",
            "payload": {"type": "string"},
        },
        "objectsEnd": json_ | {
            "summary": "after a restore: all signed objects were sent",
            "payload": _schema("building.schema.json#/$defs/end"),
        },
    }  # fmt: skip
    channels = {
        "live": (topics.up(Lane.LIVE), UP, ("batch",)),
        "backfill": (topics.up(Lane.BACKFILL), UP, ("batch",)),
        "building": (topics.building, UP, ("backupPart",)),
        "status": (topics.status, UP, ("status",)),
        "receipts": (topics.receipts, DOWN, ("receipt", "backupReceipt")),
        "objects": (topics.objects, DOWN, ("signedObject", "objectsEnd")),
    }
    parameters = {
        "gateway": {"description": "the gateway's id, 15 characters beginning with G"},
        "recipient": {"description": "your DNS name, as in consents"},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "gardien, as a platform sees it over MQTT",
            "version": "1",
            "description": "Topics of gateways and of a platform: docs/platform.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "broker.example:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "5.0",
                "security": [{"$ref": "#/components/securitySchemes/certificate"}],
            }
        },
        "channels": {
            name: {
                "address": address,
                "parameters": parameters,
                "messages": {one: {"$ref": f"#/components/messages/{one}"} for one in of},
            }
            for name, (address, _, of) in channels.items()
        },
        "operations": {
            f"{what}{name.capitalize()}": {
                "action": what,
                "channel": {"$ref": f"#/channels/{name}"},
                "bindings": {"mqtt": {"qos": 1, "retain": name == "status"}},
            }
            for name, (_, what, _of) in channels.items()
        },
        "components": {
            "messages": message,
            "securitySchemes": {
                "certificate": {
                    "type": "X509",
                    "description": "the certificate's common name is the gateway's id, or yours",
                }
            },
        },
    }


def _schema(file: str) -> Json:
    return {"schemaFormat": "application/schema+json;version=2020-12", "schema": {"$ref": file}}


FILES = {
    "objects.schema.json": objects,
    "openapi.json": openapi,
    "asyncapi.json": asyncapi,
    "report.schema.json": report,
}


def metrics() -> str:
    """The table of all numbers of a gateway."""
    lines = ["| metric | labels | what it is | in the status |", "|---|---|---|---|"]
    for one in METRICS:
        labels, shared = ", ".join(f"`{label}`" for label in one.labels), "yes" * one.shared
        lines.append(f"| `{one.name}` | {labels} | {one.help} | {shared} |")
    return "\n".join(lines)


TABLES = {"metrics.md": metrics}
"""pages of which only the table is made: everything from its first line to its last"""


def main() -> None:
    """Write the files, or compare them; status 1 if one differs."""
    check, wrong = "--check" in sys.argv[1:], []
    for name, make in FILES.items():
        path, text = DOCS / name, json.dumps(make(), ensure_ascii=False, indent=2) + "\n"
        wrong += _differing(path, text, check=check)
    for name, table in TABLES.items():
        page = (DOCS / name).read_text(encoding="utf-8")
        begin, end = page.index("\n|") + 1, page.rindex("|\n") + 1
        text = page[:begin] + table() + page[end:]
        wrong += _differing(DOCS / name, text, check=check)
    if wrong:
        sys.exit(f"docs/ differs from the code in {', '.join(wrong)}: python -m tools.published")


def _differing(path: Path, text: str, *, check: bool) -> list[str]:
    """Write a file; or, to check it, return its name if it has another text."""
    if not check:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        return [path.name]
    return []


if __name__ == "__main__":
    main()
