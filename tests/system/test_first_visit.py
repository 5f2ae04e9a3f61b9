"""The first visit to a building of 40 flats with five faults, typed by a person at a terminal."""

import datetime as dt
import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.core.finding import Finding
from tests.installer import Control, Installer, first_visit
from tests.terminal import Terminal
from tests.waiting import wait_until

GARDIEN = Path(sys.executable).with_name("gardien")
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
        self._control = Control(about["control"])
        self.asked = self._control.asked

    def close(self):
        self._control.close()
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


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
        answers = first_visit(building.workbook, building.ports.values(), config, quick=True)
        person.answers(answers, r"what is still open")
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
