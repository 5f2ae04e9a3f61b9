"""The operator's pause for a season, and the operator's signature: attacked. Rules H35, H36."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest

from agent.api.control import opt_out, report
from agent.control.context import unsigned
from agent.control.model import Acceptance, Moment, OrderState
from agent.control.records import Memo, Outcome, Transaction, memo_of, text
from agent.core.errors import Refused
from tests.contract.control.explorer import Plan, every_cut, run
from tests.contract.control.pretend import BEGIN, ZONE, Site, event, order

DAY = 86_400.0
NAMES = SimpleNamespace(names={})
SEASON_END = BEGIN + 150 * DAY


def pauses(until=SEASON_END):
    def act(_):
        async def ask(controller):
            (control,) = controller.controls.values()
            await controller.opt_out(control, 0.0, "paused", until)

        return ask

    return act


def standing(site):
    return site.device.slots.get(13) if site.device.array else site.device.register


@pytest.mark.parametrize("array", [True, False], ids=["slot", "register"])
def test_wherever_the_agent_dies_what_is_held_is_released_and_nothing_begins(array):
    """Cut at each step; a pause that was not recorded yet is asked for again by the person."""
    events = [event(order("one", "-1.5", 30.0, 400.0)), event(order("two", "-1", 500.0, 200.0))]
    unpaused = None if array else Decimal(32)

    def make():
        return Site(array=array), Plan(events, {60.0: pauses(), 300.0: pauses()}, lasts=900.0)

    for fatal, findings in every_cut(make):
        assert not findings, fatal
    site, plan = make()
    assert not asyncio.run(run(site, plan))
    assert standing(site) == unpaused
    assert [value for _, value in site.device.log] == [Decimal("-1.5"), unpaused]
    states = [one.state for one in site.journal.history(0, 1e12) if one.jti == "two"]
    assert states == [OrderState.REJECTED]
    site.close()


CLOCKS = {
    "after a reboot with a clock in doubt": {"boot": "b", "trusted": False, "wall": BEGIN},
    "with a clock in doubt that is far ahead": {"trusted": False, "wall": SEASON_END + DAY},
    "on its last day": {"wall": SEASON_END - 1},
    "after many boots": {"boot": "z", "steady": 5.0, "wall": SEASON_END - 1},
}


@pytest.mark.parametrize("when", CLOCKS)
def test_it_lasts_until_a_trusted_clock_has_passed_its_last_day(when):
    begun = Moment(BEGIN, 1000.0, "a", trusted=True)
    memo = Memo(opted_out=begun, opt_words="paused", opt_until=SEASON_END)
    assert memo_of(json.loads(text(memo))) == memo
    now = replace(Moment(BEGIN, 150 * DAY + 2000.0, "a", trusted=True), **CLOCKS[when])
    assert memo.pause(now) == "paused"
    assert not memo.pause(Moment(SEASON_END, 1.0, "y", trusted=True))


def test_one_that_was_recorded_without_a_trusted_clock_ends_on_its_day_all_the_same():
    """By seconds that have certainly passed it would begin anew with each boot."""
    begun = Moment(BEGIN, 1000.0, "a", trusted=False)
    memo = Memo(opted_out=begun, opt_words="paused", opt_until=SEASON_END)
    assert not memo.pause(Moment(SEASON_END, 60.0, "b", trusted=True))


def test_a_shorter_opt_out_or_a_hand_at_the_plant_does_not_shorten_it():
    site = Site()
    controller = site.start()
    (control,) = controller.controls.values()

    async def attack():
        await pauses()(site)(controller)
        end = await controller.opt_out(control, 3600.0, "an hour")
        assert end == SEASON_END
        await controller._taken_over(control, BEGIN + 60)
        site.truth.at = 2 * DAY
        assert controller.forbidden(control).reason == "paused"
        # a longer one replaces it, and only a person ends it
        assert await controller.opt_out(control, 0.0, "longer", SEASON_END + DAY) > SEASON_END
        await controller.opt_in(control)
        assert controller.forbidden(control) is None

    asyncio.run(attack())
    site.close()


@pytest.mark.parametrize("wrong", [400 * DAY, -400 * DAY])
def test_with_a_clock_in_doubt_neither_an_opt_out_nor_a_pause_shortens_the_other(wrong):
    """Rule H36."""
    doubted = Moment(BEGIN + wrong, 1000.0, "a", trusted=False)
    day = Memo().opted(doubted, 0.0, "paused", BEGIN + DAY).opted(doubted, 3600.0, "an hour")
    hours = Memo().opted(doubted, 3600.0, "an hour").opted(doubted, 0.0, "paused", BEGIN + 60)
    assert hours.pause(Moment(BEGIN + 1800, 2800.0, "a", trusted=True))
    assert day.pause(Moment(BEGIN + DAY - 1, DAY, "a", trusted=True))
    for memo in (day, hours):
        assert not memo.pause(Moment(BEGIN + DAY, DAY + 1000, "a", trusted=True))


@pytest.mark.parametrize("wrong", [400 * DAY, -400 * DAY])
def test_a_pause_is_taken_also_while_the_clock_is_in_doubt(wrong):
    """Rule H36: it takes effect at once."""
    site = Site()
    site.start()
    now = site.controller.dependencies.now
    moment = replace(now(), wall=now().wall + wrong, trusted=False)
    site.controller.dependencies = replace(site.controller.dependencies, now=lambda: moment)
    assert asked(site, until="2027-01-15")["until"] == "2027-01-15T23:00:00Z"
    site.close()


def asked(site, **args):
    """The call of the command, with the controls of this site."""
    steering = SimpleNamespace(
        controller=site.controller, config=SimpleNamespace(zone=ZONE, privacy=NAMES)
    )
    return asyncio.run(opt_out(steering, "anne", name="it", **args))


@pytest.mark.parametrize(
    ("day", "end"),
    [
        ("2027-01-15", "2027-01-15T23:00:00Z"),
        ("2027-03-28", "2027-03-28T22:00:00Z"),  # a day of 23 hours
        ("2027-10-31", "2027-10-31T23:00:00Z"),  # a day of 25 hours
    ],
)
def test_its_last_day_is_a_whole_day_of_the_building(day, end):
    site = Site()
    site.start()
    assert asked(site, until=day) == {
        "control": "it", "until": end, "pending": [], "unrecorded": "", "ok": True, "before": None,
    }  # fmt: skip
    site.close()


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("2027-01-14", "is over"),
        ("2028-02-01", "at most a year"),
        ("2027-02-30", "is not a day"),
        ("next winter", "is not a day"),
        ("9999-12-31", "is not a day"),
        ("0001-01-01", "is not a day"),
    ],
)
def test_a_day_that_cannot_be_meant_pauses_nothing(day, words):
    site = Site()
    site.start()
    with pytest.raises(Refused, match=words):
        asked(site, until=day)
    assert site.controller.forbidden(site.fit) is None
    site.close()


def test_on_a_disk_that_fails_it_is_in_force_and_says_that_it_is_not_recorded():
    site = Site()
    site.start()
    site.controller.dependencies.failing = lambda: "the disk is read-only"
    answer = asked(site, until="2027-04-30")
    assert (answer["unrecorded"], answer["ok"]) == ("the disk is read-only", False)
    site.controller.dependencies.failing = str
    assert "anne has paused it until 2027-04-30" in site.controller.forbidden(site.fit).reason
    site.close()


# -- the report of a month


def reported(site, month):
    config = SimpleNamespace(
        zone=ZONE, controls={}, building=SimpleNamespace(name="Les Alpins"), privacy=NAMES
    )
    steering = SimpleNamespace(
        controller=site.controller, config=config, writer=SimpleNamespace(call=site.read)
    )
    return asyncio.run(report(steering, "anne", month=month))


@pytest.mark.parametrize(
    ("month", "found", "jtis"),
    [("", "2027-01", ["one"]), ("last", "2026-12", []), ("2027-1", "2027-01", ["one"])],
)
def test_a_report_has_the_orders_that_began_in_its_month(month, found, jtis):
    site = Site()
    assert not asyncio.run(run(site, Plan([event(order())], {})))
    answer = reported(site, month)
    assert answer["month"] == found
    assert [one["jti"] for one in answer["controls"]["it"]["orders"]] == jtis
    assert answer["ended"] == (found == "2026-12")
    assert answer["complete"]
    site.close()


def test_a_report_says_that_the_journal_no_longer_has_the_whole_month():
    """The journal keeps the last 5,000 outcomes."""
    site = Site()
    site.start()
    for number in (1, 5002):
        refused = Outcome("one", "it", OrderState.REJECTED, BEGIN, code="E_RANGE", n=number)
        site.journal.save(Transaction(outcomes=[refused]))
        assert reported(site, "2027-01")["complete"] == (number == 1)
    site.close()


@pytest.mark.parametrize("month", ["2027-13", "9999-12", "0001-01", "january"])
def test_what_is_no_month_is_refused(month):
    site = Site()
    site.start()
    with pytest.raises(Refused, match="is not a month"):
        reported(site, month)
    with pytest.raises(Refused, match="has not begun"):
        reported(site, "2027-02")
    site.close()


# -- the signature


SIGNED = Acceptance("f" * 64, "Marc Durand", "2026-10-01", BEGIN, "a test")


def accepts(sha256):
    def act(_):
        async def record(controller):
            (control,) = controller.controls.values()
            await controller.accept(control, replace(SIGNED, sha256=sha256))

        return record

    return act


class SignedSite(Site):
    """Its control has a sheet."""

    to_sign = "f" * 64

    @property
    def fit(self):
        return replace(super().fit, to_sign=self.to_sign)


@pytest.mark.parametrize("sha256", ["", "f" * 63 + "e", "F" * 64], ids=["none", "other", "case"])
def test_an_order_that_was_accepted_before_does_not_begin_without_the_signature(sha256):
    """The version on the paper has ten digits; all of them are compared."""
    site = SignedSite()
    acts = {0.0: accepts(sha256)} if sha256 else {}
    assert not asyncio.run(run(site, Plan([event(order())], acts)))
    assert not site.device.log
    (refused,) = site.journal.history(0, 1e12)
    assert (refused.state, refused.code) == (OrderState.REJECTED, "E_UNSIGNED")
    site.close()


def test_whoever_takes_the_sheet_out_does_not_do_without_the_signature():
    site = SignedSite()
    asyncio.run(run(site, Plan([], {0.0: accepts("f" * 64)}, lasts=20.0)))
    (control,) = site.controller.controls.values()
    facts = site.controller.facts(replace(control, to_sign=""), site.truth.moment())
    assert "is no longer in the configuration" in facts.unsigned
    # nobody has ever signed: there is nothing to sign
    assert not unsigned(replace(control, to_sign=""), Memo())
    site.close()


def test_with_the_signature_it_begins_and_the_signature_is_on_the_disk():
    site = SignedSite()
    assert not asyncio.run(run(site, Plan([event(order())], {0.0: accepts("f" * 64)})))
    assert site.device.log[0][1] == Decimal("-1.5")
    site.die()
    site.start()
    memo = site.journal.memo(site.fit.key)
    assert memo.acceptance == SIGNED
    assert not unsigned(site.fit, memo)
    site.to_sign = "e" * 64
    assert "has changed since Marc Durand accepted it on 2026-10-01" in unsigned(site.fit, memo)
    site.close()
