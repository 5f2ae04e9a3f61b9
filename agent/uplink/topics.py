"""The MQTT topics (decision 006)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.core.model import Lane


class Topics(NamedTuple):
    """The topics of one gateway and one recipient."""

    gateway: str
    recipient: str

    def up(self, lane: Lane) -> str:
        """Batches of one lane; two topics, so that a platform can read the live one first."""
        return f"gardien/{self.gateway}/{self.recipient}/up/{lane.value}"

    @property
    def building(self) -> str:
        """The backup, in parts (agent.uplink.backup_message)."""
        return f"gardien/{self.gateway}/{self.recipient}/up/building"

    @property
    def receipts(self) -> str:
        """Receipts from the recipient."""
        return f"gardien/{self.gateway}/{self.recipient}/down/receipts"

    @property
    def objects(self) -> str:
        """Signed objects for the gateway, one in each message."""
        return f"gardien/{self.gateway}/{self.recipient}/down/objects"

    @property
    def status(self) -> str:
        """The status document, retained; the broker publishes the will there."""
        return f"gardien/{self.gateway}/{self.recipient}/status"
