"""Where each thing goes at an MQTT broker (design note 006)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.model import Lane


class Topics(NamedTuple):
    """The topics of one gateway and one recipient."""

    gateway: str
    recipient: str

    def up(self, lane: Lane) -> str:
        """Batches of one lane; two topics, so that a platform can drain the live one first."""
        return f"gardien/{self.gateway}/{self.recipient}/up/{lane.value}"

    @property
    def building(self) -> str:
        """The building file, in parts (agent.uplink.backup_message)."""
        return f"gardien/{self.gateway}/{self.recipient}/up/building"

    @property
    def receipts(self) -> str:
        """The recipient's word on what it holds."""
        return f"gardien/{self.gateway}/{self.recipient}/down/receipts"

    @property
    def objects(self) -> str:
        """Signed objects for the gateway, one a message."""
        return f"gardien/{self.gateway}/{self.recipient}/down/objects"

    @property
    def status(self) -> str:
        """Retained: whether the gateway is connected; the broker itself says when it is not."""
        return f"gardien/{self.gateway}/{self.recipient}/status"
