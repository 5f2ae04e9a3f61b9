"""The interface of a transport: it sends batches and returns receipts, and decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from agent.core.log_fields import LogEvent, fields
from agent.uplink.cursors import Cursors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.buffer.outbox import Pack
    from agent.core.model import Receipt, SealedBatch

log = logging.getLogger(__name__)


def unwanted(sha256: str) -> None:
    """Log a receipt for a backup that this gateway has not offered."""
    log.warning(
        "the platform confirms the backup %s, which was not offered", sha256[:8],
        extra=fields(LogEvent.INPUT_UNUSABLE),
    )  # fmt: skip


def unheard() -> None:
    """Do nothing."""


Turn = Callable[[], Awaitable[None]]
"""returns once nothing more urgent waits to be sent, or after a limited wait"""


async def nobody(raw: bytes) -> None:
    """Log and drop a signed object where no inbox is connected."""
    log.warning(
        "a signed object of %d bytes arrived, but this gateway takes none", len(raw),
        extra=fields(LogEvent.INPUT_UNUSABLE),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What a transport needs to know of the gateway."""

    gateway: str
    """its id"""
    credential: Path | None = None
    """key and certificates in one file (agent.enrolment.credential); read at each opening, since it
    may not exist yet"""
    objects: Callable[[bytes], Awaitable[None]] = nobody
    """takes one signed object, byte for byte as received. When it returns, the object is settled.
    Raises NotRecorded if the object must be sent again"""
    cursors: Cursors = field(default_factory=Cursors)
    """how far signed objects were fetched, for transports with a cursor"""
    audience: str = ""
    """the `aud` of signed objects for this state of the gateway"""
    kept: Callable[[str], None] = unwanted
    """called with the sha256 of the backup that the recipient says it holds"""
    complete: Callable[[], None] = unheard
    """called whenever all signed objects that the recipient has for this gateway are settled"""
    uplink: str = ""
    """the name of the uplink, for the log"""


class Uplink(Protocol):
    """An open connection to one recipient; exists only while connected."""

    @classmethod
    def open(cls, settings: Any, facts: GatewayFacts) -> AbstractAsyncContextManager[Self]:
        """Connect; close on leaving. Raises UplinkLost if it cannot."""
        ...

    @classmethod
    def packing(cls, settings: Any, facts: GatewayFacts) -> Pack | None:
        """The function that packs a batch into a file; None: batches are sent as sealed.

        The function runs in the spool's thread, inside the transaction that seals the batch.
        """
        ...

    most_bytes: int
    """the largest payload that the recipient accepts; batches are sealed below it"""

    async def send(self, batch: SealedBatch) -> None:
        """Send one batch; several calls may run at the same time.

        A return means that the transport accepted the batch. Only a receipt says that the recipient
        stored it. Raises NotStored (retry later), UplinkLost (reopen), BatchRejected (quarantine),
        TooLarge (split).
        """
        ...

    def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts as they arrive. Raises UplinkLost when the connection is lost, even while
        idle.
        """
        ...
