"""What the reason code of a PUBACK means for a batch. Pure.

A PUBACK does not mean success: paho reports a refused message as published, and "no matching
subscribers" is a success code in MQTT 5, although the message is lost (MQTT 5.0, 3.4.2.1).
"""

from __future__ import annotations

from agent.core.errors import BatchRejected, NotStored, TooLarge

NO_SUBSCRIBER = 0x10
ERRORS = 0x80
PAYLOAD_INVALID = 0x99
"""the only refusal of the content; others are temporary, or about permissions"""
PACKET_TOO_LARGE = 0x95
"""mosquitto's code above its `message_size_limit`, although MQTT does not allow it in a PUBACK"""
REASONS = {
    0x87: "this gateway may not publish there. Ask the operator of the broker for the permission",
    0x90: "the topic is not valid there",
    0x93: "too many messages are unacknowledged",
    0x96: "the message rate is too high",
    0x97: "a quota is used up, or its disk is full",
}


class NobodyThere(NotStored):
    """The platform is not subscribed at the broker, so the batch was lost."""


class SealedOtherwise(NotStored):
    """A batch was sealed for another transport; it is packed again at the next opening
    (Spool.unreceipted).
    """

    def __init__(self) -> None:
        super().__init__(
            "a batch was sealed for another `transport`, and there was no space to pack it again;"
            " it is tried again"
        )


class NotNow(NotStored):
    """The recipient accepts nothing now; `seconds`: how long it asks to wait, 0 if unknown."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


def judge(code: int) -> None:
    """Return if the broker accepted the message.

    Raises BatchRejected if it refuses the content, TooLarge if it refuses the size, NobodyThere if
    nobody is subscribed, else NotStored.
    """
    if code == NO_SUBSCRIBER:
        raise NobodyThere("the platform is not subscribed at the broker")
    if code == PACKET_TOO_LARGE:
        raise TooLarge("the broker refuses a message of this size (0x95)")
    if code == PAYLOAD_INVALID:
        raise BatchRejected("the broker refuses the payload")
    if code >= ERRORS:
        reason = REASONS.get(code, "the message is not accepted now")
        raise NotStored(f"the broker answers 0x{code:02X}: {reason}")
