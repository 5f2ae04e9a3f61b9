"""A small building that fills a spool, and a process that does so until it is killed."""

import os
import random
import sys
from decimal import Decimal
from pathlib import Path

from agent.buffer.spool import Spool
from agent.core.model import Reading, Series
from tests.contract.buffer.conftest import HEAD, KEY

CAP = 2 * 1024 * 1024
DAY = 86_400
START = 20_000 * DAY
PLANT, HOME = "CZS2YFSTBQQ5WDC", "D84G7ZWYRD6Z1GQ"


def series(place, step, kind="INS", number=0):
    common = place[0] != "D"
    words = (place, f"elec.{number}", kind, "kWh", step, None)
    return Series(*words, *((None, "common") if common else (f"H{number}", "K1")))


def values(of, first, slots, dice):
    """So many slots of a series, each value its own and long."""
    return [
        Reading(of, first + n * of.step, Decimal(dice.getrandbits(200)), "V") for n in range(slots)
    ]


def a_day(day, dice):
    """What a small building says in a day, six hours at a time."""
    for hours in range(0, 24, 6):
        first = START + day * DAY + hours * 3600
        rows = []
        for n in range(10):
            rows += values(series(PLANT, 300, number=n), first, 72, dice)
        for n in range(20):
            rows += values(series(HOME, 1800, "REG", number=n), first, 12, dice)
            if hours == 0:
                rows += values(series(HOME, DAY, "REG", number=n), first, 1, dice)
        yield rows


def fill(spool, days, dice):
    """Append day by day, with the upkeep of each; everything that was taken."""
    taken = []
    for day in days:
        for rows in a_day(day, dice):
            spool.append(rows, {})
            taken += rows
        spool.tend(0.0, 1e12)
    return taken


def stated(spool):
    """Each slot that waits, with its value or None; none is stated twice."""
    numbers = [no for (no,) in spool._database.read("SELECT no FROM block")]
    found = {}
    for block in spool._pending.opened(numbers)[0]:
        for row in block.rows:
            for n in range(row.span):
                key = (row.series, row.t + n * row.series.step)
                assert key not in found
                found[key] = row.value
    return found


def keys(rows):
    return {(row.series, row.t) for row in rows}


def main(path, first):
    """Go on for ever, saying each day whose rows are all on the disk."""
    dice = random.Random(first)
    with Spool.open(Path(path), KEY, HEAD, CAP) as spool:
        for day in range(int(first), 100_000):
            fill(spool, [day], dice)
            os.write(1, f"{day}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
