"""Reads spools that are not open: the values that wait for former recipients, and the changes of
the registry that were applied.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from agent.buffer.announcements import confirmed
from agent.buffer.disclosures import (
    TABLES,
    YEARS,
    Disclosure,
    DisclosureTokens,
    ReceivedSlots,
    disclosures,
    received_slots,
)
from agent.buffer.outbox import BatchState
from agent.core.atomic_write import StateFile
from agent.core.clock import stamp
from agent.core.storage import volatile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

ADOPTED = "SELECT value FROM meta WHERE name='adopted'"
RECORD_NAME = """SELECT value || coalesce((SELECT '/' || value FROM meta WHERE name='handed'), '')
    FROM meta WHERE name='epoch'"""
APPLIED = "SELECT min(value) FROM meta WHERE name IN ('applied','recorded')"
PREFIX, SUFFIX, KEPT = "spool-", ".db", "disclosed-"


class SpoolRecord(NamedTuple):
    """The record of receipts in a spool that is not open."""

    disclosures: list[Disclosure]
    erasures: dict[str, int | None]
    """as `Spool.erasures`"""
    waits: int
    """values that still wait, of all places"""
    slots: list[ReceivedSlots]
    """as `Spool.received_slots`"""


def spool_of(state: Path, recipient: str) -> Path:
    """The file of a recipient's spool."""
    return state / f"{PREFIX}{recipient}{SUFFIX}"


def recipient_of(spool: Path) -> str:
    """The recipient of a spool file."""
    return spool.name[len(PREFIX) : -len(SUFFIX)]


def leftovers(state: Path, recipients: Collection[str]) -> Iterator[tuple[str, int]]:
    """Recipients that are not among these, and how many values still wait for each.

    A spool that is in use, or that this account may not read, is skipped.
    """
    for file in _files(state):
        recipient = recipient_of(file)
        if recipient in recipients:
            continue
        if waits := sum(map(_waiting, _both(state, recipient))):
            yield recipient, waits


def applied(state: Path) -> Iterator[tuple[Path, int]]:
    """The spools in a state directory, each with the number of the last change of the registry that
    was applied to it, and that the registry had recorded then (rule T7). A spool that cannot be
    read is skipped.
    """
    for file in _files(state):
        try:
            with _opened(file) as db:
                (last,) = db.execute(APPLIED).fetchone()
                yield file, int(last or 0)
        except sqlite3.Error:
            continue


def record(
    state: Path, recipient: str, place: str = "", tokens: DisclosureTokens | None = None
) -> SpoolRecord | None:
    """The record of receipts in a recipient's spools on the disk and in memory, without opening
    their rows; None: there is no spool.

    `tokens`: reads the ids in it; None: ids are returned as tokens.

    Raises OSError where it cannot be read.
    """
    files = [file for file in _both(state, recipient) if file.exists()]
    if not files:
        return None
    records = [_record(file, place, tokens) for file in files]
    if len(files) > 1 and _has_adopted(*files):
        records[1] = records[1]._replace(disclosures=[], slots=[])
    erasures: dict[str, int | None] = {}
    for part in records:
        erasures |= {id_: n for id_, n in part.erasures.items() if erasures.get(id_) is None}
    return SpoolRecord(
        [count for one in records for count in one.disclosures],
        erasures,
        sum(one.waits for one in records),
        [slots for one in records for slots in one.slots],
    )


def _both(state: Path, recipient: str) -> tuple[Path, Path]:
    """The spool on the disk, and the one in memory that is used while the disk fails."""
    file = spool_of(state, recipient)
    return file, volatile(state) / file.name


def _has_adopted(disk: Path, memory: Path) -> bool:
    """Whether the disk has taken over the record that is in memory too: see `Spool.adopt`."""
    try:
        with _opened(disk) as db, _opened(memory) as beside:
            return bool(db.execute(ADOPTED).fetchone() == beside.execute(RECORD_NAME).fetchone())
    except sqlite3.Error as error:
        raise OSError(f"{disk} cannot be read: {error}") from error


def _record(file: Path, place: str, tokens: DisclosureTokens | None) -> SpoolRecord:
    try:
        with _opened(file) as db, db:
            for table in TABLES:
                # An older spool may lack a table.
                db.execute(table)

            def read(sql: str, *values: str) -> list[tuple[Any, ...]]:
                return db.execute(sql, values).fetchall()

            received, erasures = disclosures(read, tokens, place), confirmed(read)
            waits = _counted(db, BatchState.UNRECEIPTED, BatchState.QUARANTINED)
            slots = received_slots(read, tokens) if tokens else []
            return SpoolRecord(received, erasures, waits, slots)
    except sqlite3.Error as error:
        raise OSError(f"{file} cannot be read: {error}") from error


def destroy(state: Path, recipient: str, now: float, tokens: DisclosureTokens | None) -> None:
    """Remove a spool that is not open, and all files beside it. Raises Refused.

    The numbers of values that its recipient has received are kept for five years. `tokens` as for
    `record`.
    """
    # Before anything is deleted: after a kill in between the record is there twice rather than
    # lost.
    _keep_disclosures(state, recipient, now, tokens)
    file = spool_of(state, recipient)
    files = [*state.glob(f"{file.name}-*"), *state.glob(f"{file.name}.*"), file]
    for path in [*volatile(state).glob(f"{file.name}*"), *files]:
        path.unlink(missing_ok=True)


def kept(state: Path, recipient: str) -> tuple[list[Disclosure], bool]:
    """The record of receipts of destroyed spools, and whether it is complete."""
    return _kept_file(state, recipient).load()


def kept_for(state: Path) -> list[str]:
    """The recipients of destroyed spools."""
    return [file.name[len(KEPT) : -len(".json")] for file in sorted(state.glob(f"{KEPT}*.json"))]


def recipients_of(state: Path) -> list[str]:
    """The recipients that have a spool. Raises OSError where the directory cannot be read."""
    files = sorted(state.glob(f"{PREFIX}*{SUFFIX}"))
    return [recipient_of(file) for file in files]


def _kept_file(state: Path, recipient: str) -> StateFile[tuple[list[Disclosure], bool]]:
    return StateFile(
        state / f"{KEPT}{recipient}.json",
        lambda stored: (
            [Disclosure(*entry) for entry in stored["disclosures"]],
            bool(stored["complete"]),
        ),
        missing=lambda: ([], True),
        damaged=lambda _error: ([], False),
    )


def _keep_disclosures(
    state: Path, recipient: str, now: float, tokens: DisclosureTokens | None
) -> None:
    file = _kept_file(state, recipient)
    rows, complete = file.load()
    try:
        spool = record(state, recipient, tokens=tokens)
        rows += spool.disclosures if spool else []
    except OSError:
        complete = False
    first = stamp(now - YEARS)[:10]
    rows = [disclosure for disclosure in rows if disclosure.day >= first]
    if rows or not complete:
        file.save({"disclosures": rows, "complete": complete})


def _files(state: Path) -> list[Path]:
    try:
        return sorted(state.glob(f"{PREFIX}*{SUFFIX}"))
    except OSError:
        return []


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    # mode rw, not ro: SQLite must recover the log that a killed agent has left
    uri = f"file:{quote(str(file))}?mode=rw"
    # A short timeout: a spool in use is skipped, and nobody waits for it.
    with closing(sqlite3.connect(uri, uri=True, timeout=0.2)) as db:
        yield db


def _waiting(file: Path) -> int:
    try:
        with _opened(file) as db:
            return _counted(db, BatchState.UNRECEIPTED, BatchState.QUARANTINED)
    except sqlite3.Error:
        return 0


def _counted(db: sqlite3.Connection, *states: BatchState) -> int:
    """The number of waiting values, and of values in batches in these states."""
    rows = db.execute("SELECT coalesce(sum(slots), 0) FROM block").fetchone()[0]
    for state in states:
        sum_of = db.execute("SELECT coalesce(sum(rows), 0) FROM batch WHERE state=?", (state,))
        rows += sum_of.fetchone()[0]
    return int(rows)
