"""What the operator reads in the BMS while something is held. Rule H32."""

import asyncio
from dataclasses import replace
from decimal import Decimal

from agent.control.controller import Display, display_values
from agent.control.records import HoldRecord, Transaction
from agent.core.errors import WriteRefused
from tests.contract.control.pretend import BEGIN, PLACE, Site, Truth, event, order

NAMES = ("active", "value", "minutes", "by", "heartbeat")
PLACES = {word: replace(PLACE, point=word) for word in NAMES}
ROW = HoldRecord(
    "it", "one", PLACE, 13, None, Decimal("-1.5"), (Decimal("-1.5"),), None, Truth().moment(),
    BEGIN + 210, 180.0,
)  # fmt: skip


class Points:
    def __init__(self):
        self.log, self.silent, self.refuses = [], False, ""

    def access(self, place, slot):
        points = self

        class Plug:
            async def write(self, value):
                if points.silent or place.point == points.refuses:
                    raise WriteRefused("silent")
                points.log.append((place.point, slot, value))

        return Plug()


def shown(display, points, row, at):
    truth = Truth(at=at)
    said = display_values(row, event(order()) if row else None, truth.moment())
    asyncio.run(display.show(points.access, row, said, at))
    log, points.log = points.log, []
    return log


def test_the_operator_reads_what_is_held_and_a_count_goes_up_until_it_is_given_back():
    display, points = Display(PLACES, 13), Points()
    assert shown(display, points, None, 0) == [(word, 13, None) for word in NAMES]
    assert shown(display, points, ROW, 30) == [
        ("active", 13, 1), ("value", 13, Decimal("-1.5")), ("minutes", 13, 3), ("by", 13, 1),
        ("heartbeat", 13, 1),
    ]  # fmt: skip
    assert shown(display, points, ROW, 40) == [("heartbeat", 13, 2)]
    assert shown(display, points, ROW, 100) == [("minutes", 13, 2), ("heartbeat", 13, 3)]
    assert shown(display, points, None, 210) == [(word, 13, None) for word in NAMES]


def test_a_register_says_nought_and_what_was_not_taken_is_said_again():
    display, points = Display({"active": PLACES["active"]}, None), Points()
    points.silent = True
    assert shown(display, points, None, 0) == []
    points.silent = False
    assert shown(display, points, None, 10) == []  # the guards wait while it is tried
    assert shown(display, points, None, 60) == [("active", None, 0)]
    assert shown(display, points, None, 70) == []


def test_a_point_that_takes_nothing_holds_up_no_other():
    display, points = Display(PLACES, 13), Points()
    points.refuses = "active"
    assert len(shown(display, points, ROW, 30)) == 4
    assert shown(display, points, ROW, 40) == [("heartbeat", 13, 2)]


def test_after_a_reload_the_points_of_the_new_configuration_are_told():
    site = Site()
    site.start()
    told = []

    class Point:
        def __init__(self, place):
            self.place = place

        async def write(self, value):
            told.append((self.place.point, value))

    hand = site.hand
    site.controller.dependencies.access = lambda place, slot: (
        hand(place, slot) if place == PLACE else Point(place)
    )
    for word in ("old", "new"):
        fit = replace(site.fit, shown={"active": replace(PLACE, point=word)})
        site.controller.controls = {"it": fit}
        asyncio.run(site.controller.tend("it"))
    assert told == [("old", None), ("new", None)]
    site.close()


def test_an_agent_that_ends_takes_back_what_it_has_told():
    site, points = Site(), Points()
    site.start()
    controller, access = site.controller, site.hand
    controller.controls = {"it": replace(site.fit, shown={"active": PLACES["active"]})}
    controller.dependencies.access = lambda place, slot: (
        points.access(place, slot) if place.point == "active" else access(place, slot)
    )
    site.journal.save(Transaction(events=[event(order(start=0.0))]))
    asyncio.run(controller.tend("it"))
    assert points.log[-1] == ("active", 13, 1)
    controller.closing = True
    asyncio.run(controller.release_controls("the agent was stopped", ["it"]))
    assert site.device.slots[13] is None
    assert points.log[-1] == ("active", 13, None)
    site.close()
