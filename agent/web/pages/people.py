"""Moves, consents and duties: recorded one by one in forms, or from a list."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from aiohttp import web

from agent.api.roles import Right
from agent.core.errors import Refused
from agent.core.i18n import N_
from agent.core.quantities import channels
from agent.registry.labels import in_order
from agent.web.fact_list import ListKind, read_list
from agent.web.site import ask, form, page, visitor
from agent.web.words import values_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.web.client import Answer

MANY = 500
"""dwellings up to which their labels are offered while one is typed"""
ROWS = 20
"""entries of an uploaded list that are shown before they are recorded"""
PAGE = 50
"""rows of a list on one page"""
SCOPES = (("monthly", N_("one index a month")), ("daily", N_("one index a day")),
          ("loadcurve", N_("a load curve")))  # fmt: skip
USUAL = ("elec.imp", "heat", "dhw", "cw", "gas")
"""the quantities that forms mostly ask for"""
DONE = {
    "move_in": N_("The move-in is recorded."),
    "move_out": N_("The move-out is recorded."),
    "correct": N_("The correction is recorded."),
    "consent": N_("The consent is recorded."),
    "withdraw": N_("The withdrawal is recorded: nothing more is sent on this basis."),
    "duty": N_("The duty is recorded."),
    "duty_end": N_("The end of the duty is recorded."),
    "accept": N_("The row is recorded."),
    "dismiss": N_("The row is ignored, in later exports too."),
    "list": N_("The list is recorded."),
}
"""what was done, by the word in the address of the page that says so"""


class MoveForm(NamedTuple):
    """A form about one dwelling's occupants."""

    title: str
    call: str
    fields: tuple[str, ...]
    """names of the call's arguments, beside the dwelling"""
    hint: str = ""


MOVES = {
    "move-in": MoveForm(
        N_("Somebody moves in"),
        "occupancy.move_in",
        ("since", "until", "reference"),
        N_("No name is stored. The occupants before them must have moved out."),
    ),
    "move-out": MoveForm(
        N_("Somebody moves out"),
        "occupancy.move_out",
        ("at",),
        N_("Their consents end. Recipients erase what they received for the time after."),
    ),
    "correct": MoveForm(
        N_("Correct a date"), "occupancy.correct", ("since", "until", "reference", "stays")
    ),
}


async def show(request: web.Request) -> web.StreamResponse:
    """Show what waits for a decision, and what can be recorded."""
    asks = visitor(request)
    may_record = asks.may(Right.PEOPLE)
    due = await ask(request, "consent.due")
    homes = await ask(request, "occupancy.list")
    proposed = await ask(request, "occupancy.proposed")
    return await page(
        request, "people.html", due=due, proposed=proposed["proposed"],
        unknown=[o for o in homes["not_occupied"] if o["occupancy_state"] == "unknown"],
        may_record=may_record, may_stop=asks.may(Right.STOP),
        done=DONE.get(request.query.get("done", ""), ""),
        done_at=await _label(request, request.query.get("place", "")),
    )  # fmt: skip


async def _label(request: web.Request, place: str) -> str:
    """Return the label of a place that an address may name by its id; what is unknown as it is."""
    if not place or not visitor(request).may(Right.SEE_PLACES):
        return place
    try:
        known = (await ask(request, "dwelling.list", place=place))["dwellings"]
    except Refused:
        return place
    return str(known[0]["label"])


def _recorded(done: str, place: str = "") -> web.HTTPSeeOther:
    """Return the way to the page that says what was recorded, and of which dwelling."""
    return web.HTTPSeeOther(f"/people?done={done}" + (f"&place={quote(place)}" if place else ""))


async def show_move(request: web.Request) -> web.StreamResponse:
    """Show the form of a move."""
    return await _move(request, {"place": await _label(request, request.query.get("place", ""))})


async def record_move(request: web.Request) -> web.StreamResponse:
    """Record a move."""
    move = _of(request)
    fields = await form(request)
    args = values_of(**{name: _typed(fields, name) for name in ("place", *move.fields)})
    if "stays" in args:
        args["stays"] = True
    await ask(request, move.call, **args, **_confirmed(fields))
    raise _recorded(move.call.partition(".")[2], args.get("place", ""))


async def _move(request: web.Request, typed: Mapping[str, str]) -> web.StreamResponse:
    return await page(
        request, "people_move.html", move=_of(request), typed=typed, labels=await _labels(request)
    )


def _of(request: web.Request) -> MoveForm:
    move = MOVES.get(request.match_info["move"])
    if move is None:
        raise web.HTTPNotFound
    return move


async def decide(request: web.Request) -> web.StreamResponse:
    """Record or ignore a row of the manager's export."""
    fields = await form(request)
    choice = "accept" if "accept" in fields else "dismiss"
    await ask(request, f"occupancy.{choice}", row=_typed(fields, "row"))
    raise web.HTTPSeeOther(f"/people?done={choice}")


AGREED = ("place", "recipient", "purpose", "scope", "step", "since", "until", "given", "lease")
"""fields of a consent"""


async def show_consent(request: web.Request) -> web.StreamResponse:
    """Show the form of a consent."""
    place = await _label(request, request.query.get("place", ""))
    return await _consent(request, {"place": place}, [])


async def record_consent(request: web.Request) -> web.StreamResponse:
    """Record a consent; if the occupants have withdrawn before, they must have known of it."""
    fields = await form(request)
    typed = {name: _typed(fields, name) for name in AGREED}
    args = values_of(**{name: text for name, text in typed.items() if name != "place"})
    wanted = [str(one) for one in fields.getall("channels", [])]
    marks = await ask(
        request, "consent.marks", places=[typed["place"]], **values_of(recipient=typed["recipient"])
    )
    known = [str(one["mark"]) for one in marks["marks"]]
    if known and not typed["lease"] and "knowing" not in fields:
        return await _consent(request, {**typed, "channels": wanted}, marks["marks"])
    if known and not typed["lease"]:
        args["after"] = known
    await ask(
        request, "consent.give", places=[typed["place"]], channels=wanted,
        replace="replace" in fields, **args, **_confirmed(fields),
    )  # fmt: skip
    raise _recorded("consent", typed["place"])


async def _consent(
    request: web.Request, typed: Mapping[str, Any], marks: list[Answer]
) -> web.StreamResponse:
    recipients = await _recipients(request)
    return await page(
        request, "people_consent.html", 409 if marks else 200, typed=typed, marks=marks,
        labels=await _labels(request), recipients=[(o, o) for o in recipients], scopes=SCOPES,
        usual=USUAL, others=[o for o in _personal() if o not in USUAL],
    )  # fmt: skip


def _personal() -> list[str]:
    """Return the channels to which occupants may consent."""
    return [one.name for one in channels().values() if one.personal and one.en]


async def show_withdrawal(request: web.Request) -> web.StreamResponse:
    """Show what a dwelling's occupants have agreed to, and the buttons that end it."""
    place = await _label(request, request.query.get("place", "").strip())
    consents: list[Answer] = []
    if place:
        answer = await ask(request, "consent.list", place=place)
        consents = [one for one in answer["consents"] if one["in_force"]]
    return await page(
        request, "people_withdraw.html", place=place, consents=consents,
        labels=await _labels(request),
    )  # fmt: skip


async def withdraw(request: web.Request) -> web.StreamResponse:
    """Record a withdrawal: of one consent, or of everything."""
    fields = await form(request)
    only = values_of(id=_typed(fields, "id"))
    await ask(
        request, "consent.withdraw", **_confirmed(fields),
        **(only or {"place": _typed(fields, "place")}),
    )  # fmt: skip
    raise _recorded("withdraw", _typed(fields, "place"))


async def print_forms(request: web.Request) -> web.StreamResponse:
    """Give the consent forms, and the list for the answers, in one file."""
    fields = await form(request)
    language = visitor(request).language
    answer = await ask(
        request, "consent.forms", language=language, again="again" in fields,
        places=[one for one in [_typed(fields, "place")] if one],
        due=float(_typed(fields, "due") or 0),
    )  # fmt: skip
    if not answer["forms"]:
        raise Refused('There is no form to print. For forms without an answer: choose "again"')
    names = {"fr": ("formulaires", "reponses"), "en": ("forms", "answers")}[language]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{names[0]}.html", answer["html"])
        archive.writestr(f"{names[1]}.csv", "\ufeff" + answer["list"])
    return _download(packed.getvalue(), "application/zip", f"{names[0]}.zip")


def _download(content: str | bytes, kind: str, name: str) -> web.Response:
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return web.Response(
        body=content.encode() if isinstance(content, str) else content, content_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{plain}"'},
    )  # fmt: skip


async def show_consents(request: web.Request) -> web.StreamResponse:
    """List consents and occupancies."""
    wanted = request.query.get("search", "").strip().casefold()
    consents = (await ask(request, "consent.list"))["consents"]
    old = "old" in request.query
    rows = [
        one for one in consents
        if (old or one["in_force"]) and wanted in f"{one['label']} {one['recipient']}".casefold()
    ]  # fmt: skip
    rows.sort(key=lambda one: in_order(str(one["label"])))
    first = max(0, _whole(request.query.get("first", "0")))
    return await page(
        request, "people_consents.html", rows=rows[first : first + PAGE], number=len(rows), old=old,
        first=first, size=PAGE, wanted=request.query.get("search", ""),
        may_stop=visitor(request).may(Right.STOP),
    )  # fmt: skip


async def show_duties(request: web.Request) -> web.StreamResponse:
    """List the duties, with a form for a new one."""
    duties = (await ask(request, "duty.list"))["duties"]
    recipients = await _recipients(request)
    return await page(
        request, "people_duties.html", duties=duties, recipients=[(o, o) for o in recipients],
        may_record=visitor(request).may(Right.PEOPLE), may_stop=visitor(request).may(Right.STOP),
    )  # fmt: skip


async def record_duty(request: web.Request) -> web.StreamResponse:
    """Record a duty, or its end."""
    fields = await form(request)
    if "end" in fields:
        await ask(
            request, "duty.end", duty=_typed(fields, "end"), **values_of(at=_typed(fields, "at"))
        )
        raise web.HTTPSeeOther("/people?done=duty_end")
    args = values_of(**{name: _typed(fields, name) for name in ("reference", "recipient", "since")})
    wanted = _typed(fields, "channels").replace(",", " ").split()
    await ask(request, "duty.add", channels=wanted, **args, **_confirmed(fields))
    raise web.HTTPSeeOther("/people?done=duty")


async def show_list(request: web.Request) -> web.StreamResponse:
    """Show the form for a list."""
    return await page(request, "people_list.html", kind=_kind(request), preview=None)


async def check_list(request: web.Request) -> web.StreamResponse:
    """Check a list and show what it would change; or record it."""
    fields = await form(request)
    kind = _kind(request)
    upload = fields.get("file")
    if isinstance(upload, web.FileField):
        content = await asyncio.to_thread(upload.file.read)
        text, name = await asyncio.to_thread(read_list, kind, content, upload.filename)
    else:
        text, name = _typed(fields, "text"), _typed(fields, "name")
    call, args = kind.call(text, name)
    args |= {"confirm": _confirmed(fields)["confirm"]} if call != "consent.answers" else {}
    if "record" not in fields:
        answer = await ask(request, call, preview=True, **args)
        return await page(
            request, "people_list.html", kind=kind, preview=answer, text=text, name=name,
            counted=kind.counted(answer), rows=kind.rows(answer), most=ROWS,
        )  # fmt: skip
    await ask(request, call, **args)
    raise web.HTTPSeeOther("/people?done=list")


def _kind(request: web.Request) -> ListKind:
    kind = ListKind.named(request.match_info["kind"])
    if kind is None:
        raise web.HTTPNotFound
    return kind


async def _labels(request: web.Request) -> list[str]:
    if not visitor(request).may(Right.SEE_PLACES):
        return []
    places = (await ask(request, "place.list"))["places"]
    labels = [str(one["label"]) for one in places if one["type"] == "dwelling"]
    return labels if len(labels) <= MANY else []


async def _recipients(request: web.Request) -> list[str]:
    listed = await ask(request, "uplink.list")
    return sorted({str(one["recipient"]) for one in listed["uplinks"].values()})


def _typed(fields: Mapping[str, Any], name: str) -> str:
    return str(fields.get(name, "")).strip()


def _confirmed(fields: Any) -> dict[str, Any]:
    return {"confirm": [str(one) for one in fields.getall("confirm", []) if one]}


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < len("1000000") else 0


ROUTES = [
    web.get("/people", show),
    web.post("/people/proposed", decide),
    web.get("/people/consents", show_consents),
    web.get("/people/consent", show_consent),
    web.post("/people/consent", record_consent),
    web.get("/people/withdraw", show_withdrawal),
    web.post("/people/withdraw", withdraw),
    web.post("/people/forms", print_forms),
    web.get("/people/duties", show_duties),
    web.post("/people/duties", record_duty),
    web.get("/people/list/{kind}", show_list),
    web.post("/people/list/{kind}", check_list),
    web.get("/people/{move}", show_move),
    web.post("/people/{move}", record_move),
]
