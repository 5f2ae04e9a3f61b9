"""What is sent: to whom, on which bases, what waits, and for how long it can wait."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.api.roles import Right
from agent.core.errors import Refused
from agent.core.i18n import N_, Plural, Text
from agent.registry.labels import in_order
from agent.web.history import GATEWAY, SPANS, curves_of, of_each_step, series_of, span_of
from agent.web.live import TEXTS
from agent.web.pages.lines import quantity_name
from agent.web.plot import Curve, csv_answer, csv_of, figure
from agent.web.site import ask, form, local_time, page, visitor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from agent.web.client import Answer

CONNECTED = {
    "yes": N_("connected now"),
    "silent": N_("connected, but it does not answer"),
    "no": N_("not connected now"),
}
RECEIPTS = {
    "signed": N_("only its signed receipts count"),
    "broker": N_("receipts come from its broker, not from the recipient: weaker proof"),
    "platform": N_("it confirms each batch itself"),
}
TRANSPORTS = {"mqtt": "MQTT", "https": "HTTPS", "files": N_("files in a folder")}
LONG = 365
"""days; an outage for which the room lasts longer is not counted"""
SOON = 30
"""days of an outage below which the room is marked"""
DAY = 86_400


async def show(request: web.Request) -> web.StreamResponse:
    """Show each recipient."""
    status, listed = await ask(request, "status"), await ask(request, "uplink.list")
    asks = visitor(request)
    sent = await _sent(request) if asks.may(Right.SEE_PEOPLE) else None
    plots = await _plots(request)
    return await page(
        request,
        "recipients.html",
        recipients=[
            view(name, uplink, status["uplinks"].get(name))
            | {
                "sent": None if sent is None else sent.get(uplink["recipient"], []),
                "plots": plots.get(name, []),
            }
            for name, uplink in listed["uplinks"].items()
        ],
        left=listed["left"],
        step_text=step_text,
        may_retry=asks.may(Right.LINES),
        retried=request.query.get("retried", ""),
        spans=SPANS,
        span=span_of(request),
        has_plots=bool(plots),
    )


def view(name: str, uplink: Answer, state: Answer | None) -> dict[str, Any]:
    """Return a recipient as the template shows it. `state`: None while its spool is not open."""
    known = {"name": name, **uplink, "state": state, "mark": "note"}
    known["connection"] = Text("its storage is not open")
    known["transport"] = TRANSPORTS.get(uplink["transport"], uplink["transport"])
    if state is None:
        return known
    key = connection(state["delivery"])
    mark = {"yes": "fine", "silent": "bad", "no": "bad"}[key]
    backlog = state["backlog"]
    return known | {
        "connection": Text(CONNECTED[key]),
        "mark": "warn" if mark == "fine" and (state["late"] or backlog["quarantined"]) else mark,
        "problem": _problem(state["delivery"]),
        "receipts": Text(RECEIPTS[str(state["receipt"])]),
        "waiting": waiting(state),
        "room": room(state["bears_days"]),
        "room_short": state["bears_days"] is not None and state["bears_days"] < SOON,
        "filled": backlog["used"] / max(backlog["cap"], 1),
        "data": state["data"],
    }


def connection(delivery: Mapping[str, Any]) -> str:
    """Return the key of a connection's state in CONNECTED."""
    if not delivery["connected_since"]:
        return "no"
    # a broker that is frozen keeps the connection open
    return "silent" if delivery["silent_since"] else "yes"


def _problem(delivery: Mapping[str, Any]) -> str:
    return next(filter(None, (delivery[key] for key in ("alarm", "lost", "last_error"))), "")


def waiting(state: Answer) -> Text:
    """Return how many values wait, refused ones included."""
    backlog = state["backlog"]
    number = backlog["slots"] + backlog["batch_rows"] + backlog["quarantined_rows"]
    return Plural("{number:,} value waits", "{number:,} values wait", number)


def room(days: int | None) -> Text:
    """Return for how long the recipient may be unreachable before values are given up."""
    if days is None:
        return Text("nothing is stored for it")
    if days >= LONG:
        return Text("more than a year")
    return Plural("about {number} day", "about {number} days", days)


# --- what is sent on which basis ---


async def _sent(request: web.Request) -> dict[str, list[dict[str, Any]]]:
    """Count the consents and duties in force of each recipient, by purpose, quantity and step."""
    consents = (await ask(request, "consent.count"))["consents"]
    duties = (await ask(request, "duty.list"))["duties"]
    duty_rows = [
        {**duty, "purpose": duty["reference"], "step": None, "number": None}
        for duty in duties
        if duty["in_force"]
    ]
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in (*sorted(consents, key=lambda row: in_order(row["purpose"])), *duty_rows):
        rows.setdefault(row["recipient"], []).append(row)
    return rows


def quantities(names: Sequence[str], language: str) -> str:
    """Return the names of quantities for people."""
    return ", ".join(quantity_name(name, language) or name for name in names)


def step_text(step: int | None) -> Text:
    """Return how often something is sent; None: at the dates of a duty."""
    if step is None:
        return Text("at the dates of the duty")
    if step >= DAY:
        return Text("monthly") if step > DAY else Text("daily")
    minutes, rest = divmod(step, 60)
    if rest:
        return Text("every {number} s", number=step)
    return Text("every {number} min", number=minutes)


# --- plots ---

SENT, WAITING = "sent", "waiting"
"""the gateway's own series of a recipient, before its name"""
BYTES: tuple[tuple[str, float], ...] = ((N_("MB"), 1e-6), (N_("kB"), 1e-3))
"""units of data: name and factor"""


async def _plots(request: web.Request) -> dict[str, list[Markup]]:
    """Return the plots of the backlog and of the data of each recipient."""
    clock, asks = await local_time(request), visitor(request)
    key = span_of(request)
    plots: dict[str, list[Markup]] = {}
    for series in sorted(await series_of(request, GATEWAY), key=_backlog_first):
        kind, _slash, name = series["point"].partition("/")
        if kind not in {SENT, WAITING}:
            continue
        curve, unit, since, until = await _curve(request, series)
        title = Text("Values waiting for {recipient}", recipient=name)
        if kind == SENT:
            title = of_each_step(Text("Data sent to {recipient}", recipient=name), SPANS[key])
        plots.setdefault(name, []).append(
            figure(
                title,
                [curve],
                unit,
                since,
                until,
                clock,
                asks.language,
                csv=f"/recipients/history.csv?span={key}&point={series['point']}",
            )
        )
    return plots


def _backlog_first(series: Answer) -> bool:
    return not series["point"].startswith(f"{WAITING}/")


async def _curve(request: web.Request, series: Answer) -> tuple[Curve, str, float, float]:
    """Return a series of the gateway as a curve, with its unit and time."""
    span = SPANS[span_of(request)]
    (curve,), since, until = await curves_of(request, [series], span)
    if not series["point"].startswith(f"{SENT}/"):
        return replace(curve, name=Text("values")), "1", since, until
    large = max(curve.values(), default=0) >= 1 / BYTES[0][1]
    unit, factor = BYTES[0] if large else BYTES[1]
    points = [(at, None if value is None else value * factor) for at, value in curve.points]
    return replace(curve, name=Text("data"), points=points), Text(unit), since, until


async def history(request: web.Request) -> web.StreamResponse:
    """Answer a series of the gateway itself as CSV."""
    point = request.query.get("point", "")
    series = [one for one in await series_of(request, GATEWAY) if one["point"] == point]
    if not series:
        raise Refused("there is no history of these points. Load the page again")
    curve, unit, _since, _until = await _curve(request, series[0])
    text = csv_of([curve], unit, await local_time(request), visitor(request).language)
    return csv_answer(text, f"{point}.csv")


# --- what it does ---


async def retry(request: web.Request) -> web.StreamResponse:
    """Send the refused batches of a recipient again."""
    await form(request)
    answer = await ask(request, "uplink.retry", name=request.match_info["name"])
    raise web.HTTPSeeOther(f"/recipients?retried={int(answer['batches'])}")


async def _texts(request: web.Request) -> Mapping[str, str]:
    status, clock = await ask(request, "status"), await local_time(request)
    language = visitor(request).language
    texts: dict[str, str] = {}
    marks = []
    for name, state in status["uplinks"].items():
        seen = view(name, {"recipient": "", "transport": ""}, state)
        marks.append((name, seen["mark"], bool(state["backlog"]["quarantined"])))
        texts |= {
            f"waiting/{name}": seen["waiting"].in_language(language),
            f"receipt/{name}": clock.time(state["delivery"]["last_receipt"]),
            f"oldest/{name}": clock.time(state["backlog"]["oldest"]),
            f"room/{name}": seen["room"].in_language(language),
        }
    return texts | {"state": repr(marks)}


TEXTS["recipients"] = _texts
ROUTES = [
    web.get("/recipients", show),
    web.get("/recipients/history.csv", history),
    web.post("/recipients/{name}/retry", retry),
]
