"""The clock periods of a spool: how far slots were closed when each began (rule C2).

A boot or a clock step begins a period. What was closed in one is what lies between its marks and
those of the next; so where a clock turns out to have been wrong, it is known what was.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, NamedTuple

from agent.clock import DRIFT, STEP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.buffer.database import Database
    from agent.clock import Period
    from agent.model import MarkKey

MOST = 16
"""periods that are kept: 5 kB each where there are 500 devices"""


class ClockPeriod(NamedTuple):
    """One period."""

    no: int
    boot: str
    apart: float
    """wall − monotonic"""
    began: float
    """monotonic"""
    wrong: bool
    """proved to have been, and put right"""
    marks: dict[MarkKey, int]
    """the last slot closed of each device and step when it began"""


class Wrong(NamedTuple):
    """What was closed by a wrong clock: the slots after `since` and up to `until`."""

    since: dict[MarkKey, int]
    """a key that is not in here was first closed by the wrong clock"""
    until: dict[MarkKey, int]
    entries: tuple[int, ...] = ()
    """the numbers of the periods"""
    began: int = 0
    """Unix second before which none of it lies; what such a key has earlier is right"""


class Periods:
    """Every change belongs inside a transaction of the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.write(
            "CREATE TABLE IF NOT EXISTS period(no INTEGER PRIMARY KEY, boot TEXT NOT NULL,"
            " apart REAL NOT NULL, began REAL NOT NULL, wrong INTEGER NOT NULL, marks BLOB)"
        )

    def known(self) -> list[ClockPeriod]:
        """Those kept, in order; the last one is the present."""
        rows = self._database.read(
            "SELECT no, boot, apart, began, wrong, marks FROM period ORDER BY no"
        )
        return [
            ClockPeriod(no, boot, apart, began, bool(wrong), _opened(marks))
            for no, boot, apart, began, wrong, marks in rows
        ]

    def continues(self, period: Period) -> bool:
        """Whether it is the one that was entered last."""
        last = self._database.read("SELECT boot, apart FROM period ORDER BY no DESC LIMIT 1")
        return any(
            boot == period.boot and abs(apart - period.apart) <= STEP for boot, apart in last
        )

    def enter(self, period: Period, marks: dict[MarkKey, int]) -> None:
        """Begin a period at these marks; the oldest one is forgotten."""
        self._database.write(
            "INSERT INTO period(boot, apart, began, wrong, marks) VALUES(?,?,?,0,?)",
            period.boot, period.apart, period.began, _packed(marks),
        )  # fmt: skip
        self._database.write(
            "DELETE FROM period WHERE no NOT IN (SELECT no FROM period ORDER BY no DESC LIMIT ?)",
            MOST,
        )

    def put_right(self, numbers: Sequence[int], marks: dict[MarkKey, int]) -> None:
        """These were wrong, and what was closed in them has been taken back: the present period
        begins at these marks.
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
    """What was closed by a wrong clock, if that is proved; the last period is the present. Pure.

    Proof is a step and its reversal within one boot, or that a time service and the platform agree
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
    """The periods that cannot have been right if the last one is, back to the first that can.

    Of this boot those whose clock stood elsewhere; of an earlier one those that closed slots which
    had not come when this boot began, and those of the same boot whose clock stood like theirs.
    """
    now = known[-1]
    contradicted: list[ClockPeriod] = []
    began = min(period.began for period in known if period.boot == now.boot) + now.apart
    for i in range(len(known) - 2, -1, -1):
        period, ended = known[i], known[i + 1].marks
        if period.boot != now.boot:
            early = max(ended.values(), default=0) > began
            if not early and not any(_same(period, other) for other in contradicted):
                return
        contradicted.append(period)
        yield i
