"""Guards rule G5: nothing beyond the modality and every grant used; each refusal has its code
and says which role or limit it is (rules H13, O16, O17). Rule H4.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from agent.control import schedule
from agent.control.decide import DecisionFacts, Yes, decide
from agent.control.guard import GuardReading
from agent.control.model import (
    AcceptedOrder,
    ControlOrder,
    Grant,
    Guard,
    Limits,
    LossRule,
    Modality,
    Moment,
    OrderState,
)

PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 11, 24, 17, 0, tzinfo=PARIS).timestamp()
HOUR = 3600.0
ROLES = ("building_manager", "residents_council")


def modality(**over):
    limits = Limits(
        least=Decimal(-2), most=Decimal(1), duration=2 * HOUR, gap=2 * HOUR, a_day=2,
        windows=(schedule.window("06:00-23:00"),), season=schedule.season("10-15..04-15"),
    )  # fmt: skip
    plain = {
        "name": "boiler-offset", "action": "offset", "kind": LossRule.SHIFT, "unit": "K",
        "limits": limits, "equipment": "heating", "step": Decimal("0.5"),
        "guards": (Guard("stairwell", "stairs", "temp", 60, Decimal(18), None, "Cel"),),
        "inhibit": ("boiler", "dr-inhibit"), "require": ROLES,
    }  # fmt: skip
    return Modality(**(plain | over))


def order(**over):
    plain = {
        "jti": "order-01", "control": "boiler-offset", "by": "metropole", "role": "grid_operator",
        "action": "offset", "value": Decimal("-1.5"), "unit": "K", "start": NOW + 600,
        "duration": 1.5 * HOUR, "received": NOW,
    }  # fmt: skip
    return ControlOrder(**(plain | over))


def grant(role="residents_council", **over):
    plain = {
        "jti": f"grant-{role}", "role": role, "by": f"the {role}", "to": "metropole",
        "since": NOW - 86_400, "until": NOW + 30 * 86_400, "assets": ("kind:heating",),
        "actions": ("offset",), "limits": Limits(least=Decimal(-2), most=Decimal(0)),
    }  # fmt: skip
    return Grant(**(plain | over))


def seen(**over):
    said = {
        "temp": GuardReading(Decimal("18.4"), 10, 60),
        "dr-inhibit": GuardReading(Decimal(0), 1, 10),
    } | over
    return lambda _, point: said[point]


def facts(**over):
    plain = {
        "now": Moment(NOW, 5000.0, "boot", trusted=True), "zone": PARIS,
        "grants": [grant(role) for role in ROLES], "events": [], "look": seen(),
    }  # fmt: skip
    return DecisionFacts(**(plain | over))


def event(start, lasts=HOUR, state=OrderState.COMPLETED, jti="before", **over):
    return AcceptedOrder(order(jti=jti, start=start, duration=lasts), state, start, 0.0, **over)


def narrowed(role, **limits):
    others = [grant(one) for one in ROLES if one != role]
    return [*others, grant(role, limits=Limits(**limits))]


def test_what_is_agreed_and_granted_may_be_done_by_the_word_of_each_role():
    assert decide(order(), modality(), facts()) == Yes(
        ("grant-building_manager", "grant-residents_council")
    )


BARE = Limits(least=Decimal(-2), most=Decimal(1), duration=2 * HOUR)
A_MINUTE_AGO = Moment(NOW - 60, 4940.0, "boot", trusted=True)

CASES = {
    "an untrusted clock begins nothing new": (
        {},
        {},
        {"now": Moment(NOW, 5000.0, "boot", trusted=False)},
        "E_CLOCK",
        "clock",
    ),
    "another action": ({"action": "limit"}, {}, {}, "E_ACTION", "limit was asked"),
    "an emergency that is not agreed": ({"emergency": True}, {}, {}, "E_ACTION", "emergency"),
    "too low": ({"value": Decimal("-2.5")}, {}, {}, "E_RANGE", "down to -2 K, -2.5 was asked"),
    "too high": ({"value": Decimal("1.5")}, {}, {}, "E_RANGE", "up to 1 K"),
    "between the steps": ({"value": Decimal("-0.7")}, {}, {}, "E_RANGE", "multiples of 0.5"),
    "not a number": ({"value": Decimal("NaN")}, {}, {}, "E_RANGE", "the value is missing"),
    "no value": ({"value": None}, {}, {}, "E_RANGE", "the value is missing"),
    "another unit": ({"unit": "Cel"}, {}, {}, "E_RANGE", "the unit of boiler-offset is K"),
    "too long": ({"duration": 3 * HOUR}, {}, {}, "E_DURATION", "2h, 3 h was asked"),
    "a draw without end": ({"rand": 90_000.0}, {}, {}, "E_DURATION", "a day at most"),
    "for another life": (
        {"start": NOW + 3 * 366 * 86_400},
        {},
        {},
        "E_NOTYET",
        "later than any grant",
    ),
    "beyond all numbers": ({"value": Decimal("5e27")}, {}, {}, "E_RANGE", "up to 1 K"),
    "no end": ({"duration": 0.0}, {}, {}, "E_DURATION", "2h"),
    "over already": ({"start": NOW - 9 * HOUR}, {}, {}, "E_EXPIRED", "its end"),
    "begun long ago": ({"start": NOW - HOUR}, {}, {}, "E_EXPIRED", "its begin"),
    "too short notice": (
        {},
        {"limits": Limits(least=Decimal(-2), most=Decimal(1), notice=HOUR)},
        {},
        "E_NOTICE",
        "1h of notice",
    ),
    "outside the window, by the last minute of the draw": (
        {"start": NOW + 4.25 * HOUR, "rand": 1800.0},
        {},
        {},
        "E_WINDOW",
        "23:00",
    ),
    "outside the season": (
        {"start": NOW + 600},
        {
            "limits": Limits(
                least=Decimal(-2), most=Decimal(1), season=schedule.season("12-01..03-01")
            )
        },
        {},
        "E_WINDOW",
        "2026-11-24",
    ),
    "a role has not granted": (
        {},
        {},
        {"grants": [grant("building_manager")]},
        "E_GRANT_MISSING(residents_council)",
        "metropole has no grant of the residents council",
    ),
    "granted to somebody else": (
        {"by": "another"},
        {},
        {},
        "E_GRANT_MISSING(building_manager)",
        "another",
    ),
    "granted for other equipment": (
        {},
        {"equipment": "dhw"},
        {},
        "E_GRANT_MISSING(building_manager)",
        "has no grant",
    ),
    "granted for another action": (
        {},
        {},
        {"grants": [grant("building_manager"), grant(actions=("setpoint",))]},
        "E_GRANT_MISSING(residents_council)",
        "has no grant",
    ),
    "the grant ends during it": (
        {},
        {},
        {"grants": [grant("building_manager"), grant(until=NOW + HOUR)]},
        "E_GRANT_MISSING(residents_council)",
        "is valid from",
    ),
    "the grant ends during the draw": (
        {"rand": 1800.0},
        {},
        {"grants": [grant("building_manager"), grant(until=NOW + 2 * HOUR)]},
        "E_GRANT_MISSING(residents_council)",
        "is valid from",
    ),
    "the grant was revoked": (
        {},
        {},
        {"grants": [grant("building_manager"), grant(revoked=NOW)]},
        "E_REVOKED(residents_council)",
        "revoked",
    ),
    "relied on another grant than there is": (
        {"auth": ("grant-nobody",)},
        {},
        {},
        "E_GRANT_MISSING(building_manager)",
        "has no grant",
    ),
    "below what one grant allows": (
        {},
        {},
        {"grants": narrowed("residents_council", least=Decimal(-1))},
        "E_GRANT_LIMIT(residents_council,min)",
        "down to -1 K, -1.5 was asked",
    ),
    "longer than one grant allows": (
        {},
        {},
        {"grants": narrowed("residents_council", duration=HOUR)},
        "E_GRANT_LIMIT(residents_council,max_dur)",
        "1 h 30 min was asked",
    ),
    "more often than one grant allows": (
        {},
        {},
        {"grants": narrowed("building_manager", a_day=1), "events": [event(NOW - 8 * HOUR)]},
        "E_GRANT_LIMIT(building_manager,max_day)",
        "1 a day",
    ),
    "more time a day than is agreed": (
        {},
        {"limits": Limits(least=Decimal(-2), most=Decimal(1), time_a_day=2 * HOUR)},
        {"events": [event(NOW - 8 * HOUR)]},
        "E_QUOTA",
        "2 h a day in all",
    ),
    "more time a day than one grant allows": (
        {},
        {},
        {
            "grants": narrowed("building_manager", time_a_day=2 * HOUR),
            "events": [event(NOW - 8 * HOUR)],
        },
        "E_GRANT_LIMIT(building_manager,max_time_day)",
        "2 h a day in all",
    ),
    "an emergency that one grant does not allow": (
        {"emergency": True},
        {"limits": Limits(least=Decimal(-2), most=Decimal(1), emergency=True)},
        {},
        "E_GRANT_LIMIT(building_manager,emerg)",
        "no emergency",
    ),
    "with less notice than one grant wants": (
        {},
        {},
        {"grants": narrowed("residents_council", notice=HOUR)},
        "E_GRANT_LIMIT(residents_council,notice)",
        "1 h of notice",
    ),
    "outside the window of one grant": (
        {},
        {},
        {"grants": narrowed("residents_council", windows=(schedule.window("06:00-18:00"),))},
        "E_GRANT_LIMIT(residents_council,windows)",
        "18:00",
    ),
    "in another unit than the grant's": (
        {},
        {},
        {"grants": [grant("building_manager"), grant(unit="Cel")]},
        "E_GRANT_LIMIT(residents_council,unit)",
        "°C",
    ),
    "too often a day": (
        {},
        {},
        {"events": [event(NOW - 9 * HOUR), event(NOW - 6 * HOUR, jti="b2")]},
        "E_QUOTA",
        "2 a day",
    ),
    "too soon after the last": (
        {},
        {},
        {"events": [event(NOW - 2 * HOUR)]},
        "E_TIMER",
        "rest of 2 h",
    ),
    "too soon before the next": (
        {},
        {},
        {"events": [event(NOW + 3 * HOUR, state=OrderState.SCHEDULED)]},
        "E_TIMER",
        "rest",
    ),
    "with the one before it too long": (
        {},
        {},
        {"events": [event(NOW - HOUR, 1.9 * HOUR, OrderState.STARTED)]},
        "E_QUOTA",
        "longer",
    ),
    "with those before it too long, though they had lost": (
        {"duration": 5000.0},
        {"limits": BARE},
        {
            "events": [
                event(NOW - HOUR, 1.2 * HOUR, OrderState.SUPERSEDED, began=True),
                event(NOW - 600, 1500.0, OrderState.STARTED, jti="b2", began=True),
            ]
        },
        "E_QUOTA",
        "longer",
    ),
    "in place of one that has begun": (
        {"ref": "before"},
        {},
        {"events": [event(NOW - HOUR, HOUR / 2, began=True)]},
        "E_TIMER",
        "rest of 2 h",
    ),
    "too soon after one that was cancelled while it was in force": (
        {},
        {},
        {
            "events": [
                event(NOW - HOUR, 2 * HOUR, OrderState.CANCELLED, began=True, over=A_MINUTE_AGO)
            ]
        },
        "E_TIMER",
        "rest of 2 h",
    ),
    "too soon after one that was given back late": (
        {},
        {},
        {"events": [event(NOW - 5 * HOUR, began=True, over=A_MINUTE_AGO)]},
        "E_TIMER",
        "rest of 2 h",
    ),
    "more time on the day into which it reaches": (
        {"start": NOW + 6.5 * HOUR, "duration": 1.5 * HOUR},
        {"limits": replace(BARE, time_a_day=2 * HOUR)},
        {"events": [event(NOW + 10 * HOUR, 1.25 * HOUR, OrderState.SCHEDULED)]},
        "E_QUOTA",
        "2 h a day",
    ),
    "more time on a day into which one before has reached": (
        {"start": NOW, "duration": 1.5 * HOUR},
        {"limits": replace(BARE, time_a_day=2 * HOUR)},
        {"events": [event(NOW - 17.5 * HOUR, 1.25 * HOUR)]},
        "E_QUOTA",
        "2 h a day",
    ),
    "locked after a guard": (
        {},
        {},
        {"locked": (Moment(NOW - 600, 4400.0, "boot", trusted=True), 2 * HOUR)},
        "E_TIMER",
        "guard tripped",
    ),
    "resting after a give-back": (
        {"start": NOW},
        {"off": 600.0},
        {"given_back": A_MINUTE_AGO},
        "E_TIMER",
        "rests",
    ),
    "shorter than it may be": ({}, {"on": 3 * HOUR}, {}, "E_TIMER", "at least"),
    "never tested": ({}, {}, {"tested": False}, "E_UNTESTED", "control test boiler-offset"),
    "the sheet is not signed": ({}, {}, {"unsigned": "not accepted"}, "E_UNSIGNED", "not accepted"),
    "an emergency without its notice": (
        {"start": NOW + 599, "emergency": True},
        {"limits": replace(BARE, notice=600.0, emergency=True)},
        {},
        "E_NOTICE",
        "10min of notice",
    ),
    "the supply is too cold": (
        {},
        {"guards": (Guard("supply", "boiler", "supply", 10, Decimal(45), None, "Cel"),)},
        {"look": seen(supply=GuardReading(Decimal("44.9"), 1, 10))},
        "E_GUARD(supply)",
        "44.9 °C, below 45",
    ),
    "the supply cannot be read, in an emergency": (
        {"emergency": True},
        {
            "limits": replace(BARE, emergency=True),
            "guards": (Guard("supply", "boiler", "supply", 10, Decimal(45), None, "Cel"),),
        },
        {
            "look": seen(supply=GuardReading(None, 1, 10)),
            "grants": [grant(role, limits=replace(BARE, emergency=True)) for role in ROLES],
        },
        "E_GUARD(supply)",
        "no recent value",
    ),
    "somebody opted out": ({}, {}, {"opted_out": "the occupant"}, "E_OVERRIDDEN", "occupant"),
    "a guard does not hold": (
        {},
        {},
        {"look": seen(temp=GuardReading(Decimal("17.9"), 1, 60))},
        "E_GUARD(stairwell)",
        "17.9 °C, below 18",
    ),
    "a guard is silent": (
        {},
        {},
        {"look": seen(temp=GuardReading(None, 1, 60))},
        "E_GUARD(stairwell)",
        "no recent value",
    ),
    "a guard is old": (
        {},
        {},
        {"look": seen(temp=GuardReading(Decimal(20), 126, 60))},
        "E_GUARD(stairwell)",
        "no recent value",
    ),
    "a guard's time lies ahead": (
        {},
        {},
        {"look": seen(temp=GuardReading(Decimal(20), -7200, 60))},
        "E_GUARD(stairwell)",
        "no recent value",
    ),
    "the operator's switch is set": (
        {},
        {},
        {"look": seen(**{"dr-inhibit": GuardReading(Decimal(1), 1, 10)})},
        "E_INHIBITED",
        "has set",
    ),
    "the operator's switch cannot be read": (
        {},
        {},
        {"look": seen(**{"dr-inhibit": GuardReading(None, 1, 10)})},
        "E_INHIBITED",
        "cannot be",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_code_and_reason(name):
    """Rules H34, H37 among others."""
    ordered, agreed, known, code, words = CASES[name]
    found = decide(order(**ordered), modality(**agreed), facts(**known))
    assert not isinstance(found, Yes), name
    assert code in {str(found), str(found.code)}
    assert words in found.reason


def test_a_second_grant_of_a_role_may_be_the_wider_one():
    wide = grant(jti="second")
    known = facts(grants=[*narrowed("residents_council", least=Decimal(-1)), wide])
    assert decide(order(), modality(), known) == Yes(("grant-building_manager", "second"))


def test_what_takes_the_place_of_an_order_before_it_has_begun_is_no_further_one():
    before = event(NOW + 2 * HOUR, state=OrderState.SCHEDULED)
    assert isinstance(decide(order(ref="before"), modality(), facts(events=[before])), Yes)
    assert str(decide(order(), modality(), facts(events=[before]))) == "E_TIMER"


def test_who_takes_over_from_what_is_in_force_waits_for_no_rest():
    now = {"given_back": A_MINUTE_AGO, "events": [event(NOW - 30, state=OrderState.STARTED)]}
    agreed = modality(off=600.0, limits=BARE)
    assert isinstance(decide(order(start=NOW), agreed, facts(**now)), Yes)


def test_what_was_cut_short_counts_for_as_long_as_it_was_held():
    agreed = modality(limits=replace(BARE, time_a_day=2 * HOUR))
    cut = event(NOW - 120, 2 * HOUR, OrderState.CANCELLED, began=True, over=A_MINUTE_AGO)
    assert isinstance(decide(order(), agreed, facts(events=[cut])), Yes)


def test_a_day_is_the_buildings_also_when_the_clock_is_put_back():
    # 2026-10-25 has 25 hours in Paris: two events an hour apart by the wall may be two by the sun
    first = datetime(2026, 10, 25, 0, 30, tzinfo=PARIS).timestamp()
    late = first + 23.5 * HOUR  # 23:00 of the same day
    agreed = modality(limits=Limits(least=Decimal(-2), most=Decimal(1), a_day=1))
    known = facts(now=Moment(first, 1.0, "boot", trusted=True), events=[event(first)])
    known = replace(known, grants=[grant(r, since=first - 1, until=late + 9 * HOUR) for r in ROLES])
    again = order(start=late, duration=600.0, received=first)
    assert str(decide(again, agreed, known)) == "E_QUOTA"
    assert isinstance(decide(replace(again, start=late + 3700), agreed, known), Yes)


def test_an_hour_that_comes_twice_is_in_the_window_both_times():
    night = schedule.window("02:00-03:00")
    twice = datetime(2026, 10, 25, 2, 0, tzinfo=PARIS).timestamp()
    assert schedule.first_outside((night,), None, (twice, twice + 2 * HOUR), PARIS) is None
    assert schedule.first_outside((night,), None, (twice, twice + 2 * HOUR + 1), PARIS) is not None


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("Mon-Fri 17:00-20:00", (2026, 11, 24, 17, 0), (2026, 11, 28, 17, 0)),
        ("Sat 22:00-02:00", (2026, 11, 29, 1, 59), (2026, 11, 30, 1, 0)),
        ("Fri-Mon 00:00-24:00", (2026, 11, 30, 23, 59), (2026, 12, 1, 0, 0)),
    ],
)
def test_windows_of_days_also_over_midnight(text, inside, outside):
    windows = (schedule.window(text),)
    assert schedule.within(windows, None, datetime(*inside, tzinfo=PARIS))
    assert not schedule.within(windows, None, datetime(*outside, tzinfo=PARIS))


@pytest.mark.parametrize("text", ["", "25:00-26:00", "08:00", "08:00-08:00", "Lun 08:00-09:00"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(ValueError):
        schedule.window(text)


@pytest.mark.parametrize(
    ("home", "stands"),
    [
        ((NOW - 86_400, math.inf), True),
        ((NOW - 86_400, NOW + 86_400), True),
        ((NOW - 86_400, NOW + HOUR), False),
        ((NOW + 1000, math.inf), False),
        (None, False),
    ],
    ids=["stands", "stands-for-now", "ends-during-it", "begins-later", "unknown"],
)
def test_the_grant_of_an_occupant_ends_with_the_occupancy(home, stands):
    roles = ("building_manager", "occupant")
    grants = [grant("building_manager"), grant("occupant", occupancy="H1")]
    homes = {"H1": home}
    known = facts(grants=grants, home=homes.get)
    found = decide(order(), modality(require=roles), known)
    if stands:
        assert isinstance(found, Yes)
    else:
        assert str(found) == "E_GRANT_MISSING(occupant)"
        assert "ends with an occupancy" in found.reason
