"""A control as configured: what was agreed, where its point is, and how it is released."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.control.hold_record import WatchdogTarget, WriteTarget
    from agent.control.model import Modality
    from agent.control.records import Key
    from agent.core.model import Value


@dataclass(frozen=True, slots=True)
class ConfiguredControl:
    """See the module."""

    modality: Modality
    place: WriteTarget
    slots: tuple[int | None, int | None]
    """our priorities for ordinary and for emergency orders; None: a register, which has none"""
    restore: Value | None
    """the value that a release writes; None: our slot is emptied, or the value from before"""
    fingerprint: str
    """changes if anything changes for which a passed test is evidence"""
    fallback: Value | None = None
    watchdog: WatchdogTarget | None = None
    """the device's own watchdog"""
    shown: Mapping[str, WriteTarget] = field(default_factory=dict)
    """points that show the operator what is held (agent/control/display.py)"""

    @property
    def key(self) -> Key:
        """The point."""
        return self.place.device, self.place.point

    @property
    def name(self) -> str:
        """The name of the control in the configuration."""
        return self.modality.name
