"""What a transport is: it hands batches over and brings receipts back, and decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from agent.log_fields import LogEvent, fields
from agent.uplink.cursors import Cursors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.buffer.outbox import Pack
    from agent.model import Receipt, SealedBatch

log = logging.getLogger(__name__)


def unwanted(sha256: str) -> None:
    """Nobody has offered such a file."""
    log.warning(
        "a building file %s is said to be held, and was not offered", sha256[:8],
        extra=fields(LogEvent.INPUT_UNUSABLE),
    )  # fmt: skip


def unheard() -> None:
    """Nobody wants to know."""


Turn = Callable[[], Awaitable[None]]
"""returns when nothing more urgent is to be sent, or has had its time"""


async def nobody(raw: bytes) -> None:
    """Take a signed object where nobody is there who would."""
    log.warning(
        "a signed object of %d bytes came, and is not for this gateway", len(raw),
        extra=fields(LogEvent.INPUT_UNUSABLE),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What a transport is told of the gateway that connects."""

    gateway: str
    """its id"""
    credential: Path | None = None
    """key and certificates in one file (agent.enrolment.credential); it may not be there yet, and
    is to be read anew at each opening"""
    objects: Callable[[bytes], Awaitable[None]] = nobody
    """takes one signed object, byte for byte as it came; when it returns, the object is dealt with
    and need not come again. Raises NotRecorded where it must come again"""
    cursors: Cursors = field(default_factory=Cursors)
    """how far signed objects were fetched, where the transport counts"""
    audience: str = ""
    """how signed objects address this state of the gateway"""
    kept: Callable[[str], None] = unwanted
    """called with the sha256 of the building file that the far side says it holds"""
    complete: Callable[[], None] = unheard
    """called whenever all signed objects that the far side has for us have been dealt with"""
    uplink: str = ""
    """the name of the uplink, for the log"""


class Uplink(Protocol):
    """An open connection to one recipient; exists only while connected."""

    @classmethod
    def open(cls, settings: Any, station: GatewayFacts) -> AbstractAsyncContextManager[Self]:
        """Connect; close on leaving. Raises UplinkLost if it cannot."""
        ...

    @classmethod
    def packing(cls, settings: Any, station: GatewayFacts) -> Pack | None:
        """How a batch becomes the bytes that are sent and kept; None: it is sent as it is sealed.

        What it returns is called in the spool's thread, inside the transaction that seals.
        """
        ...

    most_bytes: int
    """the largest payload that the far side takes; sealing keeps below it"""

    async def send(self, batch: SealedBatch) -> None:
        """Hand one batch over; several may be under way.

        Returning means that the transport took it, never that the recipient stored it: that is
        only for a receipt to say. Raises NotStored (nobody took it: again later), UplinkLost
        (reopen), BatchRejected (put it aside), TooLarge (in smaller ones).
        """
        ...

    def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts as they come, for whatever they name. Raises UplinkLost when the link is gone,
        also when it is idle.
        """
        ...
