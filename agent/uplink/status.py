"""How the gateway is, as a document for one recipient (docs/status.schema.json)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


def condition(
    gateway: str, recipient: str, state: Literal["online", "offline"], more: Mapping[str, object]
) -> bytes:
    """The document; `more`: its members beside whose it is and whether it is there."""
    members = {"schema": "gardien/status/1", "gateway": gateway, "recipient": recipient}
    whole = {**members, "state": state, **more}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
