"""The platform's word, behind a broker, that it has sent all signed objects it has for us.

A broker keeps only what came while we were away, and for so long; what a state before this one had
taken already it does not send again. So a restored gateway says in its status that it wants all,
and the platform sends them on the objects' topic, and this behind them (docs/platform.md).
"""

from __future__ import annotations

from agent.trust.strict import json_of

SCHEMA = "gardien/objects-end/1"
LARGEST = 1_000


def all_sent(payload: bytes, audience: str) -> bool | None:
    """Whether it is that word, for this state of the gateway; None: it is something else."""
    if len(payload) > LARGEST or SCHEMA.encode() not in payload:
        return None
    try:
        found = json_of(payload, "it")
        if found["schema"] != SCHEMA:
            return None
        return bool(audience) and found["audience"] == audience
    except (ValueError, LookupError, TypeError):
        return None
