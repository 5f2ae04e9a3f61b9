"""The pages: one file for each topic, with its routes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.web import live
from agent.web.pages import (
    audit,
    course,
    dwellings,
    entry,
    gateway,
    lines,
    now,
    numbers,
    order_actions,
    orders,
    people,
    recipients,
    visit,
)
from agent.web.site import choose_language

if TYPE_CHECKING:
    from aiohttp import web

STATIC = Path(__file__).parents[1] / "static"
TOPICS = (
    entry, now, lines, recipients, dwellings, orders, course, order_actions, people, visit, audit,
    gateway, numbers, live,
)  # fmt: skip


def add_pages(app: web.Application) -> None:
    """Add the routes of all pages."""
    for topic in TOPICS:
        app.add_routes(topic.ROUTES)
    app.router.add_get("/language/{language}", choose_language)
    app.router.add_static("/static/", STATIC)
