"""Report all faults of an input at once; suggest similar names."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 20
"""faults that are shown; further ones are only counted"""


class Problems:
    """Collects faults, so that people can correct a file in one go."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __len__(self) -> int:
        return len(self._problems)

    def add(self, where: str, what: str) -> None:
        """Note one fault; `where` is `places.csv:17`, or empty for a command."""
        self._problems.append(f"{where}: {what}" if where else what)

    def settle(self) -> None:
        """Raise Refused with the first 20 faults, one per line, if there are any."""
        if not self._problems:
            return
        shown = self._problems[:MOST]
        if len(self._problems) > MOST:
            shown.append(f"… and {len(self._problems) - MOST} more; nothing was changed")
        elif len(self._problems) > 1:
            shown.append("nothing was changed")
        raise Refused("\n".join(shown))


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """`; did you mean "dwelling"?`, or empty if no known name is similar."""
    names = " or ".join(f'"{name}"' for name in nearest(written, known))
    return f"; did you mean {names}?" if names else ""


def nearest(written: str, known: Iterable[str]) -> list[str]:
    """At most three known names that are similar."""
    # people write names in any case
    near = {name.casefold(): name for name in known}
    return [near[name] for name in get_close_matches(written.casefold(), list(near), n=3)]
