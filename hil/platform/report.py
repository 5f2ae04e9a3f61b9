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
    "rejected_batches",
    "unreadable",
    "voids",
    "refused_rows",
)
"""batches that came again, with the same bytes or others; rows that hit a key where one of the two
says `again`, or where neither does; what could not be read, with an id or without; ids without
rows; rows that had been taken back before they came"""


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
            "overlapping_slots": _overlaps(db),
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


def _overlaps(db: sqlite3.Connection) -> int:
    """Slots that a span covers and another row of the same version states as well."""
    overlaps, series, end = 0, None, 0
    for *key, step, ver, t, span in db.execute(
        "SELECT recipient, place, channel, kind, step, ver, t, span FROM row"
        " ORDER BY recipient, place, channel, kind, step, ver, t"
    ):
        if (key, step, ver) != series:
            series, end = (key, step, ver), t
        until = t + span * step
        overlaps += max(0, (min(end, until) - t) // step) if step else 0
        end = max(end, until)
    return overlaps


def _read(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    db.executescript(TABLES)
    return db
