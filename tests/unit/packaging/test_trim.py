"""Of vendored modules what is for people who debug them is left out; the rest does the same."""

import subprocess
import sys
from pathlib import Path

import pytest

TRIM = Path(__file__).resolve().parents[3] / "packaging/trim.py"
SOURCE = '''#!/usr/bin/python3
"""Of the module."""
from __future__ import annotations
_debug = 1  # set by whoever debugs
_log = print

class Broken(ValueError):
    """Nothing else."""

def empty():
    if _debug:
        _log("empty")

def first(value):
    """Return twice a value."""
    if _debug: _log("first", value)
    if value < 0:
        if _debug:
            _log("negative")
    elif _debug:
        _log("positive")
    try:
        return 2 * value
    finally:
        if _debug:
            _log("done")

def second(value):
    if _debug:
        _log("second")
    elif value:
        if _debug:
            _log("is set")
        return "set"
    return "not set"
'''


def run(folder, code):
    return subprocess.run(
        (sys.executable, "-B", "-c", code), cwd=folder, check=True, text=True, capture_output=True
    ).stdout


@pytest.fixture
def trimmed(tmp_path):
    """The source of a module that was trimmed, and its folder."""
    module = tmp_path / "library/it.py"
    module.parent.mkdir()
    module.write_text(SOURCE)
    subprocess.run((sys.executable, str(TRIM), str(tmp_path)), check=True)
    return module.read_text(), module.parent


def test_nothing_for_debugging_is_left(trimmed):
    source, _folder = trimmed
    assert not [left for left in ("_log(", "#", "Of the", "twice", "Nothing") if left in source]


def test_what_is_left_does_the_same(trimmed):
    _source, folder = trimmed
    code = "import it; print(it.first(3), it.first(-1), it.second(1), it.second(0), it.empty())"
    assert run(folder, code).strip() == "6 -2 set not set None"
