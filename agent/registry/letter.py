"""One letter to the people of a dwelling: what is known of it, who gets it and why. Pure.

It answers articles 13 to 15 and 20 of the GDPR as far as this gateway can: it knows no names. The
letter has no readings; the table has those that are still here.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.registry import catalogue
from agent.registry.letter_words import WORDS
from agent.registry.place import shown

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.registry.documents import Consent, Duty, Installation, Occupancy, Place
    from agent.registry.explain import Told

COLUMNS = (
    *("fact", "id", "recipient", "channels", "step", "since", "until", "remark"),
    *("value", "unit", "quality"),
)
STYLE = (
    "body{font:11pt/1.4 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;"
    "padding:.3em .6em;border-bottom:1px solid #ccc}h2{font-size:1.1em;margin-top:1.6em}"
)


@dataclass(frozen=True, slots=True)
class Disclosed:
    """So many values were received by somebody on one day."""

    day: str
    recipient: str
    place: str
    channel: str
    basis: str
    values: int


@dataclass(frozen=True, slots=True)
class Held:
    """One value that is still here."""

    recipient: str
    """whom it waits for; empty: nobody yet, it is kept for a duty"""
    basis: str
    channel: str
    step: int
    since: int | None
    """where the quantity is one of a period: when that began"""
    t: int
    value: str
    """its own digits; empty: missing"""
    unit: str
    quality: str
    remark: str


@dataclass(frozen=True, slots=True)
class Summed:
    """A sum over dwellings for one recipient, and who stands in it."""

    recipient: str
    channel: str
    step: int | None
    """seconds; None: it is not sent"""
    why: str
    """when it is sent, or why it is not"""
    since: int | None = None
    until: int | None = None
    """for which time its group is fixed"""
    members: tuple[str, ...] = ()
    """dwellings, by id"""
    counts: int = 0
    """those of them that the recipient is not sent one by one"""
    last: int | None = None
    """the last slot that was closed since the start"""
    n: int | None = None
    """how many were in it; None: it was not sent"""


@dataclass(frozen=True, slots=True)
class Person:
    """All that the gateway knows of one dwelling and those who live there."""

    building: str
    place: Place
    home: Occupancy | None
    """None: nobody is known to live there now"""
    meters: Sequence[Installation]
    told: Sequence[Told]
    consents: Sequence[Consent]
    duties: Sequence[Duty]
    disclosed: Sequence[Disclosed]
    keep_days: int
    """for which copies of what was received are kept"""
    held: Sequence[Held] = ()
    said: Container[str] = ()
    """the serial numbers, in their comparable form, that devices say themselves"""
    stopped: Sequence[Consent] = ()
    """what was withdrawn just now"""
    summed: Sequence[Summed] = ()
    """sums over dwellings in which this one stands"""


def letter(person: Person, now: float, zone: ZoneInfo, language: str) -> str:
    """The letter as one HTML page that needs nothing else."""
    says = WORDS[language]
    held = [one for one in person.told if one.step is None]
    sent = [one for one in person.told if one.step is not None]
    title = f"{says['title']} {person.place.label}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _paragraph(f"{person.building} · {_day(now, zone)}"),
        _paragraph(says["intro"].format(place=f"{person.place.label} ({shown(person.place.id)})")),
        _paragraph(_home(person, zone, says)),
    ]
    if person.stopped:
        parts += [f"<h2>{says['stopped']}</h2>", _list(_stopped(person, says))]
    parts += [
        f"<h2>{says['measured']}</h2>",
        _table(_measured(person, language), says["measured_columns"]),
        f"<h2>{says['sent']}</h2>",
        _table(_sent(sent, person, zone, language), says["sent_columns"])
        if sent
        else _paragraph(says["nothing"]),
        *_in_sums(person, zone, language),
        f"<h2>{says['held']}</h2>",
        _paragraph(says["held_words"] if held else says["held_nothing"]),
        _paragraph(says["waiting"].format(number=len(person.held))) if person.held else "",
        f"<h2>{says['received']}</h2>",
        _table(_received(person), says["received_columns"])
        if person.disclosed
        else _paragraph(says["received_nothing"]),
        f"<h2>{says['kept']}</h2>",
        _paragraph(says["kept_words"].format(days=person.keep_days)),
        f"<h2>{says['rights']}</h2>",
        _paragraph(says["rights_words"]),
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )


def table(person: Person) -> str:
    """The same facts as CSV, UTF-8 with semicolons, times in UTC: one fact a line; beneath them
    each value that is still here, with its digits.
    """
    rows: list[tuple[object, ...]] = []
    if person.home is not None:
        home = person.home
        rows.append(_fact("occupancy", home.id, "", "", "", home, home.reference or ""))
    for meter in person.meters:
        proof = meter.proof(person.said)
        rows.append(_fact("meter", meter.meter, "", meter.channel or "", "", meter, proof))
    for one in person.consents:
        state = f"withdrawn {_iso(one.withdrawn)}" if one.withdrawn is not None else one.purpose
        channels = " ".join(one.channels)
        rows.append(_fact("consent", one.id, one.recipient, channels, one.step, one, state))
    for duty in person.duties:
        channels = " ".join(duty.channels)
        rows.append(_fact("duty", duty.id, duty.recipient, channels, "", duty, duty.reference))
    for sum_ in person.summed:
        since, until = _iso(sum_.since), _iso(sum_.until)
        cells = ("rest", sum_.recipient, sum_.channel, sum_.step or "", since, until)
        rows.append(("sum", *cells, f"one of {len(sum_.members)} dwellings in a sum"))
    for day in person.disclosed:
        what = ("received", day.basis, day.recipient, day.channel, "", day.day, "")
        rows.append((*what, f"{day.values} values"))
    rows += map(_value, person.held)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*row, *[""] * (len(COLUMNS) - len(row))) for row in rows)
    return text.getvalue()


def _value(one: Held) -> tuple[object, ...]:
    fact = "waits" if one.recipient else "register"
    since, what = _iso(one.since), (one.basis, one.recipient, one.channel, one.step)
    return (fact, *what, since, _iso(one.t), one.remark, one.value, one.unit, one.quality)


def _fact(  # noqa: PLR0913, PLR0917 -- the columns of a line
    fact: str,
    id_: str,
    recipient: str,
    channels: str,
    step: int | str,
    of: Occupancy | Installation | Consent | Duty,
    remark: str,
) -> tuple[object, ...]:
    cells = (id_, recipient, channels, step, _iso(of.since), _iso(of.until), remark)
    return (fact, *(_harmless(str(cell)) for cell in cells))


def _harmless(cell: str) -> str:
    """A spreadsheet program would take these for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell


def _home(person: Person, zone: ZoneInfo, says: Mapping[str, str]) -> str:
    if person.home is None:
        return says["vacant"]
    reference = f" ({person.home.reference})" if person.home.reference else ""
    since = _day(person.home.since, zone)
    who = {"id": shown(person.home.id), "reference": reference, "since": since}
    if person.home.until is None:
        return says["lived"].format(**who)
    return says["lived_until"].format(**who, until=_day(person.home.until, zone))


def _stopped(person: Person, says: Mapping[str, str]) -> Iterable[str]:
    for one in person.stopped:
        yield says["stopped_words"].format(
            recipient=one.recipient, channels=", ".join(one.channels), purpose=one.purpose
        )
    for duty in person.duties:
        yield says["goes_on"].format(recipient=duty.recipient, reference=duty.reference)


def _measured(person: Person, language: str) -> Iterable[Sequence[str]]:
    seen = sorted({one.channel for one in person.told})
    for channel in seen:
        yield catalogue.label(channel, language), catalogue.shows(channel, language)


def _sent(
    sent: Sequence[Told], person: Person, zone: ZoneInfo, language: str
) -> Iterable[Sequence[str]]:
    consents = {one.id: one for one in person.consents}
    for one in sent:
        consent = consents.get(one.basis)
        said = (
            "" if consent is None else f"{_day(consent.said, zone)} → {_day(consent.until, zone)}"
        )
        step = catalogue.step(one.step or 0, language)
        yield one.recipient, catalogue.label(one.channel, language), step, one.why, said


def _in_sums(person: Person, zone: ZoneInfo, language: str) -> list[str]:
    """In which sums the dwelling stands: of it alone they tell nothing."""
    says = WORDS[language]
    if not person.summed:
        return []
    rows = [
        (
            one.recipient,
            catalogue.label(one.channel, language),
            says["sum_never"] if one.step is None else catalogue.step(one.step, language),
            str(len(one.members)),
            "" if one.until is None else _day(one.until, zone),
        )
        for one in person.summed
    ]
    return [
        f"<h2>{says['sums']}</h2>",
        _paragraph(says["sums_words"]),
        _table(rows, says["sums_columns"]),
    ]


def _received(person: Person) -> Iterable[Sequence[str]]:
    for day in person.disclosed:
        yield day.day, day.recipient, day.channel, str(day.values)


def _table(rows: Iterable[Sequence[str]], columns: str) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns.split("|"))
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _day(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d")


def _iso(at: int | None) -> str:
    return "" if at is None else stamp(at)
