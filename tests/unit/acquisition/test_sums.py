"""Sums over dwellings: of whom, when, and what nobody can reckon from them (rules S1, S14)."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.row_assignment import RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.acquisition.sums import ConfiguredSums, Groups, ReadingCache, Sums
from agent.buffer.schema import Wrong
from agent.core.model import Point, Range, Sample, Why
from agent.registry.aggregate import Group, tells_of_few
from agent.registry.consent_policy import policy
from agent.registry.inputs import (
    FactorResult,
    NewConsent,
    NewDuty,
    NewInstallation,
    NewOccupancy,
    NewPlace,
    NewWithdrawal,
)
from agent.registry.registry import Registry
from tests.depth import examples
from tests.unit.acquisition.attack import Reckoner

ZONE = ZoneInfo("Europe/Paris")
MONTH = int(dt.datetime(2027, 3, 1, tzinfo=ZONE).timestamp())
NEXT = int(dt.datetime(2027, 4, 1, tzinfo=ZONE).timestamp())
HALF, DAY = 1800, 86_400
WHOLE = "B6ASQZ1Y2KSAA3Y"
US = "energie.metropole.example"
ME = ("a test", "a test")
RULES = policy("FR-1", zone=ZONE)


class Building:
    """Dwellings with an electricity meter each, read every half hour; one recipient of sums."""

    def __init__(self, folder, dwellings, fewest, registry=Registry, **asked):
        self.registry = registry(folder / "registry.json", fsync=lambda _: None)
        self.file, since = folder / "rest.json", MONTH - 100 * DAY
        self.labels = [f"A-{n}" for n in range(dwellings)]
        rows = [NewPlace(one, "dwelling", since=since) for one in self.labels]
        self.places = [one.id for one in self.registry.add_places(rows, *ME, float(since))]
        meters = [
            NewInstallation(one, serial=f"9{n:03}", channel="elec.imp", since=since)
            for n, one in enumerate(self.labels)
        ]
        self.registry.install(meters, *ME, float(since))
        self.points = [
            Point(f"m-{n}", "energy", "1", "x", HALF, "elec.imp", "kWh") for n in range(dwellings)
        ]
        self.asked = ConfiguredSums(WHOLE, {"elec.imp": self.points}, fewest, ZONE, **asked)
        keyed = {(one.device, HALF): [one] for one in self.points}
        self.ledger = SlotLedger(RowAssignment(self.registry, RULES, US), keyed, {}, ZONE)
        self.index = dict.fromkeys(range(dwellings), Decimal(5000))
        self.marks = {}
        self.start()

    def start(self):
        """The agent starts: what was in memory is no more."""
        self.indexes = ReadingCache(self.registry)
        self.indexes.set_steps({"elec.imp": HALF}, ZONE)
        self.sums = Sums(
            self.registry, US, Groups(self.file), self.indexes, self.marks,
            lambda device: f"9{int(device[2:]):03}",
        )  # fmt: skip

    def read(self, t, silent=(), after=5):
        """Every meter's slot t; the rows that leave for the recipient, one by one and as sums."""
        rows = []
        for n, point in enumerate(self.points):
            why = Why.SILENT if n in silent else None
            value = None if why else self.index[n]
            sample = Sample(point, float(t), value, why)
            self.indexes.note(t, [sample], f"9{n:03}")
            rows += self.ledger.close((point.device, HALF), t, [sample], f"9{n:03}", Why.BUSY)
        return rows + self.close(t + after)

    def close(self, now):
        rows = []
        for key, found, mark in self.sums.close(self.asked, float(now)):
            self.marks[key] = mark
            rows += found
        return rows

    def consent(self, n, now, since=None, step=HALF):
        home = self.registry.occupancy_at(self.registry.place(self.labels[n]).id, since or now)
        marks = self.registry.marks(home.id, US) if home else ()
        new = NewConsent(
            self.labels[n], US, ("elec.imp",), step, f"purpose {now}", since=since or now,
            after=tuple(one.id for one in marks),
        )  # fmt: skip
        (made,) = self.registry.consent([new], *ME, float(now), RULES)
        return made.id

    def withdraw(self, id_, now):
        self.registry.withdraw([NewWithdrawal(id=id_)], *ME, float(now))

    def flow(self, kwh):
        for n in self.index:
            self.index[n] += kwh if not callable(kwh) else kwh(n)


def slots(count, first=MONTH):
    return [first + k * HALF for k in range(count)]


def sums(rows):
    return [(row.t, row.value, row.n) for row in rows if row.series.basis == "rest"]


@pytest.fixture
def house(tmp_path):
    """Twelve dwellings, in which nobody agreed to anything, in the evening before the 1st."""
    found = Building(tmp_path, 12, 11)
    found.close(MONTH - 3600)
    return found


def test_the_sum_of_a_slot_says_of_how_many_it_is(house):
    house.read(MONTH)
    house.flow(lambda n: Decimal(n) + 1)
    (row,) = house.read(MONTH + HALF)
    assert (row.t, row.value, row.n, row.method, row.quality) == (
        MONTH + HALF, Decimal(78), 12, "SUM", "K",
    )  # fmt: skip
    assert row.series[:5] == (WHOLE, "elec.imp", "INT", "kWh", HALF)
    assert row.series.basis == "rest"
    assert (row.series.meter, row.series.occupancy) == (None, None)


def test_nothing_is_summed_before_the_midnight_at_which_the_group_is_fixed(house):
    """Rule S3."""
    for t in slots(3, MONTH - 3 * HALF):
        house.flow(1)
        assert house.read(t) == []
    assert not house.file.exists()


def test_missing_members_lower_n_and_below_k_there_is_no_row(house):
    """Rules S7, M12."""
    house.read(MONTH)
    house.flow(1)
    assert house.read(MONTH + HALF, silent={0}) == []
    assert sums(house.close(MONTH + 2 * HALF + 61)) == [(MONTH + HALF, 11, 11)]
    house.flow(1)
    house.read(MONTH + 2 * HALF, silent={1})
    assert house.close(MONTH + 3 * HALF + 61) == []  # 0 has no begin of it, 1 no end


def test_a_daily_sum_waits_a_day_for_who_is_silent_and_is_told_without_him(tmp_path):
    house = Building(tmp_path, 12, 11, finest=DAY)
    house.indexes.set_steps({"elec.imp": DAY}, ZONE)
    house.close(MONTH - 60)
    for day in range(2):
        house.read(MONTH + day * DAY, silent={0} if day else ())
        house.flow(1)
    # the next day's indexes are there already when it is closed
    assert sums(house.read(MONTH + 2 * DAY)) == [(MONTH + DAY, 11, 11)]
    house.flow(1)
    assert sums(house.read(MONTH + 3 * DAY))[-1] == (MONTH + 3 * DAY, 12, 12)


def test_a_slot_of_few_says_so_where_that_is_wanted(tmp_path):
    house = Building(tmp_path, 12, 11, withholds=True)
    house.close(MONTH - 60)
    house.read(MONTH)
    house.flow(1)
    house.read(MONTH + HALF, silent={0, 1})
    (row,) = house.close(MONTH + 2 * HALF + 61)
    assert (row.t, row.value, row.quality, row.why, row.n) == (
        MONTH + HALF, None, "W", "few", None,
    )  # fmt: skip


def test_a_value_that_comes_late_makes_no_new_version(house):
    """Rule S7."""
    house.read(MONTH)
    house.flow(1)
    house.read(MONTH + HALF, silent={0})
    assert len(sums(house.close(MONTH + 2 * HALF + 61))) == 1
    late = Sample(house.points[0], MONTH + 3600.0, house.index[0])
    house.indexes.note(MONTH + HALF, [late], "9000")
    assert house.close(MONTH + 2 * HALF + 70) == []


def test_who_consents_stays_in_the_sum_and_counts_no_more_until_the_next_1st(house):
    """Rule S4."""
    house.read(MONTH)
    house.flow(1)
    assert sums(house.read(MONTH + HALF))
    one = house.consent(0, MONTH + HALF + 60)
    house.flow(1)
    rows = house.read(MONTH + 2 * HALF)
    assert sums(rows) == [(MONTH + 2 * HALF, 12, 12)]
    assert house.places[0] in {row.series.place for row in rows}
    two = house.consent(1, MONTH + 2 * HALF + 60)
    house.flow(1)
    assert sums(house.read(MONTH + 3 * HALF)) == []
    for id_ in (one, two):
        house.withdraw(id_, MONTH + 3 * HALF + 60)
    house.flow(1)
    assert sums(house.read(MONTH + 4 * HALF)) == []
    house.read(NEXT)
    house.flow(1)
    assert sums(house.read(NEXT + HALF, after=HALF + 61)) == [(NEXT + HALF, 12, 12)]


def test_who_withdraws_joins_on_the_next_1st(house):
    """Rule S4."""
    id_ = house.consent(0, MONTH - 7200)
    house.read(MONTH)
    house.flow(1)
    assert sums(house.read(MONTH + HALF)) == [(MONTH + HALF, 11, 11)]
    house.withdraw(id_, MONTH + HALF + 60)
    house.flow(1)
    assert sums(house.read(MONTH + 2 * HALF)) == [(MONTH + 2 * HALF, 11, 11)]
    house.read(NEXT)
    house.flow(1)
    assert sums(house.read(NEXT + HALF, after=HALF + 61)) == [(NEXT + HALF, 12, 12)]


def test_sums_of_slots_in_which_the_uplink_was_removed_are_not_kept_and_say_so(house):
    """Also where the dwellings were read meanwhile: nothing was to be kept for this recipient."""
    house.read(MONTH)
    house.flow(1)
    house.read(MONTH + HALF)
    house.start()
    house.sums.removed = (MONTH + HALF + 60.0, MONTH + 5 * HALF + 300.0)
    rows = house.close(MONTH + 5 * HALF + 300)
    assert [(row.t, row.quality, row.why, row.span) for row in rows] == [
        (MONTH + 2 * HALF, "M", "agent", 1),
        (MONTH + 3 * HALF, "M", "uplink", 3),
    ]
    for n in (6, 7, 8):
        house.read(MONTH + n * HALF)
        house.flow(1)
    assert sums(house.read(MONTH + 9 * HALF)) == [(MONTH + 9 * HALF, 12, 12)]


def test_a_restart_within_the_month_changes_no_group_and_owns_up_to_its_gap(house):
    """Rule S13."""
    house.read(MONTH)
    house.flow(1)
    house.read(MONTH + HALF)
    house.consent(0, MONTH + HALF + 60)
    house.start()
    back = MONTH + 5 * HALF + 300
    (row,) = house.close(back)
    assert (row.t, row.quality, row.why, row.span) == (MONTH + 2 * HALF, "M", "agent", 4)
    house.read(MONTH + 6 * HALF)
    (row,) = house.close(MONTH + 7 * HALF + 61)
    assert (row.t, row.quality, row.why) == (MONTH + 6 * HALF, "M", "agent")
    house.read(MONTH + 7 * HALF)
    house.flow(1)
    assert sums(house.read(MONTH + 8 * HALF)) == [(MONTH + 8 * HALF, 12, 12)]


def test_sums_that_a_wrong_clock_made_are_taken_back_and_those_of_the_month_go_on(house):
    key = ("sum of elec.imp", HALF)
    house.read(MONTH)
    house.flow(1)
    assert sums(house.read(MONTH + HALF)) == [(MONTH + HALF, 12, 12)]
    ahead = NEXT + 3 * DAY
    house.read(ahead)
    house.flow(1)
    house.read(ahead + HALF)
    rows = house.close(ahead + HALF + 90)
    assert sums(rows) == [(ahead + HALF, 12, 12)]  # of a group of April
    found = Wrong({key: MONTH + HALF}, {key: ahead + HALF})
    now = MONTH + 4 * HALF + 5.0
    ranges, rows, marks = house.sums.taken_back(found, house.asked, now)
    assert ranges == [Range(WHOLE, "elec.imp", MONTH + HALF + 1, ahead + HALF + 1)]
    (row,) = rows
    assert (row.t, row.span, row.why) == (MONTH + 2 * HALF, 2, "clock")
    assert marks[key].slot == MONTH + 3 * HALF
    house.sums.set_back(marks, now)
    assert house.sums.highest == MONTH + 3 * HALF
    assert [one.since for one in house.sums.groups.of("elec.imp")] == [MONTH]
    house.read(MONTH + 4 * HALF)
    house.flow(2)
    house.read(MONTH + 5 * HALF)
    assert sums(house.close(MONTH + 5 * HALF + 90)) == [(MONTH + 5 * HALF, 24, 12)]


def test_what_a_meter_flows_alone_is_not_told_as_a_sum(house):
    house.read(MONTH)
    house.flow(lambda n: Decimal(11 if n == 3 else 1))
    assert sums(house.read(MONTH + HALF)) == [(MONTH + HALF, 22, 12)]
    house.flow(lambda n: Decimal(12 if n == 3 else 1))
    assert sums(house.read(MONTH + 2 * HALF)) == []


def test_what_is_asked_for_again_begins_after_that(house):
    house.read(MONTH)
    house.flow(1)
    house.read(MONTH + HALF)
    asked, house.asked = house.asked, replace(house.asked, points={})
    house.flow(1)
    assert house.read(MONTH + 2 * HALF) == []
    house.asked = asked
    assert house.close(MONTH + 2 * HALF + 10) == []
    house.flow(1)
    assert sums(house.read(MONTH + 3 * HALF)) == []
    house.flow(1)
    assert sums(house.read(MONTH + 4 * HALF)) == [(MONTH + 4 * HALF, 12, 12)]


def test_a_vacant_dwelling_is_in_no_sum(house):
    """Rule S8."""
    out = NewOccupancy("move_out", "A-0", until=MONTH + HALF)
    house.read(MONTH)
    house.registry.occupy([out], *ME, float(MONTH + 60))
    house.flow(1)
    assert sums(house.read(MONTH + HALF)) == [(MONTH + HALF, 12, 12)]
    house.flow(1)
    assert sums(house.read(MONTH + 2 * HALF)) == [(MONTH + 2 * HALF, 11, 11)]


def test_a_late_notice_of_a_move_touches_no_sum(house):
    house.read(MONTH)
    house.flow(1)
    house.read(MONTH + HALF)
    before = house.sums.groups.of("elec.imp")
    out = NewOccupancy("move_out", "A-0", until=MONTH - 5 * DAY)
    house.registry.occupy([out], *ME, float(MONTH + HALF + 60))
    assert house.close(MONTH + HALF + 120) == []
    assert house.sums.groups.of("elec.imp") == before


def test_whoever_gets_all_month_ends_by_duty_gets_no_sum(house):
    """Rule S12."""
    duty = NewDuty(US, "décret 2020-886", ("elec.imp",), since=MONTH - 10 * DAY)
    house.registry.oblige([duty], *ME, float(MONTH - 10 * DAY))
    house.read(MONTH)
    house.flow(1)
    house.read(MONTH + HALF)
    assert sums(house.close(MONTH + 2 * HALF + 61)) == []


def test_fewer_dwellings_than_k_have_no_sum_at_all(tmp_path):
    """Rule S11."""
    house = Building(tmp_path, 10, 11, withholds=True)
    house.close(MONTH - 60)
    house.read(MONTH)
    house.flow(1)
    house.read(MONTH + HALF)
    assert house.close(MONTH + 3 * HALF) == []
    assert not house.file.exists()


def test_another_meter_s_index_is_no_end_of_a_difference(house):
    house.read(MONTH)
    house.flow(1)
    house.registry.install([], *ME, float(MONTH))
    point = house.points[0]
    sample = Sample(point, float(MONTH + HALF), house.index[0])
    house.indexes.note(MONTH + HALF, [sample], "9999")  # not the meter that was installed
    assert house.places[0] not in house.indexes.flows("elec.imp", MONTH + HALF)


# --- what nobody can reckon -------------------------------------------------------------------

events = st.lists(
    st.tuples(
        st.integers(0, 5),  # after which slot
        st.sampled_from(["consent", "backdated", "withdraw", "out", "in", "silent", "restart"]),
        st.integers(0, 5),  # which dwelling
    ),
    max_size=14,
)


def lived_through(folder, happened, fewest, registry=Registry, first=MONTH):
    """What the recipient can reckon after six slots, and who never agreed."""
    house = Building(folder, 6, fewest, registry)
    if first != MONTH:
        house.sums.groups.add("elec.imp", Group(MONTH, NEXT, frozenset(house.places)))
    house.close(first - 60)
    reckoner, known, seen = Reckoner(), {place: [] for place in house.places}, []
    people, silent = ({}, set()), set()
    for k, t in enumerate(slots(7, first)):
        # everybody's flow tells in the sum that it is there: a bit of its own
        house.flow(lambda n: Decimal(1000 + 2**n))
        for row in house.read(t, silent):
            if row.value is not None and row.series.basis == "rest":
                seen.append((row, (row.t - first) // HALF))
            elif row.value is not None:
                known[row.series.place].append((row.t - first) // HALF)
        silent = {n for at, what, n in happened if (at, what) == (k, "silent")}
        for now, (at, what, n) in enumerate(happened, t + 60):
            if at == k and what == "restart":
                house.start()
            elif at == k and what != "silent":
                _tell(house, what, n, now, people)
    _learn(reckoner, house, seen, known)
    return reckoner, set(range(6)) - people[1], seen


def _learn(reckoner, house, seen, known):
    for row, k in seen:
        bits = int(row.value) - 1000 * row.n
        members = [m for m in range(6) if bits >> m & 1]
        assert len(members) == row.n
        reckoner.learn((m, k) for m in members)
    for place, indexes in known.items():
        for before, after in pairwise(indexes):
            reckoner.learn((house.places.index(place), k) for k in range(before + 1, after + 1))


def _tell(house, what, n, now, people):
    """Something is told of a dwelling, if it can be: `given` consents, and who `agreed` ever."""
    given, agreed = people
    home = house.registry.occupancy_at(house.places[n], now)
    if what in ("consent", "backdated") and home is not None and n not in given:
        since = max(home.since, now - 2 * HALF) if what == "backdated" else now
        given[n] = house.consent(n, now, since)
        agreed.add(n)
    elif what == "withdraw" and n in given:
        house.withdraw(given.pop(n), now)
    elif what == "out" and home is not None:
        until = max(home.since + 1, now - HALF)
        house.registry.occupy([NewOccupancy("move_out", f"A-{n}", until=until)], *ME, float(now))
        given.pop(n, None)
    elif what == "in" and home is None:
        house.registry.occupy([NewOccupancy("move_in", f"A-{n}", since=now)], *ME, float(now))


def reckoned(reckoner, private):
    """What follows of one dwelling that never agreed: of a slot, or of slots in a row."""
    return [
        (n, first, last)
        for n in private
        for first in range(1, 7)
        for last in range(first, 7)
        if reckoner.knows((n, k) for k in range(first, last + 1))
    ]


@examples(15, 300)
@given(events, st.sampled_from([MONTH, NEXT - 3 * HALF]))
def test_nothing_of_one_dwelling_that_never_agreed_follows_from_all_that_was_sent(
    tmp_path_factory, happened, first
):
    folder = tmp_path_factory.mktemp("b")
    reckoner, private, _ = lived_through(folder, happened, 3, first=first)
    assert reckoned(reckoner, private) == []


class Forgetful(Registry):
    """Does not know whom else the recipient is sent one by one."""

    def ever_agreed(self, place, recipient):  # noqa: ARG002
        return ()


def test_the_attack_is_one_that_careless_sums_do_not_withstand(tmp_path):
    happened = [(1, "consent", n) for n in range(5)]
    for name, registry, found in (("ours", Registry, False), ("careless", Forgetful, True)):
        (tmp_path / name).mkdir()
        reckoner, private, seen = lived_through(tmp_path / name, happened, 3, registry)
        assert seen
        assert private == {5}
        assert bool(reckoned(reckoner, private)) == found


def test_while_nobody_knows_who_is_sent_one_by_one_there_is_no_sum(tmp_path):
    """Rules A8, S5: the registry cannot know whether it has forgotten a withdrawal."""
    house = Building(tmp_path, 12, 11)
    house.close(MONTH - 3600)
    house.read(MONTH)
    house.consent(0, MONTH + 60)
    house.consent(1, MONTH + 60)
    for k in range(1, 5):
        house.flow(Decimal(1))
        house.registry.mute = k == 3
        assert sums(house.read(MONTH + k * HALF)) == []  # of ten that are not sent one by one


def test_a_sum_waits_until_it_is_known_who_is_sent_one_by_one(tmp_path):
    """Rules A8, M3."""
    house = Building(tmp_path, 12, 11)
    house.close(MONTH - 3600)
    rows = []
    for k in range(4):
        house.registry.mute = k == 2
        rows.append(sums(house.read(MONTH + k * HALF)))
        house.flow(Decimal(1))
    of_slots = [(t, 12, 12) for t in slots(4)]
    assert rows == [[], of_slots[1:2], [], of_slots[2:]]


def test_while_nobody_knows_who_is_sent_one_by_one_any_total_may_tell_of_few(tmp_path):
    """Rules A8, S9."""
    registry = Building(tmp_path, 12, 11).registry
    question = registry, "elec.imp", MONTH, US, 11
    assert not tells_of_few(*question)
    registry.mute = True
    assert tells_of_few(*question)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_sum_with_a_factor_that_nothing_has_proven_says_so(tmp_path, refuses):
    """Rule F20."""
    house = Building(tmp_path, 12, 11, refuses_unproven=refuses)
    house.points[0] = replace(house.points[0], to_prove="f1")
    house.close(MONTH - 3600)
    rows = []
    for k in range(4):
        if k == 2:
            (meter,) = [one for one in house.registry.installations() if one.serial == "9000"]
            proof = (meter, "elec.imp", "display", Decimal(1), Decimal(1), "f1", "")
            house.registry.prove_factors([FactorResult(*proof)], *ME, float(MONTH))
        rows += house.read(MONTH + k * HALF)
        house.flow(Decimal(1))
    found = [(row.value, row.quality, row.why, row.flags) for row in rows if row.t > MONTH]
    first = (None, "W", "factor", "") if refuses else (Decimal(12), "K", None, "UNPR")
    assert found == [first, (Decimal(12), "K", None, ""), (Decimal(12), "K", None, "")]
