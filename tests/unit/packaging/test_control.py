"""The package's papers agree with the project's: one list of what it needs, one version."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "packaging"))

import depends  # noqa: E402


def test_every_dependency_is_vendored_or_comes_from_debian_at_a_version_debian_13_has():
    constraints = (TOP / "packaging/constraints-debian13.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.MULTILINE))
    for name, bound in depends.required().items():
        if name in depends.vendored():
            continue
        assert bound, f"{name}: say the lowest version"
        held = tuple(int(part) for part in re.findall(r"\d+", pinned[name])[:3])
        assert held >= tuple(int(part) for part in bound.split(".")), name


def test_what_is_vendored_is_needed_and_its_licence_is_told():
    told = (TOP / "packaging/debian/copyright").read_text()
    for name in depends.vendored():
        assert name in depends.required()
        assert f"Files: packaging/vendor/{name}*" in told


def test_what_is_vendored_is_at_the_version_that_the_tests_run_with():
    constraints = (TOP / "packaging/constraints-debian13.txt").read_text()
    for name, (version, _) in depends.vendored().items():
        if re.search(rf"^{name}==", constraints, re.MULTILINE):
            assert f"{name}=={version}\n" in constraints


def test_changelog_and_project_say_the_same_version():
    first = (TOP / "packaging/debian/changelog").read_text().splitlines()[0]
    assert first.split()[1] == f"({depends.project()['version']})"


def test_the_completion_offers_commands_groups_options_and_files():
    path = f"{TOP}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        (sys.executable, "packaging/manual.py", "completion"),
        cwd=TOP, env=os.environ | {"PYTHONPATH": path}, check=True, text=True, capture_output=True,
    )  # fmt: skip
    script = (
        done.stdout
        + """
    COMP_WORDS=(gardien doc); COMP_CWORD=1; _gardien; echo "${COMPREPLY[@]}"
    COMP_WORDS=(gardien place im); COMP_CWORD=2; _gardien; echo "${COMPREPLY[@]}"
    COMP_WORDS=(gardien status --j); COMP_CWORD=2; _gardien; echo "${COMPREPLY[@]}"
    COMP_WORDS=(gardien place import pyp); COMP_CWORD=3; _gardien; echo "${COMPREPLY[@]}"
    COMP_WORDS=(gardien place import x --c pyp); COMP_CWORD=4; _gardien; echo "${COMPREPLY[@]}"
    COMP_WORDS=(gardien check -c pyp); COMP_CWORD=3; _gardien; echo "${COMPREPLY[@]}"
    COMP_WORDS=(gardien status pyp); COMP_CWORD=2; _gardien; echo "${COMPREPLY[@]}"
    """
    )
    said = subprocess.run(
        ("bash", "-c", script), cwd=TOP, check=True, text=True, capture_output=True
    )
    assert said.stdout.splitlines() == [
        "doctor", "import", "--json", "pyproject.toml", "--confirm --config", "pyproject.toml", "",
    ]  # fmt: skip


def test_the_completion_of_the_upgrade_offers_its_options_and_packages(tmp_path):
    (tmp_path / "gardien_0.2.0_all.deb").touch()
    (tmp_path / "gardien_notes.txt").touch()
    script = (TOP / "packaging/gardien-upgrade.completion").read_text()
    ask = "COMPREPLY=(); COMP_WORDS=(gardien-upgrade %s); COMP_CWORD=%d; _gardien_upgrade; "
    for words, at in (("-", 1), ("--b", 1), ("gard", 1), ("--back ''", 2),
                      ("--below-floor --ba", 2)):  # fmt: skip
        script += ask % (words, at) + 'echo "${COMPREPLY[@]}"\n'
    said = subprocess.run(
        ("bash", "-c", script), cwd=tmp_path, check=True, text=True, capture_output=True
    ).stdout.splitlines()
    assert said[1:] == ["--back --below-floor", "gardien_0.2.0_all.deb", "", "--back"]
    usage = subprocess.run(
        ("sh", TOP / "packaging/gardien-upgrade.sh", "--help"),
        check=True, text=True, capture_output=True,
    ).stdout  # fmt: skip
    assert set(said[0].split()) == {
        *re.findall(r"^gardien-upgrade (--[\w-]+)", usage, re.MULTILINE),
        "--help",
    }


@pytest.mark.parametrize(
    ("failing", "before", "stands"), [(0, 0, True), (1, 0, False), (1, 1, True)]
)
def test_a_new_version_stands_if_no_more_of_its_parts_fail_than_before(
    tmp_path, failing, before, stands
):
    """Rule U14."""
    script = (TOP / "packaging/gardien-upgrade.sh").read_text()
    found = re.findall(r"^(\w+\(\) (?:\{.*\}$|\{\n(?:.*\n)*?\}))", script, re.MULTILINE)
    parts = {one.partition("(")[0]: one for one in found}
    status = {"version": "9", "faults": [{"component": "uplink centre"}] * failing}
    (tmp_path / "status.json").write_text(json.dumps(status, indent=2))
    for name, does in {
        "gardien": f"cat {tmp_path}/status.json",
        "systemctl": "echo active",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    words = [parts[name] for name in ("answers", "failing", "passes")]
    words += ["state() { echo 7; }", "WITHIN=1; STEADY=0", f"most={before}", "passes 9"]
    done = subprocess.run(
        ("sh", "-c", "\n".join(words)),
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (done.returncode == 0) == stands
