"""What a spool remembers of its slots: clock periods, versions of rows, and the last states."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agent.buffer.keys import SealBroken, SealedTable
from agent.core.clock import DRIFT, STEP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.buffer.database import Database
    from agent.buffer.keys import SpoolKeys
    from agent.buffer.schema import Meta
    from agent.core.clock import Period
    from agent.core.model import MarkKey, Reading, SlotMark, Told

MOST = 16
"""periods that are kept: 5 kB each with 500 devices"""
LAST, HIGHEST = "version", "highest"
"""facts of the spool: the last version given, and the highest slot that was closed when marks were
set back
"""


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


class Versions:
    """Gives each row that needs one its version. Every change belongs inside a transaction."""

    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self.last, self.highest = 0, -1
        self.restore()

    def given(
        self, rows: Sequence[Reading], now: float | None, last: int | None = None
    ) -> tuple[list[Reading], int]:
        """The rows with their versions, and the last version given: `keep` it in their commit.

        A version is the Unix second at which the row was made (`now`, unless the row states it), or
        the last version plus one where that is later. A row needs a version if it was made out of
        schedule, or if its slot is at or below the highest slot that was ever closed.
        """
        last = self.last if last is None else last
        versioned: list[Reading] = []
        taken = _Slots()
        for row in rows:
            if row.ver is None and row.t > self.highest:
                versioned.append(row)
                continue
            made = int(now or 0) if row.ver is None else row.ver
            # One version serves several rows, but never two rows of the same slot.
            if taken.empty or made > last or taken.has(row):
                last, taken = max(made, last + 1), _Slots()
            taken.add(row)
            versioned.append(replace(row, ver=last))
        return versioned, last

    def keep(self, last: int) -> None:
        """Give no version at or below this one from now on."""
        if last != int(self._meta.number(LAST) or 0):  # a commit that failed may have left `last`
            self._meta[LAST] = last
        self.last = last

    def close(self, highest: int) -> None:
        """Slots up to this one were closed: rows for them need versions from now on."""
        self._meta[HIGHEST] = self.highest = max(highest, self.highest)

    def restore(self) -> None:
        """Reload from the disk after a failed transaction."""
        self.last = int(self._meta.number(LAST) or 0)
        self.highest = int(self._meta.number(HIGHEST) or -1)


class _Slots:
    """The slots in the rows of one version."""

    def __init__(self) -> None:
        self._single: dict[tuple[object, ...], set[int]] = {}
        self._runs: dict[tuple[object, ...], list[tuple[int, int]]] = {}

    @property
    def empty(self) -> bool:
        return not self._single and not self._runs

    def add(self, row: Reading) -> None:
        key, first, last = _extent(row)
        if first == last:
            self._single.setdefault(key, set()).add(first)
        else:
            self._runs.setdefault(key, []).append((first, last))

    def has(self, row: Reading) -> bool:
        """Whether one of the row's slots is among them."""
        key, first, last = _extent(row)
        singles = self._single.get(key, set())
        alone = first in singles if first == last else any(first <= t <= last for t in singles)
        return alone or any(a <= last and first <= b for a, b in self._runs.get(key, ()))


def _extent(row: Reading) -> tuple[tuple[object, ...], int, int]:
    of = row.series
    key = (of.place, of.channel, of.kind, of.step)
    return key, row.t, row.t + (row.span - 1) * of.step


class States:
    """The last reports. Every change belongs inside the caller's transaction."""

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        self._database, self._sealer = database, keys.sealer("told")
        database.write(
            "CREATE TABLE IF NOT EXISTS told(device TEXT, step INTEGER, body BLOB NOT NULL,"
            " PRIMARY KEY(device, step)) WITHOUT ROWID"
        )

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable("told", ("device", "step"), "{} {}".format, lambda *_: self._sealer)

    def read(self) -> dict[MarkKey, Told]:
        """The last reports, by device and step. A body that does not open counts as not
        reported.
        """
        states = {}
        for device, step, body in self._database.read("SELECT device, step, body FROM told"):
            try:
                statements = json.loads(self._sealer.unseal(body, f"{device} {step}"))
            except SealBroken:
                continue
            states[device, step] = tuple((name, value) for name, value in statements)
        return states

    def write(self, marks: Mapping[MarkKey, SlotMark]) -> None:
        """Keep the reports of these marks, and no others of their devices."""
        # Compare first: writing unchanged reports would cost a page in every commit.
        before = self.read()
        new = {
            key: mark.states for key, mark in marks.items() if mark.states != before.get(key, ())
        }
        self._database.write_all(
            "INSERT OR REPLACE INTO told VALUES(?,?,?)",
            [
                (*key, self._sealed(key, statements))
                for key, statements in new.items()
                if statements
            ],
        )
        self._database.write_all(
            "DELETE FROM told WHERE device=? AND step=?", [key for key in new if not new[key]]
        )

    def _sealed(self, key: MarkKey, statements: Told) -> bytes:
        return self._sealer.seal(json.dumps(statements).encode(), f"{key[0]} {key[1]}")
