"""What log records carry, and the pages that list it: each kind of event is in all of them."""

import ast
import re
from pathlib import Path

import pytest

from agent.core.log_fields import FIELDS, LogEvent, LogNames, fields
from agent.core.model import BatchId

TOP = Path(__file__).parents[3]
PAGE = (TOP / "docs/log.md").read_text(encoding="utf-8")
FRENCH = (TOP / "docs/fr/log.md").read_text(encoding="utf-8")
FIELDS_OF = dict(re.findall(r"^\| `([0-9a-f]{32})` \| [^|]+ \| ([^|]*) \|", PAGE, re.MULTILINE))
LEVELS = {"info", "warning", "error", "exception", "log"}


def catalog(name):
    text = (TOP / "packaging" / name).read_text(encoding="utf-8")
    return re.findall(r"^-- ([0-9a-f]{32})\nSubject: (.+)\n", text, re.MULTILINE)


def calls():
    """Each call of a module's log in the agent: where it stands, and the call."""
    for path in sorted((TOP / "agent").rglob("*.py")):
        if path.is_relative_to(TOP / "agent/web"):
            continue  # another process, whose few records name the page
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level)) if (
                    level in LEVELS
                ):
                    yield f"{path.relative_to(TOP)}:{node.lineno}", node


def test_a_record_has_the_fields_that_were_given_and_no_empty_ones():
    batch = BatchId("g-1", "centre.example", "ab12", 7)
    given = fields(LogEvent.BATCH_QUARANTINED, uplink="metropole", recipient="", batch=batch)
    assert given == {
        "MESSAGE_ID": "cca3afdda6eb43d6a4946b1d25a73b36",
        "UPLINK": "metropole",
        "BATCH": "ab12/7",
    }
    assert fields() == {}


def test_no_field_is_made_for_places_people_or_values():
    listed = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    named = {name for row in listed for name in re.findall(r"[A-Z_]+", row)}
    of_every_record = {"MESSAGE_ID", "PRIORITY", "CODE_FILE", "CODE_LINE", "CODE_FUNC", "LOGGER"}
    assert named - of_every_record == {*FIELDS} - {"MESSAGE_ID"}
    assert set(LogNames.__annotations__) == {
        "device", "line", "uplink", "recipient", "control", "store", "component", "code",
        "detail",
    }  # fmt: skip


def test_every_record_of_the_daemon_says_in_fields_what_it_is_about():
    without = [
        where for where, call in calls() if "extra" not in {one.arg for one in call.keywords}
    ]
    assert without == []


def test_every_kind_of_event_is_one_that_can_happen():
    used = set()
    for path in {*(TOP / "agent").rglob("*.py")} - {TOP / "agent/gateway/flight_recorder.py"}:
        used |= set(re.findall(r"LogEvent\.([A-Z_]+)", path.read_text(encoding="utf-8")))
    assert used == {event.name for event in LogEvent}


def test_identifiers_differ_and_are_written_as_systemd_wants_them():
    assert len({event.value for event in LogEvent}) == len(LogEvent)
    assert all(re.fullmatch("[0-9a-f]{32}", event.value) for event in LogEvent)


@pytest.mark.parametrize("name", ["gardien.catalog", "gardien.fr.catalog"])
def test_the_catalogs_explain_every_event_once(name):
    assert [id_ for id_, _ in catalog(name)] == [event.value for event in LogEvent]


@pytest.mark.parametrize(
    ("page", "name"), [(PAGE, "gardien.catalog"), (FRENCH, "gardien.fr.catalog")]
)
def test_the_pages_list_every_event_in_the_words_of_the_catalog(page, name):
    rows = re.findall(r"^\| `([0-9a-f]{32})` \| ([^|]+) \|", page, re.MULTILINE)
    subjects = {id_: re.sub(r"@(\w+)@", r"*\1*", words) for id_, words in catalog(name)}
    assert dict(rows) == subjects


@pytest.mark.parametrize("name", ["gardien.catalog", "gardien.fr.catalog"])
def test_the_catalogs_name_only_fields_that_the_event_has(name):
    text = (TOP / "packaging" / name).read_text(encoding="utf-8")
    for entry in re.split(r"^-- ", text, flags=re.MULTILINE)[1:]:
        had = set(re.findall(r"[A-Z]{2,}", FIELDS_OF[entry[:32]]))
        assert set(re.findall(r"@(\w+)@", entry)) <= had, entry


def test_the_page_lists_every_field_that_a_call_gives_to_an_event():
    for where, call in calls():
        for node in ast.walk(call):
            match node:
                case ast.Call(func=ast.Name(id="fields"), args=[ast.Attribute(attr=name)]):
                    given = {one.arg.upper() for one in node.keywords if one.arg}
                    listed = set(re.findall(r"[A-Z]{2,}", FIELDS_OF[LogEvent[name].value]))
                    assert given <= listed, (where, name)
