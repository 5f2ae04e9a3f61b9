"""The gateway's small history of common plant and of itself, as plots.

A version without a history, or a person who may not see it, has no plots: nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.core.clock import stamp
from agent.core.errors import LoginNeeded, Refused
from agent.core.i18n import N_, Text
from agent.core.quantities import channels
from agent.registry.page import label
from agent.web.client import Unreachable
from agent.web.plot import MOST_CURVES, Curve, CurveKind, csv_of, figure
from agent.web.site import ask, local_time, visitor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web
    from markupsafe import Markup

GATEWAY = "@gateway"
"""in place of the device: the series of the gateway itself"""
MOST_AT_ONCE = 12
"""series that one call reads"""
QUARTER, DAY = 900, 86_400
GAP = 1.6
"""steps: values that are further apart are not joined"""


@dataclass(frozen=True, slots=True)
class PlotTime:
    """A time that plots show."""

    name: str
    seconds: int
    step: str

    @property
    def every(self) -> int:
        """Seconds from one value to the next."""
        return QUARTER if self.step == "15m" else DAY


SPANS: Mapping[str, PlotTime] = {
    "day": PlotTime(N_("24 hours"), DAY, "15m"),
    "week": PlotTime(N_("7 days"), 7 * DAY, "15m"),
    "month": PlotTime(N_("35 days"), 35 * DAY, "1d"),
    "year": PlotTime(N_("13 months"), 396 * DAY, "1d"),
}


def span_of(request: web.Request) -> str:
    """Return the key of the time that the address of the page names."""
    chosen = request.query.get("span", "")
    return chosen if chosen in SPANS else "day"


async def series_of(request: web.Request, device: str) -> list[dict[str, Any]]:
    """Return the series of a device, or those of the gateway itself."""
    try:
        listed = (await ask(request, "history.series"))["series"]
    except (LoginNeeded, Unreachable):
        raise
    except Refused:  # there is no history, or the person may not see it
        return []
    return [series for series in listed if series["device"] == device and series["last"]]


async def curves_of(
    request: web.Request, series: Sequence[dict[str, Any]], span: PlotTime, factor: float = 1
) -> tuple[list[Curve], float, float]:
    """Return the values of series until now as curves, and the time that they are of."""
    until = (await _now(request)) // span.every * span.every + span.every
    since = until - span.seconds
    curves = []
    for first in range(0, len(series), MOST_AT_ONCE):
        part = series[first : first + MOST_AT_ONCE]
        answer = await ask(
            request, "history.read", series=[known["id"] for known in part],
            since=stamp(since), until=stamp(until), step=span.step,
        )  # fmt: skip
        rows = {known["id"]: known for known in answer["series"]}
        curves += [
            curve_of(known, rows[known["id"]], span, factor, visitor(request).language)
            for known in part
        ]
    return curves, since, until


async def _now(request: web.Request) -> float:
    """Return the time of the daemon: the plots end there."""
    clock = await local_time(request)
    return clock.now().timestamp()


def curve_of(
    series: dict[str, Any], answer: dict[str, Any], span: PlotTime, factor: float, language: str
) -> Curve:
    """Return the rows of a series as a curve, their values times `factor`."""
    columns, rows = answer["columns"], answer["rows"]
    gap = GAP * span.every
    name = title_of(series, language)
    if "mean" in columns:
        return Curve.of_history(name, [row[:4] for row in rows], gap, factor)
    # the quantity of each step; a quarter of an hour is named by its end, a day by its beginning
    before = QUARTER if span.step == "15m" else 0
    which = columns.index("quantity")
    points: list[tuple[float, float | None]] = []
    for row, last in zip(rows, [None, *rows[:-1]], strict=True):
        # after a gap it is the quantity of more than one step
        whole = "index" not in columns or last is None or row[0] - last[0] <= gap
        value = row[which] * factor if whole and row[which] is not None else None
        points.append((row[0] - before, value))
    return Curve(name, points, CurveKind.STEPS, gap=span.every)


def title_of(series: dict[str, Any], language: str) -> str:
    """Return the name of a series for people: its quantity and its point."""
    channel = series.get("channel") or ""
    if channel not in channels():
        return str(series["point"])
    named = Text("{quantity} ({point})", quantity=label(channel, language), point=series["point"])
    return named.in_language(language)


def of_each_step(title: str, span: PlotTime) -> Text:
    """Return the title of a plot of quantities."""
    each = N_("{title}, of each quarter of an hour")
    return Text(each if span.step == "15m" else N_("{title}, of each day"), title=title)


async def figures(
    request: web.Request, series: Sequence[dict[str, Any]], path: str
) -> list[Markup]:
    """Return a plot for each unit of some series. `path`: the address that answers their CSV."""
    asks, clock = visitor(request), await local_time(request)
    chosen = span_of(request)
    plots = []
    for unit, kind in dict.fromkeys((known["unit"], known.get("kind", "")) for known in series):
        same = [known for known in series if (known["unit"], known.get("kind", "")) == (unit, kind)]
        for first in range(0, len(same), MOST_CURVES):
            part = same[first : first + MOST_CURVES]
            curves, since, until = await curves_of(request, part, SPANS[chosen])
            names = ",".join(known["point"] for known in part)
            title = curves[0].name if len(curves) == 1 else Text("Values in {unit}", unit=unit)
            if kind in {"register", "amount"}:
                title = of_each_step(title, SPANS[chosen])
            plots.append(
                figure(
                    title,
                    curves,
                    unit,
                    since,
                    until,
                    clock,
                    asks.language,
                    csv=f"{path}?span={chosen}&points={names}",
                )
            )
    return plots


async def csv_text(request: web.Request, device: str) -> str:
    """Return the CSV of the series that the address names. Raises Refused."""
    points = request.query.get("points", "").split(",")
    series = [one for one in await series_of(request, device) if one["point"] in points]
    if not series:
        raise Refused("there is no history of these points. Load the page again")
    curves, _since, _until = await curves_of(request, series, SPANS[span_of(request)])
    asks = visitor(request)
    return csv_of(curves, series[0]["unit"], await local_time(request), asks.language)
