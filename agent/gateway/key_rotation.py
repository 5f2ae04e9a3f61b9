"""Rotate the spool key: new data are encrypted under a new key, stored files are re-encrypted one
by one, and then the old key is destroyed (design note 031).

Until then one file holds both keys, so that a rotation continues after any interruption.
"""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio import sleep
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.buffer.database import Damaged, in_own_thread
from agent.buffer.history_store import FILE as HISTORY
from agent.buffer.keys import NotOurs
from agent.buffer.orphaned_spools import recipient_of, recipients_of, spool_of
from agent.core.clock import monotonic, stamp
from agent.core.errors import Refused, SpoolFull, StorageFailed
from agent.core.log_fields import LogEvent, fields
from agent.core.state import on_trial
from agent.core.tasks import Wakeup
from agent.gateway.gateway import RotationProgress
from agent.gateway.plant_history import history_opening
from agent.gateway.recipient import memory_of, spool_opening, store_opening
from agent.registry import identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.buffer.database import OneThread
    from agent.buffer.history_store import HistoryStore
    from agent.buffer.spool import Spool
    from agent.buffer.unassigned_store import UnassignedStore
    from agent.gateway.gateway import Gateway

log = logging.getLogger(__name__)

COMPONENT = "key rotation"
FAILED = "an unexpected error stopped it; for details: gardien status"
MEMORY = (
    "readings for {} are in memory, because the disk failed, and are not delivered yet. Rotate"
    " the key once they are delivered; see: gardien status"
)
SHELVES = {"shelf.db": "shelf", "registers.db": "registers", HISTORY: "history"}
"""other files under the spool key, each with the component that has it open"""
AGAIN = 30.0
"""seconds until a rotation that had to wait is tried again"""
REPORT_EVERY = 1.0
"""seconds between two progress reports"""


if TYPE_CHECKING:
    SealedStore = Spool | UnassignedStore | HistoryStore
    Tell = Callable[[dict[str, Any]], Awaitable[None]]


def must_be_possible(gateway: Gateway) -> None:
    """Raise Refused if no rotation may begin now; a rotation under way may continue."""
    who, state = gateway.identity, gateway.config.state
    if not who:
        raise Refused(identity.why_absent(who))
    if who.spool_key_before is not None:
        return
    if on_trial(state):
        raise Refused(
            "an upgrade is on trial, and the previous version might not read data under a new key."
            " Try again once the upgrade is accepted: journalctl -u gardien-upgrade"
        )
    failing = next(iter(gateway.disk.storage.faults.items()), None)
    if failing is not None:
        raise Refused(
            "{failing} cannot be written ({reason}), and a rotation needs a working disk."
            " Replace the disk or card: docs/replace.md",
            failing=failing[0],
            reason=failing[1].reason,
        )
    for file in _memories(state):
        raise Refused(MEMORY.format(recipient_of(file)))
    if gateway.daemon:
        _all_must_be_open(gateway)


async def begin(gateway: Gateway, by: str) -> bool:
    """Make a new spool key, and keep the old one until `work` is done.

    Returns False if a rotation is under way already. `by`: the account that asked. Raises Refused
    if no rotation may begin now; then nothing has changed.
    """
    async with gateway.rotation.beginning:
        must_be_possible(gateway)
        who, state = gateway.identity, gateway.config.state
        if who.spool_key_before is not None:
            return False
        gateway.identity = await asyncio.to_thread(identity.begin_rotation, state, who)
    gateway.rotation.files, gateway.rotation.waits = {}, ""
    gateway.rotation.begun.tell()
    gateway.audit("key.rotation", {"state": who.state, "by": by})
    log.warning("a rotation of the spool key has begun", extra=fields(LogEvent.KEY_ROTATION))
    return True


def _all_must_be_open(gateway: Gateway) -> None:
    shut = [f"spool {name}" for name in gateway.config.uplinks if name not in gateway.recipients]
    shut += [part for part in SHELVES.values() if gateway.jobs.parked(part)]
    if shut:
        raise Refused(
            "{names}: not open, and the rotation needs it. For the cause: gardien status",
            names=", ".join(shut),
        )


async def serve(gateway: Gateway) -> None:
    """Continue a rotation whenever one is under way; runs for ever."""
    wakeup = Wakeup(gateway.rotation.begun)
    while True:
        if gateway.identity.spool_key_before is not None:
            await _completed(gateway)
        left = gateway.identity.spool_key_before is not None
        await wakeup.wait(AGAIN if left else math.inf)


async def _completed(gateway: Gateway, tell: Tell | None = None) -> bool:
    """Work to the end. Returns False if it has to wait; `rotation.waits` then has the reason."""
    try:
        await work(gateway, tell)
    except (Refused, StorageFailed, OSError) as error:
        if str(error) != gateway.rotation.waits:
            log.warning(
                "the rotation of the spool key waits: %s", error,
                extra=fields(LogEvent.KEY_ROTATION_WAITS),
            )  # fmt: skip
        gateway.rotation.waits = str(error)
        return False
    return True


async def work(gateway: Gateway, tell: Tell | None = None) -> None:
    """Re-encrypt all files under the new key, and destroy the old key.

    It works in small commits and takes half of the time at most, so that deliveries continue; rows
    are not decoded. Raises Refused or StorageFailed if it cannot continue now.
    """
    who, state = gateway.identity, gateway.config.state
    seen: set[Path] = set()
    # a file may be removed with its uplink meanwhile, and a new one begun
    while left := [file for file in files(state) if file not in seen]:
        seen.add(left[0])
        try:
            await _file(gateway, left[0], who.spool_key, tell)
        except NotOurs as error:  # neither key opens it
            log.warning(
                "the rotation of the spool key skips a file: %s", error,
                extra=fields(LogEvent.KEY_ROTATION, store=left[0].name),
            )  # fmt: skip
        except Damaged as error:
            raise Refused(
                "{name} is damaged; the next attempt sets it aside", name=left[0].name
            ) from error
        except SpoolFull as error:
            raise Refused(
                "{name}: {error}. Free some space on the disk", name=left[0].name, error=error
            ) from error
    # only now: until here a file may still need the old key (rule K6)
    gateway.identity = await asyncio.to_thread(identity.end_rotation, state, who)
    gateway.rotation.waits = ""
    gateway.audit("key.rotated", {"state": who.state})
    log.warning(
        "the spool key is rotated, and the old key is destroyed",
        extra=fields(LogEvent.KEY_ROTATION),
    )


def files(state: Path) -> list[Path]:
    """All files under the spool key."""
    spools = [spool_of(state, recipient) for recipient in recipients_of(state)]
    shelves = [state / name for name in SHELVES if (state / name).exists()]
    return [*spools, *_memories(state), *shelves]


def _memories(state: Path) -> list[Path]:
    """Spools in memory from a disk failure whose rows are not delivered yet."""
    stores = [memory_of(state, recipient) for recipient in recipients_of(state)]
    return [file for file in stores if file.exists()]


async def _file(gateway: Gateway, file: Path, key: bytes, tell: Tell | None) -> None:
    reported_at = monotonic()
    async with _opened(gateway, file) as (store, thread):
        await thread.run(store.rekey, key)
        while True:
            began = monotonic()
            if (there := _open_store(gateway, file)) is not None and there[0] is not store:
                raise Refused("{name} was reopened meanwhile", name=file.name)
            # one call for both: the store may be closed before a second one
            more, far = await thread.run(lambda: (store.rekey_step(), store.rekeyed))
            gateway.rotation.files[file.name] = RotationProgress(*far)
            if not more:
                break
            gateway.rotation.waits = ""
            if tell is not None and monotonic() - reported_at >= REPORT_EVERY:
                reported_at = monotonic()
                await tell(standing(gateway) or {})
            # deliveries and readings wait for the same disk
            await sleep(monotonic() - began if gateway.daemon else 0)
    # the size was an estimate: a finished file must count as done in full
    passed, of = gateway.rotation.files[file.name]
    gateway.rotation.files[file.name] = RotationProgress(max(passed, of), max(passed, of))


@asynccontextmanager
async def _opened(gateway: Gateway, file: Path) -> AsyncIterator[tuple[SealedStore, OneThread]]:
    """A file as its component has it open; a file that nobody has open is opened here."""
    if (there := _open_store(gateway, file)) is not None:
        yield there
        return
    if file in _memories(gateway.config.state):
        raise Refused(MEMORY.format(recipient_of(file)))
    opening: Callable[[], AbstractContextManager[SealedStore]]
    if file.name == HISTORY:
        opening = partial(history_opening, gateway.config, gateway.identity)
    elif file.name in SHELVES:
        opening = store_opening(gateway.identity, file)
    else:
        known = (gateway.config, gateway.identity, gateway.audit)
        opening = spool_opening(*known, recipient_of(file))
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(in_own_thread(file.name, opening))


def _open_store(gateway: Gateway, file: Path) -> tuple[SealedStore, OneThread] | None:
    """The open store of a file; None: nobody has it open.

    Raises Refused if the component that should have it open does not.
    """
    if not gateway.daemon:
        return None
    in_memory = file.parent != gateway.config.state
    if file.name == HISTORY:
        if gateway.history.opened is None:
            raise Refused("{name} is not open", name=file.name)
        return gateway.history.opened
    if part := SHELVES.get(file.name):
        unsent = gateway.unsent
        kept = unsent.get("shelf") if part == "shelf" else unsent.get("registers")
        if kept is None or gateway.jobs.parked(part):
            raise Refused("{name} is not open", name=part)
        return kept.store, kept.thread
    recipient_name = recipient_of(file)
    for name, uplink in gateway.config.uplinks.items():
        if uplink.settings.recipient == recipient_name:
            recipient = gateway.recipients.get(name)
            if recipient is None or recipient.kept:
                raise Refused("the spool of {name} is not open", name=name)
            return recipient.in_memory if in_memory else (recipient.spool, recipient.thread)
    return None


def standing(gateway: Gateway) -> dict[str, Any] | None:
    """Progress of the rotation; None: no rotation is under way."""
    who = gateway.identity
    if who.rotating_since is None:
        return None
    total = sum(file.stat().st_size for file in files(gateway.config.state) if file.exists())
    passed = sum(min(one) for one in gateway.rotation.files.values())
    return {
        "since": stamp(who.rotating_since),
        "passed": min(passed, total),
        "of": total,
        # without a reason for a parked rotation, the command that watches it would never end
        "waits": gateway.rotation.waits or (FAILED if gateway.jobs.parked(COMPONENT) else ""),
    }


async def rotate(gateway: Gateway, by: str, tell: Tell) -> dict[str, Any]:
    """Rotate the spool key, or continue a rotation under way.

    Returns when it is done, or when it has to wait. Raises Refused.
    """
    begun = await begin(gateway, by)
    if not gateway.daemon:
        await _completed(gateway, tell)
    else:
        await _report_progress(gateway, tell)
    now = standing(gateway)
    return {
        "begun": begun,
        "done": now is None,
        "bytes": sum(min(one) for one in gateway.rotation.files.values()),
        "files": len(gateway.rotation.files),
        "damaged": [one.name for one in sorted(gateway.config.state.glob("*.db.damaged"))],
        "standing": now,
    }


async def _report_progress(gateway: Gateway, tell: Tell) -> None:
    while (now := standing(gateway)) is not None and not now["waits"]:
        await tell(now)
        await sleep(REPORT_EVERY)
