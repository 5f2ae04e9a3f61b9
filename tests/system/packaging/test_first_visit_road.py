"""From `apt install` to a verified building of 40 flats, `hil.first_visit`, at a terminal.

The machine is a clean Debian 13. Its serial ports are pseudo terminals, on which Modbus RTU and
M-Bus meters answer. Each command is taken from docs/install.md.
"""

import json
import re
import shutil
import time

import pytest

from agent.core.finding import Finding
from hil.first_visit import WORKBOOK, FirstVisit
from tests.depth import LONG
from tests.system.packaging import machine, road
from tests.system.packaging.road import GATEWAY
from tests.system.packaging.test_visit_road import Installer, gateway, newest

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.alone,
    pytest.mark.skipif(not LONG, reason="two minutes: GARDIEN_TORTURE=1"),
]

CONFIG = "/etc/gardien/config.yaml"


class AtTerminal(Installer):
    """Types at a terminal, and answers what is asked there."""

    def __init__(self, machines, about):
        super().__init__(machines)
        self._visit = {
            "control": about["control"],
            "ports": [*about["ports"].values()],
            "workbook": f"/root/{WORKBOOK}",
            "config": CONFIG,
            "answers": {r"into which folder\?": "/root"},
        }
        self.answered, self.took = [], []

    def done(self, words):
        visit = self._visit if " commission" in words else None
        job = {"command": f"{road.SUDO}{words}", "visit": visit}
        (self._machines.root(GATEWAY) / "opt/job.json").write_text(json.dumps(job))
        began = time.monotonic()
        said = self._machines(
            GATEWAY, "PYTHONPATH=/opt/hil python3 -m tests.installer /opt/job.json"
        )
        self.took.append(time.monotonic() - began)
        seen = json.loads(said)
        self.answered.append(seen["typed"])
        return seen["shown"], seen["status"]


def building_opened(machines):
    """Let the meters answer on serial ports of the machine that the agent may open."""
    unit = "systemd-run --quiet --unit=building --setenv=PYTHONPATH=/opt/hil python3 -m"
    machines(GATEWAY, f"{unit} hil.first_visit --at-once")
    journal = "journalctl -u building -o cat | grep '^{' || true"
    road._until(lambda: machines(GATEWAY, journal))
    about = json.loads(machines(GATEWAY, journal).splitlines()[0])
    # as a udev rule would; the unit's DevicePolicy=closed includes pseudo terminals
    ports = " ".join(about["ports"].values())
    machines(GATEWAY, f"chgrp dialout {ports}; chmod 660 {ports}")
    return about


def visited(built):
    """What the installer saw at each command."""
    seen = {}
    with gateway(built) as machines:
        root = machines.root(GATEWAY)
        home = root / "root"
        (root / "opt/hil/tests").mkdir()
        for name in ("__init__.py", "installer.py", "terminal.py"):
            shutil.copy(machine.TOP / "tests" / name, root / "opt/hil/tests")
        FirstVisit.planned().write_workbook(home / WORKBOOK)
        person, began = AtTerminal(machines, building_opened(machines)), time.monotonic()
        seen["install"] = person.types(
            "sudo apt install --no-install-recommends ./gardien_0.1.0_all.deb unattended-upgrades"
        )
        seen["clock"] = person.types('gardien clock set "$(date -Is)" --as anne')
        seen["visit"] = person.types("sudo gardien commission", status=1)
        seen["start"] = person.types("sudo systemctl enable --now gardien")
        seen["report"] = person.types("sudo gardien commission report", status=1)
        file = newest(home, "json")
        seen["document"] = json.loads(file.read_text("utf-8"))["report"]
        seen["page"] = newest(home, "html").read_text("utf-8")
        seen["verified"] = person.types(
            "gardien report verify gardien-report-2026-11-28.json --kid FINGERPRINT",
            FINGERPRINT=seen["document"]["kid"], **{"gardien-report-2026-11-28.json": file.name},
        )  # fmt: skip
        seen["minutes"] = (time.monotonic() - began) / 60
        seen["person"] = person
        seen["meters"] = json.loads(machines(GATEWAY, "gardien meter list --json"))["meters"]
        seen["status"] = machines(GATEWAY, "gardien status || true")
    return seen


@pytest.fixture(scope="module")
def visit(built):
    return visited(built)


def flowing(text):
    """A text without its line breaks."""
    return " ".join(text.split())


@pytest.fixture
def still_open(visit):
    """What the visit named at its end."""
    return flowing(visit["visit"].split("what is still")[-1])


@pytest.fixture(scope="module")
def faults():
    return FirstVisit.planned().faults()


def named(faults):
    """The label and the number of each meter with which something is wrong."""
    address, dead, factor = faults["address"], faults["dead"], faults["factor"]
    yield from zip(address["labels"], address["serials"], strict=True)
    yield dead["label"], dead["serial"]
    yield factor["label"], factor["serial"]
    yield from faults["swapped"].items()


def test_one_visit_of_documented_commands_ends_with_a_verified_building(visit, faults, still_open):
    assert "76 of 80 meters were compared with their display" in still_open
    recorded = [one for one in visit["meters"] if one["in_force"]]
    assert len(recorded) == 80
    unproven = {one["serial"] for one in recorded if one["proof"] != "display"}
    wrong = {faults["dead"]["serial"], faults["factor"]["serial"], *faults["address"]["serials"]}
    assert unproven == wrong
    assert f"fingerprint of its key: {visit['document']['kid']}" in visit["verified"]
    person = visit["person"]
    for command, answered, took in zip(person.typed, person.answered, person.took, strict=True):
        print(f"{took:6.1f} s  {len(answered):3} answers  {command}")
        for question, answer, seconds in answered:
            print(f"{seconds:12.1f} s  {flowing(question)} {answer}")
    print(f"{visit['minutes']:.1f} min of the machine")


def test_all_faults_are_named_at_the_end_of_the_visit(faults, still_open):
    address, dead, factor = faults["address"], faults["dead"], faults["factor"]
    pairs = zip(address["labels"], address["serials"], strict=True)
    for label, serial in [*pairs, (dead["label"], dead["serial"])]:
        assert f"{serial} ({label}): no device reports this number" in still_open
    assert f"more than one device answers at {address['unit']}" in still_open
    assert f"{factor['label']} {factor['serial']}: it reads 10 times" in still_open
    for label, serial in faults["swapped"].items():
        assert re.search(rf"{serial}( \(\S+\))? measures {label}", still_open)


def test_all_faults_are_named_in_the_signed_report_and_on_its_page(visit, faults):
    findings = map(Finding.of, visit["document"]["findings"])
    told = " ".join(str(finding.what) for finding in findings)
    for label, serial in named(faults):
        assert label in told
        assert serial in told
        assert serial in visit["page"]


def test_the_agent_reads_the_serial_lines_after_the_visit(visit):
    # of 80 meters one is dead, and two cannot be told apart
    assert "all 77 devices answer" in visit["status"], visit["status"]
