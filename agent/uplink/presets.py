"""Limits of cloud brokers, by preset name; from their documentation, not tested on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Preset:
    """The limits of one cloud broker, in addition to those in its CONNACK."""

    payload: int = 60_000
    """bytes of one message"""
    window: int = 100
    """unacknowledged messages at most"""
    keepalive: tuple[int, int] = (1, 1200)
    """shortest and longest, in seconds"""
    topic: int = 65_535
    """bytes of one topic"""
    session: int = 7 * 24 * HOUR
    """seconds for which the broker keeps our subscriptions while we are disconnected"""
    retain: bool = True
    """whether it accepts retained messages (status and will)"""
    named: bool = False
    """whether it requires our id as user name, in addition to the certificate"""


PRESETS: Mapping[str, Preset] = {
    "aws": Preset(keepalive=(30, 1200), topic=256),
    # 64 kB may be unacknowledged, and one message may have nearly as much
    "azure-event-grid": Preset(
        window=1, keepalive=(1, 1160), topic=256, session=8 * HOUR, retain=False, named=True
    ),
    "hivemq": Preset(window=10),
    "emqx": Preset(window=32),
}
ANY = Preset()
