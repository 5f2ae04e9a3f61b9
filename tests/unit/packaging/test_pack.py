"""What was compiled lies in one file; whatever becomes of it, what runs is what the sources say."""

import os
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path
from zipfile import ZipFile

import pytest

TOP = Path(__file__).resolve().parents[3]
PACK = TOP / "packaging/pack.py"


@pytest.fixture
def installed(tmp_path):
    """A folder like the package's, packed, with a program of one word; and how to run it."""
    source = tmp_path / "agent/entry.py"
    source.parent.mkdir()
    (source.parent / "__init__.py").touch()
    (tmp_path / "vendor").mkdir()
    source.write_text("def main(): print('first')\n")
    subprocess.run((sys.executable, "-I", str(PACK), str(tmp_path)), check=True)
    command = tmp_path / "gardien"
    launcher = (TOP / "packaging/gardien.py").read_text()
    assert launcher.count('"/usr/share/gardien"') == 1
    command.write_text(launcher.replace("/usr/share/gardien", str(tmp_path)))
    return tmp_path


WORDS = """
from pathlib import Path
def compiled_templates(): yield Path(__file__).with_name("templates") / "now.html", b"its code"
"""


def test_templates_are_packed_where_the_page_looks_for_their_code(installed):
    words = installed / "agent/web/words.py"
    words.parent.mkdir()
    words.write_text(WORDS)
    subprocess.run((sys.executable, "-I", str(PACK), str(installed)), check=True)
    file = cache_from_source("agent/web/templates/now.html")
    assert ZipFile(installed / "compiled.zip").read(file) == b"its code"
    assert not list(installed.rglob("__pycache__"))
    assert said(installed) == "first"


def said(folder):
    done = subprocess.run(
        (sys.executable, "-I", str(folder / "gardien")), check=True, text=True, capture_output=True
    )
    assert not list(folder.rglob("__pycache__"))
    return done.stdout.strip()


def changed(folder, *, since=True):
    """Another source of the same length; `since`: its time says so."""
    source = folder / "agent/entry.py"
    before = source.stat()
    source.write_text(source.read_text().replace("first", "other"))
    os.utime(source, (before.st_atime, before.st_mtime + 2 * since))


def test_what_was_packed_is_what_runs(installed):
    changed(installed, since=False)  # seen by nobody who looks at what was compiled
    assert said(installed) == "first"


def test_a_source_that_changed_since_is_taken_instead(installed):
    changed(installed)
    assert said(installed) == "other"


@pytest.mark.parametrize("harm", ["gone", "empty", "cut", "one byte"])
def test_a_packed_file_that_is_not_whole_costs_time_only(installed, harm):
    packed = installed / "compiled.zip"
    whole = packed.read_bytes()
    at = whole.index(b"agent/__pycache__/entry") + 90  # within what was compressed
    left = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "one byte": whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :],
    }
    packed.write_bytes(left[harm]) if harm in left else packed.unlink()
    changed(installed, since=False)
    assert said(installed) == "other"
