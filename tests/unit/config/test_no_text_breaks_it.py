"""Whatever a file holds, the answer is a configuration or a ConfigError, and it comes soon.
Rule U4.
"""

from __future__ import annotations

import string
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Config, parse
from agent.config.check import summary
from agent.config.files import LARGEST
from agent.config.load import examine, load
from agent.config.problem import Problem
from agent.core.errors import ConfigError
from agent.core.model import ValueKind
from agent.core.quantities import channel_of_quantity, channels
from agent.drivers.profile import profile, profiles
from tests.unit.config.samples import EXAMPLE, LOOPBACK

SAMPLE = EXAMPLE.read_text(encoding="utf-8")
WORDS = SAMPLE.split()

SNIPPETS = st.sampled_from(
    [
        *WORDS,
        "\n", "  ", "\t", ": ", "- ", "? ", "{", "}", "[", "]", ", ", "#", "'", '"', "|\n", ">\n",
        "&a ", "*a", "<<: *a", "!!int ", "!!set ", "!x ", "%YAML 1.1\n---\n", "---", "...", "\\",
        "null", "~", "true", "yes", ".nan", "-.inf", "1e9999999999", "0x1F", "0o17", "1_0", "1:30",
        "2026-13-45", "9" * 5000, "\ufeff", "\x85", "\u2028", "\x00", "é",
        '"\\uD800"', '"\\x1b[2J"',
    ]
)  # fmt: skip

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(WORDS),
    st.dates(),
)


def answered(text):
    found = examine(text, "config.yaml")
    if isinstance(found, Config):
        assert summary(found)
        assert found.points().keys() == found.devices.keys()
        return
    assert found
    for problem in found:
        assert isinstance(problem, Problem)
        assert str(problem).isprintable()
        assert str(problem).encode()
        assert problem.line >= 1
        assert problem.column >= 1


@given(st.text(st.characters(exclude_categories=[]), max_size=200))
def test_random_text_is_answered(text):
    answered(text)


@given(st.lists(SNIPPETS, max_size=40).map("".join))
def test_random_pieces_of_yaml_are_answered(text):
    answered(text)


@given(st.sampled_from([SAMPLE, LOOPBACK]), st.data())
def test_a_sample_with_pieces_put_in_and_taken_out_is_answered(text, data):
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 40)))
        text = text[:start] + data.draw(SNIPPETS) + text[end:]
    answered(text)


@given(st.sampled_from([SAMPLE, LOOPBACK]), st.data())
def test_a_sample_with_one_value_replaced_by_any_other_is_answered(text, data):
    lines = text.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    key, colon, _ = lines[number].partition(":")
    lines[number] = f"{key}{colon} {data.draw(st.one_of(SCALARS, SNIPPETS))!s}"
    answered("\n".join(lines))


@given(st.sampled_from([SAMPLE, LOOPBACK]), st.data())
def test_a_sample_with_lines_moved_or_indented_is_answered(text, data):
    lines = text.splitlines()
    here = data.draw(st.integers(0, len(lines) - 1))
    line = lines.pop(here)
    indented = data.draw(st.sampled_from(["", " ", "  ", "\t"])) + line
    lines.insert(data.draw(st.integers(0, len(lines))), indented)
    answered("\n".join(lines))


LINES = {
    "modbus": [
        "{driver: modbus-tcp, host: 192.168.10.20}",
        "{driver: modbus-rtu, port: /dev/ttyUSB0, baudrate: 9600, parity: even}",
        "{driver: modbus-rtu-tcp, host: 192.168.10.21}",
    ],
    "mbus": [
        "{driver: mbus, port: /dev/ttyUSB1, baudrate: 2400}",
        "{driver: mbus-tcp, host: 192.168.10.22, port: 10001}",
    ],
}
DURATIONS = st.sampled_from(["1s", "10s", "1min", "15min", "1h", "6h", "1d", "7min", "0s"])
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "every": DURATIONS,
        "intervals": st.sampled_from(["true", "false"]),
        "mean": DURATIONS,
        "rating": st.sampled_from(["9", "0.001"]),
        "rolls_at": st.just("100000"),
        "writable": st.just("true"),
        "channel": st.sampled_from(["elec.imp", "temp", "heat", "cw"]),
        "unit": st.sampled_from(["kWh", "Cel", "m3", "1"]),
        "at": st.sampled_from(["holding/0/int32", "heat:energy", '"analog-input,1"']),
    },
)


@given(st.sampled_from(profiles()), DURATIONS, st.booleans(), st.data())
def test_whatever_may_be_combined_is_answered(name, every, common, data):
    """Every make of device on every kind of line, with any options of its values."""
    made = profile(name)
    line = data.draw(st.sampled_from(LINES[made.driver]))
    names = data.draw(st.lists(st.sampled_from(sorted(made.points)), max_size=3, unique=True))
    points = ", ".join(f"{point}: {flow(data.draw(fitting(point) | OPTIONS))}" for point in names)
    place = ", place: CZS2Y-FSTBQ-Q5WDC" if common else ""
    answered(
        f"building: {{name: x}}\nlinks:\n  l: {line}\ndevices:\n"
        f"  d: {{link: l, address: 1, profile: {name}, every: {every}{place},"
        f" points: {{{points}}}}}\n"
        'uplinks:\n  u: {recipient: a.example, transport: mqtt, url: "mqtts://192.168.10.5"}\n'
    )


def fitting(name):
    """Options that a value of that name may have."""
    known = channels().get(channel_of_quantity().get(name, ""))
    if known is None:
        return st.just({})
    index = known.kind is ValueKind.REG
    return st.just({"intervals": "true"} if index else {"every": "15min", "mean": "6h"})


def flow(options):
    return "{" + ", ".join(f"{word}: {value}" for word, value in options.items()) + "}"


@given(st.binary(max_size=100))
def test_random_bytes_in_a_file_are_answered(tmp_path_factory, written):
    file = tmp_path_factory.getbasetemp() / "random.yaml"
    file.write_bytes(written)
    with pytest.raises(ConfigError):
        load(file)


LONG = 40_000
ATTACKS = {
    "a bomb of aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{here}: &{here} [{','.join(['*' + before] * 9)}]\n"
        for before, here in zip(string.ascii_lowercase, string.ascii_lowercase[1:], strict=False)
    ),
    "a bomb of merges": "a: &a {x: {y: {z: 1}}}\nb:\n" + "  <<: *a\n" * 4_000,
    "aliases in a ring": "a: &a {b: &b {c: *a, d: *b}}\n",
    "open brackets": "[" * LONG,
    "dashes": "- " * LONG,
    "question marks": "? " * LONG,
    "a number of many digits": "building: {name: " + "9" * LONG + "}",
    "a number that is too large": "links: {a: {driver: modbus-tcp, host: x, port: 1e9999999999}}",
    "many keys": "".join(f"k{number}: 1\n" for number in range(LONG // 10)),
    "many devices with each a mistake": "devices:\n"
    + "".join(f"  d{n}: {{link: l{n}, address: {n}, profile: p{n}}}\n" for n in range(LONG // 50)),
    "one key many times": "a: 1\n" * (LONG // 5),
    "a long flow": "a: [" + "x," * (LONG // 2) + "]",
    "exclamation marks": "!" * LONG,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_would_grow_or_run_for_ever_is_refused_soon(attack):
    began = time.process_time()
    with pytest.raises(ConfigError):
        parse(ATTACKS[attack], "config.yaml")
    assert time.process_time() - began < 5


BOUNDS = {
    "one key": ("k: 1\n", "words and signs"),
    "comments": ("#\n", "empty"),
}
COST = """
import re, sys
from pathlib import Path
from agent.config.load import parse
from agent.core.errors import ConfigError
for path in sys.argv[1:]:
    with open(path) as file:
        try:
            parse(file.read(), path)
        except ConfigError as error:
            print(str(error).splitlines()[0])
print(int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_a_file_as_large_as_may_be_is_refused_before_it_has_grown(tmp_path):
    for name, (piece, _) in BOUNDS.items():
        pieces = map(piece.format, range(LARGEST // len(piece)))
        (tmp_path / name).write_text("".join(pieces)[:LARGEST], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", COST, *BOUNDS], cwd=tmp_path, capture_output=True, text=True
    )
    assert not run.stderr
    *answers, megabytes = run.stdout.splitlines()
    for (name, (_, bound)), line in zip(BOUNDS.items(), answers, strict=True):
        assert line.startswith(f"{name}:"), line
        assert bound in line
    assert int(megabytes) < 100


def test_files_that_are_included_again_and_again_are_not_read_for_ever():
    text = "".join(f"k{number}: !include other.yaml\n" for number in range(1000))
    problems = examine(text, "config.yaml", include=lambda _: "#" * 100_000)
    assert "2,000,000 characters are included" in str(problems[0])
    assert problems[0].line == 21
