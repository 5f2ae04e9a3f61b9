"""Remove secrets from texts that leave the gateway: passwords, keys, tokens."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GONE = "<taken out>"
SHORTEST = 4
"""characters; removing a shorter secret would damage every text"""
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
"""a YAML block scalar, whose text has several lines"""
RANDOM = re.compile(
    r"(?<![\w/+=.-])(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+_-]{28,}={0,2}"
)
"""a word of at least 28 characters with letters and digits: it may be a key"""


def text_or_reason(path: Path) -> str:
    """Return the text of a file, or why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"{path}: {error.strerror}\n"


def secrets(config: Path) -> Iterator[str]:
    """Yield every secret in the known places, so that it is removed wherever it was copied."""
    # line by line: a log may have copied one line of a secret that has several
    # the agent's account may not open the folder of root, and has copies of systemd
    folders = (config.parent / "credentials", Path(os.environ.get("CREDENTIALS_DIRECTORY", "/-")))
    for path in (path for folder in folders for path in folder.glob("*")):
        yield from text_or_reason(path).splitlines() if path.is_file() else ()
    written = text_or_reason(config)
    for kind, name in re.findall(r"\b(file|env):([^\s\"',}#]+)", written):
        if kind == "env":
            yield os.environ.get(name, "")
        elif Path(name).is_file():
            yield from text_or_reason(Path(name)).splitlines()


def take_out(text: str, known: Iterable[str]) -> str:
    """Remove the known secrets from a text, the longest first."""
    # the longest first: a secret may contain another one
    for secret in sorted({value.strip() for value in known}, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, GONE)
    return text


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Remove the known secrets, values after a word like `password`, users and passwords in URLs,
    PEM blocks, and long random words.
    """
    # from whole blocks to single words: a smaller match would break up a larger one
    text = PEM.sub(GONE, take_out(text, known))
    text = BLOCK.sub(rf"\1{GONE}\n", text)
    text = IN_URL.sub(rf"\1{GONE}@", text)
    text = NAMED.sub(rf"\1{GONE}", text)
    return RANDOM.sub(GONE, text)
