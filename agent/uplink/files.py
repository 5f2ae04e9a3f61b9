"""Files: batches go into `in/` at the far side, receipts and signed objects come from `out/`.

A folder or an SFTP server. Nothing but a receipt settles a batch; that a file lies there, or lies
there no more, says nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agent.buffer import receipts
from agent.buffer.outbox import digest
from agent.buffer.receipts import parse
from agent.clock import monotonic
from agent.errors import NotRecorded, NotStored, TooLarge
from agent.log_fields import LogEvent, fields
from agent.uplink.backup_message import LARGEST_RECEIPT, held
from agent.uplink.cms import Envelope
from agent.uplink.container import Packing
from agent.uplink.file_transfer import (
    OBJECTS,
    OUT,
    RECEIPT,
    STATUS,
    bring_alone,
    bring_building,
    carry,
    name,
)
from agent.uplink.publish_codes import SealedOtherwise
from agent.uplink.remote_folder import place
from agent.uplink.request_worker import in_turns
from agent.uplink.settings.container import Container
from agent.uplink.settings.files import SEAL_BYTES, Settings
from agent.uplink.signing import may_sign
from agent.uplink.status import condition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from pydantic import BaseModel

    from agent.buffer.thread import OneThread
    from agent.model import BatchId, Receipt, SealedBatch
    from agent.uplink.backup_message import BackupMessage
    from agent.uplink.base import GatewayFacts, Turn
    from agent.uplink.file_transfer import RemoteFile, RemoteFolder

log = logging.getLogger(__name__)

LARGEST_FILE = 10_000_000
"""bytes: opening one takes twenty times as much memory"""
LARGEST_OBJECT = 1_100_000
"""bytes: a place map has 1 MiB at most, and what is cut off here is refused for its length there"""


@dataclass(slots=True)
class Awaited:
    """A file whose receipt is looked for."""

    id: BatchId
    seen: RemoteFile | None = None
    """the last receipt that was read; looked at again once it is another one"""


class FilesUplink:
    """An open way to one recipient's files (agent.uplink.base.Uplink)."""

    Settings: type[BaseModel] = Settings
    most_bytes = SEAL_BYTES

    def __init__(
        self, far: RemoteFolder, thread: OneThread, settings: Any, station: GatewayFacts
    ) -> None:
        self._far, self._thread = far, thread
        self._settings, self._station = settings, station
        self._awaited: dict[str, Awaited] = {}
        """by file name: what has no receipt that says `stored`"""
        self._objects: dict[str, RemoteFile] = {}
        """signed objects that were handed on"""
        self._odd: set[str] = set()
        self._building: tuple[str, BackupMessage] | None = None
        """the building file that lies there without a receipt, and its name"""
        self._brought = self._looks = 0.0
        """monotonic: when it was brought there, and when its receipt is looked for again"""

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any, station: GatewayFacts) -> AsyncIterator[Self]:
        """Connect, and see that files can be made at all. Raises UplinkLost if not."""
        packing = cls.packing(settings, station)
        if packing.envelope is not None:
            may_sign(station)
            await asyncio.to_thread(packing.envelope.close, b"may it be done?")
        opening = partial(place, settings)
        async with in_turns("files", opening, settings.timeout) as (far, thread):
            yield cls(far, thread, settings, station)

    @classmethod
    def packing(cls, settings: Any, station: GatewayFacts) -> Packing:
        """Tables or JSON, compressed, signed and encrypted."""
        if settings.container is Container.NONE:
            return Packing(None)
        signer = station.credential or Path("/nonexistent")
        compat = settings.container is Container.COMPAT
        return Packing(Envelope(signer, settings.encrypt_for, compat))

    async def send(self, batch: SealedBatch) -> None:
        """Bring one file there, after those before it. Raises NotStored, UplinkLost, or
        TooLarge on what is larger than anybody should open.
        """
        if not batch.form:
            raise SealedOtherwise
        if len(batch.payload) > LARGEST_FILE:
            raise TooLarge(f"{len(batch.payload)} B: at most {LARGEST_FILE} B are sent")
        await self._thread.run(carry, self._far, batch)
        if not batch.rows:  # a void ends the wait for what it voids
            for file in [file for file, one in self._awaited.items() if one.id == batch.id]:
                del self._awaited[file]
        self._awaited[name(batch)] = Awaited(batch.id)

    async def tell(self, status: Mapping[str, Any]) -> None:
        """Leave word of how the gateway is, in the place of the last one. Raises UplinkLost."""
        gateway, recipient = self._station.gateway, self._settings.recipient
        text = condition(gateway, recipient, "online", status)
        packing = self.packing(self._settings, self._station)
        form, content = await asyncio.to_thread(packing.closed, text, "json")
        file = f"{gateway}_{recipient}{STATUS}.{form}"
        try:
            await self._thread.run(bring_alone, self._far, file, content, digest(content))
        except NotStored as error:
            self._complain(file, error)

    async def offer(self, one: BackupMessage, turn: Turn) -> None:
        """Bring the building file there; its receipt is looked for from then on.

        Raises NotStored or UplinkLost.
        """
        await turn()
        self._building = await self._thread.run(bring_building, self._far, one), one
        self._brought = self._looks = monotonic()

    def expect(self, batches: Iterable[SealedBatch]) -> None:
        """Look for receipts of what is not sent any more, too: it was rejected once."""
        for batch in batches:
            self._awaited.setdefault(name(batch), Awaited(batch.id))

    def used(self) -> int:
        """Bytes on the wire since it was opened, in both directions; a folder has none."""
        return self._far.used()

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts for what was sent, looked for again and again; signed objects are handed on.

        What is no receipt is logged once and looked at again when it has changed. Raises
        UplinkLost.
        """
        while True:
            for file in list(self._awaited):
                if receipt := await self._look(file):
                    yield receipt
            await self._look_for_building()
            await self._fetch_objects()
            await asyncio.sleep(self._settings.poll)

    async def _look(self, file: str) -> Receipt | None:
        path = f"{OUT}/{file}{RECEIPT}"
        if (awaited := self._awaited.get(file)) is None:
            return None  # a void has taken its place meanwhile
        try:
            entry = await self._thread.run(self._far.entry, path)
            if entry is None or entry == awaited.seen:
                return None
            body = await self._thread.run(self._far.read, path, receipts.LARGEST + 1)
            receipt = parse(body or b"")
        except NotStored as error:
            self._complain(path, error)
            return None
        except ValueError as error:
            awaited.seen = entry
            self._complain(path, error)
            return None
        awaited.seen = entry
        if _ends(receipt, awaited.id):
            self._awaited.pop(file, None)
        return receipt

    async def _look_for_building(self) -> None:
        now = monotonic()
        if self._building is None or now < self._looks:
            return
        # ever more rarely: who does not know such files never answers, and each look costs
        self._looks = now + (now - self._brought) / 4
        file, one = self._building
        try:
            path = f"{OUT}/{file}{RECEIPT}"
            body = await self._thread.run(self._far.read, path, LARGEST_RECEIPT)
        except NotStored as error:
            self._complain(file, error)
            return
        sha256 = held(body or b"", one.gateway, one.recipient)
        if sha256 == one.sha256:
            self._building = None
            self._station.kept(sha256)

    async def _fetch_objects(self) -> None:
        trust = self._station.cursors.trust
        try:
            found = sorted(await self._thread.run(self._far.entries, OBJECTS))
        except NotStored as error:
            self._complain(OBJECTS, error)
            return
        # each, also behind one that cannot be read: it may be a withdrawal
        whole = all([await self._take(entry) for entry in found if entry.name[:1] != "."])
        if trust != self._station.cursors.trust:  # what the list before made us refuse
            self._objects.clear()
        elif whole:
            self._station.complete()

    async def _take(self, entry: RemoteFile) -> bool:
        """Hand a signed object on, once; False where it cannot be read or recorded yet."""
        if self._objects.get(entry.name) == entry:
            return True
        path = f"{OBJECTS}/{entry.name}"
        try:
            body = await self._thread.run(self._far.read, path, LARGEST_OBJECT)
        except NotStored as error:
            self._complain(path, error)
            return False
        if body:
            try:
                await self._station.objects(body)
            except NotRecorded as error:
                self._complain(path, error)
                return False
            self._objects[entry.name] = entry
        return body != b""  # that is being written; None: it is there no more

    def _complain(self, path: str, error: Exception) -> None:
        if path not in self._odd:
            self._odd.add(path)
            recipient = self._settings.recipient
            log.warning(
                "%s: %s cannot be used: %s", recipient, path, error,
                extra=fields(
                    LogEvent.INPUT_UNUSABLE, uplink=self._station.uplink, recipient=recipient
                ),
            )  # fmt: skip


def _ends(receipt: Receipt, id_: BatchId) -> bool:
    """Whether no other word will follow: `stored` is the last one, after `rejected` it may come."""
    of = (receipt.gateway, receipt.recipient, receipt.epoch)
    return of == id_[:3] and any(seq == id_.seq for seq, _ in receipt.stored)
