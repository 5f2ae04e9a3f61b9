"""SECURITY.md states what a person who found a vulnerability, and a city that buys, must know."""

import re
import tomllib
from pathlib import Path

PAGE = Path("SECURITY.md").read_text(encoding="utf-8")
VERSION = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def section(heading: str) -> str:
    """What stands below a heading, up to the next one."""
    _, _, text = PAGE.partition(f"\n## {heading}\n")
    return text.partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """The first column of the table in a section."""
    return re.findall(r"^\| ([^|]*?) \|", text, re.MULTILINE)


def test_it_states_how_to_report_and_by_when_we_answer_and_publish():
    text = section("Report a vulnerability")
    assert "Report a vulnerability" in text
    assert "avis de sécurité privé" in text
    _, *within = first_cells(text)
    assert within == ["3 working days", "10 working days", "30 days", "90 days"]
    assert "at the latest 90 days after your report" in text


def test_it_states_that_each_major_release_is_supported_for_five_years():
    text = section("Supported versions")
    assert "Each major release gets security fixes for **five years**" in text
    assert f"{VERSION.split('.')[0]}.x" in first_cells(text), "this version is in no row"
