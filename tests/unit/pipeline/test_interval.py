"""Guards MDP-1, rules 2 and 5: what flowed is told only between two good indexes in slots that
follow each other, for a recipient and in a sum.
"""

from decimal import Decimal

import pytest

from agent.model import Quality, Sample, Why
from agent.pipeline.indexes import Indexes
from agent.pipeline.interval import Intervals
from tests.unit.pipeline.house import NOW, Town, point

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
    assert told(*slots) == said


def test_a_suspect_index_is_in_no_sum(tmp_path):
    indexes = Indexes(Town(tmp_path).registry)
    indexes.want({"elec.imp": 900}, None)
    first = NOW - NOW % 900
    for number, quality in enumerate((Quality.MEASURED, Quality.MEASURED, Quality.SUSPECT)):
        index = Sample(INDEX, 0.0, Decimal(number), quality=quality)
        indexes.note(first + number * 900, [index], "1001")
    flows = [list(indexes.flows("elec.imp", first + n * 900).values()) for n in (1, 2)]
    assert flows == [[1], []]
