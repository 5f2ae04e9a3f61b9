import pytest

from agent.registry.dates import in_local_time, moment, months_later

MIDNIGHT = 1_783_807_200
"""2026-07-12 00:00 in Paris"""


@pytest.mark.parametrize("text", ["2026-07-12T00:00+02:00", "2026-07-11T22:00Z"])
def test_a_moment_with_its_zone_needs_no_other(text):
    assert moment(text) == MIDNIGHT


def test_a_day_begins_at_the_buildings_midnight():
    """Rule I9."""
    assert moment("2026-07-12", "Europe/Paris") == MIDNIGHT


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-07-12", "no time zone"),
        ("12/07/2026", "no time zone"),
        ("2026-02-29", "February 2026 has 28 days"),
        ("29/02/2026", "February 2026 has 28 days"),
        ("2026-13-01", "no date"),
        ("2026-O7-12", "letter O where a zero belongs"),
        ("0000-01-01", "no time zone"),
        ("soon", "no date"),
        ("0026-07-12T00:00Z", "the year"),
        ("0001-01-01T00:00+14:00", "the year"),
        ("9999-12-31T23:59-12:00", "the year"),
    ],
)
def test_what_is_no_moment_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        moment(text)


def test_36_months_later_is_the_same_day_or_the_months_last():
    assert months_later(moment("2024-02-29T12:00Z"), 36) == moment("2027-02-28T12:00Z")
    assert months_later(moment("2026-12-31T00:00Z"), 2) == moment("2027-02-28T00:00Z")


def test_moments_in_a_refusal_are_read_at_the_building():
    words = "lived in from 2026-07-11T22:00:00Z until 2026-07-12T07:30:00Z"
    assert in_local_time(words, "Europe/Paris") == "lived in from 2026-07-12 until 2026-07-12 09:30"
