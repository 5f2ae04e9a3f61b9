"""Rules G3, G4: what a change takes away is named, all of it and nothing else. Rule I22."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Series, ValueKind
from agent.registry.records import Duty, Provenance
from agent.registry.retractions import effects, taken_away
from tests.unit.registry.building import (
    HOME,
    NEIGHBOUR,
    NOW,
    PEOPLE,
    PLANT,
    US,
    WORD,
    agreed,
    called,
    installed,
    lived,
)

TOLD = NOW + 5000
LATER = Provenance("bob", TOLD, "a later test", 2)


def after(document, **changes):
    return replace(document, word=LATER, **changes)


def lost(before, **changes):
    return list(taken_away(before, after(before, **changes)))


def series(  # noqa: PLR0913, PLR0917
    kind=ValueKind.REG, meter="45", basis="c1", occupancy=PEOPLE, place=HOME, channel="heat"
):
    return Series(place, channel, kind, "kWh", 1800, meter, occupancy, basis)


def test_a_withdrawn_consent_takes_back_all_its_rows_from_its_recipient_only():
    (one,) = lost(agreed(), withdrawn=NOW + 5000)
    assert (one.recipient, one.basis, one.occupancy, one.reason) == (US, "c1", PEOPLE, "withdrawn")
    assert one.covers(US, series(), NOW + 60)
    assert not one.covers("other.example", series(), NOW + 60)
    assert not one.covers(US, series(basis="c2"), NOW + 60)


def test_a_channel_withdrawn_of_a_consent_takes_back_that_one():
    (one,) = lost(agreed(channels=("cw", "heat")), channels=("heat",))
    assert (one.channel, one.reason) == ("cw", "withdrawn")


def test_it_is_withdrawn_once():
    gone = after(agreed(), withdrawn=NOW + 5000)
    assert list(taken_away(gone, replace(gone, proof="on paper"))) == []


def test_a_late_notice_of_a_move_is_one_range_for_every_recipient():
    (one,) = lost(lived(), until=NOW + 1800)
    assert (one.recipient, one.channel, one.basis, one.reason) == (None, None, None, "moved")
    assert (one.place, one.occupancy) == (HOME, PEOPLE)
    assert (one.since, one.until) == (NOW + 1800, TOLD + 1)
    assert one.covers(US, series(), NOW + 1800)
    assert not one.covers(US, series(), NOW + 1799)
    assert not one.covers(US, series(occupancy="H2"), NOW + 1800)


def test_a_quantity_up_to_the_move_is_theirs_and_one_across_it_is_not():
    """Rule I10."""
    (one,) = lost(lived(), until=NOW + 1800)
    assert not one.covers(US, series(ValueKind.INT), NOW + 1800)
    assert one.covers(US, series(ValueKind.INT), NOW + 1801)


def test_a_move_that_is_still_to_come_takes_nothing():
    assert lost(lived(), until=NOW + 5000) == []
    assert lost(lived(), until=NOW + 9999) == []


def test_what_a_wrong_clock_has_closed_after_a_move_is_taken_back_under_the_same_name():
    told = [lived(), after(lived(), until=NOW + 1800)]
    ((_, (usual,)),) = effects(told, 1)
    ((_, (one,)),) = effects(told, 1, TOLD + 90_000)
    assert (one.since, one.until) == (NOW + 1800, TOLD + 90_001)
    assert (one.id, one.ver) == (usual.id, TOLD)
    ahead = [lived(), after(lived(), until=TOLD)]
    assert effects(ahead, 1) == [(2, ())]
    ((_, (one,)),) = effects(ahead, 1, TOLD + 90_000)
    assert (one.since, one.until, one.reason) == (TOLD, TOLD + 90_001, "moved")


def test_people_who_never_lived_there_lose_all_of_it():
    (one,) = lost(lived(), until=NOW)
    assert (one.since, one.until) == (NOW, TOLD + 1)


def test_what_is_read_after_a_move_out_that_is_taken_back_stands():
    """Rule I23."""
    gone = after(lived(), until=NOW + 1800)
    back = replace(gone, until=None, word=replace(gone.word, revision=3, when=TOLD + 60))
    ((_, (taken,)), (_, nothing)) = effects([lived(), gone, back], 1)
    assert taken.covers(US, series(), TOLD)
    assert not taken.covers(US, series(), TOLD + 1)
    assert nothing == ()


def test_an_end_that_was_recorded_too_late_takes_back_the_index_at_that_end():
    """Rule P9: a duty gave the index of that midnight as theirs."""
    (one,) = lost(lived(until=NOW + 3600), until=NOW + 1800)
    assert one.covers(US, series(), NOW + 3600)
    assert not one.covers(US, series(), NOW + 3601)
    assert not one.covers(US, series(occupancy="H2"), NOW + 3600)
    (one,) = lost(installed(serial="45", until=NOW + 3600), until=NOW + 1800)
    assert one.covers(US, series(), NOW + 3600)
    (one,) = lost(agreed(), until=NOW + 1800)
    assert one.covers(US, series(), TOLD)
    assert lost(lived(until=NOW + 1800), until=NOW + 3600) == []


def test_people_who_came_later_than_said_lose_the_beginning():
    (one,) = lost(lived(until=NOW + 9000), since=NOW + 600)
    assert (one.since, one.until) == (NOW, NOW + 600)


def test_a_late_notice_of_an_exchange_takes_back_what_the_old_meter_gave_since():
    (one,) = lost(installed(serial="45"), until=NOW + 600)
    assert (one.meter, one.place, one.reason) == ("45", HOME, "exchanged")
    assert one.covers("anybody", series(), NOW + 600)
    assert not one.covers("anybody", series(meter="46"), NOW + 600)


def test_a_meter_of_another_dwelling_is_taken_back_from_the_beginning():
    (one,) = lost(installed(NEIGHBOUR, serial="45", channel="heat"), until=NOW)
    assert (one.place, one.channel, one.since, one.reason) == (NEIGHBOUR, "heat", NOW, "corrected")


def test_a_meter_whose_number_was_never_said_has_delivered_nothing():
    assert lost(installed(device="m"), until=NOW + 600) == []
    assert lost(installed(device="m"), serial="45", pinned=True) == []


def test_a_duty_that_ended_before_is_taken_back_in_every_dwelling():
    duty = Duty("d1", US, "décret 2020-886", ("heat",), NOW, None, WORD)
    places = [called(), called(NEIGHBOUR, "A-3-13"), called(PLANT, "Hall")]
    ((revision, found),) = effects([*places, duty, after(duty, until=NOW + 60)], 1)
    assert revision == 2
    assert [(one.place, one.basis, one.since) for one in found] == [
        (HOME, "d1", NOW + 60),
        (NEIGHBOUR, "d1", NOW + 60),
    ]


def test_a_change_that_takes_nothing_is_told_all_the_same():
    assert effects([called(), lived()], 0) == [(1, ())]
    assert effects([called(), lived()], 1) == []


def test_the_same_change_has_the_same_ids_whoever_works_them_out():
    both = [lived(), after(lived(), until=NOW + 60)]
    (_, whole), (_, part) = effects(both, 0)[1], effects(both, 1)[0]
    assert whole == part


ends = st.integers(NOW, NOW + 100)
maybe = st.none() | ends


@given(ends, maybe, ends, maybe, ends, st.sampled_from([ValueKind.REG, ValueKind.INT]))
def test_what_is_taken_is_what_stood_before_and_stands_no_more(  # noqa: PLR0913, PLR0917
    begin, end, begins, until, t, kind
):
    """Second by second, in the past: a row of t is taken back if only the old version covers it,
    or has it as its last instant (rules P9, I10).
    """
    before = lived(since=begin, until=None if end is None else max(begin, end))
    new = after(before, since=begins, until=None if until is None else max(begins, until))
    at = t - 1 if kind is ValueKind.INT else t

    def holds(document):
        return document.since <= at and (document.until is None or at < document.until)

    ended = new.until is not None and (new.until < (before.until or 0) or new.until <= new.since)
    taken = any(one.covers(US, series(kind), t) for one in taken_away(before, new))
    assert taken == ((holds(before) and not holds(new)) or (at == before.until and ended))
