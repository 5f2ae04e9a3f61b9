"""Retractions for the recipient: queued with the purge, sent until they are receipted.

They travel in batches without rows, which no withdrawal affects (rule T19). Their content is sealed
on the disk, and deleted once the recipient has stored it for good.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent.buffer.batch import write_retractions
from agent.buffer.keys import SealBroken
from agent.buffer.outbox import digest
from agent.buffer.rotation import SealedTable
from agent.core.clock import stamp
from agent.core.model import Lane, SealedBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.buffer.batch import Stamp
    from agent.buffer.database import Database
    from agent.buffer.disclosures import Read
    from agent.buffer.keys import SpoolKeys
    from agent.core.model import Retraction

MOST, BYTES = 100, 300
"""retractions in one batch, and bytes of each before compression"""
# a retraction that must be sent again is no longer confirmed
CONFIRMED = "SELECT id, CASE WHEN body IS NULL THEN erased END FROM retraction"


class Retracting:
    """The queue. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database = database
        self._sealer = keys.sealer("retraction")
        database.write(
            "CREATE TABLE IF NOT EXISTS retraction(no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
            " epoch TEXT, seq INTEGER, erased INTEGER, body BLOB)"
        )

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable(
            "retraction", ("no",), lambda _, id_: str(id_), lambda *_: self._sealer, ("id",)
        )

    def add(self, retractions: Iterable[Retraction]) -> None:
        """Queue retractions that are not queued yet."""
        self.queue(as_plain(retraction) for retraction in retractions)

    def queue(self, plain: Iterable[dict[str, Any]]) -> None:
        """Queue retractions in the form in which they are sent; one that was sent before is sent
        again.
        """
        self._database.write_all(
            "INSERT INTO retraction(id, body) VALUES(?,?) ON CONFLICT(id) DO UPDATE SET epoch=NULL,"
            " seq=NULL, body=excluded.body",
            [(item["id"], self._seal(item)) for item in plain],
        )

    def waiting(self) -> int:
        """How many have not been sent."""
        count: int = self._database.scalar(
            "SELECT count(*) FROM retraction WHERE epoch IS NULL AND body IS NOT NULL"
        )
        return count

    def next_batch(self, label: Stamp, most: int) -> SealedBatch:
        """Make the next batch of retractions, of at most `most` bytes or of one; there must be
        some.
        """
        rows = self._database.read(
            "SELECT no, id, body FROM retraction WHERE epoch IS NULL AND body IS NOT NULL"
            " ORDER BY no LIMIT ?",
            min(MOST, max(1, most // BYTES)),
        )
        plain = []
        for no, id_, body in rows:
            try:
                plain.append(json.loads(self._sealer.unseal(body, id_)))
            except (SealBroken, ValueError):
                # Damaged: without a body it is never chosen again, and does not block the others.
                self._database.write("UPDATE retraction SET body=NULL WHERE no=?", no)
        payload = write_retractions(label, plain)
        self._database.write_all(
            "UPDATE retraction SET epoch=?, seq=? WHERE no=?",
            [(label.id.epoch, label.id.seq, no) for no, *_ in rows],
        )
        return SealedBatch(label.id, Lane.LIVE, payload, digest(payload), 0)

    def stored(self, epoch: str, seq: int) -> None:
        """The recipient has stored the batch: it keeps these retractions for good."""
        self._database.write("UPDATE retraction SET body=NULL WHERE epoch=? AND seq=?", epoch, seq)

    def erased(self, confirmed: Sequence[tuple[str, int]]) -> tuple[str, ...]:
        """Record how many rows the recipient removed. Return the ids that were never sent from
        here.
        """
        known = {id_ for (id_,) in self._database.read("SELECT id FROM retraction")}
        self._database.write_all(
            "UPDATE retraction SET erased=? WHERE id=?", [(rows, id_) for id_, rows in confirmed]
        )
        return tuple(id_ for id_, _ in confirmed if id_ not in known)

    def confirmed(self) -> dict[str, int | None]:
        """By id, how many rows the recipient has erased, as it reports; None: not confirmed."""
        return confirmed(self._database.read)

    def _seal(self, plain: dict[str, Any]) -> bytes:
        return self._sealer.seal(json.dumps(plain).encode(), plain["id"])


def confirmed(read: Read) -> dict[str, int | None]:
    """See `Retracting.confirmed`; `read` queries the spool's file."""
    return dict(read(CONFIRMED))


def as_plain(retraction: Retraction) -> dict[str, Any]:
    """The retraction as it is sent (docs/batch.schema.json)."""
    members = {
        "id": retraction.id,
        "place": retraction.place,
        "channel": retraction.channel,
        "occupancy": retraction.occupancy,
        "basis": retraction.basis,
        "meter": retraction.meter,
        "from": stamp(retraction.since),
        "to": None if retraction.until is None else stamp(retraction.until),
        "ver": retraction.ver,
        "reason": retraction.reason,
    }
    return {name: value for name, value in members.items() if value is not None}
