"""A recorded device confirms its profile, fails if it does not fit, and never has its number.

Guards rules F8, F21.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from agent.config.profiles import Profiles, rehearsed, whole_recording
from agent.config.recording import Recording, agrees, text_of_recording
from agent.core.errors import ConfigError, Refused
from agent.core.model import Point
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.registers import recorded
from agent.drivers.modbus.master import Cells, ModbusMaster
from agent.drivers.profile import FOLDER, RECORDED, Offer, profile
from tests.command import gardien

KEPT = Path(__file__).parents[1] / "drivers" / "recorded"
EVERY = sorted([*KEPT.glob(f"*{RECORDED}"), *FOLDER.glob(f"*{RECORDED}")])
SDM120 = KEPT / f"eastron-sdm120-simulated{RECORDED}"


def recording(**other):
    found = {
        "profile": "acme",
        "version": "0123456789ab",
        "recorded": dt.date(2026, 11, 28),
        "by": "alice",
        "display": {"energy_import": Decimal("12.5")},
        "test": {"holding": {"0": [1, 2]}, "reads": {"energy_import": Decimal("12.5")}},
    }
    return Recording(**{**found, **other})


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.name)
def test_every_recorded_device_is_read_by_its_profile_as_its_display_showed(path):
    found = whole_recording(path)
    assert found.display
    assert found.test["reads"]
    done = gardien("profile", "check", str(path))
    assert done.exit_code == 0, done.output


def test_there_is_a_recording_of_each_bus():
    assert {whole_recording(path).profile for path in EVERY} >= {"eastron-sdm120", "mbus-heat"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("profile: eastron-sdm120", "profile: eastron-sdm12", "profile: no profile"),
        ("  energy_import: ", "  energy_import: 9", "display.energy_import: the display shows 9"),
        ("    70: [0x", "    70: [0xF, 0x", "test.reads.frequency: these cells"),
        ("recorded: 2", "recorded: x", "recorded: "),
        ("display:\n", "display:\n  energy: 4\n", "display.energy: no point"),
    ],
)
def test_a_recording_that_does_not_fit_is_a_mistake_with_its_line(
    tmp_path, before, after, expected
):
    text = SDM120.read_text()
    assert before in text
    path = tmp_path / f"x{RECORDED}"
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigError) as caught:
        whole_recording(path)
    assert expected in str(caught.value)
    assert gardien("profile", "check", str(path)).exit_code == 1


def confirmed(folder, text, name="eastron-sdm120-1"):
    (folder / f"{name}{RECORDED}").write_text(text)
    return Profiles(folder).take("eastron-sdm72d" if "72d" in name else "eastron-sdm120").compared


def test_a_recorded_device_confirms_its_profile_and_says_who_and_when(tmp_path):
    assert confirmed(tmp_path, SDM120.read_text()) == ("2026-11-28, the simulated building",)
    assert Profiles(tmp_path).names() == Profiles().names(), "a recording is no profile"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  energy_import: ", "  energy_import: 9"),
        ("display:", "number_agrees: false\ndisplay:"),
        ("test:", "tests:"),
        ("version:", "version: ["),
    ],
)
def test_one_that_does_not_agree_confirms_nothing_and_stops_nobody(tmp_path, before, after):
    assert confirmed(tmp_path, SDM120.read_text().replace(before, after, 1)) == ()


def test_one_that_compared_nothing_that_is_read_by_default_confirms_nothing(tmp_path):
    text = SDM120.read_text()
    head, _, rest = text.partition("display:\n")
    assert confirmed(tmp_path, f"{head}display: {{}}\n{rest[rest.index('test:') :]}") == ()


SERIAL = "45123477"
NUMBER = int(SERIAL)


@pytest.mark.parametrize(
    "leak",
    [
        {"by": f"alice, meter {SERIAL}"},
        {"profile": f"heat-{SERIAL}"},
        {"display": {"energy_import": Decimal(SERIAL)}},
        {"test": {"holding": {"4": [NUMBER >> 16, NUMBER & 0xFFFF]}, "reads": {}}},
        {"test": {"holding": {"4": [NUMBER & 0xFFFF, NUMBER >> 16]}, "reads": {}}},
        {"test": {"holding": {"4": [0x4512, 0x3477]}, "reads": {}}},
        {"test": {"holding": {"4": [0x1245, 0x7734]}, "reads": {}}},
        {"test": {"holding": {"4": [0x3435, 0x3132, 0x3334, 0x3737]}, "reads": {}}},
        {"test": {"holding": {"4": [0, *SERIAL.encode(), 0]}, "reads": {}}},
        {"test": {"holding": {"4": [9]}, "reads": {"energy_import": Decimal("45123.477")}}},
        {"test": {"records": "0C 78 77 34 12 45", "medium": 4, "reads": {}}},
        {"test": {"records": "0C 78 45 12 34 77", "medium": 4, "reads": {}}},
    ],
)
def test_the_serial_number_cannot_be_in_the_file_in_any_form(leak):
    with pytest.raises(Refused, match="the recording would show the serial number"):
        text_of_recording(recording(**leak), SERIAL)
    assert text_of_recording(recording(), SERIAL)
    assert text_of_recording(recording(**leak), "45123478")


def test_what_is_written_is_what_is_read_again(tmp_path):
    path = tmp_path / f"x{RECORDED}"
    text = text_of_recording(whole_recording(SDM120), None)
    path.write_text(text)
    assert text_of_recording(whole_recording(path), None) == text
    assert SDM120.read_text() == text


@pytest.mark.parametrize(
    ("shown", "read", "fits"),
    [
        ("12345", "12345.98", True),  # the display cuts
        ("12346", "12345.6", True),  # or rounds
        ("12345", "12347", True),  # ten minutes at 10 kW
        ("12345", "12350", False),
        ("1234.5", "12345", False),
    ],
)
def test_a_display_may_cut_its_last_digit_and_the_meter_counts_on(shown, read, fits):
    offer = Offer("input/0/uint32", "kWh", rating=Decimal(10))
    assert agrees("energy_import", offer, Decimal(read), Decimal(shown)) is fits


def test_only_the_cells_of_the_points_are_kept_and_the_number_is_another_one():
    cells = {"holding": {"0": [9, 1, 2, 9, 0x0145, 0xE5D2, 9]}}
    point, serial = (Point("m", n, "1", at, 60) for n, at in (
        ("energy", "holding/1/uint32"), ("serial", "holding/4/uint32")))  # fmt: skip
    samples, test = asyncio.run(ModbusMaster(Cells(cells)).record([point], serial))
    assert [sample.value for sample in samples] == [Decimal(21358034), Decimal(65538)]
    assert test == {"holding": {1: [1, 2], 4: [0x00BC, 0x614E]}}


@pytest.mark.parametrize(
    "name",
    ["sunspec-203", "siemens-pac2200", "carlo-gavazzi-em24", "comet-t5xxx", "finder-7m24",
     "sontex-supercal-531", "keba-p30"],
)  # fmt: skip
def test_a_recording_of_any_notation_gives_the_same_values_with_another_number(name):
    made = profile(name)
    at = {key: offer.at.replace("pause=500ms", "") for key, offer in made.points.items()}
    points = [Point("m", key, "1", where, 60) for key, where in at.items()]
    serial = Point("m", "serial", "1", made.serial.at, 0) if made.serial else None
    if serial and "pause=" in serial.at:
        serial = Point("m", "serial", "1", serial.at.replace("pause=500ms", ""), 0)
    samples, test = asyncio.run(ModbusMaster(Cells(made.test)).record(points, serial))
    again = {sample.point.name: sample.value for sample in rehearsed(made, test)}
    read = {sample.point.name: sample.value for sample in samples}
    assert {**again, "serial": 0} == {**read, "serial": 0}
    if serial:
        assert str(again["serial"]) == "12345678"
        assert str(read["serial"]) not in str(test)


def test_of_a_meter_only_measured_values_are_kept():
    records = (
        "0C 06 67 45 23 01"  # energy
        "0C 78 77 34 12 45"  # fabrication number
        "04 6D 32 17 3C 2B"  # date and time
        "0D FD 11 05 65 63 69 6C 61"  # customer
        "02 5A 8D 02"  # flow temperature
        "0F 01 02 03"  # manufacturer data
    )
    counted = bytes.fromhex("08 01 72 77 34 12 45 2D 2C 01 04 07 00 00 00" + records)
    frame = bytes((0x68, len(counted), len(counted), 0x68, *counted, sum(counted) & 0xFF, 0x16))
    test = recorded([decode(frame)])
    assert test == {"medium": 4, "records": "0C 06 67 45 23 01 02 5A 8D 02"}


def test_a_meter_that_encrypts_cannot_be_recorded():
    counted = bytes.fromhex("08 01 72 77 34 12 45 2D 2C 01 04 07 00 10 05" + "A7" * 16)
    frame = bytes((0x68, len(counted), len(counted), 0x68, *counted, sum(counted) & 0xFF, 0x16))
    with pytest.raises(Refused, match="encrypted"):
        recorded([decode(frame)])
