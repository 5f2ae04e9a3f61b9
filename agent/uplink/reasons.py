"""What a broker's answer to a publish means for the batch. Pure.

A PUBACK is an answer, not a yes: paho reports a refused message as published, and "no matching
subscribers" counts as success in MQTT 5, although the message is gone (MQTT 5.0, 3.4.2.1).
"""

from __future__ import annotations

from agent.errors import BatchRejected, NotStored

NO_SUBSCRIBER = 0x10
ERRORS = 0x80
PAYLOAD_INVALID = 0x99
"""the only refusal that is about the payload; all others may pass, or are about rights"""


class NobodyThere(NotStored):
    """The broker has nobody to give the batch to: the platform is not subscribed."""


def judge(code: int) -> None:
    """Return if the broker took the message.

    Raises BatchRejected if it will never take these bytes, else NotStored (NobodyThere: nobody is
    subscribed).
    """
    if code == NO_SUBSCRIBER:
        raise NobodyThere("the platform is not subscribed at the broker")
    if code == PAYLOAD_INVALID:
        raise BatchRejected("the broker refuses the payload")
    if code >= ERRORS:
        raise NotStored(f"the broker refuses the message: reason 0x{code:02X}")
