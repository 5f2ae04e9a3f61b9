"""Read properties of one device in as few requests as it allows; each may fail by itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.drivers.bacnet import services
from agent.drivers.bacnet.names import REJECTED, UNRECOGNIZED_SERVICE
from agent.drivers.bacnet.services import HEADER, Content, Ref, chunks, size
from agent.drivers.bacnet.tags import GarbledError, Refusal
from agent.drivers.bacnet.wire import MAX_APDU, DeniedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bacpypes3.pdu import Address

    from agent.drivers.bacnet.wire import BacnetPort

    Contents = dict[Ref, Content]

SMALLEST = 50
"""bytes of an answer that every device supports (clause 20.1.2.5)"""


@dataclass(slots=True)
class Peer:
    """A device that was found, and its limits as learnt so far."""

    instance: int
    address: Address
    room: int = MAX_APDU
    """greatest number of bytes in an answer without segmentation"""
    multiple: bool = True
    """the device supports ReadPropertyMultiple"""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """allows one request at a time; devices behind one router share it and their slow line"""


async def read(wire: BacnetPort, peer: Peer, refs: Sequence[Ref], contents: Contents) -> None:
    """Read properties of one device into `contents`; a Refusal for each that cannot be read.

    Raises NotAnsweredError at the first request without an answer; `contents` then holds the
    earlier answers. Raises LinkLost.
    """
    for chunk in chunks(refs, min(peer.room, MAX_APDU) - HEADER):
        await _chunk(wire, peer, chunk, contents)


async def _chunk(wire: BacnetPort, peer: Peer, refs: Sequence[Ref], contents: Contents) -> None:
    if not peer.multiple or len(refs) == 1:
        for ref in refs:
            contents[ref] = await read_property(wire, peer, ref)
        return
    try:
        data = await wire.ask(peer.address, services.READ_MULTIPLE, services.read_multiple(refs))
        answer = services.read_multiple_answer(data)
    except (GarbledError, DeniedError) as error:
        _learn(peer, refs, error)
        half = (len(refs) + 1) // 2
        await _chunk(wire, peer, refs[:half], contents)
        await _chunk(wire, peer, refs[half:], contents)
    else:
        contents.update((ref, answer.get(ref, MISSING)) for ref in refs)


MISSING = Refusal("left out of the answer")


def _learn(peer: Peer, refs: Sequence[Ref], error: GarbledError | DeniedError) -> None:
    """Learn the limits of a device from the reason why it refused to read these together."""
    if isinstance(error, GarbledError):
        return  # one value makes the whole answer unreadable; reading the halves isolates it
    # Only this reject means that the service is missing. After any other one, smaller requests may
    # work.
    if error.refusal.code == REJECTED - UNRECOGNIZED_SERVICE:
        peer.multiple = False
    elif error.whole:
        peer.room = max(SMALLEST, min(peer.room, size(refs)) // 2 + HEADER)


async def read_property(wire: BacnetPort, peer: Peer, ref: Ref) -> Content:
    """Read one property with ReadProperty, which every device has. Raises NotAnsweredError."""
    try:
        data = await wire.ask(peer.address, services.READ, services.read(ref))
        return services.read_answer(data, ref)
    except GarbledError as error:
        return Refusal(str(error))
    except DeniedError as error:
        return error.refusal
