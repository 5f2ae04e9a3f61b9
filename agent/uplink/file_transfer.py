"""Uploads a file so that the reader sees it complete or not at all.

The upload grows under a name that readers ignore (`.part`, with the first digits of its sha256). It
resumes after a break, and gets its final name only once its length is right, because SFTP can hide
a full disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.core.errors import NotStored

if TYPE_CHECKING:
    from agent.core.model import BatchId, SealedBatch
    from agent.uplink.backup_message import BackupMessage

IN, OUT, OBJECTS = "in", "out", "out/objects"
RECEIPT = ".receipt.json"
PART = ".part"
STATUS = ".status"
"""suffix of the status document, after gateway and recipient"""
BUILDING = ".building"
DIGITS = 8
"""hexadecimal digits of the sha256 in the name of a partial file"""


class RemoteFile(NamedTuple):
    """A file in the remote folder."""

    name: str
    size: int
    changed: float


class RemoteFolder(Protocol):
    """A folder that the recipient reads. Paths are relative to it; calls raise NotStored or
    UplinkLost.
    """

    def used(self) -> int:
        """Bytes sent and received since the connection was opened."""
        ...

    def entry(self, path: str) -> RemoteFile | None:
        """The file at a path, or None."""
        ...

    def entries(self, folder: str) -> list[RemoteFile]:
        """All files in a folder; none if there is no such folder."""
        ...

    def read(self, path: str, most: int) -> bytes | None:
        """At most `most` bytes of a file, or None if there is no such file."""
        ...

    def append(self, path: str, offset: int, content: bytes) -> None:
        """Write from `offset`, the present length of the file; at 0, create it."""
        ...

    def rename(self, path: str, to: str) -> None:
        """Rename a file, replacing the file that has the name."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file if it exists."""
        ...


def stem(id_: BatchId) -> str:
    """File name without extension: the recipient's key for the batch (rule T12)."""
    return f"{id_.gateway}_{id_.recipient}_{id_.epoch}_{id_.seq}"


def name(batch: SealedBatch) -> str:
    """The file name of a batch."""
    return f"{stem(batch.id)}.{batch.form}"


def carry(remote: RemoteFolder, batch: SealedBatch) -> None:
    """Upload a batch. Raises NotStored or UplinkLost; a partial upload stays, to be resumed."""
    final = f"{IN}/{name(batch)}"
    if not batch.rows:
        _clear(remote, batch)  # the batch that this void replaces may still be there
    # it is there, and only the receipt is late: uploading it again at each resend would cost data
    elif (there := remote.entry(final)) and there.size == len(batch.payload):
        return
    bring(remote, final, batch.payload, batch.sha256)


def bring(remote: RemoteFolder, final: str, content: bytes, sha256: str) -> None:
    """Upload a file, resume a partial upload, and replace the file that has the name.

    Raises NotStored or UplinkLost; a partial upload stays, to be resumed.
    """
    part = f"{final}.{sha256[:DIGITS]}{PART}"
    partial = remote.entry(part)
    offset = partial.size if partial else 0
    if offset > len(content):
        remote.remove(part)
        offset = 0
    remote.append(part, offset, content[offset:])
    # ask the server again: SFTP can acknowledge a write that its full disk lost
    whole = remote.entry(part)
    if whole is None or whole.size != len(content):
        kept = whole.size if whole else 0
        raise NotStored(
            f"only {kept} of {len(content)} B of {final} were stored. The disk there may be full"
        )
    remote.rename(part, final)


def bring_building(remote: RemoteFolder, message: BackupMessage) -> str:
    """Upload a backup, remove partial uploads of older ones, and return its file name."""
    file = f"{message.gateway}_{message.recipient}{BUILDING}"
    bring_alone(remote, file, message.content, message.sha256)
    return file


def bring_alone(remote: RemoteFolder, file: str, content: bytes, sha256: str) -> None:
    """Upload a file that replaces its predecessor. Raises NotStored or UplinkLost."""
    ours = f"{file}.{sha256[:DIGITS]}{PART}"
    for entry in remote.entries(IN):
        if entry.name.startswith(f"{file}.") and entry.name != ours:
            remote.remove(f"{IN}/{entry.name}")  # partial upload of an older one
    bring(remote, f"{IN}/{file}", content, sha256)


def _clear(remote: RemoteFolder, batch: SealedBatch) -> None:
    """Remove other files of the same batch id, partial or complete."""
    ours = f"{name(batch)}.{batch.sha256[:DIGITS]}{PART}"
    for entry in remote.entries(IN):
        if entry.name.startswith(f"{stem(batch.id)}.") and entry.name != ours:
            remote.remove(f"{IN}/{entry.name}")
