"""The course of an order: what was requested, what the device did, what the guards measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.web.pages.orders import clock_of, order_of, order_page
from agent.web.plot import Curve, CurveKind, LimitLine, Mark, csv_answer, csv_of, figure
from agent.web.site import ask, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markupsafe import Markup

    from agent.web.client import Answer
    from agent.web.words import LocalTime

GAPS = {"1m": 180.0, "15m": 2_700.0}
"""seconds without a value from which a curve is interrupted, by step"""
ROLES = {
    "power": N_("Power"),
    "guard": N_("Guard {name}"),
}


class Plot(NamedTuple):
    """What one plot of an order shows."""

    title: Text
    unit: str
    curves: Sequence[Curve]
    limit: LimitLine | None = None


async def course_of(request: web.Request, order: Mapping[str, Any]) -> Answer:
    """Return what was measured around an order. Raises Refused if it cannot be known any more."""
    asked = {"name": order["control"]}
    if "at" in request.query:  # the failsafe has no id: the time in which it was in force
        span = {"since": order["at"], "until": order["released"] or ""}
        return await ask(request, "control.course", **asked, **span)
    return await ask(request, "control.course", **asked, jti=order["jti"])


async def figures(
    request: web.Request, order: Mapping[str, Any], clock: LocalTime
) -> tuple[list[Markup], str]:
    """Return the plots of an order, and why there are none."""
    try:
        course = await course_of(request, order)
    except Refused as refusal:
        if type(refusal) is not Refused:
            raise
        return [], refusal.text
    since, until = (clock.local(course[end]).timestamp() for end in ("since", "until"))
    mark = None
    if order["begun"]:
        begun = clock.local(order["begun"]).timestamp()
        over = clock.local(order["released"]).timestamp() if order["released"] else until
        mark = Mark(Text("in force"), begun, over)
    csv = f"/orders/course.csv?{request.query_string}"
    return [
        figure(
            plot.title, plot.curves, plot.unit, since, until, clock, visitor(request).language,
            csv=f"{csv}&plot={number}", mark=mark, limit=plot.limit,
        )
        for number, plot in enumerate(plots(course))
        if any(value is not None for curve in plot.curves for _at, value in curve.points)
    ], course["no_points"]  # fmt: skip


def plots(course: Mapping[str, Any]) -> Iterator[Plot]:
    """Yield what the plots of a course show: the device first, then power and guards."""
    for point in course["points"]:
        curve = _measured(point)
        if point["role"] == "point":
            requested = Curve(Text("requested"), course["requested"], CurveKind.STEPS)
            curves = [requested, curve] if curve.points else [requested]
            yield Plot(Text("Requested, and what the device had"), course["unit"], curves)
            continue
        title = Text(ROLES[point["role"]], name=point["name"])
        bound = next(
            (
                LimitLine(Text(text), point[end])
                for end, text in (("min", N_("at least")), ("max", N_("at most")))
                if point.get(end) is not None
            ),
            None,
        )
        yield Plot(title, point["unit"], [curve], bound)


def _measured(point: Mapping[str, Any]) -> Curve:
    name = Text("measured") if point["role"] != "point" else Text("device")
    rows, gap = point["rows"], GAPS.get(point["step"], math.inf)
    if "mean" in point["columns"]:
        return Curve.of_history(name, rows, gap)
    return Curve(name, [(at, value) for at, value, *_index in rows], gap=gap)


async def csv(request: web.Request) -> web.StreamResponse:
    """Return the values of one plot as CSV."""
    clock = await clock_of(request)
    order = await order_of(request, clock)
    shown = list(plots(await course_of(request, order)))
    number = request.query.get("plot", "")
    if not number.isdecimal() or int(number) >= len(shown):
        raise web.HTTPNotFound
    plot = shown[int(number)]
    text = csv_of(plot.curves, plot.unit, clock, visitor(request).language)
    day = clock.local(order["at"])
    return csv_answer(text, f"{order['control']}-{day:%Y-%m-%d-%H%M}-{number}.csv")


async def show(request: web.Request) -> web.StreamResponse:
    """Show one order with its plots."""
    clock = await clock_of(request)
    order = await order_of(request, clock)
    drawn, why = await figures(request, order, clock) if order["begun"] else ([], "")
    return await order_page(request, order, figures=drawn, no_course=why)


ROUTES = [web.get("/orders/order", show), web.get("/orders/course.csv", csv)]
