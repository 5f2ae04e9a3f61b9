"""What a metered line must carry, and how far a schedule is stretched to fit."""

from dataclasses import replace

import pytest

from agent.uplink.budget import (
    SEALS,
    ReadStream,
    UplinkLoad,
    a_month,
    allowance,
    batches_a_day,
    openings_a_day,
    rows_a_day,
    signs_a_day,
    slowed,
    stretched,
)

SIXTY = UplinkLoad("mqtt", (ReadStream(900, 60, 60, 60, takes=30.0),), 60.0, 30.0)
"""sixty dwellings every quarter of an hour"""
MB = 1_000_000


def test_a_month_is_what_its_parts_make():
    assert rows_a_day(SIXTY) == 60 * 96
    assert batches_a_day(SIXTY) == 144, "one a quarter, and every other round crosses a full minute"
    assert batches_a_day(replace(SIXTY, seal=3600.0)) == 24
    assert 20 * MB < a_month(SIXTY) < 80 * MB


def test_readings_at_the_same_moments_make_no_more_batches():
    quarters, hours = ReadStream(900, 60, 60, 60), ReadStream(3600, 60, 60, 60)
    assert batches_a_day(UplinkLoad("mqtt", (quarters, hours), 60.0, 30.0)) == 96


def test_a_slow_line_spreads_a_round_over_several_batches():
    slow = UplinkLoad("mqtt", (ReadStream(900, 60, 60, 60, takes=300.0),), 60.0, 30.0)
    assert batches_a_day(slow) == 6 * 96


def test_further_values_and_devices_of_a_dwelling_cost_less_than_its_first_row():
    first, values, devices, dwellings = (
        a_month(UplinkLoad("mqtt", (stream,), 60.0, 30.0))
        for stream in (
            ReadStream(60, 60, 60, 60),
            ReadStream(60, 60, 60, 240),
            ReadStream(60, 60, 240, 240),
            ReadStream(60, 240, 240, 240),
        )
    )
    assert 5 < (dwellings - first) / (values - first) < 7
    assert 2 < (dwellings - first) / (devices - first) < 4


@pytest.mark.parametrize(
    ("transport", "step", "keepalive", "signs"),
    [
        ("mqtt", 60, 30.0, 1440),  # a batch each minute, and one keep-alive in between
        ("mqtt", 3600, 30.0, 24 * 119),
        ("https", 60, 120.0, 96),  # the answers to batches say what there is to fetch
        ("https", 60, 60.0, (1440 + 96) / 2),  # both are due at once: now one goes, now the other
        ("https", 3600, 60.0, 1440),
        ("files", 60, 60.0, 1440),
    ],
)
def test_a_batch_stands_for_a_sign_of_life(transport, step, keepalive, signs):
    assert (
        signs_a_day(UplinkLoad(transport, (ReadStream(step, 60, 60, 60),), 60.0, keepalive))
        == signs
    )


@pytest.mark.parametrize(
    ("transport", "poll", "openings"),
    [("https", 60.0, 2), ("https", 600.0, 2 + 24 + 144), ("files", 600.0, 2), ("mqtt", 600.0, 2)],
)
def test_an_idle_connection_over_https_is_made_anew(transport, poll, openings):
    assert (
        openings_a_day(UplinkLoad(transport, (ReadStream(3600, 9, 9, 9),), 60.0, poll)) == openings
    )


def test_a_longer_keep_alive_comes_before_a_longer_seal_interval():
    plan = stretched(SIXTY, a_month(SIXTY) * 9 // 10)
    assert plan is not None
    assert plan.seal == SIXTY.seal
    assert plan.keepalive > SIXTY.keepalive


@pytest.mark.parametrize("budget", [60 * MB, 30 * MB, 20 * MB, 10 * MB, 5 * MB])
def test_what_is_stretched_fits_and_nothing_livelier_does(budget):
    plan = stretched(SIXTY, budget)
    if plan is None:
        assert a_month(replace(SIXTY, seal=SEALS[-1], keepalive=1200.0)) > budget * 0.85
        return
    assert a_month(plan) <= budget * 0.85
    livelier = [seal for seal in (SIXTY.seal, *SEALS) if seal < plan.seal]
    slowest = [replace(plan, seal=seal, keepalive=1200.0) for seal in livelier]
    assert all(a_month(one) > budget * 0.85 for one in slowest)


def test_a_broker_with_a_short_keep_alive_is_not_asked_for_a_longer_one():
    plan = stretched(SIXTY, 12 * MB, longest_keepalive=60.0)
    assert plan is None or plan.keepalive <= 60


def test_what_no_stretching_saves_is_said():
    assert (
        stretched(UplinkLoad("mqtt", (ReadStream(60, 500, 500, 500),), 60.0, 30.0), 10 * MB) is None
    )


@pytest.mark.parametrize(
    ("used", "share", "seal"),
    [(0, 0.0, 60.0), (50, 0.5, 60.0), (54, 0.5, 60.0), (100, 0.9, 86_400.0), (99, 0.99, 60.0)],
)
def test_a_month_within_its_plan_is_not_slowed_and_one_used_up_goes_once_a_day(used, share, seal):
    assert slowed(60.0, used, 100, share) == seal


def test_the_further_ahead_of_its_plan_the_more_slowly_it_goes():
    paces = [slowed(60.0, used, 100, 0.2) for used in (20, 40, 60, 99)]
    assert paces == sorted(paces)
    assert paces[1] >= 4 * 60


def test_a_budget_is_written_for_people():
    assert allowance("50MB/month") == 50 * MB
    assert allowance("1 GB / month") == 1000 * MB
    for wrong in ("50MB", "50MB/day", "", None, True, "x/month"):
        with pytest.raises(ValueError, match=r"50MB/month|200MB"):
            allowance(wrong)
