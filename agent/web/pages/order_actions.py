"""What a person does at a control: stop what is in force, opt out until a time, test.

Each is asked twice: a page says what will happen, and its form does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from agent.core.errors import Refused
from agent.core.i18n import N_
from agent.web.live import TEXTS
from agent.web.pages.orders import clock_of, control_view
from agent.web.site import ask, follow, form, page, site, visitor
from agent.web.words import values_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.web.client import Answer
    from agent.web.jobs import Job

SHORTEST_REASON = 5
"""characters of a reason for stopping an order: the person who requested it reads it"""
NO_REASON = N_("state the reason in at least {number} characters: it is recorded")
UNCLEAR = N_("it is unclear until when: choose one answer, and fill in only its field")
TEST = "test a control"
"""the name of its job"""


async def _control(request: web.Request, name: str) -> dict[str, Any]:
    """Return a control as the page of orders shows it. Raises HTTPNotFound."""
    controls = (await ask(request, "control.list"))["controls"]
    if name not in controls:
        raise web.HTTPNotFound
    return control_view(name, controls[name], {"orders": [], "names": {}}, {})


def _reason(fields: Mapping[str, Any]) -> str:
    reason = " ".join(str(fields.get("reason", "")).split())
    if len(reason) < SHORTEST_REASON:
        raise Refused(NO_REASON, number=SHORTEST_REASON)
    return reason


async def _ask(request: web.Request, call: str, **args: Any) -> Answer:
    """As `ask`, for calls that have a `reason` of their own. Raises Refused."""
    return await site(request).daemon.ask(call, visitor(request).login, "", **args)


def _back(control: str, done: str) -> web.HTTPSeeOther:
    return web.HTTPSeeOther(f"/orders?done={done}&control={quote(control)}")


async def ask_stop(request: web.Request) -> web.StreamResponse:
    """Say what stopping will do."""
    control = await _control(request, request.query.get("control", ""))
    return await page(request, "stop.html", control=control, shortest=SHORTEST_REASON)


async def stop(request: web.Request) -> web.StreamResponse:
    """Release a control and cancel its orders."""
    fields = await form(request)
    name = str(fields.get("control", ""))
    answer = await _ask(request, "control.release", name=name, reason=_reason(fields))
    if not answer["ended"]:
        return _back(name, "nothing")
    return _back(name, "released" if answer["ok"] else "pending")


async def ask_pause(request: web.Request) -> web.StreamResponse:
    """Say what opting out will do, and ask for how long."""
    control = await _control(request, request.query.get("control", ""))
    return await page(request, "pause.html", control=control, shortest=SHORTEST_REASON)


async def pause(request: web.Request) -> web.StreamResponse:
    """Opt out: until the end of the order in force, for some hours, or until a day is over."""
    fields = await form(request)
    name, lasts = str(fields.get("control", "")), str(fields.get("lasts", ""))
    hours, until = str(fields.get("hours", "")).strip(), str(fields.get("until", "")).strip()
    lasts = _meant(lasts, hours, until)
    asked = values_of(
        hours=_hours(hours) if lasts == "hours" else "",
        until=_day(until) if lasts == "until" else "",
    )
    answer = await _ask(request, "control.opt_out", name=name, reason=_reason(fields), **asked)
    return _back(name, "paused" if answer["ok"] else "pending")


def _meant(lasts: str, hours: str, until: str) -> str:
    """Return for how long orders are refused: as chosen, or as the only field that is filled.

    A person may fill in a field without choosing it: the first choice would end hours too early.
    Raises Refused if a field was filled beside another choice.
    """
    filled = [name for name, text in (("hours", hours), ("until", until)) if text]
    if not lasts and len(filled) == 1:
        return filled[0]
    if [name for name in filled if name != lasts]:
        raise Refused(UNCLEAR)
    return lasts


def _hours(text: str) -> float:
    try:
        hours = float(text.replace(",", "."))
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 8784:  # noqa: PLR2004 -- a year
        raise Refused('"{text}" is no number of hours such as 24', text=text)
    return hours


def _day(text: str) -> str:
    if not text:
        raise Refused("choose the last day on which no order is carried out")
    return text


async def resume(request: web.Request) -> web.StreamResponse:
    """End an opt-out."""
    name = str((await form(request)).get("control", ""))
    await ask(request, "control.opt_in", name=name)
    return _back(name, "resumed")


# --- test ---


async def ask_test(request: web.Request) -> web.StreamResponse:
    """Say what a test does; while it runs and afterwards, show how far it is."""
    job = site(request).jobs.of(visitor(request).login, TEST)
    name = request.query.get("control", "") or (job.about["control"] if job else "")
    if job is not None and job.about["control"] != name:
        job = None
    control = await _control(request, name)
    clock = await clock_of(request)
    steps = [clock.sentence(item) for item in job.about["steps"]] if job else []
    known = await _test_state(request)
    return await page(request, "control-test.html", control=control, job=job, steps=steps, **known)


async def test(request: web.Request) -> web.StreamResponse:
    """Begin the test of a control."""
    name = str((await form(request)).get("control", ""))
    await _control(request, name)
    steps: list[str] = []

    async def work(job: Job) -> Any:
        async for message in follow(request, "control.test", name=name):
            if "result" in message:
                return message["result"]
            steps.append(message["progress"].get("text", ""))
            job.text = steps[-1]
        raise Refused("gardien was stopped before it answered. Try again in a minute")

    site(request).jobs.begin(visitor(request).login, TEST, work, control=name, steps=steps)
    return web.HTTPSeeOther(f"/orders/test?control={quote(name)}")


async def _test_state(request: web.Request) -> Mapping[str, str]:
    job = site(request).jobs.of(visitor(request).login, TEST)
    return {"state": f"{job.state} {len(job.about['steps'])}" if job else ""}


TEXTS["control-test"] = _test_state
ROUTES = [
    web.get("/orders/stop", ask_stop),
    web.post("/orders/stop", stop),
    web.get("/orders/pause", ask_pause),
    web.post("/orders/pause", pause),
    web.post("/orders/resume", resume),
    web.get("/orders/test", ask_test),
    web.post("/orders/test", test),
]
