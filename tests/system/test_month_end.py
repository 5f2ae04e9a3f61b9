"""The agent is down over the end of a month, and the meter's own memory gives the reading.

A heat meter on M-Bus keeps what it showed at midnight; and one collector of pulses counts
for two dwellings, each with its own factor and offset.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from hil.curves import DAY, load
from hil.process import Child
from hil.stage import PATIENCE, stage
from tests.system.moved import GCC, Moved

MIDNIGHT = datetime(2026, 10, 31, 23, tzinfo=UTC)
"""in Paris the first of November has begun"""
HOUR = 3600
LINE = "  cellar: {{driver: mbus-tcp, host: 127.0.0.1, port: {port}, latency: 50ms}}\n"
DEVICES = """\
  heat: {{link: cellar, address: "{heat}", profile: mbus-heat, every: 1h}}
  hot: {{link: cellar, address: "{one}", profile: mbus-pulse-warm-water, every: 1h}}
  cold: {{link: cellar, address: "{two}", profile: mbus-pulse-cold-water, every: 1h,
          reads_a_day: 48}}
"""


def held(on, channel):
    """Value, quality and flags by slot, as the platform has them."""
    with closing(sqlite3.connect(f"file:{on.platform.db}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT place, t, v, q, flags FROM row WHERE channel = ?", [channel])
        return {(place, t): (v, q, flags or "") for place, t, v, q, flags in found if v}


async def until(on, channel, slot):
    async with asyncio.timeout(PATIENCE):
        while not any(t == slot for _, t in held(on, channel)):
            await asyncio.sleep(0.1)


@pytest.mark.skipif(not GCC, reason="gcc is not installed")
def test_the_meter_s_memory_fills_the_month_s_end_and_a_collector_serves_two(tmp_path, monkeypatch):
    moved, midnight = Moved(tmp_path, monkeypatch), int(MIDNIGHT.timestamp())
    moved.to(midnight - 2 * HOUR)

    async def play():
        line = Child((sys.executable, "-m", "hil.mbus", "--meters", "1"), "{")
        async with stage(tmp_path, lines=1, meters=3, without_consent=0) as on, line:
            said = json.loads(line.first)
            homes = on.dwellings
            serials = [said["meters"][0]["serial"], *said["inputs"]]
            more = DEVICES.format(heat=serials[0], one=serials[1], two=serials[2])
            text = on.config.read_text().replace(
                "devices:\n", f"{LINE.format(port=said['port'])}devices:\n{more}"
            )
            on.config.write_text(text)
            wanted = [("heat", "heat", ()), ("hot", "dhw", ("--multiplier", "10")),
                      ("cold", "cw", ("--offset", "7.5"))]  # fmt: skip
            for home, serial, (device, channel, options) in zip(
                homes, serials, wanted, strict=True
            ):
                await on.command("meter", "assign", device, home.label, "--serial", serial,
                                 "--channel", channel, *options)  # fmt: skip
            moved.to(midnight - HOUR)
            await on.start_agent()
            for _, channel, _ in wanted:
                await until(on, channel, midnight - HOUR)
            await on.kill_agent()
            moved.to(midnight + HOUR + 600)
            await on.start_agent()
            await until(on, "heat", midnight)
            return [held(on, one) for one in ("heat", "dhw", "cw")], [one.place for one in homes]

    (heat, hot, cold), places = asyncio.run(play())
    began = midnight // DAY * DAY
    index = load(1, 99, 1, began).energy(midnight)
    assert heat[places[0], midnight] == (str(Decimal(int(index * 1000)) / 1000), "V", "LATE")
    assert heat[places[0], midnight - HOUR][2] == ""  # no meter took another one's place
    assert {place for place, _ in hot} == {places[1]}
    assert {place for place, _ in cold} == {places[2]}
    litres = [load(1, 98, number, began).energy(midnight - HOUR) for number in (1, 2)]
    assert float(hot[places[1], midnight - HOUR][0]) == pytest.approx(10 * litres[0], abs=1)
    assert float(cold[places[2], midnight - HOUR][0]) == pytest.approx(7.5 + litres[1], abs=1)
