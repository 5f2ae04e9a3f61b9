"""The status document for one recipient (docs/status.schema.json)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


def condition(
    gateway: str, recipient: str, state: Literal["online", "offline"], more: Mapping[str, object]
) -> bytes:
    """The document as JSON; `more`: its members beside ids and state."""
    members = {"schema": "gardien/status/1", "gateway": gateway, "recipient": recipient}
    whole = {**members, "state": state, **more}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
