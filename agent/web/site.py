"""The page as an application: who asks, in which language, and what every answer carries.

A handler gets a `Visitor` by `visitor(request)`, and answers with `page(request, template, …)`.
Each change is a POST with the token of the form; each goes to the daemon with the login, and the
daemon decides.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from aiohttp import web
from multidict import MultiDict

from agent.api.roles import EVERY_ROLE, HELD, Right, Role
from agent.core.errors import LoginNeeded, ReasonNeeded, Refused
from agent.core.i18n import N_
from agent.registry.doubts import NeedsConfirmation
from agent.web.client import LIVE, Answer, Client, Unreachable
from agent.web.form_fields import LARGEST, fields_of
from agent.web.jobs import Jobs
from agent.web.words import LANGUAGES, LocalTime, environment, language_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from agent.web.form_fields import Fields

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

COOKIE = "__Host-gardien"
"""the login: this name makes the browser refuse it without TLS, or from another host"""
ANSWERED_WITHIN = 120.0
"""seconds for a page"""
UNCHANGED = 3
"""seconds for which what everybody may know of the gateway is kept"""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src"
    " 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri"
    " 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # `no-referrer` would make browsers send `Origin: null` with our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
"""of every answer. No Strict-Transport-Security: it would forbid to accept the page's own
certificate
"""


@dataclass(frozen=True, slots=True)
class Visitor:
    """The person who asks, with their language."""

    language: str
    login: str = ""
    name: str = ""
    roles: frozenset[Role] = frozenset()
    until: str = ""
    setup: bool = False

    def may(self, right: Right) -> bool:
        """Whether one of their roles has this right; the daemon decides at each call."""
        return bool(self.roles & HELD[right])

    @property
    def token(self) -> str:
        """What each form of this login carries, so that no other site can send one."""
        return hashlib.sha256(b"form " + self.login.encode()).hexdigest()[:32]


class MenuEntry(NamedTuple):
    """A page that the menu names."""

    path: str
    title: str
    right: Right


MENU = (
    MenuEntry("/", N_("Now"), Right.SEE_GATEWAY),
    MenuEntry("/lines", N_("Lines and devices"), Right.SEE_GATEWAY),
    MenuEntry("/recipients", N_("What is sent"), Right.SEE_GATEWAY),
    MenuEntry("/dwellings", N_("Dwellings"), Right.SEE_PLACES),
    MenuEntry("/orders", N_("Orders"), Right.SEE_PLANT),
    MenuEntry("/people", N_("Moves and consents"), Right.SEE_PEOPLE),
    MenuEntry("/visit", N_("Commissioning"), Right.METERS),
    MenuEntry("/configuration", N_("Configuration"), Right.SEE_PLACES),
    MenuEntry("/audit", N_("Audit"), Right.SEE_PEOPLE),
    MenuEntry("/support", N_("Support"), Right.SEE_GATEWAY),
)


@dataclass(slots=True)
class Site:
    """What all requests share."""

    daemon: Client
    used: float = field(default_factory=time.monotonic)
    """when a person last asked for something: a scraper does not count"""
    watching: int = 0
    """pages that wait for live values"""
    jobs: Jobs = field(default_factory=Jobs)
    """long calls that go on in the background"""
    _greeting: tuple[float, Answer] = (0.0, {})

    async def greeting(self) -> Answer:
        """Return what the login page may show: the building, and whether the page is open."""
        at, answer = self._greeting
        if not answer or time.monotonic() - at > UNCHANGED:
            answer = await self.daemon.ask("web.greet")
            self._greeting = time.monotonic(), answer
        return answer

    @property
    def last_greeting(self) -> Answer:
        """What the last greeting said, without asking; nothing if there was none."""
        return self._greeting[1]


SITE: web.AppKey[Site] = web.AppKey("site", Site)


FIRST_PROBLEM = 400
"""the lowest HTTP status of an answer that is not what was asked for"""


def site(request: web.Request) -> Site:
    """Return what all requests share."""
    return request.app[SITE]


def visitor(request: web.Request) -> Visitor:
    """Return who asks."""
    asks: Visitor = request["visitor"]
    return asks


async def ask(request: web.Request, call: str, /, reason: str = "", **args: Any) -> Answer:
    """Make a call as the person who asks. Raises Refused as the daemon says."""
    # what a page asks for by itself does not keep a login alive
    live = LIVE if request.path == "/live" else ""
    return await site(request).daemon.ask(call, live + visitor(request).login, reason, **args)


async def follow(request: web.Request, call: str, /, **args: Any) -> AsyncIterator[Answer]:
    """Make a call; yield its progress and its result (see `Client.follow`)."""
    async for message in site(request).daemon.follow(call, visitor(request).login, **args):
        yield message


async def page(
    request: web.Request, template: str, code: int = 200, /, **values: Any
) -> web.Response:
    """Return a page in the language of the person who asks."""
    return _rendered(request, template, code, await _here(request), values)


def _rendered(
    request: web.Request,
    template: str,
    code: int,
    here: tuple[str, LocalTime],
    values: Mapping[str, Any],
) -> web.Response:
    asks = visitor(request)
    building, clock = here
    text = environment(asks.language).get_template(template).render(
        asks=asks,
        building=building,
        clock=clock,
        path=request.path,
        here=page_of(request),
        posted=request.method == "POST",
        menu=[one for one in MENU if asks.login and asks.may(one.right)],
        right=Right,
        **values,
    )  # fmt: skip
    return web.Response(text=text, status=code, content_type="text/html")


def _problem(request: web.Request, code: int) -> web.Response:
    """Return a page that says why a request is not answered.

    The daemon is not asked, since it may be what does not answer, and strangers see nothing of the
    building.
    """
    known = site(request).last_greeting if visitor(request).login else {}
    clock = LocalTime(known.get("zone", "UTC"), visitor(request).language)
    here = known.get("building", ""), clock
    return _rendered(request, "problem.html", code, here, {"code": code, "largest": LARGEST})


async def local_time(request: web.Request) -> LocalTime:
    """Return the clock of the building, in the language of the person who asks."""
    return (await _here(request))[1]


async def _here(request: web.Request) -> tuple[str, LocalTime]:
    """Return the name of the building and its clock, as far as the daemon answers."""
    building = {"building": "gardien", "zone": "UTC"}
    with suppress(Unreachable):
        building = await site(request).greeting()
    return building["building"], LocalTime(building["zone"], visitor(request).language)


async def form(request: web.Request) -> Any:
    """Return the fields of a form that a page of this login has sent.

    Raises HTTPForbidden, HTTPBadRequest; Refused if it is too large.
    """
    fields = await fields_of(request, known=bool(visitor(request).login))
    token = str(fields.get("token", "")).encode(errors="replace")
    if not hmac.compare_digest(token, visitor(request).token.encode()):
        raise web.HTTPForbidden
    request["fields"] = fields
    return fields.copy()


def back_to(path: str) -> str:
    """Return a path of this site; `/` for anything else."""
    parts = urlsplit(path)
    local = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if local and not parts.netloc and not parts.scheme and path.isprintable() else "/"


def page_of(request: web.Request) -> str:
    """Return the address of the page that is shown, or on which a form was sent."""
    if request.method != "POST":
        return request.path_qs
    before = urlsplit(request.headers.get("Referer", ""))
    if before.netloc != request.host:
        return "/"
    return back_to(before.path + (f"?{before.query}" if before.query else ""))


def carried(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the fields that a question about them must send again."""
    kept = getattr(fields, "items", dict(fields).items)()
    return [(name, value) for name, value in kept if name != "token" and isinstance(value, str)]


@web.middleware
async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every answer its headers, and every refusal a page."""
    try:
        async with asyncio.timeout(None if request.path == "/live" else ANSWERED_WITHIN):
            answer = await _answer(request, handler)
    except web.HTTPException as error:
        if error.status < FIRST_PROBLEM:
            # redirects are raised: with the headers of all others
            error.headers.update(HEADERS)
            raise
        answer = _problem(request, error.status)
        if "Allow" in error.headers:  # HTTP wants it with status 405
            answer.headers["Allow"] = error.headers["Allow"]
    except TimeoutError:
        answer = _problem(request, 503)
    except Exception:
        log.exception("the page %s failed because of an error in gardien", request.path)
        answer = _problem(request, 500)
    if not answer.prepared:
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
    return answer


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    request["visitor"] = Visitor(language_of(request))
    if request.method not in {"GET", "HEAD", "POST"}:
        raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD", "POST"])
    if request.method == "POST" and _foreign(request):
        raise web.HTTPForbidden
    if request.path == "/metrics" or request.path.startswith("/static/"):
        return await handler(request)
    site(request).used = time.monotonic()
    try:
        request["visitor"] = await _visitor(request)
        if not visitor(request).login and not request.path.startswith(OPEN_TO_ALL):
            raise LoginNeeded("Log in first")
        return await handler(request)
    except LoginNeeded:
        back = "" if (here := page_of(request)) == "/" else f"back={quote(here)}"
        lost = "ended=form" if request.method == "POST" else ""
        query = "&".join(filter(None, [back, lost]))
        raise web.HTTPSeeOther(f"/login?{query}" if query else "/login") from None
    except Refused as refusal:
        return await _refused(request, refusal)


async def _refused(request: web.Request, refusal: Refused) -> web.StreamResponse:
    """Return the page that says why something was not done, and what to do."""
    fields: Fields = request.get("fields", MultiDict())
    if isinstance(refusal, NeedsConfirmation):
        meant = {doubt.value: doubt for doubt in refusal.doubts}
        return await page(
            request, "confirm.html", 409, doubts=list(meant.values()), fields=carried(fields),
            more=refusal.more, wrong=bool(set(fields.getall("confirm", [])) - {""}),
        )  # fmt: skip
    if isinstance(refusal, ReasonNeeded):
        return await page(
            request, "reason.html", 409, what=refusal.text, fields=carried(fields)
        )  # fmt: skip
    down = isinstance(refusal, Unreachable)
    code = 503 if down else 409
    return await page(request, "refused.html", code, what=refusal.text, again=down)


OPEN_TO_ALL = ("/login", "/language/")
"""paths that need no login begin so"""


def _foreign(request: web.Request) -> bool:
    """Whether a form was sent by a page of another site, or by none that says which."""
    fetched, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if origin is None:
        return fetched not in {"same-origin", "none"}
    return fetched in {"cross-site", "same-site"} or urlsplit(origin).netloc != request.host


async def _visitor(request: web.Request) -> Visitor:
    """Return who asks. Without a login that the daemon knows: nobody."""
    nobody = Visitor(language_of(request))
    login = request.cookies.get(COOKIE, "")
    if not login:
        return nobody
    try:
        live = LIVE if request.path == "/live" else ""
        me = await site(request).daemon.ask("web.me", live + login)
    except LoginNeeded:
        return nobody
    roles = frozenset(role for role in EVERY_ROLE if role in me["roles"])
    return Visitor(nobody.language, login, me["name"], roles, me["until"], me["setup"])


def logged_in(login: str, to: str = "/") -> web.Response:
    """Return an answer that goes to a page with a new login."""
    answer = web.HTTPSeeOther(back_to(to))
    answer.set_cookie(COOKIE, login, secure=True, httponly=True, samesite="Strict", path="/")
    return answer


def logged_out() -> web.Response:
    """Return an answer that forgets the login."""
    answer = web.HTTPSeeOther("/login")
    answer.del_cookie(COOKIE, secure=True, httponly=True, samesite="Strict", path="/")
    return answer


async def choose_language(request: web.Request) -> web.Response:
    """Remember the language of a reader."""
    answer = web.HTTPSeeOther(back_to(request.query.get("back", "/")))
    if (language := request.match_info["language"]) in LANGUAGES:
        answer.set_cookie(
            "gardien-language", language, secure=True, httponly=True, samesite="Lax",
            max_age=31_536_000, path="/",
        )  # fmt: skip
    return answer
