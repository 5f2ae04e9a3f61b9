"""The syndic's list of a visit: uploaded, its columns checked, and recorded.

The file stays in the page's memory until it is recorded. It may name occupants, which are not kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.api.visit_steps import remember_columns
from agent.core.errors import Refused
from agent.core.i18n import N_, Plural, Text, joined
from agent.registry.doubts import NeedsConfirmation
from agent.registry.remarks import LEFT_OUT, REMARKS
from agent.web.pages.visit.steps import changing, done, job, kept, step_page, tell, to
from agent.web.site import ask, form, site, visitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.registry.doubts import DoubtfulValue
    from agent.registry.recognition import Column
    from agent.web.client import Answer

LARGEST = 2_000_000
"""bytes of a file"""
FEW = 5
"""places of a list that are shown before it is recorded"""
MOST_ROWS = 10
"""rows that are named among those left out"""
PARTLY = N_("{name}: recorded: {many}. The rest was refused: {why}")
_one_at_a_time = asyncio.Semaphore(1)
"""a large workbook takes seconds of a small processor"""


@dataclass
class UploadedList:
    """A sheet of a file that somebody has uploaded, and what they have answered about it."""

    name: str
    content: bytes
    text: str
    """the sheet as CSV"""
    sheet: str
    """its name; empty: the file has only one"""
    sheets: tuple[str, ...]
    """all sheets of the file"""
    columns: Sequence[Column]
    meanings: list[str]
    read: frozenset[str] = frozenset()
    """sheets that are recorded"""
    confirmed: list[str] = field(default_factory=list)
    """doubtful values that the person has typed again"""
    doubts: list[DoubtfulValue] = field(default_factory=list)
    """about its meters, whose dwellings are recorded already"""
    more: int = 0
    """doubts that are only counted"""
    places: int = 0
    """dwellings and other places that were recorded of this sheet"""


async def show(request: web.Request) -> web.StreamResponse:
    """Show what is recorded, and the form for a file."""
    places = (await ask(request, "place.list"))["places"]
    meters = (await ask(request, "meter.list"))["meters"]
    listed = _uploaded(request)
    return await step_page(
        request,
        "visit_list.html",
        "list",
        dwellings=sum(one["type"] == "dwelling" for one in places),
        meters=sum(one["in_force"] for one in meters),
        listed=listed,
        others=[one for one in listed.sheets if one not in listed.read] if listed else [],
        largest=LARGEST,
    )


def _uploaded(request: web.Request) -> UploadedList | None:
    upload = job(request, "list")
    listed: UploadedList | None = upload.result if upload else None
    return listed


def _needed(request: web.Request) -> UploadedList:
    """Return the uploaded list. Raises HTTPSeeOther if there is none."""
    if (listed := _uploaded(request)) is None:
        raise to("/visit/list")
    return listed


async def upload(request: web.Request) -> web.StreamResponse:
    """Take a file."""
    fields = await form(request)
    file = fields.get("file")
    if not isinstance(file, web.FileField):
        raise Refused("choose a file: a workbook (.xlsx) or a table (.csv)")
    content = file.file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise Refused(
            "{name}: larger than {largest:,} bytes; keep the columns that are needed, or"
            " import it in parts",
            name=file.filename,
            largest=LARGEST,
        )
    await _read(request, file.filename[:100], content, "", frozenset())
    raise to("/visit/list/check")


async def choose_sheet(request: web.Request) -> web.StreamResponse:
    """Read another sheet of the file."""
    fields, listed = await form(request), _needed(request)
    sheet = str(fields.get("sheet", ""))
    if sheet not in listed.sheets:
        raise Refused("the file has no sheet {sheet}", sheet=sheet)
    await _read(request, listed.name, listed.content, sheet, listed.read)
    raise to("/visit/list/check")


async def _read(
    request: web.Request, name: str, content: bytes, sheet: str, read: frozenset[str]
) -> None:
    """Read a sheet; empty: the one that fits best. It is kept for the next pages."""
    remembered = (await kept(request)).get("columns", {})

    def parsed() -> UploadedList:
        from agent.registry.recognition import known_headings, recognised  # noqa: PLC0415
        from agent.registry.workbook import text_of  # noqa: PLC0415 -- seldom

        sheets = list[str]()

        def tell_sheets(chosen: str, rest: Sequence[str]) -> None:
            sheets.extend((chosen, *rest))

        text = text_of(content, name, tuple(known_headings()), sheet, tell_sheets)
        columns = recognised(text, name, remembered)
        meanings = [column.meaning for column in columns]
        chosen = sheet or next(iter(sheets), "")
        return UploadedList(
            name, content, text, chosen, tuple(sorted(sheets)), columns, meanings, read
        )

    async with _one_at_a_time:
        listed = await asyncio.to_thread(parsed)
    site(request).jobs.keep(visitor(request).login, "list", listed)


async def check(request: web.Request) -> web.StreamResponse:
    """Show what each column is taken for, and what would be recorded."""
    from agent.registry.recognition import MEANINGS, lists  # noqa: PLC0415 -- seldom

    listed, doubts, more = _needed(request), [], 0
    preview: Answer | None = None
    problem = ""
    try:
        made = lists(listed.text, listed.name, listed.meanings)
        if made.places is None:
            raise Refused("no column says which dwelling a row is about")
        preview = await ask(
            request, "place.import", text=made.places, name=listed.name, preview=True,
            confirm=listed.confirmed,
        )  # fmt: skip
    except NeedsConfirmation as doubtful:
        doubts, more = _once(doubtful), doubtful.more
    except Refused as refusal:
        problem = refusal.text
    return await step_page(
        request,
        "visit_check.html",
        "list",
        listed=listed,
        columns=list(zip(listed.columns, listed.meanings, strict=True)),
        meanings=MEANINGS,
        preview=preview,
        first=preview["places"][:FEW] if preview else [],
        notes=_notes(preview) if preview else [],
        doubts=listed.doubts or doubts,
        more=listed.more if listed.doubts else more,
        problem=problem,
    )


def _notes(answer: Answer) -> list[tuple[Text, list[str]]]:
    """Say what of a list is not recorded, and what was decided, each with a few of its rows."""
    from agent.registry.recognition import MEANINGS  # noqa: PLC0415 -- seldom

    notes: list[tuple[Text, list[str]]] = []
    if answer["labels_made_of"]:
        columns = [Text(MEANINGS.get(one, one)) for one in answer["labels_made_of"]]
        notes.append((Text("labels are made of the columns: {columns}", columns=columns), []))
    for why in dict.fromkeys(one["why"] for one in answer["left_out"]):
        rows = [one for one in answer["left_out"] if one["why"] == why]
        count = Plural("left out: {number} row", "left out: {number} rows", len(rows))
        named = [f"{one['where'].rpartition(':')[2]}: {one['what']}" for one in rows[:MOST_ROWS]]
        notes.append((joined(", ", [count, Text(LEFT_OUT[why])]),
                      named + ["…"] * (len(rows) > MOST_ROWS)))  # fmt: skip
    for why in dict.fromkeys(one["why"] for one in answer["remarks"]):
        labels = [one["label"] for one in answer["remarks"] if one["why"] == why]
        what = Plural("{number} dwelling: {what}", "{number} dwellings: {what}", len(labels),
                      what=Text(REMARKS[why]))  # fmt: skip
        notes.append((what, labels[:MOST_ROWS] + ["…"] * (len(labels) > MOST_ROWS)))
    return notes


async def columns(request: web.Request) -> web.StreamResponse:
    """Take what a person says about the columns, and show again what would be recorded."""
    from agent.registry.recognition import MEANINGS  # noqa: PLC0415 -- seldom

    fields, listed = await form(request), _needed(request)
    meant = [str(fields.get(f"column-{n}", "")) for n in range(len(listed.columns))]
    twice = {one for one in meant if one and meant.count(one) > 1}
    if twice:
        raise Refused(
            "two columns cannot both be: {meaning}", meaning=Text(MEANINGS.get(min(twice), "?"))
        )
    listed.meanings = [one if one in MEANINGS else "" for one in meant]
    listed.confirmed, listed.doubts, listed.more = [], [], 0
    raise to("/visit/list/check")


async def confirm(request: web.Request) -> web.StreamResponse:
    """Take values that were typed again."""
    fields, listed = await form(request), _needed(request)
    _confirm(listed, fields.getall("confirm", []))
    raise to("/visit/list/check")


def _once(doubtful: NeedsConfirmation) -> list[DoubtfulValue]:
    """Return the doubts; a value that is in several rows is asked for once."""
    return list({one.value: one for one in reversed(doubtful.doubts)}.values())[::-1]


def _confirm(listed: UploadedList, typed: Sequence[Any]) -> None:
    listed.confirmed += [str(one).strip() for one in typed if str(one).strip()]


async def record(request: web.Request) -> web.StreamResponse:
    """Record the dwellings and the meters of the sheet. Raises NeedsConfirmation."""
    from agent.registry.recognition import lists  # noqa: PLC0415 -- seldom

    fields, listed = await form(request), _needed(request)
    _confirm(listed, fields.getall("confirm", []))
    made = lists(listed.text, listed.name, listed.meanings)
    if made.places is None:
        raise Refused("no column says which dwelling a row is about")
    args: dict[str, Any] = {"name": listed.name, "confirm": listed.confirmed}
    places = await ask(request, "place.import", text=made.places, reviewed=True, **args)
    listed.places += len(places["places"])
    before, listed.doubts, listed.more = {one.value for one in listed.doubts}, [], 0
    meters: list[Answer] = []
    try:
        for listing in made.meters:
            answer = await ask(request, "meter.import", text=listing, join_lines=False, **args)
            meters.append(answer)
    except NeedsConfirmation as doubtful:
        listed.doubts, listed.more = _once(doubtful), doubtful.more
        if before & {one.value for one in listed.doubts}:
            tell(request, "bad", Text("What was typed is another value."))
        raise to("/visit/list/check") from None
    except Refused as refusal:
        if not listed.places and not meters:
            raise
        from agent.registry.sheet import cause  # noqa: PLC0415 -- seldom

        many, why = _many(listed, meters), cause(refusal.text)
        refused = Text(PARTLY, name=listed.name, many=many, why=why)
        tell(request, "bad", refused)
        listed.places = 0
        raise to("/visit/list") from None
    many = _many(listed, meters)
    tell(request, "fine", Text("{name}: recorded: {many}", name=listed.name, many=many))
    async with changing(request, len(listed.confirmed)) as visit:
        remember_columns(visit, listed.columns, listed.meanings)
    await done(request, "list")
    listed.read |= {listed.sheet}
    listed.confirmed, listed.places = [], 0
    if listed.read >= set(listed.sheets):  # it may name people
        site(request).jobs.forget(visitor(request).login, "list")
    raise to("/visit/list")


def _many(listed: UploadedList, meters: Sequence[Answer]) -> list[Text]:
    """Return how many places and meters of a list were recorded."""
    return [
        Plural("{number} dwelling or other place", "{number} dwellings and other places",
               listed.places),
        Plural("{number} meter", "{number} meters", sum(len(one["meters"]) for one in meters)),
    ]  # fmt: skip


ROUTES = [
    web.get("/visit/list", show),
    web.post("/visit/list", upload),
    web.post("/visit/list/sheet", choose_sheet),
    web.get("/visit/list/check", check),
    web.post("/visit/list/check", confirm),
    web.post("/visit/list/columns", columns),
    web.post("/visit/list/record", record),
]
