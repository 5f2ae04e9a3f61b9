"""A control as it is configured: what was agreed, where it is, how it is given back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.control.hold_record import WatchdogTarget, WriteTarget
    from agent.control.model import Modality
    from agent.control.records import Key
    from agent.model import Value


@dataclass(frozen=True, slots=True)
class ConfiguredControl:
    """See the module."""

    modality: Modality
    place: WriteTarget
    slots: tuple[int | None, int | None]
    """ours for ordinary and for emergency orders; None: a register"""
    restore: Value | None
    """what is written to give back; None: our slot is emptied, or what stood there"""
    fingerprint: str
    """changes with everything that a passed test speaks for"""
    fallback: Value | None = None
    watchdog: WatchdogTarget | None = None
    """the device's own watchdog"""
    shown: Mapping[str, WriteTarget] = field(default_factory=dict)
    """points that tell the operator what we do (agent/control/display.py)"""

    @property
    def key(self) -> Key:
        """The point."""
        return self.place.device, self.place.point

    @property
    def name(self) -> str:
        """The control, as it is called in the configuration."""
        return self.modality.name
