"""What is kept of each uplink: the data used this month, and a change of its address or its end.

The data used are counted as a mobile contract counts them. The counters are stored once an hour and
at shutdown, so a restart goes on counting. A kill loses less than an hour.
"""

from __future__ import annotations

import logging
from calendar import monthrange
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from agent.core.atomic_write import StateFile
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import Change
from agent.uplink import budget

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from zoneinfo import ZoneInfo

log = logging.getLogger(__name__)

MOVES_FILE = "moves.json"
FALL_BACK = 7 * 86_400.0
"""seconds within which a new address must be proved, and then for which the old one is kept"""
PROBE_EVERY = 3600.0
"""seconds between two attempts with an address that is not proved"""
FAILURES = 3
"""failures in a row after which the old address is tried in turn"""
CLOSING_FILE, REMOVED = "closing.json", "removed.json"
FILE = "data.json"
WRITE_EVERY = 3600.0
"""seconds between two writes, to spare the flash"""


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
            state / MOVES_FILE,
            lambda stored: {name: Move(**move) for name, move in stored.items()},
            missing=dict,
        )
        self.changed = Change()
        self._known = self._file.load(self._take)

    def _take(self, known: dict[str, Move]) -> None:
        self._known = known
        self.changed.tell()

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
            raise Refused("{url} is its address already", url=url)
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
        self._take(known)


class UplinkShutdown:
    """These recipients, on the disk before anything acts on it. A restart does not reopen them."""

    def __init__(self, state: Path) -> None:
        self._file = StateFile[frozenset[str]](
            state / CLOSING_FILE,
            lambda stored: frozenset(name for name in stored if isinstance(name, str)),
            missing=frozenset,
        )
        self._names = self._file.load(partial(setattr, self, "_names"))
        self._removed_file = StateFile[dict[str, float]](
            state / REMOVED,
            lambda stored: {name: float(since) for name, since in stored.items()},
            missing=dict,
            sort_keys=True,
        )
        self._removed = self._removed_file.load(self._take)
        """by recipient: since when nothing is stored, in Unix seconds"""

    def _take(self, stored: dict[str, float]) -> None:
        here, self._removed = self._removed, stored
        self._note(here | stored)

    def __contains__(self, recipient: str) -> bool:
        return recipient in self._names

    def begin(self, recipient: str, now: float) -> None:
        """Store nothing more for a recipient. Raises NotRecorded."""
        # An earlier time wins: closing again must not shorten the span without rows.
        self._note({recipient: now} | self._removed)
        self._write(self._names | {recipient})

    def only(self, recipients: Iterable[str], spools: Iterable[str], now: float) -> None:
        """Forget the shutdown of recipients without an uplink: they may get a new one later.

        `recipients`: those with an uplink. `spools`: those with a spool; if they have no uplink, it
        is noted since when.
        """
        here, kept = set(recipients), set(spools)
        known = {one: since for one, since in self._removed.items() if one in kept}
        self._note(dict.fromkeys(kept - here, now) | known)
        if gone := self._names - here:
            self._write(self._names - gone)

    def removed(self, recipient: str) -> float | None:
        """Return since when nothing was stored for a recipient; None if there was no such time."""
        return self._removed.get(recipient)

    def returned(self, recipient: str) -> None:
        """Note that a recipient has an uplink again, and that the slots since then are closed."""
        self._note({one: since for one, since in self._removed.items() if one != recipient})

    def _note(self, removed: dict[str, float]) -> None:
        if removed != self._removed:
            self._removed_file.save_later(removed)
            self._removed = removed

    def _write(self, names: frozenset[str]) -> None:
        self._file.save(sorted(names))
        self._names = names


@dataclass(slots=True)
class MonthlyBytes:
    """The bytes of one recipient in one month."""

    month: str = ""
    """such as 2026-11, in the building's time zone"""
    used: int = 0


class Traffic:
    """The counters of all recipients."""

    def __init__(self, state: Path, zone: ZoneInfo) -> None:
        self._zone = zone
        self._file = StateFile[dict[str, MonthlyBytes]](
            state / FILE,
            lambda stored: {
                name: MonthlyBytes(str(month), int(used)) for name, (month, used) in stored.items()
            },
            missing=dict,
        )
        self._counters = self._file.load(self._take)
        self._written = 0.0

    def _take(self, stored: dict[str, MonthlyBytes]) -> None:
        for name, counter in self._counters.items():
            before = stored.get(name)
            counter.used += before.used if before and before.month == counter.month else 0
        self._counters = stored | self._counters

    def count(self, recipient: str, number: int, now: float) -> None:
        """Add `number` bytes to a recipient's counter. `now`: Unix seconds."""
        counter = self.of(recipient, now)
        counter.used += number
        if number and abs(now - self._written) >= WRITE_EVERY:
            self.remember(now)

    def of(self, recipient: str, now: float) -> MonthlyBytes:
        """Return the counter of a recipient for this month."""
        month = f"{datetime.fromtimestamp(now, self._zone):%Y-%m}"
        counter = self._counters.setdefault(recipient, MonthlyBytes(month))
        if counter.month != month:
            counter.month, counter.used = month, 0
        return counter

    def share(self, now: float) -> float:
        """Return how much of this month is over, in [0, 1]."""
        here = datetime.fromtimestamp(now, self._zone)
        days = monthrange(here.year, here.month)[1]
        return (here.day - 1 + (here.hour + here.minute / 60) / 24) / days

    def slowed(self, seal: float, recipient: str, allowed: int | None, now: float) -> float:
        """Return the seal interval in seconds, longer while the data run ahead of the budget.

        `allowed`: the budget of a month in bytes; None: there is none.
        """
        if allowed is None:
            return seal
        return budget.slowed(seal, self.of(recipient, now).used, allowed, self.share(now))

    def remember(self, now: float) -> None:
        """Queue the counters to be stored."""
        self._written = now
        stored = {name: [one.month, one.used] for name, one in self._counters.items()}
        self._file.save_later(stored)
