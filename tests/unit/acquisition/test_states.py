"""Guards rule G2: each change of a state comes once, through silence, restarts and reloads.
Rule M15.
"""

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.slots import SlotLedger, news
from agent.core.model import Reading, Series, Why
from agent.registry.consent_policy import CommonBasis, policy
from tests.unit.acquisition.house import LONG_AGO, NOW, Town, point, sample

CELLAR = "CZS2YFSTBQQ5WDC"
DOOR = point(name="door", channel="state.door", unit="1", place=CELLAR)
ALARM = point(name="alarm", channel="state.alarm", unit="1", place=CELLAR)
KEY = ("m1", 10)
ALLOWED, FORBIDDEN = policy("DEMO-1", CommonBasis("vote", LONG_AGO)), policy("DEMO-1")


class Gateway:
    """The account of one device's states; its marks outlive it."""

    def __init__(self, folder, points=(DOOR,)):
        self.town, self.points, self.t = Town(folder), points, NOW
        self.allow(ALLOWED)
        self.start({})

    def allow(self, rules):
        self.town.policy = rules

    def start(self, marks):
        self.ledger = SlotLedger(self.town.gate(), {KEY: self.points}, marks)

    def reads(self, *values, why=None):
        """Close the next slot; (seconds since the begin, what is said) of each row."""
        samples = [
            sample(of, value, self.t + 1.0, None if value else why or Why.SILENT)
            for of, value in zip(self.points, values, strict=True)
        ]
        rows = self.ledger.close(KEY, self.t, samples, None, Why.BUSY)
        self.t += 10
        return told(rows)


def told(rows):
    return [(row.t - NOW, str(row.value) if row.why is None else row.why) for row in rows]


@pytest.fixture
def gateway(tmp_path):
    return Gateway(tmp_path)


def test_a_row_comes_when_the_state_changes_and_not_in_each_slot(gateway):
    """Rule R4."""
    said = [gateway.reads(value) for value in ("0", "0", "1", "1.0", "0")]
    assert said == [[(0, "0")], [], [(20, "1")], [], [(40, "0")]]


def test_silence_is_told_once_and_so_is_the_state_after_it_though_it_is_the_same(gateway):
    said = [gateway.reads(value) for value in ("0", None, None, "0", "0")]
    assert said == [[(0, "0")], [(10, "silent")], [], [(30, "0")], []]


def test_a_restart_within_a_slot_tells_nothing_anew(gateway):
    gateway.reads("1")
    gateway.start(gateway.ledger.marks)
    assert gateway.ledger.resume(gateway.t - 1) == []
    assert gateway.reads("1") == []
    assert gateway.reads("0") == [(20, "0")]


def test_slots_that_went_by_while_we_were_down_are_one_row_of_one_slot_and_the_state_follows(
    gateway,
):
    gateway.reads("1")
    gateway.start(gateway.ledger.marks)
    gateway.t += 50
    (row,) = gateway.ledger.resume(gateway.t + 1)
    assert (row.t - NOW, row.why, row.span) == (10, "agent", 1)
    assert gateway.reads("1") == [(60, "1")]


def test_slots_skipped_before_a_state_are_told_before_it(gateway):
    gateway.reads("1")
    gateway.t += 30
    assert gateway.reads("1") == [(10, "busy"), (40, "1")]


def test_two_states_of_a_device_are_told_apart(tmp_path):
    gateway = Gateway(tmp_path, (DOOR, ALARM))
    said = [gateway.reads(*values) for values in (("0", "0"), ("0", "3"), ("1", "3"))]
    assert said == [[(0, "0"), (0, "0")], [(10, "3")], [(20, "1")]]


def test_a_state_that_was_held_back_is_told_anew_when_it_may_leave_again(gateway):
    gateway.reads("0")
    for rules, said in ((FORBIDDEN, []), (ALLOWED, [(20, "0")])):
        gateway.allow(rules)
        marks = gateway.ledger.marks
        gateway.ledger.renew({KEY: [DOOR]}, marks, rules, None)
        assert gateway.reads("0") == said


def test_a_point_that_was_taken_away_and_comes_back_is_told_anew(gateway):
    gateway.reads("0")
    for points, values, said in (((ALARM,), ["0"], [(10, "0")]), ((DOOR,), ["0"], [(20, "0")])):
        gateway.points = points
        gateway.ledger.renew({KEY: points}, gateway.ledger.marks, ALLOWED, None)
        assert gateway.reads(*values) == said


def test_an_answer_that_comes_late_is_a_new_version_and_the_next_slot_says_nothing(gateway):
    gateway.reads("0")
    gateway.reads(None)
    (row,) = gateway.ledger.late(KEY, NOW + 10, [sample(DOOR, "0", NOW + 18.0)], None, NOW + 18)
    assert (row.t, row.value, row.ver, row.flags) == (NOW + 10, 0, NOW + 18, "LATE")
    assert gateway.reads("0") == []


@given(st.lists(st.sampled_from([None, "0", "1"]), max_size=30), st.integers(0, 30))
def test_the_rows_say_all_that_every_slot_would_have_said(said, cut):
    """Written out slot by slot they are what was read, wherever the memory was put down."""
    series = Series(CELLAR, "state.door", "EVT", "1", 10, None, None, "common")
    rows = [
        Reading(series, t, None if one is None else Decimal(one), "V", why=None if one else "link")
        for t, one in enumerate(said)
    ]
    first, memory = news(rows[:cut], ())
    second, _ = news(rows[cut:], memory)
    news_at = {row.t: (row.value, row.why) for row in (*first, *second)}
    force, whole = None, []
    for row in rows:
        force = news_at.get(row.t, force)
        whole.append(force)
    assert whole == [(row.value, row.why) for row in rows]
    values = list(news_at.values())
    assert all(one != other for one, other in itertools.pairwise(values))
