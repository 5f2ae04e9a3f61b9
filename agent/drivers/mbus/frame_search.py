"""Search received bytes: remove the echo, and find a valid frame among noise. Pure."""

from __future__ import annotations

from agent.drivers.mbus.frame import (
    ACKNOWLEDGE,
    ENVELOPE,
    FROM_MASTER,
    LEAST,
    START_LONG,
    START_SHORT,
    STOP,
    checksum,
)

SHORT = 5
"""bytes of a short frame"""


def without_echo(received: bytes, request: bytes) -> bytes:
    """The received bytes without the request itself, which some level converters echo."""
    if request.startswith(received):
        return b""
    before, echo, behind = received.partition(request)
    return before + behind if echo else received


def acknowledged(received: bytes) -> bytes | None:
    """E5 if it is among the received bytes, else None.

    Noise may contain an E5. This does no harm, since an acknowledgement is only followed by a
    request whose answer is checked.
    """
    return b"\xe5" if ACKNOWLEDGE in received else None


def sound(received: bytes) -> bytes | None:
    """The first valid frame of a meter, wherever it begins; None: there is none yet."""
    at = received.find(START_LONG)
    while at >= 0:
        frame = _frame_at(received, at)
        # A request is a valid frame too, such as one of another master or a late echo.
        if frame and not frame[4] & FROM_MASTER:
            return frame
        at = received.find(START_LONG, at + 1)
    return None


def foreign(received: bytes) -> bool:
    """Whether another master uses this line: any valid frame, while this gateway sends nothing."""
    for at, byte in enumerate(received):
        if byte == START_LONG and _frame_at(received, at):
            return True
        short = received[at : at + SHORT]
        whole = byte == START_SHORT and len(short) == SHORT and short[4] == STOP
        if whole and checksum(short[1:3]) == short[3]:
            return True
    return False


def _frame_at(received: bytes, at: int) -> bytes | None:
    head = received[at : at + 4]
    if len(head) < len("hLLh") or head[1] != head[2] or head[3] != START_LONG or head[1] < LEAST:
        return None
    frame = received[at : at + head[1] + ENVELOPE]
    whole = len(frame) == head[1] + ENVELOPE and frame[-1] == STOP
    return frame if whole and checksum(frame[4:-2]) == frame[-2] else None
