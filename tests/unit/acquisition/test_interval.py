"""Guards rules M2, M5: what flowed is told only between two good indexes in slots that
follow each other, for a recipient and in a sum.
"""

from decimal import Decimal

import pytest

from agent.acquisition.sums import ReadingCache
from agent.acquisition.values import Intervals
from agent.core.model import Quality, Sample, Why
from tests.unit.acquisition.house import NOW, Town, point

INDEX = point(every=900)
FLOW = point(name="energy-interval", every=900, derived=True, of="energy")


def told(*slots):
    """(value or reason) of the flow in each of these slots: (number, what the index was)."""
    intervals, said = Intervals(None), []
    for number, (quality, delta, why) in slots:
        value = None if why else Decimal(100 + number)
        change = None if delta is None else Decimal(delta)
        index = Sample(INDEX, 0.0, value, why, quality=quality, delta=change)
        (flow,) = intervals.derive([FLOW], NOW + number * 900, [index])
        said.append(flow.why or (str(flow.value), flow.quality))
    return said


GOOD, SUSPECT = (Quality.MEASURED, "1", None), (Quality.SUSPECT, None, None)
GONE = (Quality.RAW, None, Why.SILENT)
ONE = ("1", "K")


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        ([(0, GOOD), (1, GOOD)], [Why.AGENT, ONE]),
        ([(0, GOOD), (1, GOOD), (3, GOOD), (4, GOOD)], [Why.AGENT, ONE, Why.BUSY, ONE]),
        ([(0, GOOD), (1, SUSPECT), (2, GOOD), (3, GOOD)], [Why.AGENT, Why.BAD, Why.BAD, ONE]),
        ([(0, GOOD), (1, GONE), (2, GOOD)], [Why.AGENT, Why.SILENT, Why.SILENT]),
    ],
)
def test_what_flowed_is_told_between_two_good_indexes_that_follow_each_other(slots, said):
    """Rule R4."""
    assert told(*slots) == said


def answered_late(late, before=GOOD):
    """What is told of the slot whose index came late, and of the one after it."""
    intervals = Intervals(None)

    def said(do, number, what):
        quality, delta, why = what
        change = None if delta is None else Decimal(delta)
        index = Sample(INDEX, 0.0, None if why else Decimal(1), why, quality=quality, delta=change)
        flows = do([FLOW], NOW + number * 900, [index])
        return [flow.why or (str(flow.value), flow.quality) for flow in flows]

    for number, what in ((0, before), (1, GONE)):
        said(intervals.derive, number, what)
    return said(intervals.late, 1, late), said(intervals.derive, 2, GOOD)


@pytest.mark.parametrize(
    ("late", "before", "told"),
    [
        ((Quality.MEASURED, "0.4", None), GOOD, [("0.4", "K")]),
        ((Quality.MEASURED, "0.4", None), GONE, []),
        ((Quality.RAW, None, None), GOOD, []),
    ],
)
def test_an_index_that_came_late_is_known_in_the_slot_after_it(late, before, told):
    assert answered_late(late, before) == (told, [ONE])


def test_what_came_late_and_is_not_believed_makes_nothing_known():
    assert answered_late(SUSPECT) == ([], [Why.BAD])
    assert answered_late(GONE) == ([], [Why.SILENT])


def test_what_came_for_another_slot_changes_nothing():
    intervals = Intervals(None)
    index = Sample(INDEX, 0.0, Decimal(1), quality=Quality.RAW, delta=Decimal(1))
    assert intervals.late([FLOW], NOW, [index]) == []
    intervals.derive([FLOW], NOW + 900, [index])
    assert intervals.late([FLOW], NOW, [index]) == []
    assert intervals.late([FLOW], NOW + 900, [index]) == []
    (flow,) = intervals.derive([FLOW], NOW + 1800, [index])
    assert flow.value == 1


def test_a_suspect_index_is_in_no_sum(tmp_path):
    indexes = ReadingCache(Town(tmp_path).registry)
    indexes.set_steps({"elec.imp": 900}, None)
    first = NOW - NOW % 900
    for number, quality in enumerate((Quality.MEASURED, Quality.MEASURED, Quality.SUSPECT)):
        index = Sample(INDEX, 0.0, Decimal(number), quality=quality)
        indexes.note(first + number * 900, [index], "1001")
    flows = [list(indexes.flows("elec.imp", first + n * 900).values()) for n in (1, 2)]
    assert flows == [[1], []]
