"""All that is wrong with what somebody gave us, said at once; "did you mean"."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 20
"""wrong lines shown; of the others the number is told"""


class Problems:
    """Collects what is wrong, so that a person corrects a file once."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __len__(self) -> int:
        return len(self._problems)

    def add(self, where: str, what: str) -> None:
        """Note one problem; `where` as `places.csv:17`, empty for a command's own words."""
        self._problems.append(f"{where}: {what}" if where else what)

    def settle(self) -> None:
        """Raise Refused with the first 20 problems, one a line, if there are any."""
        if not self._problems:
            return
        shown = self._problems[:MOST]
        if len(self._problems) > MOST:
            shown.append(f"… and {len(self._problems) - MOST} more; nothing was changed")
        elif len(self._problems) > 1:
            shown.append("nothing was changed")
        raise Refused("\n".join(shown))


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """`; did you mean "dwelling"?`, or nothing where nothing known is near."""
    names = " or ".join(f'"{name}"' for name in nearest(written, known))
    return f"; did you mean {names}?" if names else ""


def nearest(written: str, known: Iterable[str]) -> list[str]:
    """The known words, three at most, that look like it."""
    near = {name.casefold(): name for name in known}
    return [near[name] for name in get_close_matches(written.casefold(), list(near), n=3)]
