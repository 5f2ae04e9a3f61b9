"""Plots as SVG made on the server, with their data as a table and as CSV.

Curves are told apart by dash and colour, both by class (gardien.css), so that a plot follows the
theme and can be printed in black. It is drawn twice, for a phone and for a wide screen, because
the letters of an SVG shrink with it; the style sheet shows one of them.
"""

from __future__ import annotations

import csv as csv_format
import datetime as dt
import io
import math
import zlib
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum, auto
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web
from markupsafe import Markup

from agent.core.i18n import N_, Text, in_language
from agent.core.quantities import spoken
from agent.registry.sheet import harmless
from agent.web.words import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.web.words import LocalTime

MOST_CURVES = 4
"""curves that the style sheet tells apart"""
MOST_ROWS = 100
"""rows of the table below a plot"""
HOUR_AND_MINUTE, SHORT_DAY, SHORT_MONTH = "%H:%M", N_("{month}-{day}"), N_("{year}-{month}")


class CurveKind(StrEnum):
    """How the values of a curve are joined."""

    LINE = auto()
    """by straight lines: what is measured"""
    STEPS = auto()
    """each value is in force until the next one: what is requested"""


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over time. Times are Unix seconds, ascending; None is a time without a value."""

    name: str
    points: Sequence[tuple[float, float | None]]
    kind: CurveKind = CurveKind.LINE
    band: Sequence[tuple[float, float, float]] = ()
    """`(time, lowest, highest)`: drawn behind the curve"""
    gap: float = math.inf
    """seconds: values that are further apart are not joined"""

    @staticmethod
    def of_history(
        name: str, rows: Sequence[Sequence[Any]], gap: float, factor: float = 1
    ) -> Curve:
        """Return a curve of rows `[time, lowest, mean, highest]`, its values times `factor`."""
        return Curve(
            name,
            [(at, None if mean is None else mean * factor) for at, _low, mean, _high in rows],
            band=[
                (at, low * factor, high * factor)
                for at, low, mean, high in rows
                if None not in {low, mean, high}
            ],
            gap=gap,
        )

    def values(self) -> list[float]:
        """Return all values, with those of the band."""
        middle = [value for _at, value in self.points if value is not None]
        return middle + [value for _at, *both in self.band for value in both]


@dataclass(frozen=True, slots=True)
class Mark:
    """A time that a plot marks, such as that of an order in force."""

    name: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class LimitLine:
    """A value that a plot marks, such as the limit of a guard."""

    name: str
    value: float


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


FORMS = (("narrow", 340, 230, 4), ("wide", 880, 280, 9))
"""name, width, height, and the most ticks of time"""
LETTER = 7.2
"""width of a digit of an axis"""


def figure(  # noqa: PLR0913, PLR0917 -- what a plot shows
    title: str,
    curves: Sequence[Curve],
    unit: str,
    since: float,
    until: float,
    clock: LocalTime,
    language: str,
    *,
    csv: str = "",
    mark: Mark | None = None,
    limit: LimitLine | None = None,
) -> Markup:
    """Return a plot of up to four curves, with its table. `csv`: the address of all its data.

    The value axis begins at 0 unless the values are far from it.
    """
    curves = [_within(curve, since, until) for curve in curves[:MOST_CURVES]]
    drawings = []
    if values := [value for curve in curves for value in curve.values()]:
        axis = _round_range([*values, limit.value] if limit else values)
        for form in FORMS:
            drawing = _drawn(Drawing(*form), curves, axis, (since, until), clock, language)
            _marked(drawing, mark, limit, (since, until), axis)
            drawings.append(drawing)
    table, every = _table(curves, clock, language)
    template = environment(language).get_template("plot.html")
    return Markup(  # noqa: S704 -- the template escapes what it is given
        template.render(
            id=f"{zlib.crc32(f'{title} {unit} {since} {csv}'.encode()):x}",
            title=title,
            unit=spoken(unit),
            curves=curves,
            drawings=drawings,
            summary=[_summary(curve, unit, clock, language) for curve in curves],
            since=clock.time(since),
            until=clock.time(until),
            mark=mark,
            limit=limit,
            limit_text=limit and _spoken(limit.value, unit, language),
            table=table,
            every=every,
            csv=csv,
        )
    )


def csv_of(curves: Sequence[Curve], unit: str, clock: LocalTime, language: str) -> str:
    """Return all values as CSV, as spreadsheets of the language expect it, with UTC beside."""
    out = io.StringIO()
    out.write("\ufeff")  # without it spreadsheets show accents wrongly
    writer = csv_format.writer(out, delimiter=";", lineterminator="\r\n")
    heads, rows = _columns(curves, language)
    time = Text("Time ({zone})", zone=clock.zone.key).in_language(language)
    unit = f" ({spoken(unit)})" if spoken(unit) else ""
    writer.writerow([time, "UTC", *(harmless(head) + unit for head in heads)])
    for at, cells in rows:
        times = f"{clock.local(at):%Y-%m-%d %H:%M:%S}", f"{_utc(at):%Y-%m-%dT%H:%M:%SZ}"
        writer.writerow([*times, *(_for_spreadsheets(value, language) for value in cells)])
    return out.getvalue()


def csv_answer(text: str, name: str) -> web.Response:
    """Return CSV as a file to keep, with a name of ASCII letters, digits, dots and dashes."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in name)
    return web.Response(
        text=text,
        content_type="text/csv",
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{plain}"'},
    )


def _within(curve: Curve, since: float, until: float) -> Curve:
    """Return the part of a curve that is shown. A step before it is in force at its beginning."""
    points = [(at, value) for at, value in curve.points if since <= at <= until]
    if curve.kind is CurveKind.STEPS:
        before = [value for at, value in curve.points if at < since]
        points = [(since, before[-1]), *points] if before else points
    band = [edge for edge in curve.band if since <= edge[0] <= until]
    return Curve(curve.name, points, curve.kind, band, curve.gap)


# --- axes ---


def _round_range(values: Sequence[float]) -> tuple[float, float, float]:
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


def _times_of(
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


# --- drawing ---


def _drawn(  # noqa: PLR0913, PLR0917
    drawing: Drawing,
    curves: Sequence[Curve],
    axis: tuple[float, float, float],
    time: tuple[float, float],
    clock: LocalTime,
    language: str,
) -> Drawing:
    low, high, step = axis
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    steps = range(round((high - low) / step) + 1)
    texts = {low + n * step: _rounded(low + n * step, digits, language) for n in steps}
    drawing.left = round(max(map(len, texts.values())) * LETTER) + 12
    drawing.up = [Tick(_y(drawing, axis, value), text) for value, text in texts.items()]
    drawing.across = [
        Tick(_x(drawing, time, at), text)
        for at, text in _times_of(*time, drawing.most_times, clock, language)
    ]
    for number, curve in enumerate(curves, 1):
        if curve.band:
            drawing.paths.append((f"band s{number}", _band(drawing, axis, time, curve)))
    for number, curve in enumerate(curves, 1):
        drawing.paths.append((f"series s{number}", _line(drawing, axis, time, curve)))
    return drawing


def _marked(
    drawing: Drawing,
    mark: Mark | None,
    limit: LimitLine | None,
    time: tuple[float, float],
    axis: tuple[float, float, float],
) -> None:
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


# --- in words and figures ---


def _summary(curve: Curve, unit: str, clock: LocalTime, language: str) -> str:
    """Return what a curve shows as a sentence, for those who do not see it."""
    known = [(at, value) for at, value in curve.points if value is not None]
    if not known:
        return Text("{name}: no values", name=curve.name).in_language(language)
    values = curve.values()
    lowest, highest, last = (
        _spoken(value, unit, language) for value in (min(values), max(values), known[-1][1])
    )
    return Text(
        "{name}: lowest {lowest}, highest {highest}, last {last} ({time})",
        name=curve.name, lowest=lowest, highest=highest, last=last, time=clock.time(known[-1][0]),
    ).in_language(language)  # fmt: skip


def _columns(
    curves: Sequence[Curve], language: str
) -> tuple[list[str], list[tuple[float, list[float | None]]]]:
    """Return the columns of the data and its rows; what is in force is in every row."""
    heads: list[str] = []
    cells: list[dict[float, float | None]] = []
    timed = [at for curve in curves for at, _value in curve.points]
    timed += [edge[0] for curve in curves for edge in curve.band]
    times = sorted(set(timed))
    for curve in curves:
        heads.append(in_language(curve.name, language))
        cells.append(dict(curve.points))
        if curve.kind is CurveKind.STEPS:
            value = None
            for at in times:
                value = cells[-1].setdefault(at, value)
        if curve.band:
            for text, number in ((N_("{name}, lowest"), 1), (N_("{name}, highest"), 2)):
                heads.append(Text(text, name=curve.name).in_language(language))
                cells.append({edge[0]: edge[number] for edge in curve.band})
    return heads, [(at, [column.get(at) for column in cells]) for at in times]


def _table(
    curves: Sequence[Curve], clock: LocalTime, language: str
) -> tuple[tuple[list[str], list[tuple[str, list[str]]]], int]:
    """Return the head and the rows of the table, and which part of all rows it shows: every nth."""
    heads, rows = _columns(curves, language)
    every = max(1, math.ceil(len(rows) / MOST_ROWS))
    shown = [
        (clock.time(at), ["–" if value is None else _plain(value, language) for value in cells])
        for at, cells in rows[::every]
    ]
    return (heads, shown), every


DIGITS = 6
"""significant digits of a shown value"""


def _plain(value: float, language: str) -> str:
    """Return a value with its significant digits, without exponent."""
    exact = Decimal(f"{value:.{DIGITS}g}").normalize()
    return in_language(Decimal(f"{exact:f}"), language)


def _spoken(value: float, unit: str, language: str) -> str:
    return f"{_plain(value, language)} {spoken(unit)}".strip()


def _rounded(value: float, digits: int, language: str) -> str:
    return in_language(Decimal(f"{value:.{digits}f}") + 0, language)  # + 0: no -0


def _for_spreadsheets(value: float | None, language: str) -> str:
    if value is None:
        return ""
    text = f"{Decimal(f'{value:.12g}'):f}"
    return text.replace(".", in_language(Decimal("0.5"), language)[1:2])


def _utc(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)
