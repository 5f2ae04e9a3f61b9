"""Guards rules G1, G9, M11: a full spool gives up what is worth least, in the stated order, and
says what went, once; never the index of a midnight or a sealed batch.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.buffer.batch import read
from agent.buffer.spool import Spool
from agent.core.errors import SpoolFull
from agent.core.model import Lane, Reading
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import FOREVER, Far, receipt_for, seal_all
from tests.contract.buffer.town import (
    CAP,
    DAY,
    HOME,
    PLANT,
    START,
    fill,
    keys,
    series,
    stated,
    values,
)
from tests.depth import depth

ROUNDS = depth(2, 60)
ROOT = Path(__file__).parents[3]


def test_a_full_spool_gives_up_what_is_worth_least_in_the_stated_order(opened):
    dice = random.Random(1)
    with opened(max_bytes=CAP) as spool:
        fill(spool, range(-1, 0), dice)
        sealed = seal_all(spool, most_bytes=500_000)
        assert spool.waiting(FOREVER) == (0, 0)

        taken = fill(spool, range(18), dice)
        found = stated(spool)
        gone = {key for key, value in found.items() if value is None}
        assert found.keys() == keys(taken)
        assert spool.backlog().shed == len(gone) > 10_000
        # the plant's, but for one value an hour, and no dwelling has lost any
        assert {of.place for of, _ in gone} == {PLANT}
        assert all(t % 3600 for _, t in gone)

        taken += fill(spool, range(18, 50), dice)
        found = stated(spool)
        gone = {key for key, value in found.items() if value is None}
        assert found.keys() == keys(taken)
        assert spool.backlog().shed == len(gone)
        # of dwellings now too, the oldest, but for the index of each midnight
        lost = {t for of, t in gone if of.place == HOME}
        kept = {t for of, t in found.keys() - gone if of.place == HOME and t % DAY}
        assert lost
        assert all(t % DAY for t in lost)
        # a step gives up 1,000 values, which is more than a day of this building
        assert max(lost) < min(kept) + 2 * DAY
        # and while dwellings lose any, the plant has one value a day, but for what came just now
        plant = sorted(t for of, t in found.keys() - gone if of.place == PLANT and t % DAY)
        assert plant[0] > START + 45 * DAY

        assert (spool.backlog().refused, spool.backlog().used <= CAP) == (0, True)
        assert spool.unreceipted() == sealed
    with opened(max_bytes=CAP) as spool:
        assert stated(spool) == found
        assert spool.backlog().shed == len(gone)
        spool.settle(receipt_for(*sealed), 0.0)
        rows = [row for batch in seal_all(spool) for row in read(batch.payload)]
        said = {(row.series, row.t + n * row.series.step) for row in rows for n in range(row.span)}
        assert said == keys(taken)


def test_a_spool_of_nothing_but_indexes_of_midnights_refuses_more(opened):
    with opened(max_bytes=CAP) as spool:
        dice = random.Random(4)
        with pytest.raises(SpoolFull):  # noqa: PT012 -- which of them is the room's affair
            for day in range(10_000):
                first = START + day * DAY
                rows = [
                    row
                    for n in range(300)
                    for row in values(series(HOME, DAY, "REG", number=n), first, 1, dice)
                ]
                spool.append(rows, {})
        assert (spool.backlog().shed, spool.backlog().refused) == (0, 300)


def test_small_blocks_are_joined_but_not_around_a_large_one(opened):
    of, dice = series(PLANT, 60), random.Random(6)
    with opened() as spool:
        first = START
        for slots in (5, 5, 1200, 5, 5):
            spool.append(values(of, first, slots, dice), {})
            first += slots * 60
            spool.tend(0.0, 1e12), spool.tend(0.0, 1e12)
        sizes = "SELECT n FROM block ORDER BY no"
        assert [n for (n,) in spool._database.read(sizes)] == [5, 5, 1200, 5, 5]
        spool._capacity.once(lambda: spool._shedding.step(20_000))
        assert [n for (n,) in spool._database.read(sizes)] == [10, 1200, 10]
        assert spool.backlog().shed == 0
        slots = [row.t for batch in seal_all(spool) for row in read(batch.payload)]
        assert slots == list(range(START, first, 60))


def test_a_block_that_does_not_open_is_counted_and_stops_nothing(opened):
    with opened() as spool:
        fill(spool, range(2), random.Random(5))
        spool.tend(0.0, 1e12)
        with spool._database.transaction():
            spool._database.write(
                "UPDATE block SET body=zeroblob(64) WHERE no=(SELECT min(no) FROM block)"
            )
        while spool._capacity.once(lambda: spool._shedding.step(1_000)):
            pass
        backlog = spool.backlog()
        assert backlog.unreadable
        assert backlog.shed + backlog.unreadable > 3000


def killed(path, first, after):
    """Let a building go on from a day, kill it so long after it said one; the days it said."""
    command = [sys.executable, "-m", "tests.contract.buffer.town", str(path), str(first)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = [child.stdout.readline()]
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    said += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    assert child.returncode == -signal.SIGKILL
    return [int(day) for day in said]


def test_kill_9_while_it_sheds_loses_no_slot_and_states_none_twice(opened, tmp_path):
    with opened(max_bytes=CAP, path=tmp_path / "full.db") as spool:
        fill(spool, range(40), random.Random(9))
        before = spool.backlog().shed
    assert before
    dice = random.Random(10)
    for round_ in range(ROUNDS):
        path = tmp_path / f"{round_}.db"
        shutil.copy(tmp_path / "full.db", path)
        last = max(killed(path, 40, dice.random() / 2))
        with opened(max_bytes=CAP, path=path) as spool:
            found = stated(spool)
            assert spool.set_aside is None
            assert spool.backlog().shed == sum(value is None for value in found.values()) > before
        until = START + (last + 1) * DAY
        plant = {
            (series(PLANT, 300, number=n), t) for n in range(10) for t in range(START, until, 300)
        }
        assert plant <= found.keys()
        kept = [value for (of, t), value in found.items() if of.kind == "REG" and t % DAY == 0]
        assert None not in kept


class Life(RuleBasedStateMachine):
    """Rows come, are sealed, delivered, contradicted, parted and shed in any order."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now, self.t, self.ver = 1e6, START, 0
        self.accepted, self.sealed, self.far = [], [], Far()
        self.open()

    def open(self):
        self.door = Spool.open(Path(self.folder.name) / "spool.db", KEY, HEAD, 20_000_000)
        self.spool = self.door.__enter__()

    @rule(
        place=st.sampled_from((PLANT, HOME, "B6ASQZ1Y2KSAA3Y")),
        kind=st.sampled_from(("REG", "INS")),
        step=st.sampled_from((600, 3600, DAY)),
        slots=st.integers(1, 30),
        missing=st.integers(0, 3),
        late=st.booleans(),
    )
    def append(self, place, kind, step, slots, missing, late):  # noqa: PLR0913, PLR0917 -- draws
        self.t = first = (self.t // DAY + 1) * DAY
        self.t += slots * step
        of = series(place, step, kind, number=self.t % 3)
        rows = values(of, first, slots, random.Random(self.t))
        if missing:
            rows.append(Reading(of, self.t, None, "M", why="silent", span=missing))
            self.t += missing * step
        if late:
            self.ver += 1
            rows += [Reading(of, row.t, row.value, "S", ver=self.ver) for row in rows[:1]]
        self.spool.append(rows, {})
        self.accepted += rows

    @rule(at_once=st.integers(1, 60), steps=st.integers(1, 8))
    def shed(self, at_once, steps):
        for _ in range(steps):
            if not self.spool._capacity.once(lambda: self.spool._shedding.step(at_once)):
                break

    @rule()
    def part(self):
        self.spool.tend(self.now, 1e12)

    @rule(lane=st.sampled_from(Lane), back=st.integers(0, 3), most=st.integers(1, 40))
    def seal(self, lane, back, most):
        batch = self.spool.seal(lane, self.now, "trusted", self.t - back * DAY, most_rows=most)
        if batch:
            self.sealed.append(batch)

    @precondition(lambda self: self.sealed)
    @rule(data=st.data(), heard=st.booleans())
    def arrive(self, data, heard):
        receipt = self.far.store(data.draw(st.sampled_from(self.sealed)))
        if heard:
            self.spool.settle(receipt, self.now)

    @precondition(lambda self: self.spool.unreceipted())
    @rule(data=st.data())
    def contradict(self, data):
        batch = data.draw(st.sampled_from(self.spool.unreceipted()))
        self.far.held[batch.id] = "f" * 64
        self.now += DAY
        self.spool.settle(self.far.store(batch), self.now)

    @rule()
    def restart(self):
        self.door.__exit__(None, None, None)
        self.open()

    @invariant()
    def the_count_of_rows_is_true(self):
        (rows,) = self.spool._database.read("SELECT coalesce(sum(n), 0) FROM block")[0]
        assert self.spool.backlog().rows == rows

    def teardown(self):
        for _ in range(50):
            self.now += DAY
            seal_all(self.spool, Lane.BACKFILL, FOREVER)
            for batch in self.spool.unreceipted():
                self.spool.settle(self.far.store(batch), self.now)
        shed = self.spool.backlog().shed
        self.door.__exit__(None, None, None)
        self.folder.cleanup()
        wanted = {
            (*row.series[:3], row.series.step, row.t + n * row.series.step, row.ver): row
            for row in self.accepted
            for n in range(row.span)
        }
        assert self.far.rows.keys() == wanted.keys()
        assert self.far.twice == []
        lost = 0
        for key, (got, _) in self.far.rows.items():
            row = wanted[key]
            if got.value is None and row.value is not None:
                assert (got.quality, got.why, got.ver) == ("M", "shed", row.ver)
                assert not (row.series.kind == "REG" and row.t % DAY < row.series.step)
                lost += 1
            else:
                assert (got.value, got.quality, got.why) == (row.value, row.quality, row.why)
        assert shed >= lost


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=depth(40, 300),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
