"""The batches that were sealed: sent again byte for byte, until the recipient's word ends them."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import TYPE_CHECKING

from agent.buffer.keys import Unreadable
from agent.model import BatchId, Lane, Sealed

if TYPE_CHECKING:
    from agent.buffer.database import Database
    from agent.buffer.keys import Keys


class State(IntEnum):
    """What has become of a sealed batch."""

    UNRECEIPTED = 0
    RECEIPTED = 1
    QUARANTINED = 2


class Outbox:
    """Batches by id. Every change belongs inside a transaction of the caller's."""

    def __init__(self, database: Database, keys: Keys, gateway: str, recipient: str) -> None:
        self._database = database
        self._box = keys.box("batch")
        self._of = (gateway, recipient)

    def add(self, batch: Sealed, now: float) -> None:
        """Keep a batch that was just sealed."""
        self._database.write(
            "INSERT INTO batch(epoch, seq, lane, state, sha256, rows, at, body)"
            " VALUES(?,?,?,?,?,?,?,?)",
            batch.id.epoch,
            batch.id.seq,
            batch.lane.value,
            State.UNRECEIPTED,
            batch.sha256,
            batch.rows,
            now,
            self._box.seal(batch.payload, _name(batch.id.epoch, batch.id.seq)),
        )

    def unreceipted(self) -> tuple[list[Sealed], list[BatchId]]:
        """Batches to be sent, in the order they were sealed; beside them those that do not open."""
        batches, broken = [], []
        for epoch, seq, lane, sha256, rows, body in self._database.read(
            "SELECT epoch, seq, lane, sha256, rows, body FROM batch WHERE state=? ORDER BY no",
            State.UNRECEIPTED,
        ):
            payload = self._open(epoch, seq, body)
            if payload is None:
                broken.append(BatchId(*self._of, epoch, seq))
            else:
                batch = Sealed(BatchId(*self._of, epoch, seq), Lane(lane), payload, sha256, rows)
                batches.append(batch)
        return batches, broken

    def held(self, epoch: str, seq: int) -> tuple[str, State] | None:
        """The hash and state of a batch; None if it is not here (any more)."""
        rows = self._database.read(
            "SELECT sha256, state FROM batch WHERE epoch=? AND seq=?", epoch, seq
        )
        return (rows[0][0], State(rows[0][1])) if rows else None

    def payload(self, epoch: str, seq: int) -> bytes | None:
        """What was sealed; None if it does not open."""
        body = self._database.one("SELECT body FROM batch WHERE epoch=? AND seq=?", epoch, seq)
        return None if body is None else self._open(epoch, seq, body)

    def receipt(self, epoch: str, seq: int, now: float) -> None:
        """The recipient holds it: kept for a while in case it is asked for again."""
        self._database.write(
            "UPDATE batch SET state=?, at=?, reason=NULL WHERE epoch=? AND seq=?",
            State.RECEIPTED,
            now,
            epoch,
            seq,
        )

    def quarantine(self, epoch: str, seq: int, reason: str) -> bool:
        """The recipient will not take it: kept under its id, not sent. False if not unreceipted."""
        changed = self._database.write(
            "UPDATE batch SET state=?, reason=? WHERE epoch=? AND seq=? AND state=?",
            State.QUARANTINED,
            reason,
            epoch,
            seq,
            State.UNRECEIPTED,
        )
        return changed == 1

    def remove(self, epoch: str, seq: int) -> None:
        """Nothing is known of it from here on."""
        self._database.write("DELETE FROM batch WHERE epoch=? AND seq=?", epoch, seq)

    def forget(self, before: float) -> int:
        """Remove those receipted before that time; how many."""
        return self._database.write(
            "DELETE FROM batch WHERE state=? AND at<?", State.RECEIPTED, before
        )

    def forget_oldest(self, count: int) -> int:
        """Remove so many of the receipted ones, those receipted first; how many there were."""
        return self._database.write(
            "DELETE FROM batch WHERE no IN"
            " (SELECT no FROM batch WHERE state=? ORDER BY at LIMIT ?)",
            State.RECEIPTED,
            count,
        )

    def count(self, state: State) -> tuple[int, int]:
        """Batches in that state, and their rows."""
        batches, rows = self._database.read(
            "SELECT count(*), coalesce(sum(rows), 0) FROM batch WHERE state=?", state
        )[0]
        return batches, rows

    def _open(self, epoch: str, seq: int, body: bytes) -> bytes | None:
        try:
            return self._box.unseal(body, _name(epoch, seq))
        except Unreadable:
            return None


def digest(payload: bytes) -> str:
    """The sha256 that a receipt names, of the bytes as they are sent."""
    return hashlib.sha256(payload).hexdigest()


def _name(epoch: str, seq: int) -> str:
    return f"{epoch} {seq}"
