"""What a meter kept fills the slots nobody read, where its clock and dates can be believed.
Rule M17.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from agent.acquisition.slots import DownGap, recalled
from agent.core.model import Point, Sample, Why
from agent.drivers.mbus.bus import MbusTcp

PARIS = ZoneInfo("Europe/Paris")
POINT = Point("heat-1", "heat_energy", "45120042", "heat:energy", 3600, "heat", "kWh")
MIDNIGHT = int(dt.datetime(2026, 11, 1, tzinfo=PARIS).timestamp())
NOW = dt.datetime(2026, 11, 24, 10, 12, tzinfo=PARIS).timestamp()
GAP = DownGap(MIDNIGHT - 86_400, MIDNIGHT + 86_400)


def filled(
    clock: str, when: str, gap: DownGap = GAP, why: Why | None = None
) -> list[tuple[int, str]]:
    kept = MbusTcp.kept(POINT)
    assert kept
    said = {kept.clock: clock, kept.values[0][0]: when, kept.values[0][1]: Decimal(7351)}
    samples = [
        Sample(one, NOW, said[one], why) if one in said else Sample(one, NOW, why=Why.BAD)
        for one in kept.points
    ]
    return [(slot, str(s.value), s.quality) for slot, s in recalled(kept, samples, gap, PARIS)]


def test_the_end_of_a_month_is_the_midnight_behind_its_last_day() -> None:
    expected = [(MIDNIGHT, "7351", "V")]
    assert filled("2026-11-24T10:10", "2026-10-31") == expected
    assert filled("2026-11-24T10:10", "2026-11-01T00:00") == expected
    assert filled("2026-11-24", "2026-10-31") == expected  # a meter that tells no time of day


@pytest.mark.parametrize(
    ("clock", "when"),
    [
        ("2026-11-24T09:12", "2026-10-31"),  # an hour behind: its midnights are not ours
        ("2026-11-23", "2026-10-31"),
        ("2026-11-24T10:12", "2026-11-01T00:10"),  # between two slots
        ("2026-11-24T10:12", "2026-09-30"),  # not in the gap
        ("2026-11-24T10:12", "no date"),
    ],
)
def test_what_cannot_be_dated_to_a_slot_of_the_gap_fills_nothing(clock: str, when: str) -> None:
    assert filled(clock, when) == []


def test_what_the_meter_calls_invalid_fills_nothing() -> None:
    assert filled("2026-11-24T10:12", "2026-10-31", why=Why.BAD) == []


def test_temperatures_and_named_storages_are_not_kept() -> None:
    for at in ("flow-temperature", "heat:energy/storage=1", "raw=0406", "id"):
        assert MbusTcp.kept(Point("m", "p", "1", at, 3600)) is None
