"""MDP-1 checked from outside: written from the rules alone, knowing only the world and the rows.

It imports nothing of the agent. Every expected slot of every series must be stated once by its
highest version, by a value that the meter had at the time the row says, or by a reason that held.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import defaultdict
from decimal import Decimal
from typing import NamedTuple

LETTERS_WITH_VALUE = set("VRSK")


class Row(NamedTuple):
    place: str
    kind: str
    step: int
    t: int
    v: str | None
    q: str
    d: int
    why: str | None
    span: int
    ver: int
    flags: str


def rows_of(path):
    columns = ",".join(Row._fields)
    db = sqlite3.connect(path)
    rows = [Row(*row) for row in db.execute(f"SELECT {columns} FROM row")]
    tally = dict(db.execute("SELECT what, n FROM tally"))
    db.close()
    assert not tally.get("alarms"), tally
    return rows


def by_slot(rows):
    """(place, kind, step) -> slot -> the row that counts; no slot is stated twice in a version."""
    held, seen = defaultdict(dict), set()
    for row in rows:
        for n in range(row.span):
            slot, series = row.t + n * row.step, (row.place, row.kind, row.step)
            assert (series, slot, row.ver) not in seen, f"stated twice: {series} {slot}"
            seen.add((series, slot, row.ver))
            best = held[series].get(slot)
            if best is None or row.ver > best.ver:
                held[series][slot] = row
    return held


def check_slots(held, series, slots):
    """Nothing is left out and nothing comes that nobody is owed."""
    assert sorted(held[series]) == list(slots), series


def check_index(row, slot, meter, rate, *, own_clock_wrong=False):
    """A value is the meter's own at the slot and `d` seconds, or there is a reason."""
    assert (row.v is None) == (row.q == "M"), row
    assert (row.why is None) == (row.q != "M"), row
    if row.v is None:
        assert not row.flags, row
        return
    assert row.q in LETTERS_WITH_VALUE - {"K"}, row
    assert 0 <= row.d < row.step + 3600, row
    told = {meter.index(slot + row.d), meter.index(slot + row.d + 1)}
    assert Decimal(row.v) in told, f"misdated: {row} not in {told} at {rate}"
    assert ("PART" in row.flags.split("+")) == (row.d > row.step / 4), row
    if row.ver >= 0 or not own_clock_wrong:
        assert ("CLK" in row.flags or "LATE" in row.flags) == (row.ver >= 0), row


def check_momentary(row, slot, sensor):
    """What a sensor said between the slot and the end of it, to the digit, or a reason."""
    assert (row.v is None) == (row.q == "M") == (row.why is not None), row
    if row.v is not None:
        assert row.v in {str(sensor.index(slot + row.d + n)) for n in (0, 1)}, row
        assert (row.q == "S") == ("RNG" in row.flags or "SPK" in row.flags), row


def check_state(rows, slots, sensor):
    """The row in force says of each slot what the sensor was within it, or a reason; and a row
    comes only where something is new.
    """
    told = sorted(rows.items())
    assert all(row.span == 1 for _, row in told)
    news = [(row.v, row.why) for _, row in told]
    assert all(one != other for one, other in itertools.pairwise(news)), news
    assert told[0][0] == slots[0]
    for slot in slots:
        row = next(row for t, row in reversed(told) if t <= slot)
        assert (row.v is None) == (row.q == "M") == (row.why is not None), row
        seen = {str(sensor.index(slot + n)) for n in range(slots.step)}
        assert row.v is None or row.v in seen, (slot, row)


def check_interval(row, before, now, end):
    """An interval is the difference of two indexes that follow each other, or it is missing."""
    if row.v is None:
        assert row.why, row
        return
    assert row.q == "K", row
    assert before is not None, row
    assert before.q in "VR", row
    assert now.q in "VR", row
    delta = Decimal(now.v) - Decimal(before.v)
    if "ROLL" in now.flags:
        assert "ROLL" in row.flags, row
        delta += end
    assert Decimal(row.v) == delta, row
