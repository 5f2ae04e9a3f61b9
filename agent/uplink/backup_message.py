"""The backup as sent to a platform, and the platform's receipt for it.

A backup is not a batch: it has no number, the latest one counts, and nothing waits for it. HTTPS
and files carry it in one piece; MQTT in parts, so that a batch waits for one part at most.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.trust.strict import json_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PART, RECEIPT = "gardien/building-part/1", "gardien/building-receipt/1"
LARGEST_RECEIPT = 2_000
AT_ONCE = 16_000
"""bytes of one part; 1.5 s at 100 kbit/s"""


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
