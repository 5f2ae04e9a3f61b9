"""Serial ports are listed by their lasting names, without being opened."""

from pathlib import Path

import pytest

from agent.drivers.serial_ports import serial_ports


def port(root: Path, name: str, bus: str = "", kind: str = "", by_id: str = "") -> None:
    """A port as the kernel and udev describe it; `bus`: vendor, maker, product, serial."""
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / name).touch()
    device = root / "sys/devices" / name / "1-1" / "1-1:1.0"
    device.mkdir(parents=True)
    if bus:
        names = ("idVendor", "manufacturer", "product", "serial")
        for fact, text in zip(names, bus.split(","), strict=True):
            (device.parent / fact).write_text(f"{text}\n")
    entry = root / "sys/class/tty" / name
    entry.mkdir(parents=True)
    (entry / "device").symlink_to(device)
    if kind:
        (entry / "type").write_text(f"{kind}\n")
    if by_id:
        folder = root / "dev/serial/by-id"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / by_id).symlink_to(Path("../..") / name)


@pytest.fixture
def machine(tmp_path):
    port(tmp_path, "ttyUSB0", "0403,FTDI,FT232R USB UART,A50285BI", by_id="usb-FTDI_A50285BI-port0")
    port(tmp_path, "ttyUSB1", "2c7c,Quectel,EC25,1")
    port(tmp_path, "ttyS0", kind="4")
    port(tmp_path, "ttyS1", kind="4")
    port(tmp_path, "ttyS2", kind="0")
    port(tmp_path, "ttymxc3")
    (tmp_path / "sys/class/tty/tty0").mkdir()
    (tmp_path / "sys/class/tty/console").mkdir()
    (tmp_path / "sys/class/tty/console/active").write_text("tty0 ttyS0\n")
    return tmp_path


def test_a_port_has_its_lasting_name_and_its_adapter_s(machine):
    ports = {Path(one.device).name: one for one in serial_ports(machine)}
    assert set(ports) == {"ttyS0", "ttyS1", "ttyUSB0", "ttyUSB1", "ttymxc3"}
    assert ports["ttyUSB0"].path == str(machine / "dev/serial/by-id/usb-FTDI_A50285BI-port0")
    assert ports["ttyUSB0"].adapter == "FTDI FT232R USB UART A50285BI"
    assert ports["ttymxc3"].path == str(machine / "dev/ttymxc3")


def test_the_console_and_a_modem_must_not_be_touched(machine):
    taken = {Path(one.device).name: one.taken for one in serial_ports(machine) if one.taken}
    assert taken == {
        "ttyS0": "it is the console of this machine",
        "ttyUSB1": "it belongs to a mobile modem",
    }


def test_a_machine_without_ports_has_none(tmp_path):
    assert serial_ports(tmp_path) == []
