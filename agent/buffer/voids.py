"""Ids whose batch was destroyed, and whose rows are in which batch, so that it can be found.

Beside the table of batches: what lies here goes with the batch it speaks of.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING

from agent.buffer.batch import write_void
from agent.buffer.disclosures import SeriesCount
from agent.buffer.keys import SealBroken
from agent.buffer.rotation import SealedTable
from agent.model import SealedBatch, Void

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.buffer.database import Database
    from agent.buffer.keys import SpoolKeys
    from agent.model import BatchId, Lane

TABLES = (
    """CREATE TABLE IF NOT EXISTS void(epoch TEXT, seq INTEGER, reason TEXT NOT NULL,
    original TEXT, touched BLOB, PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS inside(epoch TEXT, seq INTEGER, owners TEXT NOT NULL,
    PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS batch_goes AFTER DELETE ON batch BEGIN
    DELETE FROM void WHERE epoch=old.epoch AND seq=old.seq;
    DELETE FROM inside WHERE epoch=old.epoch AND seq=old.seq; END""",
    """CREATE TABLE IF NOT EXISTS refused(epoch TEXT, seq INTEGER, since REAL NOT NULL,
    PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS refused_goes AFTER DELETE ON batch BEGIN
    DELETE FROM refused WHERE epoch=old.epoch AND seq=old.seq; END""",
)


class Voids:
    """Voids by id. Every change belongs inside a transaction of the caller's."""

    def __init__(self, database: Database, keys: SpoolKeys, *, judged: bool) -> None:
        """`judged`: write what the version before can read."""
        self._database, self._judged = database, judged
        self._sealer = keys.sealer("void")
        for table in TABLES:
            database.write(table)

    @property
    def sealed(self) -> SealedTable:
        """What of it is sealed."""
        key = ("epoch", "seq")
        return SealedTable("void", key, "{} {}".format, lambda *_: self._sealer, body="touched")

    def make(self, id_: BatchId, lane: Lane, reason: Void, original: str | None) -> SealedBatch:
        """The void of an id, as it is delivered for good."""
        payload = write_void(id_, reason)
        sha256 = hashlib.sha256(payload).hexdigest()
        return SealedBatch(id_, lane, payload, sha256, 0, void=reason, original=original)

    def add(self, void: SealedBatch) -> None:
        """Know an id to be void, and what was sealed under it before."""
        self._database.write(
            "INSERT INTO void(epoch, seq, reason, original) VALUES(?,?,?,?)",
            void.id.epoch,
            void.id.seq,
            str(void.void),
            void.original,
        )

    def of(self, epoch: str, seq: int) -> tuple[Void | None, str | None]:
        """Why an id is void and the hash of what was sealed before; None, None: it is not."""
        rows = self._database.read(
            "SELECT reason, original FROM void WHERE epoch=? AND seq=?", epoch, seq
        )
        return (Void(rows[0][0]), rows[0][1]) if rows else (None, None)

    def note_counts(self, id_: BatchId, counts: Iterable[SeriesCount]) -> None:
        """Keep how many values of whom a destroyed batch had: it may have been received. None where
        they are counted as received already.
        """
        note = json.dumps({"counts": sorted(counts)}).encode()
        if not self._judged:  # of a large batch they would take more room than its payload
            note = zlib.compress(note)
        body = self._sealer.seal(note, f"{id_.epoch} {id_.seq}")
        self._database.write(
            "UPDATE void SET touched=? WHERE epoch=? AND seq=?", body, id_.epoch, id_.seq
        )

    def original_counts(self, epoch: str, seq: int) -> list[SeriesCount] | None:
        """How many values of whom the batch had that a void replaces; None: an earlier version made
        the void and did not note it.
        """
        body = self._database.scalar("SELECT touched FROM void WHERE epoch=? AND seq=?", epoch, seq)
        try:
            text = self._sealer.unseal(body, f"{epoch} {seq}") if body else b"null"
            note = json.loads(text if text[:1] in b"{n" else zlib.decompress(text))
        except (SealBroken, ValueError, zlib.error):
            return None
        return [SeriesCount(*count) for count in note["counts"]] if isinstance(note, dict) else None

    def note_owners(self, id_: BatchId, owners: Iterable[int]) -> None:
        """Keep whose rows a batch holds; nobody's is worth no entry."""
        owners_text = json.dumps(sorted(owners), separators=(",", ":"))
        self._database.write("INSERT INTO inside VALUES(?,?,?)", id_.epoch, id_.seq, owners_text)

    def candidates(self, owners: Iterable[int] | None) -> list[tuple[str, int, int]]:
        """Epoch, seq and state of batches, voids apart, in which one of these may have rows.

        A batch that an earlier version sealed does not say, so it may.
        """
        wanted = None if owners is None else set(owners)
        return [
            (epoch, seq, state)
            for epoch, seq, state, inside in self._database.read(
                "SELECT epoch, seq, state, owners FROM batch LEFT JOIN inside USING(epoch, seq)"
                " LEFT JOIN void USING(epoch, seq) WHERE void.reason IS NULL AND rows>0 ORDER BY no"
            )
            if inside is None
            or (set(json.loads(inside)) & wanted if wanted is not None else inside != "[]")
        ]
