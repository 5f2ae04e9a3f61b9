"""Opens the remote folder of an uplink or export: a local folder, or one on an SFTP server."""

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

    from agent.core.settings import Secret
    from agent.uplink.file_transfer import RemoteFolder
    from agent.uplink.request_worker import Connection

PORT = 22


class FolderSettings(Protocol):
    """The settings of a remote folder."""

    @property
    def url(self) -> str | None:
        """URL of the SFTP server, or None."""
        ...

    @property
    def path(self) -> Path | None:
        """Local folder, or None."""
        ...

    @property
    def host_key(self) -> str:
        """The server's public key."""
        ...

    @property
    def key(self) -> Secret | None:
        """Our private key for the server."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds to wait for an answer."""
        ...


def place(
    settings: FolderSettings, connection: Connection, folders: tuple[str, ...] = (IN, OUT)
) -> AbstractContextManager[RemoteFolder]:
    """Open the remote folder; `folders` must exist in it. Entering raises UplinkLost."""
    if settings.path is not None:
        return _folder(settings.path, folders)
    parts = urlsplit(settings.url or "")
    assert settings.key is not None
    path = parts.path.rstrip("/") + "/" if parts.path else ""
    sftp = import_module(
        "agent.uplink.sftp"
    )  # imported late: paramiko takes 12 MB that a local folder does not need
    server = sftp.SftpServer(
        host=parts.hostname,
        port=parts.port or PORT,
        user=parts.username,
        path=path,
        host_key=settings.host_key,
        key=settings.key,
        timeout=settings.timeout,
    )
    return cast("AbstractContextManager[RemoteFolder]", sftp.connected(server, connection, folders))


@contextmanager
def _folder(path: Path, folders: tuple[str, ...]) -> Iterator[RemoteFolder]:
    yield Folder(path, folders)
