"""Rule G3: rows are made at the steps that bases want, and at no other."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from agent.core.model import Series, ValueKind, Why
from agent.core.quantities import channels
from agent.registry import parsers
from agent.registry.consent_policy import (
    Basis,
    boundary_index,
    may_leave,
    register_kept,
    steps_wanted,
    still_covers,
)
from agent.registry.dates import DAY, MONTH
from agent.registry.records import Duty
from tests.unit.registry.building import (
    FR,
    HEAT,
    HOME,
    NOW,
    PEOPLE,
    PLANT,
    US,
    WORD,
    agreed,
    facts,
    lived,
)

PARIS = ZoneInfo("Europe/Paris")
HERE = replace(FR, zone=PARIS)
MANAGER = "manager.example"
LONG = NOW + 900 * DAY


def midnight(*day):
    return int(datetime(*day, tzinfo=PARIS).timestamp())


def wanted(*documents, every=900, t=NOW + DAY, to=US, channel=HEAT, place=HOME):
    return steps_wanted(facts(*documents), HERE, place, channel, every, t, to)


def bound(billing=(), **more):
    return Duty("d1", MANAGER, "décret 2020-886", ("heat",), NOW, None, WORD, billing, **more)


@pytest.mark.parametrize(
    ("agreed_to", "every", "made"),
    [
        (1800, 900, 1800),
        (600, 60, 600),
        (900, 900, 900),
        (1800, 3600, 3600),
        (1800, 1200, 2400),
        (600, 480, 960),
        (DAY, 900, DAY),
        (DAY, DAY, DAY),
        (MONTH, 3600, MONTH),
        (MONTH, DAY, MONTH),
    ],
)
def test_a_consent_wants_its_step_or_the_next_that_fits_the_reading(agreed_to, every, made):
    """Rule P3."""
    found = wanted(lived(), agreed(step=agreed_to, until=LONG), every=every)
    assert found == {made: Basis("c1", PEOPLE)}
    assert made % every == 0
    assert made >= agreed_to


def test_each_consent_wants_its_own_step_and_the_hardest_to_lose_carries_it():
    """So that who withdraws one keeps what the other covers. Rule T13."""
    curve = agreed(step=1800, until=LONG)
    daily = agreed(step=DAY, until=LONG + DAY, id_="c2")
    found = wanted(lived(), curve, daily)
    assert found == {1800: Basis("c1", PEOPLE), DAY: Basis("c2", PEOPLE)}


@pytest.mark.parametrize(
    ("scope", "text", "step"),
    [
        (None, None, 1800), ("loadcurve", None, 1800), ("loadcurve", "10min", 600),
        ("daily", None, DAY), ("monthly", None, MONTH),
    ],
)  # fmt: skip
def test_a_load_curve_is_of_half_hours_unless_ten_minutes_are_named(scope, text, step):
    """Rule P3."""
    assert parsers.step(scope, text) == step


def test_a_withdrawn_consent_wants_nothing():
    gone = replace(agreed(until=LONG), withdrawn=NOW + 60)
    assert wanted(lived(), gone) is Why.CONSENT
    assert wanted(lived(), gone, agreed(step=DAY, until=LONG, id_="c2")) == {
        DAY: Basis("c2", PEOPLE)
    }


def test_a_finer_basis_carries_the_coarser_steps_that_there_ever_were():
    """Rules P3, R16: the recipient has series of these steps, and a finer consent covers them."""
    here, fine = lived(), agreed(step=900, until=LONG)
    both = {step: Basis("c1", PEOPLE) for step in (900, DAY)}
    left = lived(id_="H0", since=NOW - 9000, until=NOW)
    theirs = agreed(of="H0", step=DAY, since=NOW - 9000, until=NOW, id_="c0")
    gone = replace(agreed(step=DAY, until=LONG, id_="c0"), withdrawn=NOW + 60)
    over = agreed(step=DAY, until=NOW + 60, id_="c0")
    for before in ((left, theirs), (gone,), (over,)):
        assert wanted(here, fine, *before) == both
        assert wanted(here, *before) is Why.CONSENT
        # a coarser basis carries nothing finer
        month = agreed(step=MONTH, until=LONG)
        assert list(wanted(here, month, *before)) == [MONTH]
    ended = replace(bound(), until=NOW + 60)
    to_manager = agreed(step=900, until=LONG, recipient=MANAGER)
    assert list(wanted(here, to_manager, ended, to=MANAGER)) == [900, MONTH]
    assert list(wanted(here, fine, ended)) == [900]


def test_nothing_is_wanted_of_whom_nobody_knows_or_where_nobody_lives():
    assert wanted(agreed(until=LONG)) is Why.OCCUPANCY
    assert wanted(lived(until=NOW + 60), agreed(until=LONG)) is Why.VACANT
    assert wanted(lived()) is Why.CONSENT
    assert wanted(lived(), agreed(until=LONG), to="other.example") is Why.CONSENT


def test_common_plant_leaves_as_it_is_read():
    assert wanted(place=PLANT, every=60) == {60: Basis("common", None)}


def test_a_duty_gives_the_manager_the_monthly_index_and_nobody_else_anything():
    """Rule P9."""
    assert wanted(lived(), bound(), to=MANAGER) == {MONTH: Basis("d1", PEOPLE)}
    assert wanted(lived(), bound()) is Why.CONSENT
    power = channels()["elec.power"]
    assert wanted(lived(), bound(), to=MANAGER, channel=power) is Why.CONSENT
    assert wanted(lived(until=NOW + 60), bound(), to=MANAGER) is Why.VACANT
    over = replace(HEAT, kind=ValueKind.INT)
    assert wanted(lived(), bound(), to=MANAGER, channel=over) is Why.CONSENT


def test_a_duty_to_the_manager_makes_no_monthly_rows_for_others():
    """They have a consent to days, and nobody agreed to months. Rule P27."""
    daily = agreed(step=DAY, until=LONG)
    assert wanted(lived(), daily, bound(), every=900) == {DAY: Basis("c1", PEOPLE)}


def test_a_duty_is_harder_to_lose_than_a_consent():
    """Rule T13."""
    consent = agreed(step=MONTH, recipient=MANAGER, until=LONG)
    assert wanted(lived(), consent, bound(), to=MANAGER) == {MONTH: Basis("d1", PEOPLE)}


def test_the_index_of_a_change_of_occupant_leaves_for_the_manager():
    """Rule P9."""
    at = midnight(2026, 12, 1)
    homes = [lived(until=at), lived(since=at, id_="H2")]
    known = facts(*homes, bound())
    assert boundary_index(known, HERE, HOME, HEAT, at, MANAGER) == Basis("d1", "H2")
    assert boundary_index(known, HERE, HOME, HEAT, at + DAY, MANAGER) is None
    assert boundary_index(known, HERE, HOME, HEAT, at, US) is None
    vacated = facts(lived(until=at), bound())
    assert boundary_index(vacated, HERE, HOME, HEAT, at, MANAGER) == Basis("d1", PEOPLE)


@pytest.mark.parametrize(("hour", "given"), [(1, True), (23, True), (24, False)])
def test_the_index_of_00_00_leaves_on_the_day_of_a_move_at_another_hour(hour, given):
    """Rule P9: signed moves are often at 00:00 UTC."""
    at = midnight(2026, 12, 1)
    moved = at + hour * 3600
    homes = [lived(until=moved), lived(since=moved, id_="H2")]
    for known in (facts(*homes, bound()), facts(homes[0], bound())):
        basis = boundary_index(known, HERE, HOME, HEAT, at, MANAGER)
        assert basis == (Basis("d1", PEOPLE) if given else None)
    assert boundary_index(facts(*homes, bound()), HERE, HOME, HEAT, at - DAY, MANAGER) is None
    short = lived(since=at + 3600, until=at + 7200)  # nobody lived there at 00:00
    assert boundary_index(facts(short, bound()), HERE, HOME, HEAT, at, MANAGER) is None


def test_the_index_of_a_billing_date_leaves_for_the_manager():
    """Rule P9."""
    known = facts(lived(), bound(billing=("03-31",)))
    at = midnight(2027, 3, 31)
    assert boundary_index(known, HERE, HOME, HEAT, at, MANAGER) == Basis("d1", PEOPLE)
    assert boundary_index(known, HERE, HOME, HEAT, at + 3600, MANAGER) is None
    assert boundary_index(known, HERE, HOME, HEAT, midnight(2027, 4, 1), MANAGER) is None
    empty = facts(lived(until=NOW + 60), bound(billing=("03-31",)))
    assert boundary_index(empty, HERE, HOME, HEAT, at, MANAGER) is None


def test_somebody_who_never_lived_there_makes_no_change_of_occupant():
    at = midnight(2026, 12, 1)
    known = facts(lived(), lived(since=at, until=at, id_="H2"), bound())
    assert boundary_index(known, HERE, HOME, HEAT, at, MANAGER) is None


def test_registers_are_kept_only_while_a_duty_names_their_quantity():
    known = facts(lived(), bound())
    assert register_kept(known, HOME, HEAT, NOW)
    assert not register_kept(known, HOME, channels()["cw"], NOW)
    assert not register_kept(known, HOME, HEAT, NOW - 1)
    assert not register_kept(known, PLANT, HEAT, NOW)


def test_a_day_of_25_hours_belongs_to_whom_it_began_with():
    """Its quantity began at the building's midnight, which is not 86,400 s before."""
    begins, ends = midnight(2026, 10, 25), midnight(2026, 10, 26)
    assert ends - begins == DAY + 3600
    over = replace(HEAT, kind=ValueKind.INT)
    consent = agreed(step=DAY, since=NOW, until=LONG)
    leaves = may_leave(facts(lived(since=begins), consent), HERE, HOME, over, DAY, ends, US)
    assert leaves == Basis("c1", PEOPLE)
    late = facts(lived(since=begins + 1800), consent)
    assert may_leave(late, HERE, HOME, over, DAY, ends, US) is Why.CONSENT


def series(basis="c1", occupancy=PEOPLE, step=1800, kind=ValueKind.REG, place=HOME):
    return Series(place, "heat", kind, "kWh", step, "45", occupancy, basis)


def test_at_sealing_a_row_leaves_on_the_basis_it_was_spooled_with_and_on_no_other():
    other = agreed(until=LONG, id_="c2")
    assert still_covers(facts(lived(), agreed(), other), HERE, series(), NOW + 60, US)
    gone = replace(agreed(), withdrawn=NOW + 60)
    assert not still_covers(facts(lived(), gone, other), HERE, series(), NOW + 60, US)


@pytest.mark.parametrize(
    ("documents", "row", "t", "to"),
    [
        ([lived(until=NOW + 60), agreed()], series(), NOW + 60, US),
        ([lived(), agreed(until=NOW + 60)], series(), NOW + 60, US),
        ([lived(), agreed()], series(), NOW + 60, "other.example"),
        ([lived(), agreed(channels=("cw",))], series(), NOW + 60, US),
        ([lived(), agreed(step=3600)], series(), NOW + 60, US),
        ([lived(), agreed()], series(occupancy="H2"), NOW + 60, US),
        ([lived(), agreed()], series(occupancy=None, basis="common"), NOW + 60, US),
        ([lived(), agreed()], series(kind=ValueKind.INT), NOW + 60, US),
    ],
)
def test_at_sealing_what_is_no_longer_covered_stays(documents, row, t, to):
    """Rule P12."""
    assert not still_covers(facts(*documents), HERE, row, t, to)


def test_at_sealing_a_duty_and_the_common_basis_count_too():
    at = midnight(2026, 12, 1)
    known = facts(lived(until=at), bound())
    assert still_covers(known, HERE, series("d1", step=DAY), at, MANAGER)
    assert not still_covers(known, HERE, series("d1", step=DAY), at + 1, MANAGER)
    assert not still_covers(known, HERE, series("d1", step=DAY), at, US)
    assert still_covers(known, HERE, series("common", None, place=PLANT), NOW, US)
    assert not still_covers(known, HERE, series("common", None, place=PLANT), NOW - 1, US)
