"""Small JSON files of the state directory. Each is replaced as a whole.

Reading never raises for a file that is missing or damaged: whoever owns the file says what it then
counts as. So a damaged file stops no gateway.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent.core.atomic_write import later, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""what reading a damaged file, or one of another form, raises"""


class StateFile(Generic[T]):
    """One file with one state."""

    def __init__(
        self,
        path: Path | None,
        parse: Callable[[Any], T],
        missing: Callable[[], T],
        damaged: Callable[[Exception], T] | None = None,
        **layout: Any,
    ) -> None:
        """`parse` makes the state from the file's JSON; `missing` makes the one without a file.

        `damaged` makes the one for a file that cannot be read; None: as if it were missing. It may
        raise, as `parse` may for a file of a newer version (not an error of DAMAGE). `path` None:
        nothing is kept. `layout`: options of json.dumps.
        """
        self.path, self._layout = path, layout
        self.name = path.name if path else ""
        self._parse, self._missing, self._damaged = parse, missing, damaged

    def load(self) -> T:
        """The state in the file, or what it counts as."""
        if self.path is None:
            return self._missing()
        try:
            return self._parse(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return self._missing()
        except DAMAGE as error:
            return self._missing() if self._damaged is None else self._damaged(error)

    def save(self, content: Any) -> None:
        """Replace the content. It is on the disk when this returns. Raises NotRecorded."""
        if self.path is not None:
            write(self.path, self._encoded(content))

    def save_later(self, content: Any) -> None:
        """Queue the content to be written; a failure is logged, and ends with the next content."""
        if self.path is not None:
            later.write(self.path, self._encoded(content))

    def _encoded(self, content: Any) -> bytes:
        return json.dumps(content, **self._layout).encode()
