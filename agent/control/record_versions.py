"""What this version knows of a record that another one may have written (`gardien-upgrade --back`).

A journal that is set aside for a word too many would leave equipment as it was commanded.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def understood(kind: Any, body: dict[str, Any]) -> Any:
    """Make a record of what it says, without what this version has no word for.

    Raises TypeError where something is missing.
    """
    names = {one.name for one in fields(kind)}
    return kind(**{name: value for name, value in body.items() if name in names})
