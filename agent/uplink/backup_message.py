"""The building file on its way to a platform, and the platform's word that it holds it.

It is no batch: it has no number, the latest one counts, and nothing waits behind it. Over HTTPS and
by files it goes whole; over MQTT in parts, so that no batch waits for more than one of them.
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
"""bytes of one part: a second and a half at 100 kbit/s"""


@dataclass(frozen=True, slots=True)
class BackupMessage:
    """One building file, sealed."""

    gateway: str
    recipient: str
    made: str
    """such as 2026-11-24T10:15:00Z"""
    revision: int
    sha256: str
    content: bytes


def parts(one: BackupMessage) -> Iterator[bytes]:
    """The messages that carry it: a line of JSON, and behind its end the bytes from `from` on."""
    for start in range(0, len(one.content), AT_ONCE):
        head = {
            "schema": PART, "gateway": one.gateway, "recipient": one.recipient, "made": one.made,
            "revision": one.revision, "sha256": one.sha256, "size": len(one.content), "from": start,
        }  # fmt: skip
        text = json.dumps(head, separators=(",", ":")).encode()
        yield text + b"\n" + one.content[start : start + AT_ONCE]


def held(body: bytes, gateway: str, recipient: str) -> str | None:
    """The sha256 that a platform says it holds of this gateway's; None: it says something else."""
    if len(body) > LARGEST_RECEIPT or RECEIPT.encode() not in body:
        return None
    try:
        said = json_of(body, "it")
        whose = (said["schema"], said["gateway"], said["recipient"])
        return str(said["sha256"]) if whose == (RECEIPT, gateway, recipient) else None
    except (ValueError, LookupError, TypeError):
        return None
