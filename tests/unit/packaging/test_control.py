"""The package's papers agree with the project's: one list of what it needs, one version."""

import os
import re
import subprocess
import sys
from pathlib import Path

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
        "doctor", "import", "--json", "pyproject.toml", "--config", "pyproject.toml", "",
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
