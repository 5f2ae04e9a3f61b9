"""How a file gets to the far side whole, or not at all, over whatever breaks in between.

It grows under a name that the reader passes over (`.part`, with the first digits of its sha256),
goes on after a break where it stopped, and takes its own name only when it has its whole length:
SFTP can hide a full disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.errors import NotStored

if TYPE_CHECKING:
    from agent.model import BatchId, SealedBatch
    from agent.uplink.backup_message import BackupMessage

IN, OUT, OBJECTS = "in", "out", "out/objects"
RECEIPT = ".receipt.json"
PART = ".part"
STATUS = ".status"
"""behind the gateway and the recipient: how the gateway is"""
BUILDING = ".building"
DIGITS = 8
"""of the sha256 in the name of a part"""


class RemoteFile(NamedTuple):
    """A file at the far side."""

    name: str
    size: int
    changed: float


class RemoteFolder(Protocol):
    """A place for files. Paths are relative to it; each call raises NotStored or UplinkLost."""

    def used(self) -> int:
        """Bytes on the wire since it was opened, in both directions."""
        ...

    def entry(self, path: str) -> RemoteFile | None:
        """What is there under a path; None if nothing is."""
        ...

    def entries(self, folder: str) -> list[RemoteFile]:
        """Every file in a folder; none if there is no such folder."""
        ...

    def read(self, path: str, most: int) -> bytes | None:
        """At most so many bytes of a file, None if it is not there (any more)."""
        ...

    def append(self, path: str, offset: int, content: bytes) -> None:
        """Write on from `offset`, which is the length of what is there; make the file at 0."""
        ...

    def rename(self, path: str, to: str) -> None:
        """Give a file another name, in the place of what had it."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; nothing if it is not there."""
        ...


def stem(id_: BatchId) -> str:
    """What the far side keys by, whatever the extension (rule T12)."""
    return f"{id_.gateway}_{id_.recipient}_{id_.epoch}_{id_.seq}"


def name(batch: SealedBatch) -> str:
    """The file name of a batch."""
    return f"{stem(batch.id)}.{batch.form}"


def carry(far: RemoteFolder, batch: SealedBatch) -> None:
    """Bring a batch to the far side. Raises NotStored or UplinkLost; what was brought stays."""
    final = f"{IN}/{name(batch)}"
    if not batch.rows:
        _clear(far, batch)  # a void takes the place of what it voids, which may still lie there
    elif (there := far.entry(final)) and there.size == len(batch.payload):
        return
    bring(far, final, batch.payload, batch.sha256)


def bring(far: RemoteFolder, final: str, content: bytes, sha256: str) -> None:
    """Bring a file to the far side, on from where it stopped, in the place of what had its name.

    Raises NotStored or UplinkLost; what was brought stays.
    """
    part = f"{final}.{sha256[:DIGITS]}{PART}"
    begun = far.entry(part)
    offset = begun.size if begun else 0
    if offset > len(content):
        far.remove(part)
        offset = 0
    far.append(part, offset, content[offset:])
    whole = far.entry(part)
    if whole is None or whole.size != len(content):
        kept = whole.size if whole else 0
        raise NotStored(
            f"the far side kept {kept} of {len(content)} B of {final}: is its disk full?"
        )
    far.rename(part, final)


def bring_building(far: RemoteFolder, one: BackupMessage) -> str:
    """Bring a building file to the far side, alone under its name, which is returned."""
    file = f"{one.gateway}_{one.recipient}{BUILDING}"
    bring_alone(far, file, one.content, one.sha256)
    return file


def bring_alone(far: RemoteFolder, file: str, content: bytes, sha256: str) -> None:
    """Bring what takes the place of the last of its name. Raises NotStored or UplinkLost."""
    ours = f"{file}.{sha256[:DIGITS]}{PART}"
    for entry in far.entries(IN):
        if entry.name.startswith(f"{file}.") and entry.name != ours:
            far.remove(f"{IN}/{entry.name}")  # part of an older one
    bring(far, f"{IN}/{file}", content, sha256)


def _clear(far: RemoteFolder, batch: SealedBatch) -> None:
    """Remove what else lies there under the same id, part or whole."""
    ours = f"{name(batch)}.{batch.sha256[:DIGITS]}{PART}"
    for entry in far.entries(IN):
        if entry.name.startswith(f"{stem(batch.id)}.") and entry.name != ours:
            far.remove(f"{IN}/{entry.name}")
