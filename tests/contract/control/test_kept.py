"""What is remembered of orders and points, for how long, and what is said of it afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control.journal import CLOSED
from agent.control.model import Grant, Limits, LossRule, OrderState
from agent.control.records import HoldRecord, Phase, Transaction
from tests.contract.control.explorer import Plan, run
from tests.contract.control.pretend import BEGIN, PLACE, Site, agreed, event, order
from tests.waiting import until

DAY = 86_400.0


@pytest.fixture
def site():
    made = Site()
    made.start()
    yield made
    made.close()


def done(number: int, start: float):
    return replace(event(order(f"old-{number}", start=start)), state=OrderState.COMPLETED)


def test_what_no_quota_looks_back_to_is_forgotten_and_the_rest_is_not(site):
    for number in range(10):
        site.journal.save(Transaction(events=[done(number, -number * 2 * DAY)]))
    waiting = event(order("waiting", start=-30 * DAY))
    site.journal.save(Transaction(events=[waiting]))
    asyncio.run(site.controller.prune())
    left = {one.order.jti for one in site.journal.of(site.fit.key)}
    assert left == {"old-0", "old-1", "old-2", "old-3", "old-4", "waiting"}
    site.die()
    site.start()
    assert {one.order.jti for one in site.journal.of(site.fit.key)} == left


def test_rows_of_what_was_given_back_do_not_fill_the_disk(site):
    held = Decimal(-1)
    row = HoldRecord(
        "it", "one", PLACE, 13, None, held, (held,), None, site.truth.moment(), BEGIN + 60, 60.0
    )
    still = site.journal.save(Transaction(row))
    for _ in range(CLOSED + 20):
        site.journal.save(Transaction(replace(row, phase=Phase.CLOSED)))
    asyncio.run(site.controller.prune())
    count = site.journal._db.scalar("SELECT count(*) FROM hold")
    assert count == CLOSED + 1
    assert site.journal.reread(still.number) == still


def test_grants_that_ended_are_forgotten_and_standing_ones_are_not(site):
    for jti, ends in (
        ("ended", BEGIN - 30 * DAY),
        ("just-ended", BEGIN - 1),
        ("stands", BEGIN + DAY),
    ):
        grant = Grant(jti, "building_manager", "the manager", "metropole", BEGIN - 90 * DAY, ends,
                      ("it",), ("offset",), Limits())  # fmt: skip
        site.journal.grant(grant)
    asyncio.run(site.controller.prune())
    assert set(site.journal.grants) == {"just-ended", "stands"}
    site.die()
    site.start()
    assert set(site.journal.grants) == {"just-ended", "stands"}


def test_what_a_later_version_wrote_is_given_back_by_this_one_and_allows_nothing_here(site):
    """`gardien-upgrade --back` during a hold."""
    for jti in ("plain", "narrower"):
        grant = Grant(jti, "building_manager", "the manager", "metropole", BEGIN - DAY, BEGIN + DAY,
                      ("it",), ("offset",), Limits())  # fmt: skip
        site.journal.grant(grant)
    going = event(order(start=0.0, lasts=600.0))
    site.journal.save(Transaction(events=[going]))
    asyncio.run(site.controller.tend("it"))
    assert site.device.slots[13] == Decimal("-1.5")
    before = site.journal.memo(site.fit.key)
    with site.journal._db.transaction():
        for table in ("hold", "event", "point", "outcome"):
            said = "json_set(body, '$.later', json('{\"x\": 1}'))"
            site.journal._db.write(f"UPDATE {table} SET body={said}")
        deeper = "json_set(body, '$.order.later', 1)", "json_set(body, '$.watch.later', 1)"
        site.journal._db.write(f"UPDATE event SET body={deeper[0]}")
        site.journal._db.write(f"UPDATE point SET body={deeper[1]}")
        site.journal._db.write(
            "UPDATE granted SET body=json_set(body, '$.limits.later', 1) WHERE jti='narrower'"
        )
    site.die()
    site.start()
    assert site.journal.set_aside is None
    assert site.journal.memo(site.fit.key) == replace(before, swept=False)
    assert set(site.journal.grants) == {"plain"}
    asyncio.run(site.controller.recover())
    assert site.device.slots[13] is None
    assert [one.state for one in site.journal.history(0, 1e12)][-1] is OrderState.ABORTED


def test_nothing_is_forgotten_by_a_clock_that_cannot_be_relied_on(site):
    site.journal.save(Transaction(events=[done(1, -20 * DAY)]))
    site.truth.trusted = False
    asyncio.run(site.controller.prune())
    assert len(site.journal.of(site.fit.key)) == 1


def test_quotas_and_cancellations_survive_a_start_with_a_clock_ten_years_ahead(site):
    """Rule H4."""
    site.journal.save(Transaction(events=[done(1, -DAY)]))
    site.journal.refuse_later("0192-not-yet-here", ["it"], BEGIN + 3600)
    site.die()
    site.truth.wrong, site.truth.trusted = 10 * 365 * DAY, False
    site.start()
    asyncio.run(site.controller.prune())
    site.truth.wrong, site.truth.trusted = 0.0, True
    asyncio.run(site.controller.prune())
    assert [one.order.jti for one in site.journal.of(site.fit.key)] == ["old-1"]
    assert ("0192-not-yet-here", "it") in site.journal.early
    site.truth.at = 4000.0
    asyncio.run(site.controller.prune())
    assert not site.journal.early


def test_the_keeper_forgets_by_itself(site):
    site.journal.save(Transaction(events=[done(1, -20 * DAY)]))

    async def scenario():
        rounds = asyncio.ensure_future(site.controller.rounds()["journal pruning"]())
        while site.journal.of(site.fit.key):
            await asyncio.sleep(0.01)
        rounds.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_the_power_before_and_after_is_told_by_whatever_tells_it_then():
    site, watts = Site(), iter(range(100))

    def measured(site):
        site.controller.dependencies.power = lambda _: f"{next(watts)} W"

    asyncio.run(run(site, Plan([event(order())], {10.0: measured})))
    told = {one.state: one for one in site.journal.history(0, 1e12)}
    assert told[OrderState.STARTED].before
    assert told[OrderState.COMPLETED].before
    assert told[OrderState.COMPLETED].after
    site.close()


@pytest.mark.parametrize("kind", list(LossRule))
def test_a_persons_hand_counts_to_the_end_of_the_event_and_against_a_failsafe_for_a_day(kind):
    """Rule H7."""

    def person(site):
        site.device.person(Decimal(21))

    site = Site(agreed(kind), array=False)
    limit = kind is LossRule.LIMIT
    plan = Plan([event(order(action="limit" if limit else "offset"))], {100.0: person}, lasts=120.0)
    asyncio.run(run(site, plan))
    memo = site.journal.memo(site.fit.key)
    # a limit of which the centre is not heard is at its failsafe by then, which has no end
    assert memo.opt_lasts == (DAY if limit else 110.0)
    assert site.device.register == Decimal(21)
    site.close()


def test_a_start_falls_back_though_a_failsafe_had_ended_in_silence_once_the_centre_spoke_again():
    """LPC-911: at every start. It had been silent, was heard again, and then the agent died."""
    site = Site(agreed(LossRule.LIMIT), array=False)
    first = event(order(value="16", action="limit", lasts=60.0))
    asyncio.run(
        run(site, Plan([first], {7300.0: lambda site: site.controller.heard()}, lasts=7350.0))
    )
    assert site.device.register == Decimal(32)
    site.die()
    site.start()
    asyncio.run(site.controller.recover())
    asyncio.run(site.controller.tend("it"))
    assert site.device.register == Decimal(10)
    site.close()


def test_a_heartbeat_costs_no_commit():
    site = Site(agreed(LossRule.LIMIT), array=False)
    acts = {float(at): lambda site: site.controller.heard() for at in range(30, 7000, 60)}
    asyncio.run(run(site, Plan([event(order(value="16", action="limit"))], acts, lasts=1000.0)))
    saved, to_disk = [], site.save

    async def save(change):
        saved.append(change)
        return await to_disk(change)

    site.controller.dependencies.save = save

    async def beats():
        for _ in range(30):
            site.truth.at += 10.0
            site.controller.heard()
            await site.controller.tend("it")

    asyncio.run(beats())
    assert len(saved) <= 1
    site.close()


def test_a_control_that_an_error_breaks_off_gives_back_and_serves_again(site):
    """Rule H29."""
    site.journal.save(Transaction(events=[event(order(start=0.0, lasts=7000.0))]))
    site.truth.at = 5.0
    controller, serve = site.controller, site.controller.rounds()["control it"]

    async def fails():
        with pytest.raises(TypeError, match="odd"):
            await asyncio.wait_for(serve(), 10)

    async def scenario():
        rounds = asyncio.ensure_future(serve())
        await until(lambda: site.device.slots.get(13) == Decimal("-1.5"))
        real, controller._tend = controller._tend, wrong
        controller.wake("it")
        with pytest.raises(TypeError, match="odd"):
            await asyncio.wait_for(rounds, 10)
        assert site.device.slots[13] is None, "given back at once, not with the next attempt"
        controller._tend = real
        rounds = asyncio.ensure_future(serve())
        site.journal.save(Transaction(events=[event(order("two", start=5.0, lasts=7000.0))]))
        controller.wake("it")
        await until(lambda: site.device.slots.get(13) == Decimal("-1.5"))
        controller._tend = wrong
        site.truth.reachable = False
        controller.wake("it")
        with pytest.raises(TypeError, match="odd"):
            await asyncio.wait_for(rounds, 10)
        assert site.device.slots[13] == Decimal("-1.5"), "it cannot be reached"
        await fails()
        site.truth.reachable, site.truth.at = True, site.truth.at + 60
        await fails()  # though it fails again, it gives back first
        assert site.device.slots[13] is None
        controller._tend = real
        rounds = asyncio.ensure_future(serve())
        site.journal.save(Transaction(events=[event(order("three", start=site.truth.at))]))
        controller.wake("it")
        await until(lambda: site.device.slots.get(13) == Decimal("-1.5"))
        rounds.cancel()

    asyncio.run(scenario())
    assert {one.state for one in site.journal.history(0, 1e12) if one.jti == "one"} >= {
        OrderState.ABORTED
    }


async def wrong(_):
    raise TypeError("odd")
