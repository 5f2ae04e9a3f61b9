"""Calls of the small history: which series there are, their rows, and the course of an order."""

from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.acquisition.common_history import OWN, quantities
from agent.acquisition.timetable import following, running_slot
from agent.api.privacy import is_common
from agent.api.roles import Right
from agent.buffer.database import in_own_thread
from agent.buffer.history_store import (
    AMOUNT,
    DAY,
    FILE,
    GAUGE,
    KEPT,
    QUARTER,
    REGISTER,
    SeriesName,
    rounded,
    summary,
    three,
)
from agent.control.history import OrderReport, order_reports, within
from agent.control.hold import FOREVER
from agent.control.model import OrderState, split
from agent.core.clock import stamp
from agent.core.errors import Refused, StorageFailed
from agent.core.i18n import N_
from agent.core.quantities import factor
from agent.gateway.controls import NoControls
from agent.gateway.gateway import OpenHistory
from agent.gateway.plant_history import COMPONENT, admission, history_opening, kept_points
from agent.registry import parsers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from agent.api.registry import Call, Caller
    from agent.buffer.history_store import SlotValue, Values
    from agent.control.records import Outcome
    from agent.control.settings import Control
    from agent.gateway.gateway import Gateway

MOST_ROWS = 12_000
"""rows of one answer: three series of 35 days by quarter"""
MOST_SERIES_READ = 12
STEPS = {"15m": QUARTER, "1d": DAY}
COLUMNS = {
    GAUGE: ("at", "min", "mean", "max"),
    REGISTER: ("at", "quantity", "index"),
    AMOUNT: ("at", "quantity"),
}
"""members of a row by kind of series. `at`: Unix seconds, the end of a quarter of an hour, or the
beginning of a local day"""
MARGIN = 3600.0
"""seconds before and after an order that its course shows"""
NOT_OPEN = N_(
    "the history is not open, so no values can be shown. To see why: gardien status. Where the"
    " gateway has no keys yet there is none"
)


NOT_KEPT: Mapping[str, Any] = {"kept": False, "step": "", "columns": [], "rows": []}
"""of a point without values"""


class _NotOpen(Refused):
    """There is no history now."""


class _Chosen(NamedTuple):
    """A series as people see it: the meters that were at its point, one after the other."""

    id: str
    parts: list[tuple[int | None, SeriesName]]
    """number in the file (None: nothing is written yet) and name"""

    @property
    def name(self) -> SeriesName:
        """Of the meter that is there now."""
        return self.parts[-1][1]


async def series(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """List the series that the caller may see, with their first and last time."""
    async with _opened(gateway) as opened:
        listed = []
        for chosen in _visible(gateway, caller, opened).values():
            spans = [
                span
                for number, _ in chosen.parts
                if number is not None
                and (span := await opened.thread.run(opened.store.span, number))
            ]
            names = {name for _, name in chosen.parts}
            last = [value.t for value in _waiting(gateway) if value.name in names]
            begins = [begin for begin, _ in spans] + [t - QUARTER for t in last]
            name = chosen.name
            listed.append(
                {
                    "id": chosen.id, "device": name.device, "point": name.point,
                    "channel": name.channel, "unit": name.unit, "kind": name.kind,
                    "since": stamp(min(begins)) if begins else None,
                    "last": stamp(max([end for _, end in spans] + last)) if begins else None,
                }
            )  # fmt: skip
    return {"series": sorted(listed, key=lambda row: (row["device"] == OWN, row["id"]))}


async def read(  # noqa: PLR0913 -- what and when
    gateway: Gateway,
    caller: Caller,
    *,
    series: Sequence[str],
    since: str = "",
    until: str = "",
    step: str = "15m",
) -> dict[str, Any]:
    """Return the rows of series (ids of `history.series`) in (since, until], at most MOST_ROWS.

    `since`, `until`: a day or a time; `until` a day includes it. Default: the last 24 h by `15m`,
    everything by `1d`. A day that is not over yet has a row of what there is of it. Raises Refused.
    """
    if step not in STEPS:
        raise Refused('step: "{step}" is not one of {steps}', step=step, steps=", ".join(STEPS))
    wanted = list(dict.fromkeys(series))
    if not 0 < len(wanted) <= MOST_SERIES_READ:
        raise Refused(
            "name between 1 and {most} series. To list them: gardien history list",
            most=MOST_SERIES_READ,
        )
    first, last = _period(gateway, since, until, DAY if step == "15m" else KEPT)
    async with _opened(gateway) as opened:
        visible = _visible(gateway, caller, opened)
        if unknown := [name for name in wanted if name not in visible]:
            raise Refused(
                'there is no series "{name}" that this account may see. To list them: gardien'
                " history list",
                name=unknown[0],
            )
        answers, number = [], 0
        for name in wanted:
            chosen = visible[name]
            answers.append(
                {
                    "id": name, "device": chosen.name.device, "point": chosen.name.point,
                    "unit": chosen.name.unit, "kind": chosen.name.kind,
                    "columns": list(COLUMNS[chosen.name.kind]),
                    "rows": await _rows(gateway, opened, chosen, (first, last), STEPS[step]),
                }
            )  # fmt: skip
            number += len(answers[-1]["rows"])
            if number > MOST_ROWS:
                raise Refused(
                    "these are more than {most} rows: name fewer series, a shorter time, or the"
                    " step 1d",
                    most=MOST_ROWS,
                )
    return {"since": stamp(first), "until": stamp(last), "step": step, "series": answers}


async def course(  # noqa: PLR0913 -- what and when
    gateway: Gateway,
    caller: Caller,
    *,
    name: str,
    jti: str = "",
    since: str = "",
    until: str = "",
) -> dict[str, Any]:
    """Return what was requested at a control, what the device did and what each guard measured.

    Of one order (`jti`), of a period, or of the latest order. `requested` and `written`: pairs of
    Unix seconds and value, each until the next one; None: nothing is requested, or written. Points
    by minute within 48 h, else by quarter; `kept` is false if the history may not have the point,
    or is not open (`no_points`: why). Raises Refused.
    """
    steering, options = gateway.steering, gateway.config.controls.get(name)
    if not steering:
        raise Refused(NoControls.REASON)
    if options is None:
        known = ", ".join(gateway.config.controls)
        raise Refused(
            'there is no control "{name}"; configured are: {known}', name=name, known=known
        )
    journal = steering.controller.journal
    outcomes = [
        outcome
        for outcome in await steering.writer.call(journal.history, 0.0, FOREVER)
        if outcome.control == name
    ]
    if since or until:
        period = _period(gateway, since, until, DAY)
        orders = within(outcomes, period)
    else:
        orders = [_named_order(outcomes, name, jti)]
        period = _around(orders[0], gateway.clock.now())
    shown = {order.jti for order in orders}
    points = [dict(known, **NOT_KEPT) for known in _points_of(gateway, options)]
    why: str = ""
    try:
        async with _opened(gateway) as opened:
            visible = _visible(gateway, caller, opened)
            points = [
                {**known, **await _point(gateway, opened, visible, known["id"], period)}
                for known in points
            ]
    except _NotOpen as error:
        why = error.text  # what was requested and written is in the journal
    return {
        "control": name,
        "action": str(options.modality.action),
        "unit": gateway.config.point(options.point).unit,
        "since": stamp(period[0]),
        "until": stamp(period[1]),
        "orders": [order.document() for order in orders],
        "requested": [pair for order in orders for pair in _requested(order)],
        "written": list(_written([one for one in outcomes if one.jti in shown])),
        "points": points,
        "no_points": why,
    }


def _named_order(outcomes: Sequence[Outcome], name: str, jti: str) -> OrderReport:
    """The order with this id, or else the latest one that began. Raises Refused."""
    reports = order_reports(outcomes)
    if jti:
        chosen = [report for report in reports if report.jti == jti]
    else:
        chosen = [report for report in reports if report.begun] or reports
    if not chosen:
        raise Refused(
            "no such order was given to {name}. To list them: gardien control history {name}",
            name=name,
        )
    return chosen[-1]


def _around(order: OrderReport, now: float) -> tuple[int, int]:
    """The time of an order with an hour before and after it."""
    ended = order.state in {OrderState.REJECTED, OrderState.EXPIRED, OrderState.FAILED}
    end = order.released or (order.at if ended or not order.begun else now)
    return int(order.at - MARGIN), int(min(now, end + MARGIN))


def _requested(order: OrderReport) -> list[tuple[int, float | None]]:
    """The value that an order requested while it was in force."""
    value = _number(order.value)
    if order.begun is None or value is None:
        return []
    end = order.released
    return [(int(order.begun), value), *([(int(end), None)] if end else [])]


def _written(outcomes: Iterable[Outcome]) -> Iterable[tuple[int, float | None]]:
    """What was read back after each write, and what was there again after a release."""
    before: float | None = None
    for outcome in outcomes:
        if outcome.state is OrderState.STARTED:
            before = _number(outcome.pre) if outcome.pre else before
            yield int(outcome.at), _number(outcome.value)
        elif outcome.closed:
            yield int(outcome.at), before


def _number(text: str) -> float | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return float(value) if value.is_finite() else None


def _points_of(gateway: Gateway, options: Control) -> list[dict[str, Any]]:
    """The points of a control by role, with the bounds of its guards."""
    points: list[dict[str, Any]] = [{"role": "point", "name": options.point, "id": options.point}]
    if options.measure:
        points.append({"role": "power", "name": options.measure, "id": options.measure})
    points += [
        {
            "role": "guard", "name": guard.name or guard.point, "id": guard.point,
            "min": None if guard.min is None else float(guard.min),
            "max": None if guard.max is None else float(guard.max),
        }
        for guard in options.watched
    ]  # fmt: skip
    return [{**known, "unit": gateway.config.point(known["id"]).unit} for known in points]


async def _point(
    gateway: Gateway,
    opened: OpenHistory,
    visible: Mapping[str, _Chosen],
    id_: str,
    period: tuple[int, int],
) -> dict[str, Any]:
    """The rows of a point; `kept` is false if the history may not have it (a dwelling's)."""
    chosen = visible.get(id_)
    if chosen is None:
        return dict(NOT_KEPT)
    device, point = split(id_)
    step, columns = "1m", ["at", "value"]
    minutes = gateway.history.values.minutes.get((device, point))
    rows: list[list[float | None]] = []
    if minutes is not None:
        rows = [[*pair] for pair in minutes.between(*period)]
    if not rows:
        step, columns = "15m", list(COLUMNS[chosen.name.kind])
        rows = await _rows(gateway, opened, chosen, period, QUARTER)
    # bounds and orders are in the point's own unit, the history in that of its channel
    by = float(factor(chosen.name.unit, gateway.config.point(id_).unit) or 1)
    rows = [
        [at, *(None if value is None else rounded(value * by) for value in values)]
        for at, *values in rows
    ]
    return {"kept": True, "step": step, "columns": columns, "rows": rows}


@asynccontextmanager
async def _opened(gateway: Gateway) -> AsyncIterator[OpenHistory]:
    """The open file; if no daemon runs, it is opened for this call. Raises Refused."""
    if gateway.history.opened is not None:
        yield gateway.history.opened
        return
    if gateway.daemon or not gateway.identity or not (gateway.config.state / FILE).exists():
        raise _NotOpen(NOT_OPEN)
    opening = partial(history_opening, gateway.config, gateway.identity)
    try:
        async with in_own_thread(COMPONENT, opening) as pair:
            yield OpenHistory(*pair)
    except StorageFailed as error:
        raise _NotOpen("the history cannot be read: {error}", error=error) from error


def _visible(gateway: Gateway, caller: Caller, opened: OpenHistory) -> dict[str, _Chosen]:
    """The series that a caller may see now, by id (rule L8)."""
    kept = frozenset(kept_points(gateway, partial(is_common, gateway)))
    admits, plant = admission(gateway, kept), caller.may(Right.SEE_PLANT)
    numbers: dict[SeriesName, int | None] = {
        known.name: known.number
        for known in sorted(opened.store.series, key=lambda one: one.number)
    }
    for value in _waiting(gateway):
        numbers.setdefault(value.name, None)
    chosen: dict[str, _Chosen] = {}
    for name, number in numbers.items():
        if admits(name) and (plant or name.device == OWN):
            id_ = f"{name.device}/{name.point}"
            chosen.setdefault(id_, _Chosen(id_, [])).parts.append((number, name))
    return chosen


def _waiting(gateway: Gateway, until: float = FOREVER) -> list[SlotValue]:
    """The slots that are over and not written yet."""
    return gateway.history.values.waiting(min(until, gateway.clock.now()))


async def _rows(
    gateway: Gateway, opened: OpenHistory, chosen: _Chosen, period: tuple[int, int], step: int
) -> list[list[float | None]]:
    since, until = period
    # earlier slots too: the first quantity is the difference to one of them
    first = running_slot(DAY, since - DAY, gateway.config.zone)
    of_step = _quarters if step == QUARTER else _days
    parts = [
        await of_step(gateway, opened, number, name, (first, until))
        for number, name in chosen.parts
    ]
    rows: dict[int, tuple[float | None, ...]] = {}
    if chosen.name.kind == REGISTER:
        rows.update(quantities(parts))
    else:
        shape = three if chosen.name.kind == GAUGE else tuple
        for part in parts:
            rows.update({t: shape(values) for t, values in part.items()})
    # a quarter is named by its end, a day by its beginning
    begin = since + 1 if step == QUARTER else since
    return [[t, *rows[t]] for t in sorted(rows) if t >= begin]


async def _quarters(
    gateway: Gateway,
    opened: OpenHistory,
    number: int | None,
    name: SeriesName,
    period: tuple[int, int],
) -> Values:
    """The slots of one meter in (begin, end], with those that are not written yet."""
    slots: Values = {}
    if number is not None:
        slots = await opened.thread.run(opened.store.quarters, number, *period)
    for value in _waiting(gateway, period[1]):
        if value.name == name and value.t > period[0]:
            slots.setdefault(value.t, value.values)
    return slots


async def _days(
    gateway: Gateway,
    opened: OpenHistory,
    number: int | None,
    name: SeriesName,
    period: tuple[int, int],
) -> Values:
    """The days of one meter that begin in [begin, end): the closed ones, and from quarters those
    since then.
    """
    zone, days, begin = gateway.config.zone, dict[int, tuple[float, ...]](), period[0]
    if number is not None:
        days = await opened.thread.run(opened.store.days, number, *period)
    if days:
        begin = following(max(days), DAY, zone)
    since_then: dict[int, Values] = {}
    for t, values in (await _quarters(gateway, opened, number, name, (begin, period[1]))).items():
        since_then.setdefault(running_slot(DAY, t - 1, zone), {})[t] = values
    return days | {day: tuple(summary(name.kind, slots)) for day, slots in since_then.items()}


def _period(gateway: Gateway, since: str, until: str, lasts: int) -> tuple[int, int]:
    """The period that a caller names. Raises Refused."""
    zone = gateway.config.building.timezone
    end = parsers.when(until, zone, "until")
    if end is None:
        end = int(gateway.clock.now())
    elif end == running_slot(DAY, end, gateway.config.zone) and "T" not in until:
        # a day was named, not a time: all of it
        end = following(end, DAY, gateway.config.zone)
    begin = parsers.when(since, zone, "since")
    if begin is None:
        begin = end - lasts
    if begin >= end:
        raise Refused("since: {time} is not before the end", time=since or stamp(begin))
    return begin, end


CALLS: Mapping[str, Call] = {
    "history.series": series,
    "history.read": read,
    "control.course": course,
}
