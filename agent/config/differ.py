"""The differences between two configurations as they are written, value by value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.config.edit import shown_value
from agent.config.problem import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.problem import Path


def differences(old: Any, new: Any, path: Path = ()) -> Iterator[str]:
    """A line for each value that differs: `- gone`, `+ new: value`, `~ changed: old → new`."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield f"~ {dotted(path)}: {shown_value(old)} → {shown_value(new)}"
        return
    for key in {**old, **new}:
        here = (*path, key)
        if key not in new:
            yield f"- {dotted(here)}"
        elif key not in old:
            yield f"+ {dotted(here)}: {shown_value(new[key])}"
        else:
            yield from differences(old[key], new[key], here)
