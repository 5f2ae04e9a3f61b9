"""What pyproject asks for is what Debian 13 ships: the package runs with nothing else."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def constraints():
    lines = (ROOT / "packaging" / "constraints-debian13.txt").read_text(encoding="utf-8")
    pairs = re.findall(r"^([A-Za-z0-9_.-]+)==([0-9][0-9A-Za-z.]*)", lines, re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def parts(version):
    return [int(part) for part in re.findall(r"[0-9]+", version)]


@pytest.mark.parametrize("wanted", PROJECT["project"]["dependencies"])
def test_every_lower_bound_is_the_version_of_debian(wanted):
    name, bound = re.match(r"([A-Za-z0-9_.-]+)[>=~]=([0-9.]+)", wanted).groups()
    shipped = constraints()
    assert name.lower() in shipped, f"{name} is not in packaging/constraints-debian13.txt"
    version = parts(shipped[name.lower()])
    assert version[: len(parts(bound))] == parts(bound), (wanted, shipped[name.lower()])
