"""What pyproject asks for is what Debian 13 ships: the package runs with nothing else."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints():
    lines = (ROOT / "packaging" / "constraints-debian13.txt").read_text(encoding="utf-8")
    pairs = re.findall(r"^([A-Za-z0-9_.-]+)==([0-9][0-9A-Za-z.]*)", lines, re.MULTILINE)
    return {plain(name): version for name, version in pairs}


def parts(version):
    return [int(part) for part in re.findall(r"[0-9]+", version)]


@pytest.mark.parametrize("wanted", PROJECT["project"]["dependencies"])
def test_every_lower_bound_is_the_version_of_debian(wanted):
    name, bound = re.match(r"([A-Za-z0-9_.-]+)[>=~]=([0-9.]+)", wanted).groups()
    shipped = constraints()
    assert plain(name) in shipped, f"{name} is not in packaging/constraints-debian13.txt"
    version = parts(shipped[plain(name)])
    assert version[: len(parts(bound))] == parts(bound), (wanted, shipped[plain(name)])


def needed(extras=("hil", "web")):
    """All that is installed for what gardien, its page and its tests ask for, theirs included."""
    found, todo = {}, [Requirement(f"gardien[{','.join(extras)}]")]
    while todo:
        wanted = todo.pop()
        for written in metadata.requires(wanted.name) or ():
            one = Requirement(written)
            for extra in wanted.extras or {""}:
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    if plain(one.name) not in found:
                        found[plain(one.name)] = metadata.version(one.name)
                        todo.append(one)
                    break
    return found


FIRST_LEG = pytest.mark.skipif(
    Path(sys.prefix).name != ".venv", reason="only the first leg is installed from the lock"
)


@FIRST_LEG
def test_the_lock_is_a_full_one():
    """The first leg installs nothing at a version that nobody chose, but for the dev tools."""
    assert sorted(needed().keys() - constraints().keys()) == []


@FIRST_LEG
def test_what_is_installed_is_what_is_locked():
    shipped = constraints()
    assert {name: v for name, v in needed().items() if shipped[name] != v} == {}


ELSEWHERE = {
    "argon2-cffi": "python3-argon2",
    "attrs": "python3-attr",
    "pyserial": "python3-serial",
    "python-dotenv": "python3-dotenv",
    "pytz": "python3-tz",
    "ruamel-yaml": "python3-ruamel.yaml",
    "systemd-python": "python3-systemd",
}
VENDORED = {"bacpypes3"}
"""pinned at our own version, whatever Debian has"""


def upstream(version):
    """What Debian packaged: `43.0.0-3+deb13u1` is 43.0.0, `8.2.0+0.really.8.1.8-1` is 8.1.8."""
    told = re.sub(r"^.*really\.", "", version.partition(":")[2] or version)
    return re.split(r"[+~-]", told)[0]


def test_each_pin_is_debian_s_version_where_debian_has_it():
    release = Path("/etc/os-release")
    if not release.exists() or "VERSION_CODENAME=trixie" not in release.read_text():
        pytest.skip("only a Debian 13 knows what Debian 13 has")
    pins = {name: v for name, v in constraints().items() if name not in VENDORED}
    names = {name: ELSEWHERE.get(name, f"python3-{name}") for name in pins}
    command = shutil.which("apt-cache")
    said = subprocess.run([command, "policy", *names.values()], capture_output=True, text=True)
    found = dict(re.findall(r"^(\S+):\n.*\n  Candidate: (\S+)", said.stdout, re.MULTILINE))
    offered = {name: found[package] for name, package in names.items() if package in found}
    if not any(version != "(none)" for version in offered.values()):
        pytest.skip("apt has no lists here: apt-get update")
    wrong = {
        name: (pins[name], version)
        for name, version in offered.items()
        if version != "(none)" and upstream(version) != pins[name]
    }
    assert wrong == {}
    assert len(offered) > 15
