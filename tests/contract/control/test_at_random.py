"""Guards rules G5, G6 where several things go wrong at once: the real keeper through drawn
orders, losses, hands, clocks and deaths. The judge looks at the device alone.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.control.model import Limits, LossRule
from agent.control.records import Phase
from tests.contract.control.explorer import TICK, Plan, run
from tests.contract.control.pretend import DOG, Crash, Site, agreed, event, order
from tests.contract.control.test_explorer import DEATHS
from tests.depth import depth

MANY = depth(80, 3_000)
LASTS = 600.0
SETTLED = 600.0
"""seconds: the longest order, the longest absence, and the bound of a give-back"""
PERSONS, FAILSAFE = Decimal(21), Decimal(10)
BEFORE = {True: Decimal(0), False: Decimal(32)}
"""what is followed when nothing of ours is there, with priorities and without"""


def away(site):
    site.truth.reachable = False


def cold(site):
    site.truth.guard = Decimal(17)


def inhibit(site):
    site.truth.inhibit = Decimal(1)


def full(site):
    site.truth.full = True


def stepped_back(site):
    site.truth.wrong, site.truth.trusted = -3600.0, False


def stepped_ahead(site):
    site.truth.wrong, site.truth.trusted = 3600.0, False


def person(site):
    site.device.person(PERSONS)


def person_gone(site):
    site.device.slots.pop(8, None)


def heard(site):
    if site.controller is not None:
        site.controller.heard()


def all_is_well(site):
    truth = site.truth
    truth.reachable, truth.guard, truth.inhibit = True, Decimal(20), Decimal(0)
    truth.full, truth.wrong, truth.trusted = False, 0.0, True


def cancelled(site):
    del site
    return lambda controller: controller.cancel("it", "somebody")


def opted_out(site):
    return lambda controller: controller.opt_out(site.fit, 120.0, "somebody")


def ended(site):
    """The agent is told to end, and does."""
    del site

    async def end(controller):
        controller.closing = True
        await controller.release_controls("the agent was stopped", ["it"])
        raise Crash

    return end


TROUBLES = (away, cold, inhibit, full, stepped_back, stepped_ahead, all_is_well, person)
TROUBLES += (person_gone, heard, cancelled, opted_out, ended)
seconds = st.integers(0, int(LASTS / TICK)).map(lambda n: n * TICK)


@st.composite
def orders(draw, *, emergency: bool, action: str):
    found = []
    for n in range(draw(st.integers(1, 3))):
        start, lasts = draw(seconds), draw(st.integers(3, 20)) * TICK
        one = order(
            f"order-{n}", f"-1.{n}3", start, lasts, action=action, prio=draw(st.integers(0, 2)),
            resume=draw(st.booleans()), emergency=emergency and draw(st.booleans()),
        )  # fmt: skip
        found.append(event(one))
    return found


@st.composite
def runs(draw):
    array = draw(st.booleans())
    kind = draw(st.sampled_from(list(LossRule)))
    limits = Limits(least=Decimal(-2), most=Decimal(40), duration=7200.0, emergency=array)
    action = "limit" if kind is LossRule.LIMIT else "offset"
    acts = draw(st.dictionaries(seconds, st.sampled_from(TROUBLES), max_size=6))
    plan = Plan(
        draw(orders(emergency=array, action=action)), acts | {LASTS + 1: all_is_well},
        lasts=LASTS + SETTLED, down=draw(st.integers(1, 20)) * TICK,
        reboot=draw(st.sampled_from(DEATHS)),
    )  # fmt: skip
    gently = {
        "ramp": draw(st.sampled_from([None, None, Decimal("0.5")])),
        "spread": draw(st.sampled_from([0.0, 30.0])),
        "off": draw(st.sampled_from([0.0, 60.0])),
    }
    modality = agreed(kind, limits=limits, **gently)
    watched = not array and draw(st.booleans())
    return array, modality, watched, plan, draw(st.integers(0, 120))


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs())
def test_whatever_happens_together_all_is_given_back_and_nothing_twice(drawn):
    array, modality, watched, plan, fatal = drawn
    site = Site(modality, array=array)
    site.dog = DOG if watched else None
    try:
        findings = asyncio.run(run(site, plan, fatal))
        standing = [site.device.slots.get(slot) for slot in (13, 10)]
        standing = standing if array else [site.device.register]
        stuck = {one.order.value for one in plan.events} & set(standing)
        assert not findings
        assert not stuck
        limited = {min(FAILSAFE, BEFORE[array])} if modality.kind is LossRule.LIMIT else set()
        assert set(standing) <= limited | ({None} if array else {BEFORE[array], PERSONS})
        if modality.kind is LossRule.SHIFT:
            assert not [
                row for row in site.journal.records.values() if row.phase is not Phase.CLOSED
            ]
            assert site.device.timeout == 0
    finally:
        site.close()
