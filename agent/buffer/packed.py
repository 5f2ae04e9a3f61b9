"""The packed form of a batch: sent byte for byte, however often (design note 024).

It is kept beside the batch, which is still needed when its rows are withdrawn: a file that is
encrypted for others does not open here. It is deleted when the batch is deleted or becomes a void.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.buffer.keys import SealBroken
from agent.buffer.rotation import SealedTable

if TYPE_CHECKING:
    from agent.buffer.database import Database
    from agent.buffer.keys import SpoolKeys
    from agent.core.model import BatchId, SealedBatch

TABLES = (
    """CREATE TABLE IF NOT EXISTS packed(epoch TEXT, seq INTEGER, form TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY(epoch, seq)) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS packed_goes AFTER DELETE ON batch BEGIN
    DELETE FROM packed WHERE epoch=old.epoch AND seq=old.seq; END""",
    """CREATE TRIGGER IF NOT EXISTS packed_changes AFTER UPDATE OF body ON batch BEGIN
    DELETE FROM packed WHERE epoch=old.epoch AND seq=old.seq; END""",
)


class Packed:
    """Packed batches by id. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database = database
        self._sealer = keys.sealer("packed")
        for table in TABLES:
            database.write(table)

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        key, more = ("epoch", "seq"), ("form",)
        return SealedTable("packed", key, "{} {} {}".format, lambda *_: self._sealer, more)

    def add(self, batch: SealedBatch) -> None:
        """Keep the packed form of a batch."""
        name = f"{batch.id.epoch} {batch.id.seq} {batch.form}"
        self._database.write(
            # Only after the change of the batch, because its triggers delete the packed form.
            "INSERT OR REPLACE INTO packed VALUES(?,?,?,?)",
            batch.id.epoch,
            batch.id.seq,
            batch.form,
            self._sealer.seal(batch.payload, name),
        )

    def holds(self, id_: BatchId) -> bool:
        """Whether a packed form is sent."""
        return bool(
            self._database.read("SELECT 1 FROM packed WHERE epoch=? AND seq=?", id_.epoch, id_.seq)
        )

    def get(self, id_: BatchId) -> tuple[str, bytes | None] | None:
        """Form and bytes, without bytes if they do not open; None: the batch is sent as sealed."""
        rows = self._database.read(
            "SELECT form, body FROM packed WHERE epoch=? AND seq=?", id_.epoch, id_.seq
        )
        if not rows:
            return None
        form, body = rows[0]
        try:
            return form, self._sealer.unseal(body, f"{id_.epoch} {id_.seq} {form}")
        except SealBroken:
            return form, None
