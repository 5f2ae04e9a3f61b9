"""Calls for batches that a person carries to a recipient on a USB stick (rule T39).

A carried batch has the id and the bytes of the batch that the uplink sends, so it does not matter
which of the two ways is first, or whether both are used. The stick itself is written by the
command, since the agent's sandbox cannot see it.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from agent.api.registry import author
from agent.api.uplinks import recipient_at_work
from agent.core.clock import ClockTrust
from agent.core.errors import Refused, SpoolFull, UplinkLost
from agent.core.i18n import Text, text_of
from agent.core.model import Lane
from agent.enrolment import credential
from agent.gateway.delivery import receipt_of
from agent.uplink.base import GatewayFacts
from agent.uplink.files.container import Envelope
from agent.uplink.files.folder import CARRIED, name, stem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.api.registry import Call, Caller
    from agent.core.model import SealedBatch
    from agent.gateway.gateway import Gateway, Recipient

MOST_BYTES = 16_000_000
"""of batches without a receipt: the rest stays unsealed, and can still make room when the spool is
full"""
ENDING = ".p7m"
EVER = 2**40
"""seconds: all rows are older, and belong to the backlog"""


async def carry(  # noqa: PLR0913 -- what the command knows
    gateway: Gateway,
    caller: Caller,
    *,
    uplink: str,
    receipts: Sequence[str] = (),
    seal: bool = False,
    named: str | None = None,
) -> dict[str, Any]:
    """Apply receipts that were carried back; with `seal`, seal what waits; return what to carry.

    Files of this gateway and recipient that are not in the answer are settled, or not sent any
    more. Raises Refused, also if the batches could not be signed and encrypted.
    """
    who, recipient = author(gateway, caller, named), recipient_at_work(gateway, uplink)
    _envelope(gateway, uplink)
    outbox, clock = recipient.outbox, gateway.clock
    settled, refused = 0, []
    for receipt in receipts:
        try:
            if known := receipt_of(gateway, recipient, receipt.encode()):
                done = await outbox.settle(known)
                settled += len(done.settled)
                recipient.delivery.learn(done, clock.now())
                if done.settled:
                    recipient.delivery.last_receipt = clock.now()
        except (ValueError, SpoolFull) as error:
            refused.append(text_of(error) if isinstance(error, SpoolFull) else Text(str(error)))
    if seal:
        await _seal(recipient, gateway.config.uplinks[uplink].settings.rhythm)
    batches = await outbox.unreceipted()
    if outbox.on_void is not None:
        outbox.on_void(())  # an open connection sends these too, and no settled one any more
    left = sum(await outbox.waiting(EVER))
    rows = sum(batch.rows for batch in batches)
    if settled or (seal and batches):
        body = {"by": who, "recipient": recipient.settings.recipient, "batches": len(batches)}
        gateway.audit("uplink.carried", body | {"rows": rows, "settled": settled})
    return {
        "gateway": gateway.identity.gateway,
        "recipient": recipient.settings.recipient,
        "files": [{"file": _file(batch), "void": not batch.rows} for batch in batches],
        "rows": rows,
        "settled": settled,
        "refused": refused,
        "left": left,
        "clock": clock.sealing_trust is not ClockTrust.UNTRUSTED,
    }


async def content(gateway: Gateway, caller: Caller, *, uplink: str, file: str) -> dict[str, Any]:
    """The bytes of one file to carry, in base64; None if it is not to be carried any more."""
    del caller
    recipient = recipient_at_work(gateway, uplink)
    for batch in await recipient.outbox.unreceipted():
        if _file(batch) == file:
            sealed = batch.payload
            if not batch.form.endswith(ENDING):
                close = _envelope(gateway, uplink).close
                sealed = await asyncio.to_thread(close, sealed)
            return {"content": base64.b64encode(sealed).decode(), "sha256": batch.sha256}
    return {"content": None}


async def _seal(recipient: Recipient, rhythm: Any) -> None:
    outbox = recipient.outbox
    size = sum(len(batch.payload) for batch in await outbox.unreceipted())
    most = min(rhythm.most_bytes, outbox.most_bytes() or rhythm.most_bytes)
    while size < MOST_BYTES:
        batch = await outbox.seal(Lane.BACKFILL, EVER, rhythm.most_rows, most)
        if batch is None:
            return
        size += len(batch.payload)


def _file(batch: SealedBatch) -> str:
    """The name of a batch on the stick: as a files uplink has it, if it is encrypted already."""
    if batch.form.endswith(ENDING):
        return name(batch)
    return f"{stem(batch.id)}.{batch.form or 'json.zst'}{CARRIED}"


def _envelope(gateway: Gateway, uplink: str) -> Envelope:
    """Signs and encrypts for the recipient. Raises Refused if that is impossible."""
    config = gateway.config.uplinks[uplink]
    readers = config.carry_for or getattr(config.settings, "encrypt_for", ())
    if not readers:
        raise Refused(
            "batches on a stick must be encrypted, and the configuration does not say for whom."
            " Write the recipient's certificate: uplinks.{uplink}.carry_for: [/etc/gardien/"
            "platform.crt]",
            uplink=uplink,
        )
    signer = credential.path(gateway.config.state)
    try:
        from agent.uplink.files.transport import may_sign  # noqa: PLC0415 -- rare, and large

        may_sign(GatewayFacts(gateway.identity.gateway, signer))
        envelope = Envelope(signer, readers)
        envelope.encrypt(b"test")
    except UplinkLost as error:
        raise Refused(text_of(error)) from error
    return envelope


CALLS: Mapping[str, Call] = {"uplink.carry": carry, "uplink.file": content}
"""calls by name"""
