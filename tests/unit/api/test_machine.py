"""What `gardien doctor` says of the machine: each line fine, or what to do."""

import re

import pytest

from agent.api.diagnosis import machine
from agent.config import parse
from tests.unit.config.samples import SMALL

REPLACE = "It may fail soon. Replace it: docs/replace.md"


@pytest.fixture
def card(tmp_path):
    """A machine whose state lies on an eMMC; give what it says of its life."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\n/dev/mmcblk0p2 {tmp_path.resolve()} ext4 rw 0 0\n")

    def wear(told):
        device = tmp_path / "block/mmcblk0/device"
        device.mkdir(parents=True)
        if told is not None:
            (device / "life_time").write_text(told)
        return list(machine.wear(tmp_path / "state", tmp_path / "block", mounts))

    return wear


@pytest.mark.parametrize(
    ("told", "fine", "said"),
    [
        ("0x01 0x02\n", True, "mmcblk0 has used 10 to 20 % of its lifetime"),
        ("0x09 0x01\n", False, f"mmcblk0 has used 80 to 90 % of its lifetime. {REPLACE}"),
        (None, None, "mmcblk0 does not report it (SD cards do not): keep a spare card"),
    ],
)
def test_a_worn_card_is_to_be_replaced(card, told, fine, said):
    (found,) = card(told)
    assert (found.subject, found.fine, found.text) == ("card wear", fine, said)


def test_a_disk_says_nothing_of_wear(tmp_path):
    (tmp_path / "mounts").write_text("/dev/sda1 / ext4 rw 0 0\n")
    assert list(machine.wear(tmp_path, tmp_path, tmp_path / "mounts")) == []


def test_secrets_that_others_may_read_are_named_with_the_remedy(tmp_path):
    folder = tmp_path / "credentials"
    assert list(machine.secrets(tmp_path / "config.yaml")) == []
    folder.mkdir()
    for name, mode in (("broker", 0o600), ("bms", 0o640)):
        (folder / name).write_text("x")
        (folder / name).chmod(mode)
    (found,) = machine.secrets(tmp_path / "config.yaml")
    assert (found.fine, found.text.partition(": ")[2]) == (
        False,
        f"sudo chmod 600 {folder / 'bms'}",
    )
    (folder / "bms").chmod(0o400)
    (found,) = machine.secrets(tmp_path / "config.yaml")
    assert (found.fine, found.text) == (True, f"2 in {folder}, readable by their owner only")


def test_a_password_that_is_not_where_the_uplink_says_is_told(tmp_path):
    def passwords(reference):
        mqtt = 'transport: mqtt, url: "mqtts://b.example"'
        named = f'{{recipient: b.example, {mqtt}, user: gw, password: "{reference}"}}'
        config = parse(f"building: {{name: x}}\nuplinks:\n  b: {named}\n", "x")
        return [(one.subject, one.fine, one.text) for one in machine.passwords(config, tmp_path)]

    what, file = "uplink b: password", tmp_path / "word"
    for reference in (f"file:{file}", "credential:gardien_word"):
        file.unlink(missing_ok=True)
        do = f"The uplink cannot connect. Write the secret there. Run: sudoedit {file}"
        lacking = f"{reference}: {file}: No such file or directory. {do}"
        assert passwords(reference) == [(what, False, lacking)]
        file.write_text("\n")
        assert passwords(reference) == [(what, False, f"{reference}: {file} is empty. {do}")]
        file.write_text("secret\n")
        file.chmod(0o644)
        assert passwords(reference) == []
    assert passwords("env:WORD") == passwords("credential:other") == [], "only the service knows"


def test_an_adapter_that_is_not_plugged_in_or_not_for_gardien_is_told():
    def ports(port):
        line = f"links: {{riser: {{driver: modbus-rtu, port: {port}, baudrate: 9600}}}}\n"
        return list(machine.ports(parse(f"building: {{name: x}}\n{line}", "x"), set()))

    (gone,) = ports("/dev/ttyUSB77")
    assert (gone.subject, gone.fine) == ("line riser", False)
    assert gone.text.startswith("line riser is not read: /dev/ttyUSB77 does not exist")
    (there,) = ports("/dev/null")
    assert there.fine is False
    assert there.text.startswith("/dev/null is not a serial port")


@pytest.mark.parametrize("group", ["root", "disk", "shadow", "sudo", "adm", "tty", "uucp", "1007"])
@pytest.mark.parametrize("mode", [0o600, 0o620, 0o640, 0o660])
@pytest.mark.parametrize("member", [True, False])
def test_no_account_is_sent_into_a_group_other_than_dialout(group, mode, member):
    said = machine.port_remedy("ttyS1", group, mode, "gardien", member=member)
    joins = re.findall(r"adduser (\S+ \S+)|usermod|gpasswd|chmod|chgrp|chown", said)
    assert set(joins) <= {"gardien dialout"}


def test_an_account_that_was_put_into_group_root_is_taken_out_again():
    (found,) = machine.groups("root")  # the one account that is in it on every machine
    assert found.fine is False
    assert found.text.endswith("sudo deluser root root && sudo systemctl restart gardien")
    assert list(machine.groups("nobody")) == list(machine.groups("no such account")) == []


def test_a_port_of_another_group_is_given_to_dialout_by_a_rule():
    said = machine.port_remedy("ttyS1", "root", 0o600, "gardien", member=True)
    rule = 'SUBSYSTEM=="tty", KERNEL=="ttyS1", GROUP="dialout", MODE="0660"'
    assert said.startswith(f"echo '{rule}' | sudo tee -a /etc/udev/rules.d/99-gardien.rules")
    assert "adduser" not in said
    said = machine.port_remedy("ttyUSB0", "root", 0o600, "gardien", member=False)
    assert 'KERNEL=="ttyUSB[0-9]*"' in said
    assert said.endswith("&& sudo adduser gardien dialout")


def test_a_port_of_dialout_needs_the_account_in_it():
    said = machine.port_remedy("ttyUSB0", "dialout", 0o660, "gardien", member=False)
    assert said == "sudo adduser gardien dialout && sudo systemctl restart gardien"
    said = machine.port_remedy("ttyUSB0", "dialout", 0o600, "gardien", member=True)
    assert said.startswith("echo ")  # to be in the group is not enough


def test_a_port_with_a_login_console_is_taken_from_the_console():
    said = machine.port_remedy("ttyAMA0", "tty", 0o620, "gardien", member=True)
    assert "systemctl disable --now serial-getty@ttyAMA0.service" in said


def test_a_full_disk_is_told_with_what_may_be_needed(tmp_path):
    (found,) = machine.disk(tmp_path, parse(SMALL + "spool: {max: 100000GB}\n", "x"))
    assert found.fine is False
    assert (
        "100,000,050 MB may be needed. In a long outage readings are lost. Free some" in found.text
    )
    (found,) = machine.disk(tmp_path, parse(SMALL, "x"))
    assert found.fine is True
