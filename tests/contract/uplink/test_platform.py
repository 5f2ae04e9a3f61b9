"""The pretend platform counts what it must: it is the other side of every proof."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zstandard

from agent.buffer.batch import Stamp, write
from agent.core.model import BatchId, Lane, Reading, Series
from hil.platform.ledger import opened
from hil.platform.listen import Desk
from hil.platform.report import report, rows
from hil.platform.unpack import UnreadableError, unpack

TOPIC = "gardien/G1/r.example/up/live"
SERIES: dict[str, Any] = {
    "place": "D1", "channel": "heat", "kind": "REG", "unit": "kWh", "step": 60, "meter": "m",
    "basis": "c1", "t0": "2026-11-24T09:00:00Z", "t": [0, 60, 120], "v": [1, 1, None], "q": "VVM",
    "why": {"2": "silent"}, "d": {"1": 43},
}  # fmt: skip


def payload(seq: int = 1, *series: dict[str, Any], numbers: str = "1.50,2e1,null", **more: Any):
    document = {"schema": "gardien/batch/1", "gateway": "G1", "epoch": "e", "seq": seq,
                "recipient": "r.example", "lane": "live", "created": "2026-11-24T10:00:00Z",
                "clock": "trusted", "privacy": "FR-1",
                "series": list(series) or [SERIES]}  # fmt: skip
    text = json.dumps(document | more).replace("[1, 1, null]", f"[{numbers}]")
    return zstandard.compress(text.encode())


def sha(of: bytes) -> str:
    return hashlib.sha256(of).hexdigest()


class Case:
    def __init__(self, path: Path) -> None:
        self.path = path

    def bring(self, *payloads: bytes, topic: str = TOPIC) -> list[dict[str, Any]]:
        """What it answers to each."""
        with opened(self.path) as ledger:
            answers = [Desk(ledger).answer(topic, one) for one in payloads]
        assert all(a is None or a[0] == "gardien/G1/r.example/down/receipts" for a in answers)
        return [json.loads(answer[1]) for answer in answers if answer]

    def counts(self, *names: str) -> list[int]:
        counted = report(self.path)
        return [counted[name] for name in names]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "platform.db")


def test_a_batch_is_kept_digit_by_digit_and_receipted_by_its_hash(case: Case):
    one = payload()
    (receipt,) = case.bring(one)
    assert receipt == {"schema": "gardien/receipt/1", "gateway": "G1", "recipient": "r.example",
                       "epoch": "e", "stored": [[1, sha(one)]]}  # fmt: skip
    held = [(row.t, row.value, row.q, row.why, row.delay) for row in rows(case.path)]
    assert held == [(1795510800, "1.50", "V", None, 0), (1795510860, "2e1", "V", None, 43),
                    (1795510920, None, "M", "silent", 0)]  # fmt: skip


def test_the_same_batch_again_is_answered_and_counted_once(case: Case):
    one = payload()
    assert case.bring(one)[0] == case.bring(one)[0]
    assert case.counts("batches", "rows", "resent_batches", "alarms") == [1, 3, 1, 0]


def test_other_bytes_under_a_known_id_are_answered_with_what_is_held(case: Case):
    """Rule T20."""
    one, other = payload(), payload(numbers="9,9,null")
    case.bring(one)
    (receipt,) = case.bring(other)
    assert receipt["stored"] == [[1, sha(one)]]
    assert case.counts("rows", "differing_batches") == [3, 1]
    assert next(rows(case.path)).value == "1.50"


def test_a_row_that_comes_twice_is_an_alarm_unless_one_of_the_two_says_again(case: Case):
    """Rule T6."""
    again = SERIES | {"again": True}
    case.bring(payload(1), payload(2, again))
    assert case.counts("rows", "duplicate_rows", "alarms") == [3, 3, 0]
    case.bring(payload(3))
    assert case.counts("rows", "duplicate_rows", "alarms") == [3, 3, 3]


def test_the_first_row_stays_whichever_says_again(case: Case):
    """Rule T6."""
    case.bring(payload(1, SERIES | {"again": True}), payload(2, numbers="7,7,null"))
    assert case.counts("duplicate_rows", "alarms") == [3, 0]
    assert next(rows(case.path)).value == "1.50"


def test_a_row_of_another_version_is_another_row(case: Case):
    case.bring(payload(1), payload(2, SERIES | {"ver": {"0": 5, "1": 5, "2": 5}}))
    assert case.counts("rows", "alarms") == [6, 0]


def span(t: int, slots: int, **more: Any) -> dict[str, Any]:
    """So many missing slots in one row, `t` seconds after the series' first."""
    run = {"t": [t], "q": "M", "v": [None], "why": {"0": "shed"}, "span": {"0": slots}, "d": {}}
    return SERIES | run | more


def test_a_span_states_each_of_its_slots_and_one_that_overlaps_is_an_alarm(case: Case):
    case.bring(payload(1), payload(2, span(180, 10)))
    assert case.counts("rows", "slots", "alarms", "overlapping_slots") == [4, 13, 0, 0]
    case.bring(payload(3, span(600, 3)))
    assert case.counts("slots", "alarms", "overlapping_slots") == [13, 1, 3]


def test_of_a_longer_span_that_begins_with_a_shorter_one_no_slot_is_lost(case: Case):
    case.bring(payload(1, span(180, 1)), payload(2, span(180, 6)))
    assert case.counts("rows", "slots", "alarms", "overlapping_slots") == [2, 6, 1, 1]
    case.bring(payload(3, span(120, 9)))
    assert case.counts("rows", "slots", "alarms", "overlapping_slots") == [4, 9, 2, 7]


def test_a_value_inside_a_span_is_an_alarm_as_well(case: Case):
    case.bring(payload(1, span(0, 10)), payload(2))
    assert case.counts("rows", "slots", "alarms") == [1, 10, 3]
    assert next(rows(case.path)).why == "shed"


def test_a_span_of_another_version_or_one_that_says_again_is_no_alarm(case: Case):
    case.bring(payload(1, span(180, 6)), payload(2, span(180, 1, ver={"0": 5})))
    assert case.counts("slots", "alarms", "duplicate_rows") == [7, 0, 0]
    case.bring(payload(3, span(180, 8) | {"again": True}))
    assert case.counts("slots", "alarms", "duplicate_rows") == [9, 0, 1]


def test_a_gap_in_the_count_is_found(case: Case):
    later = [SERIES | {"t0": f"2026-11-2{day}T09:00:00Z"} for day in (5, 6)]
    case.bring(payload(1), payload(2, later[0]), payload(5, later[1]))
    assert case.counts("seq_gaps", "batches") == [2, 3]


@pytest.mark.parametrize(
    "junk", [b"", b"junk", zstandard.compress(b"[1]"), zstandard.compress(b"{}")]
)
def test_what_is_no_batch_is_counted_and_not_answered(case: Case, junk: bytes):
    assert case.bring(junk) == []
    assert case.counts("unreadable", "batches") == [1, 0]


@pytest.mark.parametrize(
    "series",
    [{"q": "VV"}, {"t": ["a", 1, 2]}, {"v": ["1", 2, None]}, {"q": "VVV"}, {"step": None},
     {"t0": "yesterday"}],
)  # fmt: skip
def test_a_batch_that_breaks_the_contract_is_rejected_whole(case: Case, series: dict[str, Any]):
    broken = payload(1, SERIES | series)
    (receipt,) = case.bring(broken)
    assert receipt["rejected"][0][:2] == [1, sha(broken)]
    assert case.counts("rejected_batches", "rows") == [1, 0]


def test_a_batch_under_anothers_topic_is_not_kept(case: Case):
    case.bring(payload(), topic="gardien/G2/r.example/up/live")
    assert case.counts("rows", "unreadable") == [0, 1]


def test_numbers_that_are_none_are_unreadable():
    with pytest.raises(UnreadableError):
        unpack(payload(numbers="NaN,1,null"))


def test_what_the_agent_writes_is_read_digit_by_digit():
    digits = ["0", "-0", "1.50", "1234567.8901", "1E+3", "-1E-9", "3.402823466E+38"]
    series = Series("D1", "heat", "REG", "kWh", 60, None, None, "c1")
    sent = [Reading(series, 60 * n, Decimal(word), "V", delay=n) for n, word in enumerate(digits)]
    sent.append(Reading(series, 6_000, None, "M", why="agent", span=3, ver=7, again=True))
    id_ = BatchId("G1", "r.example", "e", 9)
    parcel = unpack(write(Stamp(id_, Lane.LIVE, 0.0, "trusted", "FR-1"), sent))
    assert tuple(parcel.id) == tuple(id_)
    assert [row.v for row in parcel.rows[:-1]] == digits
    assert [(row.t, row.d) for row in parcel.rows[:-1]] == [(60 * n, n) for n in range(7)]
    last = parcel.rows[-1]
    assert (last.t, last.v, last.why, last.span, last.ver, last.again) == (
        6_000, None, "agent", 3, 7, True)  # fmt: skip
