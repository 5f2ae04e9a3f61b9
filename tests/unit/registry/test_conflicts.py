import pytest

from agent.registry.admission import Conflicts
from tests.unit.registry.building import (
    NEIGHBOUR,
    NOW,
    agreed,
    called,
    facts,
    installed,
    lived,
)


def against(first, second):
    """What stands against the second document once the first one stands."""
    claims = Conflicts(facts(called()))
    assert claims.add(first) is None
    return claims.add(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (installed(serial="045"), installed(NEIGHBOUR, serial="45", id_="i2")),
        (installed(device="a"), installed(NEIGHBOUR, device="a", id_="i2")),
        (installed(serial="1"), installed(NEIGHBOUR, device="a", serial="1", id_="i2")),
        (installed(serial="1", channel="heat"), installed(serial="1", id_="i2")),
        (installed(serial="1", channel="heat"), installed(serial="2", channel="heat", id_="i2")),
        (installed(serial="1", until=NOW + 2), installed(serial="1", since=NOW + 1, id_="i2")),
        (lived(), lived(since=NOW + 9, id_="H2")),
        (lived(since=NOW + 9), lived(id_="H2")),
        (agreed(), agreed(channels=("cw", "heat"), since=NOW + 8999, id_="c2")),
    ],
)
def test_two_facts_about_one_thing_at_one_time_are_refused(first, second):
    said = against(first, second)
    assert said is not None
    assert "alice on 2026-09-21, a test" in said


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (installed(serial="1", until=NOW + 9), installed(serial="1", since=NOW + 9, id_="i2")),
        (installed(serial="1"), installed(serial="2", id_="i2")),
        (installed(serial="1", channel="heat"), installed(serial="1", channel="cw", id_="i2")),
        (lived(until=NOW + 9), lived(since=NOW + 9, id_="H2")),
        (lived(), lived(NEIGHBOUR, id_="H2")),
        (agreed(), agreed(since=NOW + 9000, id_="c2")),
        (agreed(), agreed(recipient="b.example", id_="c2")),
        (agreed(), agreed(of="H2", id_="c2")),
        (agreed(), agreed(channels=("cw",), id_="c2")),
    ],
)
def test_facts_that_do_not_meet_stand_together(first, second):
    assert against(first, second) is None


def test_a_new_version_of_a_fact_does_not_stand_against_itself():
    assert against(installed(device="a"), installed(device="a", serial="1")) is None


def test_what_stands_against_a_fact_is_told_as_people_would_say_it():
    said = against(installed(serial="45"), installed(NEIGHBOUR, serial="45", id_="i2"))
    assert said == (
        "meter 45 measures A-3-12 (D84G7-ZWYRD-6Z1GQ) from 2026-09-21T14:13:20Z "
        "(alice on 2026-09-21, a test)"
    )
