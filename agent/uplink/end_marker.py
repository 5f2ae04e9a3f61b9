"""The end marker: a platform behind a broker has sent all signed objects for this gateway.

A broker keeps messages only for a limited time, and does not repeat what an earlier state of the
gateway has acknowledged. So a restored gateway asks in its status for all objects. The platform
sends them on the objects' topic, followed by this marker (docs/platform.md).
"""

from __future__ import annotations

from agent.trust.strict import json_of

SCHEMA = "gardien/objects-end/1"
LARGEST = 1_000


def all_sent(payload: bytes, audience: str) -> bool | None:
    """Whether a message is the end marker for this state of the gateway; None: another message."""
    # signed objects of 1 MiB arrive on the same topic: parse only what can be a marker
    if len(payload) > LARGEST or SCHEMA.encode() not in payload:
        return None
    try:
        marker = json_of(payload, "it")
        if marker["schema"] != SCHEMA:
            return None
        return bool(audience) and marker["audience"] == audience
    except (ValueError, LookupError, TypeError):
        return None
