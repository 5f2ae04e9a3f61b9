"""What spools that are not open say: the values that wait for former recipients, and the changes of
the registry that were applied.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from agent.buffer.outbox import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

PREFIX, SUFFIX = "spool-", ".db"


def spool_of(state: Path, recipient: str) -> Path:
    """Where the spool of a recipient lies."""
    return state / f"{PREFIX}{recipient}{SUFFIX}"


def leftovers(state: Path, recipients: Collection[str]) -> Iterator[tuple[str, int]]:
    """Recipients that are not among these, and how many values still wait for each.

    A spool that is in use, or not for this account, is passed over.
    """
    for file in _files(state):
        recipient = file.name[len(PREFIX) : -len(SUFFIX)]
        if recipient not in recipients and (waits := _waiting(file)):
            yield recipient, waits


def applied(state: Path) -> Iterator[tuple[Path, int]]:
    """The spools in a state directory, each with the number of the last change of the registry that
    it has applied; a spool that cannot be read is left out.
    """
    for file in _files(state):
        try:
            with _opened(file) as db:
                found = db.execute("SELECT value FROM meta WHERE name='applied'").fetchone()
                yield file, int(found[0]) if found else 0
        except sqlite3.Error:
            continue


def destroy(state: Path, recipient: str) -> None:
    """Remove a spool that is not open, with all that lies beside it."""
    file = spool_of(state, recipient)
    for one in [*state.glob(f"{file.name}-*"), *state.glob(f"{file.name}.*"), file]:
        one.unlink(missing_ok=True)


def _files(state: Path) -> list[Path]:
    try:
        return sorted(state.glob(f"{PREFIX}*{SUFFIX}"))
    except OSError:
        return []


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    # read and write: what a killed agent left in the log counts too
    uri = f"file:{quote(str(file))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=0.2)) as db:
        yield db


def _waiting(file: Path) -> int:
    try:
        with _opened(file) as db:
            rows = db.execute("SELECT coalesce(sum(slots), 0) FROM block").fetchone()[0]
            sealed = db.execute(
                "SELECT coalesce(sum(rows), 0) FROM batch WHERE state=?", (State.UNRECEIPTED,)
            ).fetchone()[0]
            return int(rows) + int(sealed)
    except sqlite3.Error:
        return 0
