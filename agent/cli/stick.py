"""The USB stick of `gardien uplink carry`: read what came back, write what is to be carried.

The command does this, not the agent: its sandbox sees no stick, and the person who plugs it in may
write there.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.cli.terminal import ask
from agent.core.errors import NotStored, Refused, UplinkLost
from agent.core.i18n import Text, text_of
from agent.uplink.files.folder import (
    CARRIED,
    IN,
    OBJECTS,
    OUT,
    PART,
    RECEIPT,
    SIGNED,
    Folder,
    bring,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_OBJECT, MOST_RECEIPT = 1_100_000, 1_000_001
AT_ONCE = 20
"""receipts in one call: each has a few hundred bytes, and 1 MB at most"""


@dataclass(frozen=True)
class Stick:
    """One visit of a stick for one uplink."""

    config: Path
    state: Path | None
    uplink: str
    named: str | None

    def carry(self, root: Path) -> dict[str, Any]:
        """Settle what came back, and write what waits. `problem` of the answer says why not all of
        it was written. Raises Refused.
        """
        first = self._carry()
        home = root / first["gateway"]
        try:
            if not root.is_dir():
                raise UplinkLost("the folder {root} does not exist. Is it mounted?", root=root)
            for folder in (home, home / IN, home / OUT, home / OBJECTS):
                if folder.is_symlink():  # root would follow it off the stick
                    raise NotStored("{folder} is a link: remove it", folder=folder)
                folder.mkdir(exist_ok=True)
            stick = Folder(home)
            objects, refused = self._objects(stick)
            answer = self._receipts(stick, first)
        except (NotStored, UplinkLost) as error:
            raise Refused(text_of(error)) from error
        except OSError as error:
            raise Refused(
                "{where} cannot be written: {reason}. Is it mounted, and has it room?",
                where=home, reason=error.strerror,
            ) from error  # fmt: skip
        written, problem = 0, ""
        try:
            self._tidy(stick, answer)
            for file in answer["files"]:
                written += self._write(stick, file["file"], void=file["void"])
        except (NotStored, UplinkLost) as error:
            problem = Text(
                "only {written} of {number} batches are on the stick. What is on it counts, and the"
                " rest waits here for another stick. The reason: {why}",
                written=written, number=len(answer["files"]), why=text_of(error),
            )  # fmt: skip
        return answer | {
            "objects": objects,
            "objects_refused": refused,
            "written": written,
            "problem": problem,
        }

    def _carry(self, receipts: Sequence[str] = (), *, seal: bool = False) -> dict[str, Any]:
        more = {"uplink": self.uplink, "receipts": receipts, "seal": seal, "named": self.named}
        return ask(self.config, self.state, "uplink.carry", **more)

    def _objects(self, stick: Folder) -> tuple[int, list[str]]:
        """Bring signed objects: a withdrawal must count before more is sealed."""
        accepted, refused = 0, []
        for entry in sorted(stick.entries(OBJECTS)):
            body = stick.read(f"{OBJECTS}/{entry.name}", MOST_OBJECT) or b""
            if entry.name.startswith(".") or entry.name.endswith(PART) or not body:
                continue
            try:
                text = body.decode()
                answer = ask(self.config, self.state, "object.accept", text=text, named=self.named)
                accepted += not answer.get("again")
            except (Refused, UnicodeDecodeError) as error:
                why = text_of(error) if isinstance(error, Refused) else str(error)
                refused.append(Text("{file}: {why}", file=entry.name, why=why).in_language())
        return accepted, refused

    def _receipts(self, stick: Folder, first: dict[str, Any]) -> dict[str, Any]:
        """Apply the receipts of this gateway and recipient, signed ones last; the last answer."""
        ours = f"{first['gateway']}_{first['recipient']}_"
        names = [entry.name for entry in stick.entries(OUT) if entry.name.startswith(ours)]
        texts = [
            (stick.read(f"{OUT}/{file}", MOST_RECEIPT) or b"").decode(errors="replace")
            for suffix in (RECEIPT, SIGNED)
            for file in sorted(names)
            if file.endswith(suffix)
        ]
        answers = [self._carry(texts[n : n + AT_ONCE]) for n in range(0, len(texts), AT_ONCE)]
        # only now: what was accepted and settled decides what may be sealed
        return self._carry(seal=True) | {
            "settled": sum(one["settled"] for one in answers),
            "refused": [why for one in answers for why in one["refused"]],
        }

    def _tidy(self, stick: Folder, answer: dict[str, Any]) -> None:
        """Remove what is settled or not sent any more, and what an earlier visit left half."""
        ours = f"{answer['gateway']}_{answer['recipient']}_"
        wanted = {file["file"] for file in answer["files"]}
        for folder, suffixes in ((IN, ("",)), (OUT, (RECEIPT, SIGNED))):
            for entry in stick.entries(folder):
                batch = next(
                    (entry.name.removesuffix(one) for one in suffixes if entry.name.endswith(one)),
                    "",
                )
                if entry.name.startswith(ours) and batch and batch not in wanted:
                    stick.remove(f"{folder}/{entry.name}")

    def _write(self, stick: Folder, file: str, *, void: bool) -> bool:
        """Write one file, whole or not at all; False if it is not to be carried any more."""
        path = f"{IN}/{file}"
        answer = ask(self.config, self.state, "uplink.file", uplink=self.uplink, file=file)
        if answer["content"] is None:
            return False
        content = base64.b64decode(answer["content"])
        there = None if void or file.endswith(CARRIED) else stick.read(path, len(content) + 1)
        if there != content:
            bring(stick, path, content, hashlib.sha256(content).hexdigest())
        return True
