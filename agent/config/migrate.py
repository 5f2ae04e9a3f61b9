"""Upgrade a configuration file to the present format number; comments are kept.

A file with a newer number is refused, since an older gardien cannot know what it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.edit import put
from agent.config.files import Files
from agent.config.load import checked
from agent.config.models import FORMAT
from agent.config.tree import read
from agent.config.yamlerror import YamlUnreadable
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def _numbered(files: Files) -> Files:
    """From format 0, which had no number and the same options, to format 1."""
    return put(files, ("format",), "1")[0]


STEPS: Mapping[int, Callable[[Files], Files]] = {0: _numbered}
"""from each format to the next"""


def migrate(path: Path) -> tuple[int, Path | None]:
    """Upgrade a file to the present format; a copy of the old file is kept beside it.

    Returns the former format and the copy; None: nothing had to be done. Raises Refused, and then
    nothing was changed.
    """
    files = Files(path)
    try:
        had = _form(files)
        for form in range(had, FORMAT):
            files = STEPS[form](files)
    except YamlUnreadable as error:
        raise Refused(f"{path}:{error.place.line}:{error.place.column}: {error.what}") from error
    try:
        # before anything is written: the agent would not start with a wrong file
        checked(files)
    except ConfigError as error:
        raise Refused(
            f"{_('{path} was not changed, because of other errors in it:', path=path)}\n{error}"
        ) from error
    if had >= FORMAT:
        return had, None
    # the copy first: if the disk is full, the old file must still be whole
    kept = path.with_name(f"{path.name}.bak-{had}")
    files.keep(path, kept)
    files.write(path)
    return had, kept


def _form(files: Files) -> int:
    data = read(files.text(), files.include).data
    form = data.get("format", 0) if isinstance(data, dict) else 0
    return form if isinstance(form, int) else 0
