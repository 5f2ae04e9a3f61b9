"""What all that is done to the controls stands on: the journal, the world, the controls, and the
little that is remembered from one look to the next. Nothing in it matters after a restart.
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
    """When a give-back is tried again."""

    until: float = 0.0
    last: float = 1.0


@dataclass
class ControlContext:
    """See the module."""

    journal: Journal
    dependencies: ControlDependencies
    controls: dict[str, ConfiguredControl]
    waits: dict[int, Wait] = field(default_factory=dict)
    """give-backs that are tried again, by row"""
    alarms: dict[str, str] = field(default_factory=dict)
    """what somebody must look at, by control"""
    heartbeats: dict[str, list[Moment]] = field(default_factory=dict)
    """what the centre has said since the last look, by control: the first and the latest word"""
    extremes: GuardExtremes = field(default_factory=GuardExtremes)
    recovering: str = ""
    """why nothing begins: the journal can be read again, and is processed as at a start"""
    closing: bool = False
    """nothing new begins: the agent ends"""
    turned: float = 0.0
    """when somebody last came round, or said that he will again (monotonic)"""

    def __post_init__(self) -> None:
        """Make the hands that hold."""
        self.holder = Holder(self.journal, self.dependencies, self._extremes)
        self._locks: dict[str, asyncio.Lock] = {}

    def _extremes(self, name: str) -> str:
        control = self.controls.get(name)
        return self.extremes.tell(name, control.modality.guards if control else ())

    def lock(self, name: str) -> asyncio.Lock:
        """One at a time at a control."""
        return self._locks.setdefault(name, asyncio.Lock())

    def is_configured(self, record: HoldRecord) -> bool:
        """Whether a row is of a control as it is configured now."""
        control = self.controls.get(record.control)
        return control is not None and control.key == record.key and control.place == record.place

    def records(self, control: ConfiguredControl) -> list[HoldRecord]:
        """What is not given back at a control, as it is configured now."""
        return [
            record
            for record in self.journal.open_records(control.key)
            if self.is_configured(record)
        ]

    def blocked_slots(self, control: ConfiguredControl) -> set[int | None]:
        """Slots in which something waits to be given back: what stands there may be ours, so that
        nothing begins over it as if it were what stood there before.
        """
        return {
            record.slot
            for record in list(self.journal.records.values())
            if (record.key == control.key or record.place.spot == control.place.spot)
            and not (self.is_configured(record) and record.phase is not Phase.RELEASING)
        }

    def active_orders(self, control: ConfiguredControl) -> list[AcceptedOrder]:
        """What has begun at a control and is not over."""
        now = self.dependencies.now().wall
        return [
            one
            for one in self.journal.of(control.key)
            if one.state is OrderState.STARTED
            or (one.began and one.state is OrderState.SCHEDULED)
            or (
                one.state is OrderState.SUPERSEDED
                and one.order.resume
                and one.begin <= now < one.end
            )
        ]

    async def remember(self, key: Key, memo: Memo) -> None:
        """Keep what is remembered of a point; it counts at once, also while the disk is full."""
        await self.dependencies.note(Transaction(memos=[(key, memo)]))
