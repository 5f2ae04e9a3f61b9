"""The guided visit, typed by a person at a terminal, with meters that answer on real sockets."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from agent.registry.recognition import lists, recognised
from tests.command import gardien
from tests.terminal import Terminal
from tests.waiting import wait_until

GARDIEN = Path(sys.executable).with_name("gardien")
CONFIG = """\
# written by hand
building: {{name: Les Alpins}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 1s}}  # to the 4th floor
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min}}
  m-2: {{link: riser, address: 2, profile: eastron-sdm120, every: 15min}}
  m-3: {{link: riser, address: 3, profile: eastron-sdm120, every: 15min}}
clock: {{source: system}}
state: {state}
"""


@pytest.fixture
def terminal():
    opened = []

    def opens(*arguments, **environment):
        opened.append(Terminal(GARDIEN, *arguments, **environment))
        return opened[-1]

    yield opens
    for one in opened:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def building():
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.building", "--lines", "1", "--meters", "3"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    described = json.loads(process.stdout.readline())
    yield described["lines"][0] | {"control": described["control"]}
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture
def config(tmp_path, building):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(port=building["port"], state=tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return path


def display(building, unit):
    """What the display of a meter shows: kWh with one decimal."""
    with socket.create_connection(("127.0.0.1", building["port"])) as line:
        line.sendall(struct.pack(">HHHBBHH", 1, 0, 6, unit, 4, 72, 2))
        return f"{struct.unpack('>f', line.recv(260)[9:13])[0]:.1f}"


def syndic_list(folder, serials):
    path = folder / "compteurs.csv"
    rows = [f"A-{number};{serial};Durand" for number, serial in enumerate(serials, 1)]
    head = "Résidence Les Alpins;;\nN° appartement;Cpt élec.;Nom du locataire"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_an_installer_is_led_from_an_empty_gateway_to_a_verified_building(
    tmp_path, building, terminal
):
    one, two, three = (meter["serial"] for meter in building["meters"])
    config, path = tmp_path / "config.yaml", syndic_list(tmp_path, [two, one, three])
    visit = terminal("commission", "-c", config)
    visit.answers("Name of the building", "Les Alpins")
    visit.answers("place id")
    visit.answers("Time zone")
    visit.answers("list of dwellings or meters", path)
    visit.until("A-1 +dwelling")
    visit.until("serial number of the electricity")
    visit.answers("Is this right")
    visit.until("A-1 +new +dwelling")
    visit.answers("Record 3 dwellings")
    visit.answers("list of dwellings or meters")
    visit.answers("Search for lines now", f"127.0.0.1:{building['port']}")
    visit.until("Modbus TCP")
    visit.answers("Add this line")
    visit.answers("Add a line", "mbus-tcp 127.0.0.1:70000")
    visit.answers("Add a line")
    visit.answers("Search these lines now: modbus")
    visit.until("matched: 3")
    visit.answers(f"A-1: display of the electricity meter {two}", display(building, 1))
    visit.until(f"This is what {one} \\(A-2\\) shows")
    visit.answers("Record that", "y")
    visit.until("agrees")
    visit.answers(f"A-2: display of the electricity meter {two}", display(building, 2))
    visit.until("agrees")
    visit.answers("A-3: display")
    visit.answers("Who receives")
    visit.answers("no certificate")
    visit.answers("certificate that the CA issued")
    visit.answers("recovery certificate")
    visit.until("2 of 3 meters were compared")
    visit.until("20 answers")
    visit.until("1 of 3 meters were not compared.*\n.*gardien commission flats")
    assert visit.ended() == 1
    plain = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", visit.shown)
    # what the person types, a path, may be longer
    wide = [line for line in plain.splitlines() if len(line) > 80 and str(tmp_path) not in line]
    assert wide == []
    text = config.read_text()
    assert f"sdm120-{one}:" in text
    meters = json.loads(gardien("meter", "list", "--json", "-c", config).output)["meters"]
    current = {one["label"]: (one["serial"], one["proof"]) for one in meters if one["in_force"]}
    assert current == {"A-1": (one, "display"), "A-2": (two, "display"), "A-3": (three, "none")}


def walk(config, building, labels=("A-1", "A-2", "A-3")):
    """A building whose list is recorded."""
    serials = [meter["serial"] for meter in building["meters"]]
    path = config.with_name("list.csv")
    pairs = zip(serials, labels, strict=False)
    path.write_text("serial;dwelling\n" + "".join(f"{a};{b}\n" for a, b in pairs))
    homes = config.with_name("homes.csv")
    homes.write_text("label;type\n" + "".join(f"{label};dwelling\n" for label in labels))
    assert not gardien("place", "import", homes, "--as", "alice", "-c", config).exit_code
    words = ("meter", "import", path, "--offline", "--as", "alice", "-c", config)
    assert not gardien(*words).exit_code
    return serials


def test_a_visit_that_is_interrupted_goes_on_where_it_was(config, building, terminal):
    walk(config, building)
    steps = dict.fromkeys(("building", "lines", "scan", "list", "match"), 1)
    file = config.with_name("state") / "visit.json"
    file.write_text(json.dumps({"steps": steps, "answers": 5, "person": 60, "machine": 90}))
    visit = terminal("commission", "-c", config)
    visit.answers("A-1: display", display(building, 1))
    visit.until("agrees")
    visit.until("A-2: display")
    # somebody at the page has made a step meanwhile
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"steps": kept["steps"] | {"report": 7}}))
    visit.interrupt()
    assert visit.ended() == 1
    assert json.loads(file.read_text())["steps"].keys() == {*steps, "report"}
    assert f"To continue:\n    > gardien commission --config {config}" in visit.shown
    killed = terminal("commission", "-c", config)
    killed.answers("A-2: display", display(building, 2))
    killed.until("agrees")
    killed.until("A-3: display")
    killed.process.kill()  # the power fails
    killed.ended()
    last = terminal("commission", "-c", config)
    last.answers("A-3: display", "b")
    last.answers("A-3: display", "q")
    assert last.ended() == 1
    kept = json.loads(file.read_text())
    assert kept["answers"] == 5 + 1 + 1 + 2
    assert kept["person"] >= 60


def test_a_file_answers_and_the_summary_is_json(config, building):
    serials = walk(config, building)
    answers = config.with_name("answers.json")
    values = {"A-1/elec.imp": display(building, 1), "A-2/elec.imp": "54321", "A-3/elec.imp": "q"}
    answers.write_text(json.dumps(values))
    words = ("commission", "flats", "--answers", answers, "--as", "alice", "-c", config)
    stopped = gardien(*words, "--json")
    assert "no other meter reads this value" in " ".join(stopped.output.split())
    ten_times = f"{float(display(building, 3)) / 10:.2f}"
    answers.write_text(json.dumps({"A-3/elec.imp": ten_times}))
    done = subprocess.run([GARDIEN, *words, "--json"], capture_output=True, text=True, check=False)
    assert "the values are 10 times too high" in " ".join(done.stderr.split())
    summary = json.loads(done.stdout)
    assert (summary["meters"], summary["proven"]) == (3, 1)
    codes = {finding["code"] for finding in summary["findings"]}
    assert codes == {
        "visit.unproven", "visit.uplink", "visit.certificate", "visit.recovery", "visit.daemon",
        "visit.factor",
    }  # fmt: skip
    (wrong,) = [one for one in summary["findings"] if one["code"] == "visit.factor"]
    assert f"A-3 {serials[2]}: the values are 10 times too high" in wrong["what"]["text"]
    assert done.returncode == 1
    assert serials[0] not in (config.with_name("state") / "visit.json").read_text()


def test_meters_that_are_missing_swapped_or_on_no_list_are_named(config, building):
    serials = walk(config, building, ("A-1", "A-2"))
    path = config.with_name("more.csv")
    path.write_text("serial;dwelling\n777777;A-2\n")
    assert not gardien("meter", "import", path, "--offline", "--as", "a", "-c", config).exit_code
    done = gardien("meter", "match", "-c", config)
    assert done.exit_code == 1
    assert "777777 (A-2): no device reports this number" in done.output
    assert f"m-3 says {serials[2]}" in done.output
    wrong = ("A-2", "elec.imp", "m-2")
    refused = gardien("meter", "swap", *wrong, "--as", "a", "-c", config)
    assert refused.exit_code == 1
    assert "no meter of this place is both recorded and on a line" in str(refused.exception)
    # the serial numbers are known once the meters were asked
    walked = gardien(
        "commission", "match", "--answers", answered(config), "--as", "a", "-c", config
    )
    assert "gardien commission scan" in walked.output


def test_a_visit_that_is_done_is_repeated_only_if_it_is_wanted(config, building, terminal):
    walk(config, building)
    steps = ("building", "lines", "scan", "list", "match", "flats", "delivery", "report")
    file = config.with_name("state") / "visit.json"
    file.write_text(json.dumps({"steps": dict.fromkeys(steps, 1)}))
    visit = terminal("commission", "-c", config, LANG="fr_FR.UTF-8")
    visit.answers("Les refaire ?")
    visit.until("0 compteurs sur 3 ont été comparés")
    assert visit.ended() == 1
    visit = terminal("commission", "-c", config)
    visit.answers("Repeat them", "y")
    visit.until("The syndic's list \\(1/7\\)")


def test_a_dead_meter_is_named_and_does_not_stop_the_walk(config, building):
    walk(config, building)
    with socket.create_connection(("127.0.0.1", building["control"])) as line:
        line.sendall(b"silence 0 2\n")
        line.recv(200)
    file = answered(config, **{"A-1/elec.imp": display(building, 1)})
    done = gardien("commission", "flats", "--answers", file, "--as", "alice", "-c", config)
    output = " ".join(done.output.split())
    assert f"A-2: the meter {building['meters'][1]['serial']} was not found on the lines" in output
    assert "1 of 3 meters were compared" in output
    assert "1 meter of the list was not found" in output


def test_what_a_search_found_is_kept_if_it_is_interrupted(tmp_path, building, terminal):
    config = tmp_path / "config.yaml"
    text = CONFIG.format(port=building["port"], state=tmp_path / "state")
    config.write_text(re.sub("  m-.*\n", "", text))
    visit = terminal("commission", "scan", "-c", config)
    visit.answers("Search these lines")
    visit.until("found unit 2")
    visit.interrupt()
    visit.until("added to")
    assert visit.ended() == 1
    assert "The visit is interrupted" in visit.shown
    assert f"sdm120-{building['meters'][1]['serial']}" in config.read_text()


def test_the_inputs_of_a_pulse_collector_are_added_and_matched(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.mbus", "--meters", "1"], stdout=subprocess.PIPE, text=True
    )
    try:
        line = json.loads(process.stdout.readline())
        config = tmp_path / "config.yaml"
        text = CONFIG.format(port=line["port"], state=tmp_path / "state")
        text = re.sub("  m-.*\n", "", text).replace("modbus-tcp", "mbus-tcp")
        config.write_text(text.replace(", timeout: 1s", ""))
        (tmp_path / "state").mkdir()
        # as a search leaves it: the collector answers, and its inputs are on the list only
        collectors = {line["inputs"][0].partition("/")[0]: "riser"}
        (tmp_path / "state" / "visit.json").write_text(json.dumps({"collectors": collectors}))
        path = tmp_path / "list.csv"
        path.write_text("Appt;N° compteur;Voie;Grandeur\n"
                        + "".join(f"A-{n};{one.replace('/', ';')};eau froide\n"
                                  for n, one in enumerate(line["inputs"])))  # fmt: skip
        file = answered(config, **{"list.file": str(path)})
        for step in ("list", "match"):
            done = gardien("commission", step, "--answers", file, "--as", "alice", "-c", config)
        assert "2 inputs of pulse collectors were added" in done.output
        assert "matched: 2" in done.output
        assert re.search('"99000001/2"\n    profile: mbus-pulse-cold-water', config.read_text())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def answered(config, **values):
    path = config.with_name("answers.json")
    path.write_text(json.dumps(values))
    return path


def test_a_scan_keeps_the_comments_and_a_copy_of_the_configuration(config, building):
    before = config.read_text()
    lines = before.splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "m-3" not in line))
    gardien("commission", "scan", "--answers", answered(config), "--as", "alice", "-c", config)
    text = config.read_text()
    assert "# written by hand" in text
    assert "# to the 4th floor" in text
    assert f"sdm120-{building['meters'][2]['serial']}: {{link: riser, address: 3" in text
    (copy,) = config.parent.glob("config.yaml.bak-*")
    assert copy.read_text() == "".join(line for line in lines if "m-3" not in line)


DAEMON = """\
building: {{name: Les Alpins}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 500ms}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 1s}}
  m-9: {{link: riser, address: 9, profile: eastron-sdm120, every: 1s}}
clock: {{source: system}}
state: {state}
"""


@pytest.fixture
def running(config, building):
    config.write_text(DAEMON.format(port=building["port"], state=config.with_name("state")))
    walk(config, building, ("A-1",))
    daemon = subprocess.Popen([GARDIEN, "run", "-c", config], stderr=subprocess.PIPE, text=True)
    wait_until((config.with_name("state") / "gardien.sock").exists)
    yield config
    daemon.terminate()
    daemon.communicate()


def lines_of(words, number, **environment):
    """The first lines that a program prints."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    lines = [json.loads(process.stdout.readline()) for _ in range(number)]
    process.terminate()
    process.wait()
    process.stdout.close()
    return lines


def test_live_values_are_drawn_in_place_and_printed_as_lines_in_a_pipe(running, terminal):
    screen = terminal("watch", "--every", "0.2", "-c", running)
    screen.until(r"! m-9 +.*silent")
    screen.until(r"  A-1 m-1 +electricity +[0-9.,]+ kWh")
    screen.interrupt()
    assert screen.ended() == 0
    assert screen.shown.count("\x1b[2J") == 1  # cleared once, and then drawn over
    assert screen.shown.rstrip().endswith("\x1b[?25h")  # the cursor is back
    words = (GARDIEN, "watch", "--json", "--every", "0.2", "-c", running)
    rows = lines_of(words, 8, **os.environ)
    assert [row for row in rows if row.get("device") == "m-1" and row["value"]]
    unnamed = {one: os.environ[one] for one in os.environ.keys() - {"SUDO_USER", "GARDIEN_AS"}}
    # nobody has said who looks
    assert not any(row.get("value") for row in lines_of(words, 8, **unnamed))


def test_a_visit_beside_a_running_agent_makes_its_calls_there(running, building):
    warning = {"text": "two", "message": "two", "values": {}}
    kept = {"steps": {"scan": 1}, "warnings": [{"text": warning, "devices": ["m-1", "m-9"]}]}
    (running.with_name("state") / "visit.json").write_text(json.dumps(kept))
    file = answered(running, **{"A-1/elec.imp": display(building, 1)})
    words = ("commission", "flats", "--answers", file, "-c", running)
    done = subprocess.run([GARDIEN, *words, "--json"], capture_output=True, text=True, check=False)
    summary = json.loads(done.stdout)
    assert summary["proven"] == 1, done.stderr
    # what a search has guessed about a meter counts until its display was compared
    assert "m-9: two" in {finding["what"]["text"] for finding in summary["findings"]}
    assert "visit.daemon" not in {finding["code"] for finding in summary["findings"]}


LOTS = """\
Copropriété Les Alpins;;;;
Lot;Étage;Porte;Compteur chauffage (calories);Compteur EF n°;Module;Voie impulsion
12;3;A;45120001;45120002;;
13;3;B;45120003;;;
Total;;;2;1;;
"""


def test_the_columns_of_a_syndics_own_sheet_are_recognised_and_each_row_keeps_its_line():
    columns = recognised(LOTS, "lots.csv", {})
    assert [column.meaning for column in columns] == [
        "lot", "floor", "door", "serial of heat", "serial of cw", "", "input",
    ]  # fmt: skip
    made = lists(LOTS, "lots.csv", [column.meaning for column in columns])
    assert made.places.splitlines()[1:4] == [
        "lot;floor;door;type", "12;3;A;dwelling", "13;3;B;dwelling",
    ]  # fmt: skip
    heat, cold = made.meters
    assert heat.splitlines()[1:4] == [
        "serial;lot;floor;door;channel", "45120001;12;3;A;heat", "45120003;13;3;B;heat",
    ]  # fmt: skip
    assert cold.splitlines()[2] == "45120002;12;3;A;cw"


def test_a_meaning_that_a_person_confirmed_is_remembered():
    columns = recognised("Appt;Réf. X\nA-1;45\n", "x.csv", {"ref x": "serial"})
    assert [column.meaning for column in columns] == ["dwelling", "serial"]


def test_an_input_of_a_pulse_collector_is_a_meter_of_its_own():
    text = "Appt;N° module;Voie\nA-1;99000001;1\nA-2;99000001;2\n"
    made = lists(text, "x.csv", ["dwelling", "serial", "input"])
    assert made.meters == ("serial;dwelling\n99000001/1;A-1\n99000001/2;A-2\n",)
