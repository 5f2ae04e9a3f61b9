"""What the guided visit shows and understands at a terminal of 80 columns."""

import pytest

from agent.cli.commission import _line_of
from agent.cli.dialogue import WIDE, Dialogue


def test_a_long_sentence_is_broken_and_a_command_stays_whole(capsys):
    command = f"    > {'sudo gardien ' * 9}".rstrip()
    Dialogue().say(f"  {'an indented sentence ' * 9}\n{command}")
    *sentence, last = capsys.readouterr().err.splitlines()
    assert len(sentence) > 1
    assert all(len(line) <= WIDE for line in sentence)
    assert last == command


@pytest.mark.parametrize(
    ("typed", "driver"),
    [("modbus /dev/ttyUSB0 9600", "modbus-rtu"), ("modbus 192.168.10.20", "modbus-tcp")],
)
def test_modbus_alone_names_the_driver_that_fits_the_address(typed, driver):
    assert _line_of(typed)[1]["driver"] == driver
