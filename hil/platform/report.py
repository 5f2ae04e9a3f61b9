"""What the platform holds, counted by itself. Reads the ledger beside a running platform."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from hil.platform.ledger import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TALLIES = (
    "resent_batches",
    "differing_batches",
    "duplicate_rows",
    "alarms",
    "overlapping_slots",
    "rejected_batches",
    "unreadable",
    "voids",
    "refused_rows",
)
"""batches that came again, with the same bytes or others; rows that state a slot which another row
of their version states: one of the two says `again`, or neither does, and the slots of the latter;
what could not be read, with an id or without; ids without rows; rows that had been taken back
before they came"""


class Held(NamedTuple):
    """One row as the platform holds it."""

    place: str
    channel: str
    kind: str
    step: int
    t: int
    value: str | None
    q: str
    why: str | None
    delay: int
    span: int
    basis: str
    again: int
    """0 or 1"""


def rows(path: Path) -> Iterator[Held]:
    """All rows by series and time."""
    with closing(_read(path)) as db:
        for found in db.execute(
            "SELECT place, channel, kind, step, t, v, q, why, d, span, basis, again FROM row"
            " ORDER BY recipient, place, channel, kind, step, t, ver"
        ):
            yield Held(*found)


def report(path: Path) -> dict[str, Any]:
    """Count everything: `differing_batches`, `alarms`, `overlapping_slots` and `seq_gaps` ought to
    be 0.
    """
    with closing(_read(path)) as db:
        tallies = dict(db.execute("SELECT what, n FROM tally"))
        epochs = [_epoch(*found) for found in db.execute(EPOCHS)]
        batches, size = db.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM batch").fetchone()
        held, slots = db.execute("SELECT count(*), coalesce(sum(span), 0) FROM row").fetchone()
        return {
            "batches": batches,
            "bytes": size,
            "rows": held,
            "slots": slots,
            **{name: tallies.get(name, 0) for name in TALLIES},
            "seq_gaps": sum(epoch["gaps"] for epoch in epochs),
            "epochs": epochs,
        }


EPOCHS = """
SELECT gateway, recipient, epoch, min(seq), max(seq), count(*) FROM batch
GROUP BY gateway, recipient, epoch ORDER BY min(arrived)
"""


def _epoch(  # noqa: PLR0913, PLR0917 -- one row of EPOCHS
    gateway: str, recipient: str, epoch: str, first: int, last: int, held: int
) -> dict[str, Any]:
    return {
        "gateway": gateway,
        "recipient": recipient,
        "epoch": epoch,
        "first": first,
        "last": last,
        "gaps": last - first + 1 - held,
    }


def _read(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    db.executescript(TABLES)
    return db
