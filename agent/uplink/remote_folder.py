"""The place for files that settings name: a folder, or an SFTP server."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlsplit

from agent.uplink.file_transfer import IN, OUT
from agent.uplink.folder import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.settings import Secret
    from agent.uplink.file_transfer import RemoteFolder
    from agent.uplink.request_worker import Connection

PORT = 22


class FolderSettings(Protocol):
    """What settings say of a place for files."""

    @property
    def url(self) -> str | None:
        """An SFTP server."""
        ...

    @property
    def path(self) -> Path | None:
        """Or a folder."""
        ...

    @property
    def host_key(self) -> str:
        """By what the server proves itself."""
        ...

    @property
    def key(self) -> Secret | None:
        """Ours for it."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds for an answer."""
        ...


def place(
    settings: FolderSettings, line: Connection, folders: tuple[str, ...] = (IN, OUT)
) -> AbstractContextManager[RemoteFolder]:
    """Open it; `folders` must be there. Entering raises UplinkLost, in words for people."""
    if settings.path is not None:
        return _folder(settings.path, folders)
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
    return cast("AbstractContextManager[RemoteFolder]", sftp.connected(address, line, folders))


@contextmanager
def _folder(path: Path, folders: tuple[str, ...]) -> Iterator[RemoteFolder]:
    yield Folder(path, folders)
