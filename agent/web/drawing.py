"""The geometry of a plot: round ticks of values and of the building's time, and the paths. Pure."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from agent.core.i18n import N_, Text, in_language
from agent.web.curve import CurveKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.web.curve import Curve, LimitLine, Mark
    from agent.web.words import LocalTime

HOUR_AND_MINUTE, SHORT_DAY, SHORT_MONTH = "%H:%M", N_("{month}-{day}"), N_("{year}-{month}")


class Tick(NamedTuple):
    """A line of the grid, at a place in the drawing."""

    at: float
    text: str


@dataclass(slots=True)
class Drawing:
    """One of the two forms of a plot, with all places in units of its view box."""

    form: str
    width: int
    height: int
    most_times: int
    least_left: int = 0
    """width of the unit, which is above the axis of values"""
    left: int = 0
    across: list[Tick] = field(default_factory=list)
    up: list[Tick] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)
    """class and path of each curve; bands first"""
    marked: tuple[float, float] | None = None
    """left end and width of the marked time"""
    limit: float | None = None

    TOP, BOTTOM, RIGHT = 22, 24, 14

    @property
    def right(self) -> int:
        """The right end of the axis of time."""
        return self.width - self.RIGHT

    @property
    def bottom(self) -> int:
        """The lower end of the axis of values."""
        return self.height - self.BOTTOM


FORMS = (("narrow", 340, 230, 5), ("wide", 880, 280, 9))
"""name, width, height, and the most ticks of time"""
LETTER = 7.2
"""width of a digit of an axis"""


def round_range(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the ends of the axis of values and its step: 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    # values far from 0 would be a flat line if it were shown
    low, high = (min(low, 0), high) if low < high / 2 else (low, high)
    low, high = (low, max(high, 0)) if high > low / 2 else (low, high)
    if high - low < 1e-9 * max(abs(high), abs(low), 1e-6):
        low, high = (low - abs(low) / 10, high + abs(high) / 10) if low else (0, 1)
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(power * n for n in (1, 2, 5, 10) if power * n * 4.5 >= high - low)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step


MINUTE, HOUR, DAY = 60, 3600, 86_400
WITHIN_A_DAY = tuple(
    n * MINUTE for n in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)
)  # each divides a day, so that ticks are at the same hours on all days
DAYS, MONTHS = (1, 2, 7, 14), (1, 2, 3, 6, 12, 24, 60)


def times_of(
    since: float, until: float, most: int, clock: LocalTime, language: str
) -> list[tuple[float, str]]:
    """Return round times of the building's zone and their texts, at most `most`."""
    lasts = max(until - since, MINUTE)
    if (step := next((n for n in WITHIN_A_DAY if lasts / n < most), None)) is not None:
        return list(_hours(since, until, step, clock, language))
    days = next((n for n in DAYS if lasts / DAY / n < most), None)
    months = next((n for n in MONTHS if lasts / DAY / 30 / n < most), MONTHS[-1])
    ticks = []
    day = clock.local(since).date()
    while (at := _midnight(day, clock)) <= until:
        if days:
            fits, text = (day.toordinal() - 1) % days == 0, SHORT_DAY  # weeks begin on Mondays
        else:
            fits, text = day.day == 1 and (day.year * 12 + day.month - 1) % months == 0, SHORT_MONTH
        if at >= since and fits:
            ticks.append((at, _day_text(day, text, language)))
        day += dt.timedelta(days=1)
    return ticks


def _hours(
    since: float, until: float, step: int, clock: LocalTime, language: str
) -> Iterator[tuple[float, str]]:
    day = clock.local(since).date()
    while (midnight := _midnight(day, clock)) <= until:
        for seconds in range(0, DAY, step):
            local = dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=seconds)
            at = local.replace(tzinfo=clock.zone).timestamp()
            # in spring an hour is missing
            if since <= at <= until and clock.local(at).replace(tzinfo=None) == local:
                text = f"{local:{HOUR_AND_MINUTE}}"
                yield at, _day_text(day, SHORT_DAY, language) if at == midnight else text
        day += dt.timedelta(days=1)


def _midnight(day: dt.date, clock: LocalTime) -> float:
    return dt.datetime.combine(day, dt.time(), clock.zone).timestamp()


def _day_text(day: dt.date, form: str, language: str) -> str:
    written = {"year": f"{day:%Y}", "month": f"{day:%m}", "day": f"{day:%d}"}
    return Text(form, **written).in_language(language)


def draw(  # noqa: PLR0913, PLR0917
    drawing: Drawing,
    curves: Sequence[Curve],
    axis: tuple[float, float, float],
    time: tuple[float, float],
    clock: LocalTime,
    language: str,
) -> None:
    """Draw axes, bands and curves. `axis`: see `round_range`; `time`: begin and end."""
    low, high, step = axis
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    steps = range(round((high - low) / step) + 1)
    texts = {low + n * step: _axis_text(low + n * step, digits, language) for n in steps}
    drawing.left = max(round(max(map(len, texts.values())) * LETTER), drawing.least_left) + 12
    drawing.up = [Tick(_y(drawing, axis, value), text) for value, text in texts.items()]
    drawing.across = [
        Tick(_x(drawing, time, at), text)
        for at, text in times_of(*time, drawing.most_times, clock, language)
    ]
    for number, curve in enumerate(curves, 1):
        if curve.band:
            drawing.paths.append((f"band s{number}", _band(drawing, axis, time, curve)))
    for number, curve in enumerate(curves, 1):
        drawing.paths.append((f"series s{number}", _line(drawing, axis, time, curve)))


def draw_marks(
    drawing: Drawing,
    mark: Mark | None,
    limit: LimitLine | None,
    time: tuple[float, float],
    axis: tuple[float, float, float],
) -> None:
    """Draw a marked time and a limit."""
    if mark and mark.since < time[1] and mark.until > time[0]:
        begin, end = (
            _x(drawing, time, min(max(at, time[0]), time[1])) for at in (mark.since, mark.until)
        )
        drawing.marked = round(begin, 1), round(max(end - begin, 1), 1)
    if limit:
        drawing.limit = _y(drawing, axis, limit.value)


def _x(drawing: Drawing, time: tuple[float, float], at: float) -> float:
    share = (at - time[0]) / max(time[1] - time[0], 1)
    return round(drawing.left + share * (drawing.right - drawing.left), 1)


def _y(drawing: Drawing, axis: tuple[float, float, float], value: float) -> float:
    share = (value - axis[0]) / (axis[1] - axis[0])
    return round(drawing.bottom - share * (drawing.bottom - drawing.TOP), 1)


def _line(
    drawing: Drawing, axis: tuple[float, float, float], time: tuple[float, float], curve: Curve
) -> str:
    """Return the path of a curve: a part for each run of values without a gap."""
    parts = []
    for run in _runs(curve):
        places = [(_x(drawing, time, at), _y(drawing, axis, value)) for at, value in run]
        if curve.kind is CurveKind.STEPS:
            ends = min(_next_time(curve, run[-1][0], time[1]), run[-1][0] + curve.gap)
            path = f"M{places[0][0]} {places[0][1]}" + "".join(f"H{x}V{y}" for x, y in places[1:])
            parts.append(f"{path}H{_x(drawing, time, ends)}")
            continue
        places = list(_thinned(places))
        joined = "L".join(f"{x} {y}" for x, y in places)
        # a value between two gaps is a dot
        parts.append(f"M{joined}" if len(places) > 1 else f"M{joined}h1.5")
    return "".join(parts)


def _next_time(curve: Curve, after: float, end: float) -> float:
    return next((at for at, _value in curve.points if at > after), end)


def _runs(curve: Curve) -> list[list[tuple[float, float]]]:
    """Split a curve where there is no value, or none for too long."""
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in curve.points:
        if value is None or (runs[-1] and at - runs[-1][-1][0] > curve.gap):
            runs.append([])
        if value is not None:
            runs[-1].append((at, value))
    return [run for run in runs if run]


def _thinned(places: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the first, lowest, highest and last place of each column of the drawing."""
    columns: dict[int, list[tuple[float, float]]] = {}
    for place in places:
        columns.setdefault(int(place[0]), []).append(place)
    for column in columns.values():
        lowest, highest = (pick(column, key=lambda place: place[1]) for pick in (min, max))
        yield from sorted({column[0], lowest, highest, column[-1]})


def _band(
    drawing: Drawing, axis: tuple[float, float, float], time: tuple[float, float], curve: Curve
) -> str:
    """Return the outline of a band, with gaps where the curve has them."""
    breaks = [at for at, value in curve.points if value is None]
    runs: list[list[tuple[float, float, float]]] = [[*curve.band[:1]]]
    for before, edge in pairwise(curve.band):
        empty = any(before[0] < at < edge[0] for at in breaks)
        if empty or edge[0] - before[0] > curve.gap:
            runs.append([])
        runs[-1].append(edge)
    parts = []
    for run in runs:
        upper = [f"{_x(drawing, time, at)} {_y(drawing, axis, hi)}" for at, _low, hi in run]
        lower = [f"{_x(drawing, time, at)} {_y(drawing, axis, lo)}" for at, lo, _high in run]
        parts.append(f"M{'L'.join([*upper, *reversed(lower)])}Z")
    return "".join(parts)


def _axis_text(value: float, digits: int, language: str) -> str:
    return in_language(Decimal(f"{value:.{digits}f}") + 0, language)  # + 0: no -0
