"""What the HTTP status of an answer means for a batch. Pure (decision 024).

Only a refusal of the content puts a batch in quarantine. After a refusal that concerns permissions,
addresses or load, the batch waits until the cause is removed.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from agent.core.errors import BatchRejected, TooLarge
from agent.uplink.publish_codes import NotNow

if TYPE_CHECKING:
    from collections.abc import Mapping

STORED = {200, 201}
TOO_LARGE = 413
ABOUT_THE_BYTES = {400, 415, 422}
LONGEST = 3600.0
"""seconds; the longest delay that one answer can ask for"""
LONGEST_ADDRESS = 200
"""characters of a redirection target that a message shows"""
REASONS = {
    401: "this gateway is not known there",
    403: "it does not let this gateway in",
    404: "the address does not exist. Check `url`",
    429: "the request rate is too high",
    503: "it is overloaded or under maintenance",
    507: "its disk is full",
}


def judge(status: int, headers: Mapping[str, str], now: float) -> None:
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
    reason = REASONS.get(status, "the batch is not accepted now")
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
