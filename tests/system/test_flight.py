"""The flight recorder of a real daemon: what it remembers, and what it never may."""

import io
import json
import os
import signal
import tarfile

import pytest

from agent.gateway.flight_recorder import FILE, START, FlightRecord, devices_hash, read
from agent.registry.storage import RegistryStorage
from tests.system.test_daemon import House, building
from tests.waiting import wait_until

__all__ = ["building"]

CONFIG = """\
building: {{name: Les Alpins}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 500ms}}
  cellar: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}
devices:
  Ap12-Planteau: {{link: riser, address: 1, profile: eastron-sdm120, every: 1s}}
  Ap14-Vasseur: {{link: riser, address: 99, profile: eastron-sdm630, every: 1s}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: {state}
spool: {{flush: 1s}}
"""
PEOPLE = ("Ap12", "Ap14", "Planteau", "Vasseur", "BAIL-4711", "Odile")


def bundle(house, name):
    house("support-bundle", "--out", house.folder / name)
    with tarfile.open(fileobj=io.BytesIO((house.folder / name).read_bytes())) as tar:
        return {
            entry.name.removeprefix("gardien-support/"): tar.extractfile(entry).read().decode()
            for entry in tar
        }


def records(files):
    return [FlightRecord.of(document) for document in json.loads(files["flight.json"])]


def kinds(files):
    return {record.kind for record in records(files)}


@pytest.fixture
def house(tmp_path, building):
    house = House(tmp_path, building["port"])
    house.config.write_text(CONFIG.format(port=building["port"], state=house.state))
    house("key", "new")
    yield house
    for daemon in house.daemons:
        daemon.kill()
        daemon.wait()


def test_it_remembers_what_happened_and_nothing_of_dwellings(house, building):
    """Rules U20, P24."""
    daemon = house.up()
    house("place", "new", "Ap12", "--since", "2026-01-01", "--as", "Odile")
    house("occupancy", "move-out", "Ap12", "--at", "2026-01-02", "--as", "Odile")
    house("occupancy", "move-in", "Ap12", "--since", "2026-01-02", "--reference", "BAIL-4711",
          "--as", "Odile")  # fmt: skip
    serial = building["meters"][0]["serial"]
    house("meter", "assign", "Ap12-Planteau", "Ap12", "--as", "Odile")
    reading = json.loads(house("read", "Ap12-Planteau", "--as", "Odile", "--json"))
    values = {str(point["value"]) for point in reading["points"].values()}
    house("place", "new", "Ap12", "--as", "Odile", status=1)
    wait_until(lambda: "Ap14-Vasseur on riser is silent" in (house.folder / "log").read_text())
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in (house.folder / "log").read_text())

    running = bundle(house, "running.tar.gz")
    assert kinds(running) >= {
        START, "calls", "calls-refused", "line-lost", "device-silent", "uplink-lost", "reloaded"
    }  # fmt: skip
    assert {record.kind for record in read(house.state)} == {START}, "the rest waits for an hour"
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0

    stopped = bundle(house, "stopped.tar.gz")
    assert kinds(stopped) == kinds(running) | {"stop"}
    by_kind = {record.kind: record for record in records(stopped)}
    assert (by_kind["device-silent"].subject, by_kind["device-silent"].devices) == (
        "riser", ((2, 2),)
    )  # fmt: skip
    assert by_kind["line-lost"].subject == "cellar"
    assert by_kind["calls"].facts["place.new"] == 2
    assert by_kind["calls-refused"].facts["place.new"] == 1
    # the numbers can be resolved in the redacted configuration
    assert "device-2: {link: riser, address: 99" in stopped["config/config.yaml"]
    expected = devices_hash((("riser", "eastron-sdm120"), ("riser", "eastron-sdm630")))
    assert by_kind[START].facts["devices"] == by_kind["reloaded"].detail == expected

    daemon = house.up()
    daemon.kill()
    daemon.wait()
    (house.state / "gardien.sock").unlink()
    daemon = house.up()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    starts = [record for record in read(house.state) if record.kind == START]
    assert [(start.life, start.count) for start in starts] == [(1, 1), (3, 2)]
    assert [start.facts["after"] for start in starts] == ["", "end"]

    rows = RegistryStorage(house.state / "registry.json").read()
    ids = {str(row["id"]) for table in rows.values() for row in table.values() if row.get("id")}
    ids = {id_ for id_ in ids if len(id_) > 4}
    assert len(ids) >= 2
    gone = {serial, str(os.getpid()), *PEOPLE, *ids, *(v for v in values if len(v) > 3)}
    ring = b"".join(path.read_bytes() for path in house.state.glob("flight*")).decode()
    assert len(ring) < 2_500
    for text in (ring, running["flight.json"], stopped["flight.json"]):
        assert [name for name in gone if name in text] == []
    assert (house.state / FILE).stat().st_mode & 0o777 == 0o600
