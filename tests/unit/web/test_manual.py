"""docs/web.md says to each role what it sees and may do at the page, as the code decides it."""

import re
from pathlib import Path

import pytest

from agent.api.roles import HELD, NEEDS, Right, Role
from agent.core.i18n import Text
from agent.gateway import page_logins, page_persons
from agent.web.pages.entry import SHORTEST
from agent.web.site import MENU

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {"en": DOCS / "web.md", "fr": DOCS / "fr" / "web.md"}
YES = {"en": "yes", "fr": "oui"}
ROWS = (
    Right.SEE_GATEWAY,
    Right.SEE_PLANT,
    Right.SEE_PLACES,
    Right.SEE_PEOPLE,
    Right.METERS,
    Right.READ,
    Right.LINES,
    Right.PEOPLE,
    Right.STOP,
    Right.COMMAND,
    Right.TRY,
    Right.ACKNOWLEDGE,
)
"""the right that each row of the table is about"""
DONE = {
    Right.METERS: ("meter.assign", "meter.verify", "visit.open"),
    Right.READ: ("read",),
    Right.LINES: ("uplink.retry", "scan", "device.try", "config.devices.add"),
    Right.PEOPLE: ("occupancy.move_in", "consent.give", "duty.add"),
    Right.STOP: ("consent.withdraw", "duty.end"),
    Right.COMMAND: ("control.release", "control.opt_out", "control.opt_in"),
    Right.TRY: ("control.test",),
    Right.ACKNOWLEDGE: ("finding.acknowledge",),
    Right.SEE_PLACES: ("bundle", "config.show", "dwelling.list"),
    Right.SEE_PEOPLE: ("privacy.access", "audit.list"),
}
"""what the rows name, as calls"""


def rows(language):
    """The rows of the table of roles: their first cell, and the others."""
    text = PAGES[language].read_text(encoding="utf-8")
    table = next(part for part in text.split("\n\n") if part.startswith("| | inst"))
    _roles, _line, *lines = [line.strip("|").split("|") for line in table.splitlines()]
    return [(first.strip(), [cell.strip() for cell in cells]) for first, *cells in lines]


@pytest.mark.parametrize("language", PAGES)
def test_each_role_reads_what_it_may(language):
    table = rows(language)
    assert len(table) == len(ROWS)
    for (named, cells), right in zip(table, ROWS, strict=True):
        for cell, role in zip(cells, Role, strict=True):
            assert (cell == YES[language]) == (role in HELD[right]), (named, role)


@pytest.mark.parametrize("language", PAGES)
def test_each_page_of_the_menu_is_in_the_row_of_its_right(language):
    table = rows(language)
    for entry in MENU:
        title = f"*{Text(entry.title).in_language(language)}*"
        first, _cells = table[ROWS.index(entry.right)]
        assert title in first


def test_what_the_rows_name_needs_their_rights():
    for right, calls in DONE.items():
        for call in calls:
            assert HELD[NEEDS[call]] == HELD[right], call


@pytest.mark.parametrize("language", PAGES)
def test_the_numbers_are_those_of_the_code(language):
    text = PAGES[language].read_text(encoding="utf-8")
    for number in (
        SHORTEST,
        page_logins.UNUSED // 60,
        page_logins.LONGEST // 3600,
        page_logins.READINGS[1] / 3600,
    ):
        shown = f"{number:g}".replace(".", "," if language == "fr" else ".")
        assert re.search(rf"\b{shown} (char|caract|min|hours|heures)", text), shown
    assert page_persons.INVITED_FOR == 7 * 86_400
    assert {"en": "seven days", "fr": "sept jours"}[language] in text
    assert page_logins.WRONG_CODES == 10
