"""Guards rules G5, G6 in the moments between a look and a write, and where one hold ends and
another begins.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control.model import FAILSAFE, Failsafe, Limits, LossRule, OrderState
from agent.control.records import Phase, Transaction
from agent.core.errors import WriteRefused
from tests.contract.control.explorer import Plan, every_cut, run
from tests.contract.control.pretend import BEGIN, DOG, Hand, Site, agreed, event, order

everywhere = pytest.mark.parametrize("array", [True, False], ids=["slot", "register"])


def away(site):
    site.truth.reachable = False


def back(site):
    site.truth.reachable = True


def heard(_):
    async def hear(controller):
        controller.heard()

    return hear


def states(site):
    return [one.state for one in site.journal.history(0, 1e12)]


@everywhere
def test_nothing_begins_over_what_waits_to_be_given_back(array):
    events = [event(order("one", "-1.5", 30.0, 180.0)), event(order("two", "-1", 600.0, 300.0))]

    def make():
        return Site(array=array), Plan(events, {150.0: away, 595.0: back}, lasts=1500.0)

    for fatal, findings in every_cut(make):
        assert not findings, fatal
    site, plan = make()
    assert not asyncio.run(run(site, plan))
    restored = None if array else Decimal(32)
    assert site.device.log == [
        (30.0, Decimal("-1.5")), (610.0, restored), (610.0, Decimal(-1)), (900.0, restored)
    ]  # fmt: skip
    site.close()


def test_nothing_begins_there_either_when_the_same_spot_is_called_otherwise():
    """Rule H15."""
    site = Site(array=False)
    asyncio.run(run(site, Plan([event(order())], {100.0: away}, lasts=300.0)))
    site.place = replace(site.place, device="heater", settings='{"timeout": 2}')
    site.controller.controls = {"it": site.fit}
    site.controller.journal.key_of = lambda _: site.fit.key
    site.journal.save(
        Transaction(memos=[(site.fit.key, replace(site.journal.memo(("", "")), tested="v1"))])
    )
    back(site)
    site.journal.save(Transaction(events=[event(order("two", "-1", 310.0, 100.0))]))
    site.truth.at = 310.0
    asyncio.run(site.controller.tend("it"))
    assert site.device.register == Decimal("-1.5")  # not begun yet
    site.truth.at = 370.0
    asyncio.run(site.controller.release_unconfigured())
    assert site.device.register == Decimal(32)
    asyncio.run(site.controller.tend("it"))
    assert site.device.register == Decimal(-1)
    site.close()


class OtherUnit(Hand):
    """A device whose value cannot be used from `since` on; its slots are seen all the same."""

    since = 0.0

    async def look(self, *, whole=False):
        standing = await super().look(whole=whole)
        if whole and self.device.truth.at >= self.since:
            return replace(standing, effective=None, unreadable="the object is in °F")
        return standing


@pytest.mark.parametrize("since", [0.0, 100.0], ids=["before", "while it is held"])
def test_nothing_begins_where_the_value_is_in_another_unit_and_what_is_held_is_given_back(since):
    site = Site()

    def hand(_, slot):
        made = OtherUnit(site.device, slot, site.steps, site.on_write)
        made.since = since
        return made

    site.hand = hand
    plan = Plan([event(order("one", "-1.5", 30.0, 180.0))], {}, lasts=900.0)
    assert not asyncio.run(run(site, plan))
    written = [value for _, value in site.device.log]
    assert written == ([Decimal("-1.5"), None] if since else [])
    assert site.device.slots.get(13) is None
    last = list(site.journal.history(0, 1e12))[-1]
    expected = (OrderState.COMPLETED, "released, confirmed")
    assert (last.state, last.words) == (
        expected if since else (OrderState.REJECTED, "the object is in °F")
    )
    site.close()


class Rounding(Hand):
    """A device that takes whole numbers only, and says so only when it is read back."""

    async def write(self, value):
        await super().write(None if value is None else Decimal(round(value)))


@everywhere
def test_what_a_device_has_rounded_is_given_back_all_the_same(array):
    """Rules H15, H16."""
    site = Site(array=array)
    site.hand = lambda _, slot: Rounding(site.device, slot, site.steps, lambda *_: None)
    asyncio.run(run(site, Plan([event(order("one", "-1.4"))], {})))
    assert site.device.slots.get(13) is None
    assert site.device.register == Decimal(32)
    (told,) = [one for one in site.journal.history(0, 1e12) if one.state is OrderState.FAILED]
    assert "-1 was read back instead of -1.4; released, confirmed" in told.words
    site.close()


@everywhere
def test_what_a_person_sets_while_the_row_goes_to_the_disk_is_left(array):
    """Rule H10."""
    site, theirs = Site(array=array), Decimal(21)
    to_disk = site.save

    async def save(change):
        saved = await to_disk(change)
        if change.record is not None and change.record.phase is Phase.WRITING:
            site.device.person(theirs, slot=13)
        return saved

    site.save = save
    assert not asyncio.run(run(site, Plan([event(order())], {})))
    assert not site.device.log
    assert (site.device.slots[13] if array else site.device.register) == theirs
    assert states(site) == [OrderState.REJECTED]
    assert not site.journal.records
    site.close()


@everywhere
def test_what_a_person_sets_between_two_tries_is_left(array):
    site = Site(array=array)
    dropped = []

    class Deaf(Hand):
        async def write(self, value):
            if not dropped:
                dropped.append(value)  # acknowledged, and lost; then a person acts
                self.device.truth.guard = Decimal(20)
                return
            await super().write(value)

        async def look(self, *, whole=False):
            if len(dropped) == 1:
                dropped.append(None)
                standing = await super().look(whole=whole)
                self.device.person(Decimal(21), slot=13)
                return standing
            return await super().look(whole=whole)

    site.hand = lambda _, slot: Deaf(site.device, slot, site.steps, site.on_write)
    asyncio.run(run(site, Plan([event(order())], {})))
    assert not site.device.log
    assert (site.device.slots[13] if array else site.device.register) == Decimal(21)
    assert states(site) == [OrderState.OPTED_OUT]
    site.close()


def test_an_order_that_a_person_ends_while_its_rounded_value_is_written_again_ends_once():
    """Rule H11."""
    site = Site(array=False)

    class Overruled(Rounding):
        async def look(self, *, whole=False):
            standing = await super().look(whole=whole)
            if standing.ours == Decimal(-1):
                self.device.person(Decimal(21))
            return standing

    site.hand = lambda _, slot: Overruled(site.device, slot, site.steps, lambda *_: None)
    asyncio.run(run(site, Plan([event(order("one", "-1.4"))], {})))
    assert site.device.register == Decimal(21)
    assert states(site) == [OrderState.OPTED_OUT]
    site.close()


def test_an_order_that_was_written_over_a_failsafe_and_not_read_back_is_not_refused():
    """Rules H4, H11: it has begun."""
    site = Site(agreed(LossRule.LIMIT), array=False)

    class Late(Hand):
        async def write(self, value):
            await super().write(value)
            if value == Decimal(6):
                away(site)

    def trips(site):
        site.truth.guard = None

    site.hand = lambda _, slot: Late(site.device, slot, site.steps, site.on_write)
    acts = {float(at): lambda site: site.controller.heard() for at in (10, 20, 30)}
    one = event(replace(order("one", "6", 30.0, 600.0, action="limit"), received=BEGIN))
    one = replace(one, accepted=BEGIN + 20.0)
    asyncio.run(run(site, Plan([one], acts | {40.0: trips, 200.0: back}, lasts=400.0)))
    assert site.device.log[:2] == [(0.0, Decimal(10)), (30.0, Decimal(6))]
    (last,) = site.journal.events.values()
    assert (last.state, last.began) == (OrderState.ABORTED, True)
    ends = [one.state for one in site.journal.history(0, 1e12) if one.jti == "one"]
    assert OrderState.REJECTED not in ends
    site.close()


def test_an_order_whose_release_waits_beyond_its_end_is_not_reported_as_expired():
    """Rule H11: three writes were not read back."""
    site = Site(array=False)

    class Late(Hand):
        async def look(self, *, whole=False):
            if site.truth.at < 400.0 and self.device.register == Decimal("-1.5"):
                away(site)
            return await super().look(whole=whole)

    site.hand = lambda _, slot: Late(site.device, slot, site.steps, site.on_write)
    asyncio.run(run(site, Plan([event(order())], {400.0: back}, lasts=500.0)))
    assert states(site) == [OrderState.RELEASE_PENDING, OrderState.FAILED]
    assert site.device.register == Decimal(32)
    site.close()


def test_who_takes_over_goes_on_from_the_value_that_stands_step_by_step():
    site = Site(agreed(ramp=Decimal("0.5")))
    events = [
        event(order("one", "-2", 30.0, 900.0)),
        event(order("two", "-1", 400.0, 1200.0, prio=1)),
    ]
    asyncio.run(run(site, Plan(events, {}, lasts=2000.0)))
    written = [value for _, value in site.device.log[:-1]]
    for one, other in zip([Decimal(0), *written], [*written, Decimal(0)], strict=True):
        assert abs(one - other) <= Decimal("0.5"), site.device.log
    assert Decimal(-1) in written
    assert site.device.log[-1] == (1600.0, None)
    site.close()


def test_who_lost_comes_back_after_the_stronger_only_if_it_asked_for_that():
    for resume, ends in ((True, [(500.0, Decimal(-2)), (930.0, None)]), (False, [(500.0, None)])):
        site = Site()
        weak = event(order("one", "-2", 30.0, 900.0, resume=resume))
        strong = event(order("two", "-1", 200.0, 300.0, prio=1))
        asyncio.run(run(site, Plan([weak, strong], {}, lasts=1200.0)))
        assert site.device.log == [(30.0, Decimal(-2)), (200.0, Decimal(-1)), *ends]
        assert states(site).count(OrderState.SUPERSEDED) == 1
        site.close()


def test_who_comes_back_is_decided_again():
    """Rule H8."""

    def trip(site):
        site.truth.guard = Decimal(17)

    def mend(site):
        site.truth.guard = Decimal(20)

    site = Site()
    weak = event(order("one", "-2", 30.0, 900.0, resume=True))
    strong = event(order("two", "-1", 200.0, 300.0, prio=1))
    asyncio.run(run(site, Plan([weak, strong], {300.0: trip, 400.0: mend}, lasts=1200.0)))
    assert site.device.log == [(30.0, Decimal(-2)), (200.0, Decimal(-1)), (300.0, None)]
    site.close()


def test_an_order_for_later_is_a_following_one_however_long_the_failsafe_lasts():
    site = Site(agreed(LossRule.LIMIT), array=False)

    def accepted(site):
        late = replace(event(order("late", "16", 2000.0, 600.0, action="limit")))
        late = replace(late, accepted=site.truth.moment().wall)
        site.journal.save(Transaction(events=[late]))

    acts = {float(at): lambda site: site.controller.heard() for at in range(60, 2600, 60)}
    first = event(order("first", "20", 30.0, 20.0, action="limit"))
    plan = Plan([first], acts | {65.0: accepted}, lasts=2400.0)
    asyncio.run(run(site, plan))
    assert site.device.register == Decimal(16)
    site.close()


def test_a_failsafe_under_an_emergency_is_its_own_value_and_not_the_emergencys():
    limits = Limits(least=Decimal(-2), most=Decimal(40), duration=7200.0, emergency=True)
    site = Site(agreed(LossRule.LIMIT, limits=limits))
    site.device.by_default = Decimal(32)
    urgent = event(order("urgent", "6", 0.0, 300.0, action="limit", emergency=True))
    plan = Plan([urgent], {10.0: lambda site: site.controller.heard()}, lasts=200.0)
    assert not asyncio.run(run(site, plan))  # the centre is lost while the emergency is in force
    assert site.device.slots == {10: None, 13: Decimal(10)}
    site.close()


@pytest.mark.parametrize("kind", list(LossRule))
def test_a_device_that_fell_back_while_it_was_out_of_reach_is_held_again(kind):
    site = Site(agreed(kind), array=False)
    site.dog = DOG
    action = "limit" if kind is LossRule.LIMIT else "offset"
    acts = {float(at): lambda site: site.controller.heard() for at in range(10, 400, 50)}
    plan = Plan([event(order("one", "16", 20.0, 400.0, action=action))], acts, lasts=300.0)
    plan.acts |= {101.0: away, 205.0: back}
    assert not asyncio.run(run(site, plan))
    assert site.device.log == [
        *([(0.0, Decimal(10))] if kind is LossRule.LIMIT else []), (20.0, Decimal(16)),
        (210.0, Decimal(16)),
    ]  # fmt: skip
    assert site.device.register == Decimal(16)
    site.close()


@pytest.mark.parametrize("leaves", [130.0, 290.0], ids=["on its way", "at its value"])
@pytest.mark.parametrize(
    ("fallback", "steps"),
    [
        (32, [(100, 28), (150, 24), (200, 20), (250, 16)]),
        (26, [(100, 22), (150, 18), (200, 16)]),
        (40, [(100, 28), (150, 24), (200, 20), (250, 16)]),
    ],
    ids=["from before", "between", "beyond it"],
)
def test_a_device_that_fell_back_goes_on_by_its_ramp_from_where_it_is(leaves, fallback, steps):
    """Rules H5, O17."""
    site = Site(agreed(ramp=Decimal(4)), array=False)
    site.dog, site.device.fallback = DOG, Decimal(fallback)
    acts = {leaves: away, leaves + 100: back}
    plan = Plan([event(order("one", "16", 20.0, 900.0))], acts, lasts=leaves + 300)
    findings = asyncio.run(run(site, plan))
    assert not [text for text in findings if "begun" not in text]  # 16 comes twice over a step
    before = [(at, value) for at, value in site.device.log if at < leaves]
    assert before == [(20, 28), (80, 24), (140, 20), (200, 16)][: len(before)]
    assert [(at - leaves, value) for at, value in site.device.log if at > leaves] == steps
    site.close()


def test_a_device_that_fell_back_beyond_the_order_gets_no_value_that_nobody_ordered():
    """Rule O17."""
    site = Site(agreed(ramp=Decimal(4)), array=False)
    site.dog = DOG
    plan = Plan([event(order("one", "16", 20.0, 900.0))], {290.0: away, 390.0: back}, lasts=490.0)
    assert not asyncio.run(run(site, plan))
    assert site.device.log == [(20, 28), (80, 24), (140, 20), (200, 16), (390, 16)]
    site.close()


class FallsBack(Hand):
    """A device that takes no value at a moment, as it is switched off, and begins at its own."""

    when = 140.0

    async def write(self, value):
        if self.device.truth.at == self.when and self.device.register != self.device.fallback:
            self.device.register = self.device.fallback
            raise WriteRefused("it has just begun")
        await super().write(value)


def test_a_device_that_falls_back_between_two_tries_goes_on_by_its_ramp_too():
    """Rule H5."""
    site = Site(agreed(ramp=Decimal(4)), array=False)
    site.dog, plain = DOG, site.hand
    site.device.fallback = Decimal(26)

    def hand(place, slot):
        made = plain(place, slot)
        return FallsBack(*vars(made).values()) if isinstance(made, Hand) else made

    site.hand = hand
    plan = Plan([event(order("one", "16", 20.0, 900.0))], {}, lasts=400.0)
    assert not asyncio.run(run(site, plan))
    assert site.device.log == [(20, 28), (80, 24), (150, 22), (200, 18), (250, 16)]
    site.close()


def gone(why):
    def act(site):
        site.truth.reachable, site.truth.full = why != "silent", why == "full"

    return act


def there(site):
    site.truth.reachable, site.truth.full = True, False


@pytest.mark.parametrize("why", ["silent", "full"])
def test_what_cannot_be_looked_at_or_written_down_for_a_moment_begins_late_and_ends_in_time(why):
    """Rule H2."""
    site = Site()
    asyncio.run(run(site, Plan([event(order())], {15.0: gone(why), 65.0: there})))
    assert site.device.log == [(70.0, Decimal("-1.5")), (210.0, None)]
    site.close()


def test_a_device_that_stays_silent_is_the_end_of_an_order():
    site = Site()
    asyncio.run(run(site, Plan([event(order())], {15.0: gone("silent")}, lasts=120.0)))
    told = site.journal.history(0, 1e12)
    assert [(one.state, one.code) for one in told] == [(OrderState.REJECTED, "E_DEVICE")]
    assert not site.device.log
    site.close()


def test_a_clock_that_cannot_be_relied_on_holds_up_a_begin_and_refuses_nothing():
    """Rule H26."""

    def lost(site):
        site.truth.trusted = False

    def found(site):
        site.truth.trusted = True

    site = Site()
    asyncio.run(run(site, Plan([event(order())], {15.0: lost, 65.0: found})))
    assert site.device.log == [(70.0, Decimal("-1.5")), (210.0, None)]
    site.close()


def test_a_guard_that_ended_something_locks_out_for_the_agreed_rest():
    """Rule H3."""

    def cold(site):
        site.truth.guard = Decimal(17)

    def warm(site):
        site.truth.guard = Decimal(20)

    limits = Limits(least=Decimal(-2), most=Decimal(40), duration=7200.0, gap=300.0)
    site = Site(agreed(limits=limits))
    events = [
        event(order("one", "-1.5", 30.0, 400.0)),
        event(order("two", "-1", 200.0, 100.0, prio=1)),
        event(order("three", "-2", 800.0, 100.0)),
    ]
    asyncio.run(run(site, Plan(events, {100.0: cold, 120.0: warm}, lasts=1000.0)))
    told = site.journal.history(0, 1e12)
    (refused,) = [one for one in told if one.state is OrderState.REJECTED]
    assert (refused.jti, refused.code) == ("two", "E_TIMER")
    assert [value for _, value in site.device.log] == [Decimal("-1.5"), None, Decimal(-2), None]
    site.close()


def test_a_guard_that_ended_a_failsafe_locks_out_an_order_too():
    def cold(site):
        site.truth.guard = Decimal(17)

    def warm(site):
        site.truth.guard = Decimal(20)

    limits = Limits(least=Decimal(6), most=Decimal(40), duration=7200.0, gap=600.0)
    site = Site(agreed(LossRule.LIMIT, limits=limits), array=False)
    acts = {60.0: cold, 80.0: warm} | {float(at): heard for at in range(100, 300, 30)}
    one = replace(event(order("one", "8", 120.0, 300.0, action="limit")), accepted=BEGIN + 110)
    asyncio.run(run(site, Plan([one], acts, lasts=200.0)))
    (told,) = [one for one in site.journal.history(0, 1e12) if one.state is OrderState.REJECTED]
    assert told.code == "E_TIMER"
    assert told.words.startswith("a guard tripped")
    site.close()


def test_who_is_overruled_has_ended_also_while_our_priority_cannot_be_emptied_yet():
    site = Site()
    stuck = []

    class Stubborn(Hand):
        async def write(self, value):
            if value is None and stuck:
                raise WriteRefused("busy")
            await super().write(value)

    site.hand = lambda _, slot: Stubborn(site.device, slot, site.steps, site.on_write)

    def person(site):
        stuck.append(1)
        site.device.person(Decimal(21))

    def free(site):
        stuck.clear()
        site.device.slots.pop(8)

    again = event(order("two", "-1", 150.0, 40.0))
    asyncio.run(run(site, Plan([event(order()), again], {100.0: person, 140.0: free}, lasts=400.0)))
    assert site.device.log == [(30.0, Decimal("-1.5")), (140.0, None)]
    assert {one.jti: one.state for one in site.journal.history(0, 1e12)} == {
        "one": OrderState.OPTED_OUT, "two": OrderState.EXPIRED,
    }  # fmt: skip
    site.close()


def test_a_failsafe_that_was_ended_by_word_is_not_entered_again_before_the_next_silence():
    def ended(site):
        del site
        return lambda controller: controller.cancel("it", "release by the centre")

    def heard(site):
        site.controller.heard()

    site = Site(agreed(LossRule.LIMIT), array=False)
    far = event(order("far", "16", 9000.0, 60.0, action="limit"))
    asyncio.run(run(site, Plan([far], {50.0: ended, 500.0: heard}, lasts=800.0)))
    assert site.device.log == [
        (0.0, Decimal(10)), (50.0, Decimal(32)), (630.0, Decimal(10))
    ]  # fmt: skip
    site.close()


def limited(**over):
    """A limit in force, until the centre falls silent."""
    site = Site(agreed(LossRule.LIMIT), array=False)
    hears = {float(at): lambda site: site.controller.heard() for at in (10, 60)}
    return site, Plan([event(order("one", "16", 20.0, **over, action="limit"))], hears, lasts=400.0)


def test_an_order_whose_centre_fell_silent_is_told_to_have_lost():
    site, plan = limited(lasts=600.0)
    asyncio.run(run(site, plan))
    lost = [one for one in site.journal.history(0, 1e12) if one.state is OrderState.SUPERSEDED]
    (told,) = [one for one in lost if one.jti != FAILSAFE]
    assert "the centre is not heard" in told.words
    assert site.device.register == Decimal(10)
    site.close()


def test_a_failsafe_too_begins_only_once_what_waits_is_given_back():
    site, plan = limited(lasts=80.0)
    plan.acts |= {95.0: away, 305.0: back}
    assert not asyncio.run(run(site, plan))
    (row,) = site.journal.records.values()
    assert (row.jti, row.pre) == ("failsafe", Decimal(32))
    assert site.device.register == Decimal(10)
    site.close()


def test_a_limit_stays_at_its_failsafe_when_the_agent_ends():
    site, plan = limited(lasts=600.0)
    plan.lasts = 100.0
    asyncio.run(run(site, plan))
    assert site.device.register == Decimal(16)
    site.controller.closing = True
    asyncio.run(site.controller.release_controls("the agent was stopped", ["it"]))
    assert site.device.register == Decimal(10)
    site.close()


def test_who_would_have_come_back_does_not_once_all_was_cancelled():
    def cancelled(site):
        del site
        return lambda controller: controller.cancel("it", "somebody")

    site = Site()
    weak = event(order("one", "-2", 30.0, 900.0, resume=True))
    strong = event(order("two", "-1", 200.0, 300.0, prio=1))
    asyncio.run(run(site, Plan([weak, strong], {300.0: cancelled}, lasts=1000.0)))
    assert site.device.log == [(30.0, Decimal(-2)), (200.0, Decimal(-1)), (300.0, None)]
    site.close()


def test_the_rest_after_a_give_back_is_kept():
    site = Site(agreed(off=300.0))
    events = [event(order("one", "-1.5", 30.0, 60.0)), event(order("two", "-1", 200.0, 60.0))]
    asyncio.run(run(site, Plan(events, {}, lasts=400.0)))
    told = {one.jti: one for one in site.journal.history(0, 1e12)}
    assert (told["two"].state, told["two"].code) == (OrderState.REJECTED, "E_TIMER")
    site.close()


def test_a_priority_that_is_emptied_while_a_step_is_written_ends_the_hold():
    """Rule H16."""
    site = Site(agreed(ramp=Decimal("0.5")))
    written = []

    class Emptied(Hand):
        async def write(self, value):
            written.append(value)
            if len(written) == 2:
                self.device.slots[13] = None  # by somebody, and our step is lost
                raise WriteRefused("lost")
            await super().write(value)

    site.hand = lambda _, slot: Emptied(site.device, slot, site.steps, site.on_write)
    asyncio.run(run(site, Plan([event(order("one", "-2", 30.0, 600.0))], {}, lasts=400.0)))
    assert written == [Decimal("-0.5"), Decimal("-1.0")]
    assert OrderState.OPTED_OUT in states(site)
    site.close()


@pytest.mark.parametrize("there", ["another", None])
def test_what_waits_for_a_control_that_is_configured_no_more_is_refused(there):
    site = Site()
    site.start()
    site.journal.save(Transaction(events=[event(order(start=0.0))]))
    fit = replace(site.fit, modality=replace(site.fit.modality, name="another"))
    site.controller.controls = {there: fit} if there else {}
    site.journal.key_of = lambda name: site.fit.key if name == there else None
    asyncio.run(site.controller.tend("another"))
    assert not site.device.log
    asyncio.run(site.controller.release_unconfigured())
    (told,) = site.journal.history(0, 1e12)
    assert (told.jti, told.state, told.code) == ("one", OrderState.REJECTED, "E_ASSET")
    site.close()


def test_a_start_begins_nothing_again_of_which_only_the_order_is_known():
    site = Site(array=False)
    site.start()
    held = replace(event(order(start=0.0)), state=OrderState.STARTED, began=True)
    site.journal.save(Transaction(events=[held]))
    asyncio.run(site.controller.recover())
    asyncio.run(site.controller.tend("it"))
    assert not site.device.log
    assert states(site) == [OrderState.ABORTED]
    site.close()


def test_a_start_empties_what_stands_in_our_priority_before_it_does_anything_else():
    """Rule H19."""
    site = Site()
    site.start()
    site.device.slots[13] = Decimal(-2)
    asyncio.run(site.controller.recover())
    assert site.device.slots[13] is None
    site.close()


@pytest.mark.parametrize("again", [400.0, 700.0], ids=["before-its-end", "after-its-end"])
def test_what_a_person_has_set_before_a_start_stays_until_the_order_would_have_ended(again):
    """Rule H10."""
    site = Site(array=False)
    asyncio.run(run(site, Plan([event(order("one", "-1", 30.0, 600.0))], {}, lasts=100.0)))
    site.die()
    site.device.person(Decimal(5))
    site.truth.at, site.truth.boot, site.truth.booted = 300.0, "b", 250.0
    later = event(order("two", "-2", again, 60.0))
    asyncio.run(run(site, Plan([later], {}, lasts=again + 100.0)))
    written = [Decimal(-1)] if again < 630.0 else [Decimal(-1), Decimal(-2), Decimal(5)]
    assert [value for _, value in site.device.log] == written
    site.close()


@pytest.mark.parametrize("held", [FAILSAFE, "one"])
def test_a_failsafe_does_not_replace_what_a_person_has_set_when_the_disk_has_recovered(held):
    """Rule H10."""
    site, plan = limited(lasts=600.0)
    plan.lasts = 100.0
    if held == FAILSAFE:
        plan.events, plan.acts = [], {}
    asyncio.run(run(site, plan))
    site.device.person(Decimal(20))
    site.controller.recovering = "the disk has recovered"
    asyncio.run(site.controller.recover())
    site.controller.recovering = ""
    asyncio.run(site.controller.tend("it"))
    assert site.device.register == Decimal(20)
    ends = 86_510.0 if held == FAILSAFE else 620.0
    memo, now = site.journal.memo(site.fit.key), site.truth.moment()
    assert memo.pause_end(now) == pytest.approx(BEGIN + ends)
    site.truth.at = 740.0
    asyncio.run(site.controller.tend("it"))
    assert site.device.register == Decimal(20 if held == FAILSAFE else 10)
    site.close()


def test_a_limit_that_was_held_when_the_agent_died_is_told_to_be_broken_off():
    site = Site(agreed(LossRule.LIMIT), array=False)
    acts = {float(at): heard for at in range(0, 120, 30)}
    one = event(order("one", "6", 30.0, 600.0, action="limit"))
    asyncio.run(run(site, Plan([one], acts, lasts=100.0)))
    assert site.device.register == Decimal(6)
    site.die()
    site.start()
    asyncio.run(site.controller.recover())
    assert site.device.register == Decimal(10)
    (state,) = [one.state for one in site.journal.events.values()]
    assert state is OrderState.ABORTED
    site.close()


def test_a_limit_never_raises():
    """Rule H12."""
    site = Site(agreed(LossRule.LIMIT, failsafe=Failsafe(Decimal(10), 0.0, 0.0)), array=False)
    site.device.register = Decimal(8)
    one = event(order("one", "12", 30.0, 180.0, action="limit"))
    asyncio.run(run(site, Plan([one], {})))
    assert {value for _, value in site.device.log} == {Decimal(8)}
    site.close()


def test_who_lost_to_an_emergency_is_not_told_to_have_been_completed():
    site = Site(agreed(limits=Limits(duration=7200.0, emergency=True)))
    events = [event(order()), event(order("two", "-2", 90.0, 60.0, emergency=True))]
    asyncio.run(run(site, Plan(events, {})))
    told = [one.state for one in site.journal.history(0, 1e12) if one.jti == "one"]
    assert told == [OrderState.STARTED, OrderState.SUPERSEDED, OrderState.SUPERSEDED]
    site.close()


def test_an_agent_that_ends_begins_nothing_any_more():
    site = Site()
    site.start()
    site.journal.save(Transaction(events=[event(order(start=0.0))]))
    site.controller.closing = True
    asyncio.run(site.controller.tend("it"))
    assert not site.device.log
    site.close()


def test_a_boot_without_a_clock_does_not_begin_the_failsafes_time_anew():
    site = Site(agreed(LossRule.LIMIT), array=False)

    async def lives(begin, end):
        site.start()
        await site.controller.recover()
        for at in range(begin, end, 30):
            site.truth.at = float(at)
            await site.controller.tend("it")

    asyncio.run(lives(0, 5400))
    assert site.device.register == Decimal(10)
    site.die()
    site.truth.boot, site.truth.booted, site.truth.trusted = "b", 5400.0, False
    asyncio.run(lives(5400, 8000))
    assert site.device.register == Decimal(32)  # two hours were over, and ten minutes at most lost
    site.close()


def asks(what):
    """An act that asks the keeper something."""

    def act(site):
        return lambda controller: what(site, controller)

    return act


@everywhere
def test_what_is_abandoned_while_it_is_held_is_given_back_and_not_begun_again(array):
    async def abandon(_, controller):
        assert await controller.abandon("it", "it is in the way") == 0

    def make():
        return Site(array=array), Plan([event(order())], {100.0: asks(abandon)})

    for fatal, findings in every_cut(make):
        assert not findings, fatal
    site, plan = make()
    assert not asyncio.run(run(site, plan))
    assert site.device.log == [(30.0, Decimal("-1.5")), (100.0, None if array else Decimal(32))]
    assert states(site)[-1] is OrderState.CANCELLED
    site.close()


def test_what_is_abandoned_out_of_reach_is_never_taken_for_what_stood_there_before():
    async def abandon(_, controller):
        assert await controller.abandon("it", "the device is scrapped") == 1

    site = Site(array=False)
    acts = {90.0: away, 100.0: asks(abandon), 120.0: back}
    asyncio.run(run(site, Plan([event(order())], acts)))
    assert site.device.log == [(30.0, Decimal("-1.5"))]
    assert states(site)[-2:] == [OrderState.RELEASE_PENDING, OrderState.FAILED]
    site.close()


def test_a_limit_goes_down_and_up_in_steps_and_never_above_what_was_in_force():
    site = Site(agreed(LossRule.LIMIT, ramp=Decimal(2), failsafe=Failsafe(Decimal(10), 0.0, 0.0)),
                array=False)  # fmt: skip
    one = event(order("one", "26", 30.0, 900.0, action="limit"))
    assert not asyncio.run(run(site, Plan([one], {}, lasts=1200.0)))
    assert site.device.log == [
        (30.0, 30), (90.0, 28), (150.0, 26), (810.0, 28), (870.0, 30), (930.0, 32)
    ]  # fmt: skip
    site.close()


def test_who_opts_out_is_heard_though_the_disk_is_full():
    """Rule H7."""

    async def opt_out(site, controller):
        site.truth.full = True
        await controller.opt_out(site.fit, 3600.0, "the occupant of A-3-12")

    site = Site()
    asyncio.run(run(site, Plan([event(order())], {100.0: asks(opt_out)})))
    assert site.device.log[:2] == [(30.0, Decimal("-1.5")), (100.0, None)]
    assert site.device.slots[13] is None
    site.close()


@pytest.mark.parametrize("good_at", [60.0, 200.0])
def test_an_order_whose_guard_does_not_hold_when_it_should_begin_is_refused(good_at):
    """Rule H26."""

    def cold(site):
        site.truth.guard = Decimal(17)

    def warm(site):
        site.truth.guard = Decimal(20)

    site = Site()
    asyncio.run(run(site, Plan([event(order())], {0.0: cold, good_at: warm})))
    if good_at == 60.0:
        assert site.device.log == [(60.0, Decimal("-1.5")), (210.0, None)]
    else:
        (told,) = site.journal.history(0, 1e12)
        assert (told.state, told.code) == (OrderState.REJECTED, "E_GUARD(stairs)")
        assert not site.device.log
    site.close()
