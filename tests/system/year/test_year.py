"""Guards rules G3, G4 over a year: a recipient holds what it may hold of each dwelling, all
of it and nothing else, whatever moved, was exchanged, agreed to, withdrawn, or told too late.
"""

import asyncio
from collections import Counter

import pytest

from tests.depth import LONG
from tests.system.year.checker import judged
from tests.system.year.script import (
    BOTH,
    DAYS,
    FINE,
    FLEX,
    METRO,
    STORIES,
    SYNDIC,
    Script,
    agrees_to_curves,
    midnight,
    narrows,
)

DWELLINGS = 40 if LONG else len(STORIES)
HOURLY = FINE if LONG else {agrees_to_curves, narrows}
RECIPIENTS = (METRO, FLEX, SYNDIC)


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    stories = [STORIES[n % len(STORIES)] for n in range(DWELLINGS)]
    asked = {"sums": {FLEX: BOTH}, "withheld": (METRO, SYNDIC)}
    script = Script(tmp_path_factory.mktemp("year"), stories, fine=HOURLY, **asked)
    script.unreachable(METRO, 250, 271)
    script.unreachable(FLEX, 300, 370)
    asyncio.run(script.run(every=1 if LONG else 2))
    return script


@pytest.mark.timeout(3600 if LONG else 600)
@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_a_recipient_holds_all_that_it_may_and_nothing_else(year, recipient):
    found = judged(year.truth(), recipient, year.house.held(recipient), midnight(DAYS))
    assert [str(one) for one in found[:20]] == []


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_nothing_came_twice_in_the_whole_year(year, recipient):
    assert not year.house.tally(recipient).get("alarms")


def test_the_year_had_all_in_it_that_can_happen(year):
    rows = [row for recipient in RECIPIENTS for row in year.house.held(recipient)]
    assert {"M", "R", "K", "W"} <= {row.q for row in rows}
    assert {"REG", "INT"} == {row.kind for row in rows}
    assert {"D", "C", "B"} == {row.place[0] for row in rows}
    sums = [row for row in rows if row.basis == "rest"]
    assert sum(row.v is not None for row in sums) > 500
    assert {row.q for row in sums} == {"K", "M"}
    assert len({row.n for row in sums}) > 3
    assert {"consent", "vacant"} <= {row.why for row in rows if row.q == "W"}
    assert {3600, 86_400, 30 * 86_400} == {row.step for row in rows}
    flags = Counter(flag for row in rows for flag in row.flags.split("+"))
    assert flags["EXCH"] > 10
    assert flags["LATE"] > 10
    truth = year.truth()
    assert any(one.withdrawn for one in truth.consents)
    assert any(one.replaced for one in truth.consents)
    assert sum(one.end is not None for one in truth.stays) >= 7
    assert sum(one.end is not None for one in truth.fitted) >= 5
