"""Move an uplink to a new address that the platform has sent in a signed object.

The new address is used once a receipt has arrived over it. The old one is kept for seven days to
fall back on. Spool, epoch and batch numbers do not change.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.core.state_file import StateFile

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

FILE = "moves.json"
FALL_BACK = 7 * 86_400.0
"""seconds within which a new address must be proved, and then for which the old one is kept"""
PROVE_WITHIN = 300.0
"""seconds within which a connection to a new address must bring a receipt"""
PROBE_EVERY = 3600.0
"""seconds between two attempts with an address that is not proved"""
FAILURES = 3
"""failures in a row after which the old address is tried in turn"""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of one uplink."""

    old: str
    """the url in the configuration when the move was ordered"""
    new: str
    since: float
    """seconds since 1970"""
    proved: float | None = None
    """when the first receipt arrived over the new address; None: not yet"""


def over(move: Move, configured: str, now: float) -> bool:
    """Whether a move is finished or void. Pure.

    That is when the configuration names another address than before, or when the new address was
    not proved in time.
    """
    return configured != move.old or (move.proved is None and now - move.since > FALL_BACK)


def address(move: Move, now: float, failures: int, since_probe: float) -> str:
    """Choose the address to try next. Pure.

    `failures`: failed attempts in a row. `since_probe`: seconds since the last attempt with an
    unproved address.
    """
    # Until it is proved, the new address gets one attempt an hour, and delivery goes on at the old.
    if move.proved is None:
        return move.new if since_probe >= PROBE_EVERY else move.old
    if now - move.proved > FALL_BACK or failures < FAILURES:
        return move.new
    # Alternate: neither address must be tried for ever while the other one works.
    return move.old if failures % 2 else move.new


class Moves:
    """The moves in progress by recipient. They are on the disk before anything acts on them."""

    def __init__(self, state: Path) -> None:
        self._file = StateFile[dict[str, Move]](
            state / FILE,
            lambda stored: {name: Move(**move) for name, move in stored.items()},
            missing=dict,
        )
        self._known = self._file.load()

    def of(self, recipient: str, configured: str, now: float) -> Move | None:
        """Return the move of a recipient's uplink; one that is over is removed."""
        move = self._known.get(recipient)
        if move is not None and over(move, configured, now):
            if configured == move.old:
                log.error(
                    "no receipt came over %s in 7 days: the uplink stays at %s", move.new, move.old,
                    extra=fields(LogEvent.UPLINK_NOT_MOVED, recipient=recipient),
                )  # fmt: skip
            self._write({name: one for name, one in self._known.items() if name != recipient})
            return None
        return move

    def order(self, recipient: str, configured: str, url: str, now: float) -> None:
        """Record that the platform asks for another address. Raises Refused."""
        if url == configured:
            raise Refused(f"{url} is its address already")
        self._write(self._known | {recipient: Move(configured, url, now)})

    def prove(self, recipient: str, now: float) -> None:
        """Record that a receipt has arrived over the new address. Raises NotRecorded."""
        move = self._known[recipient]
        if move.proved is None:
            self._write(self._known | {recipient: replace(move, proved=now)})
            log.warning(
                "%s is now reached at %s: write that as its url", recipient, move.new,
                extra=fields(LogEvent.UPLINK_MOVED, recipient=recipient),
            )  # fmt: skip

    def _write(self, known: dict[str, Move]) -> None:
        self._file.save({name: asdict(move) for name, move in known.items()})
        self._known = known
