"""Which version this is. importlib.metadata knows too, for 4 MB of memory."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

BEFORE, BEHIND = "gardien-", ".dist-info"


@cache
def version() -> str:
    """What is installed, by the name of its folder of metadata; `unknown` where there is none."""
    for folder in sys.path:
        for metadata in Path(folder or ".").glob(f"{BEFORE}*{BEHIND}"):
            return metadata.name.removeprefix(BEFORE).removesuffix(BEHIND)
    return "unknown"
