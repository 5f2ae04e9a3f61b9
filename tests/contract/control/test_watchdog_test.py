"""Guards rule G6: a device that is said to give back by itself was seen to do so. Rule H23."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control.model import OrderState, WatchdogTarget
from agent.control.records import Transaction
from agent.core.errors import Refused
from tests.contract.control.pretend import DOG, Site, event, order

SEEN = WatchdogTarget(DOG.place, DOG.word, DOG.pause)
"""nobody has said to what it falls back"""


@pytest.fixture
def site():
    made = Site(array=False)
    made.dog = DOG
    yield made
    left = made.device.timeout, made.device.register
    made.close()
    assert left == (0, Decimal(32))  # called off and given back, whatever became of the test


def attempt(site):
    """What was measured, and what the person beside it was told."""
    site.start()
    site.journal.save(
        Transaction(memos=[(site.fit.key, replace(site.journal.memo(site.fit.key), tested=""))])
    )
    told = []

    async def say(words):
        told.append(words)

    try:
        return asyncio.run(site.controller.test("it", say)), told
    except Refused as error:
        return str(error), told


def remembered(site):
    return site.journal.memo(site.fit.key)


@pytest.mark.parametrize("dog", [DOG, SEEN], ids=["said", "seen"])
def test_a_device_is_seen_to_fall_back_and_after_how_long(site, dog):
    site.dog = dog
    passed, told = attempt(site)
    assert 60.0 < passed.fell_back_s <= 68.0
    assert remembered(site).fell_back_s == passed.fell_back_s
    assert remembered(site).fallback == Decimal(8)
    assert remembered(site).tested == "v1"
    assert "the device should fall back within 60 s" in told[3]
    assert [value for _, value in site.device.log] == 3 * [passed.value, Decimal(32)]


def test_one_that_takes_a_read_for_a_sign_of_life_is_left_alone_on_a_silent_line(site):
    site.device.fed_by_reads = True
    late = []

    async def quiet(_, seconds):
        # systemd's watchdog is told by what came round: a silence of minutes is no standstill
        late.append(site.truth.moment().steady + seconds - site.controller.turned)
        await site.wait(seconds)

    dependencies = site.dependencies

    def silent():
        made = dependencies()
        made.quiet = quiet
        return made

    site.dependencies = silent
    passed, told = attempt(site)
    assert late == [0.0]
    assert 60.0 < passed.fell_back_s <= 68.0
    assert "a silent line" in told[4]
    assert site.truth.at > 120.0


def test_one_that_does_not_fall_back_does_not_pass(site):
    site.device.deaf = True
    site.device.live = lambda: None
    refused, _ = attempt(site)
    assert "did not fall back within 60 s" in refused
    assert not remembered(site).tested
    assert not site.journal.records


def test_one_that_falls_back_to_something_else_than_was_said_does_not_pass(site):
    said = Decimal(12)
    site.device.fallback = said

    def otherwise(site):
        site.device.fallback = Decimal(8)

    site.meanwhile[30.0] = otherwise
    refused, _ = attempt(site)
    assert "fell back to 8, not to 12 as configured" in refused
    # neither ours nor what was said: it is taken for a person's and left
    assert site.device.register == Decimal(8)
    site.device.register = Decimal(32)


def test_one_that_falls_back_sooner_than_it_is_told_again_does_not_pass(site):
    site.device.live = lambda: setattr(
        site.device,
        "register",
        site.device.fallback
        if site.device.timeout and site.truth.at - site.device.told > 12
        else site.device.register,
    )
    refused, _ = attempt(site)
    assert "fell back after 15.0 s, but its watchdog is refreshed only every 30 s" in refused


def test_a_guard_ends_the_waiting(site):
    def cold(site):
        site.truth.guard = Decimal(17)

    site.meanwhile[20.0] = cold
    refused, _ = attempt(site)
    assert refused.startswith("E_GUARD(stairs)")
    assert site.truth.at < 30.0
    site.truth.guard = Decimal(20)


def test_what_it_was_seen_to_fall_back_to_is_ours_and_given_back_after_a_death(site):
    site.dog = SEEN
    attempt(site)
    begin = site.truth.at
    site.journal.save(Transaction(events=[event(order(start=begin, lasts=400.0))]))
    asyncio.run(site.controller.tend("it"))
    assert site.device.register == Decimal("-1.5")
    site.die()
    site.truth.at += 100.0
    site.device.live()
    assert site.device.register == Decimal(8)
    site.start()
    asyncio.run(site.controller.recover())
    assert site.journal.history(0, 1e12)[-1].state is OrderState.ABORTED


def test_the_watchdog_is_called_off_for_a_person_too_or_it_would_fall_back_over_their_value(site):
    site.start()
    site.journal.save(Transaction(events=[event(order(start=0.0, lasts=400.0))]))
    asyncio.run(site.controller.tend("it"))
    assert site.device.timeout == 60
    site.device.register = Decimal(21)
    site.truth.at = 10.0
    asyncio.run(site.controller.tend("it"))
    site.truth.at = 300.0
    site.device.live()
    assert site.device.register == Decimal(21)
    assert not site.journal.records
    site.device.register = Decimal(32)
