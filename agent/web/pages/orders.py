"""Orders: what is in force at each control, today's orders, and what became of each."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from agent.control.history import ENDS, evidence_text, how_ended, number
from agent.control.model import FAILSAFE, ROLE_NAMES, OrderState
from agent.control.report import extremes, monthly, stairwell
from agent.core.errors import Refused
from agent.core.i18n import N_, Plural, Text, joined
from agent.core.quantities import spoken
from agent.registry.page import printed
from agent.web.live import TEXTS
from agent.web.site import ask, page, site, visitor
from agent.web.words import LocalTime

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.web.client import Answer

COMING = frozenset({OrderState.RECEIVED, OrderState.ACCEPTED, OrderState.SCHEDULED})
"""states of an order that has not begun"""
LONG = 90
"""minutes from which the time left is shown in hours"""
NO_HISTORY: Mapping[str, Any] = {"orders": [], "sentences": [], "concerned": [], "names": {}}
DONE = {
    "released": N_("{control} is released: the device has its own value again"),
    "pending": N_("{control} is not released yet: gardien tries again until the device confirms"),
    "nothing": N_("{control}: no order was in force"),
    "paused": N_("{control} takes no orders for now"),
    "resumed": N_("{control} takes orders again"),
}
"""what an action has brought; its page goes on to the orders"""


class HistoryLine(NamedTuple):
    """One sentence of the history, with the page of its order."""

    sentence: Text
    link: str
    """empty: no order"""


async def clock_of(request: web.Request) -> LocalTime:
    """Return the times of the building in the language of the person who asks."""
    greeting = await site(request).greeting()
    return LocalTime(greeting["zone"], visitor(request).language)


def value_text(value: str, unit: str) -> Text:
    """Return a value of the journal with its unit."""
    return joined(" ", [Text("{value}", value=number(value)), *filter(None, [spoken(unit)])])


def span_text(begin: str, end: str, clock: LocalTime) -> str:
    """Return from when to when, with the day once if it is the same."""
    first, last = clock.local(begin), clock.local(end)
    until = f"{last:%H:%M}" if first.date() == last.date() else clock.time(end)
    return f"{clock.time(begin)} – {until}"


# --- in force ---


async def show(request: web.Request) -> web.StreamResponse:
    """Show what is in force at each control, and today's orders."""
    clock = await clock_of(request)
    today = dt.datetime.now(clock.zone).date()
    controls = (await ask(request, "control.list"))["controls"]
    history, refused = NO_HISTORY, ""
    if controls:
        since = f"{today - dt.timedelta(days=1)}"  # an order of yesterday may be in force
        history, refused = await _history(request, since=since)
    devices = (await ask(request, "status"))["devices"]
    shown = [control_view(name, one, history, devices) for name, one in controls.items()]
    for control in shown:
        for coming in control["next"]:
            coming["span"] = span_text(coming["begin"], coming["end"], clock)
    of_today = {
        (one["jti"], one["control"])
        for one in history["orders"]
        if clock.local(one["at"]).date() == today and one["state"] not in COMING
    }
    return await page(
        request,
        "orders.html",
        controls=shown,
        held=[one for one in shown if one["held"]],
        today=lines(history, clock, of_today),
        month=f"{today:%Y-%m}",
        done=_done(request),
        refused=refused,
        values=_values(shown, clock),
    )


async def _history(request: web.Request, **asked: str) -> tuple[Mapping[str, Any], str]:
    """Return a history, or why it is not shown: what is in force is shown all the same."""
    try:
        return await ask(request, "control.history", **asked), ""
    except Refused as refusal:
        if type(refusal) is not Refused:
            raise
        return NO_HISTORY, refusal.text


def control_view(
    name: str,
    control: Mapping[str, Any],
    history: Mapping[str, Any],
    devices: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return a control as the templates show it, with the order in force."""
    order: Answer = next(
        (
            one
            for one in reversed(history["orders"])
            if (one["jti"], one["control"]) == (control["jti"], name)
        ),
        {},
    )
    device, _slash, point = control["point"].rpartition("/")
    latest = devices.get(device, {}).get("latest", {}).get(point) or {}
    by = control["by"] or ""
    sheet = control["sheet"]
    return {
        **control,
        "name": name,
        "held": control["value"] is not None,
        "failsafe": control["jti"] == FAILSAFE,
        "own": control["jti"] not in {None, FAILSAFE},
        "by": history["names"].get(by, by),
        "why": order.get("why", ""),
        "based": evidence_text(order["authorization"]) if order.get("authorization") else "",
        "begun": order.get("begun"),
        "link": _link(order) if order else "",
        "requested": value_text(control["value"], control["unit"]) if control["value"] else "",
        "device": latest if latest.get("value") is not None else None,
        "unsigned": sheet["version"] if sheet and not sheet["accepted"] else "",
        "next": [
            one | {"text": value_text(one["value"], control["unit"]) if one["value"] else ""}
            for one in control["next"]
        ],
    }


def _values(controls: Iterable[Mapping[str, Any]], clock: LocalTime) -> dict[str, str]:
    """Return the live values of the page, as texts by name."""
    texts = {}
    for control in controls:
        name = control["name"]
        texts[f"left {name}"] = clock.sentence(_left(control["until"])) if control["held"] else ""
        if device := control["device"]:
            value = clock.sentence(value_text(device["value"], device["unit"] or control["unit"]))
            texts[f"device {name}"] = f"{value} ({clock.time(device['at'])})"
        for guard, value in control["guards"].items():
            texts[f"guard {name} {guard}"] = clock.sentence(value)
    return texts


def _left(until: str | None) -> Text:
    """Return for how long an order is still in force."""
    if until is None:
        return Text("until further notice")
    end = dt.datetime.fromisoformat(until)
    left = (end - dt.datetime.now(dt.UTC)).total_seconds()
    minutes = max(0, -(-int(left) // 60))
    if minutes > LONG:
        return Text("{duration} left", duration=dt.timedelta(minutes=minutes))
    return Plural("{number} minute left", "{number} minutes left", minutes)


async def _live(request: web.Request) -> Mapping[str, str]:
    clock = await clock_of(request)
    controls = (await ask(request, "control.list"))["controls"]
    devices = (await ask(request, "status"))["devices"]
    bare: Answer = {"orders": [], "names": {}}
    shown = [control_view(name, one, bare, devices) for name, one in controls.items()]
    state = [
        (one["name"], one["state"], one["jti"], one["value"], one["until"], one["alarm"],
         one["forbidden"], len(one["next"]))
        for one in shown
    ]  # fmt: skip
    return {"state": repr(state), **_values(shown, clock)}


def _done(request: web.Request) -> Text | None:
    text, control = DONE.get(request.query.get("done", "")), request.query.get("control", "")
    return Text(text, control=control) if text and control else None


# --- history ---


def lines(
    history: Mapping[str, Any], clock: LocalTime, only: set[tuple[str, str]] | None = None
) -> list[HistoryLine]:
    """Return the sentences of a history, the newest first; `only` those of some orders."""
    orders = {(one["jti"], one["control"]): one for one in history["orders"]}
    made = []
    for sentence, (jti, control) in zip(history["sentences"], history["concerned"], strict=True):
        order = orders.get((jti, control))
        if only is None or (jti, control) in only:
            made.append(HistoryLine(sentence, _link(order, clock) if order else ""))
    return made[::-1]


def _link(order: Mapping[str, Any], clock: LocalTime | None = None) -> str:
    day = clock.local(order["at"]).date() if clock else order["at"][:10]
    asked = {"id": order["jti"], "control": order["control"], "day": f"{day}"}
    if order["jti"] == FAILSAFE:  # it has no id of its own
        asked["at"] = order["at"]
    return f"/orders/order?{urlencode(asked)}"


async def history(request: web.Request) -> web.StreamResponse:
    """Show what was done in a month, one sentence for each order."""
    clock, name = await clock_of(request), request.query.get("control", "")
    first = _month(request.query.get("month", ""), dt.datetime.now(clock.zone).date())
    following = (first + dt.timedelta(days=32)).replace(day=1)
    today = dt.datetime.now(clock.zone).date()
    last = min(following - dt.timedelta(days=1), today)
    made, refused = await _history(request, name=name, since=f"{first}", until=f"{last}")
    names = (await ask(request, "control.list"))["controls"]
    return await page(
        request,
        "orders-history.html",
        lines=lines(made, clock),
        refused=refused,
        month=f"{first:%Y-%m}",
        title=month_title(first),
        before=f"{first - dt.timedelta(days=1):%Y-%m}",
        after=f"{following:%Y-%m}" if following <= today else "",
        control=name,
        controls=[("", Text("all")), *((one, one) for one in names)],
    )


def _month(text: str, today: dt.date) -> dt.date:
    """Return the first day of a month such as 2026-11; of this month for anything else."""
    try:
        first = dt.datetime.strptime(text, "%Y-%m").replace(tzinfo=dt.UTC).date()
    except ValueError:
        first = today
    return min(first, today).replace(day=1)


def month_title(first: dt.date) -> Text:
    """Return a month with its year."""
    return Text("{month} {year}", month=Text(f"{first:%B}"), year=f"{first:%Y}")


async def report(request: web.Request) -> web.StreamResponse:
    """Return the report of a month, or its notice for the stairwells, as a page to print."""
    kind = request.match_info["kind"]
    made = await ask(
        request,
        "control.report",
        month=request.query.get("month", ""),
        name=request.query.get("control", ""),
    )
    document = (stairwell if kind == "notice" else monthly)(made, visitor(request).language)
    name = f"{kind}-{made['month']}.html"
    return web.Response(
        text=printed(document),
        content_type="text/html",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


# --- one order ---


async def order_page(
    request: web.Request, order: Mapping[str, Any], **more: Any
) -> web.StreamResponse:
    """Return the page of one order."""
    return await page(
        request,
        "order.html",
        order=order,
        value=value_text(order["value"], order["unit"]) if order["value"] else "–",
        by=order["names"].get(order["by"], order["by"]),
        based=evidence_text(order["authorization"]) if order["authorization"] else "",
        seen=extremes(order["seen"], visitor(request).language) if order["seen"] else "",
        result=_result(order),
        failsafe=order["jti"] == FAILSAFE,
        **more,
    )


async def order_of(request: web.Request, clock: LocalTime) -> dict[str, Any]:
    """Return the order that the address names. Raises HTTPNotFound."""
    asked = request.query
    try:
        day = dt.date.fromisoformat(asked.get("day", ""))
    except ValueError:
        raise web.HTTPNotFound from None
    today, beside = dt.datetime.now(clock.zone).date(), dt.timedelta(days=1)
    made = await ask(
        request,
        "control.history",
        name=asked.get("control", ""),
        since=f"{min(day, today) - beside}",
        until=f"{min(day + beside, today)}",
    )
    orders = [one for one in made["orders"] if one["jti"] == asked.get("id")]
    if "at" in asked:
        orders = [one for one in orders if one["at"] == asked["at"]]
    if not orders:
        raise web.HTTPNotFound
    return {**orders[-1], "names": made["names"]}


def _result(order: Mapping[str, Any]) -> Text:
    state = OrderState(order["state"])
    if state is OrderState.STARTED:
        return Text("in force")
    if state in COMING:
        return Text("not begun yet")
    if state is OrderState.RELEASE_PENDING:
        return Text("not released yet")
    ended = ENDS.get(state, Text("{state}", state=state))
    if not order["outcome"]:
        return ended
    why = how_ended(order["outcome"])
    if order["code"]:
        why = Text("{reason} ({code})", reason=why, code=order["code"])
    return Text("{ended}: {why}", ended=ended, why=why)


# --- authorizations ---


async def grants(request: web.Request) -> web.StreamResponse:
    """Show who has authorized which orders, and until when."""
    made: Sequence[Answer] = (await ask(request, "control.grants"))["grants"]
    in_force = [one for one in made if one["stands"]]
    return await page(
        request,
        "grants.html",
        grants=[*in_force, *(one for one in made if not one["stands"])],
        roles=ROLE_NAMES,
        evidence={one["jti"]: evidence_text(one["evidence"]) for one in made},
    )


TEXTS["orders"] = _live
ROUTES = [
    web.get("/orders", show),
    web.get("/orders/history", history),
    web.get("/orders/{kind:report|notice}", report),
    web.get("/orders/grants", grants),
]
