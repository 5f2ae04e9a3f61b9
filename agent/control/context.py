"""The journal, the dependencies and the controls that all steps of the controller share.

What it keeps from one check to the next is not needed after a restart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.control.guard_extremes import GuardExtremes
from agent.control.hold import Holder
from agent.control.hold_record import Phase
from agent.control.model import OrderState
from agent.control.records import Transaction

if TYPE_CHECKING:
    from agent.control.configured_control import ConfiguredControl
    from agent.control.dependencies import ControlDependencies
    from agent.control.hold_record import HoldRecord
    from agent.control.journal import Journal
    from agent.control.model import AcceptedOrder
    from agent.control.records import Key, Memo
    from agent.control.stamps import Moment


@dataclass
class Wait:
    """When a release is tried again."""

    until: float = 0.0
    """when the next attempt is due (monotonic)"""
    last: float = 1.0
    """seconds between the next two attempts"""


@dataclass
class ControlContext:
    """See the module."""

    journal: Journal
    dependencies: ControlDependencies
    controls: dict[str, ConfiguredControl]
    waits: dict[int, Wait] = field(default_factory=dict)
    """releases that are tried again, by number of the hold record"""
    alarms: dict[str, str] = field(default_factory=dict)
    """what a person must attend to, by control"""
    heartbeats: dict[str, list[Moment]] = field(default_factory=dict)
    """when the centre was heard since the last check, by control: the first and the latest time"""
    extremes: GuardExtremes = field(default_factory=GuardExtremes)
    recovering: str = ""
    """why nothing begins: the journal can be read again, and is recovered as at a start"""
    closing: bool = False
    """the agent ends, so nothing new begins"""
    turned: float = 0.0
    """when a long step last reported progress, or will report it at the latest (monotonic)"""

    def __post_init__(self) -> None:
        """Make the object that holds and releases points."""
        self.holder = Holder(self.journal, self.dependencies, self._extremes)
        self._locks: dict[str, asyncio.Lock] = {}

    def _extremes(self, name: str) -> str:
        control = self.controls.get(name)
        return self.extremes.tell(name, control.modality.guards if control else ())

    def lock(self, name: str) -> asyncio.Lock:
        """The lock of a control: one step at a time."""
        return self._locks.setdefault(name, asyncio.Lock())

    def is_configured(self, record: HoldRecord) -> bool:
        """Whether a hold record belongs to a control as configured now."""
        control = self.controls.get(record.control)
        return control is not None and control.key == record.key and control.place == record.place

    def records(self, control: ConfiguredControl) -> list[HoldRecord]:
        """The open hold records of a control, at its point as configured now."""
        return [
            record
            for record in self.journal.open_records(control.key)
            if self.is_configured(record)
        ]

    def blocked_slots(self, control: ConfiguredControl) -> set[int | None]:
        """Slots in which a release is pending.

        No hold may begin there: it would take our own value for the value from before (rule H15).
        """
        return {
            record.slot
            for record in list(self.journal.records.values())
            if (record.key == control.key or record.place.spot == control.place.spot)
            and not (self.is_configured(record) and record.phase is not Phase.RELEASING)
        }

    def active_orders(self, control: ConfiguredControl) -> list[AcceptedOrder]:
        """The orders that have begun at a control and are not over."""
        now = self.dependencies.now().wall
        return [
            one
            for one in self.journal.of(control.key)
            if one.state is OrderState.STARTED
            # its value may have been written, though it was never read back
            or (one.began and one.state is OrderState.SCHEDULED)
            # it may come back when the stronger order ends
            or (
                one.state is OrderState.SUPERSEDED
                and one.order.resume
                and one.begin <= now < one.end
            )
        ]

    async def remember(self, key: Key, memo: Memo) -> None:
        """Keep a memo of a point. It counts at once, also while the disk is full."""
        await self.dependencies.note(Transaction(memos=[(key, memo)]))
