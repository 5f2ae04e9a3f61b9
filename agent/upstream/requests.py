"""What the platform asks by signed requests: batches again, a reading now, the directory anew.

Each is done once; the same bytes again get the first answer. Nothing leaves by a request that would
not leave without it: rows pass the same checks, and a reading now is one of a slot not read yet.
A recipient asks for what is its own only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.errors import NotRecorded, Refused
from agent.trust.error_codes import Forged, ObjectCode

if TYPE_CHECKING:
    from agent.gateway import Gateway, Recipient
    from agent.lines import LinkDevices
    from agent.pipeline.device import Device
    from agent.trust.claims import Request
    from agent.trust.verify import Verified


async def obey(house: Gateway, said: Request) -> str:
    """Do what a verified request says; what was done, for people. Raises Forged E_REQUEST, whose
    sentence names no device but the one that was asked for.
    """
    outlet = outlet_to(house, said.recipient)
    match said.act:
        case "resend":
            return await _resend(house, outlet, said)
        case "directory":
            for spool, thread in outlet.spools:
                await thread.run(spool.tell_again)
            outlet.delivery.hurry = True
            return "the directory is told anew"
        case "read-now":
            return await _read_now(house, outlet, said.device)


def outlet_to(house: Gateway, recipient: str) -> Recipient:
    """The uplink to a recipient. Raises Forged E_REQUEST where there is none."""
    for outlet in house.outlets.values():
        if outlet.settings.recipient == recipient:
            return outlet
    raise impossible(f"nothing is sent to {recipient} from here")


def must_be_its_own(house: Gateway, verified: Verified) -> None:
    """See that an object about an uplink comes from its recipient. Raises Forged E_KID, E_REQUEST.

    That is who the trust list calls by the recipient's name. A signer who has the name of no
    recipient here speaks for the one whose uplink brought the object, or for the only one there is.
    """
    recipient = verified.claims["recipient"]
    outlet = outlet_to(house, recipient)
    recipients = {str(one.settings.recipient) for one in house.outlets.values()}
    if verified.owner == recipient:
        return
    unnamed = verified.owner not in recipients
    if not (unnamed and (verified.via == outlet.name or len(recipients) == 1)):
        words = (
            f"this concerns what is sent to {recipient}, and only {recipient} may ask for it: by"
            " its own uplink, or with a key that the trust list has under that name"
        )
        raise Forged(ObjectCode.KID, f"{verified.owner}: {words}", words)


def impossible(words: str) -> Forged:
    """What was asked for cannot be done, in words that its sender may be told."""
    return Forged(ObjectCode.REQUEST, words, words)


async def _resend(house: Gateway, outlet: Recipient, said: Request) -> str:
    if said.epoch is None or said.from_ is None or said.to is None or said.from_ > said.to:
        raise impossible("a resend names its `epoch`, and `from` and `to` in order")
    try:
        number = await _ask_again(outlet, (said.epoch, said.from_, said.to, house.clock.now()))
    except LookupError as error:
        if outlet.kept:  # it may be one of those on the disk
            raise NotRecorded(
                "the disk fails: what it has is sent again when it is well"
            ) from error
        raise Forged(ObjectCode.EPOCH, str(error)) from error
    except ValueError as error:
        raise impossible(str(error)) from error
    outlet.delivery.hurry = True
    return f"{number} batches are sent again"


async def _ask_again(outlet: Recipient, asked: tuple[str, int, int, float]) -> int:
    """Of the spool that knows of the epoch: how many. Raises LookupError, ValueError."""
    unknown: LookupError | None = None
    for spool, thread in outlet.spools:
        try:
            return await thread.run(spool.resend, *asked)
        except LookupError as error:
            unknown = unknown or error
    assert unknown is not None
    raise unknown


async def _read_now(house: Gateway, outlet: Recipient, wanted: str | None) -> str:
    """Ask silent devices again at once, and send what there is without waiting for the interval."""
    if wanted is not None:
        try:
            house.device(wanted)
        except Refused as error:  # it names the devices that there are
            words = f'no device "{wanted}" is configured at this gateway'
            raise Forged(ObjectCode.REQUEST, str(error), words) from error
    asked = 0
    for line in house.lines.values():
        for device in line.devices.values():
            # one that disturbs the line is left alone, whoever wants to have it asked
            if wanted in {None, device.name} and device.failures and not _disturbs(line, device):
                device.rests_until, asked = 0.0, asked + 1
    await asyncio.sleep(0)
    await outlet.intake.commit()
    outlet.delivery.hurry = True
    return f"{asked} silent devices are asked again, and what there is is sent"


def _disturbs(line: LinkDevices, device: Device) -> bool:
    return any(line.link.rest(point.address) for point in device.points[:1])
