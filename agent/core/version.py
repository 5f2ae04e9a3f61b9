"""The installed version, found without importlib.metadata, which would take 4 MB of memory."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

BEFORE, BEHIND = "gardien-", ".dist-info"


@cache
def version() -> str:
    """Return the version from the name of the metadata folder; `unknown` if there is none."""
    for folder in sys.path:
        for metadata in Path(folder or ".").glob(f"{BEFORE}*{BEHIND}"):
            return metadata.name.removeprefix(BEFORE).removesuffix(BEHIND)
    return "unknown"
