"""Rotating the spool key: from one write on all that comes is under a new key, and what is on the
disk is sealed anew under it, file by file. Then the key before is destroyed (design note 031).

Both keys lie in one file until then, so whatever dies, the next start goes on.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import sleep
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.buffer.database import Damaged
from agent.buffer.orphaned_spools import recipient_of, recipients_of, spool_of
from agent.buffer.rotation import NotOurs
from agent.buffer.thread import in_own_thread
from agent.clock import monotonic, stamp
from agent.errors import Refused, SpoolFull, StorageFailed
from agent.log_fields import LogEvent, fields
from agent.recipient import memory_of, spool_opening, store_opening
from agent.registry import identity
from agent.state import judged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.buffer.spool import Spool
    from agent.buffer.thread import OneThread
    from agent.buffer.unassigned_store import UnassignedStore
    from agent.gateway import Gateway

    Tell = Callable[[dict[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

COMPONENT = "key rotation"
FAILED = "an unexpected error, which `gardien status` names"
MEMORY = (
    "readings for {} are in memory, because the disk failed, and are not delivered yet: the key is"
    " rotated once they are (`gardien status`)"
)
SHELVES = {"shelf.db": "shelf", "registers.db": "registers"}
"""files beside the spools that are under the key, with the components that have them open"""
LOOK = 1.0
"""seconds between two looks whether there is something to do"""
AGAIN = 30.0
"""seconds until what could not go on is tried again"""
TOLD_EVERY = 1.0
"""seconds between two words on how far it is"""


class RotationProgress(NamedTuple):
    """How far the work is."""

    passed: int
    """bytes that were looked at"""
    of: int
    """bytes there are, about"""


def see_that_it_may(house: Gateway) -> None:
    """Raise Refused where no rotation may begin now; one that is under way may go on."""
    who, state = house.identity, house.config.state
    if who is None:
        raise Refused("this gateway has no identity yet: run `gardien key new`")
    if who.spool_key_before is not None:
        return
    if judged(state):
        raise Refused(
            "an upgrade is being judged, and the version before may not be able to read what is"
            " under a new key: try again once the upgrade stands (journalctl -u gardien-upgrade)"
        )
    failing = next(iter(house.storage.faults.items()), None)
    if failing is not None:
        raise Refused(
            f"{failing[0]} cannot be written ({failing[1].reason}): a key is rotated on a disk"
            " that is well. Replace the disk or card: docs/replace.md"
        )
    for file in _memories(state):
        raise Refused(MEMORY.format(recipient_of(file)))
    if house.close is not None:
        _see_that_all_is_open(house)


async def begin(house: Gateway, by: str) -> bool:
    """Put a new spool key in the place of the one there, and keep that until `work` is done; False:
    a rotation is under way. `by`: who asked for it.

    Raises Refused where that must not be now; nothing was changed then.
    """
    async with house.rotating:
        see_that_it_may(house)
        who, state = house.identity, house.config.state
        assert who is not None
        if who.spool_key_before is not None:
            return False
        house.identity = await asyncio.to_thread(identity.begin_rotation, state, who)
    house.rotation, house.rotation_waits = {}, ""
    house.audit("key.rotation", {"state": who.state, "by": by})
    log.warning("the spool key is being rotated", extra=fields(LogEvent.KEY_ROTATION))
    return True


def _see_that_all_is_open(house: Gateway) -> None:
    shut = [f"spool {name}" for name in house.config.uplinks if name not in house.outlets]
    shut += [part for part in SHELVES.values() if house.jobs.parked(part)]
    if shut:
        raise Refused(f"{', '.join(shut)}: not open; `gardien status` says why. First mend that")


async def serve(house: Gateway) -> None:
    """Go on with a rotation whenever one is under way; for ever."""
    while True:
        if house.identity is not None and house.identity.spool_key_before is not None:
            await sleep(LOOK if await _ended(house) else AGAIN)
        await sleep(LOOK)


async def _ended(house: Gateway, tell: Tell | None = None) -> bool:
    """Work to the end; False: it waits for something, which is noted."""
    try:
        await work(house, tell)
    except (Refused, StorageFailed, OSError) as error:
        if str(error) != house.rotation_waits:
            log.warning(
                "the rotation of the spool key waits: %s", error,
                extra=fields(LogEvent.KEY_ROTATION_WAITS),
            )  # fmt: skip
        house.rotation_waits = str(error)
        return False
    return True


async def work(house: Gateway, tell: Tell | None = None) -> None:
    """Seal all that is on the disk under the key of now, and destroy the key before.

    What waits, and which uplinks are open, makes no difference: nothing is decoded, in small
    commits, and not more than half of the time. Raises Refused or StorageFailed where it cannot go
    on now.
    """
    who, state = house.identity, house.config.state
    assert who is not None
    seen: set[Path] = set()
    # one may be destroyed meanwhile, with its uplink, and another one begun
    while left := [file for file in files(state) if file not in seen]:
        seen.add(left[0])
        try:
            await _file(house, left[0], who.spool_key, tell)
        except NotOurs as error:  # neither key opens it
            log.warning(
                "the rotation of the spool key leaves a file as it is: %s", error,
                extra=fields(LogEvent.KEY_ROTATION, store=left[0].name),
            )  # fmt: skip
        except Damaged as error:
            raise Refused(f"{left[0].name} is damaged, and is set aside at the next try") from error
        except SpoolFull as error:
            raise Refused(f"{left[0].name}: {error}; free some room on it") from error
    house.identity = await asyncio.to_thread(identity.end_rotation, state, who)
    house.rotation_waits = ""
    house.audit("key.rotated", {"state": who.state})
    log.warning(
        "the spool key is rotated, and the one before is destroyed",
        extra=fields(LogEvent.KEY_ROTATION),
    )


def files(state: Path) -> list[Path]:
    """All that is under the spool key."""
    spools = [spool_of(state, recipient) for recipient in recipients_of(state)]
    shelves = [state / name for name in SHELVES if (state / name).exists()]
    return [*spools, *_memories(state), *shelves]


def _memories(state: Path) -> list[Path]:
    """What was kept in memory while the disk failed, and is not delivered."""
    found = [memory_of(state, recipient) for recipient in recipients_of(state)]
    return [file for file in found if file.exists()]


async def _file(house: Gateway, file: Path, key: bytes, tell: Tell | None) -> None:
    told = monotonic()
    async with _opened(house, file) as (store, thread):
        await thread.run(store.rekey, key)
        while True:
            began = monotonic()
            if (there := _there(house, file)) is not None and there[0] is not store:
                raise Refused(f"{file.name} is opened anew")
            # one call: it may be closed behind it
            more, far = await thread.run(lambda: (store.rekey_step(), store.rekeyed))
            house.rotation[file.name] = RotationProgress(*far)
            if not more:
                break
            house.rotation_waits = ""
            if tell is not None and monotonic() - told >= TOLD_EVERY:
                told = monotonic()
                await tell(standing(house) or {})
            # the others wait for the same disk
            await sleep(monotonic() - began if house.close is not None else 0)
    passed, of = house.rotation[file.name]
    house.rotation[file.name] = RotationProgress(max(passed, of), max(passed, of))


@asynccontextmanager
async def _opened(
    house: Gateway, file: Path
) -> AsyncIterator[tuple[Spool | UnassignedStore, OneThread]]:
    """A file as whoever has it open has it; one that nobody has is opened for this."""
    if (there := _there(house, file)) is not None:
        yield there
        return
    if file in _memories(house.config.state):
        raise Refused(MEMORY.format(recipient_of(file)))
    opening: Callable[[], AbstractContextManager[Spool | UnassignedStore]]
    if file.name in SHELVES:
        opening = store_opening(house, file)
    else:
        opening = spool_opening(house, recipient_of(file))
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(in_own_thread(file.name, opening))


def _there(house: Gateway, file: Path) -> tuple[Spool | UnassignedStore, OneThread] | None:
    """Raises Refused where whoever should have it open has not."""
    if house.close is None:
        return None
    in_memory = file.parent != house.config.state
    if part := SHELVES.get(file.name):
        kept = house.unclaimed if part == "shelf" else house.registers
        if kept is None or house.jobs.parked(part):
            raise Refused(f"{part} is not open")
        return kept.shelf, kept.thread
    recipient = recipient_of(file)
    for name, uplink in house.config.uplinks.items():
        if uplink.settings.recipient == recipient:
            outlet = house.outlets.get(name)
            if outlet is None or outlet.kept:
                raise Refused(f"the spool of {name} is not open")
            return outlet.in_memory if in_memory else (outlet.spool, outlet.thread)
    return None


def standing(house: Gateway) -> dict[str, Any] | None:
    """How far a rotation is; None: none is under way."""
    who = house.identity
    if who is None or who.rotating_since is None:
        return None
    total = sum(file.stat().st_size for file in files(house.config.state) if file.exists())
    passed = sum(min(one) for one in house.rotation.values())
    return {
        "since": stamp(who.rotating_since),
        "passed": min(passed, total),
        "of": total,
        "waits": house.rotation_waits or (FAILED if house.jobs.parked(COMPONENT) else ""),
    }


async def rotate(house: Gateway, by: str, tell: Tell) -> dict[str, Any]:
    """Rotate the spool key, or go on with a rotation that is under way; returns when it is done, or
    when it waits for something that takes time. Raises Refused.
    """
    begun = await begin(house, by)
    if house.close is None:
        await _ended(house, tell)
    else:
        await _followed(house, tell)
    now = standing(house)
    return {
        "begun": begun,
        "done": now is None,
        "bytes": sum(min(one) for one in house.rotation.values()),
        "files": len(house.rotation),
        "damaged": [one.name for one in sorted(house.config.state.glob("*.db.damaged"))],
        "standing": now,
    }


async def _followed(house: Gateway, tell: Tell) -> None:
    while (now := standing(house)) is not None and not now["waits"]:
        await tell(now)
        await sleep(TOLD_EVERY)
