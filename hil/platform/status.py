"""How the gateways are, as they said it last: one document each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def keep_status(folder: Path, gateway: str, text: bytes) -> None:
    """The latest takes the place of the one before."""
    folder.mkdir(exist_ok=True)
    new = folder / f"{gateway}.new"
    new.write_bytes(text)
    new.replace(folder / f"{gateway}.json")
