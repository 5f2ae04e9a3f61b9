"""Logging in: with a name and a password, or with a code of `gardien web`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.web.password import slow_key
from agent.web.site import ask, back_to, form, logged_in, logged_out, page, site, visitor

if TYPE_CHECKING:
    from agent.web.client import Answer

SHORTEST = 10
"""characters of a password"""
TOO_SHORT = N_("The password has fewer than {number} characters")
UNLIKE = N_("The two passwords differ")


async def show(request: web.Request) -> web.StreamResponse:
    """Show the form to log in."""
    if visitor(request).login:
        raise web.HTTPSeeOther("/")
    return await _shown(request)


async def enter(request: web.Request) -> web.StreamResponse:
    """Log in with a name and a password."""
    fields = await form(request)
    name = str(fields.get("name", "")).strip()
    try:
        salt = await site(request).daemon.ask("web.salt", name=name)
        key = await slow_key(str(fields.get("password", "")), bytes.fromhex(salt["salt"]))
        entered = await site(request).daemon.ask(
            "web.enter", name=name, key=key, address=request.remote or ""
        )
    except Refused as refusal:
        return await _shown(request, refusal.text, name=name)
    return logged_in(entered["login"], str(fields.get("back", "/")))


async def use_code(request: web.Request) -> web.StreamResponse:
    """Log in with the code of a set-up window, or begin to choose a password."""
    fields = await form(request)
    code, name = str(fields.get("code", "")).strip(), str(fields.get("name", "")).strip()
    try:
        answer = await site(request).daemon.ask(
            "web.code", code=code, name=name, address=request.remote or ""
        )
    except Refused as refusal:
        return await _shown(request, refusal.text, name=name, code=code)
    if not answer.get("choose"):
        return logged_in(answer["login"])
    return await page(request, "choose.html", code=code, invited=answer, shortest=SHORTEST, what="")


async def choose(request: web.Request) -> web.StreamResponse:
    """Set the password of an invited person."""
    fields = await form(request)
    code, password = str(fields.get("code", "")), str(fields.get("password", ""))
    daemon = site(request).daemon
    try:
        invited = await daemon.ask("web.code", code=code, name="", address=request.remote or "")
        if len(password) < SHORTEST or password != fields.get("again"):
            what = Text(TOO_SHORT, number=SHORTEST) if len(password) < SHORTEST else Text(UNLIKE)
            return await page(
                request,
                "choose.html",
                409,
                code=code,
                invited=invited,
                shortest=SHORTEST,
                what=what,
            )
        key = await slow_key(password, bytes.fromhex(invited["salt"]))
        entered = await daemon.ask("web.choose", code=code, key=key, address=request.remote or "")
    except Refused as refusal:
        return await _shown(request, refusal.text)
    return logged_in(entered["login"])


async def leave(request: web.Request) -> web.StreamResponse:
    """Log out."""
    await form(request)
    await ask(request, "web.leave")
    site(request).jobs.forget(visitor(request).login)
    return logged_out()


async def _shown(
    request: web.Request, what: str = "", /, name: str = "", code: str = ""
) -> web.StreamResponse:
    greeting: Answer = await site(request).greeting()
    return await page(
        request,
        "login.html",
        409 if what else 200,
        greeting=greeting,
        what=what,
        name=name,
        code=code,
        ended=request.query.get("ended") == "form",
        back=back_to(request.query.get("back", "/")),
    )


ROUTES = [
    web.get("/login", show),
    web.post("/login", enter),
    web.post("/login/code", use_code),
    web.post("/login/choose", choose),
    web.post("/leave", leave),
]
