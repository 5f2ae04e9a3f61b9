"""How large batches are made after one was too large: small enough soon, and larger with care."""

import random

import pytest

from agent.buffer.outbox import DAY, LONGEST, read_limit, refused_limit, written_limit

NOW = 1_700_000_000.0


@pytest.mark.parametrize("most", [300, 4_000, 47_999])
def test_some_refusals_find_a_size_that_passes(most):
    limit, size, refusals = None, 48_000, 0
    while size > most:
        limit, refusals = refused_limit(limit, size, NOW), refusals + 1
        size = limit.now(NOW)
    assert most / 2 < size <= most
    assert refusals <= 8


def test_sizes_double_after_a_day_and_go_back_to_what_passed_when_refused():
    """Rule T18."""
    limit = refused_limit(None, 10_000, NOW).took(4_700)
    assert limit.now(NOW + DAY - 1) == 5_000
    assert limit.now(NOW + DAY) == 10_000
    limit = refused_limit(limit, 9_900, NOW + DAY)
    assert limit.now(NOW + DAY) == 4_950
    assert limit.now(NOW + 2 * DAY) == 4_950, "twice as long until the next attempt"
    assert limit.now(NOW + 3 * DAY) == 9_900


def test_what_is_known_to_pass_is_not_halved():
    limit = refused_limit(None, 16_000, NOW).took(7_900)
    assert refused_limit(limit, 9_000, NOW + DAY).most == 7_900


def test_batches_that_were_under_way_halve_it_once():
    limit = None
    for size in (40_000, 39_000, 41_000):
        limit = refused_limit(limit, size, NOW)
    assert limit.most == 19_500


def test_a_far_side_that_always_takes_so_much_is_pressed_ever_more_rarely():
    draw, limit, attempts, now = random.Random(3), None, 0, NOW
    for _ in range(365):
        now += DAY
        size = min(48_000, limit.now(now) if limit else 48_000) * draw.uniform(0.9, 1)
        if size > 6_000:
            limit, attempts = refused_limit(limit, int(size), now), attempts + 1
        else:
            limit = limit.took(int(size))
    assert limit.wait == LONGEST
    assert attempts < 20


def test_a_clock_that_was_years_ahead_does_not_keep_batches_small():
    assert refused_limit(None, 10_000, NOW + 3_650 * DAY).now(NOW) > 48_000


def test_it_is_kept_as_it_is():
    limit = refused_limit(None, 10_000, NOW).took(4_000)
    assert read_limit(written_limit(limit)) == limit
    assert read_limit(written_limit(None)) is read_limit(None) is None
    assert read_limit('{"most": 1, "of a later version": 2}') is read_limit("rot") is None
