"""Upload the backup to each platform after every change.

Batches go first. A platform that holds the latest backup is not contacted again; one that does not
answer is retried at growing intervals, since it may not support backups. A metered line carries it
once a day at most, and only within the rest of the month's budget.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.core.clock import monotonic, stamp
from agent.core.errors import NotRecorded, NotStored
from agent.core.log_fields import LogEvent, fields
from agent.uplink.backup_message import BackupMessage
from agent.uplink.budget import spare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.gateway.backup_file import BuildingFile
    from agent.gateway.gateway import Gateway, Recipient
    from agent.uplink.base import Uplink
    from agent.uplink.delivery_state import Delivery

log = logging.getLogger(__name__)

LOOK = 5.0
"""seconds between two checks for a new backup"""
PATIENCE = 60.0
"""seconds that each part waits for batches: a backlog of days must not keep the backup here"""
DAY = 86_400
POLL = 0.2
"""seconds"""


def wanted(gateway: Gateway, name: str) -> bool:
    """Whether an uplink gets the backup."""
    options, restored = gateway.config.backup, gateway.restored
    if restored is not None and restored.listens:
        # a restored state lacks later withdrawals: its backup would replace a more complete one
        return False
    return options is not None and (options.uplinks is None or name in options.uplinks)


def affordable(gateway: Gateway, recipient: Recipient, file: BuildingFile) -> bool:
    """Whether the data budget allows the backup on this line now."""
    allowed = gateway.config.uplinks[recipient.name].data
    if allowed is None or file.latest is None:
        return True
    now, recipient_name = gateway.clock.now(), str(recipient.settings.recipient)
    last = file.taken_at(recipient_name)
    # a time in the future is from a wrong clock, and would block the backup for ever
    if last is not None and 0 <= now - last < DAY:
        return False
    used = gateway.traffic.of(recipient_name, now).used
    return spare(file.latest.size, used, allowed, gateway.traffic.share(now))


async def offer(gateway: Gateway, recipient: Recipient, uplink: Uplink) -> None:
    """Upload each new backup over one open uplink, for ever. Raises UplinkLost."""
    upload: Callable[..., Awaitable[None]] | None = getattr(uplink, "offer", None)
    recipient_name = str(recipient.settings.recipient)
    batches_first = partial(_wait_for_batches, recipient.delivery)
    while True:
        await asyncio.sleep(LOOK)
        file = gateway.building
        if upload is None or file is None or not wanted(gateway, recipient.name):
            continue
        if not file.due(recipient_name, monotonic()) or not affordable(gateway, recipient, file):
            continue
        # noted first: a platform that hangs up must not get the backup at each reconnection
        file.tried(recipient_name, monotonic())
        try:
            await upload(_message(gateway, recipient_name, file), batches_first)
        except (NotStored, OSError) as error:
            log.info(
                "%s did not store the backup: %s", recipient_name, error,
                extra=fields(LogEvent.BACKUP_NOT_TAKEN, **recipient.names),
            )  # fmt: skip


def _message(gateway: Gateway, recipient: str, file: BuildingFile) -> BackupMessage:
    """The latest backup as a message. Raises OSError if it cannot be read."""
    assert gateway.identity is not None
    assert file.latest is not None
    latest = file.latest
    gateway_id, made = gateway.identity.gateway, stamp(latest.made)
    return BackupMessage(
        gateway_id, recipient, made, latest.revision, latest.sha256, file.content()
    )


async def _wait_for_batches(delivery: Delivery) -> None:
    """Wait until no batch is under way, for PATIENCE seconds at most."""
    until = monotonic() + PATIENCE
    while not delivery.idle and monotonic() < until:
        await asyncio.sleep(POLL)


def kept(gateway: Gateway, recipient: Recipient, sha256: str) -> None:
    """Record that a platform has confirmed the backup with this hash."""
    recipient_name, file = str(recipient.settings.recipient), gateway.building
    try:
        if file is None or not file.took(recipient_name, sha256, gateway.clock.now()):
            return
    except NotRecorded as error:
        log.warning(
            "the confirmation of %s for the backup is in memory only: %s", recipient_name, error,
            extra=fields(LogEvent.RECORD_NOT_WRITTEN, **recipient.names),
        )  # fmt: skip
        return
    assert file.latest is not None
    gateway.audit("backup.kept", {"recipient": recipient_name, "revision": file.latest.revision})


def upload_state(gateway: Gateway, recipient: Recipient) -> dict[str, Any] | None:
    """State of the backup at one platform; None: it gets none."""
    file = gateway.building
    if file is None or file.latest is None or not wanted(gateway, recipient.name):
        return None
    recipient_name, latest = str(recipient.settings.recipient), file.latest
    return {
        "made": stamp(latest.made),
        "revision": latest.revision,
        "held": file.held_by(recipient_name),
        "late": not file.held_by(recipient_name) and gateway.clock.now() - latest.made > DAY,
    }
