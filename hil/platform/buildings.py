"""The building files that the platform keeps for its gateways: the latest of each, unopened."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NEWEST, BODY = ".json", ".building"


class Buildings:
    """A folder of them, beside the ledger."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[tuple[str, str], dict[int, bytes]] = {}
        """by gateway and hash: what has come so far, by where it begins"""

    @staticmethod
    def beside(db: Path) -> Buildings:
        """The ones of the platform that keeps this ledger."""
        return Buildings(db.with_name("buildings"))

    def part(self, topic: str, payload: bytes) -> tuple[str, bytes] | None:
        """Take one part; topic and bytes of the receipt once the file is whole and kept."""
        head, _, body = payload.partition(b"\n")
        said = json.loads(head)
        whose = (said["gateway"], said["recipient"])
        if said["schema"] != "gardien/building-part/1" or tuple(topic.split("/")[1:3]) != whose:
            return None
        found = self._parts.setdefault((said["gateway"], said["sha256"]), {})
        found[said["from"]] = body
        if sum(map(len, found.values())) < said["size"]:
            return None
        del self._parts[said["gateway"], said["sha256"]]
        content = b"".join(found[start] for start in sorted(found))
        receipt = self.keep(*whose, said["made"], content)
        return f"gardien/{whose[0]}/{whose[1]}/down/receipts", json.dumps(receipt).encode()

    def keep(self, gateway: str, recipient: str, made: str, content: bytes) -> dict[str, Any]:
        """Keep a file unless a later one is kept; the receipt, which names what has come."""
        self._folder.mkdir(exist_ok=True)
        note = self._folder / f"{gateway}{NEWEST}"
        known = json.loads(note.read_text())["made"] if note.exists() else ""
        sha256 = hashlib.sha256(content).hexdigest()
        if made >= known:
            if (held := self.path(gateway)).exists():
                held.replace(held.with_suffix(".before"))
            self.path(gateway).write_bytes(content)
            note.write_text(json.dumps({"made": made, "sha256": sha256}))
        word = {"schema": "gardien/building-receipt/1", "gateway": gateway}
        return word | {"recipient": recipient, "sha256": sha256}

    def path(self, gateway: str) -> Path:
        """Where the file of a gateway lies."""
        return self._folder / f"{gateway}{BODY}"
