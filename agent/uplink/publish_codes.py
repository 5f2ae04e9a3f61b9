"""What a broker's answer to a publish means for the batch. Pure.

A PUBACK is an answer, not a yes: paho reports a refused message as published, and "no matching
subscribers" counts as success in MQTT 5, although the message is gone (MQTT 5.0, 3.4.2.1).
"""

from __future__ import annotations

from agent.errors import BatchRejected, NotStored, TooLarge

NO_SUBSCRIBER = 0x10
ERRORS = 0x80
PAYLOAD_INVALID = 0x99
"""the only refusal that is about what the payload says; others may pass, or are about rights"""
PACKET_TOO_LARGE = 0x95
"""mosquitto's answer above its `message_size_limit`, though MQTT has it for no PUBACK"""
WORDS = {
    0x87: "this gateway has no right to write there: its operator must give it",
    0x90: "it does not know this topic",
    0x93: "it has too much under way",
    0x96: "it is too much at once",
    0x97: "a quota is used up, or its disk is full",
}


class NobodyThere(NotStored):
    """The broker has nobody to give the batch to: the platform is not subscribed."""


class SealedOtherwise(NotStored):
    """A batch waits that was made for another kind of transport; at the next opening it is made
    anew (Spool.unreceipted).
    """

    def __init__(self) -> None:
        super().__init__(
            "a batch waits that was sealed for another `transport`, and there was no room to make"
            " it anew: it is tried again"
        )


class NotNow(NotStored):
    """The far side takes nothing now; it may have said for how long."""

    def __init__(self, said: str, seconds: float = 0.0) -> None:
        super().__init__(said)
        self.seconds = seconds


def judge(code: int) -> None:
    """Return if the broker took the message.

    Raises BatchRejected if it does not take these bytes (TooLarge: not so many of them), else
    NotStored (NobodyThere: nobody is subscribed).
    """
    if code == NO_SUBSCRIBER:
        raise NobodyThere("the platform is not subscribed at the broker")
    if code == PACKET_TOO_LARGE:
        raise TooLarge("the broker takes no message of this size (0x95)")
    if code == PAYLOAD_INVALID:
        raise BatchRejected("the broker refuses the payload")
    if code >= ERRORS:
        words = WORDS.get(code, "it does not take the message now")
        raise NotStored(f"the broker answers 0x{code:02X}: {words}")
