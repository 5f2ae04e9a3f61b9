"""Rules M6, M8: what is believed, kept and marked, and what is compared with what."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.values import Validation
from agent.core.model import Quality
from tests.unit.acquisition.house import point

METER = point(rating=Decimal(9), rolls_at=Decimal(100_000))
UNRATED = point()
ROOM = point(channel="temp", unit="Cel")


def judged(of, *values, every=900):
    """What is said of values one step apart: `V`, `S SPK`, …"""
    validation, said = Validation(), []
    for n, value in enumerate(values):
        verdict = validation.check(of, Decimal(value), n * every)
        said.append(" ".join([verdict.quality, *verdict.flags]))
    return said


def test_an_index_is_checked_from_the_second_value_on():
    assert judged(METER, "100.0", "101.5", "101.5") == ["R", "V", "V"]


def test_without_the_meters_rating_nothing_is_called_checked():
    assert judged(UNRATED, "100.0", "101.5", "999.0") == ["R", "R", "R"]


def test_an_index_that_rises_faster_than_the_meter_can_is_a_spike():
    # 9 kW × 1.2 for a quarter of an hour are 2.7 kWh
    assert judged(METER, "100.0", "102.7", "105.4", "108.3") == ["R", "V", "V", "S SPK"]


def test_after_an_isolated_spike_the_next_value_is_judged_by_the_last_good_one():
    assert judged(METER, "100.0", "99999.9", "100.5") == ["R", "S SPK", "V"]


def test_a_change_that_the_next_value_confirms_was_true():
    """Rule M13."""
    assert judged(METER, "100.0", "5000.0", "5000.5", "5001.0") == ["R", "S SPK", "R", "V"]
    assert judged(METER, "5000.0", "0.0", "0.5", "1.0") == ["R", "S RST", "R", "V"]


def test_an_index_that_passed_its_end_has_rolled_over():
    validation = Validation()
    validation.check(METER, Decimal("99999.5"), 0)
    verdict = validation.check(METER, Decimal("0.75"), 900)
    assert (verdict.quality, verdict.flags, verdict.delta) == ("V", ("ROLL",), Decimal("1.25"))


def test_a_fall_from_below_nine_tenths_of_the_end_is_no_rollover():
    assert judged(METER, "89999.5", "0.75") == ["R", "S RST"]


def test_not_even_after_so_long_that_the_rest_can_have_flowed():
    short = point(rating=Decimal(9), rolls_at=Decimal(100))
    assert judged(short, "80", "5", every=36_000) == ["R", "S RST"]
    assert judged(short, "95", "5", every=36_000) == ["R", "V ROLL"]


def test_a_fall_that_would_need_more_than_can_flow_is_no_rollover():
    assert judged(METER, "99990.0", "5.0") == ["R", "S RST"]


def test_where_an_end_is_not_written_down_it_is_a_power_of_ten():
    rated = point(rating=Decimal(9))
    assert judged(rated, "9999.5", "0.5") == ["R", "V ROLL"]
    assert judged(UNRATED, "9999.5", "0.5") == ["R", "S RST"]


def test_a_coarse_index_may_jump_by_one_of_its_digits():
    assert judged(METER, "100", "101", every=10) == ["R", "V"]
    assert judged(METER, "100.0", "101.0", every=10) == ["R", "S SPK"]


def test_a_negative_index_and_one_beyond_its_end_are_out_of_range():
    assert judged(METER, "-1", "100001") == ["S RNG", "S RNG"]


def test_a_sensor_outside_what_can_be_is_out_of_range():
    assert judged(ROOM, "19.5", "19.6", "-50", "327.67", "19.7") == [
        "R",
        "V",
        "S RNG",
        "S RNG",
        "V",
    ]


def test_a_temperature_does_not_jump():
    assert judged(ROOM, "19.5", "60.0", "19.5", every=60) == ["R", "S SPK", "V"]


def test_a_sensor_that_says_the_very_same_for_a_day_is_frozen():
    said = judged(ROOM, *["19.5"] * 30, every=3600)
    assert said[:25] == ["R"] + ["V"] * 24
    assert said[25] == "V FRZ"


def test_an_index_may_stand_still_for_a_month():
    said = judged(METER, *["100.5"] * 33, every=86_400)
    assert [n for n, words in enumerate(said) if "FRZ" in words] == [31, 32]


def test_another_meter_is_compared_with_nothing_before():
    validation = Validation()
    validation.check(METER, Decimal(5000), 0)
    validation.forget("m1")
    assert validation.check(METER, Decimal(3), 900).quality is Quality.RAW


values = st.decimals(min_value=-10, max_value=200_000, places=3)


@given(st.lists(values, min_size=1, max_size=30))
def test_a_delta_is_never_negative_and_always_exact(indexes):
    validation, good = Validation(), None
    for n, value in enumerate(indexes):
        verdict = validation.check(METER, value, n * 900)
        if verdict.delta is not None:
            assert verdict.delta >= 0
            assert (good + verdict.delta - value) in (0, 100_000)
            assert verdict.quality is Quality.MEASURED
        if verdict.quality is not Quality.SUSPECT:
            good = value
