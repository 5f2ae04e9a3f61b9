import pytest

from agent.buffer.outbox import BatchState, StoredBatch
from agent.buffer.receipts import judge, may_begin_anew
from agent.core.model import Receipt, Void

A, B = "a" * 64, "b" * 64
SENT, RECEIPTED, QUARANTINED = BatchState.UNRECEIPTED, BatchState.RECEIPTED, BatchState.QUARANTINED


def verdict(held, stored=(), rejected=(), next_seq=10):
    found = {seq: StoredBatch(*what) for seq, what in held.items()}
    return judge(Receipt("G", "r", "e", tuple(stored), tuple(rejected)), found, next_seq)


@pytest.mark.parametrize("state", [SENT, QUARANTINED])
def test_a_batch_is_settled_by_its_own_hash_also_out_of_quarantine(state):
    assert verdict({1: (A, state)}, [(1, A)]).stored == (1,)


@pytest.mark.parametrize("state", list(BatchState))
def test_other_bytes_under_an_id_we_hold_are_a_contradiction(state):
    found = verdict({1: (A, state)}, [(1, B)])
    assert found.contradicted == (1,)
    assert found.stored == ()


def test_what_is_no_longer_held_is_neither_settled_nor_contradicted():
    """Rule T3."""
    found = verdict({}, [(1, A)], [(2, A, "no")])
    assert (found.stored, found.contradicted, found.rejected, found.ahead) == ((), (), (), ())
    assert found.ignored == 2


def test_a_second_receipt_changes_nothing():
    assert verdict({1: (A, RECEIPTED)}, [(1, A)]).ignored == 1


def test_a_rejection_concerns_only_those_bytes():
    """Rule T4."""
    assert verdict({1: (A, SENT)}, rejected=[(1, A, "no")]).rejected == ((1, "no"),)
    other = verdict({1: (A, SENT)}, rejected=[(1, B, "no")])
    assert (other.rejected, other.contradicted, other.ignored) == ((), (), 1)


@pytest.mark.parametrize("state", [RECEIPTED, QUARANTINED])
def test_a_rejection_does_not_take_back_what_was_said_before(state):
    assert verdict({1: (A, state)}, rejected=[(1, A, "no")]).rejected == ()


def test_ids_not_made_yet_are_seen_in_the_current_epoch_only():
    assert verdict({}, [(9, A), (10, A)], [(11, A, "no")]).ahead == (10, 11)
    assert verdict({}, [(10, A)], next_seq=None).ahead == ()


def test_of_a_void_and_what_was_sealed_before_the_first_word_settles_which_one_is_there():
    void = (A, SENT, Void.WITHDRAWN, B)
    assert verdict({1: void}, [(1, A)]).stored == (1,)
    assert verdict({1: void}, [(1, B)]).originals == (1,)
    assert verdict({1: void}, [(1, "c" * 64)]).contradicted == (1,)
    settled = (A, RECEIPTED, Void.WITHDRAWN, B)
    assert verdict({1: settled}, [(1, B)]).ignored == 1
    assert verdict({1: settled}, [(1, A)]).ignored == 1


def test_a_brokers_late_word_for_what_was_sealed_before_a_void_says_nothing():
    """Rule T11: which of the two stands at the platform it does not know."""
    void = {1: StoredBatch(A, SENT, Void.WITHDRAWN, B)}
    late = judge(Receipt("G", "r", "e", ((1, B),), by_broker=True), void, 10)
    assert (late.originals, late.contradicted, late.ignored) == ((), (), 1)
    assert judge(Receipt("G", "r", "e", ((1, A),), by_broker=True), void, 10).stored == (1,)


def test_a_void_is_never_rejected():
    """Rule T4."""
    assert verdict({1: (A, SENT, Void.EXPIRED, B)}, rejected=[(1, A, "no")]).ignored == 1


def test_a_void_of_what_is_no_longer_known_agrees_with_whatever_is_there():
    assert verdict({1: (A, SENT, Void.GONE, None)}, [(1, B)]).originals == (1,)


@pytest.mark.parametrize(
    ("last", "allowed"),
    [
        (None, True),
        (0.0, True),
        (100_000 - 86_399, False),
        (100_000 - 86_400, True),
        (150_000, False),
    ],
)
def test_a_conflict_begins_at_most_one_epoch_a_day_even_if_the_clock_steps_back(last, allowed):
    assert may_begin_anew(100_000.0, last) is allowed
