"""Rule G4: nothing leaves for a meter whose serial number is not the installation's."""

import pytest

from agent.registry.index import Unknown
from agent.registry.records import Installation
from tests.unit.registry.building import HOME, NEIGHBOUR, NOW, facts, installed, lived


def whose(*documents, device="sdm-12", serial="45123477", channel="heat", t=NOW):
    found = facts(*documents).whose(device, serial, channel, t)
    return found.place if isinstance(found, Installation) else found


def test_a_meter_is_known_by_the_serial_number_it_says():
    assert whose(installed(serial="45123477")) == HOME


@pytest.mark.parametrize("written", ["045123477", "4512 3477", "45-123-477", " 45123477 "])
def test_a_serial_number_is_recognised_as_people_write_it(written):
    assert whose(installed(serial=written)) == HOME


def test_a_meter_that_nobody_installed_is_nobodys():
    assert whose() is Unknown.NO_INSTALLATION
    assert whose(installed(serial="45123478")) is Unknown.NO_INSTALLATION
    assert whose(installed(serial="45123477"), serial=None) is Unknown.NO_INSTALLATION


def test_another_serial_number_than_the_installed_one_is_nobodys():
    """Rule M7."""
    assert whose(installed(device="sdm-12", serial="1")) is Unknown.SERIAL_DIFFERS


def test_another_serial_number_is_nobodys_even_if_that_meter_is_installed_elsewhere():
    here = installed(device="sdm-12", serial="1")
    elsewhere = installed(NEIGHBOUR, serial="45123477", id_="i2")
    assert whose(here, elsewhere) is Unknown.SERIAL_DIFFERS


def test_a_meter_under_another_devices_name_is_nobodys():
    assert whose(installed(device="sdm-13", serial="45123477")) is Unknown.OTHER_DEVICE


def test_a_device_waits_until_its_serial_number_is_recorded():
    assert whose(installed(device="sdm-12")) is Unknown.NOT_PINNED
    assert whose(installed(device="sdm-12"), serial=None) is Unknown.NOT_PINNED


def test_a_pinned_device_must_say_its_serial_number_again():
    """Rule I17."""
    pinned = installed(device="sdm-12", serial="45123477", pinned=True)
    assert whose(pinned) == HOME
    assert whose(pinned, serial=None) is Unknown.SERIAL_UNSAID


def test_a_device_that_has_no_serial_number_is_known_by_the_one_that_people_read_on_it():
    """Rule I18."""
    assert whose(installed(device="sdm-12", serial="45123477"), serial=None) == HOME


def test_an_installation_holds_from_its_first_second_to_before_its_last():
    """Rule I9."""
    old = installed(device="sdm-12", serial="45123477", until=NOW + 60)
    assert whose(old, t=NOW - 1) is Unknown.NO_INSTALLATION
    assert whose(old, t=NOW) == whose(old, t=NOW + 59) == HOME
    assert whose(old, t=NOW + 61) is Unknown.NO_INSTALLATION


def test_the_instant_of_its_end_is_the_old_meters_unless_another_follows():
    """Rule I10."""
    old = installed(device="sdm-12", serial="45123477", until=NOW + 60)
    new = installed(device="sdm-12", serial="99", since=NOW + 60, id_="i2")
    assert whose(old, t=NOW + 60) == HOME
    assert whose(old, new, t=NOW + 60) is Unknown.SERIAL_DIFFERS
    assert whose(old, new, serial="99", t=NOW + 60) == HOME


def test_two_channels_of_one_meter_may_measure_two_places():
    one = installed(serial="45123477", channel="heat")
    other = installed(NEIGHBOUR, serial="45123477", channel="cw", id_="i2")
    assert whose(one, other) == HOME
    assert whose(one, other, channel="cw") == NEIGHBOUR
    assert whose(one, other, channel="dhw") is Unknown.NO_INSTALLATION


def test_the_latest_version_of_a_document_counts():
    """Rule I11."""
    moved = installed(NEIGHBOUR, serial="45123477")
    assert whose(installed(serial="45123477"), moved) == NEIGHBOUR


def test_turns_are_the_instants_after_start_up_to_end():
    known = facts(lived(since=10, until=20), installed(serial="1", since=20, until=30))
    assert known.turns(10, 30) == [11, 20, 21, 30]
    assert known.turns(9, 19) == [10, 11]
    assert known.turns(31, 99) == []
