"""Sends the batches of a spool to one recipient and receives its receipts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from agent.uplink.base import Uplink

TRANSPORTS = {
    "files": "agent.uplink.files.transport:FilesUplink",
    "https": "agent.uplink.https.transport:HttpsUplink",
    "mqtt": "agent.uplink.mqtt.transport:MqttUplink",
}
"""by the value of `transport:`, the module and the class"""


def transport(name: str) -> type[Uplink]:
    """The class of a transport, imported on first use. Raises KeyError for an unknown name."""
    module, _, class_name = TRANSPORTS[name].partition(":")
    return cast("type[Uplink]", getattr(import_module(module), class_name))
