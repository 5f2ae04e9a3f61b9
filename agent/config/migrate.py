"""Upgrade a configuration file to the present format number without losing comments.

A newer one is refused in words: after a step back to an older gardien nobody guesses what it meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.edit import put
from agent.config.files import Files
from agent.config.load import checked
from agent.config.models import FORMAT
from agent.config.tree import read
from agent.config.yamlerror import YamlUnreadable
from agent.errors import ConfigError, Refused
from agent.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def _numbered(files: Files) -> Files:
    """Form 0, which had no number, says the same as form 1."""
    return put(files, ("format",), "1")[0]


STEPS: Mapping[int, Callable[[Files], Files]] = {0: _numbered}
"""from each form to the next"""


def migrate(path: Path) -> tuple[int, Path | None]:
    """Bring a file up to the present form; the old one is kept beside it.

    Returns the form it had, and where the old one is kept: None if nothing was to be done. Raises
    Refused, and then nothing was changed.
    """
    files = Files(path)
    try:
        had = _form(files)
        for form in range(had, FORMAT):
            files = STEPS[form](files)
    except YamlUnreadable as error:
        raise Refused(f"{path}:{error.place.line}:{error.place.column}: {error.what}") from error
    try:
        checked(files)
    except ConfigError as error:
        raise Refused(
            f"{_('{path} was not changed, because of other errors in it:', path=path)}\n{error}"
        ) from error
    if had >= FORMAT:
        return had, None
    kept = path.with_name(f"{path.name}.bak-{had}")
    files.keep(path, kept)
    files.write(path)
    return had, kept


def _form(files: Files) -> int:
    data = read(files.text(), files.include).data
    form = data.get("format", 0) if isinstance(data, dict) else 0
    return form if isinstance(form, int) else 0
