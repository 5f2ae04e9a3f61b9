"""Text that may be shown to strangers: what is, or looks like, a secret is taken out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

GONE = "<taken out>"
SHORTEST = 4
"""characters; a shorter one would take out half of every text"""
WORDS = r"pass(?:e|word|wd|phrase)?|secret|token|psk|pin|api[-_]?key|private[-_]?key|key"
REFERENCE = r"(?:file|env|credential):"
NAMED = re.compile(
    rf"(?i)([\"']?[\w-]*(?:{WORDS})[\"']?(?:\s*[:=]\s*|\s+(?:is|est)\s+))(?!\s*{REFERENCE})(\"[^\"]*\"|'[^']*'|[^\s,}}#]+)"
)
IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@\"']+@")
PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
BLOCK = re.compile(
    rf"(?im)^(([ \t]*)[\"']?[\w-]*(?:{WORDS})[\"']?\s*:\s*)[|>][^\n]*\n(?:\2[ \t]+[^\n]*(?:\n|\Z))+"
)
"""YAML's text of several lines"""
RANDOM = re.compile(
    r"(?<![\w/+=.-])(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+_-]{28,}={0,2}"
)
"""a word of 28 characters with letters and digits in it is a key until somebody proves it is not"""


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Take out the known secrets, whatever stands behind a word like `password`, users and
    passwords in URLs, PEM blocks, and long random words.
    """
    for secret in sorted({one.strip() for one in known}, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, GONE)
    text = PEM.sub(GONE, text)
    text = BLOCK.sub(rf"\1{GONE}\n", text)
    text = IN_URL.sub(rf"\1{GONE}@", text)
    text = NAMED.sub(rf"\1{GONE}", text)
    return RANDOM.sub(GONE, text)
