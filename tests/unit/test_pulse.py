from types import SimpleNamespace as Facts

import pytest

from agent.pulse import COMMIT_WITHIN, LINE_WITHIN, UPLINK_WITHIN, late

NOW = 10_000.0
FLUSH = 5.0


def house(*, error="", link=0.0, poller=0.0, intake=0.0, uplink=0.0, devices=1):  # noqa: PLR0913
    """One line and one uplink, each part seen so many seconds ago."""
    line = Facts(
        link=Facts(error=error, turned=NOW - link),
        poller=Facts(turned=NOW - poller),
        devices={str(n): None for n in range(devices)},
    )
    outlet = Facts(intake=Facts(turned=NOW - intake), delivery=Facts(turned=NOW - uplink))
    return Facts(
        lines={"riser": line},
        outlets={"metropole": outlet},
        config=Facts(spool=Facts(flush=FLUSH)),
    )


def test_nothing_is_late_while_every_part_comes_round():
    assert late(house(), NOW) == []


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"link": LINE_WITHIN + 1, "poller": LINE_WITHIN + 1}, ["reading line riser"]),
        ({"error": "no route", "link": LINE_WITHIN + 1}, ["opening line riser"]),
        ({"intake": FLUSH + COMMIT_WITHIN + 1}, ["storing for metropole"]),
        ({"uplink": UPLINK_WITHIN + 1}, ["sending to metropole"]),
    ],
)
def test_a_part_that_does_not_come_round_within_its_bound_is_named(parts, named):
    assert late(house(**parts), NOW) == named


def test_a_line_that_is_searched_or_read_slowly_is_at_work():
    assert late(house(poller=LINE_WITHIN + 1, link=1), NOW) == []


def test_a_line_that_is_tried_again_and_again_comes_round_though_it_is_down():
    assert late(house(error="connection refused", link=60, poller=0), NOW) == []


def test_a_line_without_devices_has_nothing_to_come_round_for():
    assert late(house(link=1e6, poller=1e6, devices=0), NOW) == []
