from hypothesis import given
from hypothesis import strategies as st

from agent.uplink import pacing
from agent.uplink.pacing import Rhythm

draws = st.floats(0, 1, exclude_max=True)
spans = st.floats(0, 1e9)
RHYTHM = Rhythm()


def test_each_gateway_has_its_own_moment_in_the_interval_and_keeps_it():
    moments = {pacing.phase(f"G{n}", 60.0) for n in range(200)}
    assert len(moments) == 200
    assert all(0 <= moment < 60 for moment in moments)
    assert pacing.phase("G1", 60.0) == pacing.phase("G1", 60.0)


@given(st.floats(0, 4e9), st.sampled_from([0.05, 1.0, 60.0, 900.0]), draws)
def test_the_next_seal_is_never_further_away_than_one_interval(wall, seal, draw):
    assert 0 <= pacing.until_seal(wall, Rhythm(seal=seal, phase=seal * draw)) <= seal


def test_slots_of_the_last_two_intervals_are_live():
    assert pacing.live_after(1000.9, Rhythm(seal=60.0)) == 880
    assert pacing.live_after(1000.0, Rhythm(seal=1.0)) == 998


def test_a_batch_is_full_by_rows_or_by_the_bytes_that_rows_have_had_so_far():
    """Rule T15."""
    assert not pacing.full(4_799, 10.0, Rhythm())
    assert pacing.full(4_800, 10.0, Rhythm())
    assert pacing.full(5_000, 1.0, Rhythm())


def test_a_receipt_is_waited_for_thirty_seconds_then_twice_as_long_each_time():
    """Rule T16."""
    waits = [pacing.patience(None, resends, RHYTHM) for resends in range(7)]
    assert waits == [30, 60, 120, 240, 480, 600, 600]


def test_a_slow_platform_is_waited_for_three_times_as_long_as_it_takes():
    assert pacing.patience(60.0, 0, RHYTHM) == 180
    assert pacing.patience(1e6, 0, RHYTHM) == 600


def test_the_receipt_time_follows_slowly():
    assert pacing.smooth(None, 4.0) == 4.0
    assert pacing.smooth(4.0, 12.0) == 5.0


@given(st.integers(1, 10_000), draws)
def test_backing_off_doubles_from_a_second_to_five_minutes_with_full_jitter(refusals, draw):
    assert 0 <= pacing.backoff(refusals, draw) < min(300, 2.0 ** (min(refusals, 11) - 1)) + 1e-9


def test_backfill_starts_late_and_spread_after_a_long_outage_and_soon_after_a_short_one():
    assert pacing.settling(3 * 86_400, 0.0) == 60
    assert pacing.settling(3 * 86_400, 0.999_999) > 959
    assert pacing.settling(4.0, 0.999_999) < 2
    assert pacing.settling(0.0, 0.5) == 0


def test_the_gap_between_backfill_batches_shrinks_slowly_and_doubles_at_once():
    assert pacing.first_gap(3 * 86_400) == 10
    assert pacing.first_gap(8.0) == 2
    assert pacing.next_gap(10.0, 0.1) == 9
    assert pacing.next_gap(10.0, 5.0) == 20
    assert pacing.next_gap(600.0, 6.0) == 120, "slow for everybody, but not pressed"
    assert pacing.next_gap(600.0, 60.0) == 600
    assert pacing.next_gap(10.0, 600.0, quick=900.0) == 9, "files are fetched when they are fetched"


@given(st.floats(1, 600), spans)
def test_the_gap_stays_between_a_second_and_ten_minutes(gap, receipt_time):
    """Rule T14."""
    assert 1 <= pacing.next_gap(gap, receipt_time) <= 600


def test_nobody_slows_us_down_for_longer_than_ten_minutes_with_one_receipt():
    """Rule T25."""
    assert pacing.spacing(0) == 0.2
    assert pacing.spacing(30) == 30
    assert pacing.spacing(86_400) == 600
