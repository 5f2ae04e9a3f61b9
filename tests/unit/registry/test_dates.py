from zoneinfo import ZoneInfo

import pytest

from agent.registry.dates import (
    date_alone,
    day_written_out,
    in_local_time,
    moment,
    months_later,
    time_written_out,
    written_out,
)

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
        ("31/09/2026", "September 2026 has 30 days. Write 2026-09-30 for its last day"),
        ("06/25/2024", "no month 25. Write the day first, 25/06/2024, or 2024-06-25"),
        ("06/25/24", "no month 25. Write the day first, 25/06/2024, or 2024-06-25"),
        ("12/07/87", "is it 1987 or 2087"),
        ("12-juil.-50", "is it 1950 or 2050"),
        ("12-07-26", "is it 12/07/2026 or 26/07/2012"),
        ("42-07-12", "no date"),
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


@pytest.mark.parametrize("text", ["12/07/26", "12.07.26", "12/7/26", "12 juil. 26", "12-July-26"])
def test_a_year_of_two_digits_is_read_where_only_one_can_be_meant(text):
    assert moment(text, "Europe/Paris") == MIDNIGHT
    assert date_alone(text)


def test_36_months_later_is_the_same_day_or_the_months_last():
    assert months_later(moment("2024-02-29T12:00Z"), 36) == moment("2027-02-28T12:00Z")
    assert months_later(moment("2026-12-31T00:00Z"), 2) == moment("2027-02-28T00:00Z")


def test_moments_in_a_refusal_are_read_at_the_building():
    words = "lived in from 2026-07-11T22:00:00Z until 2026-07-12T07:30:00Z"
    assert in_local_time(words, "Europe/Paris") == "lived in from 2026-07-12 until 2026-07-12 09:30"


@pytest.mark.parametrize(
    ("day", "french", "english"),
    [
        ("2026-05-12", "12 mai 2026", "12 May 2026"),
        ("2026-08-01", "1er août 2026", "1 August 2026"),
        ("02-09", "9 février", "9 February"),
    ],
)
def test_a_day_is_written_out_in_the_language_of_the_page(day, french, english):
    assert (day_written_out(day, "fr"), day_written_out(day, "en")) == (french, english)


def test_a_time_is_written_out_in_the_time_zone_of_the_building():
    paris, at = ZoneInfo("Europe/Paris"), moment("2026-05-12T23:30+00:00")
    assert written_out(at, paris, "fr") == "13 mai 2026"
    assert time_written_out(at, paris, "fr") == "13 mai 2026 à 01:30"
    assert time_written_out(at, paris, "en") == "13 May 2026 at 01:30"
