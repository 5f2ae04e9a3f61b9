"""Voids by id, and the owners of the rows in each batch, so that their batches can be found.

Entries are deleted together with the batch that they belong to.
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
from agent.core.model import SealedBatch, Void

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.buffer.database import Database
    from agent.buffer.keys import SpoolKeys
    from agent.core.model import BatchId, Lane

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
    """Voids by id. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys, *, on_trial: bool) -> None:
        """`on_trial`: an upgrade is on trial, so entries stay readable for the version before."""
        self._database, self._on_trial = database, on_trial
        self._sealer = keys.sealer("void")
        for table in TABLES:
            database.write(table)

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        key = ("epoch", "seq")
        return SealedTable("void", key, "{} {}".format, lambda *_: self._sealer, body="touched")

    def make(self, id_: BatchId, lane: Lane, reason: Void, original: str | None) -> SealedBatch:
        """The void of an id, as it is delivered for good."""
        payload = write_void(id_, reason)
        sha256 = hashlib.sha256(payload).hexdigest()
        return SealedBatch(id_, lane, payload, sha256, 0, void=reason, original=original)

    def add(self, void: SealedBatch) -> None:
        """Store a void, with the hash of the batch that it replaces."""
        self._database.write(
            "INSERT INTO void(epoch, seq, reason, original) VALUES(?,?,?,?)",
            void.id.epoch,
            void.id.seq,
            str(void.void),
            void.original,
        )

    def of(self, epoch: str, seq: int) -> tuple[Void | None, str | None]:
        """Why an id is void, and the hash of the original batch; None, None: it is not void."""
        rows = self._database.read(
            "SELECT reason, original FROM void WHERE epoch=? AND seq=?", epoch, seq
        )
        return (Void(rows[0][0]), rows[0][1]) if rows else (None, None)

    def note_counts(self, id_: BatchId, counts: Iterable[SeriesCount]) -> None:
        """Keep how many values of each series a destroyed batch had, because it may have been
        received. An empty list: they are counted as received already.
        """
        note = json.dumps({"counts": sorted(counts)}).encode()
        if not self._on_trial:  # uncompressed, they could take more room than the batch's payload
            note = zlib.compress(note)
        body = self._sealer.seal(note, f"{id_.epoch} {id_.seq}")
        self._database.write(
            "UPDATE void SET touched=? WHERE epoch=? AND seq=?", body, id_.epoch, id_.seq
        )

    def original_counts(self, epoch: str, seq: int) -> list[SeriesCount] | None:
        """How many values of each series the original batch of a void had; None: an earlier version
        made the void without this note.
        """
        body = self._database.scalar("SELECT touched FROM void WHERE epoch=? AND seq=?", epoch, seq)
        try:
            text = self._sealer.unseal(body, f"{epoch} {seq}") if body else b"null"
            # An earlier version, or an upgrade on trial, has written it uncompressed.
            note = json.loads(text if text[:1] in b"{n" else zlib.decompress(text))
        except (SealBroken, ValueError, zlib.error):
            return None
        return [SeriesCount(*count) for count in note["counts"]] if isinstance(note, dict) else None

    def note_owners(self, id_: BatchId, owners: Iterable[int]) -> None:
        """Keep the owners of the rows in a batch."""
        owners_text = json.dumps(sorted(owners), separators=(",", ":"))
        self._database.write("INSERT INTO inside VALUES(?,?,?)", id_.epoch, id_.seq, owners_text)

    def candidates(self, owners: Iterable[int] | None) -> list[tuple[str, int, int]]:
        """Epoch, seq and state of batches, voids excepted, that may have rows of these owners.

        A batch of an earlier version has no entry, so it may.
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
