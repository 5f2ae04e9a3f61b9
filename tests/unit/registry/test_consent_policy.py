"""Rule G3: a dwelling's row leaves only with a basis that covers it. Default: no."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import Refused
from agent.core.model import ValueKind, Why
from agent.core.quantities import channels
from agent.registry.consent_policy import Basis, CommonBasis, boundary_index, may_leave, policy
from agent.registry.dates import DAY, MONTH
from agent.registry.records import Duty
from tests.unit.registry.building import (
    FR,
    HEAT,
    HOME,
    LATER_PEOPLE,
    NEIGHBOUR,
    NOW,
    PEOPLE,
    PLANT,
    US,
    WHOLE,
    WORD,
    agreed,
    called,
    facts,
    lived,
)


def answer(*documents, place=HOME, channel=HEAT, step=1800, t=NOW + 1800, to=US, under=FR):  # noqa: PLR0913
    return may_leave(facts(*documents), under, place, channel, step, t, to)


def test_a_covered_row_leaves_with_the_consent_as_its_basis():
    assert answer(lived(), agreed()) == Basis("c1", PEOPLE)


def test_nothing_leaves_without_a_consent():
    """Rule P1."""
    assert answer(lived()) is Why.CONSENT


@pytest.mark.parametrize(
    ("consent", "asked"),
    [
        (agreed(), {"to": "other.example"}),
        (agreed(), {"channel": channels()["cw"]}),
        (agreed(), {"step": 900}),
        (agreed(since=NOW + 1801), {}),
        (agreed(until=NOW + 1800), {}),
        (agreed(of=LATER_PEOPLE), {}),
        (agreed(), {"place": NEIGHBOUR}),
    ],
    ids=["recipient", "channel", "finer step", "before", "expired", "other people", "other home"],
)
def test_a_consent_covers_only_what_it_says(consent, asked):
    """Rule P4."""
    assert answer(lived(), lived(NEIGHBOUR, id_="H9"), consent, **asked) is Why.CONSENT


@pytest.mark.parametrize("t", [NOW, NOW + 8999])
def test_a_consent_covers_its_first_second_and_not_its_last(t):
    assert answer(lived(), agreed(), t=t) == Basis("c1", PEOPLE)
    assert answer(lived(), agreed(), t=NOW + 9000) is Why.CONSENT
    assert answer(lived(since=0), agreed(), t=NOW - 1) is Why.CONSENT


def test_nobody_said_who_lives_there():
    assert answer(agreed()) is Why.OCCUPANCY
    assert answer(lived(since=NOW + 3600), agreed(), t=NOW + 1800) is Why.OCCUPANCY


@pytest.mark.parametrize("step", [600, 1800, DAY, MONTH])
@pytest.mark.parametrize("to", [US, "syndic.example"])
def test_nothing_of_an_unknown_dwelling_leaves_whatever_stands(step, to):
    """Neither by a consent nor by a duty, not even the index of a billing date. Rule P1."""
    duty = Duty("d1", "syndic.example", "x", ("heat",), 0, None, WORD, ("09-22",))
    standing = facts(called(), agreed(step=1), duty)
    assert may_leave(standing, FR, HOME, HEAT, step, NOW + 1800, to) is Why.OCCUPANCY
    billing = 1_790_035_200  # 2026-09-22, 00:00 UTC
    somebody = facts(called(), lived(), duty)
    assert boundary_index(somebody, FR, HOME, HEAT, billing, "syndic.example")
    assert boundary_index(standing, FR, HOME, HEAT, billing, to) is None


def test_a_dwelling_is_occupied_vacant_or_unknown():
    """Rule I14."""
    never = lived(since=NOW - 9000, until=NOW - 9000, id_="H0")
    homes = facts(called(), never, lived(until=NOW + 1800), lived(since=NOW + 3600, id_="H2"))
    states = {t: homes.occupancy_state(HOME, NOW + t) for t in (-1, 0, 1799, 1800, 3599, 3600)}
    assert states == {
        -1: ("unknown", None),
        0: ("occupied", NOW),
        1799: ("occupied", NOW),
        1800: ("vacant", NOW + 1800),
        3599: ("vacant", NOW + 1800),
        3600: ("occupied", NOW + 3600),
    }
    assert facts(called(), never).occupancy_state(HOME, NOW) == ("unknown", None)


def test_between_two_occupancies_a_dwelling_is_vacant():
    homes = [lived(until=NOW + 1800), lived(since=NOW + 3600, id_=LATER_PEOPLE)]
    assert answer(*homes, agreed()) is Why.VACANT
    assert answer(*homes, agreed(), t=NOW + 1799) == Basis("c1", PEOPLE)


def test_a_consent_ends_with_its_occupancy():
    """Rule P4."""
    homes = [lived(until=NOW + 1800), lived(since=NOW + 1800, id_=LATER_PEOPLE)]
    assert answer(*homes, agreed()) is Why.CONSENT


def test_a_channel_that_people_are_told_nothing_of_does_not_leave_their_dwelling():
    """Rule P7."""
    frequency = channels()["elec.frequency"]
    consent = agreed(channels=("elec.frequency", "elec.voltage"))
    assert answer(lived(), consent, channel=frequency) is Why.CONSENT
    assert answer(lived(), consent, channel=channels()["elec.voltage"]) == Basis("c1", PEOPLE)
    assert answer(place=PLANT, channel=frequency) == Basis("common", None)


def test_people_are_told_of_every_personal_channel_in_both_languages():
    """Rule P7."""
    for channel in channels().values():
        told = (channel.en is not None, channel.fr is not None)
        assert told == (channel.personal, channel.personal), channel.name


def test_nothing_finer_than_the_policy_leaves_whatever_a_consent_says():
    """Rule P2."""
    consent = agreed(step=1)
    assert answer(lived(), consent, step=599) is Why.CONSENT
    assert answer(lived(), consent, step=600) == Basis("c1", PEOPLE)
    assert answer(lived(), consent, step=1, under=policy("DEMO-1")) == Basis("c1", PEOPLE)


def test_a_quantity_over_a_period_belongs_to_those_who_lived_there_for_all_of_it():
    """Rule I10."""
    over = replace(HEAT, kind=ValueKind.INT)
    assert answer(lived(), agreed(), channel=over, t=NOW + 1800) == Basis("c1", PEOPLE)
    assert answer(lived(), agreed(), channel=over, t=NOW + 1799) is Why.CONSENT
    assert answer(lived(since=NOW - 9000), agreed(), channel=over, t=NOW + 900) is Why.CONSENT
    assert answer(lived(), agreed(since=NOW - 9000), channel=over, t=NOW + 900) is Why.CONSENT


@pytest.mark.parametrize("place", [PLANT, WHOLE])
def test_common_areas_leave_on_the_common_basis_from_its_date_on(place):
    """Rules I5, P11."""
    assert answer(place=place, t=NOW) == Basis("common", None)
    assert answer(place=place, t=NOW - 1) is Why.CONSENT
    assert answer(place=place, under=policy("FR-1")) is Why.CONSENT
    assert answer(place=place, under=policy("FR-1", CommonBasis("", 0))) is Why.CONSENT


def test_what_flowed_in_a_common_area_leaves_where_the_basis_was_there_all_the_time():
    over = replace(HEAT, kind=ValueKind.INT)
    assert answer(place=PLANT, channel=over, t=NOW + 1800) == Basis("common", None)
    assert answer(place=PLANT, channel=over, t=NOW + 1799) is Why.CONSENT


@pytest.mark.parametrize("place", ["", "HOME", "G84G7ZWYRD6Z1GQ", "d84"])
def test_what_is_no_place_never_leaves(place):
    """Rule I5."""
    assert answer(lived(), agreed(), place=place) is Why.CONSENT


def test_of_two_bases_the_one_that_lasts_longest_carries_the_row():
    """Rule T13."""
    short, long = agreed(until=NOW + 2000), agreed(until=NOW + 9000, id_="c2")
    assert answer(lived(), short, long) == Basis("c2", PEOPLE)
    assert answer(lived(), long, short) == Basis("c2", PEOPLE)


def test_of_two_bases_that_last_as_long_the_coarser_carries_the_row():
    fine, coarse = agreed(step=600, id_="a"), agreed(step=1800, id_="z")
    assert answer(lived(), fine, coarse) == Basis("z", PEOPLE)


def test_an_unknown_policy_is_refused():
    with pytest.raises(Refused, match='did you mean "FR-1"'):
        policy("FR1")


moments = st.integers(NOW - 50, NOW + 50)


@given(moments, moments, st.integers(1, 60), st.integers(1, 60), st.data())
def test_between_two_turns_no_answer_changes(start, begin, lives, lasts, data):
    """What a caller may keep until the next turn, and what a consent says, second by second."""
    known = facts(lived(since=start, until=start + lives), agreed(since=begin, until=begin + lasts))

    def leaves(t):
        return may_leave(known, FR, HOME, HEAT, 1800, t, US)

    t = data.draw(moments)
    covered = start <= t < start + lives and begin <= t < begin + lasts
    assert isinstance(leaves(t), Basis) == covered
    later = data.draw(st.integers(t, t + 100))
    if not known.turns(t, later):
        assert leaves(later) == leaves(t)
