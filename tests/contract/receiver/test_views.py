"""The questions that docs/receiver.md answers in SQL, on both databases."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.contract.receiver.batches import batch, moment, retraction, second, series
from tests.contract.receiver.owed import owed

PARIS = ZoneInfo("Europe/Paris")
HOUR = 3_600


def midnight(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=PARIS).timestamp())


def hours(first, last):
    return list(range(midnight(first), midnight(last) + 1, HOUR))


def directory(*places, bases=(), listed=()):
    return {
        "zone": [{"timezone": "Europe/Paris"}],
        "places": [{"id": one, "type": "dwelling", "label": f"label {one}"} for one in places],
        "bases": list(bases),
        "series": list(listed),
    }


@pytest.fixture
def take(store):
    """Take a batch with these series; the first has the directory."""
    number = iter(range(1, 100))
    store.take(batch(next(number), directory=directory("D1", "D2")))

    def taken(*of, **more):
        return store.take(batch(next(number), series=list(of), **more))

    taken.store = store
    return taken


def consumption(take, view, name, *columns):
    wanted = ", ".join(("amount", "q", "complete", "hours", "breaks", *columns))
    key = "day" if view == "daily" else "month"
    rows = take.store.execute(
        f"SELECT {wanted} FROM {view} WHERE {key} = ? AND place = 'D1'", (name,)
    )
    return [
        (round(float(amount), 6), q, bool(complete), *others)
        for amount, q, complete, *others in rows
    ]


def index(slots, values, **more):
    return series("D1", slots, values, step=HOUR, **more)


@pytest.mark.parametrize(
    ("day", "after", "length"),
    [
        ("2026-03-29", "2026-03-30", 23),
        ("2026-10-25", "2026-10-26", 25),
        ("2026-06-01", "2026-06-02", 24),
    ],
)
def test_a_day_is_from_midnight_to_midnight_however_long_it_is(take, day, after, length):
    slots = hours(day, after)
    take(index(slots, [100 + n / 4 for n in range(len(slots))]))
    assert len(slots) == length + 1
    assert consumption(take, "daily", day) == [(length / 4, "V", True, length, 0)]


def test_a_month_needs_its_two_midnights_only(take):
    ends = [midnight("2026-03-01"), midnight("2026-03-17"), midnight("2026-04-01")]
    take(index(ends, [10, 30, 70]))
    assert consumption(take, "monthly", "2026-03") == [(60.0, "V", True, 743, 0)]


def test_the_highest_version_counts(take):
    ends = [midnight("2026-06-01"), midnight("2026-06-02")]
    take(index(ends, [10, 30]))
    take(index([ends[1]], [28], ver={"0": 2_000}, q="C"))
    take(index([ends[1]], [33], ver={"0": 1_000}))
    assert consumption(take, "daily", "2026-06-01") == [(18.0, "C", True, 24, 0)]


def test_a_missing_midnight_makes_a_day_incomplete(take):
    slots = hours("2026-06-01", "2026-06-02")
    take(index(slots, [None, *range(1, 25)]))
    assert consumption(take, "daily", "2026-06-01") == [(23.0, "V", False, 24, 0)]


def test_a_roll_over_adds_the_next_power_of_ten(take):
    slots = hours("2026-06-01", "2026-06-02")
    values = [99_990 + n for n in range(10)] + [n - 10 for n in range(10, 25)]
    take(index(slots, values, flags={"10": "ROLL"}))
    assert consumption(take, "daily", "2026-06-01") == [(24.0, "V", True, 24, 0)]


@pytest.mark.parametrize("of", ["meter", "series"])
def test_a_roll_over_adds_the_reported_modulus(take, of):
    """Rule R15: this counter has five digits though its index has four."""
    slots = hours("2026-06-01", "2026-06-02")
    take(index(slots, [99_998, 3, *range(4, 27)], flags={"1": "ROLL"}))
    assert consumption(take, "daily", "2026-06-01")[0][0] == 28.0
    item = {"id": "I1", "place": "D1", "meter": "M1", "since": moment(0)}
    told = {"installations": [item | {"modulus": {"elec.imp": "250000", "heat": "1"}}]}
    if of == "series":
        told = {"series": [owed_series(0) | {"modulus": "250000"}]}
    take(directory=told)
    assert consumption(take, "daily", "2026-06-01")[0][0] == 150_028.0


@pytest.mark.parametrize("flags", [{"0": "EXCH"}, {}])
def test_indexes_of_two_meters_are_never_subtracted(take, flags):
    slots = hours("2026-06-01", "2026-06-02")
    take(index(slots[:12], [500 + n for n in range(12)]))
    take(index(slots[12:], [1_000 + n - 12 for n in range(12, 25)], meter="M2", flags=flags))
    assert consumption(take, "daily", "2026-06-01") == [(23.0, "V", False, 24, 1)]
    later = hours("2026-06-02", "2026-06-03")[1:]
    take(index(later, [1_020 + n for n in range(24)], meter="M2"))
    assert consumption(take, "daily", "2026-06-02") == [(31.0, "V", True, 24, 0)]


def exchange(at, value, meter):
    """The last index of a meter, or the first of the next one (rule R14)."""
    flags = {"0": "EXCH+MAN"}
    return series("D1", [at], [value], step=0, meter=meter, flags=flags, q="R", ver={"0": 7})


@pytest.mark.parametrize("at", ["2026-06-01T11:20", "2026-06-01T12:00", "2026-06-02"])
def test_across_an_exchange_the_old_meter_counts_to_its_last_index_the_new_one_from_its_first(
    take, at
):
    """Rule R14, also at a slot and at midnight, and for a coarser series of the same dwelling."""
    at = midnight(at)
    slots = hours("2026-06-01", "2026-06-03")
    old = [slot for slot in slots if slot < at]
    new = [slot for slot in slots if slot >= at]
    take(index(old, [500 + n for n in range(len(old))]))
    take(index(new, [7 + n for n in range(len(new))], meter="M2", flags={"0": "EXCH"}))
    take(series("D1", [slots[0]], [500], step=86_400))
    take(series("D1", [slots[24]], [7 + 24 - len(old)], step=86_400, meter="M2"))
    assert consumption(take, "daily", "2026-06-01")[0][-1] == 1
    take(exchange(at - 1, 500 + len(old) - 0.5, "M1"))
    assert consumption(take, "daily", "2026-06-01")[0][-1] == 1  # the first one is not known yet
    take(exchange(at, 6, "M2"))
    # half a unit up to the last index, one from the first one of the new meter to its next one
    assert consumption(take, "daily", "2026-06-01") == [(24.5, "R", True, 24, 0)]
    next_day = consumption(take, "daily", "2026-06-02")
    assert [(amount, *others) for amount, _, *others in next_day] == [(24.0, True, 24, 0)]
    amounts = take.store.execute(
        "SELECT amount FROM series_consumption WHERE name = '2026-06-01' ORDER BY step"
    )
    assert [float(amount) for (amount,) in amounts.fetchall()] == [24.5, 24.5]
    # a corrected last index is a higher version
    take(exchange(at - 1, 500 + len(old), "M1") | {"ver": {"0": 8}})
    assert consumption(take, "daily", "2026-06-01")[0][0] == 25.0


def test_a_withdrawal_erases_the_indexes_at_an_exchange(take):
    at = midnight("2026-06-01T11:20")
    take(exchange(at - 1, 5, "M1"), exchange(at, 6, "M2"))
    take(retract=[retraction("R1", "D1", basis="K1")])
    assert take.store.execute("SELECT count(*) FROM reading").fetchone()[0] == 0


def test_intervals_close_the_gap_of_an_exchange(take):
    slots = hours("2026-06-01", "2026-06-02")
    take(index(slots[:12], [500 + n for n in range(12)]))
    take(index(slots[12:], [n - 12 for n in range(12, 25)], meter="M2", flags={"0": "EXCH"}))
    quality = "V" * 11 + "E" + "V" * 12
    take(index(slots[1:], [1] * 24, kind="INT", q=quality, flags={"11": "EXCH"}))
    assert consumption(take, "daily", "2026-06-01", "kind") == [(24.0, "E", True, 24, 0, "INT")]


def test_an_index_that_fell_is_no_consumption(take):
    slots = hours("2026-06-01", "2026-06-02")
    take(index(slots, [*range(100, 110), *range(15)]))
    assert consumption(take, "daily", "2026-06-01") == [(23.0, "V", False, 24, 1)]


def owed_series(since, place="D1", **more):
    of = {"place": place, "channel": "elec.imp", "kind": "REG", "unit": "kWh", "step": HOUR}
    return of | {"since": moment(since)} | more


def complete(store):
    rows = store.execute("SELECT place, day, owed, delivered FROM completeness ORDER BY place, day")
    return [tuple(row) for row in rows.fetchall()]


def test_what_is_owed_is_what_a_basis_covers_and_what_no_row_states_is_missing(store):
    slots = hours("2026-06-01", "2026-06-03")
    bases = [
        {"id": "K1", "place": "D1", "channels": ["elec.imp"], "step": HOUR,
         "since": moment(slots[6]), "until": moment(slots[30])},
        {"id": "K2", "place": "D1", "channels": ["heat"], "step": HOUR, "since": moment(slots[0])},
        {"id": "K3", "place": "D1", "channels": ["elec.imp"], "step": 86_400,
         "since": moment(slots[0])},
        {"id": "common", "since": moment(slots[0])},
    ]  # fmt: skip
    listed = [owed_series(slots[0]), owed_series(slots[0], kind="EVT")]
    store.take(batch(1, directory=directory("D1", bases=bases, listed=listed)))
    given = [slots[6], *slots[9:12], slots[20]]
    store.take(batch(2, series=[series("D1", given, [1] * 5, step=HOUR)]))
    gap = {"why": {"0": "agent"}, "span": {"0": 2}}
    store.take(batch(3, series=[series("D1", [slots[24]], [None], step=HOUR, **gap)]))
    assert complete(store) == [("D1", "2026-06-01", 18, 5), ("D1", "2026-06-02", 2, 2)]
    missing = [slot for (slot,) in store.execute("SELECT slot FROM missing ORDER BY slot")]
    assert missing == sorted({*slots[6:26]} - {*given, *slots[24:26]})


def test_owed_are_the_slots_that_the_page_calls_owed(store):
    """Rule R16: of each kind and step, and for each reason why a basis does not cover a slot."""
    start, end = midnight("2026-10-20"), midnight("2026-12-03")
    days = [midnight(f"2026-10-{day}") for day in (23, 24, 25, 26, 27)]
    here = {"place": "D1", "channels": ["elec.imp"]}
    lists = directory(
        "D1", "C1", "C2", "B1",
        bases=[
            here | {"id": "K1", "step": HOUR, "occupancy": "H1", "since": moment(days[0] + 1_800),
                    "until": moment(end), "recorded": moment(days[0] + 2 * HOUR)},
            here | {"id": "K2", "step": 86_400, "occupancy": "H2", "since": moment(days[3] + HOUR)},
            here | {"id": "K3", "step": HOUR, "since": moment(start), "withdrawn": moment(end)},
            {"id": "law", "duty": "law", "channels": ["elec.imp"], "since": moment(start)},
            {"id": "common", "since": moment(days[1])},
            {"id": "rest", "place": "B1", "channels": ["elec.imp"], "since": moment(start)},
        ],
        listed=[
            owed_series(start, step=step, kind=kind, place=place)
            for place in ("D1", "C1", "B1") for kind in ("REG", "INT", "EVT")
            for step in (HOUR, 86_400, 2_592_000)
        ] + [
            owed_series(start, step=step, kind=kind, place="C2", until=moment(days[3] + HOUR))
            for kind in ("REG", "INT") for step in (HOUR, 86_400, 2_592_000)
        ],
    ) | {"occupancies": [
        {"id": "H1", "place": "D1", "since": moment(start), "until": moment(days[2])},
        {"id": "H2", "place": "D1", "since": moment(days[2])},
        {"id": "H3", "place": "D9", "since": moment(start)},
    ]}  # fmt: skip
    store.take(batch(1, directory=lists))
    store.take(batch(2, series=[series("D9", [end], [1], step=HOUR)]))
    # a row without step is no slot, and makes nothing owed
    store.take(batch(3, series=[exchange(end + 50 * HOUR, 1, "M9")]))
    view = store.execute("SELECT place, channel, kind, step, slot FROM owed").fetchall()
    assert sorted(map(tuple, view)) == sorted(owed(lists, end, PARIS))
    of = {
        (place, kind, step): [
            row[4] for row in view if (row[0], row[2], row[3]) == (place, kind, step)
        ]
        for place, _, kind, step, _ in view
    }
    hours_of_k1 = list(range(days[0] + 3 * HOUR, days[2], HOUR))
    assert sorted(of["D1", "REG", HOUR]) == hours_of_k1
    assert sorted(of["D1", "INT", HOUR]) == [*hours_of_k1, days[2]]
    assert sorted(of["D1", "REG", 86_400])[:3] == [days[1], days[4], days[4] + 86_400]
    assert sorted(of["D1", "INT", 86_400])[:2] == [days[2], days[4] + 86_400]
    months = [midnight("2026-11-01"), midnight("2026-12-01")]
    assert sorted(of["D1", "REG", 2_592_000]) == months
    assert sorted(of["C1", "INT", 2_592_000]) == months[1:]
    # what has ended: the first slot that is not owed is that of its `until`
    assert max(of["C2", "REG", HOUR]) == days[3]
    assert sorted(of["C2", "REG", 86_400]) == [days[1], days[2], days[3]]
    assert ("C2", "REG", 2_592_000) not in of
    assert not [key for key in of if key[0] == "B1" or key[1] == "EVT"]


def test_a_withdrawal_ends_what_is_owed_and_who_may_see_it_and_stands_in_the_feed(store):
    slots = hours("2026-06-01", "2026-06-02")
    until = slots[0] + 3 * 365 * 86_400
    basis = {"id": "K1", "place": "D1", "channels": ["elec.imp"], "step": HOUR, "purpose": "advice",
             "since": moment(slots[0]), "until": moment(until)}  # fmt: skip
    store.take(
        batch(1, directory=directory("D1", "D2", bases=[basis], listed=[owed_series(slots[0])]))
    )
    store.take(batch(2, series=[series("D1", slots, [1] * 25, step=HOUR)]))
    select = (
        "SELECT label, purpose, channels, step, until, withdrawn_at FROM access WHERE basis = 'K1'"
    )
    *facts, end, withdrawn = store.execute(select).fetchone()
    assert facts == ["label D1", "advice", "elec.imp", HOUR]
    assert (as_second(end), withdrawn) == (until, None)
    store.take(batch(3, retract=[retraction("R1", "D1", basis="K1")]))
    *_, end, withdrawn = store.execute(select).fetchone()
    assert slots[-1] < as_second(end) == as_second(withdrawn) < until  # when we were told
    assert complete(store) == []
    ended = basis | {"until": moment(slots[5]), "withdrawn": moment(slots[5])}
    store.take(batch(4, directory=directory(bases=[ended])))
    *_, end, withdrawn = store.execute(select).fetchone()
    assert (as_second(end), complete(store)) == (slots[5], [])
    again = basis | {"id": "K2", "since": moment(slots[6])}
    store.take(batch(5, directory=directory(bases=[again])))
    assert complete(store) == [("D1", "2026-06-01", 18, 0), ("D1", "2026-06-02", 1, 0)]
    feed = store.execute(
        "SELECT id, label, basis, removed, reason FROM retractions ORDER BY change"
    )
    assert [tuple(row) for row in feed.fetchall()] == [("R1", "label D1", "K1", 25, "withdrawn")]


def as_second(shown):
    return int(
        (shown if isinstance(shown, datetime) else datetime.fromisoformat(shown)).timestamp()
    )


def test_numbers_that_have_not_arrived_are_gaps(store):
    for seq in (2, 3, 6):
        store.take(batch(seq))
    rows = store.execute("SELECT first, last FROM gaps ORDER BY first").fetchall()
    assert [tuple(row) for row in rows] == [(1, 1), (4, 5)]


def test_readings_show_the_valid_version_with_the_label(store):
    store.take(batch(1, directory=directory("D1")))
    at = second("2026-06-01T10:00:00Z")
    store.take(
        batch(2, series=[series("D1", [at], [1.25]), series("D1", [at], [2.5], ver={"0": 9})])
    )
    ((label, value, unit, shown),) = store.execute(
        "SELECT label, value, unit, at FROM readings"
    ).fetchall()
    assert (label, float(value), unit) == ("label D1", 2.5, "kWh")
    assert as_second(shown) == at


def test_a_day_of_one_dwelling_is_read_without_reading_the_others(store):
    """The views are joined so that a place and a day reach the indexes."""
    start = midnight("2026-06-01")
    days = [start + n * 86_400 for n in range(11)]
    assert datetime.fromtimestamp(days[-1], UTC) - datetime.fromtimestamp(start, UTC) == timedelta(
        10
    )
    places = [f"D{n:03d}" for n in range(50)]
    store.take(batch(1, directory=directory(*places)))
    store.take(batch(2, series=[
        series(place, list(range(start, days[-1] + 1, HOUR)), list(range(241)), step=HOUR)
        for place in places
    ]))  # fmt: skip
    plan = "EXPLAIN QUERY PLAN" if store.folder == "sqlite" else "EXPLAIN"
    if store.folder != "sqlite":
        store.execute("SET enable_seqscan = off")  # of so few rows it would read all
    text = "\n".join(
        str(cell)
        for row in store.execute(
            f"{plan} SELECT * FROM daily WHERE day = '2026-06-05' AND place = 'D007'"
        )
        for cell in row
    )
    assert "SCAN r\n" not in text
    assert "Seq Scan on reading" not in text
