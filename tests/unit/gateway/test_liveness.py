"""Rule G12."""

import asyncio
import socket
from contextlib import asynccontextmanager
from decimal import Decimal
from types import SimpleNamespace as Facts

import pytest

from agent.control.context import ControlContext
from agent.control.model import WriteTarget
from agent.control.point_access import access_to
from agent.core.clock import monotonic
from agent.core.errors import UplinkLost
from agent.core.tasks import Supervisor, keep_open
from agent.drivers.base import PointSlots
from agent.drivers.link import Link
from agent.gateway.liveness import (
    COMMIT_WITHIN,
    CONTROL_WITHIN,
    LINE_WITHIN,
    OPENED_WITHIN,
    UPLINK_WITHIN,
    late,
    watch,
)
from agent.uplink.pacing import Delivery
from tests import virtual_time

NOW = 10_000.0
FLUSH = 5.0


def house(  # noqa: PLR0913
    *, error="", link=0.0, poller=0.0, intake=0.0, uplink=0.0, devices=1, control=0.0,
    opening=0.0, parked=(),
):  # fmt: skip
    """One line and one uplink, each part seen so many seconds ago."""
    line = Facts(
        link=Facts(error=error, turned=NOW - link),
        poller=Facts(turned=NOW - poller),
        devices={str(n): None for n in range(devices)},
    )
    recipient = Facts(intake=Facts(turned=NOW - intake), delivery=Facts(turned=NOW - uplink))
    recipient.thread = Facts(stalled=lambda _: False)
    return Facts(
        lines={"riser": line},
        jobs=Facts(parked=parked.__contains__, opening=lambda: {"spool other": NOW - opening}),
        steering=Facts(
            controller=Facts(
                controls={"it": 1, "two": 2},
                turned=0.0,
                looked=looked(control),
                advanced=lambda _: 0.0,
            )
        ),
        recipients={"metropole": recipient},
        config=Facts(spool=Facts(flush=FLUSH)),
    )


def looked(control):
    """Of two controls one may be late."""
    return {"it": NOW - control, "two": NOW}


def test_nothing_is_late_while_every_part_comes_round():
    assert late(house(), NOW) == []


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"link": LINE_WITHIN + 1, "poller": LINE_WITHIN + 1}, ["reading line riser"]),
        ({"error": "no route", "link": LINE_WITHIN + 1}, ["opening line riser"]),
        ({"intake": FLUSH + COMMIT_WITHIN + 1}, ["storing for metropole"]),
        ({"uplink": UPLINK_WITHIN + 1}, ["sending to metropole"]),
        ({"control": CONTROL_WITHIN + 1}, ["looking after control it"]),
        ({"opening": OPENED_WITHIN + 1}, ["opening spool other"]),
    ],
)
def test_a_part_that_does_not_come_round_within_its_bound_is_named(parts, named):
    assert late(house(**parts), NOW) == named


@pytest.mark.parametrize(
    ("parked", "parts"),
    [
        ("poll riser", {"link": LINE_WITHIN + 1, "poller": LINE_WITHIN + 1}),
        ("line riser", {"error": "no route", "link": LINE_WITHIN + 1}),
        ("uplink metropole", {"uplink": UPLINK_WITHIN + 1}),
        ("control it", {"control": CONTROL_WITHIN + 1}),
    ],
)
def test_a_parked_part_is_not_late_and_hides_no_other_that_hangs(parked, parts):
    assert late(house(**parts, parked={parked}), NOW) == []
    hangs = {"intake": FLUSH + COMMIT_WITHIN + 1}
    assert late(house(**parts, **hangs, parked={parked}), NOW) == ["storing for metropole"]


def test_a_poller_that_hangs_is_seen_while_its_line_is_parked():
    parts = {"error": "TypeError", "link": LINE_WITHIN + 1, "poller": LINE_WITHIN + 1}
    assert late(house(**parts, parked={"line riser"}), NOW) == ["reading line riser"]


def test_a_line_that_is_searched_or_read_slowly_is_at_work():
    assert late(house(poller=LINE_WITHIN + 1, link=1), NOW) == []


def test_a_line_that_is_tried_again_and_again_comes_round_though_it_is_down():
    assert late(house(error="connection refused", link=60, poller=0), NOW) == []


def test_a_line_without_devices_has_nothing_to_come_round_for():
    assert late(house(link=1e6, poller=1e6, devices=0), NOW) == []


PLACE = WriteTarget("riser", "modbus-tcp", "{}", "boiler", "set", "1", "holding/1")


class SlowDevice:
    """A device with one point that takes long for each answer; 0 seconds: it never answers."""

    def __init__(self, seconds):
        self.seconds = seconds

    async def held(self, _):
        await asyncio.sleep(self.seconds or 1e9)
        return PointSlots({0: Decimal(11)})

    async def write(self, *_):
        await asyncio.sleep(self.seconds or 1e9)

    read = sweep = held


class ControlledHouse:
    """A house with two controls, of which nothing but a control can be late."""

    def __init__(self, device):
        self.context = ControlContext(None, Facts(), {"it": 1, "two": 2})
        self.context.looked = {"it": monotonic(), "two": monotonic()}
        self.device = device

    @asynccontextmanager
    async def line(self):
        @asynccontextmanager
        async def opened():
            yield self.device

        self.link = Link("riser", opened)
        serving = asyncio.ensure_future(self.link.serve())
        await self.link.tried()
        yield
        serving.cancel()

    async def step(self, name, requests):
        """One step of a control, as a check or a person's call makes it."""
        async with self.context.lock(name):
            for _ in range(requests):
                await access_to(self.link, PLACE, None).look()

    async def late_after(self, seconds):
        """Which controls were late at one of the next looks."""
        names = set()
        for _ in range(int(seconds / 15)):
            await asyncio.sleep(15)
            self.context.looked["two"] = monotonic()
            facts = house()
            facts.lines, facts.recipients = {}, {}
            facts.jobs.opening = dict
            facts.steering.controller = self.context
            names |= set(late(facts, monotonic()))
        return names


def story_of(device, story):
    async def told():
        here = ControlledHouse(device)
        async with here.line():
            await story(here)

    with virtual_time.clocks_at(1.8e9) as run:
        run(told())


def test_a_control_whose_device_takes_minutes_for_each_answer_comes_round_with_each():
    async def story(here):
        step = asyncio.ensure_future(here.step("it", 8))
        assert await here.late_after(8 * 250) == set()
        await step
        assert await here.late_after(CONTROL_WITHIN - 30) == set()
        assert await here.late_after(60) == {"looking after control it"}

    story_of(SlowDevice(250.0), story)


def test_a_control_that_waits_for_a_line_at_work_comes_round_with_it():
    async def story(here):
        others = [asyncio.ensure_future(here.link.held(None)) for _ in range(6)]
        await asyncio.sleep(0)
        step = asyncio.ensure_future(here.step("it", 1))
        assert await here.late_after(7 * 250) == set()
        await asyncio.gather(step, *others)

    story_of(SlowDevice(250.0), story)


def test_a_control_whose_line_hangs_is_late():
    async def story(here):
        step = asyncio.ensure_future(here.step("it", 1))
        assert await here.late_after(CONTROL_WITHIN - 30) == set()
        assert await here.late_after(60) == {"looking after control it"}
        step.cancel()

    story_of(SlowDevice(0), story)


def test_what_one_control_asks_does_not_hide_another_that_hangs():
    async def story(here):
        step = asyncio.ensure_future(here.step("two", 100))
        assert await here.late_after(CONTROL_WITHIN + 60) == {"looking after control it"}
        step.cancel()

    story_of(SlowDevice(10.0), story)


def test_an_uplink_that_takes_minutes_for_each_attempt_to_fail_comes_round():
    @asynccontextmanager
    async def opening():
        await asyncio.sleep(61)  # the broker accepts the connection, and answers nothing
        raise UplinkLost("no answer")
        yield

    async def story():
        delivery = Delivery()
        attempts = (delivery.good, delivery.lose)
        opened = keep_open("uplink", opening, None, UplinkLost, 300.0, *attempts)
        job = asyncio.ensure_future(opened)
        for _ in range(200):
            await asyncio.sleep(15)
            facts = house()
            facts.lines, facts.jobs.opening, facts.steering = {}, dict, None
            recipient = facts.recipients["metropole"]
            recipient.intake.turned, recipient.delivery = monotonic(), delivery
            assert late(facts, monotonic()) == []
        job.cancel()

    with virtual_time.clocks_at(1.8e9) as run:
        run(story())


def test_systemd_is_told_while_all_comes_round_and_hears_nothing_once_a_part_hangs(
    open_folder, monkeypatch
):
    monkeypatch.setenv("NOTIFY_SOCKET", str(open_folder / "systemd"))
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    well = house()
    well.jobs = Supervisor()
    for part in (well.lines["riser"].link, well.lines["riser"].poller, well.steering.controller):
        part.turned = monotonic()
    recipient = well.recipients["metropole"]
    recipient.intake.turned = recipient.delivery.turned = monotonic()

    async def watched(systemd):
        job = asyncio.ensure_future(watch(well))
        try:
            async with asyncio.timeout(5):
                for _ in range(3):
                    assert await asyncio.to_thread(systemd.recv, 64) == b"WATCHDOG=1"
            recipient.delivery.turned -= UPLINK_WITHIN
            await asyncio.sleep(0.05)
            drain(systemd)
            await asyncio.sleep(0.2)
            assert drain(systemd) == 0
            recipient.delivery.turned = monotonic()
            await asyncio.sleep(0.1)
            assert drain(systemd) > 0
        finally:
            job.cancel()

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(open_folder / "systemd"))
        systemd.settimeout(5)
        asyncio.run(watched(systemd))


def drain(systemd):
    """How many words lie there."""
    systemd.setblocking(False)
    heard = 0
    try:
        while systemd.recv(64):
            heard += 1
    except BlockingIOError:
        return heard
