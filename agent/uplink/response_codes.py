"""What the reason code of a PUBACK or an HTTP status means for a batch. Pure (decision 024)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from agent.core.errors import BatchRejected, NotStored, TooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_SUBSCRIBER = 0x10
ERRORS = 0x80
PAYLOAD_INVALID = 0x99
"""the only refusal of the content; others are temporary, or about permissions"""
PACKET_TOO_LARGE = 0x95
"""mosquitto's code above its `message_size_limit`, although MQTT does not allow it in a PUBACK"""
PUBLISH_REASONS = {
    0x87: "this gateway may not publish there. Ask the operator of the broker for the permission",
    0x90: "the topic is not valid there",
    0x93: "too many messages are unacknowledged",
    0x96: "the message rate is too high",
    0x97: "a quota is used up, or its disk is full",
}
STORED = {200, 201}
TOO_LARGE = 413
ABOUT_THE_BYTES = {400, 415, 422}
LONGEST = 3600.0
"""seconds; the longest delay that one answer can ask for"""
LONGEST_ADDRESS = 200
"""characters of a redirection target that a message shows"""
RESPONSE_REASONS = {
    401: "this gateway is not known there",
    403: "it does not let this gateway in",
    404: "the address does not exist. Check `url`",
    429: "the request rate is too high",
    503: "it is overloaded or under maintenance",
    507: "its disk is full",
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


def judge_publish(code: int) -> None:
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
        reason = PUBLISH_REASONS.get(code, "the message is not accepted now")
        raise NotStored(f"the broker answers 0x{code:02X}: {reason}")


def judge_response(status: int, headers: Mapping[str, str], now: float) -> None:
    """Return on 200 and 201; the caller checks that the body is a receipt.

    `headers`: names in lower case; `now`: wall time. Raises BatchRejected if the platform refuses
    the content, TooLarge if it refuses the size, else NotNow with the delay to wait.
    """
    if status in STORED:
        return
    who = "the platform"
    if "text/html" in headers.get("content-type", "").lower():
        who = "a web page, perhaps of a proxy in front of the platform,"
    if status == TOO_LARGE:
        raise TooLarge(f"{who} says that the batch is too large: {status}")
    if status in ABOUT_THE_BYTES:
        raise BatchRejected(f"{who} refuses the batch: {status}")
    if 300 <= status < 400:  # noqa: PLR2004 -- redirections
        where = headers.get("location", "another address")[:LONGEST_ADDRESS]
        raise NotNow(
            f"the platform redirects to {where}, where nothing is sent. Write the right `url`"
        )
    reason = RESPONSE_REASONS.get(status, "the batch is not accepted now")
    raise NotNow(f"{who} answers {status}: {reason}", retry_after(headers, now))


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds to wait by the header Retry-After; 0 without it (RFC 9110, 10.2.3)."""
    written = headers.get("retry-after", "").strip()
    try:
        wait = (
            float(written)
            if written.isdigit()
            else parsedate_to_datetime(written).timestamp() - now
        )
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(LONGEST, max(0.0, wait))
