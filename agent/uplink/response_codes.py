"""What a platform's HTTP answer to a batch means for it. Pure (design note 024).

Only refusals that are about the bytes put a batch aside; what is about rights, addresses or load
may be put right, and until then the batch waits.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from agent.errors import BatchRejected, TooLarge
from agent.uplink.publish_codes import NotNow

if TYPE_CHECKING:
    from collections.abc import Mapping

STORED = {200, 201}
TOO_LARGE = 413
ABOUT_THE_BYTES = {400, 415, 422}
LONGEST = 3600.0
"""seconds; nobody holds us back for longer with one answer"""
LONGEST_ADDRESS = 200
"""characters of it that are told"""
WORDS = {
    401: "it does not know this gateway",
    403: "it does not let this gateway in",
    404: "there is no such address: is `url` right?",
    429: "it is too much at once",
    503: "it is overloaded, or being worked on",
    507: "its disk is full",
}


def judge(status: int, headers: Mapping[str, str], now: float) -> None:
    """Return on 200 and 201; whether it is a receipt is seen by its body. `now`: of the wall clock;
    names of headers in lower case.

    Raises BatchRejected if the platform refuses these bytes (TooLarge: so many of them), else
    Later: not before so long.
    """
    if status in STORED:
        return
    who = "the platform"
    if "text/html" in headers.get("content-type", "").lower():
        who = "a web page, perhaps of a proxy before the platform,"
    if status == TOO_LARGE:
        raise TooLarge(f"{who} says that the batch is too large: {status}")
    if status in ABOUT_THE_BYTES:
        raise BatchRejected(f"{who} refuses the batch: {status}")
    if 300 <= status < 400:  # noqa: PLR2004 -- redirections
        where = headers.get("location", "another address")[:LONGEST_ADDRESS]
        raise NotNow(f"the platform leads to {where}: nothing is sent there; write it as `url`")
    words = WORDS.get(status, "it does not take the batch now")
    raise NotNow(f"{who} answers {status}: {words}", retry_after(headers, now))


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds that a platform asks to wait, 0 if it does not (RFC 9110, 10.2.3)."""
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
