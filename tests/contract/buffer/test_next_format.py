"""Guards rules G1, G2 through an upgrade that is taken back.

Today's code and a next version of it, whose spool has a format more, take turns with one file. The
clock is moved: an hour of readings comes in between. Rule U14.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import agent
from tests.unit.packaging.next_version import next_format

TOP = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, sqlite3, sys
from decimal import Decimal
from pathlib import Path
from agent.buffer.batch import BatchHead
from agent.buffer.spool import Spool
from agent.core.errors import Refused
from agent.core.model import Lane, Reading, Receipt, Series, SlotMark
from hil.platform.unpack import unpack

folder, first, count, settle, trial = Path(sys.argv[1]), *map(int, sys.argv[2:6])
head = BatchHead("GTEST", "energie.metropole.example", "DEMO-1")
one = Series("D84G7ZWYRD6Z1GQ", "elec.imp", "REG", "kWh", 1, "KAM-1", "HA", "c1")
seen = []
try:
    of = (folder / "spool.db", bytes(32), head, 50_000_000)
    with Spool.open(*of, on_trial=bool(trial)) as spool:
        for minute in range(first, first + count, 60):
            rows = [Reading(one, t, Decimal(t), "V") for t in range(minute, minute + 60)]
            spool.append(rows, {("m1", 1): SlotMark(minute + 59, True)})
        for _ in range(settle):
            if batch := spool.seal(Lane.BACKFILL, first + count, "trusted", 2**40):
                seen += [row.t for row in unpack(batch.payload).rows]
                held = ((batch.id.seq, batch.sha256),)
                spool.settle(Receipt(head.gateway, head.recipient, batch.id.epoch, held), first)
        mark = spool.marks().get(("m1", 1))
except Refused as error:
    print(json.dumps({"refused": str(error)}))
    raise SystemExit
version = sqlite3.connect(folder / "spool.db").execute("PRAGMA user_version").fetchone()[0]
print(json.dumps({"seen": seen, "format": version, "mark": mark and mark.slot}))
"""
BEGIN = 1_800_000_000 // 60 * 60


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """The code of today and of the next version, as folders."""
    folder = tmp_path_factory.mktemp("next")
    for name, source in (("agent", Path(agent.__file__).parent), ("hil", TOP / "hil")):
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    schema = folder / "agent/buffer/schema.py"
    schema.write_text(next_format(schema.read_text()))
    return {"today": Path(agent.__file__).parents[1], "next": folder}


@pytest.fixture
def live(versions, tmp_path):
    def live(version, first, count, settle=0, *, judged=False):
        words = (str(tmp_path), first, count, settle, int(judged))
        path = f"{versions[version]}:{TOP}:{os.environ.get('PYTHONPATH', '')}"
        done = subprocess.run(
            (sys.executable, "-c", PROGRAM, *map(str, words)),
            env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path,
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    return live


def test_an_upgrade_with_another_format_that_is_taken_back_loses_nothing(live):
    hour = 3600
    before = live("today", BEGIN, hour, settle=1)
    assert before["format"] == 2
    judged = live("next", BEGIN + hour, hour, settle=1, judged=True)
    assert (judged["format"], judged["mark"]) == (2, BEGIN + 2 * hour - 1)
    again = live("today", BEGIN + 2 * hour, 600, settle=100)
    assert (again["format"], again["mark"]) == (2, BEGIN + 2 * hour + 599)
    delivered = [*before["seen"], *judged["seen"], *again["seen"]]
    assert judged["seen"]
    assert len(delivered) == len(set(delivered))
    assert sorted(delivered) == list(range(BEGIN, BEGIN + 2 * hour + 600))


def test_a_spool_that_begins_while_a_version_is_judged_is_of_the_old_format(live):
    assert live("next", BEGIN, 60, judged=True)["format"] == 2
    assert live("today", BEGIN + 60, 60, settle=10)["seen"] == list(range(BEGIN, BEGIN + 120))


def test_the_new_format_comes_once_the_version_stands_and_the_old_one_says_so(live):
    live("today", BEGIN, 60)
    assert live("next", BEGIN + 60, 60, judged=True)["format"] == 2
    assert live("next", BEGIN + 120, 60)["format"] == 3
    refused = live("today", BEGIN + 180, 60)["refused"]
    assert "was written by a newer gardien (format 3, this one knows 2)" in refused
    assert live("next", BEGIN + 180, 60, settle=10)["seen"] == list(range(BEGIN, BEGIN + 240))
