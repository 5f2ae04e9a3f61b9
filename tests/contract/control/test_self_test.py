"""Guards rule G6: what was never seen given back takes no order, and a test proves it or says
what is in the way. Rule H22.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control.model import Limits
from agent.control.records import Transaction
from agent.core.errors import Refused
from tests.contract.control.pretend import Site, agreed, event, order

LIMITS = Limits(least=Decimal(-2), most=Decimal(40), duration=7200.0, emergency=True)


@pytest.fixture
def site():
    made = Site(agreed(limits=LIMITS))
    made.start()
    made.journal.save(Transaction(memos=[(made.fit.key, replace(memo(made), tested=""))]))
    yield made
    made.close()


def memo(site):
    return site.journal.memo(site.fit.key)


def attempt(site, meanwhile=None):
    async def say(words):
        if meanwhile is not None:
            meanwhile(words)

    return asyncio.run(site.controller.test("it", say))


def test_it_is_applied_and_given_back_twice_the_second_time_from_the_disk(site):
    passed = attempt(site)
    assert [value for _, value in site.device.log] == [passed.value, None] * 2
    assert memo(site).tested == "v1"
    assert memo(site).free == (13, 10)
    assert not site.findings  # nothing was written without a row


def tripped(site):
    site.truth.guard = Decimal(17)


def inhibited(site):
    site.truth.inhibit = Decimal(1)


def in_our_slot(site):
    site.device.slots[13] = Decimal(3)


def in_our_emergency_slot(site):
    site.device.slots[10] = Decimal(3)


def by_hand(site):
    site.device.person(Decimal(3))


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (tripped, "E_GUARD"), (inhibited, "E_INHIBITED"), (by_hand, "priority 8"),
        (in_our_slot, "stands at priority 13"), (in_our_emergency_slot, "stands at priority 10"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_is_said_and_nothing_is_written(site, way, why):
    way(site)
    with pytest.raises(Refused, match=why):
        attempt(site)
    assert not site.device.log
    assert not memo(site).tested


def test_what_is_held_is_not_tested(site):
    site.journal.save(Transaction(memos=[(site.fit.key, replace(memo(site), tested="v1"))]))
    site.journal.save(Transaction(events=[event(order(start=0.0))]))
    asyncio.run(site.controller.tend("it"))
    with pytest.raises(Refused, match="is held now"):
        attempt(site)
    assert site.device.slots[13] == Decimal("-1.5")


def test_somebody_else_who_writes_there_meanwhile_is_noticed(site):
    def meanwhile(words):
        if "from the journal alone" in words:
            site.device.slots[16] = Decimal(5)

    with pytest.raises(Refused, match="who else writes there"):
        attempt(site, meanwhile)
    assert site.device.slots[13] is None
    assert not memo(site).tested


def test_a_device_that_goes_during_the_test_is_given_back_when_it_returns(site):
    def meanwhile(words):
        if "read back" in words:
            site.truth.reachable = False

    with pytest.raises(Refused, match="is not released"):
        attempt(site, meanwhile)
    assert site.device.slots[13] is not None
    site.truth.reachable, site.truth.at = True, 100.0
    asyncio.run(site.controller.tend("it"))
    assert site.device.slots[13] is None
    assert not memo(site).tested
