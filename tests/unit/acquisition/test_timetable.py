from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.timetable import choose, next_slot, running_slot

STEPS = st.sampled_from([1, 10, 60, 900, 3600])
NOW = st.floats(1e9, 2e9)


def test_slots_fall_on_multiples_of_their_step():
    assert running_slot(900, 1_800_001_234.5) % 900 == 0


@given(STEPS, NOW)
def test_the_first_slot_is_the_one_that_is_running(step, now):
    assert now - step < next_slot(None, step, now) <= now


@given(STEPS, NOW, st.integers(-50, 50))
def test_a_slot_is_never_read_twice_and_an_old_one_never_queued(step, now, away):
    closed = running_slot(step, now) + away * step
    slot = next_slot(closed, step, now)
    assert slot > closed
    assert slot + step > now
    assert slot % step == 0


def test_nothing_is_due_before_the_next_slot():
    assert choose({("a", 60): 120, ("b", 900): 0}, 150.0) == 180.0


def test_what_ends_first_goes_first_and_slow_steps_ride_along():
    closed = {("slow", 3600): None, ("fast", 10): None, ("fast", 60): None}
    assert choose(closed, 7200.5) == ("fast", {10: 7200, 60: 7200})


def test_a_slow_device_is_not_starved_by_fast_ones_on_a_full_line():
    """Rule F10."""
    closed: dict[tuple[str, int], int | None] = {("slow", 60): 0, ("fast", 1): 59}
    now, order = 60.0, []
    while "slow" not in order:
        device, slots = choose(closed, now)
        order.append(device)
        for step, slot in slots.items():
            closed[device, step] = slot
        now += 1.2  # every read takes longer than the fast step
    assert len(order) < 60


def test_devices_due_at_once_keep_the_order_of_the_configuration():
    assert choose({("b", 60): 0, ("a", 60): 0}, 60.0)[0] == "b"
