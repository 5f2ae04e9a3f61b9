"""The gateway itself: its configuration to read, support, and the person who is logged in."""

from __future__ import annotations

import base64
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.api import overview
from agent.api.roles import HELD, PERSONS, Right
from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.web.live import TEXTS
from agent.web.site import ask, follow, form, page, site, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.web.client import Answer
    from agent.web.jobs import Job

BUNDLE = "support bundle"
"""the name of its job"""
MODEL = Path("/proc/device-tree/model")
"""what a board says of itself"""
DOCUMENTS = (
    ("install.md", N_("Installation and commissioning")),
    ("configuration.md", N_("All options of the configuration")),
    ("control.md", N_("Orders, authorizations and what protects the equipment")),
    ("dwellings.md", N_("Dwellings, meters and occupancies")),
    ("privacy.md", N_("Consents and the rights of residents")),
    ("clock.md", N_("The clock")),
    ("replace.md", N_("Replacement of the gateway or its disk")),
    ("stolen.md", N_("A stolen gateway")),
    ("glossary.md", N_("Glossary in French and English")),
)
FRENCH = frozenset({"install.md", "control.md", "dwellings.md", "replace.md", "stolen.md"})
"""documents that are also in French, in the folder `fr`"""
FOLDER = "/usr/share/doc/gardien"
"""where the package has the documents"""
RIGHTS = {
    Right.SEE_GATEWAY: N_("see the state of the gateway"),
    Right.SEE_PLANT: N_("see orders, who requested them and why"),
    Right.SEE_PLACES: N_("see dwellings and their meters, without values"),
    Right.SEE_PEOPLE: N_("see occupancies, consents, the audit chain and the access log"),
    Right.READ: N_("read values of common plant"),
    Right.PLACES: N_("record dwellings"),
    Right.METERS: N_("assign and verify meters"),
    Right.PEOPLE: N_("record moves and consents"),
    Right.STOP: N_("withdraw consents"),
    Right.LINES: N_("search for devices and add them"),
    Right.TRY: N_("test a control"),
    Right.COMMAND: N_("stop orders and opt out"),
    Right.ACKNOWLEDGE: N_("acknowledge what needs attention"),
}
"""what each right allows at the page, for people"""


# --- configuration ---


async def configuration(request: web.Request) -> web.StreamResponse:
    """Show the configuration without its secrets, with what its check says beside the lines."""
    answer = await ask(request, "config.show")
    files = [_file(one, answer["problems"]) for one in answer["files"]]
    numbers = {one["name"]: number for number, one in enumerate(files, 1)}
    problems = [
        {
            **one,
            "anchor": f"l-{numbers[one['path']]}-{one['line']}" if one["path"] in numbers else "",
        }
        for one in answer["problems"]
    ]
    return await page(request, "configuration.html", files=files, problems=problems)


def _file(file: Answer, problems: Sequence[Answer]) -> dict[str, Any]:
    beside: dict[int, list[Any]] = {}
    for problem in problems:
        if problem["path"] == file["file"]:
            beside.setdefault(max(1, problem["line"]), []).append(problem["what"])
    lines = file["text"].splitlines() or [""]
    return {
        "name": file["file"],
        "lines": [(n, line, beside.get(n, [])) for n, line in enumerate(lines, 1)],
        # a line of secrets may have been taken out: what is beyond the end is shown there
        "beyond": [text for n, texts in beside.items() if n > len(lines) for text in texts],
    }


# --- support ---


async def support(request: web.Request) -> web.StreamResponse:
    """Show what somebody on the phone asks for, and make the support bundle."""
    status = await ask(request, "status")
    job = site(request).jobs.of(visitor(request).login, BUNDLE)
    return await page(
        request,
        "support.html",
        state=(await _bundle_state(request))["state"],
        status=status,
        machine=list(_machine()),
        parts_shown=[part.text for part in overview.gateway(status)],
        own=(status.get("web") or {}).get("certificate"),
        job=job,
        folder=FOLDER,
        documents=[(_document(name, visitor(request).language), text) for name, text in DOCUMENTS],
    )


def _document(name: str, language: str) -> str:
    return f"fr/{name}" if language == "fr" and name in FRENCH else name


def _machine() -> Iterator[str]:
    """Yield the model, the system and the version of Python of this machine."""
    try:
        yield MODEL.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        yield platform.machine()
    try:
        yield platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        yield platform.system()
    yield f"Linux {os.uname().release}"
    yield f"Python {platform.python_version()}"


async def make_bundle(request: web.Request) -> web.StreamResponse:
    """Begin to make the support bundle."""
    await form(request)

    async def work(job: Job) -> Any:
        return await job.take(follow(request, "bundle"))

    site(request).jobs.begin(visitor(request).login, BUNDLE, work)
    return web.HTTPSeeOther("/support#bundle")


async def fetch_bundle(request: web.Request) -> web.StreamResponse:
    """Send the support bundle that was made, piece by piece."""
    job = site(request).jobs.of(visitor(request).login, BUNDLE)
    if job is None or not job.result:
        raise Refused("this bundle is not there any more: make it again")
    made: Answer = job.result
    # the first piece before the answer begins: a bundle that has gone is refused as a page
    piece = await ask(request, "bundle.read", bundle=made["bundle"], at=0)
    answer = web.StreamResponse(
        headers={
            "Content-Type": "application/gzip",
            "Content-Length": str(made["size"]),
            "Content-Disposition": f'attachment; filename="{made["name"]}"',
        }
    )
    await answer.prepare(request)
    await answer.write(base64.b64decode(piece["data"]))
    while (following := piece["next"]) is not None:
        piece = await ask(request, "bundle.read", bundle=made["bundle"], at=following)
        await answer.write(base64.b64decode(piece["data"]))
    await answer.write_eof()
    return answer


async def _bundle_state(request: web.Request) -> Mapping[str, str]:
    job = site(request).jobs.of(visitor(request).login, BUNDLE)
    return {"state": job.state if job else ""}


# --- the person ---


async def me(request: web.Request) -> web.StreamResponse:
    """Show who is logged in, what they may do, and until when."""
    asks = visitor(request)
    return await page(
        request,
        "me.html",
        roles=[Text(name) for role, name in PERSONS.items() if role in asks.roles],
        rights=[Text(text) for right, text in RIGHTS.items() if asks.roles & HELD[right]],
        until=asks.until or None,
    )


TEXTS["support"] = _bundle_state
ROUTES = [
    web.get("/configuration", configuration),
    web.get("/support", support),
    web.post("/support/bundle", make_bundle),
    web.get("/support/bundle", fetch_bundle),
    web.get("/me", me),
]
