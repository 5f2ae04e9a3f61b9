"""Who stands in a sum, when it may be told, and what a total of the building tells."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import ValueKind, Why
from agent.core.quantities import channels
from agent.registry.aggregate import Sum, formed, sent_alone, step_of, sum_of_slot
from agent.registry.consent_policy import Basis, may_leave
from agent.registry.dates import DAY
from tests.unit.registry.building import (
    FR,
    HEAT,
    NOW,
    PLANT,
    US,
    WHOLE,
    WORD,
    agreed,
    called,
    facts,
    lived,
)

HOMES = [f"D{n:014}" for n in range(12)]
EACH = dict.fromkeys(HOMES, Decimal("1.25"))


def building(*documents, dwellings=12):
    """Dwellings in which people live, H0 in the first one; beside it what else is known."""
    known = [called(home, f"A-{n}") for n, home in enumerate(HOMES[:dwellings])]
    known += [lived(home, id_=f"H{n}") for n, home in enumerate(HOMES[:dwellings])]
    return facts(*known, *documents)


def consent(n, **more):
    return replace(agreed(of=f"H{n}", id_=f"c{n}", **more), place=HOMES[n])


def test_the_sum_is_of_all_that_is_known_of_the_slot():
    assert sum_of_slot(HOMES, EACH, (), EACH, 11) == Sum(12, Decimal("15.00"))


@pytest.mark.parametrize(
    ("missing", "apart", "group", "n"),
    [
        (1, 0, 12, 11),
        (2, 0, 12, None),
        (0, 1, 12, 12),
        (1, 1, 12, None),
        (0, 0, 15, 12),
        (0, 0, 16, None),
    ],
    ids=["one silent", "two silent", "one sent alone", "and one silent", "80 %", "less"],
)
def test_it_is_told_from_k_on_and_from_four_fifths_of_the_group(missing, apart, group, n):
    """Rule S5."""
    members = HOMES + [f"X{more}" for more in range(group - 12)]
    known = {place: EACH[place] for place in HOMES[missing:]}
    found = sum_of_slot(members, known, HOMES[12 - apart :], known, 11)
    assert (found.n if found else None) == n


def test_no_dwelling_is_more_than_half_of_what_is_not_known_one_by_one():
    """Rule S6."""
    day = EACH | {HOMES[0]: Decimal("13.75")}
    assert sum_of_slot(HOMES, EACH, (), day, 11) is not None
    assert sum_of_slot(HOMES, EACH, (), EACH | {HOMES[0]: Decimal("13.76")}, 11) is None
    # who is sent alone is taken off before the shares are judged
    assert sum_of_slot(HOMES, EACH, HOMES[11:], day, 11) is None


def test_where_nothing_flows_nothing_is_what_is_told():
    none = dict.fromkeys(HOMES, Decimal(0))
    assert sum_of_slot(HOMES, none, (), none, 11) == Sum(12, Decimal(0))


@given(st.sets(st.sampled_from(HOMES)), st.sets(st.sampled_from(HOMES)), st.integers(2, 11))
def test_less_what_is_sent_one_by_one_it_is_never_of_fewer_than_k(known, apart, fewest):
    flows = {place: EACH[place] for place in known}
    if (found := sum_of_slot(HOMES, flows, apart, flows, fewest)) is not None:
        assert found.n == len(known)
        assert len(known - apart) >= fewest


def test_a_group_is_of_those_who_live_there_and_are_not_sent_alone():
    """Rules S3, S8."""
    known = building(consent(1, since=NOW - 50), consent(2, since=NOW + 50))
    group = formed(known, HOMES, "heat", NOW, NOW + 9000, US)
    assert group.members == {*HOMES} - {HOMES[1]}
    assert formed(known, HOMES, "heat", NOW - 1, NOW, US).members == set()
    assert HOMES[1] in formed(known, HOMES, "heat", NOW, NOW + 1, "other.example").members
    assert HOMES[1] in formed(known, HOMES, "cw", NOW, NOW + 1, US).members


def test_who_was_sent_alone_at_any_instant_is_apart_though_it_was_withdrawn():
    known = building(consent(1, since=NOW + 50))
    assert not sent_alone(known, HOMES[1], "heat", NOW, NOW + 49, US)
    assert sent_alone(known, HOMES[1], "heat", NOW, NOW + 50, US)
    gone = building(replace(consent(1, since=NOW + 50), withdrawn=NOW + 60))
    assert sent_alone(gone, HOMES[1], "heat", NOW, NOW + 9000, US)
    assert not sent_alone(gone, HOMES[1], "heat", NOW + 60, NOW + 9000, US)


def test_who_moved_out_sets_nobody_apart_from_then_on_but_not_before_it_was_told():
    left = replace(lived(HOMES[1], until=NOW + 100, id_="H1"), word=replace(WORD, when=NOW + 300))
    came = lived(HOMES[1], since=NOW + 100, id_="H1b")
    known = facts(left, came, consent(1))
    assert sent_alone(known, HOMES[1], "heat", NOW + 200, NOW + 250, US)  # rows left until then
    assert not sent_alone(known, HOMES[1], "heat", NOW + 300, NOW + 900, US)


def total(known, t=NOW + 100, channel=HEAT, place=WHOLE):
    return may_leave(known, FR, place, channel, 900, t, US)


def test_a_total_of_the_building_leaves_while_it_tells_of_nobody_or_of_enough():
    """Rule S9."""
    assert total(building()) == Basis("common", None)
    assert total(building(consent(0))) == Basis("common", None)
    assert total(building(consent(0), consent(1))) is Why.FEW
    assert total(building(*(consent(n) for n in range(12)))) == Basis("common", None)
    assert total(building(dwellings=10)) is Why.FEW
    assert total(building(dwellings=0)) == Basis("common", None)


def test_a_total_that_may_tell_of_a_few_unknown_dwellings_alone_stays():
    """Where all others are sent one by one, the rest is what flows in those of whom nobody knows
    whether they are lived in. Rule S9.
    """
    others = [consent(n) for n in range(11)]
    known = [called(home) for home in HOMES]
    homes = [lived(home, id_=f"H{n}") for n, home in enumerate(HOMES[:11])]
    assert total(facts(*known, *homes, *others)) is Why.FEW
    empty = lived(HOMES[11], since=NOW - 900, until=NOW - 1, id_="H11")  # it is vacant
    assert total(facts(*known, *homes, empty, *others)) == Basis("common", None)
    assert total(facts(*known)) == Basis("common", None)  # of enough, and of which nobody knows


def test_only_what_adds_up_over_dwellings_tells_of_them():
    few = building(dwellings=3)
    assert total(few, channel=channels()["elec.power"]) is Why.FEW
    assert total(few, channel=channels()["temp"]) == Basis("common", None)
    assert total(few, place=PLANT) == Basis("common", None)


def test_a_total_over_a_period_is_judged_at_both_its_ends():
    over = replace(HEAT, kind=ValueKind.INT)
    two = building(consent(0), consent(1, until=NOW + 500))
    assert total(two, NOW + 1300, over) is Why.FEW
    assert total(two, NOW + 1400, over) == Basis("common", None)


def test_a_total_over_a_day_of_25_hours_is_judged_at_its_beginning():
    over, rules = replace(HEAT, kind=ValueKind.INT), replace(FR, zone=ZoneInfo("Europe/Paris"))
    begins, ends = (int(datetime(2026, 10, day, tzinfo=rules.zone).timestamp()) for day in (25, 26))
    assert ends - begins == DAY + 3600
    other = consent(0, until=ends)
    two = building(other, consent(1, until=begins + 1800))
    assert may_leave(two, rules, WHOLE, over, DAY, ends, US) is Why.FEW
    two = building(other, consent(1, until=begins))
    assert may_leave(two, rules, WHOLE, over, DAY, ends, US) == Basis("common", None)


@pytest.mark.parametrize(
    ("channel", "reads", "step"),
    [
        ("elec.imp", {900}, 1800),
        ("elec.imp", {900, 3600}, 3600),
        ("heat", {1200}, 3600),
        ("elec.imp", {900, 86_400}, 86_400),
        ("cw", {900}, 86_400),
    ],
)
def test_the_step_is_the_channel_s_own_or_the_next_that_all_meters_fit(channel, reads, step):
    """Rule S2."""
    assert step_of(channel, reads) == step


def test_a_demonstration_sums_as_finely_as_it_reads():
    assert step_of("cw", {2}, finest=1) == 2
