"""An uplink's new address, by the platform's signed word: proved by a receipt before it counts.

The old one is kept for seven days to fall back on. Spool, epoch and seq stay as they are.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from agent.atomic_write import write
from agent.errors import Refused
from agent.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

FILE = "moves.json"
FALL_BACK = 7 * 86_400.0
"""seconds for which a new address may prove itself, and then for which the old one stands by"""
PROVE_WITHIN = 300.0
"""seconds that a connection to a new address is given to bring a receipt"""
PROBE_EVERY = 3600.0
"""seconds between two tries of an address that has not proved itself"""
FAILURES = 3
"""in a row, after which the old address is tried in turn"""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of one uplink."""

    old: str
    """the url that the configuration named when it was ordered"""
    new: str
    since: float
    """seconds since 1970"""
    proved: float | None = None
    """when the first receipt came over the new address"""


def over(move: Move, configured: str, now: float) -> bool:
    """Whether a move concerns nobody any more. Pure.

    The configuration has caught up, or names yet another address, or the new one never proved
    itself.
    """
    return configured != move.old or (move.proved is None and now - move.since > FALL_BACK)


def address(move: Move, now: float, failures: int, since_probe: float) -> str:
    """Which address to try next; `failures`: attempts in a row that brought nothing. Pure."""
    if move.proved is None:
        return move.new if since_probe >= PROBE_EVERY else move.old
    if now - move.proved > FALL_BACK or failures < FAILURES:
        return move.new
    return move.old if failures % 2 else move.new


class Moves:
    """The moves under way, by recipient, on the disk before anything acts on them."""

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._known = _recall(self._file)

    def of(self, recipient: str, configured: str, now: float) -> Move | None:
        """The move of a recipient's uplink; one that is over is forgotten."""
        move = self._known.get(recipient)
        if move is not None and over(move, configured, now):
            if configured == move.old:
                log.error(
                    "%s has not proved itself in 7 days: %s stays", move.new, move.old,
                    extra=fields(LogEvent.UPLINK_NOT_MOVED, recipient=recipient),
                )  # fmt: skip
            self._write({name: one for name, one in self._known.items() if name != recipient})
            return None
        return move

    def order(self, recipient: str, configured: str, url: str, now: float) -> None:
        """Note that the platform wants to be reached at another address. Raises Refused."""
        if url == configured:
            raise Refused(f"{url} is its address already")
        self._write(self._known | {recipient: Move(configured, url, now)})

    def prove(self, recipient: str, now: float) -> None:
        """Note that the new address has brought a receipt."""
        move = self._known[recipient]
        if move.proved is None:
            self._write(self._known | {recipient: replace(move, proved=now)})
            log.warning(
                "%s is reached at %s from now on: write it as its url", recipient, move.new,
                extra=fields(LogEvent.UPLINK_MOVED, recipient=recipient),
            )  # fmt: skip

    def _write(self, known: dict[str, Move]) -> None:
        text = json.dumps({name: asdict(move) for name, move in known.items()})
        write(self._file, text.encode())
        self._known = known


def _recall(file: Path) -> dict[str, Move]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {name: Move(**move) for name, move in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
