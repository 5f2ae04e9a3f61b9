"""A device that takes minutes for each answer: what may be written changes meanwhile. Rules H2, H7,
H9.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from agent.control.model import FINAL, OrderState
from agent.control.records import Transaction
from tests.contract.control.pretend import BEGIN, Hand, Site, event, order

SLOW = 240.0
LOW = Decimal("-1.5")
SWITCHED, COLD = Decimal(1), Decimal(10)


class SlowHand:
    """Each answer takes `SLOW` seconds, in which others go on."""

    def __init__(self, hand: Hand, site: Site) -> None:
        self.hand, self.site = hand, site

    async def look(self, *, whole: bool = False):
        await self.answer()
        return await self.hand.look(whole=whole)

    async def write(self, value) -> None:
        await self.hand.write(value)
        await self.answer()

    async def answer(self) -> None:
        await self.site.wait(SLOW)
        for _ in range(9):
            await asyncio.sleep(0)


def slow(controller, site) -> None:
    controller.dependencies.access = lambda place, slot: SlowHand(site.hand(place, slot), site)


def people(call):
    """Somebody asks for it; the answer may wait."""
    return lambda site: site.calls.append(asyncio.ensure_future(call(site.controller)))


def opts_out(controller):
    return controller.opt_out(controller.controls["it"], 7200.0, "too cold")


MEANWHILE = {
    "it is over": (lambda _: None, OrderState.EXPIRED),
    "a guard trips": (lambda site: setattr(site.truth, "guard", COLD), OrderState.REJECTED),
    "the switch is set": (
        lambda site: setattr(site.truth, "inhibit", SWITCHED),
        OrderState.REJECTED,
    ),
    "a person opts out": (people(opts_out), OrderState.REJECTED),
    "it is cancelled": (
        people(lambda controller: controller.cancel("it", "no", "one")), OrderState.CANCELLED
    ),
    "all is released": (
        people(lambda controller: controller.cancel("it", "no")), OrderState.CANCELLED
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("array", [True, False], ids=["slot", "register"])
def test_nothing_begins_that_may_not_begin_when_the_device_answers(what, array):
    act, state = MEANWHILE[what]
    site = Site(array=array)
    site.calls = []

    async def attack() -> None:
        controller = site.start()
        lasts = 100.0 if what == "it is over" else 3000.0
        first = event(order("one", str(LOW), 30.0, lasts))
        await site.save(Transaction(events=[first]))
        site.truth.at = 31.0
        site.journal.memos[site.fit.key] = site.journal.memo(site.fit.key).__class__(
            tested="v1", swept=True
        )
        slow(controller, site)
        site.meanwhile[100.0] = act
        await controller.tend("it")
        await asyncio.gather(*site.calls)
        await controller.tend("it")
        await controller.tend("it")
        assert site.journal.events["one", "it"].state is state

    asyncio.run(attack())
    assert [value for _, value in site.device.log] == []
    assert not site.journal.records
    site.close()


@pytest.mark.parametrize("what", [key for key in MEANWHILE if key != "it is over"])
def test_a_value_that_is_lost_is_not_written_again_when_it_may_not_be(what):
    act, _ = MEANWHILE[what]
    site = Site()
    site.calls = []

    async def attack() -> None:
        controller = site.start()
        await site.save(Transaction(events=[event(order("one", str(LOW), 30.0, 3000.0))]))
        site.truth.at = 31.0
        await controller.tend("it")
        assert site.device.slots[13] == LOW
        await site.save(Transaction(events=[event(order("two", "-1", 30.0, 3000.0, seq=1))]))
        slow(controller, site)
        site.meanwhile[100.0] = act
        if what == "it is cancelled":
            site.meanwhile[100.0] = people(lambda controller: controller.cancel("it", "no", "two"))
        await controller.tend("it")
        await asyncio.gather(*site.calls)
        await controller.tend("it")

    asyncio.run(attack())
    assert site.device.slots[13] is None
    assert [value for _, value in site.device.log] == [LOW, None]
    site.close()


@pytest.mark.parametrize("which", ["one", ""])
def test_an_order_that_is_cancelled_while_its_begin_is_committed_ends_once(which):
    """Rule H11."""
    site = Site()
    calls = []

    async def attack() -> None:
        controller = site.start()
        await site.save(Transaction(events=[event(order("one", str(LOW), 30.0, 3000.0))]))
        site.truth.at = 31.0
        save = controller.dependencies.save

        async def slowly(change):
            if change.record and not calls:
                calls.append(asyncio.ensure_future(controller.cancel("it", "no", which)))
                for _ in range(9):
                    await asyncio.sleep(0)
            return await save(change)

        controller.dependencies.save = slowly
        await controller.tend("it")
        await controller.tend("it")
        await asyncio.gather(*calls)

    asyncio.run(attack())
    assert calls
    ends = [one.state for one in site.journal.recent if one.state in FINAL]
    assert (ends, site.device.log) == ([OrderState.CANCELLED], [])
    assert not site.journal.records
    site.close()


def test_an_opt_out_is_in_force_and_answered_before_the_device_has_answered():
    site = Site()

    async def attack() -> None:
        controller = site.start()
        await site.save(Transaction(events=[event(order("one", str(LOW), 30.0, 3000.0))]))
        site.truth.at = 31.0
        await controller.tend("it")
        silent = asyncio.Event()

        class Waiting(SlowHand):
            async def answer(self) -> None:
                await silent.wait()

        controller.dependencies.access = lambda place, slot: Waiting(site.hand(place, slot), site)
        task = asyncio.ensure_future(controller.rounds()["control it"]())
        await asyncio.sleep(0.01)
        until = await controller.opt_out(controller.controls["it"], 7200.0, "too cold")
        assert until == BEGIN + 31 + 7200
        await controller.check_now("it", within=0.02)
        assert controller.forbidden(controller.controls["it"])
        assert site.device.slots[13] == LOW
        silent.set()
        await controller.check_now("it", within=9.0)
        assert site.device.slots[13] is None
        task.cancel()

    asyncio.run(attack())
    site.close()
