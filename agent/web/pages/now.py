"""Now: one state, and the findings in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.core.finding import ACTORS, Finding, Severity, worst_first
from agent.web.live import TEXTS
from agent.web.site import ask, page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARKS = {Severity.LOST: "bad", Severity.EQUIPMENT: "bad", Severity.WAITING: "warn"}
"""how a finding is marked; others: `note`"""


async def show(request: web.Request) -> web.StreamResponse:
    """Show whether the gateway works, and what to do if not."""
    status = await ask(request, "status")
    findings = worst_first(map(Finding.of, status["events"]))
    return await page(request, "now.html", status=status, findings=view(findings))


def view(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as the templates show them."""
    return [
        {
            "finding": one,
            "mark": MARKS.get(one.severity, "note") if one.fine is False else "fine",
            "actor": ACTORS.get(one.actor, ""),
        }
        for one in findings
    ]


async def _texts(request: web.Request) -> Mapping[str, str]:
    status = await ask(request, "status")
    return {"state": repr(sorted((one["code"], one["text"]) for one in status["events"]))}


TEXTS["now"] = _texts
ROUTES = [web.get("/", show)]
