"""Guards rules G2, G3 over the whole agent: a sum over twelve dwellings leaves slot by slot,
of the same dwellings after a kill, and no more once too few of them are not sent one by one.
"""

import asyncio
import datetime as dt
import json
import signal
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from itertools import pairwise

import pytest

from agent.registry.inputs import NewInstallation, NewPlace
from agent.registry.registry import Registry
from hil.broker import broker
from hil.building import Building
from hil.curves import Standby
from hil.platform.child import Platform
from hil.platform.plan import judge
from tests.system.test_daemon import House
from tests.waiting import wait_until

WHOLE = "B6ASQZ1Y2KSAA3Y"
CONFIG = """\
building: {{name: Les Alpins, place: {whole}}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 2s}}
devices:
{devices}
uplinks:
  centre:
    {{recipient: centre.example, transport: mqtt, url: "{url}", seal: 1s, sums: [elec.imp],
      withheld: true}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: {state}
spool: {{flush: 1s}}
"""
METERS, WATTS = 12, 900
EVERY = 2
"""seconds of a slot; in one second a machine under load cannot always read all meters"""
WHO = ("the manager", "a test")


@asynccontextmanager
async def flat():
    """A building in which every meter draws the same all day, each a little more than the last."""
    async with Building.open(lines=1, meters=METERS) as found:
        for (_, unit), meter in found.meters.items():
            meter.load = replace(meter.load, parts=(Standby(WATTS + unit, 0, 900),))
        yield found.describe()["lines"][0]


def held(db):
    """(t, q, n, why, span, v) of each slot of the sum, in order."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as known:
        return known.execute(
            "SELECT t, q, n, why, span, v FROM row WHERE basis = 'rest' ORDER BY t"
        ).fetchall()


def group(folder, places):
    """What the agent left on the disk on the 1st, when nobody had agreed to anything."""
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today.replace(day=1) - dt.timedelta(days=1)
    later = first + dt.timedelta(days=40)
    said = {"elec.imp": [[int(first.timestamp()), int(later.timestamp()), places]]}
    (folder / "rest-centre.example.json").write_text(json.dumps(said))


def furnish(house, building, url):
    devices = "\n".join(
        f"  m-{n}: {{link: riser, address: {n}, profile: eastron-sdm120, every: {EVERY}s}}"
        for n in range(1, METERS + 1)
    )
    house.config.write_text(
        CONFIG.format(
            port=building["port"], state=house.state, url=url, devices=devices, whole=WHOLE
        )
    )
    house("key", "new")
    with_meters = Registry.open(house.state / "registry.json")
    labels, since = [f"A-{n}" for n in range(1, METERS + 1)], int(time.time()) - 86_400
    rows = [NewPlace(one, "dwelling", since=since) for one in labels]
    places = with_meters.add_places(rows, *WHO, float(since))
    meters = [
        NewInstallation(label, serial=meter["serial"], since=since)
        for meter, label in zip(building["meters"], labels, strict=True)
    ]
    with_meters.install(meters, *WHO, float(since))
    group(house.state, [one.id for one in places])


def agree(house, *labels):
    rows = "".join(f"{one};centre.example;elec.imp;monthly;advice;\n" for one in labels)
    (house.folder / "yes.csv").write_text(f"place;recipient;channels;scope;purpose;given\n{rows}")
    house("consent", "import", house.folder / "yes.csv")


@pytest.mark.timeout(300)
def test_a_sum_leaves_slot_by_slot_of_the_same_dwellings_until_too_few_are_in_it(tmp_path):
    async def scenario():
        async with (
            flat() as building,
            broker() as at,
            Platform(at.port, tmp_path / "platform.db") as platform,
        ):
            await asyncio.to_thread(life, building, at.url, platform)
            return await platform.report()

    def life(building, url, platform):
        house = House(tmp_path, building["port"])
        furnish(house, building, url)
        daemon = house.up()
        try:
            wait_until(
                lambda: sum(n == METERS for _, _, n, *_ in held(platform.db)) >= 3, within=60
            )
            said = house("privacy", "explain")
            assert f"sum of elec.imp to centre.example every {EVERY} s" in said
            assert "A-12" in said
            assert "12 dwellings" in said
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            daemon = house.up()
            killed = held(platform.db)[-1][0]
            wait_until(
                lambda: [n for t, _, n, *_ in held(platform.db) if t > killed + 2 * EVERY and n]
            )
            house("privacy", "person", "A-1", "--language", "en", "--to", tmp_path)
            assert "Your dwelling counts in a sum" in (tmp_path / "A-1.html").read_text()
            agree(house, "A-1", "A-2")
            agreed = int(time.time())
            wait_until(
                lambda: [1 for t, _, _, why, *_ in held(platform.db) if why == "few"], within=60
            )
            wait_until(lambda: held(platform.db)[-1][0] > agreed + 4 * EVERY, within=60)
            after = [row for row in held(platform.db) if row[0] > agreed + EVERY]
            assert {(q, n, why) for _, q, n, why, *_ in after} == {("W", None, "few")}
        finally:
            for one in house.daemons:
                one.kill()
                one.wait()

    counted = asyncio.run(scenario())
    assert counted["alarms"] == 0
    assert counted["overlapping_slots"] == 0
    assert counted["seq_gaps"] == 0
    found = held(tmp_path / "platform.db")
    assert ("M", None, "agent") in {(q, n, why) for _, q, n, why, *_ in found}
    for (t, _, _, _, span, _), (later, *_) in pairwise(found):
        assert t + span * EVERY == later, "every slot once"
    kwh = [float(v) for _, _, n, _, _, v in found if n == METERS]
    drawn = sum(WATTS + unit for unit in range(1, METERS + 1)) * EVERY / 3_600_000
    assert sum(kwh) / len(kwh) == pytest.approx(drawn, rel=0.3)  # read somewhere in the slot
    assert not judge(tmp_path / "platform.db").unknown
