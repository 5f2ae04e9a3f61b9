"""What the controller needs from outside, each as a callable, so that tests can replace it."""

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
    """Commits a change to the disk, in the journal's own thread."""

    async def __call__(
        self, change: Transaction, also: Callable[[Database], None] | None = None
    ) -> HoldRecord | None:
        """See `JournalWriter.save`."""
        ...


class Note(Protocol):
    """Lets a change count at once; the commit follows as soon as the disk takes it."""

    async def __call__(self, change: Transaction) -> HoldRecord | None:
        """See `JournalWriter.note`."""
        ...


class Audit(Protocol):
    """Writes a decision to the audit chain."""

    def __call__(self, kind: str, body: Mapping[str, Any], /) -> None:
        """Write one record: ids only, never readings or names."""
        ...


@dataclass
class ControlDependencies:
    """See the module. A part may be replaced while it is in use: read it anew for each call."""

    now: Callable[[], Moment]
    zone: ZoneInfo
    look: Callable[[str, str], GuardReading | None]
    """the last reading of a point, by device and name"""
    access: Callable[[WriteTarget, int | None], PointAccess]
    save: Save
    note: Note
    read: Callable[..., Awaitable[Any]]
    """makes a call of the journal in the journal's thread"""
    audit: Audit = lambda _kind, _body: None
    power: Callable[[str], str] = lambda _: ""
    """the power of a control's plant now, with its unit; empty: it is not known"""
    home: Callable[[str, str], tuple[float, float] | None] = lambda _, __: None
    """begin and end of an occupancy, if it is in the dwelling of a device; None: it is not"""
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep
    """waits for a number of seconds"""
    quiet: Callable[[WriteTarget, float], Awaitable[None]] = lambda _, seconds: asyncio.sleep(
        seconds
    )
    """waits, while this gateway sends nothing on the line of that point"""
    failing: Callable[[], str] = lambda: ""
    """why the journal cannot be written; empty: it can be"""
    ask: Callable[[str], Awaitable[None]] | None = None
    """reads the guards of a control before they are due; raises LinkLost, Refused"""
