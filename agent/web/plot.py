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
from decimal import Decimal
from typing import TYPE_CHECKING

from aiohttp import web
from markupsafe import Markup

from agent.core.i18n import N_, Text, in_language
from agent.core.quantities import spoken
from agent.registry.sheet import harmless
from agent.web.curve import Curve, CurveKind, LimitLine, Mark
from agent.web.drawing import FORMS, LETTER, Drawing, draw, draw_marks, round_range
from agent.web.words import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.web.words import LocalTime

__all__ = [
    "Curve", "CurveKind", "LimitLine", "Mark", "csv_answer", "csv_of", "figure",
]  # fmt: skip
MOST_CURVES = 4
"""curves that the style sheet tells apart"""
MOST_ROWS = 100
"""rows of the table below a plot"""


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
    shown_unit = in_language(spoken(unit), language)
    if values := [value for curve in curves for value in curve.values()]:
        axis = round_range([*values, limit.value] if limit else values)
        for form in FORMS:
            drawing = Drawing(*form, least_left=round(len(shown_unit) * LETTER))
            draw(drawing, curves, axis, (since, until), clock, language)
            draw_marks(drawing, mark, limit, (since, until), axis)
            drawings.append(drawing)
    table, every = _table(curves, clock, language)
    template = environment(language).get_template("plot.html")
    return Markup(  # noqa: S704 -- the template escapes what it is given
        template.render(
            id=f"{zlib.crc32(f'{title} {unit} {since} {csv}'.encode()):x}",
            title=title,
            unit=shown_unit,
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
    named = in_language(spoken(unit), language)
    unit = f" ({named})" if named else ""
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
    return f"{_plain(value, language)} {in_language(spoken(unit), language)}".strip()


def _for_spreadsheets(value: float | None, language: str) -> str:
    if value is None:
        return ""
    text = f"{Decimal(f'{value:.12g}'):f}"
    return text.replace(".", in_language(Decimal("0.5"), language)[1:2])


def _utc(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)
