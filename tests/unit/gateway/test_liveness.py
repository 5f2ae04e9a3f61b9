"""Rule G12."""

import asyncio
import socket
from types import SimpleNamespace as Facts

import pytest

from agent.core.clock import monotonic
from agent.core.tasks import Supervisor
from agent.gateway.liveness import (
    COMMIT_WITHIN,
    CONTROL_WITHIN,
    LINE_WITHIN,
    OPENED_WITHIN,
    UPLINK_WITHIN,
    late,
    watch,
)

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
            controller=Facts(controls={"it": 1, "two": 2}, turned=0.0, looked=looked(control))
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
