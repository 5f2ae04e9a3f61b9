"""What a manager reads out of what really happened, whatever went wrong."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from agent.control.history import order_reports, sentences
from agent.control.model import LossRule
from agent.core.i18n import in_language
from tests.contract.control.explorer import Plan, run
from tests.contract.control.pretend import ZONE, Site, agreed, event, order


def becomes(**truth):
    def act(site):
        for name, value in truth.items():
            setattr(site.truth, name, value)

    return act


def abandoned(_):
    return lambda controller: controller.abandon("it", "abandoned by root: scrapped")


def heard(_):
    async def hear(controller):
        controller.heard()

    return hear


ASKED = "it: −1.5 K, asked by metropole,"
TRIPPED = "broken off: stairs is 17 °C, below 18"
CASES = {
    "released": ({}, f"09:00–09:03 {ASKED} lowest stairs 20 °C, released, confirmed"),
    "a guard": (
        {100.0: becomes(guard=Decimal(17))},
        f"09:00–09:01 {ASKED} lowest stairs 17 °C, {TRIPPED}; released, confirmed",
    ),
    "out of reach at its end": (
        {100.0: becomes(reachable=False)}, f"09:00– {ASKED} NOT RELEASED YET: silent"),
    "out of reach when a guard trips": (
        {90.0: becomes(reachable=False), 100.0: becomes(guard=Decimal(17))},
        f"09:00–09:01 {ASKED} {TRIPPED}, NOT RELEASED YET: silent",
    ),
    "given back on the next day": (
        {100.0: becomes(reachable=False), 57_600.0: becomes(reachable=True)},
        f"09:00 – 2027-01-16 01:00 {ASKED} lowest stairs 20 °C, released, confirmed",
    ),
    "abandoned": (
        {90.0: becomes(reachable=False), 100.0: abandoned},
        f"09:00–09:01 {ASKED} failed: abandoned by root: scrapped"),
    "never begun": (
        {0.0: becomes(guard=Decimal(17))},
        f"09:01 {ASKED} refused: stairs is 17 °C, below 18 (E_GUARD(stairs))"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_sentence_says_whether_it_was_given_back_and_when(name):
    acts, said = CASES[name]
    site = Site()
    asyncio.run(run(site, Plan([event(order())], acts, lasts=max(600.0, *acts, 0.0) + 60)))
    found = sentences(site.journal.history(0, 1e12), ZONE, {"it": "K"})
    assert found == [f"2027-01-15 {said}"]
    site.close()


STORED = (
    ("json_set(body, '$.later', 1)", "au plus bas stairs 17 °C, interrompu : stairs est à 17 °C"),
    # an earlier version has written it
    ("json_remove(body, '$.texts')", "lowest stairs 17 °C, interrompu : stairs is 17 °C, below 18"),
    # a later version has written it in a form that this one cannot read
    ("json_set(body, '$.texts.words', '[1]')", "interrompu : stairs is 17 °C, below 18"),
)


@pytest.mark.parametrize(("stored", "said"), STORED)
def test_a_sentence_is_in_the_readers_language_as_far_as_the_journal_has_it(
    stored, said, monkeypatch
):
    site = Site()
    acts = {100.0: becomes(guard=Decimal(17))}
    asyncio.run(run(site, Plan([event(order())], acts, lasts=660.0)))
    with site.journal._db.transaction():
        site.journal._db.write(f"UPDATE outcome SET body={stored}")
    (sentence,) = sentences(site.journal.history(0, 1e12), ZONE, {"it": "K"})
    monkeypatch.setenv("LANGUAGE", "fr")
    assert "15 janvier 2027 à 09:00–09:01, it : −1,5 K, demandé par metropole" in in_language(
        sentence
    )
    assert said in in_language(sentence)
    assert "guard:" not in sentence
    site.close()


def test_an_order_too_short_to_wait_says_what_it_waited_for():
    site = Site()
    acts = {0.0: becomes(guard=Decimal(17))}
    asyncio.run(run(site, Plan([event(order(lasts=30.0))], acts)))
    (said,) = sentences(site.journal.history(0, 1e12), ZONE, {"it": "K"})
    assert said.endswith(
        "expired: its time was over before it could begin: stairs is 17 °C, below 18"
    )
    site.close()


def test_each_failsafe_is_a_sentence_of_its_own():
    site = Site(agreed(LossRule.LIMIT), array=False)
    one = event(order("one", "6", 300.0, 600.0, action="limit"))
    acts = {float(at): heard for at in (*range(0, 200, 30), *range(300, 340, 30))}
    assert not asyncio.run(run(site, Plan([one], acts, lasts=8000.0)))
    failsafe, limited = "it: failsafe limit 10 A", "it: 6 A, asked by metropole"
    assert sentences(site.journal.history(0, 1e12), ZONE, {"it": "A"}) == [
        f"2027-01-15 09:00–09:05 {failsafe}, overruled: by one",
        f"2027-01-15 09:05–09:07 {limited}, overruled: the centre is not heard: failsafe",
        f"2027-01-15 09:07–11:07 {failsafe}, lowest stairs 20 °C, released, confirmed",
    ]
    site.close()


def test_what_stood_there_without_an_order_is_told_too():
    site = Site()
    site.start()
    site.device.slots[13] = Decimal(-2)
    asyncio.run(site.controller.tend("it"))
    (said,) = sentences(site.journal.history(0, 1e12), ZONE, {"it": "K"})
    assert said.endswith("it: -2 stood at priority 13 without an order: it was emptied")
    site.close()


def test_an_order_that_was_refused_is_no_alarm_for_ever():
    site = Site()
    site.device.person(Decimal(3))
    asyncio.run(run(site, Plan([event(order())], {})))
    assert not site.controller.alarms
    site.close()


def test_a_hold_that_ends_before_its_next_check_has_its_lowest_temperature():
    site = Site()
    asyncio.run(run(site, Plan([event(order())], {}, lasts=30.0)))
    asyncio.run(site.controller.release_controls("reload", ["it"]))
    (report,) = order_reports(site.journal.history(0, 1e12))
    assert report.released is not None
    assert report.seen == "lowest stairs 20 °C"
    site.close()
