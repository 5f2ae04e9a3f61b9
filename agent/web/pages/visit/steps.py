"""The guided visit: its steps, how far it is, and what is still open.

The same file as at the terminal (`gardien commission`) says which steps are done, so a visit begun
here can be continued there. Values of dwellings need a reason: the visit has one for all its pages.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from aiohttp import web

from agent.api.visit_steps import TITLES
from agent.core.errors import ReasonNeeded, Refused
from agent.core.finding import Finding
from agent.core.i18n import N_, Text, joined
from agent.web.live import TEXTS
from agent.web.site import ask, back_to, form, page, site, visitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.web.client import Answer
    from agent.web.jobs import Job

COOKIE = "__Host-gardien-visit"
"""the reason of the visit, as the person has typed it"""
SHORTEST, LONGEST = 5, 200
"""characters of a reason"""
PATHS = {
    "building": "/visit/building",
    "list": "/visit/list",
    "lines": "/visit/lines",
    "scan": "/visit/search",
    "match": "/visit/match",
    "flats": "/visit/flats",
    "delivery": "/visit/delivery",
    "report": "/visit/report",
}
"""the page of each step"""
WHY = N_("This shows or records values of dwellings.")
_changing = asyncio.Lock()


async def kept(request: web.Request) -> Answer:
    """Return how far the visit is."""
    visit: Answer = (await ask(request, "visit.show"))["visit"]
    visit.setdefault("steps", {})
    return visit


@asynccontextmanager
async def changing(request: web.Request, answers: int = 0) -> AsyncIterator[Answer]:
    """Change how far the visit is; it is kept at the end. `answers`: that a person has given."""
    async with _changing:
        visit = await kept(request)
        visit["answers"] = visit.get("answers", 0) + answers
        yield visit
        await ask(request, "visit.keep", visit=visit)


async def done(request: web.Request, step: str, answers: int = 1) -> None:
    """Record that a step is done."""
    async with changing(request, answers) as visit:
        visit["steps"] |= {"building": visit["steps"].get("building", time.time())}
        visit["steps"][step] = time.time()


def tell(request: web.Request, kind: str, text: str) -> None:
    """Have the next page of the visit begin with a message. `kind`: as of `parts.notice`."""
    site(request).jobs.keep(visitor(request).login, "notice", (kind, text)).holds = False


def job(request: web.Request, name: str) -> Job | None:
    """Return a job of this login."""
    return site(request).jobs.of(visitor(request).login, name)


def reason(request: web.Request, fields: Mapping[str, Any] | None = None) -> str:
    """Return why the person needs values of dwellings; empty: they have not said it yet."""
    typed = str((fields or {}).get("reason", "")).strip()
    of_whom, _dot, before = request.cookies.get(COOKIE, "").partition(".")
    kept_reason = unquote(before).strip() if of_whom == visitor(request).token else ""
    return (typed or kept_reason)[:LONGEST]


def needed_reason(request: web.Request, fields: Mapping[str, Any] | None = None) -> str:
    """As `reason`. Raises ReasonNeeded if there is none."""
    why = reason(request, fields)
    if len(why) < SHORTEST:
        raise ReasonNeeded(Text(WHY))
    return why


def to(path: str) -> web.HTTPSeeOther:
    """Return an answer that goes to a page."""
    return web.HTTPSeeOther(path)


def on_to(request: web.Request, path: str, why: str) -> web.HTTPSeeOther:
    """As `to`, where a reason was given: it is kept for the whole visit of this login."""
    answer = web.HTTPSeeOther(path)
    answer.set_cookie(
        COOKIE, f"{visitor(request).token}.{quote(why)}",
        secure=True, httponly=True, samesite="Strict", path="/",
    )  # fmt: skip
    return answer


async def step_page(
    request: web.Request, template: str, step: str, code: int = 200, /, **values: Any
) -> web.Response:
    """Return the page of a step, with its place among the others and the last message."""
    visit, names = await kept(request), list(TITLES)
    at = names.index(step)
    jobs = site(request).jobs.of_login(visitor(request).login)
    return await page(
        request,
        template,
        code,
        visit=visit,
        step=step,
        number=at + 1,
        titles=TITLES,
        paths=PATHS,
        following=names[at + 1] if at + 1 < len(names) else "",
        running=[one for one in jobs if one.running],
        state=(await _texts(request))["state"],
        reason=reason(request),
        notice=_notice(request),
        **values,
    )


def _notice(request: web.Request) -> tuple[str, str] | None:
    jobs, login = site(request).jobs, visitor(request).login
    last = jobs.of(login, "notice")
    jobs.forget(login, "notice")
    shown: tuple[str, str] | None = last.result if last else None
    return shown


# the overview


async def show(request: web.Request) -> web.StreamResponse:
    """Show the steps of the visit."""
    visit = await kept(request)
    undone = [step for step in TITLES if step not in visit["steps"] and step != "building"]
    opened = job(request, "open")
    result = opened.result if opened else None
    return await step_page(
        request,
        "visit.html",
        "building",
        upcoming=undone[0] if undone else "",
        open=opened,
        findings=[_finding(one) for one in result["findings"]] if result else [],
        meters=result["meters"] if result else [],
    )


def _finding(wire: Answer) -> dict[str, Any]:
    finding = Finding.of(wire)
    step = str(finding.command).removeprefix("gardien commission ")
    return {"finding": finding, "path": PATHS.get(step, ""), "title": TITLES.get(step, "")}


async def begin(request: web.Request) -> web.StreamResponse:
    """Take the reason of the visit."""
    fields = await form(request)
    why = str(fields.get("reason", "")).strip()
    if not SHORTEST <= len(why) <= LONGEST:
        raise Refused(
            "a reason has {shortest} to {longest} characters", shortest=SHORTEST, longest=LONGEST
        )
    async with changing(request, 1) as visit:
        visit.setdefault("begun", time.time())
        visit["steps"].setdefault("building", time.time())
    raise on_to(request, back_to(str(fields.get("back", "/visit"))), why)


async def check(request: web.Request) -> web.StreamResponse:
    """Find out what is still open, in the background: meters that are silent are asked again."""
    await form(request)

    async def work(running: Job) -> Answer:
        running.text = Text("checking what is still open …")
        return await ask(request, "visit.open")

    site(request).jobs.begin(visitor(request).login, "open", work)
    raise to("/visit")


async def building(request: web.Request) -> web.StreamResponse:
    """Show the building."""
    written = (await ask(request, "configuration"))["written"]
    return await step_page(request, "visit_building.html", "building", written=written)


async def finish(request: web.Request) -> web.StreamResponse:
    """Record that a step is done, and go to the next one."""
    fields = await form(request)
    step = str(fields.get("step", ""))
    if step not in PATHS:
        raise web.HTTPNotFound
    await done(request, step)
    names = list(PATHS)
    after = names[names.index(step) + 1 :]
    raise to(PATHS[after[0]] if after else "/visit")


async def stop(request: web.Request) -> web.StreamResponse:
    """Stop a search; what it has found so far is kept."""
    fields = await form(request)
    await site(request).jobs.stop(visitor(request).login, str(fields.get("job", "")))
    raise to(back_to(str(fields.get("back", "/visit"))))


async def _texts(request: web.Request) -> Mapping[str, str]:
    language = visitor(request).language
    jobs = site(request).jobs.of_login(visitor(request).login)
    texts = {"state": repr(sorted((one.name, one.state) for one in jobs if one.task))}
    for each in jobs:
        texts[f"job-{each.name}"] = sentence_of(each).in_language(language)
        texts[f"bar-{each.name}"] = str(each.done)
    return texts


def sentence_of(running: Job) -> Text:
    """Say how far a job is."""
    text = Text("{text}", text=running.text)
    if not running.total:
        return text
    count = Text("{done} of {total}", done=running.done, total=running.total)
    return joined(" · ", [count, text])


TEXTS["visit"] = _texts
ROUTES = [
    web.get("/visit", show),
    web.post("/visit/begin", begin),
    web.post("/visit/check", check),
    web.post("/visit/done", finish),
    web.post("/visit/stop", stop),
    web.get("/visit/building", building),
]
