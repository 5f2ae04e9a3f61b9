"""Signed requests of a platform: resend batches, read now, send the directory again.

Each request takes effect once; the same bytes again get the first answer. A request releases no
data that would stay without it: rows pass the same checks, and a reading on request fills a slot
that is still open. A recipient may only ask for its own data.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.core.errors import NotRecorded, Refused
from agent.trust.error_codes import Forged, ObjectCode

if TYPE_CHECKING:
    from agent.acquisition.device import Device
    from agent.gateway.gateway import Gateway, Recipient, Recipients
    from agent.gateway.lines import Lines, LinkDevices
    from agent.trust.claims import Request
    from agent.trust.verify import Verified


async def obey(gateway: Gateway, request: Request) -> str:
    """Carry out a verified request; returns what was done, for people.

    Raises Forged E_REQUEST, whose sentence names no device except the requested one.
    """
    recipient = recipient_named(gateway.recipients, request.recipient)
    match request.act:
        case "resend":
            return await _resend(recipient, request, gateway.clock.now())
        case "directory":
            for spool, thread in recipient.spools:
                await thread.run(spool.tell_again)
            recipient.delivery.hurry = True
            return "the directory is sent again"
        case "read-now":
            return await _read_now(gateway.lines, recipient, request.device)


def recipient_named(recipients: Recipients, recipient_name: str) -> Recipient:
    """The uplink to a recipient. Raises Forged E_REQUEST where there is none."""
    for recipient in recipients.values():
        if recipient.settings.recipient == recipient_name:
            return recipient
    raise impossible(f"this gateway sends nothing to {recipient_name}")


def must_be_its_own(known: Recipients, verified: Verified) -> None:
    """Check that an object about an uplink comes from its recipient. Raises Forged E_KID,
    E_REQUEST.

    The signer is the recipient if the trust list gives its key the recipient's name. A signer with
    the name of no recipient acts for the uplink that brought the object, or for the only recipient.
    """
    recipient_name = verified.claims["recipient"]
    recipient = recipient_named(known, recipient_name)
    recipients = {str(one.settings.recipient) for one in known.values()}
    if verified.owner == recipient_name:
        return
    unnamed = verified.owner not in recipients
    if not (unnamed and (verified.via == recipient.name or len(recipients) == 1)):
        reason = (
            f"only {recipient_name} may request what is sent to {recipient_name}: over its own"
            " uplink, or with a key that the trust list has under that name"
        )
        raise Forged(ObjectCode.KID, f"{verified.owner}: {reason}", reason)


def impossible(reason: str) -> Forged:
    """An E_REQUEST error with a reason that its sender may see."""
    return Forged(ObjectCode.REQUEST, reason, reason)


async def _resend(recipient: Recipient, request: Request, now: float) -> str:
    if (
        request.epoch is None
        or request.from_ is None
        or request.to is None
        or request.from_ > request.to
    ):
        raise impossible("a resend needs `epoch`, `from` and `to`, and `from` must not exceed `to`")
    try:
        number = await _ask_again(recipient, (request.epoch, request.from_, request.to, now))
    except LookupError as error:
        if recipient.kept:  # the batches may be in the spool on the disk, which is not open
            raise NotRecorded("the disk fails: its batches are sent again once it works") from error
        raise Forged(ObjectCode.EPOCH, str(error)) from error
    except ValueError as error:
        raise impossible(str(error)) from error
    recipient.delivery.hurry = True
    return f"{number} batches are sent again"


async def _ask_again(recipient: Recipient, asked: tuple[str, int, int, float]) -> int:
    """Have the spool that knows the epoch resend; the number of batches.

    Raises LookupError, ValueError.
    """
    unknown: LookupError | None = None
    for spool, thread in recipient.spools:
        try:
            return await thread.run(spool.resend, *asked)
        except LookupError as error:
            unknown = unknown or error
    assert unknown is not None
    raise unknown


async def _read_now(lines: Lines, recipient: Recipient, wanted: str | None) -> str:
    """Read silent devices again now, and send what is stored without waiting for the interval."""
    if wanted is not None:
        try:
            lines.find(wanted)
        except Refused as error:  # its text lists all devices, which the sender must not see
            reason = f'no device "{wanted}" is configured at this gateway'
            raise Forged(ObjectCode.REQUEST, str(error), reason) from error
    asked = 0
    for line in lines.values():
        for device in line.devices.values():
            # a device that disturbs the line would cost the others their slots
            if wanted in {None, device.name} and device.failures and not _disturbs(line, device):
                device.rests_until, asked = 0.0, asked + 1
    await asyncio.sleep(0)
    await recipient.intake.commit()
    recipient.delivery.hurry = True
    return f"{asked} silent devices are read again, and the stored readings are sent"


def _disturbs(line: LinkDevices, device: Device) -> bool:
    return any(line.link.rest(point.address) for point in device.points[:1])
