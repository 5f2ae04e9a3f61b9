"""What a schedule does to the card is estimated from what is written, and told beforehand.
Rule U19.
"""

from __future__ import annotations

import pytest

from agent.config import parse
from agent.config.estimates import wear
from tests.unit.config.samples import LOOPBACK, SMALL, changed

MB = 1_000_000


def told(text: str) -> tuple[float, int, str]:
    """Megabytes and commits a day, and how long the card lasts."""
    first, *rest = wear(parse(text, "x"))
    words = first.replace(",", "").split()
    size = float(words[1]) * (1000 if words[2] == "GB" else 1)
    return size, int(words[6]), " ".join(rest)


def test_quarter_hours_cost_a_commit_each_and_a_batch_with_its_receipt():
    size, commits, card = told(SMALL)
    assert commits == 96 * 3
    assert size == pytest.approx(commits * 15_000 / MB + 1, abs=1)
    assert "over 20 years" in card


def test_readings_of_every_second_wear_a_card_out_and_a_longer_flush_spares_it():
    _, often, card = told(LOOPBACK)
    assert often == 3 * 86_400
    assert "a `flush` over 1s makes it last longer" in card
    _, seldom, _ = told(
        LOOPBACK.replace("flush: 1s", "flush: 60s").replace("seal: 1s", "seal: 60s")
    )
    assert seldom == 3 * 1440


def test_a_second_recipient_costs_as_much_again():
    one = SMALL.splitlines()[-1]
    both = f"{one}\n{one.replace('metropole', 'other')}"
    assert told(changed(one, both))[1] == 2 * told(SMALL)[1]


def test_a_serial_line_that_is_read_for_minutes_has_commits_all_the_while():
    line = "{driver: modbus-rtu, port: /dev/ttyUSB0, baudrate: 2400, parity: even}"
    text = changed("{driver: modbus-tcp, host: 192.168.10.20}", line)
    many = "".join(
        f"  m{n}: {{link: plant, address: {n}, profile: eastron-sdm120}}\n" for n in range(20, 120)
    )
    text = text.replace("uplinks:", f"{many}uplinks:")
    assert told(text)[1] > told(SMALL)[1]


def test_the_history_is_counted_with_its_series():
    lines = wear(parse(SMALL, "x"))
    assert "1 MB of it for the history" in lines[1]
    points = ", ".join(f"p{n}: {{at: input/{2 * n}/float32}}" for n in range(100))
    many = f"  c: {{link: plant, address: 20, place: CZS2Y-FSTBQ-Q5WDC, points: {{{points}}}}}\n"
    common = wear(parse(SMALL.replace("uplinks:", f"{many}uplinks:"), "x"))
    assert common[1].startswith("2 MB of it")


def test_nothing_is_said_where_nothing_is_kept():
    assert wear(parse(SMALL.partition("uplinks:")[0], "x")) == []
