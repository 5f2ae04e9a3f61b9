"""`GET /metrics`: the numbers for those who run many gateways (docs/metrics.md)."""

from __future__ import annotations

from aiohttp import web

from agent.core.errors import LoginNeeded
from agent.web.client import LIVE, Unreachable
from agent.web.site import site

BEARER = "Bearer "


async def show(request: web.Request) -> web.StreamResponse:
    """Give the numbers to who has a token of `gardien web token`; it keeps no page alive."""
    from agent.web.metrics import exposition  # noqa: PLC0415 -- 3 MB that people do not need

    token = request.headers.get("Authorization", "")
    if not token.startswith(BEARER):
        return _unknown()
    try:
        answer = await site(request).daemon.ask("metrics", LIVE + token.removeprefix(BEARER))
    except LoginNeeded:
        return _unknown()
    except Unreachable as error:
        return web.Response(status=503, text=f"{error}\n")
    body, kind = exposition(answer["families"], request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": kind})


def _unknown() -> web.Response:
    return web.Response(
        status=401,
        text="a token is needed: sudo gardien web token NAME\n",
        headers={"WWW-Authenticate": 'Bearer realm="gardien"'},
    )


ROUTES = [web.get("/metrics", show)]
