"""Guards rules G2, G3 on days of 23 and 25 hours: of a day whose basis begins near it, what
flowed leaves if it lies whole within that basis, whatever was asked of the days before.
"""

from dataclasses import replace
from itertools import pairwise

import pytest

from agent.acquisition.row_assignment import RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.acquisition.timetable import following
from agent.core.model import SlotMark, Why
from agent.registry.consent_policy import CommonBasis
from agent.registry.dates import DAY
from tests.unit.acquisition.house import RECIPIENT, Town, point, sample
from tests.unit.acquisition.test_days import PARIS, at

CHANGES = {"spring": at(2026, 3, 29), "autumn": at(2026, 10, 25)}
"""the midnights before days of 23 and 25 hours"""
BEGINS = [-25, -24.5, -24, -23, -1, -0.5, 0, 0.5, 1, 22.5, 23, 23.5, 24, 24.5, 25]
"""hours from that midnight"""
OF_A_METER = point("m1", "used", every=DAY, derived=True)
COMMON = "CZS2YFSTBQQ5WDC"
SHARED = replace(OF_A_METER, place=COMMON)


@pytest.fixture(params=CHANGES)
def change(request):
    return CHANGES[request.param]


def days(change):
    """Midnights from three days before to three days after."""
    found = [following(change - 3 * DAY - 7200, DAY, PARIS)]
    while len(found) < 7:
        found.append(following(found[-1], DAY, PARIS))
    return found


def whole(change, since):
    """The days that lie whole after `since`, by their ends."""
    return {end for begin, end in pairwise(days(change)) if begin >= since}


def agreed(folder, since):
    """A gate of a dwelling whose people agree from `since` on."""
    town = Town(folder, dwellings=1, consents=[])
    town.consent("D1", step=DAY, since=since)
    return RowAssignment(town.registry, replace(town.policy, zone=PARIS), RECIPIENT), OF_A_METER


def voted(folder, since):
    """A gate of a building whose common areas may be told of from `since` on."""
    town = Town(folder, dwellings=1, consents=[])
    rules = replace(town.policy, zone=PARIS, common=CommonBasis("a vote", since))
    return RowAssignment(town.registry, rules, RECIPIENT), SHARED


@pytest.mark.parametrize("basis", [agreed, voted])
@pytest.mark.parametrize("hours", BEGINS)
def test_a_day_leaves_if_it_lies_whole_within_its_basis(tmp_path, change, basis, hours):
    since = change + int(hours * 3600)
    gate, used = basis(tmp_path, since)
    ledger = SlotLedger(gate, {("m1", DAY): [used]}, {}, PARIS)
    left = [
        row.t
        for day in days(change)
        for row in ledger.close(("m1", DAY), day, [sample(used, "2", day)], "1001", Why.BUSY)
    ]
    assert set(left) == whole(change, since)


@pytest.mark.parametrize("basis", [agreed, voted])
@pytest.mark.parametrize("hours", BEGINS)
def test_so_does_a_day_that_went_by_while_the_agent_was_down(tmp_path, change, basis, hours):
    since = change + int(hours * 3600)
    gate, used = basis(tmp_path, since)
    first, *later = days(change)
    marks = {("m1", DAY): SlotMark(first - DAY, heard=True, serial="1001")}
    ledger = SlotLedger(gate, {("m1", DAY): [used]}, marks, PARIS)
    rows = ledger.catch_up(("m1", DAY), later[-1] + DAY + 7200, Why.AGENT)
    missing = {row.t + n * row.series.step for row in rows for n in range(row.span)}
    assert missing & set(days(change)) == whole(change, since)
