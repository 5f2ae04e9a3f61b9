"""The interface of a transport: it sends batches and returns receipts, and decides nothing.

What a platform's codes mean for a batch is here too (decision 024).
"""

from __future__ import annotations

import json
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

from pydantic import Field

from agent.buffer.receipts import parse
from agent.core.atomic_write import StateFile
from agent.core.errors import BatchRejected, NotStored, TooLarge
from agent.core.i18n import N_, Text
from agent.core.log_fields import LogEvent, fields
from agent.trust.strict import json_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.buffer.outbox import Pack
    from agent.core.model import Receipt, SealedBatch

log = logging.getLogger(__name__)

FILE = "cursors.json"
PART, RECEIPT = "gardien/building-part/1", "gardien/building-receipt/1"
LARGEST_RECEIPT = 2_000
AT_ONCE = 16_000
"""bytes of one part; 1.5 s at 100 kbit/s"""
DNS_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"


Recipient = Annotated[
    str,
    Field(
        pattern=f"^{DNS_NAME}$",
        max_length=253,
        description="who receives the data: a DNS name in lower case, which consents state",
        examples=["energie.metropole.example"],
    ),
]
HEADERS = 52
"""bytes of the IPv4 and TCP headers of a segment, with timestamps"""
RECEIVED, SEGMENTS, SENT = 128, 136, 200
"""offsets in `struct tcp_info` (linux/tcp.h, 4.19 and later)"""
SIZE = 208
Turn = Callable[[], Awaitable[None]]
"""returns once nothing more urgent waits to be sent, or after a limited wait"""
NO_SUBSCRIBER = 0x10
ERRORS = 0x80
PAYLOAD_INVALID = 0x99
"""the only refusal of the content; others are temporary, or about permissions"""
WRONG_LOGIN = N_(". Check `user` and `password`")
PACKET_TOO_LARGE = 0x95
"""mosquitto's code above its `message_size_limit`, although MQTT does not allow it in a PUBACK"""
PUBLISH_REASONS = {
    0x87: Text(
        "this gateway may not publish there. Ask the operator of the broker for the permission"
    ),
    0x90: Text("the topic is not valid there"),
    0x93: Text("too many messages are unacknowledged"),
    0x96: Text("the message rate is too high"),
    0x97: Text("a quota is used up, or its disk is full"),
}
STORED = {200, 201}
TOO_LARGE = 413
ABOUT_THE_BYTES = {400, 415, 422}
LONGEST = 3600.0
"""seconds; the longest delay that one answer can ask for"""
LONGEST_ADDRESS = 200
"""characters of a redirection target that a message shows"""
RESPONSE_REASONS = {
    401: Text("this gateway is not known there"),
    403: Text("it does not let this gateway in"),
    404: Text("the address does not exist. Check `url`"),
    429: Text("the request rate is too high"),
    503: Text("it is overloaded or under maintenance"),
    507: Text("its disk is full"),
}


class Cursors:
    """One cursor for each recipient; without a file, in memory only. `trust`: id of the trust
    list.
    """

    def __init__(self, file: Path | None = None, trust: Callable[[], str] = str) -> None:
        self._trust = trust
        self._file = StateFile[dict[str, tuple[str, str, str]]](
            file,
            lambda stored: {
                name: (str(url), str(trust), str(at)) for name, (url, trust, at) in stored.items()
            },
            missing=dict,
        )
        self._cursors = self._file.load(partial(setattr, self, "_cursors"))

    @property
    def trust(self) -> str:
        """An id of the trust list in force."""
        return self._trust()

    def of(self, recipient: str, url: str) -> str:
        """The cursor of the last settled object; empty: none."""
        *where, cursor = self._cursors.get(recipient, ("", "", ""))
        return cursor if where == [url, self._trust()] else ""

    def keep(self, recipient: str, url: str, cursor: str) -> None:
        """Store a cursor. If the disk fails, objects are fetched again, which does no harm."""
        if self._cursors.get(recipient) == (entry := (url, self._trust(), cursor)):
            return
        self._cursors[recipient] = entry
        # written later and off the event loop: a lost cursor only repeats objects
        self._file.save_later(self._cursors)


def condition(
    gateway: str, recipient: str, state: Literal["online", "offline"], more: Mapping[str, object]
) -> bytes:
    """The document as JSON; `more`: its members beside ids and state."""
    members = {"schema": "gardien/status/1", "gateway": gateway, "recipient": recipient}
    whole = {**members, "state": state, **more}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class BackupMessage:
    """One encrypted backup."""

    gateway: str
    recipient: str
    made: str
    """such as 2026-11-24T10:15:00Z"""
    revision: int
    sha256: str
    content: bytes


def parts(message: BackupMessage) -> Iterator[bytes]:
    """The MQTT messages of a backup: one line of JSON each, then the bytes from offset `from`."""
    for start in range(0, len(message.content), AT_ONCE):
        head = {
            "schema": PART,
            "gateway": message.gateway,
            "recipient": message.recipient,
            "made": message.made,
            "revision": message.revision,
            "sha256": message.sha256,
            "size": len(message.content),
            "from": start,
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        yield text + b"\n" + message.content[start : start + AT_ONCE]


def held(body: bytes, gateway: str, recipient: str) -> str | None:
    """The sha256 of this gateway's backup that a platform says it holds; None: not such a
    receipt.
    """
    if len(body) > LARGEST_RECEIPT or RECEIPT.encode() not in body:
        return None
    try:
        receipt = json_of(body, "it")
        whose = (receipt["schema"], receipt["gateway"], receipt["recipient"])
        return str(receipt["sha256"]) if whose == (RECEIPT, gateway, recipient) else None
    except (ValueError, LookupError, TypeError):
        return None


def used(wire: socket.socket) -> int:
    """Bytes sent and received, with retransmissions and headers; 0: unknown."""
    try:
        info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SIZE)
    except OSError:
        return 0
    # an older kernel returns fewer fields
    if len(info) < SIZE:
        return 0
    (received,) = struct.unpack_from("=Q", info, RECEIVED)
    out, came = struct.unpack_from("=II", info, SEGMENTS)
    (sent,) = struct.unpack_from("=Q", info, SENT)
    return int(received + sent + HEADERS * (out + came))


def unwanted(sha256: str) -> None:
    """Log a receipt for a backup that this gateway has not offered."""
    log.warning(
        "the platform confirms the backup %s, which was not offered", sha256[:8],
        extra=fields(LogEvent.INPUT_UNUSABLE),
    )  # fmt: skip


def unheard() -> None:
    """Do nothing."""


async def nobody(raw: bytes) -> None:
    """Log and drop a signed object where no inbox is connected."""
    log.warning(
        "a signed object of %d bytes arrived, but this gateway takes none", len(raw),
        extra=fields(LogEvent.INPUT_UNUSABLE),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What a transport needs to know of the gateway."""

    gateway: str
    """its id"""
    credential: Path | None = None
    """key and certificates in one file (agent.enrolment.credential); read at each opening, since it
    may not exist yet"""
    objects: Callable[[bytes], Awaitable[None]] = nobody
    """takes one signed object, byte for byte as received. When it returns, the object is settled.
    Raises NotRecorded if the object must be sent again"""
    cursors: Cursors = field(default_factory=Cursors)
    """how far signed objects were fetched, for transports with a cursor"""
    audience: str = ""
    """the `aud` of signed objects for this state of the gateway"""
    kept: Callable[[str], None] = unwanted
    """called with the sha256 of the backup that the recipient says it holds"""
    complete: Callable[[], None] = unheard
    """called whenever all signed objects that the recipient has for this gateway are settled"""
    uplink: str = ""
    """the name of the uplink, for the log"""
    receipt: Callable[[bytes], Receipt | None] = parse
    """reads a receipt, signed or not; None: its signature does not count. Raises ValueError"""
    signed: Callable[[], bool] = bool
    """whether only signed receipts count now (rule T35)"""


class Uplink(Protocol):
    """An open connection to one recipient; exists only while connected."""

    @classmethod
    def open(cls, settings: Any, facts: GatewayFacts) -> AbstractAsyncContextManager[Self]:
        """Connect; close on leaving. Raises UplinkLost if it cannot."""
        ...

    @classmethod
    def packing(cls, settings: Any, facts: GatewayFacts) -> Pack | None:
        """The function that packs a batch into a file; None: batches are sent as sealed.

        The function runs in the spool's thread, inside the transaction that seals the batch.
        """
        ...

    most_bytes: int
    """the largest payload that the recipient accepts; batches are sealed below it"""

    async def send(self, batch: SealedBatch) -> None:
        """Send one batch; several calls may run at the same time.

        A return means that the transport accepted the batch. Only a receipt says that the recipient
        stored it. Raises NotStored (retry later), UplinkLost (reopen), BatchRejected (quarantine),
        TooLarge (split).
        """
        ...

    def receipts(self) -> AsyncIterator[Receipt]:
        """Receipts as they arrive. Raises UplinkLost when the connection is lost, even while
        idle.
        """
        ...


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
        reason = PUBLISH_REASONS.get(code) or Text("the message is not accepted now")
        raise NotStored("the broker answers 0x{code:02X}: {reason}", code=code, reason=reason)


def judge_response(status: int, headers: Mapping[str, str], now: float) -> None:
    """Return on 200 and 201; the caller checks that the body is a receipt.

    `headers`: names in lower case; `now`: wall time. Raises BatchRejected if the platform refuses
    the content, TooLarge if it refuses the size, else NotNow with the delay to wait.
    """
    if status in STORED:
        return
    who = Text("the platform")
    if "text/html" in headers.get("content-type", "").lower():
        who = Text("a web page, perhaps of a proxy in front of the platform,")
    if status == TOO_LARGE:
        raise TooLarge("{who} says that the batch is too large: {status}", who=who, status=status)
    if status in ABOUT_THE_BYTES:
        raise BatchRejected("{who} refuses the batch: {status}", who=who, status=status)
    if 300 <= status < 400:  # noqa: PLR2004 -- redirections
        where = headers.get("location", "another address")[:LONGEST_ADDRESS]
        raise NotNow(
            Text(
                "the platform redirects to {where}, where nothing is sent. Write the right `url`",
                where=where,
            )
        )
    reason = RESPONSE_REASONS.get(status) or Text("the batch is not accepted now")
    text = Text("{who} answers {status}: {reason}", who=who, status=status, reason=reason)
    raise NotNow(text, retry_after(headers, now))


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
