"""The place for files that an uplink's settings name: a folder, or an SFTP server."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from agent.uplink.folder import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.uplink.courier import Far
    from agent.uplink.settings.files import Settings
    from agent.uplink.turns import Line

PORT = 22


def place(settings: Settings, line: Line) -> AbstractContextManager[Far]:
    """Open it. Entering raises UplinkLost, in words for people."""
    if settings.path is not None:
        return _folder(settings.path)
    parts = urlsplit(settings.url or "")
    assert settings.key is not None
    path = parts.path.rstrip("/") + "/" if parts.path else ""
    sftp = import_module("agent.uplink.sftp")  # 12 MB that a folder does not need
    address = sftp.Address(
        host=parts.hostname,
        port=parts.port or PORT,
        user=parts.username,
        path=path,
        host_key=settings.host_key,
        key=settings.key,
        timeout=settings.timeout,
    )
    return cast("AbstractContextManager[Far]", sftp.connected(address, line))


@contextmanager
def _folder(path: Path) -> Iterator[Far]:
    yield Folder(path)
