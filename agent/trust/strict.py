"""Strict and bounded parsing of JSON and base64url: the same bytes mean the same to all readers.

Size, depth, members, digits and strings are limited before parsing, for signed objects, receipts,
lists and calls alike.

Duplicate keys, NaN, lone surrogates, padding and stray bits are refused here, because the library
that verifies signatures takes the last of two keys and tolerates the rest (docs/decisions/020).
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from decimal import Decimal
from typing import Any

from agent.core.i18n import Text
from agent.trust.error_codes import Forged, ObjectCode

BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
DEEPEST = 12
"""levels of brackets; gardien's deepest object has five"""
MOST_MARKS = 250_000
"""strings, brackets, commas and colons; each needs at least a hundred bytes of memory"""
LONGEST_NUMBER = 60
"""characters of one number; the longest that a claim allows has 44"""
LARGEST_EXPONENT = 99
"""of a number such as 1e-30. With an exponent of twenty digits Decimal raises InvalidOperation,
which is not a ValueError; arithmetic with one of nine digits exhausts the memory
"""
# possessive quantifiers do not backtrack, so the time stays proportional to the length
MARK = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},:]|[-+.0-9eE]{21,}', re.DOTALL)
"""a string (an unterminated one extends to the end), a structural character, or a long number"""
EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)$")


def text_of(raw: bytes, most: int) -> str:
    """The text of an object without a trailing line end. Raises Forged."""
    if len(raw) > most:
        raise Forged(
            ObjectCode.FORM,
            Text(
                "it has {number} bytes; an object of this type may have {most}",
                number=len(raw),
                most=most,
            ),
        )
    try:
        return raw.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise Forged(ObjectCode.FORM, Text("it is not text in UTF-8")) from None


def decoded(part: str, what: str) -> bytes:
    """Decode base64url, accepting only its canonical form. Raises Forged."""
    if not BASE64URL.fullmatch(part) or len(part) % 4 == 1:
        raise Forged(ObjectCode.FORM, Text("its {what} is not base64url", what=what))
    content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    # stray bits: several texts would decode to these bytes, each with a hash of its own
    if encoded(content) != part:
        raise Forged(
            ObjectCode.FORM, Text("its {what} is not base64url in its canonical form", what=what)
        )
    return content


def encoded(content: bytes) -> str:
    """Encode bytes as base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def object_of(content: bytes | str, what: str) -> dict[str, Any]:
    """Parse one JSON object; numbers with a fraction become Decimal. Raises Forged."""
    try:
        value = json_of(content, what)
        # json accepts a lone surrogate, which cannot be encoded or stored later
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        raise Forged(ObjectCode.FORM, Text("its {what} is not JSON", what=what)) from None
    except ValueError as error:
        raise Forged(ObjectCode.FORM, Text("its {error}", error=error)) from None
    if not isinstance(value, dict):
        raise Forged(ObjectCode.FORM, Text("its {what} is not a JSON object", what=what))
    return value


def json_of(
    content: bytes | str,
    what: str,
    *,
    marks: int = MOST_MARKS,
    longest: int | None = None,
    deepest: int = DEEPEST,
) -> Any:
    """Parse JSON; numbers with a fraction become Decimal. The caller limits the number of bytes.

    `marks`: limit of strings, brackets, commas and colons; `longest`: limit of characters in one
    string; `deepest`: levels of brackets. Raises ValueError with a text that begins with `what`.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        bound(text, marks, longest, deepest)
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_fraction,
            parse_constant=_refuse,
        )
    except Excessive as error:
        raise ValueError(Text("{what}: {error}", what=what, error=error)) from None
    except (ValueError, RecursionError):
        raise ValueError(Text("{what} is not JSON", what=what)) from None


class Excessive(ValueError):
    """JSON exceeds a limit; the text says which."""


def bound(
    text: str, marks: int = MOST_MARKS, longest: int | None = None, deepest: int = DEEPEST
) -> None:
    """Check that JSON is within the limits of `json_of`. Its syntax is left to the parser.

    Raises Excessive.
    """
    depth = 0
    for match in MARK.finditer(text):
        first = text[match.start()]
        size = match.end() - match.start()
        if (marks := marks - 1) < 0:
            raise Excessive(Text("it has more members and entries than gardien accepts"))
        if first == '"':
            if longest is not None and size - 2 > longest:
                wrong = Text(
                    "a string has {size} characters, and may have {most}",
                    size=size - 2,
                    most=longest,
                )
                raise Excessive(wrong)
            continue
        if size > 1:
            if size > LONGEST_NUMBER and first in "-0123456789":
                wrong = Text(
                    "a number has {size} characters, and may have {most}",
                    size=size,
                    most=LONGEST_NUMBER,
                )
                raise Excessive(wrong)
            continue
        depth += (first in "[{") - (first in "]}")
        if depth > deepest:
            raise Excessive(Text("it is nested deeper than gardien accepts"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = Counter(name for name, _ in pairs)
        twice = json.dumps(max(names, key=lambda n: names[n]))[:60]
        raise Excessive(Text("{name} occurs twice", name=twice))
    return members


def _fraction(token: str) -> Decimal:
    exponent = EXPONENT.search(token)
    if exponent is not None and abs(int(exponent[1])) > LARGEST_EXPONENT:
        raise Excessive(
            Text(
                "the number {number} has an exponent beyond {most}",
                number=token[:40],
                most=LARGEST_EXPONENT,
            )
        )
    return Decimal(token)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
