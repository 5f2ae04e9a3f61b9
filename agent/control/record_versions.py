"""Reading a record that another version may have written (`gardien-upgrade --back`).

A later version may have added members. If they made the journal unreadable, it would be moved
aside, and the equipment would stay as it was commanded.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def understood(kind: Any, body: dict[str, Any]) -> Any:
    """Make a record from the members that this version knows; the others are ignored.

    Raises TypeError if a member is missing.
    """
    names = {one.name for one in fields(kind)}
    return kind(**{name: value for name, value in body.items() if name in names})
