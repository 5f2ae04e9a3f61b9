"""What all transports do with the bytes of a batch: open, store, answer."""

from __future__ import annotations

import hashlib
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from receiver.batch import Rejected, opened
from receiver.store import Unavailable, rejection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from receiver.batch import Batch
    from receiver.sign import Signer
    from receiver.store import Store


@dataclass(frozen=True, kw_only=True)
class Terms:
    """For whom batches are taken, and what proves who is who: the settings of all transports."""

    recipient: str
    """`+`: all"""
    cert: Path | None = None
    """our key and certificate"""
    ca: Path | None = None
    """of the other side"""
    signer: Signer | None = None
    """signs receipts; None: they are not signed"""

    @property
    def only(self) -> str | None:
        """The only recipient; None: all."""
        return None if self.recipient == "+" else self.recipient


def answer(
    store: Store,
    payload: bytes,
    sender: tuple[str | None, str | None],
    read: Callable[[bytes], Batch] = opened,
) -> dict[str, Any] | None:
    """The receipt for the bytes of a batch, once they are stored or refused; None if not even an id
    could be read. `sender`: gateway and recipient, as the transport knows them. Raises Unavailable.
    """
    gateway, recipient = sender
    try:
        batch = read(payload)
        if gateway not in {None, batch.id.gateway}:
            raise Rejected(f"{gateway} sent a batch of {batch.id.gateway}", batch.id)
        if recipient not in {None, batch.id.recipient}:
            raise Rejected(f"it is for {batch.id.recipient}, this is {recipient}", batch.id)
        try:
            return store.take(batch)
        except Rejected as error:
            raise Rejected(str(error), batch.id) from error
    except Rejected as error:
        what = "rejected" if error.id else "unreadable"
        with store.transaction():
            store.count(gateway or (error.id.gateway if error.id else ""), what, str(error))
        if error.id is None:
            return None
        return rejection(error.id, hashlib.sha256(payload).hexdigest(), str(error))


def attempted(
    store: Store,
    payload: bytes,
    sender: tuple[str | None, str | None],
    read: Callable[[bytes], Batch] = opened,
) -> dict[str, Any] | None:
    """As `answer`, and None after an unexpected error: the gateway sends the batch again, and until
    then it must not hold up the others. Raises Unavailable.
    """
    try:
        return answer(store, payload, sender, read)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 -- whatever it is
        print(f"A batch of {sender[0]} is not stored:\n{traceback.format_exc()}", file=sys.stderr)
        with store.transaction():
            store.count(sender[0] or "", "failed", repr(error))
        return None
