"""Guards rule G6 where the journal is new or was lost: seen, said, left, given back by hand.
Rule H19.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control.model import LossRule, OrderState
from agent.core.errors import Refused
from tests.contract.control.pretend import Crash, Site, agreed


def lost(site):
    """A new process that finds no journal: no test has passed, no slot was found free."""
    site.start()
    fit = replace(site.fit, fingerprint="never tested")
    site.journal.memos[fit.key] = replace(site.journal.memo(fit.key), free=())
    site.controller.controls = {"it": fit}
    return site.controller


@pytest.fixture
def charger():
    site = Site(agreed(LossRule.LIMIT), array=False)
    yield site
    site.close()


def alarm(site):
    asyncio.run(site.controller.tend("it"))
    return site.controller.alarms.get("it", "")


def test_a_value_that_an_order_could_have_set_raises_an_alarm_and_is_left(charger):
    charger.device.register = Decimal(6)
    controller = lost(charger)
    asyncio.run(controller.recover())
    assert "6 stands in boiler/offset" in alarm(charger)
    assert "control release it --to VALUE" in alarm(charger)
    assert not charger.device.log
    charger.device.register = Decimal(63)  # somebody has dealt with it
    assert not alarm(charger)


def test_a_register_is_given_back_to_what_a_person_says(charger):
    """Rule H24."""
    charger.device.register = Decimal(6)
    controller = lost(charger)
    asyncio.run(controller.recover())
    assert asyncio.run(controller.hand_back("it", Decimal(32), "put back to 32 by me")) == []
    assert charger.device.register == Decimal(32)
    assert not charger.findings
    assert not alarm(charger)
    (told,) = charger.journal.history(0, 1e12)
    assert told.state is OrderState.COMPLETED
    assert told.words == "put back to 32 by me; released, confirmed"


def test_cut_anywhere_while_it_is_put_back_it_is_put_back_by_the_next_start():
    for fatal in range(1, 100):
        site = Site(agreed(LossRule.LIMIT), array=False)
        site.device.register = Decimal(6)
        controller = lost(site)
        site.steps.now, site.steps.fatal = 0, fatal
        done = False
        try:
            asyncio.run(controller.hand_back("it", Decimal(32), "by hand"))
            done = True
        except Crash:
            site.die()
            asyncio.run(lost(site).recover())
        written = bool(site.disk) or site.device.log
        assert site.device.register == Decimal(32 if written else 6), fatal
        assert not site.findings, fatal
        site.close()
        if done:
            assert fatal > 5
            return
    raise AssertionError("it never came to its end")


def test_what_no_order_could_have_set_is_not_touched_by_it(charger):
    """Rule H24."""
    charger.device.register = Decimal(63)
    with pytest.raises(Refused, match="63 stands there, which no order could have set"):
        asyncio.run(lost(charger).hand_back("it", Decimal(32), ""))
    assert not charger.device.log


def test_where_the_journal_knows_nobody_is_asked(charger):
    charger.device.register = Decimal(6)
    charger.start()
    with pytest.raises(Refused, match="the journal goes back to its test"):
        asyncio.run(charger.controller.hand_back("it", Decimal(32), ""))
    assert not charger.device.log


def test_a_device_that_is_away_is_given_back_later_and_the_value_may_be_corrected(charger):
    charger.device.register = Decimal(6)
    controller = lost(charger)
    hand = charger.hand(charger.place, None)

    async def broken(value):
        del value

    hand.write = broken
    controller.dependencies.access = lambda _place, _slot: hand
    assert asyncio.run(controller.hand_back("it", Decimal(99), "")) == ["6 still stands there"]
    controller.dependencies.access = charger.hand
    assert asyncio.run(controller.hand_back("it", Decimal(32), "")) == []
    assert charger.device.log == [(0.0, Decimal(32))]


def test_a_value_in_our_slot_that_no_test_found_free_is_left_with_an_alarm():
    site = Site()
    site.device.slots[13] = Decimal("0.7")
    controller = lost(site)
    asyncio.run(controller.recover())
    assert "0.7 stands at priority 13 of boiler/offset without a record of ours" in alarm(site)
    assert site.device.slots[13] == Decimal("0.7")
    with pytest.raises(Refused, match="a priority of ours"):
        asyncio.run(controller.hand_back("it", Decimal(0), ""))
    site.device.slots[13] = None
    assert not alarm(site)
    site.close()
