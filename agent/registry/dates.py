"""Dates as people write them, as seconds since 1970 UTC; the building's days and months."""

from __future__ import annotations

import calendar
import datetime as dt
import re
import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agent.core.i18n import MONTHS as MONTH_NAMES
from agent.core.i18n import Text

if TYPE_CHECKING:
    from datetime import tzinfo

DAY = 86_400
MONTH = 30 * DAY
"""the step of monthly rows by convention; their slots are the midnights of each 1st"""
EXAMPLE = "2026-07-12T00:00+02:00"
FIRST, LAST = 946_684_800, 4_102_444_800
"""2000 and 2100: a year outside this range is a typing error"""
CIVIL = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
FRENCH = re.compile(r"([0-9]{1,2})([/.-])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})")
SPOKEN = re.compile(r"([0-9]{1,2})(?:er|st|nd|rd|th)?[ -]([^\W\d_]{3,9})\.?[ -]([0-9]{4}|[0-9]{2})")
"""12 mai 2026, 1er mars 2026, 12-sept.-26"""
THIS_CENTURY = 50
"""years of two digits below it can only be 20…: what is recorded here is from 2000 or later"""
MONTHS = {
    "fr": ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre",
           "octobre", "novembre", "décembre"),
    "en": ("January", "February", "March", "April", "May", "June", "July", "August", "September",
           "October", "November", "December"),
}  # fmt: skip
"""names of the months; those of `calendar` depend on the machine's language"""


SHORTEST = 3
"""letters of a month; `jui` may be June or July"""


def _month(name: str) -> int:
    """The number of a month by its name in French or English, or by how that begins; 0: none."""
    begin = _bare(name)
    numbers = {
        number
        for names in MONTHS.values()
        for number, month in enumerate(names, start=1)
        if len(begin) >= SHORTEST and _bare(month).startswith(begin)
    }
    return numbers.pop() if len(numbers) == 1 else 0


def _bare(name: str) -> str:
    """A word in small letters without accents."""
    whole = unicodedata.normalize("NFD", name.casefold())
    return "".join(c for c in whole if not unicodedata.combining(c))


def moment(text: str, zone: str | None = None) -> int:
    """Read `2026-07-12T00:00+02:00`, or `2026-07-12`, `12/07/2026`, `12/07/26` or `12 juillet 2026`
    as midnight in the building's time zone. Raises ValueError with a message for people.
    """
    written = " ".join(text.split())
    if day := CIVIL.fullmatch(written):
        read = _civil(text, int(day[1]), int(day[2]), int(day[3]))
    elif day := FRENCH.fullmatch(written):
        read = _civil(text, _year(text, day), int(day[3]), int(day[1]))
    elif (day := SPOKEN.fullmatch(written)) and (month := _month(day[2])):
        read = _civil(text, _year(text, day), month, int(day[1]))
    else:
        try:
            read = datetime.fromisoformat(written)
        except ValueError:
            raise ValueError(_no_date(text)) from None
    if read.tzinfo is None:
        if zone is None:
            raise ValueError(
                Text('"{text}" says no time zone; write {example}', text=text, example=EXAMPLE)
            )
        read = read.replace(tzinfo=ZoneInfo(zone))
    return sane(int(read.timestamp()))


def _year(text: str, day: re.Match[str]) -> int:
    """The year of a date whose last part is the year. Raises ValueError if two are possible."""
    year, both = day.group(day.re.groups), ""
    if len(year) > 2:  # noqa: PLR2004 -- digits
        return int(year)
    if int(year) >= THIS_CENTURY:
        both = Text("{first} or {second}", first=f"19{year}", second=f"20{year}")
    elif day.re is FRENCH and day[2] == "-" and int(day[1]) <= 31:  # noqa: PLR2004
        both = Text(
            "{first} or {second}",
            first=f"{day[1]:0>2}/{day[3]:0>2}/20{year}",
            second=f"{year}/{day[3]:0>2}/20{day[1]:0>2}",
        )
    if both:
        raise ValueError(
            Text('"{text}": is it {both}? Write the year with four digits', text=text, both=both)
        )
    return 2000 + int(year)


def date_alone(text: str) -> bool:
    """Whether a text is a date without a time."""
    written = " ".join(text.split())
    spoken = SPOKEN.fullmatch(written)
    return bool(
        CIVIL.fullmatch(written) or FRENCH.fullmatch(written) or (spoken and _month(spoken[2]))
    )


def _civil(text: str, year: int, month: int, day: int) -> datetime:
    if not 1 <= month <= 12 or not 1 <= day <= 31:  # noqa: PLR2004 -- months and days
        raise ValueError(_no_date(text))
    # the year 0000 would raise here; `sane` refuses it later, with a message for people
    last = calendar.monthrange(max(year, 1), month)[1]
    if day > last:
        name = Text("{month} {year}", month=Text(MONTH_NAMES[month - 1]), year=str(year))
        raise ValueError(
            Text(
                '"{text}" does not exist: {name} has {last} days. Write {example} for its last day',
                text=text, name=name, last=last, example=f"{year:04}-{month:02}-{last}",
            )
        )  # fmt: skip
    return datetime(max(year, 1), month, day)  # noqa: DTZ001 -- its zone is the caller's


def _no_date(text: str) -> str:
    if re.search(r"[0-9][oO]|[oO][0-9]", text):
        return Text(
            '"{text}" is no date: it has a letter O where a zero belongs; write {example}',
            text=text,
            example=EXAMPLE,
        )
    if (day := FRENCH.fullmatch(text.strip())) and int(day[1]) <= 12 < int(day[3]) <= 31:  # noqa: PLR2004
        month, number, year = day[1], day[3], f"20{day[4]}"[-4:]
        return Text(
            '"{text}" is no date: there is no month {number}. Write the day first, {french}, or'
            " {iso}",
            text=text, number=number, french=f"{number}/{month}/{year}",
            iso=f"{year}-{int(month):02}-{number}",
        )  # fmt: skip
    if re.fullmatch("[0-9]{5}", text):
        return Text('"{text}" is no date: format the column as a date', text=text)
    return Text(
        '"{text}" is no date; write 2026-07-12, 12/07/2026 or {example}', text=text, example=EXAMPLE
    )


def typed(at: int, zone: str | None) -> str:
    """A time as a person types it, in local time and exact: `2026-07-12T09:30+02:00`."""
    here = datetime.fromtimestamp(at, ZoneInfo(zone or "UTC"))
    return here.isoformat(timespec="seconds" if at % 60 else "minutes")


def in_local_time(text: str, zone: str) -> str:
    """The text with every `2026-07-11T22:00:00Z` in it as local time: `2026-07-12` at midnight,
    else `2026-07-12 09:30`.
    """

    def here(match: re.Match[str]) -> str:
        at = datetime.fromisoformat(match[0]).astimezone(ZoneInfo(zone))
        return f"{at:%Y-%m-%d}" if at.time() == dt.time() else f"{at:%Y-%m-%d %H:%M}"

    return STAMP.sub(here, text)


def text_in_local_time(text: Text, zone: str) -> Text:
    """The text with the times in its values, at any depth, in local time; see `in_local_time`."""

    def here(value: object) -> object:
        if isinstance(value, list):
            return [here(part) for part in value]
        if isinstance(value, Text):
            return text_in_local_time(value, zone)
        if not isinstance(value, str):
            return value
        if STAMP.fullmatch(value):
            at = datetime.fromisoformat(value).astimezone(ZoneInfo(zone))
            return at.date() if at.time() == dt.time() else at
        return in_local_time(value, zone)

    return text.with_values(here) if text.values else Text(in_local_time(text, zone))


def sentences_in_local_time(value: Any, zone: str) -> Any:
    """An answer with the times of each text in it, at any depth, in local time."""
    if isinstance(value, Text):
        return text_in_local_time(value, zone)
    if isinstance(value, dict):
        return {name: sentences_in_local_time(part, zone) for name, part in value.items()}
    return [sentences_in_local_time(one, zone) for one in value] if type(value) is list else value


def written_out(at: float, zone: tzinfo, language: str) -> str:
    """The day of a time as letters and pages write it: `12 mai 2026`, `12 May 2026`."""
    return day_written_out(f"{datetime.fromtimestamp(at, zone):%Y-%m-%d}", language)


def time_written_out(at: float, zone: tzinfo, language: str) -> str:
    """A time with its minutes as pages write it: `12 mai 2026 à 09:30`, `12 May 2026 at 09:30`."""
    between = "à" if language == "fr" else "at"
    day = written_out(at, zone, language)
    return f"{day} {between} {datetime.fromtimestamp(at, zone):%H:%M}"


def day_written_out(text: str, language: str) -> str:
    """A day as letters and pages write it. `text`: `2026-05-12`, or `05-12` for a day of each
    year.
    """
    *year, month, day = text.split("-")
    # French writes an ordinal for the first of a month only
    number = "1er" if language == "fr" and int(day) == 1 else str(int(day))
    return " ".join([number, MONTHS[language][int(month) - 1], *year])


def sane(at: int) -> int:
    """Check that a time is between 2000 and 2100. Raises ValueError with a message for people."""
    if not FIRST <= at < LAST:
        raise ValueError(Text("the year is not between 2000 and 2100"))
    return at


def months_later(at: int, months: int) -> int:
    """Add months to a time, in UTC; a day that the month lacks becomes its last day."""
    start = datetime.fromtimestamp(at, UTC)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def day_of_the_year(text: str) -> str:
    """Read a billing date, `06-30` or `30/06`, as `06-30`. Raises ValueError with a message for
    people.
    """
    written = text.strip()
    if match := re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})", written):
        day, month = int(match[1]), int(match[2])
    elif match := re.fullmatch(r"([0-9]{1,2})-([0-9]{1,2})", written):
        month, day = int(match[1]), int(match[2])
    else:
        raise ValueError(Text('"{text}" is no day of the year; write 06-30', text=text))
    # 2001 is not a leap year: a bill on 29 February would come every fourth year only
    try:
        return dt.date(2001, month, day).strftime("%m-%d")
    except ValueError:
        raise ValueError(
            Text('"{text}" is not a day of every year; write 06-30', text=text)
        ) from None


def midnight_of(t: int, zone: tzinfo | None) -> str | None:
    """The day of the year, as `06-30`, that begins at t; None: t is not a midnight."""
    here = datetime.fromtimestamp(t, zone or UTC)
    return here.strftime("%m-%d") if here.time() == dt.time() else None


def slot_before(t: int, step: int, zone: tzinfo | None) -> int:
    """When the period began that ends at slot t; days and months follow the building's time
    zone.
    """
    if step < DAY or zone is None:
        return t - step
    # t itself belongs to the next day
    here = datetime.fromtimestamp(t - 1, zone)
    day = here.date() if step == DAY else here.date().replace(day=1)
    return int(datetime.combine(day, dt.time(), zone).timestamp())


def next_midnight(t: int, zone: tzinfo, day: str | None) -> int:
    """The first midnight after t that begins a day of the year (`06-30`); None: a month."""
    here = datetime.fromtimestamp(t, zone).date() + dt.timedelta(days=1)
    while here.day != 1 if day is None else here.strftime("%m-%d") != day:
        here += dt.timedelta(days=1)
    return int(datetime.combine(here, dt.time(), zone).timestamp())
