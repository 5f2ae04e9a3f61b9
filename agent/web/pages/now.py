"""Now: one state, the questions with which people come, and the findings in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from agent.api import overview
from agent.api.findings import LONGEST_NOTE, MAY, MOST_DAYS
from agent.api.roles import OPERATOR, Right
from agent.core.errors import Refused
from agent.core.finding import ACTORS, Finding, Severity, worst_first
from agent.core.i18n import N_, Plural, Text
from agent.web.live import TEXTS
from agent.web.site import MENU, ask, form, page, site, visitor
from agent.web.words import LocalTime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.web.site import MenuEntry, Visitor

MARKS = {Severity.LOST: "bad", Severity.EQUIPMENT: "bad", Severity.WAITING: "warn"}
"""how a finding is marked; others: `note`"""
STATES = {
    Severity.LOST: N_("Readings are being lost"),
    Severity.EQUIPMENT: N_("Equipment needs attention now"),
    Severity.WAITING: N_("Readings wait; nothing is lost"),
}
"""the one state of the gateway, by its worst finding"""
PATHS = (
    ("gardien control", "/orders"),
    ("gardien occupancy", "/people"),
    ("gardien consent", "/people"),
    ("gardien commission", "/visit"),
    ("gardien scan", "/visit"),
    ("gardien meter", "/visit"),
    ("gardien place", "/visit"),
    ("gardien read", "/lines"),
    ("gardien uplink list", "/recipients"),
    ("gardien uplink retry", "/recipients"),
    ("gardien check", "/configuration"),
    ("gardien config", "/configuration"),
    ("gardien audit", "/audit"),
    ("gardien support-bundle", "/support"),
)
"""the page on which a command can be done, by the command's beginning"""
HELD = 3
"""the number of the question whether equipment is held: its answer leads to the orders"""
DAYS = (1, 3, 7, 14, MOST_DAYS)
"""for how many days a finding may be acknowledged"""


class WorkingPart(NamedTuple):
    """What works, in one line, with the page that shows more."""

    part: overview.Part
    path: str
    """empty: none, or not for this person"""


async def show(request: web.Request) -> web.StreamResponse:
    """Show whether the gateway works, and what to do if not."""
    status = await ask(request, "status")
    clock = await _clock(request)
    findings = worst_first(map(Finding.of, status["events"]))
    shown = view(findings, visitor(request))
    counting = [one for one in shown if one["mark"] != "fine"]
    return await page(
        request,
        "now.html",
        state=state_of(findings),
        mark=counting[0]["mark"] if counting else "fine",
        questions=overview.questions(status, findings, clock.time),
        held=HELD if any(one["value"] is not None for one in status["controls"].values()) else 0,
        counting=counting,
        others=[one for one in shown if one["mark"] == "fine"],
        parts_shown=list(_parts(status, visitor(request), clock)),
        days=DAYS,
        longest=LONGEST_NOTE,
        done=_done(request),
    )


async def _clock(request: web.Request) -> LocalTime:
    return LocalTime((await site(request).greeting())["zone"], visitor(request).language)


def state_of(findings: Sequence[Finding]) -> Text:
    """Return the state of the gateway in one sentence."""
    counting = [finding for finding in findings if finding.fine is False]
    if not counting:
        return Text("Everything works")
    if sentence := STATES.get(counting[0].severity):
        return Text(sentence)
    return Plural(
        "It works; {number} thing needs attention",
        "It works; {number} things need attention",
        len(counting),
    )


def view(findings: Sequence[Finding], asks: Visitor) -> list[dict[str, Any]]:
    """Return findings as the templates show them."""
    return [
        {
            "finding": one,
            "mark": MARKS.get(one.severity, "note") if one.fine is False else "fine",
            "actor": ACTORS.get(one.actor, ""),
            "page": _page_for(one.command, asks),
            "may_acknowledge": _may_acknowledge(one, asks),
        }
        for one in findings
    ]


def _page_for(command: str, asks: Visitor) -> MenuEntry | None:
    """Return the page on which this person can do what a command does."""
    bare = command.removeprefix("sudo ")
    path = next((path for begin, path in PATHS if bare.startswith(begin)), "")
    return next((one for one in MENU if one.path == path and asks.may(one.right)), None)


def _may_acknowledge(finding: Finding, asks: Visitor) -> bool:
    roles = MAY[finding.actor]
    if finding.severity is Severity.EQUIPMENT:
        roles |= {OPERATOR}
    known = finding.fine is False or finding.acknowledged is not None
    return bool(finding.id) and known and bool(asks.roles & roles)


def _parts(status: Mapping[str, Any], asks: Visitor, clock: LocalTime) -> Iterator[WorkingPart]:
    """Yield each part of the gateway in one line."""
    for part in overview.lines(status["links"]):
        yield WorkingPart(part, "/lines")
    for part in overview.uplinks(status["uplinks"], clock.time):
        yield WorkingPart(part, "/recipients")
    states = status.get("dwellings") or {}
    if any(states.values()):
        part = overview.Part(
            Text("dwellings: {counts}", counts=overview.dwellings(states)),
            good=not states.get("unknown"),
        )
        yield WorkingPart(part, "/dwellings" if asks.may(Right.SEE_PLACES) else "")
    for part in overview.gateway(status):
        yield WorkingPart(part, "/support")


# --- acknowledge ---

DONE = {
    "acknowledged": N_("It is written down that you take care of this."),
    "always": N_(
        "It is written down that you take care of this. It still counts: readings are lost, or"
        " equipment is concerned."
    ),
    "counts": N_("It counts again."),
}


def _done(request: web.Request) -> Text | None:
    text = DONE.get(request.query.get("done", ""))
    return Text(text) if text else None


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Record that the person takes care of a finding; 0 days: it counts again."""
    fields = await form(request)
    days = str(fields.get("days", ""))
    if not days.isdecimal():
        raise Refused('"{text}" is no number of days', text=days)
    answer = await ask(
        request,
        "finding.acknowledge",
        finding=str(fields.get("finding", "")),
        note=str(fields.get("note", "")).strip() or "–",
        days=int(days),
    )
    done = "acknowledged" if answer["until"] else "counts"
    return web.HTTPSeeOther(f"/?done={'always' if answer['until'] and answer['counts'] else done}")


async def _texts(request: web.Request) -> Mapping[str, str]:
    status, clock = await ask(request, "status"), await _clock(request)
    findings = worst_first(map(Finding.of, status["events"]))
    shape = [(one.id or one.code, one.severity, one.acknowledged) for one in findings]
    questions = overview.questions(status, findings, clock.time)
    parts = _parts(status, visitor(request), clock)
    return {
        "state": repr((shape, [one.good for one in questions])),
        # as text: the template has made code of what is between backticks
        **{
            f"what {one.id}": clock.sentence(one.what).replace("`", "")
            for one in findings
            if one.id
        },
        **{f"question {n}": clock.sentence(one.answer) for n, one in enumerate(questions, 1)},
        **{f"part {n}": clock.sentence(one.part.text) for n, one in enumerate(parts, 1)},
    }


TEXTS["now"] = _texts
ROUTES = [web.get("/", show), web.post("/findings/acknowledge", acknowledge)]
