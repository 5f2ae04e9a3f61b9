"""The audit chain: whether it is intact, what it records, and who has seen data of dwellings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from aiohttp import web

from agent.core.errors import Refused
from agent.registry.access_log import ACCESSES
from agent.trust.audit import MOST_RECORDS
from agent.web.audit_text import KINDS, members, sentence
from agent.web.site import ask, page, site, visitor
from agent.web.words import LocalTime, values_of

if TYPE_CHECKING:
    from collections.abc import Sequence

ON_A_PAGE = 50
"""records"""


async def show(request: web.Request) -> web.StreamResponse:
    """Show whether the chain is intact, and its records, the newest first."""
    kind, day = request.query.get("kind", ""), request.query.get("day", "")
    number = _page_number(request)
    clock = LocalTime((await site(request).greeting())["zone"], visitor(request).language)
    last = MOST_RECORDS if day else min((number + 1) * ON_A_PAGE + 1, MOST_RECORDS)
    answer = await ask(request, "audit.list", kind=kind, last=last, **values_of(since=day))
    records = answer["records"][::-1]
    if day:
        records = [one for one in records if f"{clock.local(one['t']):%Y-%m-%d}" == day]
    shown = records[number * ON_A_PAGE : (number + 1) * ON_A_PAGE]
    return await page(
        request,
        "audit.html",
        chain=await _verified(request),
        rows=[_row(one) for one in shown],
        kinds=[("", ""), *KINDS.items()],
        kind=kind,
        day=day,
        newer=_link("/audit", number - 1, kind=kind, day=day) if number else "",
        older=_link("/audit", number + 1, kind=kind, day=day)
        if len(records) > (number + 1) * ON_A_PAGE
        else "",
        limit=MOST_RECORDS if len(answer["records"]) == MOST_RECORDS else 0,
    )


def _row(record: dict[str, Any]) -> dict[str, Any]:
    return record | {
        "sentence": sentence(record["type"], record["body"]),
        "by": record["body"].get("by") or "",
        "members": members(record["body"]),
    }


async def _verified(request: web.Request) -> dict[str, Any]:
    """Return the result of the verification, or why the chain is broken."""
    try:
        return {"broken": "", **await ask(request, "audit.verify")}
    except Refused as refusal:
        if type(refusal) is not Refused:
            raise
        return {"broken": refusal.text}


def _page_number(request: web.Request) -> int:
    text = request.query.get("page", "0")
    return min(int(text), MOST_RECORDS // ON_A_PAGE) if text.isdecimal() else 0


def _link(path: str, number: int, **values: str) -> str:
    return f"{path}?{urlencode(values_of(page=number or '', **values))}"


async def accesses(request: web.Request) -> web.StreamResponse:
    """Show who has seen data of dwellings, the newest first."""
    number = _page_number(request)
    looks: Sequence[dict[str, Any]] = (await ask(request, "privacy.access"))["looks"][::-1]
    first = number * ON_A_PAGE
    return await page(
        request,
        "accesses.html",
        looks=looks[first : first + ON_A_PAGE],
        kinds=ACCESSES,
        newer=_link("/audit/access", number - 1) if number else "",
        older=_link("/audit/access", number + 1) if len(looks) > first + ON_A_PAGE else "",
        years=5,
    )


ROUTES = [web.get("/audit", show), web.get("/audit/access", accesses)]
