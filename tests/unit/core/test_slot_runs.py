"""Runs count slots as a set of slots does."""

from hypothesis import given
from hypothesis import strategies as st

from agent.core.slot_runs import MOST_RUNS, SPARE, SlotRun, joined, remaining
from tests.depth import examples

STEP = 10
versions = st.sampled_from([0, 0, 5, 7])
meters = st.sampled_from(["", "a", "b"])
earlier = st.sampled_from([0, 0, 1])  # seconds by which a quantity over a period counts earlier
rows = st.tuples(st.integers(0, 40), st.integers(1, 5), versions, meters, earlier)
lists = st.lists(rows, max_size=12)
spans = st.tuples(
    st.integers(-20, 420), st.none() | st.integers(0, 420), st.sampled_from([4, 5, 9]),
    st.sampled_from([None, "a"]),
)  # fmt: skip


def run(first, slots, ver, meter, before=0):
    at = first * STEP - before
    return SlotRun("V", at, at + (slots - 1) * STEP, STEP, slots, ver, meter)


def slots_of(rows):
    return {
        (at * STEP - before, ver, meter)
        for first, slots, ver, meter, before in rows
        for at in range(first, first + slots)
    }


@examples(100, 3000)
@given(lists, lists, st.lists(spans, max_size=3))
def test_they_count_as_sets_of_slots_do(known, new, erased):
    runs = joined(joined((), [run(*row) for row in known]), [run(*row) for row in new])
    slots = slots_of([*known, *new])
    assert sum(one.slots for one in runs) == len(slots)
    left = [
        (at, ver, meter)
        for at, ver, meter in slots
        if not any(
            since <= at and (until is None or at < until) and ver <= highest and of in (None, meter)
            for since, until, highest, of in erased
        )
    ]
    assert remaining(runs, erased) == (len(left), len(left))


def test_the_consumptions_of_a_series_do_not_break_the_runs_of_its_indexes():
    """Rule P18."""
    indexes = [run(number, 1, 0, "a") for number in range(1000)]
    consumptions = [run(number, 1, 0, "a", 1) for number in range(1000)]
    rows_of = [row for both in zip(indexes, consumptions, strict=True) for row in both]
    assert joined((), rows_of) == [run(0, 1000, 0, "a"), run(0, 1000, 0, "a", 1)]
    assert len(joined([run(0, 1000, 0, "a")], consumptions)) == 2


def test_of_many_gaps_the_oldest_are_joined_and_the_number_stays():
    """Rules P18, P28."""
    runs = []
    for number in range(1000):
        runs = joined(runs, [run(2 * number, 1, 0, "a")])
    assert len(runs) <= MOST_RUNS + SPARE
    assert sum(one.slots for one in runs) == 1000
    assert remaining(runs, [(0, None, 1, None)]) == (0, 0)
    # what lies in the recent part is exact, what cuts the old one is not
    assert remaining(runs, [(1990 * STEP, None, 1, None)]) == (995, 995)
    least, most = remaining(runs, [(100 * STEP, None, 1, None)])
    assert least <= 50 <= most


def test_versions_and_meters_without_end_are_bounded_too():
    runs = []
    for number in range(1, 1000):
        runs = joined(runs, [run(2 * number, 1, number, str(number))])
    assert len(runs) <= MOST_RUNS + SPARE
    assert sum(one.slots for one in runs) == 999
