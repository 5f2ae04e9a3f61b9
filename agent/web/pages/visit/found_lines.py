"""The lines of a visit: found on serial ports and hosts, or typed."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.api.visit_steps import line_entry, remember_last
from agent.core.errors import Refused
from agent.core.i18n import N_, Plural
from agent.web.pages.visit.steps import changing, done, job, step_page, tell, to
from agent.web.site import ask, form, site, visitor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.web.client import Answer
    from agent.web.jobs import Job

DRIVERS = (
    ("modbus-tcp", "Modbus TCP"),
    ("modbus-rtu", "Modbus RTU"),
    ("modbus-rtu-tcp", "Modbus RTU over TCP"),
    ("mbus", "M-Bus"),
    ("mbus-tcp", "M-Bus over TCP"),
    ("bacnet", "BACnet/IP"),
)
BAUDRATES = ("", "300", "2400", "4800", "9600", "19200", "38400", "115200")
PARITIES = (
    ("", "–"),
    ("none", N_("no parity")),
    ("even", N_("even parity")),
    ("odd", N_("odd parity")),
)


async def configured(request: web.Request) -> Mapping[str, Mapping[str, Any]]:
    """Return the lines of the configuration, by name."""
    written = (await ask(request, "configuration"))["written"]
    links: Mapping[str, Mapping[str, Any]] = written.get("links") or {}
    return links


async def show(request: web.Request) -> web.StreamResponse:
    """Show the lines, and what the last search has found."""
    links, status = await configured(request), await ask(request, "status")
    find = job(request, "find")
    return await step_page(
        request,
        "visit_lines.html",
        "lines",
        links={name: {**link, "status": status["links"].get(name)} for name, link in links.items()},
        find=find,
        found=lines_of(find),
        remarks=remarks_of(find),
        drivers=DRIVERS,
        baudrates=BAUDRATES,
        parities=PARITIES,
    )


def lines_of(find: Job | None) -> Sequence[Answer]:
    """Return the lines that a search has found so far."""
    if find is None:
        return []
    if find.result:
        lines: Sequence[Answer] = find.result["found"]
        return lines
    return [item["line"] for item in find.items if "line" in item]


def remarks_of(find: Job | None) -> Sequence[Answer]:
    """Return the places where a search has found nothing, each with a sentence."""
    if find is None:
        return []
    if find.result:
        return [*find.result["silent"], *find.result["busy"]]
    return [item["silent"] for item in find.items if "silent" in item]


async def find(request: web.Request) -> web.StreamResponse:
    """Begin to search for lines."""
    fields = await form(request)
    places = str(fields.get("where", "")).replace(",", " ").split()
    messages = site(request).daemon.follow(
        "line.find",
        visitor(request).login,
        ports=[one for one in places if one.startswith("/")],
        hosts=[one for one in places if not one.startswith("/")],
    )
    site(request).jobs.begin(visitor(request).login, "find", lambda job: job.take(messages))
    async with changing(request, 1):
        pass
    raise to("/visit/lines")


async def add(request: web.Request) -> web.StreamResponse:
    """Add the lines that a person has chosen among those that were found."""
    fields = await form(request)
    chosen = {str(one) for one in fields.getall("add", [])}
    # a second master would disturb the first
    lines = [
        one for one in lines_of(job(request, "find")) if one["name"] in chosen and not one["master"]
    ]
    if not lines:
        raise Refused("no line was chosen")
    entries = {one["name"]: {"driver": one["driver"], **one["settings"]} for one in lines}
    await _added(request, entries)
    async with changing(request, len(lines)) as visit:
        for line in lines:
            remember_last(visit, line["name"], line)
    site(request).jobs.forget(visitor(request).login, "find")
    raise to("/visit/lines")


async def new(request: web.Request) -> web.StreamResponse:
    """Add a line that a person has typed."""
    fields = await form(request)
    text = {name: str(value).strip() for name, value in fields.items()}
    entry = line_entry(
        text.get("driver", ""), text.get("where", ""), text.get("baudrate", ""),
        text.get("parity", ""),
    )  # fmt: skip
    kind, known = entry["driver"].partition("-")[0], await configured(request)
    name = next(name for n in count(1) if (name := f"{kind}-{n}") not in known)
    await _added(request, {name: entry})
    raise to("/visit/lines")


async def _added(request: web.Request, entries: Mapping[str, Answer]) -> None:
    answer = await ask(request, "config.lines.add", lines=entries)
    added = answer["added"]
    tell(request, "fine", Plural("{number} line was added to {file}",
                                 "{number} lines were added to {file}", len(added),
                                 file=answer["file"]))  # fmt: skip
    await done(request, "lines")


ROUTES = [
    web.get("/visit/lines", show),
    web.post("/visit/lines/find", find),
    web.post("/visit/lines/add", add),
    web.post("/visit/lines/new", new),
]
