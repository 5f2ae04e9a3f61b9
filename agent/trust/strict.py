"""JSON and base64url read within bounds, and so that two readers never see two things in the same
bytes.

Size, depth, members, digits and strings are bounded before anything is parsed: for signed objects,
receipts, lists and calls alike.

Duplicate keys, NaN, half characters, padding and stray bits are refused here, because the library
that checks signatures takes the last of two keys and forgives the rest (docs/decisions/020).
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from decimal import Decimal
from typing import Any

from agent.trust.error_codes import Forged, ObjectCode

BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
DEEPEST = 12
"""levels of brackets: the deepest of our objects has five"""
MOST_MARKS = 250_000
"""strings, brackets, commas and colons: each costs a hundred bytes of memory and more"""
LONGEST_NUMBER = 60
"""characters of one number: the largest that any claim allows has 44"""
LARGEST_EXPONENT = 99
"""of a number such as 1e-30. Decimal raises InvalidOperation, which is no ValueError, on one of
twenty digits, and arithmetic with one of nine digits fills the memory
"""
MARK = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},:]|[-+.0-9eE]{21,}', re.DOTALL)
"""a string (one without an end goes to the end), a mark of the structure, or a long number"""
EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)$")


def text_of(raw: bytes, most: int) -> str:
    """The text of an object, a line end after it forgiven. Raises Forged."""
    if len(raw) > most:
        raise Forged(
            ObjectCode.FORM, f"{len(raw)} bytes: an object of this kind has {most} at most"
        )
    try:
        return raw.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise Forged(ObjectCode.FORM, "it is not text in UTF-8") from None


def decoded(part: str, what: str) -> bytes:
    """The bytes of one base64url part, in its one canonical form. Raises Forged."""
    if not BASE64URL.fullmatch(part) or len(part) % 4 == 1:
        raise Forged(ObjectCode.FORM, f"its {what} is not base64url")
    content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if encoded(content) != part:
        raise Forged(ObjectCode.FORM, f"its {what} is not base64url in canonical form")
    return content


def encoded(content: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def object_of(content: bytes | str, what: str) -> dict[str, Any]:
    """One JSON object, numbers with a fraction as Decimal. Raises Forged."""
    try:
        value = json_of(content, what)
        # half a surrogate pair passes json, and nobody can write it down again
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        raise Forged(ObjectCode.FORM, f"its {what} is not JSON") from None
    except ValueError as error:
        raise Forged(ObjectCode.FORM, f"its {error}") from None
    if not isinstance(value, dict):
        raise Forged(ObjectCode.FORM, f"its {what} is not a JSON object")
    return value


def json_of(
    content: bytes | str, what: str, *, marks: int = MOST_MARKS, longest: int | None = None
) -> Any:
    """What JSON says, numbers with a fraction as Decimal; whoever calls has bounded its bytes.

    `marks`: how many strings, brackets, commas and colons it has at most; `longest`: characters of
    one string.
    Raises ValueError, in words that begin with `what`.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        bound(text, marks, longest)
        return json.loads(
            text,
            object_pairs_hook=_once,
            parse_float=_fraction,
            parse_constant=_never,
        )
    except Excessive as error:
        raise ValueError(f"{what}: {error}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{what} is not JSON") from None


class Excessive(ValueError):
    """JSON that is out of bounds, in words."""


def bound(text: str, marks: int = MOST_MARKS, longest: int | None = None) -> None:
    """See that JSON is within bounds, as `json_of` does; what is none is left to the parser.

    Raises Excessive.
    """
    depth = 0
    for match in MARK.finditer(text):
        first = text[match.start()]
        size = match.end() - match.start()
        if (marks := marks - 1) < 0:
            raise Excessive("it has more members and entries than anything of ours")
        if first == '"':
            if longest is not None and size - 2 > longest:
                raise Excessive(f"a string of {size - 2} characters: it may have {longest}")
            continue
        if size > 1:
            if size > LONGEST_NUMBER and first in "-0123456789":
                raise Excessive(f"a number of {size} characters: it may have {LONGEST_NUMBER}")
            continue
        depth += (first in "[{") - (first in "]}")
        if depth > DEEPEST:
            raise Excessive("it is nested deeper than anything of ours")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = Counter(name for name, _ in pairs)
        raise Excessive(f"{json.dumps(max(names, key=lambda n: names[n]))[:60]} stands in it twice")
    return members


def _fraction(token: str) -> Decimal:
    exponent = EXPONENT.search(token)
    if exponent is not None and abs(int(exponent[1])) > LARGEST_EXPONENT:
        reason = f"the number {token[:40]} has an exponent beyond {LARGEST_EXPONENT}"
        raise Excessive(reason)
    return Decimal(token)


def _never(constant: str) -> Any:
    raise ValueError(constant)
