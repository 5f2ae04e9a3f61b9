"""Note 002 names every dependency, and the file in which it is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "decisions" / "002-libraries.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTROL = (ROOT / "packaging" / "debian" / "control").read_text(encoding="utf-8")
IMPORTED_AS = {
    "argon2-cffi": "argon2",
    "paho-mqtt": "paho",
    "prometheus-client": "prometheus_client",
    "pymeterbus": "meterbus",
    "pyserial": "serial",
    "ruamel.yaml": "ruamel",
    "systemd-python": "systemd",
}
"""where a package is not imported by its own name"""
BROUGHT = {
    "markupsafe": "jinja2",
    "urllib3": "requests",
    "pydantic_core": "pydantic",
    "click": "typer",
}
"""what is imported without being asked for, and what brings it"""


def named(requirement: str) -> str:
    return re.split(r"[\[<>=~ ;]", requirement, maxsplit=1)[0]


def rows() -> dict[str, str]:
    """The rest of each row, by each name in its first cell."""
    found: dict[str, str] = {}
    for first, rest in re.findall(r"^\| ([^|]+) \| (.*) \|$", PAGE, re.MULTILINE):
        for part in first.split(", "):
            name = part.split(" ")[0]
            found[name] = f"{found.get(name, '')} {rest}"
    return found


ROWS = rows()
EXTRAS = [one for extra in PROJECT["optional-dependencies"].values() for one in extra]


def imports(file: Path) -> set[str]:
    """The packages that a file imports."""
    text = file.read_text(encoding="utf-8")
    return set(re.findall(r"^ *(?:import|from) (\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *EXTRAS])
def test_each_package_that_the_project_asks_for_is_in_a_table(requirement: str) -> None:
    assert named(requirement) in ROWS


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_a_package_of_the_daemon_is_used_where_the_note_says(requirement: str) -> None:
    name, bound = named(requirement), re.search(r"[0-9.]+$", requirement)
    used = re.findall(r"`(agent/[^`]+)`", ROWS[name])
    assert used
    module = IMPORTED_AS.get(name, name)
    assert [file for file in used if module not in imports(ROOT / file)] == []
    assert bound
    assert re.search(rf"^\| {re.escape(name)} [≥=]+ {re.escape(bound[0])} \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["pymodbus", "BAC0", "pymeterbus", "jsonschema", "psycopg", "openpyxl"]
)
def test_a_package_of_the_tests_is_used_where_the_note_says(name: str) -> None:
    used = re.findall(r"`((?:tests|bench)/[^`]+)`", ROWS[name])
    assert used
    module = re.compile(rf"\b{IMPORTED_AS.get(name, name)}\b")
    assert [file for file in used if not module.search((ROOT / file).read_text("utf-8"))] == []


def test_the_daemon_imports_nothing_that_the_note_does_not_name() -> None:
    asked = {IMPORTED_AS.get(named(one), named(one)) for one in PROJECT["dependencies"]}
    for extra in ("sftp", "web"):
        asked |= {
            IMPORTED_AS.get(named(one), named(one))
            for one in PROJECT["optional-dependencies"][extra]
        }
    asked |= {"systemd"} if "nothing imports yet" not in ROWS["systemd-python"] else set()
    page = {
        IMPORTED_AS.get(named(one), named(one)) for one in PROJECT["optional-dependencies"]["web"]
    }
    strange = {}
    for file in (ROOT / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for module in modules(node) - set(sys.stdlib_module_names) - {"agent"}:
                # the page is a process of its own
                own = page if file.is_relative_to(ROOT / "agent/web") else set()
                if BROUGHT.get(module, module) not in asked | own:
                    strange[module] = str(file.relative_to(ROOT))
    assert strange == {}


def modules(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {node.module.split(".")[0]}
    return set()


def test_each_debian_package_is_in_a_table() -> None:
    fields = re.findall(r"^(?:Build-Depends|Depends|Recommends): (.*)$", CONTROL, re.MULTILINE)
    debian = {re.split(r"[:( ]", one)[0] for line in fields for one in line.split(", ")}
    debian = {one for one in debian if not one.startswith("$")} - {"debhelper-compat"} | {
        "debhelper"
    }
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    debian |= set(" ".join(re.findall(r"^DEBIAN [:+]= (.*)$", makefile, re.MULTILINE)).split())
    assert debian - ROWS.keys() == set()
