"""Windows and days in the building's local time, and the order in force. Pure (rules H5, H8).

Windows are compared with local time. The hour that comes twice in autumn is therefore in a window
both times, or neither time.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from agent.control.model import AcceptedOrder, OrderState, Season, Window
from agent.core.i18n import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from decimal import Decimal
    from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTE = 60.0
WINDOW = re.compile(
    rf"(?:({'|'.join(DAYS)})(?:-({'|'.join(DAYS)}))? )?([01]\d|2[0-4]):([0-5]\d)"
    r"-([01]\d|2[0-4]):([0-5]\d)",
    re.ASCII,
)
SEASON = re.compile(r"(\d\d)-(\d\d)\.\.(\d\d)-(\d\d)", re.ASCII)
DURATION = re.compile(
    r"P(?:(\d{1,3})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,5})M)?(?:(\d{1,7})(?:\.(\d{1,3}))?S)?)?", re.ASCII
)
LEAP = 2024
"""a leap year, so that 29 February is a valid day of a season"""
DAY_MINUTES = 1440
STEP = 60.0
"""seconds of one step of a ramp"""
LATE = 10.0
"""seconds by which a step may be late without delaying the next one"""
WAITING = {OrderState.SCHEDULED, OrderState.STARTED}


def window(text: str) -> Window:
    """Read `06:00-22:00`, `Mon-Fri 17:00-20:00` or `Sat 22:00-02:00`. Raises ValueError."""
    match = WINDOW.fullmatch(text)
    if not match:
        raise ValueError(
            Text('"{text}" is no window such as "06:00-22:00" or "Mon-Fri 17:00-20:00"', text=text)
        )
    first, last = match[1], match[2] or match[1]
    days = _days(DAYS.index(first), DAYS.index(last)) if first else range(7)
    since, until = int(match[3]) * 60 + int(match[4]), int(match[5]) * 60 + int(match[6])
    if max(since, until) > DAY_MINUTES or since in {until, DAY_MINUTES}:
        raise ValueError(Text('"{text}" is no time of a day', text=text))
    return Window(frozenset(days), since, until)


def _days(first: int, last: int) -> list[int]:
    return [(first + n) % 7 for n in range((last - first) % 7 + 1)]


def season(text: str) -> Season:
    """Read `10-15..04-15`; both days are within. Raises ValueError."""
    match = SEASON.fullmatch(text)
    if not match:
        raise ValueError(
            Text('"{text}" is no season such as "10-15..04-15" (month-day)', text=text)
        )
    months = [int(part) for part in match.groups()]
    try:
        date(LEAP, months[0], months[1])
        date(LEAP, months[2], months[3])
    except ValueError as error:
        raise ValueError(Text('"{text}": {error}', text=text, error=error)) from None
    return ((months[0], months[1]), (months[2], months[3]))


def duration(text: str) -> float:
    """Seconds of an ISO 8601 duration without years, months and weeks, such as `PT1H30M`.

    Raises ValueError.
    """
    match = DURATION.fullmatch(text)
    if not match or text.endswith(("P", "T")):
        raise ValueError(Text('"{text}" is no duration such as PT1H30M', text=text))
    days, hours, minutes, seconds, thousandths = (match[n] or "0" for n in range(1, 6))
    whole = int(days) * 86_400 + int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + float(f"0.{thousandths}")


def within(windows: Sequence[Window], of: Season | None, moment: datetime) -> bool:
    """Whether a local time is in one of the windows and in the season."""
    if of is not None and not _in_season(of, moment.date()):
        return False
    minute = moment.hour * 60 + moment.minute
    return not windows or any(_open(one, moment.weekday(), minute) for one in windows)


def _in_season(of: Season, day: date) -> bool:
    first, last = of
    here = (day.month, day.day)
    return first <= here <= last if first <= last else here >= first or here <= last


def _open(opening: Window, weekday: int, minute: int) -> bool:
    if opening.since < opening.until:
        return weekday in opening.days and opening.since <= minute < opening.until
    # over midnight: the early hours belong to the window of the day before
    before = (weekday - 1) % 7
    return (weekday in opening.days and minute >= opening.since) or (
        before in opening.days and minute < opening.until
    )


def minutes(start: float, end: float, zone: ZoneInfo) -> Iterator[datetime]:
    """Each minute that [start, end) touches, in local time."""
    at = start
    while at < end:
        yield datetime.fromtimestamp(at, zone)
        at = (at // MINUTE + 1) * MINUTE


def first_outside(
    windows: Sequence[Window], of: Season | None, span: tuple[float, float], zone: ZoneInfo
) -> datetime | None:
    """The first minute of a span outside the windows or the season; None: there is none."""
    if not windows and of is None:
        return None
    return next((at for at in minutes(*span, zone) if not within(windows, of, at)), None)


def day_of(moment: float, zone: ZoneInfo) -> date:
    """The local day of a moment."""
    return datetime.fromtimestamp(moment, zone).date()


def bounds(day: date, zone: ZoneInfo) -> tuple[float, float]:
    """First and last moment of a local day; 23 to 25 hours apart."""
    first = datetime(day.year, day.month, day.day, tzinfo=zone)
    following = day + timedelta(days=1)
    last = datetime(following.year, following.month, following.day, tzinfo=zone)
    return first.timestamp(), last.timestamp()


def in_time(events: Iterable[AcceptedOrder], now: float) -> list[AcceptedOrder]:
    """The accepted orders whose time includes now, weaker ones too."""
    return [
        one
        for one in events
        if one.begin <= now < one.end
        and (one.state in WAITING or (one.state is OrderState.SUPERSEDED and one.order.resume))
    ]


def winner(events: Iterable[AcceptedOrder]) -> AcceptedOrder | None:
    """The strongest order: emergency, then the lower `prio`, the later `seq`, the smaller `jti`."""
    return min(events, key=_rank, default=None)


def _rank(event: AcceptedOrder) -> tuple[bool, int, int, str]:
    order = event.order
    return (not order.emergency, order.prio, -order.seq, order.jti)


def steps(apart: Decimal, ramp: Decimal | None) -> int:
    """Steps of a minute that a change by `apart` takes after the first step."""
    if ramp is None or not apart:
        return 0
    return max(0, math.ceil(abs(apart) / ramp) - 1)


def back_from(event: AcceptedOrder, apart: Decimal, ramp: Decimal | None) -> float:
    """When the way back begins, so that it is over by the end; not before half of the hold."""
    longest = max(0.0, event.order.duration / 2)
    return event.end - min(event.back + steps(apart, ramp) * STEP, longest)


def value_at(
    now: float, event: AcceptedOrder, base: Decimal, target: Decimal, ramp: Decimal | None
) -> Decimal | None:
    """The value at a moment of a hold; None: it is released.

    `base`: the value from before; `target`: the ordered value.
    """
    if ramp is None or base == target:
        return target if now < event.end - min(event.back, event.order.duration / 2) else None
    apart = target - base
    back = back_from(event, apart, ramp)
    there = int((now - event.begin) // STEP) + 1
    if now < back:
        return toward(base, target, ramp * there)
    gone = int((now - back) // STEP) + 1
    # the way back may begin before the target was reached
    reached = toward(base, target, ramp * (int((back - event.begin) // STEP) + 1))
    value = toward(reached, base, ramp * gone)
    return None if value == base else value


def paced(standing: Decimal, wanted: Decimal, ramp: Decimal | None, since: float) -> Decimal:
    """The value to write when an order may have taken over from another.

    No step is larger than the ramp, and none comes before its minute is over. `since`: seconds
    since the last step.
    """
    if ramp is None or wanted == standing:
        return wanted
    return toward(standing, wanted, ramp) if since >= STEP - LATE else standing


def toward(begin: Decimal, end: Decimal, by: Decimal) -> Decimal:
    """A step of size `by` from one value towards another, never beyond it."""
    return min(end, begin + by) if end > begin else max(end, begin - by)
