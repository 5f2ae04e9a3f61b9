"""Guards rule G3, as a manager meets it: what people withdraw is gone, here and at the
platform, while their neighbours' goes on; so is what was sent after a move that is told late.
"""

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest

from hil.platform.report import rows
from hil.stage import RECIPIENT, stage
from tests.waiting import until

PATIENCE = 90


def values(on, place):
    """Slots of a place of which the platform holds the value."""
    return [row.t for row in rows(on.platform.db) if row.place == place and row.value is not None]


async def disclosed(on, dwelling):
    return (await on.command("privacy", "disclosures", dwelling.label))["disclosures"]


def erased(on, place):
    """How many rows of a place the platform has erased."""
    with closing(sqlite3.connect(on.platform.db)) as db:
        found = db.execute("SELECT body, erased FROM retraction").fetchall()
    return sum(rows for body, rows in found if place in body)


async def a_morning(folder):
    async with stage(folder, lines=1, meters=5, without_consent=1) as on:
        (quiet,) = [one for one in on.dwellings if not one.consents]
        stops, moved, neighbour, _ = [one for one in on.dwellings if one.consents]
        await on.start_agent()
        await until(lambda: min(len(values(on, one.place)) for one in (stops, moved)) > 5)
        assert values(on, quiet.place) == []

        said = await on.command(
            "privacy", "person", stops.label, "--stop", "--to", str(folder), "--language", "en"
        )
        assert [one["recipient"] for one in said["withdrawn"]] == [RECIPIENT]
        left = int(time.time()) - 3
        at = datetime.fromtimestamp(left, UTC).isoformat()
        await on.command("occupancy", "move-out", moved.label, "--at", at)

        later = int(time.time()) + 1
        await until(lambda: max(values(on, neighbour.place)) > later)
        await until(lambda: values(on, stops.place) == [])
        await until(lambda: max(values(on, moved.place)) < left)
        await asyncio.sleep(2)  # nothing of them comes after
        assert values(on, stops.place) == []
        assert 0 < max(values(on, moved.place)) < left

        letter = (folder / f"{stops.label}.html").read_text(encoding="utf-8")
        assert "What has just ended" in letter
        assert RECIPIENT in letter
        async with asyncio.timeout(PATIENCE):  # the platform's answer comes with its receipt
            told = await disclosed(on, stops)
            while {one["erasure"] for one in told} != {"confirmed"}:
                await asyncio.sleep(0.3)
                told = await disclosed(on, stops)
        # rows without a value are erased, too
        assert 5 < sum(one["values"] for one in told) <= erased(on, stops.place)
        assert {one["basis"] for one in told} == {stops.consent}
        looks = (await on.command("privacy", "access", stops.label))["looks"]
        assert "privacy.person" in {one["what"] for one in looks}
        assert await on.stop_agent() == 0


@pytest.mark.timeout(300)
def test_what_people_withdraw_is_gone_everywhere_and_their_neighbours_goes_on(tmp_path):
    asyncio.run(a_morning(tmp_path))
