"""What the controls are worked with, each a callable: so all of it can be put to the test."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from zoneinfo import ZoneInfo

    from agent.buffer.database import Database
    from agent.control.guard import GuardReading
    from agent.control.hold_record import HoldRecord, WriteTarget
    from agent.control.point_access import PointAccess
    from agent.control.records import Transaction
    from agent.control.stamps import Moment


class Save(Protocol):
    """How a change gets to the disk, in the journal's own thread."""

    async def __call__(
        self, change: Transaction, also: Callable[[Database], None] | None = None
    ) -> HoldRecord | None:
        """See `JournalWriter.save`."""
        ...


class Note(Protocol):
    """How a change counts at once, and gets to the disk when that takes it."""

    async def __call__(self, change: Transaction) -> HoldRecord | None:
        """See `JournalWriter.note`."""
        ...


class Audit(Protocol):
    """Where decisions are written down for ever."""

    def __call__(self, kind: str, body: Mapping[str, Any], /) -> None:
        """Write one record: ids only, never readings or names."""
        ...


@dataclass
class ControlDependencies:
    """See the module. A part may be replaced while it is in use, so nobody keeps one."""

    now: Callable[[], Moment]
    zone: ZoneInfo
    look: Callable[[str, str], GuardReading | None]
    """what a point last said"""
    access: Callable[[WriteTarget, int | None], PointAccess]
    save: Save
    note: Note
    read: Callable[..., Awaitable[Any]]
    """makes a call of the journal where it may be made"""
    audit: Audit = lambda _kind, _body: None
    power: Callable[[str], str] = lambda _: ""
    """what the plant of a control takes now, with its unit; empty: nobody knows"""
    home: Callable[[str, str], tuple[float, float] | None] = lambda _, __: None
    """from when until when an occupancy is that may speak for a device (by name); None: none is"""
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep
    """lets so many seconds pass"""
    quiet: Callable[[WriteTarget, float], Awaitable[None]] = lambda _, seconds: asyncio.sleep(
        seconds
    )
    """lets them pass, and nobody of this gateway speaks on the line of that place meanwhile"""
    failing: Callable[[], str] = lambda: ""
    """why the journal cannot be written; empty: it can"""
    ask: Callable[[str], Awaitable[None]] | None = None
    """asks the guards of a control out of turn; raises LinkLost, Refused"""
