"""JSON and base64url read strictly, so that two readers never see two things in the same bytes.

Duplicate keys, NaN, half characters, padding and stray bits are refused here, because the library
that checks signatures takes the last of two keys and forgives the rest (docs/decisions/020).
"""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import Any

from agent.authority.refused import Code, Forged

BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
DEEPEST = 12
"""levels of brackets: the deepest of our objects has five"""
LONGEST_NUMBER = 60
"""characters of one number: the largest that any claim allows has 44"""
LARGEST_EXPONENT = 99
"""of a number such as 1e-30. Decimal raises InvalidOperation, which is no ValueError, on one of
twenty digits, and arithmetic with one of nine digits fills the memory
"""
EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)$")


def text_of(raw: bytes, most: int) -> str:
    """The text of an object, a line end after it forgiven. Raises Forged."""
    if len(raw) > most:
        raise Forged(Code.FORM, f"{len(raw)} bytes: an object of this kind has {most} at most")
    try:
        return raw.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise Forged(Code.FORM, "it is not text in UTF-8") from None


def decoded(part: str, what: str) -> bytes:
    """The bytes of one base64url part, in its one canonical form. Raises Forged."""
    if not BASE64URL.fullmatch(part) or len(part) % 4 == 1:
        raise Forged(Code.FORM, f"its {what} is not base64url")
    found = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if encoded(found) != part:
        raise Forged(Code.FORM, f"its {what} is not base64url in canonical form")
    return found


def encoded(content: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def object_of(content: bytes | str, what: str) -> dict[str, Any]:
    """One JSON object, numbers with a fraction as Decimal. Raises Forged."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        _shallow(text, what)
        found = json.loads(
            text,
            object_pairs_hook=_once,
            parse_float=_fraction,
            parse_int=_whole,
            parse_constant=_never,
        )
        # half a surrogate pair passes json, and nobody can write it down again
        json.dumps(found, ensure_ascii=False, default=str).encode("utf-8")
    except Forged as error:
        raise Forged(error.code, f"its {what}: {error.detail}") from None
    except (ValueError, RecursionError):
        raise Forged(Code.FORM, f"its {what} is not JSON") from None
    if not isinstance(found, dict):
        raise Forged(Code.FORM, f"its {what} is not a JSON object")
    return found


def _shallow(text: str, what: str) -> None:
    if text.count("[") + text.count("{") <= DEEPEST:
        return
    depth, quoted, escaped = 0, False, False
    for character in text:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            if depth > DEEPEST:
                raise Forged(Code.FORM, f"its {what} is nested deeper than any object of ours")
        elif character in "]}":
            depth -= 1


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Forged(Code.FORM, f"{json.dumps(twice)[:60]} stands in it twice")
    return found


def _fraction(token: str) -> Decimal:
    exponent = EXPONENT.search(_bounded(token))
    if exponent is not None and abs(int(exponent[1])) > LARGEST_EXPONENT:
        words = f"the number {token[:40]} has an exponent beyond {LARGEST_EXPONENT}"
        raise Forged(Code.FORM, words)
    return Decimal(token)


def _whole(token: str) -> int:
    return int(_bounded(token))


def _bounded(token: str) -> str:
    if len(token) > LONGEST_NUMBER:
        words = f"a number of {len(token)} characters: it may have {LONGEST_NUMBER}"
        raise Forged(Code.FORM, words)
    return token


def _never(word: str) -> Any:
    raise ValueError(word)
