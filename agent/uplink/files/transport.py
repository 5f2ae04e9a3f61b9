"""The file transport: batches as files in a folder, and receipts beside them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agent.buffer import receipts
from agent.buffer.outbox import digest
from agent.core.clock import monotonic, seconds
from agent.core.errors import NotRecorded, NotStored, Refused, TooLarge, UplinkLost
from agent.core.i18n import text_of
from agent.core.log_fields import LogEvent, fields
from agent.enrolment import credential
from agent.enrolment.credential import uses
from agent.enrolment.tls import doubt
from agent.uplink.base import LARGEST_RECEIPT, SealedOtherwise, condition, held
from agent.uplink.files.container import Envelope, Packing
from agent.uplink.files.folder import (
    OBJECTS,
    OUT,
    RECEIPT,
    SIGNED,
    STATUS,
    bring_alone,
    bring_building,
    carry,
    name,
    place,
)
from agent.uplink.files.settings import SEAL_BYTES, Container, Settings
from agent.uplink.request_worker import in_turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from pydantic import BaseModel

    from agent.buffer.database import OneThread
    from agent.core.model import BatchId, Receipt, SealedBatch
    from agent.uplink.base import BackupMessage, GatewayFacts, Turn
    from agent.uplink.files.folder import RemoteFile, RemoteFolder

log = logging.getLogger(__name__)

LARGEST = 10_000_000
"""bytes; opening a file takes twenty times as much memory"""
LARGEST_OBJECT = 1_100_000
"""bytes; a place map has 1 MiB at most, and the inbox refuses what is cut off here for its
length"""


def may_sign(facts: GatewayFacts) -> None:
    """Raise UplinkLost unless this gateway has a certificate that can sign files."""
    if facts.credential is None:
        raise UplinkLost(
            "this gateway has no certificate, so it cannot sign files. Get one: gardien key enroll"
        )
    try:
        own = credential.load(facts.credential.parent).certificate
    except Refused as error:
        raise UplinkLost(text_of(error)) from error
    if problem := doubt(facts.credential, facts.gateway, seconds()):
        raise UplinkLost(problem)
    if "files" not in uses(own):
        raise UplinkLost(
            "the certificate cannot sign files. The CA must issue it with the extended key usages"
            " clientAuth and emailProtection"
        )


@dataclass(slots=True)
class Awaited:
    """A sent file that has no final receipt yet."""

    id: BatchId
    seen: dict[str, RemoteFile | None] = field(default_factory=dict)
    """the last receipt files that were read, by suffix; read again once they have changed"""


class FilesUplink:
    """An open connection to one recipient's folder (agent.uplink.base.Uplink)."""

    Settings: type[BaseModel] = Settings
    most_bytes = SEAL_BYTES

    def __init__(
        self, remote: RemoteFolder, thread: OneThread, settings: Any, facts: GatewayFacts
    ) -> None:
        self._remote, self._thread = remote, thread
        self._settings, self._facts = settings, facts
        self._awaited: dict[str, Awaited] = {}
        """by file name, without a receipt that says `stored`"""
        self._objects: dict[str, RemoteFile] = {}
        """signed objects that were passed on, by file name"""
        self._reported: set[str] = set()
        self._backup: tuple[str, BackupMessage] | None = None
        """file name and content of the backup that waits for its receipt"""
        self._uploaded_at = self._next_look = 0.0
        """monotonic: when the backup was uploaded, and when its receipt is looked for next"""

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any, facts: GatewayFacts) -> AsyncIterator[Self]:
        """Connect, and test signing and encryption. Raises UplinkLost if one of them fails."""
        packing = cls.packing(settings, facts)
        if packing.envelope is not None:
            # fail at the opening rather than at the first batch
            may_sign(facts)
            await asyncio.to_thread(packing.envelope.close, b"test")
        opening = partial(place, settings)
        async with in_turns("files", opening, settings.timeout) as (remote, thread):
            yield cls(remote, thread, settings, facts)

    @classmethod
    def packing(cls, settings: Any, facts: GatewayFacts) -> Packing:
        """Packs batches as CSV or JSON: compressed, signed and encrypted as configured."""
        if settings.container is Container.NONE:
            return Packing(None, settings.rows)
        signer = facts.credential or Path("/nonexistent")
        compat = settings.container is Container.COMPAT
        return Packing(Envelope(signer, settings.encrypt_for, compat), settings.rows)

    async def send(self, batch: SealedBatch) -> None:
        """Upload the file of one batch, after earlier ones.

        Raises NotStored, UplinkLost, or TooLarge if the file is larger than a reader should open.
        """
        if not batch.form:
            raise SealedOtherwise
        if len(batch.payload) > LARGEST:
            raise TooLarge(
                "{number} B is too large; the limit is {most_bytes} B",
                number=len(batch.payload),
                most_bytes=LARGEST,
            )
        await self._thread.run(carry, self._remote, batch)
        if not batch.rows:  # a void ends the wait for the batch that it replaces
            for file in [file for file, awaited in self._awaited.items() if awaited.id == batch.id]:
                del self._awaited[file]
        self._awaited[name(batch)] = Awaited(batch.id)

    async def tell(self, status: Mapping[str, Any]) -> None:
        """Upload the status document, replacing the last one. Raises UplinkLost."""
        gateway, recipient = self._facts.gateway, self._settings.recipient
        text = condition(gateway, recipient, "online", status)
        packing = self.packing(self._settings, self._facts)
        form, content = await asyncio.to_thread(packing.closed, text, "json")
        file = f"{gateway}_{recipient}{STATUS}.{form}"
        try:
            await self._thread.run(bring_alone, self._remote, file, content, digest(content))
        except NotStored as error:
            self._complain(file, error)

    async def offer(self, message: BackupMessage, turn: Turn) -> None:
        """Upload the backup, and look for its receipt from then on.

        Raises NotStored or UplinkLost.
        """
        await turn()
        self._backup = await self._thread.run(bring_building, self._remote, message), message
        self._uploaded_at = self._next_look = monotonic()

    def expect(self, batches: Iterable[SealedBatch]) -> None:
        """Also look for receipts of batches in quarantine, which are not sent again."""
        for batch in batches:
            self._awaited.setdefault(name(batch), Awaited(batch.id))

    def used(self) -> int:
        """Bytes sent and received since the connection was opened; 0 for a local folder."""
        return self._remote.used()

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts for sent batches, polled; signed objects are passed on in between.

        An unusable receipt is logged once, and read again when its file has changed. Raises
        UplinkLost.
        """
        while True:
            suffixes = (SIGNED, RECEIPT) if self._facts.signed() else (RECEIPT,)
            for file in list(self._awaited):
                for suffix in suffixes:
                    if receipt := await self._look(file, suffix):
                        yield receipt
            await self._look_for_backup_receipt()
            await self._fetch_objects()
            await asyncio.sleep(self._settings.poll)

    async def _look(self, file: str, suffix: str) -> Receipt | None:
        path = f"{OUT}/{file}{suffix}"
        if (awaited := self._awaited.get(file)) is None:
            return None  # a void has replaced the batch meanwhile
        try:
            entry = await self._thread.run(self._remote.entry, path)
            if entry is None or entry == awaited.seen.get(suffix):
                return None
            body = await self._thread.run(self._remote.read, path, receipts.LARGEST + 1)
            receipt = self._facts.receipt(body or b"")
        except NotStored as error:
            self._complain(path, error)
            return None
        except ValueError as error:
            awaited.seen[suffix] = entry
            self._complain(path, error)
            return None
        awaited.seen[suffix] = entry
        # an unsigned receipt does not end the wait for a signed one
        counts = receipt and (receipt.kid or not self._facts.signed())
        if receipt and counts and _ends(receipt, awaited.id):
            self._awaited.pop(file, None)
        return receipt

    async def _look_for_backup_receipt(self) -> None:
        now = monotonic()
        if self._backup is None or now < self._next_look:
            return
        # less and less often: a platform without support for backups never answers, and each look
        # costs data
        self._next_look = now + (now - self._uploaded_at) / 4
        file, message = self._backup
        try:
            path = f"{OUT}/{file}{RECEIPT}"
            body = await self._thread.run(self._remote.read, path, LARGEST_RECEIPT)
        except NotStored as error:
            self._complain(file, error)
            return
        sha256 = held(body or b"", message.gateway, message.recipient)
        if sha256 == message.sha256:
            self._backup = None
            self._facts.kept(sha256)

    async def _fetch_objects(self) -> None:
        trust = self._facts.cursors.trust
        try:
            entries = sorted(await self._thread.run(self._remote.entries, OBJECTS))
        except NotStored as error:
            self._complain(OBJECTS, error)
            return
        # try each object, also after one that cannot be read: a later one may be a withdrawal
        whole = all([await self._take(entry) for entry in entries if entry.name[:1] != "."])
        if (
            trust != self._facts.cursors.trust
        ):  # read all again: the former trust list may have caused refusals
            self._objects.clear()
        elif whole:
            self._facts.complete()

    async def _take(self, entry: RemoteFile) -> bool:
        """Pass on a signed object once; False if it cannot be read or recorded yet."""
        if self._objects.get(entry.name) == entry:
            return True
        path = f"{OBJECTS}/{entry.name}"
        try:
            body = await self._thread.run(self._remote.read, path, LARGEST_OBJECT)
        except NotStored as error:
            self._complain(path, error)
            return False
        if body:
            try:
                await self._facts.objects(body)
            except NotRecorded as error:
                self._complain(path, error)
                return False
            self._objects[entry.name] = entry
        return body != b""  # empty: it is still being written; None: it was removed

    def _complain(self, path: str, error: Exception) -> None:
        if path not in self._reported:
            self._reported.add(path)
            recipient = self._settings.recipient
            log.warning(
                "recipient %s: the file %s cannot be used: %s", recipient, path, error,
                extra=fields(
                    LogEvent.INPUT_UNUSABLE, uplink=self._facts.uplink, recipient=recipient
                ),
            )  # fmt: skip


def _ends(receipt: Receipt, id_: BatchId) -> bool:
    """Whether the receipt is final: `stored` is; `rejected` may still be followed by `stored`."""
    of = (receipt.gateway, receipt.recipient, receipt.epoch)
    return of == id_[:3] and any(seq == id_.seq for seq, _ in receipt.stored)
