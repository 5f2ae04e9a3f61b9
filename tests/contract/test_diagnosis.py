"""What the diagnosis detects, each on the condition itself: files, disks, ports, records."""

import asyncio
import json
import os
import pwd
import shutil
import threading
import time
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest

from agent.acquisition.device import Device
from agent.acquisition.unsent_readings import UnassignedReadings
from agent.api.calls import CALLS
from agent.api.diagnosis import machine
from agent.api.diagnosis.edits import edits
from agent.api.registry import Caller
from agent.api.roles import Role
from agent.app import visited
from agent.buffer.orphaned_spools import spool_of
from agent.cli.doctor import findings as doctor
from agent.config import load, parse
from agent.core.atomic_write import later
from agent.core.clock import Clock, stamp
from agent.core.finding import Actor, Finding, Severity
from agent.core.model import Sample
from agent.core.state import acting_as
from agent.gateway.delivery import _report, document
from agent.gateway.gateway import Daemon
from agent.local import open_door
from agent.registry import identity
from agent.registry.records import occupancy_unknown
from hil.broker import broker
from hil.ca import CA, DAY
from hil.platform.child import Platform
from tests.command import gardien
from tests.contract.gateway.running import at_work, configured, put
from tests.waiting import until

CONFIG = """\
building: {{name: Test, timezone: Europe/Paris}}
links: {{riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min}}
  m-2: {{link: riser, address: 2, profile: eastron-sdm120, every: 15min}}
{uplinks}
privacy: {{policy: FR-1}}
clock: {{source: system}}
state: {state}
"""
UPLINK = 'uplinks: {centre: {recipient: r.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}'


@pytest.fixture
def config(tmp_path):
    return written(tmp_path)


def written(folder, uplinks=UPLINK):
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(uplinks=uplinks, state=folder / "state"))
    if not (folder / "state").exists():
        (folder / "state").mkdir(mode=0o700)
        identity.mint(folder / "state")
    return path


def diagnosed(config, *calls, look=None):
    """The findings of a gateway by code, after some calls; no daemon runs."""
    return {event["code"]: Finding.of(event) for event in events(config, *calls, look=look)}


def events(config, *calls, look=None):
    """The same in their JSON form."""

    async def made():
        async with visited(config) as house:
            asker = Caller("alice", None)
            for name, words in calls:
                await CALLS[name](house, asker, **words)
            if look:
                look(house)
            return (await CALLS["status"](house, asker))["events"]

    return asyncio.run(made())


def answering(*serials):
    """Let the devices have answered with these serial numbers."""

    def look(house):
        for device, serial in zip(house.lines.devices(), serials, strict=False):
            assert isinstance(device, Device)
            device.serial, device.answered = serial, time.time()

    return look


PLACE = ("place.new", {"label": "A-1", "type": "dwelling", "since": "2024-09-01"})


def test_a_meter_that_answers_and_belongs_to_nobody_is_named_with_the_command(config):
    silent = diagnosed(config)
    assert "unassigned" not in silent, "nobody knows the number of a meter that never answered"
    found = diagnosed(config, look=answering("45", "46"))["unassigned"]
    assert found.what == "2 meters belong to no dwelling: m-1, m-2"
    assert (found.count, found.severity, found.fine) == (2, Severity.WAITING, False)
    assert found.command == "gardien meter import FILE"
    assign = ("meter.assign", {"device": "m-1", "dwelling": "A-1", "serial": "45"})
    found = diagnosed(config, PLACE, assign, look=answering("45", "46"))["unassigned"]
    assert found.command == "gardien meter assign m-2 DWELLING"
    found = diagnosed(config, look=answering("99"))
    other = found["other-meter"]
    named = "1 meter is not the one that was recorded: m-1 reports 99, recorded is 45"
    assert (other.what, other.command) == (named, "gardien meter exchange A-1 --old 45 --serial 99")


def recorded(config, *rows, columns="serial;dwelling"):
    """Record dwellings and their meters, by serial number only."""
    for row in rows:
        place = row.split(";")[1]
        gardien("place", "new", place, "--type", "dwelling", "-c", config, "--as", "alice")
    sheet = config.parent / "meters.csv"
    sheet.write_text("\n".join([columns, *rows]))
    gardien("meter", "import", sheet, "--offline", "-c", config, "--as", "alice")


def test_a_meter_that_was_exchanged_without_a_word_is_named_with_the_command(config):
    recorded(config, "24637001;A-1", "24637002;A-2")
    found = diagnosed(config, look=answering("24999901", "24637002"))
    assert "unassigned" not in found
    command = "gardien meter exchange A-1 --old 24637001 --serial 24999901"
    assert found["other-meter"].command == command
    texts = json.dumps([one["text"] for one in events(config, look=answering("24999901", "2"))])
    for fact in ("m-1", "24999901", "24637001", "A-1"):
        assert fact in found["other-meter"].what
        assert fact not in texts, "recipients read no names (rule P24)"

    def read_before(house):
        answering("24999901", "24637002")(house)
        (point, *_) = next(iter(house.lines.devices())).points
        house.unsent["shelf"] = UnassignedReadings(house.registry, None, None)
        house.unsent["shelf"].note(1_800_000_000, [Sample(point, 0.0, Decimal(3))], "24999901")

    found = diagnosed(config, look=read_before)
    assert found["other-meter"].command == f"{command} --at 2027-01-15T09:00+01:00"
    found = diagnosed(config, look=answering("24999901"))
    assert "other-meter" not in found, "the meter that was recorded may be the one that is silent"

    def changed(house):
        answering("24999901")(house)
        next(iter(house.lines.devices())).before = "24637002"

    found = diagnosed(config, look=changed)["other-meter"]
    assert "--old 24637002" in found.command, "it is the number that the device reported before"


def test_a_device_that_is_silent_since_a_recorded_exchange_is_no_exchange_back(config):
    rows = ("24637001;A-1;2026-01-01", "24637002;A-2;2026-01-01")
    recorded(config, *rows, columns="serial;dwelling;since")
    exchange = ("meter.exchange", {"place": "A-1", "serial": "24999901"})
    found = diagnosed(config, exchange, look=answering("24637001", "24637002"))
    assert "other-meter" not in found


def test_addresses_that_were_swapped_are_a_note_while_readings_find_their_dwelling(config):
    text = config.read_text()
    config.write_text(text.replace("m-1:", "flat-A-1:").replace("m-2:", "flat-a-2:"))
    recorded(config, "24637001;A-1", "24637002;A-2")
    assert "crossed" not in diagnosed(config, look=answering("24637001", "24637002"))
    made = events(config, look=answering("24637002", "24637001"))
    (found,) = [one for one in made if one["code"] == "crossed"]
    assert found["text"].startswith("flat-A-1 reads the meter of A-2, and flat-a-2 that of A-1")
    assert (Finding.of(found).fine, found["private"]) == (True, True)


def test_addresses_that_were_swapped_are_named_where_devices_were_recorded(config):
    words = [
        ("meter.assign", {"device": f"m-{n}", "dwelling": f"A-{n}", "serial": f"4{n}"})
        for n in (1, 2)
    ]
    second = ("place.new", {"label": "A-2", "type": "dwelling", "since": "2024-09-01"})
    found = diagnosed(config, PLACE, second, *words, look=answering("42", "41"))["other-meter"]
    assert found.command.startswith("sudoedit ")
    assert "each other's numbers" in str(found.cost)


def test_an_unknown_occupancy_has_one_sentence_everywhere(config):
    gardien("place", "new", "A-1", "--type", "dwelling", "-c", config, "--as", "alice")
    sentence = str(occupancy_unknown(["A-1"]))
    for words in ("occupancy list", "privacy explain A-1", "hotline no-data A-1"):
        shown = gardien(*words.split(), "-c", config, env={"GARDIEN_AS": "alice"})
        assert sentence in shown.output, words
    found = diagnosed(config)["occupancy"]
    assert found.what == occupancy_unknown(1)
    assert found.what.partition(":")[2] == sentence.partition(":")[2]
    assert (found.actor, found.fine) == (Actor.MANAGER, True)


def test_a_duty_to_a_recipient_without_an_uplink_is_found_and_told_to_no_recipient(config):
    duty = {"reference": "décret 2020-886", "recipient": "gestion.example", "channels": ["heat"]}
    duty["confirm"] = ["gestion.example"]

    async def made():
        async with visited(config) as house:
            await CALLS["duty.add"](house, Caller("alice", None), **duty)
            return await CALLS["status"](house, Caller("alice", None))

    answer = asyncio.run(made())
    (found,) = [Finding.of(event) for event in answer["events"] if event["code"] == "duty"]
    assert found.what.startswith("gestion.example must receive indexes (décret 2020-886)")
    assert (found.severity, found.since is not None) == (Severity.LOST, True)
    backlog = ("rows", "slots", "batches", "batch_rows", "quarantined", "oldest", "used", "cap")
    centre = {"epoch": "", "held_devices": 0, "shed_rows": 0, "backlog": dict.fromkeys(backlog, 0)}
    answer["uplinks"]["centre"] = centre
    told = json.dumps(document(answer | {"restored": None}, "centre"))
    assert "gestion.example" not in told
    assert "no uplink delivers" not in told


def test_without_an_uplink_what_is_read_is_lost(tmp_path):
    found = diagnosed(written(tmp_path, ""))["no-uplink"]
    assert found.severity is Severity.LOST
    assert "no-uplink" not in diagnosed(written(tmp_path))


def test_where_the_keys_are_gone_no_command_advises_new_ones(config):
    diagnosed(config, PLACE)
    shutil.rmtree(config.parent / "state/keys")
    found = diagnosed(config)["keys"]
    assert found.severity is Severity.LOST
    assert "the keys of this gateway are gone from" in found.what
    words = [("doctor",), ("status",), ("check",), ("key", "show"), ("key", "csr"),
             ("object", "list")]  # fmt: skip
    for command in words:
        said = gardien(*command, "-c", config)
        text = said.output + str(said.exception or "")
        assert said.exit_code in {0, 1}, text
        assert "key new" not in text, command


def test_keys_that_the_disk_does_not_give_are_not_called_damaged(config):
    """Rule A1: no copy of them helps."""
    diagnosed(config, PLACE)
    key = config.parent / "state/keys/spool.key"
    key.unlink()
    key.symlink_to("/proc/self/mem")  # a file of which the first byte cannot be read: EIO
    (found,) = machine.keys(config.parent / "state")
    assert "the disk reports errors" in found.what
    assert "damaged" not in found.what


def test_edits_are_found_until_they_are_applied(tmp_path):
    path = configured(tmp_path, "mqtt://127.0.0.1:9")
    loaded, before = load(path), path.read_text()
    assert edits(path, loaded) == []
    path.write_text(f"# a comment changes nothing\n{before}")
    assert edits(path, loaded) == []
    path.write_text(before.replace("name: Les Alpins", "name: Les Cimes"))
    (found,) = edits(path, loaded)
    assert (found.code, found.command) == ("edits", "sudo gardien reload")
    assert found.cost == "The change has no effect yet"
    assert found.since is not None
    path.write_text(before.replace("max: 50MB", "max: 60MB"))
    (found,) = edits(path, loaded)
    assert found.command == "sudo systemctl restart gardien"
    path.write_text(f"{before}nonsense: 1\n")
    (found,) = edits(path, loaded)
    assert "the configuration has a mistake" in found.what
    assert "would not start" in str(found.cost)
    path.write_text(before)
    assert edits(path, loaded) == []


def test_the_running_agent_says_that_its_file_was_edited_and_a_reload_ends_it(tmp_path):
    path = configured(tmp_path, "mqtt://127.0.0.1:9")

    async def made():
        async with at_work(path) as house:
            asker = Caller("alice", None)

            async def codes():
                return {one["code"] for one in (await CALLS["status"](house, asker))["events"]}

            before = await codes()
            path.write_text(path.read_text().replace("Les Alpins", "Les Cimes"))
            edited = await codes()
            await CALLS["reload"](house, asker)
            return before, edited, await codes()

    before, edited, after = asyncio.run(made())
    assert ("edits" in before, "edits" in edited, "edits" in after) == (False, True, False)


def test_a_spool_that_is_closed_while_the_status_is_asked_is_left_out(tmp_path):
    """One in memory is closed once the disk works again."""
    path = configured(tmp_path, "mqtt://127.0.0.1:9")

    async def asked():
        async with at_work(path) as house:
            recipient = house.recipients["centre"]
            before = await CALLS["status"](house, Caller("alice", None))
            for job in [name for name in house.jobs.names() if name != "spool centre"]:
                await house.jobs.stop(job)  # so that nobody else asks this spool
            connection = recipient.spool._database._connection
            await recipient.thread.run(connection.close)
            return before, await CALLS["status"](house, Caller("alice", None))

    before, after = asyncio.run(asked())
    assert ("centre" in before["uplinks"], "centre" in after["uplinks"]) == (True, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another account")
def test_a_configuration_that_the_agents_account_cannot_read_is_found(open_folder):
    path = open_folder / "config.yaml"
    path.write_text(CONFIG.format(uplinks=UPLINK, state=open_folder / "state"))
    loaded = load(path)
    path.chmod(0o600)
    with acting_as(pwd.getpwnam("nobody")):
        (found,) = edits(path, loaded)
        assert "the agent cannot read" in found.what
        assert found.command == "sudo gardien check"
    path.chmod(0o644)
    with acting_as(pwd.getpwnam("nobody")):
        assert edits(path, loaded) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another account")
def test_the_doctor_of_root_sees_with_the_eyes_of_the_agents_account(open_folder):
    path, nobody = written(open_folder), pwd.getpwnam("nobody")
    state = open_folder / "state"
    for file in (state, *state.rglob("*")):
        os.chown(file, nobody.pw_uid, nobody.pw_gid)
    keys = [one for one in doctor(path, state) if one.code == "keys"]
    assert [one.fine for one in keys] == [True]
    os.chown(state / "keys/spool.key", 0, 0)
    (found,) = [one for one in doctor(path, state) if one.code == "keys"]
    assert found.fine is False
    assert "the agent's account may not read" in found.what
    assert os.geteuid() == 0
    disk = [one for one in doctor(path, state) if one.code == "disk"]
    assert [one.fine for one in disk] == [True]
    assert not list(state.glob("probe*")), "what was written to test the disk is removed"


def test_a_full_disk_takes_no_file_and_is_said_to_be_full(small_disk):
    state = small_disk / "state"
    state.mkdir()
    assert [one.fine for one in machine.disk(state, None)] == [True]
    with pytest.raises(OSError, match="space"):
        (small_disk / "ballast").write_bytes(bytes(17_000_000))
    (found,) = machine.disk(state, None)
    # as `status` says it: nothing is lost while the spools have room
    assert (found.severity, found.cause) == (Severity.LATER, "disk")
    assert "No space left on device" in found.what
    assert not list(state.iterdir())


def test_a_read_only_disk_is_found_by_writing_to_it(small_disk):
    state = small_disk / "state"
    state.mkdir()
    assert machine.not_written(state, "disk") is None
    assert os.system(f"mount -o remount,ro {small_disk}") == 0
    try:
        found = machine.not_written(state, "disk")
    finally:
        assert os.system(f"mount -o remount,rw {small_disk}") == 0
    assert "the disk is read-only" in found.what
    assert "docs/replace.md" in found.cost


def test_a_port_that_was_pulled_out_is_found():
    far, near = os.openpty()
    port = os.ttyname(near)
    line = f"links: {{riser: {{driver: modbus-rtu, port: {port}, baudrate: 9600}}}}\n"
    config = parse(f"building: {{name: x}}\n{line}", "x")
    assert list(machine.lost_ports(config)) == []
    (there,) = machine.ports(config, set(), account=pwd.getpwuid(os.geteuid()).pw_name)
    assert there.fine
    os.close(near)
    os.close(far)
    (gone,) = machine.lost_ports(config)
    assert f"{port} does not exist" in gone.what
    assert (gone.severity, gone.cause) == (Severity.LOST, "line riser")
    assert port not in str(gone.without_names().text)


def test_certificates_that_the_configuration_names_are_counted_down(tmp_path):
    ca = CA().file(tmp_path)
    mqtts = f'{{recipient: r.example, transport: mqtt, url: "mqtts://r.example", ca: {ca}}}'
    config = parse(f"building: {{name: x}}\nuplinks: {{centre: {mqtts}}}\n", "x")
    end, day = time.time() + 3649 * DAY.total_seconds(), timedelta(days=1).total_seconds()
    assert list(machine.named_certificates(config, time.time())) == []
    (soon,) = machine.named_certificates(config, end - 10 * day)
    assert (soon.severity, soon.until is not None) == (Severity.LATER, True)
    assert "(uplinks.centre.ca) ends in" in soon.what
    (over,) = machine.named_certificates(config, end + 5 * day)
    assert (over.severity, over.since is not None) == (Severity.WAITING, True)


def test_values_of_the_sample_that_were_left_are_named():
    text = "building: {name: x, place: B6ASQZ1Y2KSAA3Y}\n"
    (found,) = machine.sample(parse(text, "x"))
    assert "building.place" in found.what
    assert list(machine.sample(parse(f"{text}privacy: {{policy: DEMO-1}}\n", "x"))) == []
    assert list(machine.sample(parse("building: {name: x}\n", "x"))) == []


def test_values_of_a_recipient_that_lost_its_uplink_are_found(tmp_path):
    path = configured(tmp_path, "mqtt://127.0.0.1:9")

    async def filled():
        async with at_work(path) as house:
            await put(house, 3)

    asyncio.run(filled())
    state = tmp_path / "state"
    spool_of(state, "r.example").rename(spool_of(state, "gone.example"))
    (found,) = machine.leftover_spools(load(path))
    assert (found.count, found.private) == (3, True)
    assert "gone.example" in found.what


def test_who_may_not_see_places_reads_no_name_of_a_device(tmp_path):
    """Rule P24."""
    path = written(tmp_path)
    text = path.read_text().replace("m-1:", "flat-A-1:").replace("m-2:", "flat-A-2:")
    plant = "  flat-C: {link: riser, address: 3, profile: eastron-sdm120, every: 15min, place: "
    path.write_text(text.replace("uplinks:", f"{plant}CZS2YFSTBQQ5WDC}}\nuplinks:"))

    async def made():
        async with visited(path) as house:
            answering("45", "46")(house)
            for device in house.lines.devices():
                device.failures = 1
            house.lines["riser"].link.error = ""
            house.lines["riser"].proposals = ["flat-A-1 is silent"]
            return [
                (await CALLS["status"](house, Caller(who, None, roles)))["events"]
                for who, roles in (("eva", frozenset({"reader"})), ("root", frozenset(Role)))
            ]

    reader, root = asyncio.run(made())
    codes = {"unassigned", "device-silent", "exchange", "sample"}
    assert codes <= {event["code"] for event in reader}
    assert "flat-" not in json.dumps(reader)
    assert "flat-" not in json.dumps([event["text"] for event in root])
    assert json.dumps(root).count("flat-A-1") > 2, "people at the gateway see them"


def test_the_status_is_sent_again_once_a_spool_that_was_closed_is_open():
    """While it is closed its uplink is missing in the answer: nothing is sent then."""

    async def reported():
        daemon, asked, told = Daemon(), asyncio.Event(), []

        async def describe():
            asked.set()
            return {"uplinks": {}, "devices": {}, "links": {}}

        daemon.describe = describe
        uplink = SimpleNamespace(tell=told.append)
        task = asyncio.create_task(_report(daemon, "centre", uplink, 1.0, 60.0))
        await asked.wait()
        await asyncio.sleep(0)
        try:
            return task.done(), told
        finally:
            task.cancel()

    assert asyncio.run(reported()) == (False, [])


def test_a_machine_that_can_start_no_thread_still_states_what_is_known(config):
    async def asked():
        async with visited(config) as house:
            before = threading.stack_size(1 << 46)  # more than a process may have
            try:
                return (await CALLS["status"](house, Caller("alice", None)))["events"]
            finally:
                threading.stack_size(before)

    found = {one["code"]: Finding.of(one) for one in asyncio.run(asked())}
    assert "could not be checked: can't start new thread" in found["not-checked"].what
    assert found["not-checked"].fine is False


def test_every_finding_of_a_gateway_states_when_it_began_also_after_a_restart(tmp_path):
    path = configured(tmp_path, "mqtt://127.0.0.1:9")
    port = "links: {riser: {driver: modbus-rtu, port: /dev/ttyUSB99, baudrate: 9600}}\n"
    device = "devices: {m-1: {link: riser, address: 1, profile: eastron-sdm120, every: 1h}}\n"
    text = path.read_text().replace("DEMO-1", "FR-1").replace("source: system", "source: ntp")
    path.write_text(text + port + device)
    began = 1_795_500_000.0

    async def findings(wall):
        async with at_work(path, Clock("system", None, lambda: wall, lambda: 100.0)) as house:
            events = (await CALLS["status"](house, Caller("alice", None)))["events"]
            assert later.settle(5)
            return [Finding.of(event) for event in events]

    first, again = (asyncio.run(findings(began + passed)) for passed in (0.0, 500.0))
    assert {"port", "uplink-down"} <= {one.code for one in again}
    assert [one.code for one in again if one.since is None] == []
    (before,), (after,) = ([one for one in of if one.code == "port"] for of in (first, again))
    assert (before.since, after.since) == (stamp(began), stamp(began))


def test_the_exit_status_of_each_command_follows_from_what_it_found(tmp_path):
    state = tmp_path / "state"

    async def made():
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db"),
            at_work(configured(tmp_path, far.url)) as house,
        ):
            path = house.daemon.path
            house.jobs.start("local socket", lambda: open_door(house, state))
            await until((state / "gardien.sock").exists)
            await until(lambda: house.recipients["centre"].delivery.connected_since)

            async def exits():
                ran = {
                    one: await asyncio.to_thread(gardien, *one.split(), "-c", path)
                    for one in ("status --json", "doctor --json", "check")
                }
                events = json.loads(ran["status --json"].output)["events"]
                assert ran["status --json"].exit_code == any(
                    Finding.of(one).fine is False for one in events
                )
                checks = json.loads(ran["doctor --json"].output)
                assert ran["doctor --json"].exit_code == any(one["fine"] is False for one in checks)
                return ran["status --json"].exit_code, ran["check"].exit_code

            fine = await exits()
            path.write_text(path.read_text() + "nonsense: 1\n")
            return fine, await exits()

    assert asyncio.run(made()) == ((0, 0), (1, 1))
