"""The first visit to a building of 40 flats with five faults, typed by a person at a terminal."""

import datetime as dt
import json
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.core.finding import Finding
from tests.terminal import Terminal
from tests.waiting import wait_until

GARDIEN = Path(sys.executable).with_name("gardien")
DISPLAY = re.compile(r"(?P<label>[AB]-\d-\d): display of the (?P<what>heat|electricity) meter")
CHANNELS = {"heat": ("heat", 3), "electricity": ("elec.imp", 1)}
"""what a display shows, and its digits behind the point"""
MOST_CPU = 60
"""seconds of one core for all programs of a visit"""


class Building:
    """The pretend building, in a process of its own."""

    def __init__(self, folder, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hil.first_visit", folder, *options],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        about = json.loads(self.process.stdout.readline())
        self.ports, self.workbook = about["ports"], about["workbook"]
        self._socket = socket.create_connection(("127.0.0.1", about["control"]))
        self._control = self._socket.makefile("rw")

    def asked(self, question):
        self._control.write(f"{question}\n")
        self._control.flush()
        return json.loads(self._control.readline())

    def close(self):
        self._control.close()
        self._socket.close()
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Installer:
    """Walks through the building, and answers what a visit asks."""

    def __init__(self, terminal, building, patience=120.0):
        self.terminal, self.building, self.patience = terminal, building, patience
        self.typed = []
        """each question with its answer"""
        self.plate = ""
        """the number of the meter before which the person stands"""

    def answers(self, answers, until):
        """Answer each question until a text is shown. A display is read in its flat."""
        # a question may be broken into lines
        answers = {question.replace(" ", r"\s+"): answer for question, answer in answers.items()}
        until = until.replace(" ", r"\s+")
        patterns = "|".join([DISPLAY.pattern, *answers, until])
        begins = 0
        while True:
            asked = self.terminal.until(f"(?:{patterns})", self.patience)
            if re.fullmatch(until, asked[0]):
                return
            if asked["label"]:
                channel, digits = CHANNELS[asked["what"]]
                shows = self.building.asked(f"display {asked['label']} {channel}")["shows"]
                again = bool(self.typed) and self.typed[-1][0] == asked[0]
                # read twice already: leave it open
                answer = "" if again else f"{shows:.{digits}f}"
                self.plate = self.building.asked(f"plate {asked['label']} {channel}")["number"]
                begins = len(self.terminal.shown)
            elif "Record that" in " ".join(asked[0].split()):
                answer = "y" if self.plate in asked[0] else "n"
            elif "on the plate" in " ".join(asked[0].split()):
                choice = re.search(rf"\n +(\d+) {self.plate} \(", self.terminal.shown[begins:])
                answer = choice[1] if choice else ""
            else:
                answer = next(
                    a for question, a in answers.items() if re.fullmatch(question, asked[0])
                )
                answer = answer() if callable(answer) else answer
            self.typed.append((asked[0], answer))
            self.terminal.types(answer)


def first_visit(building, config, *, quick):
    """What an installer answers on the first visit. `quick`: nobody else is on the M-Bus line."""
    lists = [building.workbook, ""]

    def no_more_lines():
        if quick:
            text = config.read_text()
            assert "baudrate: 2400}" in text
            config.write_text(text.replace("baudrate: 2400}", "baudrate: 2400, listen: 0s}"))
        return ""

    return {
        r"Name of the building\?": "Les Alpins",
        r"Its place id": "",
        r"Time zone\?": "",
        r"list of dwellings or meters": lambda: str(lists.pop(0)),
        r"Is this right\?": "",
        r"Record \d+ \w+": "",
        r"Read the sheet": "",
        r"Search for lines now\?": " ".join(building.ports.values()),
        r"Add this line\?": "",
        r"Add a line": no_more_lines,
        r"Search these lines now": "",
        r"Search for meters that": "n",
        r"Record that \d+ measures": "",
        r"Which of these numbers is on the plate": "",
        r"Who receives": "",
        r"Write a request for the CA": "",
        r"certificate that the CA issued": "",
        r"The recovery certificate": "",
    }


@pytest.fixture
def building(tmp_path):
    opened = Building(tmp_path, "--at-once")
    yield opened
    opened.close()


def used():
    """Seconds of processor time of all programs that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def now_in_paris():
    return f"{dt.datetime.now(ZoneInfo('Europe/Paris')):%Y-%m-%dT%H:%M:%S}"


@pytest.mark.filterwarnings("ignore:This process")
def test_all_faults_of_a_building_are_found_and_named_on_the_first_visit(tmp_path, building):
    before, config, faults = used(), tmp_path / "config.yaml", building.asked("faults")
    dead, factor, address = faults["dead"], faults["factor"], faults["address"]
    terminal = Terminal(GARDIEN, "commission", "-c", config)
    daemon = None
    try:
        person = Installer(terminal, building)
        person.answers(first_visit(building, config, quick=True), r"what is still open")
        assert terminal.ended() == 1
        shown = " ".join(terminal.shown.split("what is still")[-1].split())
        assert "76 of 80 meters were compared with their display" in shown
        pairs = [*zip(address["labels"], address["serials"], strict=True)]
        for label, serial in [*pairs, (dead["label"], dead["serial"])]:
            assert f"{serial} ({label}): no device reports this number" in shown
        assert f"more than one device answers at {address['unit']}" in shown
        assert f"{factor['label']} {factor['serial']}: it reads 10 times" in shown
        for label, serial in faults["swapped"].items():
            assert re.search(rf"{serial}( \(\S+\))? measures {label}", shown)
        words = (GARDIEN, "meter", "list", "--json", "-c", config)
        meters = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)["meters"]
        recorded = [one for one in meters if one["in_force"]]
        heat = {one["label"]: one["serial"] for one in recorded if one["serial"][:2] == "45"}
        assert faults["swapped"].items() <= heat.items()
        unproven = {one["serial"] for one in recorded if one["proof"] != "display"}
        assert unproven == {dead["serial"], factor["serial"], *address["serials"]}

        daemon = subprocess.Popen([GARDIEN, "run", "-c", config], stderr=subprocess.DEVNULL)
        wait_until((tmp_path / "state" / "gardien.sock").exists)
        terminal = Terminal(GARDIEN, "commission", "report", "-c", config)
        answers = {r"What time is it": now_in_paris, r"into which folder\?": str(tmp_path)}
        Installer(terminal, building).answers(answers, r"what is still open")
        terminal.ended()
        (file,) = tmp_path.glob("gardien-report-*.json")
        findings = map(Finding.of, json.loads(file.read_text())["report"]["findings"])
        report = " ".join(str(finding.what) for finding in findings)
        for label, serial in [
            *pairs, (dead["label"], dead["serial"]), (factor["label"], factor["serial"]),
            *faults["swapped"].items(),
        ]:  # fmt: skip
            assert label in report
            assert serial in report
    finally:
        terminal.process.kill()
        terminal.process.wait()
        if daemon:
            daemon.terminate()
            daemon.wait()
    assert used() - before < MOST_CPU
