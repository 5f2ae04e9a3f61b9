"""The visit of docs/install.md, typed in a clean Debian 13: from `apt install` to 40 flats.

Each command is taken from the page. The answers of the person come from a file. In the building one
meter is dead and two are listed in each other's flat.
"""

import json
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from openpyxl import Workbook

from tests.system.packaging import machine, road
from tests.system.packaging.conftest import needed
from tests.system.packaging.road import GATEWAY

pytestmark = [pytest.mark.timeout(600), pytest.mark.alone]

PAGE = (machine.TOP / "docs/install.md").read_text("utf-8")
FLATS = [
    f"{block}-{floor}-{door}" for block in "AB" for floor in range(1, 6) for door in range(1, 5)
]
DEAD = "A-2-3"
# what a person sees in the flats: kWh with one decimal, of the meter that hangs there
DISPLAYS = """
import json, socket, struct
with socket.create_connection(("127.0.0.1", 15020)) as line:
    shown = {}
    for unit, label in UNITS.items():
        line.sendall(struct.pack(">HHHBBHH", 1, 0, 6, unit, 4, 72, 2))
        shown[f"{label}/elec.imp"] = f"{struct.unpack('>f', line.recv(260)[9:13])[0]:.1f}"
print(json.dumps(shown))
"""
SILENCE = """
import socket
with socket.create_connection(("127.0.0.1", PORT)) as line:
    line.sendall(b"silence 0 UNIT\\n")
    line.recv(200)
"""


class Installer:
    """Types commands of the page, and no other."""

    def __init__(self, machines):
        self._machines = machines
        self.typed = []

    def types(self, command, more="", *, status=0, **filled):
        """Type a command as the page has it, with `more` of its options; what it printed.

        `filled`: what stands for another value on the page, and the value.

        Raises AssertionError if the page does not have it, or it ends with another status.
        """
        in_code = re.search(
            rf"(?m)^    (?:ssh root@gateway )?{re.escape(command)} *(?:#.*)?$", PAGE
        )
        assert in_code or f"`{command}`" in PAGE, f"the page has no command {command}"
        for option in re.findall(r"--[\w-]+", more):
            assert f"`{option}" in PAGE, f"the page does not explain {option}"
        for placeholder, value in filled.items():
            command = command.replace(placeholder, value)
        self.typed.append(f"{command} {more}".rstrip())
        words = self.typed[-1].replace(" apt install", road.APT)
        # Debian's own, which is not in this root
        words = words.replace(" unattended-upgrades", "")
        said, ended = self.done(words)
        assert ended == status, said
        return said

    def done(self, words):
        """What commands of a shell printed, and their status."""
        said = self._machines(GATEWAY, f"{{ {words}; }} 2>&1 || echo STATUS $?")
        ended = re.search(r"STATUS (\d+)\n\Z", said)
        return said, int(ended[1] if ended else 0)


@contextmanager
def gateway(built):
    """A clean machine that runs, with the package and the pretend meters as files."""
    with (
        tempfile.TemporaryDirectory(prefix="gardien-machine-", dir="/var/tmp") as folder,
        machine.layered(machine.root(needed()), Path(folder)) as root,
    ):
        shutil.copy(built, root / "root")
        shutil.copytree(machine.TOP / "hil", root / "opt/hil/hil")
        with road.booted({GATEWAY: root}) as machines:
            yield machines


def unlike(displays):
    """The two flats whose displays are least like those of any other flat."""

    def lone(flat):
        return min(abs(float(displays[flat]) - float(displays[x])) for x in displays if x != flat)

    return [flat.partition("/")[0] for flat in sorted(displays, key=lone)[-2:]]


def workbook(path, serials, one, other):
    """What the syndic's software exports; two meters are in each other's row."""
    listed = dict(zip(FLATS, serials, strict=True))
    listed[one], listed[other] = listed[other], listed[one]
    book = Workbook()
    book.active.append(["Bât.", "Étage", "Porte", "Nature", "Occupant", "Cpt élec."])
    for label, serial in listed.items():
        book.active.append([*label.split("-"), "Appartement", "DURAND", serial])
    book.save(path)


def newest(home, ending):
    """The last report that was written."""
    return max(home.glob(f"gardien-report-*.{ending}"), key=lambda file: file.stat().st_mtime_ns)


def python(machines, script, **values):
    """Run a script in the machine, which is not what the installer types."""
    for name, value in values.items():
        script = script.replace(name, str(value))
    path = machines.root(GATEWAY) / "opt/script.py"
    path.write_text(script)
    return machines(GATEWAY, "python3 /opt/script.py")


@pytest.fixture(scope="module")
def visit(built):
    """What the installer saw at each command."""
    seen = {}
    with gateway(built) as machines:
        road.serve_meters(machines, len(FLATS))
        home = machines.root(GATEWAY) / "root"
        journal = "journalctl -u building -o cat | grep '^{' || true"
        road._until(lambda: machines(GATEWAY, journal))
        about = json.loads(machines(GATEWAY, journal).splitlines()[0])
        living = {n: label for n, label in enumerate(FLATS, 1) if label != DEAD}
        swapped = unlike(json.loads(python(machines, DISPLAYS, UNITS=living)))
        serials = [one["serial"] for one in about["lines"][0]["meters"]]
        workbook(home / "liste.xlsx", serials, *swapped)
        dead = FLATS.index(DEAD) + 1
        python(machines, SILENCE, PORT=about["control"], UNIT=dead)
        person, began = Installer(machines), time.monotonic()
        seen["install"] = person.types(
            "sudo apt install --no-install-recommends ./gardien_0.1.0_all.deb unattended-upgrades"
        )
        seen["clock"] = person.types('gardien clock set "$(date -Is)" --as anne')
        answers = {
            "building.name": "Les Alpins",
            "lines.find": "n",  # the machine has no serial port
            "lines.line": "modbus-tcp 127.0.0.1:15020",
            "list.file": "/root/liste.xlsx",
        }
        (home / "answers.json").write_text(json.dumps(answers))
        seen["visit"] = person.types("sudo gardien commission", "--answers answers.json", status=1)
        displays = json.loads(python(machines, DISPLAYS, UNITS=living))
        # at some times of the day another meter shows nearly the same
        plates = {f"plate/{one}": serials[FLATS.index(one)] for one in swapped}
        agreed = {f"swap/{one}": "y" for one in swapped}
        (home / "flats.json").write_text(json.dumps(displays | plates | agreed))
        seen["flats"] = person.types(
            "sudo gardien commission flats", "--answers flats.json", status=1
        )
        seen["check"] = person.types("sudo gardien check")
        seen["start"] = person.types("sudo systemctl enable --now gardien")
        seen["status"] = person.types("sudo gardien status", status=1)
        seen["report"] = person.types("sudo gardien report")
        seen["page"] = newest(home, "html").read_text("utf-8")
        file = newest(home, "json")
        seen["document"] = json.loads(file.read_text("utf-8"))["report"]
        seen["verified"] = person.types(
            "gardien report verify gardien-report-2026-11-28.json --kid FINGERPRINT",
            FINGERPRINT=seen["document"]["kid"], **{"gardien-report-2026-11-28.json": file.name},
        )  # fmt: skip
        seen["typed"], seen["minutes"] = person.typed, (time.monotonic() - began) / 60
    return seen


def test_one_visit_of_documented_commands_ends_with_compared_flats(visit):
    assert "39 devices added" in visit["visit"]
    assert "40 meters recorded" in visit["visit"]
    assert "seem to be swapped" in visit["flats"]
    assert "39 of 40 meters were compared with their display" in visit["flats"]
    assert "/etc/gardien/config.yaml is fine" in visit["check"]
    print(*visit["typed"], f"{visit['minutes']:.1f} min of the machine", sep="\n")


def test_what_is_open_is_named_with_its_command_and_nothing_else(visit):
    said = " ".join(visit["flats"].split())
    assert f"({DEAD}): no device reports this number > gardien commission scan" in said
    assert "1 of 40 meters were not compared" in said
    for step in ("no uplink is configured", "no certificate", "no recovery certificate"):
        assert step in said
    # of all other addresses the line says that there is no device
    assert "exception" not in visit["visit"]


def test_the_time_that_was_given_before_the_visit_dates_the_readings_of_the_daemon(visit):
    assert "39 of 39 devices answer" in visit["status"]
    assert "only a person's word keeps the clock" in visit["status"]
    assert "readings are kept undated" not in visit["status"]


def test_the_report_is_a_page_and_a_signed_file_that_name_the_dead_meter(visit):
    document = visit["document"]
    assert f"fingerprint of its key: {document['kid']}" in visit["verified"]
    assert len(document["devices"]) == len(FLATS) - 1
    assert document["building"] == "Les Alpins"
    (unread,) = document["unread_meters"]
    assert unread["label"] == DEAD
    assert f"{unread['meter']} ({DEAD})" in visit["page"]
