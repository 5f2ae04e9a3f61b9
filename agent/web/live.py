"""Live values: while a page is open, the texts that have changed (server-sent events).

A page names its place in the query (`/live?page=lines`). Its topic registers what it shows; the
names are those of `data-value` in its template. A page that shows something under way adds the
`state` that it shows: what ended before its browser listens has changed it, too.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from aiohttp import web

from agent.core.errors import LoginNeeded, Refused
from agent.web.site import HEADERS, Site, site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

EVERY = 5.0
"""seconds between two looks"""
MOST = 16
"""pages that watch at the same time; others show what was when they were loaded"""
LONGEST = 3600.0
"""seconds after which a page must be loaded again"""
TEXTS: dict[str, Callable[[web.Request], Awaitable[Mapping[str, str]]]] = {}
"""what each page shows now: texts by name. `state` of them tells whether the page itself has
changed"""


async def live(request: web.Request) -> web.StreamResponse:
    """Send what changes until the browser leaves."""
    texts = TEXTS.get(request.query.get("page", ""))
    shared = site(request)
    if texts is None or shared.watching >= MOST:
        raise web.HTTPNoContent  # a browser does not ask again
    answer = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
    shared.watching += 1
    try:
        await answer.prepare(request)
        await _send_changes(request, answer, texts, shared)
    except (ConnectionError, TimeoutError):
        pass  # the browser has left, or reads nothing
    finally:
        shared.watching -= 1
    return answer


async def _send_changes(
    request: web.Request,
    answer: web.StreamResponse,
    texts: Callable[[web.Request], Awaitable[Mapping[str, str]]],
    shared: Site,
) -> None:
    shown = request.query.get("state")
    before: Mapping[str, str] | None = None if shown is None else {"state": shown}
    over = time.monotonic() + LONGEST
    while time.monotonic() < over:
        try:
            now = await texts(request)
        except LoginNeeded:
            break
        except Refused:  # the daemon is restarting: the page shows what it last knew
            now = before or {}
        shared.used = time.monotonic()
        if before is not None and now.get("state") != before.get("state"):
            await _send(answer, "changed", {})
        changed = {n: text for n, text in now.items() if before is None or before.get(n) != text}
        # sent also if empty: whether the browser is still there shows only by sending
        await _send(answer, "values", changed)
        before = now
        await asyncio.sleep(EVERY)
    await _send(answer, "over", {})


async def _send(answer: web.StreamResponse, event: str, data: Mapping[str, str]) -> None:
    async with asyncio.timeout(EVERY):
        await answer.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())


ROUTES = [web.get("/live", live)]
