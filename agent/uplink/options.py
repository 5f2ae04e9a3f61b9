"""Settings that all transports share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

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
