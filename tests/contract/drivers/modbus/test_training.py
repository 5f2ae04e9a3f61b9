"""`python -m hil.serial`: who trains types what it prints, and finds what it says is there."""

import re
import subprocess
import sys
import textwrap
from contextlib import contextmanager

from hil.serial import ENGLISH, FRENCH, main
from tests.command import gardien


@contextmanager
def training(*words):
    """The line as its own process, and all that it printed."""
    command = (sys.executable, "-u", "-m", "hil.serial", *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        printed = ""
        while "reads the first" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield printed
        process.terminate()
        assert process.wait(20) == 0


def typed(printed, folder, baudrate=None):
    """The configuration that it prints, as a file; with a short timeout, to save time."""
    blocks = re.findall(r"(?m)(?:^    .+\n)+", printed)
    configs = [textwrap.dedent(block) for block in blocks if "links:" in block]
    assert configs[0] == configs[1]  # one in each language
    text = configs[0].replace("baudrate:", "timeout: 200ms, baudrate:")
    if baudrate is not None:
        text = re.sub(r"baudrate: \d+", f"baudrate: {baudrate}", text)
    file = folder / "config.yaml"
    file.write_text(f"building: {{name: Essai}}\n{text}state: {folder / 'state'}\n")
    return file


def test_what_it_prints_is_a_configuration_that_finds_and_reads_its_meters(tmp_path):
    port = tmp_path / "rs485"
    fast = ("--baudrate", "115200", "--port", str(port))
    with training("--meters", "2", "--silent", "1", *fast) as printed:
        assert printed.index("Un bus RS-485") < printed.index("An RS-485 line")
        serials = re.findall(r"address (\d), serial number (\d+)(:?)", printed)
        assert [silent for _, _, silent in serials] == [":", ""]
        assert "muet, comme un compteur débranché" in printed
        assert port.is_symlink()
        file = typed(printed, tmp_path)
        read = gardien("read", "essai-1", "-c", file, "--as", "anne")
        assert read.exit_code == 0, read.output
        assert "elec.imp" in read.output
        scan = gardien("scan", "essai", "--first", "1", "--last", "2", "-c", file)
        assert serials[1][1] in scan.output
        assert serials[0][1] not in scan.output
    assert not port.is_symlink()


def test_meters_understand_only_their_own_speed(tmp_path):
    with training("--meters", "1") as printed:
        read = gardien(
            "read", "essai-1", "-c", typed(printed, tmp_path, baudrate=19200), "--as", "anne"
        )
    assert read.exit_code == 1
    assert "essai-1 does not answer" in read.output


def test_both_languages_say_the_same():
    fields = [re.findall(r"\{\w+\}", text) for text in (FRENCH, ENGLISH)]
    assert fields[0] == fields[1]
    assert main.__module__ == "hil.serial"
