"""From the spool to one recipient: forward, receipts, and the transports."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from agent.uplink.base import Uplink

TRANSPORTS = {
    "files": "agent.uplink.files:FilesUplink",
    "https": "agent.uplink.https:HttpsUplink",
    "mqtt": "agent.uplink.mqtt:MqttUplink",
}
"""the name written under `transport:`, and where its class is"""


def transport(word: str) -> type[Uplink]:
    """The class of a transport, imported when it is asked for. Raises KeyError on no transport."""
    module, _, name = TRANSPORTS[word].partition(":")
    return cast("type[Uplink]", getattr(import_module(module), name))
