"""The file of the small history: what it keeps, for how long, and what no fault may do to it."""

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.acquisition.timetable import running_slot
from agent.buffer import history_store
from agent.buffer.history_store import (
    AMOUNT,
    DAY,
    GAUGE,
    QUARTER,
    REGISTER,
    HistoryStore,
    SeriesName,
    SlotValue,
)
from agent.core.errors import SpoolFull
from bench.history import measured
from tests.contract.buffer.conftest import KEY
from tests.contract.buffer.test_full_disk import hog

ROOT = Path(__file__).parents[3]
PARIS = ZoneInfo("Europe/Paris")
DAY_OF = partial(running_slot, DAY, zone=PARIS)
TEMP = SeriesName("boiler", "supply", "temp", "Cel", GAUGE)
INDEX = SeriesName("meter", "imp", "elec.imp", "kWh", REGISTER, "KAM-1")
SENT = SeriesName("@gateway", "sent/centre", None, "B", AMOUNT)
NOON = DAY_OF(1_790_000_000)
"""a midnight in Paris"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.db"


def opened(path, **options):
    return HistoryStore.open(path, KEY, **options)


def slots(name, begin, values):
    return [SlotValue(name, begin + (n + 1) * QUARTER, v) for n, v in enumerate(values)]


def number(store, name):
    return next(kept.number for kept in store.series if kept.name == name)


def a_day(store, day=NOON, names=(TEMP,), last=None):
    """A whole local day of each series, closed."""
    for n, name in enumerate(names):
        end = DAY_OF(day + 26 * 3600) if last is None else last
        times = range(day + QUARTER, end + 1, QUARTER)
        store.append([SlotValue(name, t, (float(n + t % 7),)) for t in times])
    return store.close_days(DAY_OF, DAY_OF(day + 26 * 3600))


def test_a_day_is_kept_by_quarter_and_as_one_value(path):
    with opened(path) as store:
        store.append(slots(TEMP, NOON, [(20.0,), (18.0, 19.5, 22.0)]))
        store.append(slots(INDEX, NOON, [(100.0,), (100.5,)]) + slots(SENT, NOON, [(7.0,), (3.0,)]))
        assert store.close_days(DAY_OF, NOON + DAY - 1) == 0, "it is not over"
        assert store.close_days(DAY_OF, NOON + DAY) == 1
        for when in ("open", "again"):
            gauge, index, sent = (number(store, name) for name in (TEMP, INDEX, SENT))
            fine = {NOON + QUARTER: (20.0,), NOON + 2 * QUARTER: (18.0, 19.5, 22.0)}
            assert store.quarters(gauge, NOON, NOON + DAY) == fine, when
            assert store.days(gauge, NOON, NOON + 1) == {NOON: (18.0, 19.75, 22.0)}
            assert store.days(index, NOON, NOON + 1) == {NOON: (100.5,)}
            assert store.days(sent, NOON, NOON + 1) == {NOON: (10.0,)}
            assert store.span(gauge) == (NOON, NOON + 2 * QUARTER)


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_day_of_23_or_25_hours_has_all_its_quarters(path, day):
    import datetime as dt

    begin = int(dt.datetime.fromisoformat(day).replace(tzinfo=PARIS).timestamp())
    end = DAY_OF(begin + 26 * 3600)
    with opened(path) as store:
        assert a_day(store, begin) == 1
        assert len(store.quarters(number(store, TEMP), begin, end)) == (end - begin) // QUARTER
        assert (end - begin) // QUARTER in {92, 100}
        assert list(store.days(number(store, TEMP), 0, 2**40)) == [begin]


def test_the_first_value_of_a_slot_stays_also_after_its_day_was_closed(path):
    """Rule L7."""
    with opened(path) as store:
        store.append(slots(TEMP, NOON, [(20.0,)]))
        store.append(slots(TEMP, NOON, [(99.0,)]))
        store.close_days(DAY_OF, NOON + DAY)
        store.append(slots(TEMP, NOON, [(98.0,), (21.0,)]))  # late: the second one was missing
        late = {NOON + QUARTER: (20.0,), NOON + 2 * QUARTER: (21.0,)}
        assert store.quarters(number(store, TEMP), NOON, NOON + DAY) == late
        store.close_days(DAY_OF, NOON + DAY)
        assert store.quarters(number(store, TEMP), NOON, NOON + DAY) == late
        assert store.days(number(store, TEMP), 0, 2**40) == {NOON: (20.0, 20.5, 21.0)}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 4 * 96), st.integers(0, 1), st.integers(-9, 9)),
        st.tuples(st.just("close"), st.integers(0, 4)),
        st.tuples(st.just("open")),
        st.tuples(st.just("erase"), st.integers(0, 1)),
    ),
    max_size=30,
)


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_whatever_the_order_of_writing_closing_and_opening_the_rows_are_those_of_a_table(
    tmp_path_factory, steps
):
    path = tmp_path_factory.mktemp("model") / "history.db"
    names, model = (TEMP, INDEX), {0: {}, 1: {}}
    manager = opened(path)
    store = manager.__enter__()
    for step, *args in steps:
        if step == "put":
            slot, which, value = args
            store.append([SlotValue(names[which], NOON + slot * QUARTER, (float(value),))])
            model[which].setdefault(NOON + slot * QUARTER, (float(value),))
        elif step == "close":
            store.close_days(DAY_OF, NOON + args[0] * DAY)
        elif step == "erase":
            store.erase([kept.number for kept in store.series if kept.name == names[args[0]]])
            model[args[0]] = {}
        else:
            manager.__exit__(None, None, None)
            manager = opened(path)
            store = manager.__enter__()
    numbers = {kept.name: kept.number for kept in store.series}
    for which, name in enumerate(names):
        rows = store.quarters(numbers[name], 0, 2**40) if name in numbers else {}
        assert rows == dict(sorted(model[which].items()))
    manager.__exit__(None, None, None)


def test_what_is_erased_is_in_no_file_any_more(path):
    """Rule L2."""
    with opened(path) as store:
        a_day(store, names=(TEMP, INDEX))
        store.append(slots(TEMP, NOON + DAY, [(20.0,)]) + slots(INDEX, NOON + DAY, [(7.0,)]))
        gone = number(store, TEMP)
        database = store._database
        bodies = [
            body
            for table, column in (("series", "no"), ("fine", "series"), ("daily", "series"))
            for (body,) in database.read(f"SELECT body FROM {table} WHERE {column}=?", gone)
        ] + [body for (body,) in database.read("SELECT body FROM recent")]
        store.erase([gone])
        assert [kept.name for kept in store.series] == [INDEX]
        assert len(store.quarters(number(store, INDEX), 0, 2**40)) == 97, "the other one stays"
        on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert len(bodies) == 4
        assert not any(body[:16] in on_disk or body[-16:] in on_disk for body in bodies)
    assert not any(body[-16:] in file.read_bytes() for file in path.parent.iterdir()
                   for body in bodies)  # fmt: skip


def test_without_the_key_nothing_can_be_read_and_a_rotation_takes_everything_along(path):
    """Rule L4."""
    new = b"n" * 32
    with opened(path) as store:
        a_day(store, names=(TEMP, INDEX))
        store.append(slots(TEMP, NOON + DAY, [(20.0,)]))
        whole = store.quarters(number(store, TEMP), 0, 2**40)
    on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert not any(text in on_disk for text in (b"boiler", b"supply", b"KAM-1"))
    with opened(path) as store:
        store.rekey(new)
        while store.rekey_step():
            pass
    with HistoryStore.open(path, new) as store:
        assert store.quarters(number(store, TEMP), 0, 2**40) == whole
        assert len(store.days(number(store, INDEX), 0, 2**40)) == 1
    with pytest.raises(Exception, match="another key"), opened(path):
        pass


def test_a_rotation_that_a_kill_interrupts_goes_on(path):
    new = b"n" * 32
    with opened(path) as store:
        a_day(store)
        whole = store.quarters(number(store, TEMP), 0, 2**40)
        store.rekey(new)
        store.rekey_step()
    with HistoryStore.open(path, new, before=KEY) as store:
        assert store.quarters(number(store, TEMP), 0, 2**40) == whole
        while store.rekey_step():
            pass
    with HistoryStore.open(path, new) as store:
        assert store.quarters(number(store, TEMP), 0, 2**40) == whole


def test_a_file_under_another_key_is_as_good_as_empty_and_is_used_again(path):
    with opened(path) as store:
        a_day(store)
    with HistoryStore.open(path, b"x" * 32) as store:
        assert store.series == []
        store.append(slots(TEMP, NOON, [(1.0,)]))
        assert len(store.quarters(number(store, TEMP), 0, 2**40)) == 1


@pytest.mark.parametrize("table", ["fine", "recent", "daily", "series"])
def test_a_body_that_does_not_open_costs_the_values_in_it(path, table):
    """Rule L6."""
    with opened(path) as store:
        a_day(store, NOON)
        a_day(store, DAY_OF(NOON + 26 * 3600))
        store.append(slots(TEMP, NOON + 3 * DAY, [(20.0,)]))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE {table} SET body=zeroblob(50) WHERE rowid=1" if table in
                   {"recent", "series"} else
                   f"UPDATE {table} SET body=zeroblob(50) WHERE day={NOON}")  # fmt: skip
    with opened(path) as store:
        if table == "series":
            assert store.series == [], "nobody could say what these values are of"
            assert store._database.scalar("SELECT count(*) FROM fine") == 0
        else:
            of = number(store, TEMP)
            counted = len(store.quarters(of, 0, 2**40)), len(store.days(of, 0, 2**40))
            assert counted == {"fine": (97, 2), "recent": (192, 2), "daily": (193, 1)}[table]
        store.append(slots(TEMP, NOON + 4 * DAY, [(20.0,)]))
        store.close_days(DAY_OF, NOON + 9 * DAY)


def test_a_file_that_sqlite_cannot_read_is_set_aside_and_a_new_one_begun(path):
    """Rule L6."""
    with opened(path) as store:
        a_day(store)
    size = path.stat().st_size
    path.write_bytes(b"SQLite format 3\0" + random.Random(1).randbytes(size - 16))
    with opened(path) as store:
        assert store.series == []
        store.append(slots(TEMP, NOON, [(1.0,)]))
    assert path.with_name("history.db.damaged").exists()


def test_what_is_too_old_goes_and_so_does_what_a_wrong_clock_has_dated(path):
    """Rules L3, L7."""
    with opened(path) as store:
        days = [DAY_OF(NOON + n * DAY + 7200) for n in (0, 300, 380, 396)]
        for day in days:
            a_day(store, day)
        now = days[-1] + DAY
        store.append(slots(TEMP, now, [(1.0,), (2.0,), (3.0,)]))
        store.expire(now)
        of = number(store, TEMP)
        assert {DAY_OF(t - 1) for t in store.quarters(of, 0, now)} == set(days[2:])
        assert list(store.days(of, 0, 2**40)) == days[1:]
        assert store.drop_after(days[2] + DAY)
        assert list(store.days(of, 0, 2**40)) == days[1:3]
        assert max(store.quarters(of, 0, 2**40)) == days[2] + DAY
        assert not store.drop_after(days[2] + DAY)


def test_a_day_that_a_wrong_clock_closed_too_early_keeps_what_is_true(path):
    """Rule L7."""
    with opened(path) as store:
        a_day(store, names=(TEMP, INDEX))
        now = NOON + 40 * QUARTER
        assert store.drop_after(now)
        for name in (TEMP, INDEX):
            assert len(store.quarters(number(store, name), 0, 2**40)) == 41
            assert list(store.days(number(store, name), 0, 2**40)) == [NOON]
        true = [SlotValue(TEMP, t, (99.0,)) for t in range(now, NOON + DAY + 1, QUARTER)]
        store.append(true)
        store.close_days(DAY_OF, NOON + DAY)
        rows = store.quarters(number(store, TEMP), 0, 2**40)
        assert len(rows) == 96
        assert rows[NOON + DAY] == (99.0,)
        assert store.days(number(store, TEMP), 0, 2**40)[NOON][2] == 99.0


def test_the_file_stays_below_its_bound_and_the_oldest_day_goes_first(path):
    """Rule L3."""
    cap, dice = 700_000, random.Random(3)
    names = [TEMP._replace(point=f"p{n}") for n in range(30)]
    with opened(path, max_bytes=cap) as store:
        for day in range(12):
            begin = NOON + day * DAY
            times = range(begin + QUARTER, begin + DAY + 1, QUARTER)
            store.append([SlotValue(name, t, (dice.random(), dice.random(), dice.random()))
                          for name in names for t in times])  # fmt: skip
            store.close_days(lambda t: NOON + (t - NOON) // DAY * DAY, begin + DAY)
        of = number(store, names[0])
        days = sorted({(t - NOON - 1) // DAY for t in store.quarters(of, 0, 2**40)})
        assert days == list(range(days[0], 12)), "what is left are the latest days"
        assert 3 < len(days) < 12
        assert len(store.days(of, 0, 2**40)) == 12, "quarters go before days"
        assert path.stat().st_size <= cap


def test_there_are_at_most_so_many_series(path):
    """Rule L3."""
    most = history_store.MOST_SERIES
    many = [SlotValue(TEMP._replace(point=f"p{n}"), NOON, (1.0,)) for n in range(most + 7)]
    with opened(path) as store:
        assert store.append(many) == 7
        assert len(store.series) == most
        store.erase([store.series[0].number])
        assert store.append(many[-1:]) == 0, "one that goes makes room"


def test_on_a_full_disk_the_latest_values_stay_and_nothing_breaks(small_disk):
    """Rule L6."""
    dice, name = random.Random(5), TEMP._replace(point="p1")
    with opened(small_disk / "history.db") as store:
        a_day(store, names=[TEMP._replace(point=f"p{n}") for n in range(40)])
        hog(small_disk)
        taken = 0

        def fill():
            nonlocal taken
            for n in range(600):
                values = [(dice.random(), dice.random(), dice.random()) for _ in range(40)]
                store.append(slots(name, NOON + DAY + n * 40 * QUARTER, values))
                taken += 40

        with pytest.raises(SpoolFull):
            fill()
        assert len(store.quarters(number(store, name), NOON + DAY, 2**40)) == taken > 1_000
        assert store._database.scalar("SELECT count(*) FROM fine") == 0, "the oldest day went"
        (small_disk / "hog").unlink()
        store.append(slots(name, NOON + 900 * DAY, [(1.0,)]))
        assert store.close_days(DAY_OF, NOON + 999 * DAY) > 10


KILLS = (5, 31, 33, 90)
CHILD = """
import os, signal, sys
from tests.contract.buffer.test_history_store import *
for writes in KILLS:
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        continue
    folder = Path(sys.argv[1]) / str(writes)
    folder.mkdir()
    with opened(folder / "history.db") as store, (folder / "done").open("wb", 0) as done:
        database, write, left = store._database, store._database.write, writes
        def counted(*args):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*args)
        database.write = counted
        for n in range(400):
            values = [(float(n),)] * 4
            begin = NOON + n * 4 * QUARTER
            store.append(slots(TEMP, begin, values) + slots(INDEX, begin, values))
            done.write(b".")
            store.close_days(DAY_OF, NOON + n * 3600)
"""


def test_what_was_committed_survives_a_kill_at_any_write(tmp_path):
    """Rule L6."""
    subprocess.run([sys.executable, "-c", CHILD, tmp_path], cwd=ROOT, check=True)
    for writes in KILLS:
        acknowledged = (tmp_path / str(writes) / "done").stat().st_size
        expected = {
            NOON + (4 * n + k + 1) * QUARTER: (float(n),)
            for n in range(acknowledged) for k in range(4)
        }  # fmt: skip
        with opened(tmp_path / str(writes) / "history.db") as store:
            for _ in "12":  # also once the interrupted closing was made again
                numbers = [number(store, name) for name in (TEMP, INDEX)] if acknowledged else []
                assert [store.quarters(no, 0, 2**40) for no in numbers] == [expected] * len(numbers)
                store.close_days(DAY_OF, NOON + acknowledged * 3600)


def test_a_day_writes_less_than_a_megabyte_to_the_flash(tmp_path):
    """Rule L5."""
    first, second = measured(tmp_path, 2)
    assert 50_000 < second < 1_000_000
    assert first < 1_100_000, "the first day also makes the file"
