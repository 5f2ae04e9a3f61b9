import pytest

from agent.core.model import BatchId, Lane, SealedBatch
from agent.uplink.files import settings
from agent.uplink.forward import SendScheduler
from agent.uplink.pacing import Rhythm

T = 1_000.0


def batch(seq: int, lane: Lane = Lane.LIVE, rows: int = 10, size: int = 100) -> SealedBatch:
    return SealedBatch(BatchId("G", "r", "e", seq), lane, b"x" * size, "", rows)


def course(outage: float = 0.0, seal: float = 60.0) -> SendScheduler:
    return SendScheduler(Rhythm(seal=seal), T, outage, 0.5)


def seal(at: SendScheduler, lane: Lane, what: SealedBatch | None, now: float) -> None:
    at.sealed(lane, what, now, now + at.rhythm.seal)


def fly(at: SendScheduler, now: float, *batches: SealedBatch) -> float:
    """Send all of them, have them taken; when that was."""
    for one in batches:
        seal(at, one.lane, one, now)
        flight = at.due(now)
        assert flight is not None
        assert flight.batch is one
        at.sent(flight, now)
        at.taken(flight, now)
        now += 0.2
    return now


def test_what_stands_unreceipted_is_sent_again_in_order_at_opening():
    """Rule T16."""
    c = course()
    c.refresh([batch(4), batch(5, Lane.BACKFILL), batch(7)], (), T)
    seen, now = [], T
    while flight := c.due(now):
        seen.append(flight.batch.id.seq)
        c.sent(flight, now)
        assert c.due(now) is None, "a little room is left between two batches"
        now += 0.2
    assert seen == [4, 5, 7]


def test_nothing_is_sealed_before_its_time_and_live_is_sealed_at_it():
    c = course()
    c.waiting[Lane.LIVE] = 10
    assert c.lane_to_seal(T + 59) is None
    assert c.lane_to_seal(T + 60) is Lane.LIVE


def test_a_full_batch_does_not_wait_for_the_interval():
    c = course()
    c.waiting[Lane.LIVE] = 5_000
    assert c.lane_to_seal(T + 1) is Lane.LIVE
    fly(c, T + 1, batch(1, rows=2_000, size=40_000))
    c.waiting[Lane.LIVE] = 2_400
    assert c.lane_to_seal(T + 2) is Lane.LIVE, "20 bytes a row, it has learnt"


def test_the_rest_of_a_full_live_batch_follows_at_once():
    c = course()
    fly(c, T + 60, batch(1, rows=5_000))
    assert c.lane_to_seal(T + 60.2) is Lane.LIVE
    fly(c, T + 60.2, batch(2, rows=7))
    assert c.lane_to_seal(T + 60.4) is None


def test_eight_live_batches_stand_unreceipted_at_most():
    """Rule T14."""
    c = course()
    now = fly(c, T + 60, *(batch(seq, rows=5_000) for seq in range(8)))
    assert c.lane_to_seal(now) is None
    c.ended(batch(3).id, now, 0.5)
    assert c.lane_to_seal(now) is Lane.LIVE


def test_one_backfill_batch_stands_unreceipted_and_the_next_waits_for_the_gap():
    """Rule T14."""
    c = course()
    c.waiting[Lane.BACKFILL] = 50_000
    assert c.lane_to_seal(T) is Lane.BACKFILL
    fly(c, T, batch(1, Lane.BACKFILL, rows=5_000))
    assert c.lane_to_seal(T + 20) is None
    c.ended(batch(1).id, T + 20.0, 0.5)
    assert c.lane_to_seal(T + 21.9) is None, "the receipt was slow: two seconds"
    assert c.lane_to_seal(T + 22.1) is Lane.BACKFILL


def test_live_goes_before_backfill():
    """Rule T14."""
    c = course()
    c.waiting = {Lane.LIVE: 10, Lane.BACKFILL: 5_000}
    assert c.lane_to_seal(T + 60) is Lane.LIVE


def test_backfill_waits_until_the_link_has_proved_itself_after_a_long_outage():
    c = course(outage=86_400.0)
    c.next_seal = T + 1_000
    c.waiting[Lane.BACKFILL] = 5_000
    assert c.lane_to_seal(T + 59) is None
    assert c.lane_to_seal(T + 509) is None
    assert c.lane_to_seal(T + 511) is Lane.BACKFILL


def test_a_trickle_of_late_rows_goes_once_an_interval():
    c = course()
    c.waiting[Lane.BACKFILL] = 1
    fly(c, T, batch(1, Lane.BACKFILL, rows=1))
    c.ended(batch(1).id, T, 0.5)
    assert c.lane_to_seal(T + 59) is None
    c.next_seal = T + 1_000
    assert c.lane_to_seal(T + 60) is Lane.BACKFILL


def test_without_a_receipt_a_batch_is_sent_again_after_a_while():
    c = course()
    fly(c, T, batch(1))
    assert c.due(T + 29) is None
    flight = c.due(T + 30)
    assert flight is not None
    c.sent(flight, T + 30)
    c.taken(flight, T + 30)
    assert c.due(T + 89) is None
    assert c.due(T + 90) is flight


def test_the_receipt_of_what_was_sent_twice_says_nothing_about_the_receipt_time():
    c = course()
    fly(c, T, batch(1), batch(2))
    flight = c.due(T + 30)
    assert flight is not None
    c.sent(flight, T + 30)
    c.ended(batch(1).id, T + 31, 0.5)
    assert c.smoothed is None
    c.ended(batch(2).id, T + 32.2, 0.5)
    assert c.smoothed == pytest.approx(32.0)


def test_after_a_refusal_one_batch_asks_and_the_others_wait():
    c = course()
    c.refresh([batch(1), batch(2)], (), T)
    first = c.due(T)
    assert first is not None
    c.sent(first, T)
    second = c.due(T + 0.2)
    assert second is not None
    c.sent(second, T + 0.2)
    c.refused(first, T + 0.3, 0.5)
    c.refused(second, T + 0.3, 0.5)
    assert c.refusals == 1, "both were under way when it began"
    assert c.due(T + 0.7) is None
    probe = c.due(T + 0.9)
    assert probe is first
    c.sent(probe, T + 0.9)
    assert c.due(T + 1.2) is None, "one at a time"
    c.taken(probe, T + 1.2)
    assert c.due(T + 1.2) is second


def test_nothing_is_sealed_while_nobody_takes_anything():
    c = course()
    seal(c, Lane.LIVE, batch(1), T)
    flight = c.due(T)
    assert flight is not None
    c.sent(flight, T)
    c.refused(flight, T, 0.0)
    c.waiting[Lane.LIVE] = 5_000
    assert c.lane_to_seal(T + 100) is None


def test_a_late_receipt_after_a_refusal_does_not_leave_the_course_standing():
    c = course()
    seal(c, Lane.LIVE, batch(1), T)
    flight = c.due(T)
    assert flight is not None
    c.sent(flight, T)
    c.refused(flight, T, 0.0)
    c.ended(flight.batch.id, T + 1, 0.5)
    assert c.lane_to_seal(T + 60) is Lane.LIVE


def test_slow_down_is_kept_from_the_last_batch_on_until_it_is_taken_back():
    """Rule T25."""
    c = course()
    now = fly(c, T, batch(1))
    c.heard(30)
    seal(c, Lane.LIVE, batch(2), now)
    assert c.due(T + 29.9) is None
    assert c.due(T + 30.1) is not None
    c.heard(0)
    assert c.due(now) is not None


def test_what_the_spool_no_longer_holds_is_not_sent_but_what_was_sealed_meanwhile_is():
    c = course()
    c.refresh([batch(1), batch(2)], (), T)
    had = tuple(c.flights)
    seal(c, Lane.LIVE, batch(3), T)
    c.refresh([batch(2)], had, T)
    assert [id_.seq for id_ in c.flights] == [2, 3]


def test_an_estimate_that_finds_nothing_is_not_believed_again_at_once():
    c = course()
    c.waiting = {Lane.LIVE: 5_000, Lane.BACKFILL: 5_000}
    seal(c, Lane.LIVE, None, T)
    seal(c, Lane.BACKFILL, None, T)
    assert c.lane_to_seal(T + 1) is None


def test_it_sleeps_until_the_next_moment_and_never_longer_than_five_minutes():
    c = course()
    assert c.sleep(T) == 60
    assert c.sleep(T + 59.5) == pytest.approx(0.5)
    assert c.sleep(T + 61) == 300, "the seal is held back: what holds it back wakes it"
    assert course(seal=1.0).sleep(T) == 1.0


def test_a_directory_only_takes_the_turn_of_the_rows_behind_it():
    c = course(seal=3_600.0)
    c.waiting[Lane.LIVE] = 10
    assert c.lane_to_seal(T + 3_600) is Lane.LIVE
    now = fly(c, T + 3_600, batch(1, rows=0))
    assert c.lane_to_seal(now) is Lane.LIVE, "not an hour later"
    fly(c, now, batch(2))
    assert c.lane_to_seal(now + 1) is None


def test_a_directory_does_not_use_up_the_turn_of_the_backlog():
    """Rule T14: signed time brings an outcome every few minutes, which is sent before the rows."""
    c = course(seal=300.0)
    now = fly(c, T, batch(1, Lane.BACKFILL))
    c.ended(batch(1).id, now, 0.5)
    c.waiting[Lane.BACKFILL], c.next_seal = 10, T + 600
    assert c.lane_to_seal(T + 299) is None
    assert c.lane_to_seal(T + 300) is Lane.BACKFILL
    outcomes = batch(2, rows=0)
    seal(c, Lane.BACKFILL, outcomes, T + 300)
    c.ended(outcomes.id, T + 301, 0.5)
    assert c.lane_to_seal(T + 301) is Lane.BACKFILL, "not five minutes later"


THREE_WEEKS = 21 * 86_400
DWELLINGS = 60


def drained(rhythm: Rhythm, rows: int, answers_after: float) -> float:
    """Seconds from opening to the last receipt of a backlog of three weeks, by `Course` alone."""
    at, now, seq, open_until = SendScheduler(rhythm, T, THREE_WEEKS, 1.0), T, 0, 0.0
    at.next_seal = float("inf")
    flying: SealedBatch | None = None
    while rows or flying:
        at.waiting[Lane.BACKFILL] = rows
        if flying and now >= open_until:
            at.ended(flying.id, now, 0.5)
            flying = None
        elif flight := at.due(now):
            at.sent(flight, now)
            at.taken(flight, now)
            open_until = min(open_until, now + answers_after)  # a resend is a copy
        elif lane := at.lane_to_seal(now):
            seq += 1
            flying = batch(seq, lane, min(rows, rhythm.most_rows), 15_000)
            seal(at, lane, flying, now)
            rows, open_until = rows - flying.rows, float("inf")
        else:
            now += min(at.sleep(now), open_until - now) if flying else at.sleep(now)
    return now - T


def test_three_weeks_of_sixty_dwellings_are_made_good_in_an_hour_by_a_slow_platform_in_a_night():
    """By the minute: 1.8 million rows, in 363 batches; with four series a dwelling four times."""
    rows = DWELLINGS * THREE_WEEKS // 60
    assert drained(Rhythm(), rows, 0.5) < 2_400
    assert drained(Rhythm(), 4 * rows, 0.5) < 3_600
    assert drained(Rhythm(), rows, 6.0) < 14 * 3_600


def test_a_platform_that_fetches_files_when_it_likes_is_not_taken_for_a_slow_one():
    told = {"recipient": "r.example", "path": "/mnt/x", "container": "none"}
    rhythm, rows = settings.Settings.model_validate(told).rhythm, DWELLINGS * THREE_WEEKS // 60
    assert drained(rhythm, rows, 300.0) < 4 * 3_600
    assert drained(rhythm, rows, 900.0) < 10 * 3_600, "once an interval, a batch an interval"
    assert drained(rhythm, rows, 1_800.0) > 20 * 3_600, "a slower one is left time"
