"""The building file is offered to each platform after every change, when nothing else wants to go.

A platform that holds the latest one is left alone; one that does not answer is tried ever more
rarely, for it may not know what to do with it. A line paid by the megabyte has it once a day at
most, and only within what the month has left.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.clock import monotonic, stamp
from agent.errors import NotRecorded, NotStored
from agent.log_fields import LogEvent, fields
from agent.uplink.backup_message import BackupMessage
from agent.uplink.budget import spare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.backup_file import BuildingFile
    from agent.gateway import Gateway, Recipient
    from agent.uplink.base import Uplink
    from agent.uplink.delivery_state import Delivery

log = logging.getLogger(__name__)

LOOK = 5.0
"""seconds between two looks whether it has changed"""
PATIENCE = 60.0
"""seconds that each part waits for batches under way: a backlog of days does not keep it here"""
DAY = 86_400
TURN = 0.2


def wanted(house: Gateway, name: str) -> bool:
    """Whether an uplink is to be offered the building file."""
    options, restored = house.config.backup, house.restored
    if restored is not None and restored.listens:
        return False  # it has not heard yet what the one that a platform may hold already knows
    return options is not None and (options.uplinks is None or name in options.uplinks)


def affords(house: Gateway, outlet: Recipient, file: BuildingFile) -> bool:
    """Whether a metered line may carry it now."""
    allowed = house.config.uplinks[outlet.name].data
    if allowed is None or file.latest is None:
        return True
    now, recipient = house.clock.now(), str(outlet.settings.recipient)
    last = file.taken_at(recipient)
    if last is not None and 0 <= now - last < DAY:
        return False
    used = house.traffic.of(recipient, now).used
    return spare(file.latest.size, used, allowed, house.traffic.share(now))


async def offer(house: Gateway, outlet: Recipient, uplink: Uplink) -> None:
    """Offer it over one open uplink, for ever. Raises UplinkLost."""
    hand: Callable[..., Awaitable[None]] | None = getattr(uplink, "offer", None)
    recipient = str(outlet.settings.recipient)
    turn = partial(_turn, outlet.delivery)
    while True:
        await asyncio.sleep(LOOK)
        file = house.building
        if hand is None or file is None or not wanted(house, outlet.name):
            continue
        if not file.due(recipient, monotonic()) or not affords(house, outlet, file):
            continue
        file.tried(recipient, monotonic())
        try:
            await hand(_keepsake(house, recipient, file), turn)
        except (NotStored, OSError) as error:
            log.info(
                "the building file was not taken by %s: %s", recipient, error,
                extra=fields(LogEvent.BACKUP_NOT_TAKEN, **outlet.names),
            )  # fmt: skip


def _keepsake(house: Gateway, recipient: str, file: BuildingFile) -> BackupMessage:
    """Raises OSError where it cannot be read."""
    assert house.identity is not None
    assert file.latest is not None
    latest = file.latest
    gateway, made = house.identity.gateway, stamp(latest.made)
    return BackupMessage(gateway, recipient, made, latest.revision, latest.sha256, file.content())


async def _turn(delivery: Delivery) -> None:
    """Let batches go first."""
    until = monotonic() + PATIENCE
    while not delivery.idle and monotonic() < until:
        await asyncio.sleep(TURN)


def kept(house: Gateway, outlet: Recipient, sha256: str) -> None:
    """Note that a platform says that it holds the file of this hash."""
    recipient, file = str(outlet.settings.recipient), house.building
    try:
        if file is None or not file.took(recipient, sha256, house.clock.now()):
            return
    except NotRecorded as error:
        log.warning(
            "that %s holds the building file is forgotten at a restart: %s", recipient, error,
            extra=fields(LogEvent.RECORD_NOT_WRITTEN, **outlet.names),
        )  # fmt: skip
        return
    assert file.latest is not None
    house.audit("backup.kept", {"recipient": recipient, "revision": file.latest.revision})


def told(house: Gateway, outlet: Recipient) -> dict[str, Any] | None:
    """How it stands with one platform; None: it is not to have it."""
    file = house.building
    if file is None or file.latest is None or not wanted(house, outlet.name):
        return None
    recipient, latest = str(outlet.settings.recipient), file.latest
    return {
        "made": stamp(latest.made),
        "revision": latest.revision,
        "held": file.held_by(recipient),
        "late": not file.held_by(recipient) and house.clock.now() - latest.made > DAY,
    }
