"""What brokers run by others allow, by name: from their documents, and not tried on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Preset:
    """The limits of one kind of broker; what its CONNACK says comes on top."""

    payload: int = 60_000
    """bytes of one message"""
    window: int = 100
    """messages under way at most"""
    keepalive: tuple[int, int] = (1, 1200)
    """seconds, from and to"""
    topic: int = 65_535
    """bytes of one topic"""
    session: int = 7 * 24 * HOUR
    """seconds for which the broker may keep our subscriptions while we are away"""
    retain: bool = True
    """whether it takes retained messages: the status, and the will"""
    named: bool = False
    """whether it wants our id as the user's name, beside the certificate"""


PRESETS: Mapping[str, Preset] = {
    "aws": Preset(keepalive=(30, 1200), topic=256),
    # 64 kB under way at most, and a message may have nearly as much
    "azure-event-grid": Preset(
        window=1, keepalive=(1, 1160), topic=256, session=8 * HOUR, retain=False, named=True
    ),
    "hivemq": Preset(window=10),
    "emqx": Preset(window=32),
}
ANY = Preset()
