"""What a transport is: it hands batches over and brings receipts back, and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from agent.model import Receipt, Sealed


class Uplink(Protocol):
    """An open connection to one recipient; exists only while connected."""

    @classmethod
    def open(cls, settings: Any, gateway: str) -> AbstractAsyncContextManager[Self]:
        """Connect; close on leaving. Raises UplinkLost if it cannot."""
        ...

    most_bytes: int
    """the largest payload that the far side takes; sealing keeps below it"""

    async def send(self, batch: Sealed) -> None:
        """Hand one batch over; several may be under way.

        Returning means that the transport took it, never that the recipient stored it: that is
        only for a receipt to say. Raises NotStored (nobody took it: again later), UplinkLost
        (reopen), BatchRejected (too large for the far side: quarantine).
        """
        ...

    def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts as they come, for whatever they name. Raises UplinkLost when the link is gone,
        also when it is idle.
        """
        ...
