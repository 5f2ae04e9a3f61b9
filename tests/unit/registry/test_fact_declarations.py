"""What the declarations of the facts promise: each field once, and all else follows from it."""

import re
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest

from agent.api import facts
from agent.api.calls import CALLS
from agent.cli import command_line
from agent.cli.facts import arguments
from agent.registry.facts import alias, consent, duty, meter, occupancy, place
from agent.registry.facts.declaration import FactCommand, columns
from agent.registry.inputs import NewAlias, NewInstallation, NewOccupancy, NewPlace
from agent.registry.records import Place
from agent.registry.sheet import plain

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = [
    command
    for module in (alias, consent, duty, meter, occupancy, place)
    for command in vars(module).values()
    if isinstance(command, FactCommand)
]
SHEETS = {
    "places": ((*place.SHEET, *place.LOTS), NewPlace),
    "aliases": (alias.SHEET, NewAlias),
    "meters": (meter.SHEET, NewInstallation),
    "leases": (occupancy.SHEET, NewOccupancy),
    "consents": (consent.SHEET, None),
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.call)
def test_each_argument_of_a_command_is_one_of_its_call(command):
    takes = signature(CALLS[command.call]).parameters
    for field in command.fields:
        for argument in field.parameters():
            assert takes[argument.name].annotation == argument.annotation
            assert takes[argument.name].default == argument.default


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.call)
def test_each_option_of_a_command_has_the_help_of_its_field(command):
    typed = command_line()
    words = command.source.split()[1:]
    if words[0] == "alias":
        words = ["place", *words]
    for name in words:
        typed = typed.commands[name]
    helps = {option.name: option.help for option in typed.params}
    for field in command.fields:
        assert field.help
        assert helps[field.option or field.name] == field.help


def test_what_is_typed_becomes_the_arguments_of_the_call(tmp_path):
    table = tmp_path / "meters.csv"
    table.write_text("serial;dwelling\n45;A-1\n", encoding="utf-8")
    typed = {"file": table, "offline": True, "preview": False, "confirm": None}
    assert arguments(meter.IMPORT, typed) == {
        "text": table.read_text(encoding="utf-8"), "name": str(table),
        "join_lines": False, "preview": False, "confirm": [],
    }  # fmt: skip
    assert arguments(meter.IMPORT, typed | {"offline": False})["join_lines"]
    left = {"dwelling": "A-1", "at": None, "id": None, "confirm": None}
    assert arguments(occupancy.MOVE_OUT, left) == {
        "place": "A-1",
        "at": None,
        "id": None,
        "confirm": [],
    }
    typed = dict.fromkeys(("place", "id", "recipient", "purpose", "channel", "confirm"))
    assert arguments(consent.WITHDRAW, typed)["channels"] == []


@pytest.mark.parametrize(("sheet", "row"), SHEETS.values(), ids=SHEETS)
def test_no_two_columns_of_a_sheet_have_the_same_heading(sheet, row):
    for field in sheet:
        others = {plain(name) for name in columns(one for one in sheet if one != field)}
        assert others.isdisjoint(map(plain, columns([field])))
    if row is not None:
        members = {member.name for member in fields(row)} | {lot.name for lot in place.LOTS}
        assert {field.to for field in sheet} <= members


@pytest.mark.parametrize("sheet", SHEETS)
def test_the_table_of_headings_for_users_is_that_of_the_declarations(sheet):
    known = {plain(head): name for head, name in columns(SHEETS[sheet][0]).items()}
    page = (ROOT / "docs" / "spreadsheets.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {sheet} \| (.*) \|$", page, re.MULTILINE)
    # without remarks in parentheses, each part is a name of ours, or `name` = `heading`, `heading`
    parts = re.split(r"[;,] (?=`[^`]+` =)|; ", re.sub(r" \([^)]*\)", "", row))
    declared = [part for part in parts if re.match(r"(also )?`[^`]+` =", part)]
    assert declared or sheet == "aliases"
    for part in declared:
        name, *headings = re.findall(r"`([^`]+)`", part)
        assert {known[plain(head)] for head in (name, *headings)} == {name}


def test_what_is_stated_of_a_place_is_declared_once():
    declared = {field.name for field in place.PARTICULARS}
    assert declared == {member.name for member in fields(place.Particulars)}
    for cls in (NewPlace, Place):
        assert declared <= {member.name for member in fields(cls)}
    assert declared <= signature(facts.place_new).parameters.keys()
    assert declared <= set(columns(place.SHEET).values())
    assert all(field.titles[0] and field.titles[1] for field in place.PARTICULARS)
