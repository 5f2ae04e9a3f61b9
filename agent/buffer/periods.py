"""The clock periods of a spool: how far slots were closed when each period began (rule C2).

A boot or a clock step begins a period. The slots between its marks and those of the next period
were closed in it. So if a clock turns out to have been wrong, the slots that it closed are known.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, NamedTuple

from agent.core.clock import DRIFT, STEP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.buffer.database import Database
    from agent.core.clock import Period
    from agent.core.model import MarkKey

MOST = 16
"""periods that are kept: 5 kB each with 500 devices"""


class ClockPeriod(NamedTuple):
    """One clock period."""

    no: int
    boot: str
    apart: float
    """wall time minus monotonic time, seconds"""
    began: float
    """monotonic time"""
    wrong: bool
    """whether its clock was proved wrong and its slots were retracted"""
    marks: dict[MarkKey, int]
    """the last closed slot of each device and step at its beginning"""


class Wrong(NamedTuple):
    """The slots that a wrong clock closed: those after `since` and up to `until`."""

    since: dict[MarkKey, int]
    """a key that is missing here was first closed by the wrong clock"""
    until: dict[MarkKey, int]
    entries: tuple[int, ...] = ()
    """the numbers of the periods"""
    began: int = 0
    """Unix second before which no such slot lies; earlier rows of a missing key are right"""


class Periods:
    """The stored periods. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.write(
            "CREATE TABLE IF NOT EXISTS period(no INTEGER PRIMARY KEY, boot TEXT NOT NULL,"
            " apart REAL NOT NULL, began REAL NOT NULL, wrong INTEGER NOT NULL, marks BLOB)"
        )

    def known(self) -> list[ClockPeriod]:
        """The stored periods in order; the last one is the present period."""
        rows = self._database.read(
            "SELECT no, boot, apart, began, wrong, marks FROM period ORDER BY no"
        )
        return [
            ClockPeriod(no, boot, apart, began, bool(wrong), _opened(marks))
            for no, boot, apart, began, wrong, marks in rows
        ]

    def continues(self, period: Period) -> bool:
        """Whether this is the period that was entered last."""
        last = self._database.read("SELECT boot, apart FROM period ORDER BY no DESC LIMIT 1")
        return any(
            # A restart of the agent within one boot continues its period.
            boot == period.boot and abs(apart - period.apart) <= STEP
            for boot, apart in last
        )

    def enter(self, period: Period, marks: dict[MarkKey, int]) -> None:
        """Begin a period at these marks, and forget the oldest one."""
        self._database.write(
            "INSERT INTO period(boot, apart, began, wrong, marks) VALUES(?,?,?,0,?)",
            period.boot, period.apart, period.began, _packed(marks),
        )  # fmt: skip
        self._database.write(
            "DELETE FROM period WHERE no NOT IN (SELECT no FROM period ORDER BY no DESC LIMIT ?)",
            MOST,
        )

    def put_right(self, numbers: Sequence[int], marks: dict[MarkKey, int]) -> None:
        """Mark these periods as wrong, after their slots were retracted: the present period begins
        at these marks.
        """
        self._database.write_all(
            "UPDATE period SET wrong=1 WHERE no=?", [(number,) for number in numbers]
        )
        self._database.write(
            "UPDATE period SET marks=? WHERE no=(SELECT max(no) FROM period)", _packed(marks)
        )


def _packed(marks: dict[MarkKey, int]) -> bytes:
    return zlib.compress(json.dumps([[*key, slot] for key, slot in marks.items()]).encode())


def _opened(packed: bytes) -> dict[MarkKey, int]:
    return {(device, step): slot for device, step, slot in json.loads(zlib.decompress(packed))}


def wrong(known: Sequence[ClockPeriod], *, agreed: bool) -> Wrong | None:
    """The slots that a wrong clock closed, if that is proved; the last period is the present one.
    Pure.

    Proof is a step and its reversal within one boot, or a time service and the platform that agree
    on the time of the present period (`agreed`).
    """
    if not known:
        return None
    now, before = known[-1], known[:-1]
    anchors = [i for i, period in enumerate(before) if not period.wrong and _same(period, now)]
    if anchors:
        first = anchors[-1] + 1
    elif agreed:
        first = min(_contradicted(known), default=len(before))
    else:
        return None
    taken = [period for period in before[first:] if not period.wrong]
    if not taken:
        return None
    began = int(min(period.began + period.apart for period in (*taken, now)))
    return Wrong(taken[0].marks, now.marks, tuple(period.no for period in taken), began)


def _same(first: ClockPeriod, second: ClockPeriod) -> bool:
    return first.boot == second.boot and abs(first.apart - second.apart) <= DRIFT


def _contradicted(known: Sequence[ClockPeriod]) -> Iterator[int]:
    """The periods that cannot be right if the last one is right, back to the first that can be.

    Of the present boot: those with another wall clock. Of an earlier boot: those that closed slots
    which lay in the future when the present boot began, and others of the same boot with the same
    clock.
    """
    now = known[-1]
    contradicted: list[ClockPeriod] = []
    # The begin of this boot in the present wall time, which is assumed to be right.
    began = min(period.began for period in known if period.boot == now.boot) + now.apart
    for i in range(len(known) - 2, -1, -1):
        period, ended = known[i], known[i + 1].marks
        if period.boot != now.boot:
            early = max(ended.values(), default=0) > began
            if not early and not any(_same(period, other) for other in contradicted):
                return
        contradicted.append(period)
        yield i
