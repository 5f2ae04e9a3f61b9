"""The end of a visit: who receives readings, the certificate, the clock and the report."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from aiohttp import web

from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.web.pages.visit.steps import done, job, needed_reason, on_to, reason, step_page, tell, to
from agent.web.site import ask, form, site, visitor

if TYPE_CHECKING:
    from agent.web.client import Answer
    from agent.web.jobs import Job

LARGEST = 100_000
"""bytes of a certificate"""
MADE_WITHIN = 100
"""seconds for the page or the PDF of a report: a page is answered within 120"""
_one_at_a_time = asyncio.Semaphore(1)
"""each needs 70 to 110 MB while it works"""
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


async def delivery(request: web.Request) -> web.StreamResponse:
    """Show to whom readings are sent, and by which certificates."""
    written = (await ask(request, "configuration"))["written"]
    return await step_page(
        request,
        "visit_delivery.html",
        "delivery",
        uplinks=written.get("uplinks") or {},
        backup=written.get("backup"),
        certificate=await ask(request, "key.show"),
    )


async def add_uplink(request: web.Request) -> web.StreamResponse:
    """Add an uplink to a recipient."""
    fields = await form(request)
    recipient, url = (str(fields.get(name, "")).strip() for name in ("recipient", "url"))
    answer = await ask(request, "config.uplink.add", recipient=recipient, url=url)
    tell(request, "fine", Text("{recipient} was added to {file}", recipient=recipient,
                               file=answer["file"]))  # fmt: skip
    await done(request, "delivery", 2)
    raise to("/visit/delivery")


async def certificate_request(request: web.Request) -> web.StreamResponse:
    """Return the request for the CA as a file."""
    await form(request)
    answer = await ask(request, "key.csr")
    return _file(answer["csr"].encode(), "application/pkcs10", "gardien.csr")


async def install(request: web.Request) -> web.StreamResponse:
    """Install the certificate that the CA has issued."""
    await ask(request, "key.install", text=await _certificate(request))
    tell(request, "fine", Text("the certificate is installed"))
    await done(request, "delivery")
    raise to("/visit/delivery")


async def recovery(request: web.Request) -> web.StreamResponse:
    """Name the recovery certificate of the building."""
    answer = await ask(request, "config.backup.to", certificate=await _certificate(request))
    tell(request, "fine", Text("the recovery certificate was added to {file}", file=answer["file"]))
    await done(request, "delivery")
    raise to("/visit/delivery")


async def _certificate(request: web.Request) -> str:
    """Return the certificate that a form has uploaded or pasted. Raises Refused."""
    fields = await form(request)
    file, text = fields.get("file"), str(fields.get("text", ""))
    if isinstance(file, web.FileField):
        text = file.file.read(LARGEST).decode("latin-1")
    if "-----BEGIN" not in text:
        raise Refused("this is no certificate (PEM)")
    return text[:LARGEST]


# the clock, and the report


async def report(request: web.Request) -> web.StreamResponse:
    """Show whether the report can be made, and the last one."""
    from shutil import which  # noqa: PLC0415 -- seldom

    clock = await ask(request, "clock.show")
    made = job(request, "report")
    return await step_page(
        request,
        "visit_report.html",
        "report",
        clock_state=clock,
        doubtful=clock["trust"] != "trusted" and not clock["person"],
        made=made,
        pdf=bool(which("weasyprint")),
    )


async def set_clock(request: web.Request) -> web.StreamResponse:
    """Take a person's word about the time."""
    fields = await form(request)
    at = str(fields.get("at", "")).strip()
    answer = await ask(request, "clock.set", at=at)
    if not answer["taken"]:
        raise Refused(
            "the clock is off by {off} s, and must be set: sudo gardien clock set {time}",
            off=answer["off"],
            time=at,
        )
    tell(request, "fine", Text("recorded: a person states that it is {now}",
                               now=dt.datetime.fromisoformat(answer["now"])))  # fmt: skip
    raise to("/visit/report")


async def make(request: web.Request) -> web.StreamResponse:
    """Begin to make the report: all meters that were not read yet are read."""
    fields = await form(request)
    readings, why = bool(fields.get("readings")), reason(request, fields)
    if readings:
        why = needed_reason(request, fields)
    messages = site(request).daemon.follow(
        "report.commissioning", visitor(request).login, why, since="", readings=readings
    )

    async def work(running: Job) -> Answer:
        running.text = Text("reading all meters …")
        answer = await running.take(messages)
        await done(request, "report")
        return answer

    site(request).jobs.begin(visitor(request).login, "report", work)
    raise on_to(request, "/visit/report", why)


async def report_page(request: web.Request) -> web.StreamResponse:
    """Return the report as a page to print."""
    text = await _page_of(_made(request), visitor(request).language)
    # its style is in the page, so that the page is one file: only that style is allowed
    styles = " ".join(
        f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
        for style in STYLE.findall(text)
    )
    policy = f"default-src 'none'; style-src {styles}; img-src data:; frame-ancestors 'none'"
    return web.Response(
        text=text, content_type="text/html", headers={"Content-Security-Policy": policy}
    )


async def report_file(request: web.Request) -> web.StreamResponse:
    """Return the file that the gateway has signed."""
    return _file(_made(request).encode(), "application/json", f"{_name(request)}.json")


async def report_pdf(request: web.Request) -> web.StreamResponse:
    """Return the report as a PDF, if this machine can make one."""
    from shutil import which  # noqa: PLC0415 -- seldom

    if not (program := which("weasyprint")):
        raise Refused("a PDF needs the package weasyprint, which is not installed here")
    html = await _page_of(_made(request), visitor(request).language)
    pdf = await _output(
        html.encode(), program, "--pdf-variant", "pdf/ua-1", "-e", "utf-8", "-", "-"
    )
    return _file(pdf, "application/pdf", f"{_name(request)}.pdf")


def _made(request: web.Request) -> str:
    made = job(request, "report")
    if made is None or not made.result:
        raise Refused("make the report again: the last one is not kept any more")
    file: str = made.result["file"]
    return file


async def _page_of(file: str, language: str) -> str:
    html = await _output(file.encode(), sys.executable, "-m", "agent.web.report_program", language)
    return html.decode()


async def _output(given: bytes, *command: str) -> bytes:
    """Return what a program makes of what it is given. Raises Refused if it fails."""
    async with _one_at_a_time:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
            # the code of the package is in a folder that only its own programs know
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        try:
            async with asyncio.timeout(MADE_WITHIN):
                made, _errors = await process.communicate(given)
        except TimeoutError:
            made = b""
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode or not made:
        raise Refused("this was not made: take the signed file, and use gardien report verify")
    return made


def _name(request: web.Request) -> str:
    made = job(request, "report")
    day = made.result["report"]["made"][:10] if made and made.result else ""
    return f"gardien-report-{day}"


def _file(content: bytes, kind: str, name: str) -> web.Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=content, content_type=kind, headers=headers)


ROUTES = [
    web.get("/visit/delivery", delivery),
    web.post("/visit/delivery/uplink", add_uplink),
    web.post("/visit/delivery/request", certificate_request),
    web.post("/visit/delivery/certificate", install),
    web.post("/visit/delivery/recovery", recovery),
    web.get("/visit/report", report),
    web.post("/visit/report", make),
    web.post("/visit/report/clock", set_clock),
    web.get("/visit/report/page", report_page),
    web.get("/visit/report/file", report_file),
    web.get("/visit/report/pdf", report_pdf),
]
