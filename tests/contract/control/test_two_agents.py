"""Guards rule G6 where two gateways, each with a journal of its own, command one point in the
same priority. (Two agents on one state cannot be: the lock, tests/system/test_daemon.py.) Rule H25.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from agent.control.model import OrderState
from agent.control.records import Transaction
from tests.contract.control.explorer import BOUND, TICK
from tests.contract.control.pretend import Crash, Site, event, order

FIRST, SECOND = Decimal("-1.5"), Decimal(-1)


def pair():
    """Two agents at one device; the steps of both are counted together."""
    one, other = Site(), Site()
    other.truth, other.device, other.steps = one.truth, one.device, one.steps
    return one, other


async def run(sites, events, fatal, lasts=500.0):
    """What stands there over time, by tick; who was cut off starts again after 20 s."""
    truth, seen = sites[0].truth, {}
    sites[0].steps.fatal = fatal
    back = dict.fromkeys(sites, 0.0)
    while truth.at <= lasts:
        for site, one in zip(sites, events, strict=True):
            try:
                if back[site] is not None and truth.at >= back[site]:
                    first, back[site] = back[site] == 0.0, None
                    site.start()
                    if first:
                        site.journal.save(Transaction(events=[one]))
                    await site.controller.recover()
                elif back[site] is None:
                    await site.controller.tend("it")
            except Crash:
                site.die()
                back[site] = truth.at + 20.0
        seen[truth.at] = sites[0].device.slots.get(13)
        truth.at += TICK
    return seen


def ended(site):
    return [one.state for one in site.journal.history(0, 1e12)]


def test_whoever_comes_second_is_refused_and_takes_nothing_away():
    one, other = pair()
    events = [event(order("one", "-1.5", 30.0, 180.0)), event(order("two", "-1", 60.0, 300.0))]
    seen = asyncio.run(run((one, other), events, -1))
    assert seen[60.0] == seen[200.0] == FIRST
    assert seen[210.0] is None
    assert ended(other) == [OrderState.REJECTED]
    one.close()
    other.close()


def test_cut_between_every_two_steps_of_both_all_is_given_back():
    fatal, cuts = 0, 0
    with asyncio.Runner() as runner:
        while not fatal or cuts == fatal:
            fatal += 1
            one, other = pair()
            events = [
                event(order("one", "-1.5", 30.0, 90.0)),
                event(order("two", "-1", 90.0, 120.0)),
            ]
            seen = runner.run(run((one, other), events, fatal))
            cuts += one.steps.fatal == -1
            late = {value for at, value in seen.items() if at > 210.0 + BOUND}
            assert late == {None}, fatal
            assert not one.journal.records, fatal
            assert not other.journal.records, fatal
            # at its start an agent sweeps the slot that its test found free: sooner is no harm
            found = [it for it in one.findings + other.findings if "None was written" not in it]
            assert not found, fatal
            one.close()
            other.close()
    assert cuts > 20
