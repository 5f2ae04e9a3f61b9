"""The letter to the people of a dwelling: what the gateway knows of it, who receives it and why.
Pure.

It answers articles 13 to 15 and 20 of the GDPR as far as the gateway can; it knows no names. The
letter has no readings. The table has those that are still on the gateway.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from agent.core.clock import stamp
from agent.registry import page
from agent.registry.access_log import YEARS
from agent.registry.consent_policy import LONGEST_KEPT, LONGEST_UNSENT
from agent.registry.dates import DAY, day_written_out, written_out
from agent.registry.facts.place import described, particulars
from agent.registry.page import render, texts_of
from agent.registry.place import shown
from agent.registry.records import covers
from agent.registry.sheet import harmless

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from zoneinfo import ZoneInfo

    from agent.registry.access_log import AccessEntry
    from agent.registry.explain import Explanation
    from agent.registry.records import (
        Consent,
        ConsentMark,
        Dated,
        Duty,
        Form,
        Installation,
        Occupancy,
        Place,
    )

COLUMNS = (
    *("fact", "id", "recipient", "channels", "step", "since", "until", "remark"),
    *("value", "unit", "quality"),
)
UNSURE = ("meter", "unreadable", "leftover", "clock")
"""kinds of gaps because of which more may leave than is known"""
STATES = (
    *("none", "asked", "cannot_ask", "confirmed"),
    *("asked_part", "cannot_ask_part", "confirmed_part"),
)
"""states of the erasure of received values; of several that apply the first counts"""
PERIODS = {
    "unsent": LONGEST_UNSENT // DAY,
    "registers": LONGEST_KEPT // DAY,
    "years": YEARS // (366 * DAY),
}
"""retention in days and years, as the letter states it"""


@dataclass(frozen=True, slots=True)
class DisclosedValues:
    """How many values one recipient received on one day."""

    day: str
    recipient: str
    place: str
    channel: str
    basis: str
    values: int
    occupancy: str = ""
    """whose they were; empty: an earlier version did not record it"""
    erasure: str = ""
    """state of their erasure; see `erasure_state`"""


class Erasure(NamedTuple):
    """A retraction: values that a recipient must erase."""

    recipient: str
    place: str
    channel: str | None
    """None: any, as for the next two members"""
    basis: str | None
    occupancy: str | None
    since: int
    until: int | None
    reason: str
    """as in `Retraction`"""
    asked: int
    """since when it is demanded, Unix second"""
    rows: int | None
    """how many rows the recipient reports as erased; None: not confirmed"""
    linked: bool
    """whether the recipient has an uplink through which it is asked"""

    def takes(self, received: DisclosedValues) -> bool:
        """Whether these received values are, or may be, among those to erase."""
        return (
            (self.recipient, self.place) == (received.recipient, received.place)
            and self.channel in (None, received.channel)
            and self.basis in (None, received.basis)
            and (not received.occupancy or self.occupancy in (None, received.occupancy))
        )


class WithheldNotice(NamedTuple):
    """A recipient is informed that a channel is withheld, without any value (`withheld: true`)."""

    recipient: str
    place: str
    channel: str
    step: int
    """seconds"""
    why: str


class RecipientKnowledge(NamedTuple):
    """What a recipient was told, or will be, of a dwelling and its people besides values."""

    recipient: str
    facts: tuple[str, ...]
    """names of texts `fact_…` in texts.yaml"""
    schemes: tuple[str, ...]
    """schemes of the dwelling's aliases"""


class KnowledgeGap(NamedTuple):
    """Something that the gateway cannot know about the people of a dwelling."""

    kind: str
    """name of a text `gap_…` in texts.yaml"""
    recipient: str = ""
    detail: str = ""

    def placeholders(self, language: str | None) -> dict[str, str]:
        """What its texts need. The detail of `restored` is a date: in this language, or ISO."""
        detail = self.detail
        if self.kind == "restored" and language is not None:
            detail = day_written_out(detail, language)
        return {"recipient": self.recipient, "detail": detail}


@dataclass(frozen=True, slots=True)
class HeldValue:
    """One value that is still on the gateway."""

    recipient: str
    """for whom it waits; empty: it is kept for a duty"""
    basis: str
    channel: str
    step: int
    since: int | None
    """of a quantity over a period: its beginning"""
    t: int
    value: str
    """with its own digits; empty: missing"""
    unit: str
    quality: str
    remark: str


@dataclass(frozen=True, slots=True)
class AggregateEntry:
    """A sum over dwellings for one recipient, with its members."""

    recipient: str
    channel: str
    step: int | None
    """seconds; None: it is not sent"""
    why: str
    """when it is sent, or why it is not"""
    since: int | None = None
    until: int | None = None
    """end of the time for which its group is fixed"""
    members: tuple[str, ...] = ()
    """dwellings, by id"""
    counts: int = 0
    """how many of its members the recipient is not sent one by one"""
    last: int | None = None
    """the last slot closed since the start"""
    n: int | None = None
    """how many dwellings were in that slot's sum; None: it was not sent"""


@dataclass(frozen=True, slots=True)
class Person:
    """Everything that the gateway knows about one dwelling and its people."""

    building: str
    place: Place
    home: Occupancy | None
    """None: the dwelling is vacant or its occupancy unknown"""
    meters: Sequence[Installation]
    explanations: Sequence[Explanation]
    consents: Sequence[Consent]
    duties: Sequence[Duty]
    disclosed: Sequence[DisclosedValues]
    keep_days: int
    """days for which copies of received values are kept"""
    held: Sequence[HeldValue] = ()
    marks: Sequence[ConsentMark] = ()
    forms: Sequence[Form] = ()
    serials: Container[str] = ()
    """serial numbers that devices report, in comparable form"""
    stopped: Sequence[Consent] = ()
    """consents that were withdrawn just now"""
    summed: Sequence[AggregateEntry] = ()
    """sums over dwellings that include this one"""
    now: float = 0
    here: bool = True
    """whether they live there now, or nobody does"""
    stop: bool = False
    """whether they asked to withdraw all their consents"""
    linked: frozenset[str] = frozenset()
    """recipients with an uplink"""
    vacant_since: int | None = None
    """if `home` is None: since when it is vacant; None: its occupancy is unknown"""
    notices: Sequence[WithheldNotice] = ()
    known: Sequence[RecipientKnowledge] = ()
    erasures: Sequence[Erasure] = ()
    gaps: Sequence[KnowledgeGap] = ()
    """what the gateway cannot know"""
    looks: Sequence[AccessEntry] = ()
    """who looked at their data on this gateway"""
    responsible: Sequence[str] = ()
    """the controller and the data protection officer, one line each"""

    def ends(self, until: int | None) -> int | None:
        """When something that ends at `until` ends for these people: at their move-out at the
        latest.
        """
        gone = None if self.home is None else self.home.until
        return min((one for one in (until, gone) if one is not None), default=None)

    def standing(self, basis: Consent | Duty) -> str:
        """State of a consent or a duty now, as the name of a text."""
        until = self.ends(basis.until)
        if self.now < basis.since:
            return "begins_later"
        if until is not None and until <= self.now:
            return "ended"
        return "in_force" if basis.recipient in self.linked else "in_force_no_uplink"

    def lacks(self, kind: str, recipient: str = "") -> bool:
        """Whether there is a gap of this kind."""
        return any(one.kind == kind and one.recipient == recipient for one in self.gaps)


def overlaps(document: Dated, home: Occupancy) -> bool:
    """Whether a document holds at any time of an occupancy, including its last instant."""
    ends = document.until is None or document.until > home.since
    return (
        ends
        and (home.until is None or document.since <= home.until)
        and document.since != document.until
    )


def erasure_state(received: DisclosedValues, erasures: Iterable[Erasure]) -> str:
    """State of the erasure of received values: `asked` (not confirmed yet), `cannot_ask` (no
    uplink), `confirmed`; with `_part` if only some of them may be concerned; or `none`.
    """
    whole, part = set(), set()
    for erasure in erasures:
        if not erasure.takes(received):
            continue
        state = "asked" if erasure.linked else "cannot_ask"
        state = state if erasure.rows is None else "confirmed"
        if erasure.reason == "withdrawn" and erasure.basis == received.basis:
            whole.add(state)  # a withdrawal holds for ever, whenever the values arrive
        # other retractions concern a period; the record has days only, so perhaps a part of them
        elif received.day <= stamp(erasure.asked)[:10]:
            part.add(f"{state}_part")
    return next((state for state in STATES if state in whole | part), "none")


def letter(person: Person, now: float, zone: ZoneInfo, language: str) -> str:
    """The letter as one self-contained HTML page."""
    says = texts_of("letter", language)
    bases: dict[str, Consent | Duty] = {consent.id: consent for consent in person.consents}
    bases |= {duty.id: duty for duty in person.duties}

    def day(at: float | None) -> str:
        return "" if at is None else written_out(at, zone, language)

    def span(basis: str) -> str:
        if basis not in bases:
            return ""
        return f"{day(bases[basis].since)} → {day(bases[basis].until)}".strip()

    def often(step: int) -> str:
        """How often a value is sent; it need not be an index."""
        if step < DAY:
            return page.step_words(step, language)
        return says["every_month" if step > DAY else "every_day"]

    def facts(known: RecipientKnowledge) -> str:
        schemes = ", ".join(known.schemes)
        return ", ".join(says[f"fact_{fact}"].format(schemes=schemes) for fact in known.facts)

    looks: dict[tuple[str, str], list[str]] = {}
    for entry in person.looks:
        looks.setdefault((entry.who, entry.what), []).append(day(entry.at))
    return render(
        "registry/letter.html", language=language, title=f"{says['title']} {person.place.label}",
        person=person, now=now, says=says, periods=PERIODS, unsure=UNSURE, looks=looks,
        day=day, span=span, often=often, facts=facts, shown=shown, covers=covers,
        erasure_state=erasure_state,
        written=lambda date: day_written_out(date, language),
        billing=lambda duty: ", ".join(day_written_out(date, language) for date in duty.billing),
        label=lambda channel: page.label(channel, language),
        recorded=described(particulars(person.place), language),
        labels=lambda channels: ", ".join(page.label(name, language) for name in channels),
        shows=lambda channel: page.shows(channel, language),
        step=lambda step: page.step_words(step, language),
    )  # fmt: skip


def table(person: Person, zone: ZoneInfo) -> str:
    """The same facts as CSV with semicolons, one fact per line; below them each value that is still
    on the gateway. Times are local, with their offset.
    """
    rows: list[tuple[object, ...]] = [
        ("responsible", *[""] * 6, harmless(line)) for line in person.responsible
    ]
    rows += [
        ("place", person.place.id, *[""] * 5, f"{name} {value}; not sent to anybody")
        for name, value in particulars(person.place).items()
        if value is not None
    ]
    if person.home is not None:
        home = person.home
        rows.append(_fact(zone, "occupancy", home.id, "", "", "", home, home.reference or ""))
    for meter in person.meters:
        proof = meter.proof(person.serials)
        rows.append(_fact(zone, "meter", meter.meter, "", meter.channel or "", "", meter, proof))
    for consent in person.consents:
        ended = "" if consent.withdrawn is None else f"; withdrawn {_iso(consent.withdrawn, zone)}"
        remark = f"{consent.purpose}{ended}"
        channels = " ".join(consent.channels)
        rows.append(
            _fact(
                zone,
                "consent",
                consent.id,
                consent.recipient,
                channels,
                consent.step,
                consent,
                remark,
            )
        )
    rows += _facts_refused(person, zone)
    for duty in person.duties:
        channels = " ".join(duty.channels)
        linked = "" if duty.recipient in person.linked else " (no uplink: nothing is sent)"
        remark = f"{duty.reference}{linked}"
        rows.append(_fact(zone, "duty", duty.id, duty.recipient, channels, "", duty, remark))
    for known in person.known:
        facts = f"told besides values: {', '.join(known.facts)} {' '.join(known.schemes)}".strip()
        rows.append(("known", "", known.recipient, "", "", "", "", facts))
    for notice in person.notices:
        what = ("withheld", "", notice.recipient, notice.channel, notice.step, "", "")
        rows.append((*what, f"{notice.why}: the recipient is told, without a value"))
    for sum_ in person.summed:
        since, until = _iso(sum_.since, zone), _iso(sum_.until, zone)
        cells = ("rest", sum_.recipient, sum_.channel, sum_.step or "", since, until)
        rows.append(("sum", *cells, f"one of {len(sum_.members)} dwellings in a sum"))
    rows += _facts_received(person, zone)
    rows += [
        ("look", "", "", "", "", _iso(one.at, zone), "", harmless(f"{one.who}: {one.what}"))
        for one in person.looks
    ]
    rows += [_value(one, zone) for one in person.held]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*row, *[""] * (len(COLUMNS) - len(row))) for row in rows)
    return text.getvalue()


def _facts_refused(person: Person, zone: ZoneInfo) -> Iterable[tuple[object, ...]]:
    """Rows of withdrawals and refusals, and of the forms."""
    for mark in person.marks:
        recipient, on = mark.recipient or "", _iso(mark.word.when, zone)
        yield ("mark", mark.id, recipient, "", "", on, "", mark.cause)
    for form in person.forms:
        signed = "not answered" if form.signed is None else f"signed {_iso(form.signed, zone)}"
        yield ("form", shown(form.id), "", "", "", _iso(form.printed, zone), "", signed)


def _facts_received(person: Person, zone: ZoneInfo) -> Iterable[tuple[object, ...]]:
    """Rows of what was received, what of it was retracted, and what cannot be known."""
    says = texts_of("letter", "en")
    for day in person.disclosed:
        what = ("received", day.basis, day.recipient, day.channel, "", day.day, "")
        yield (
            *what,
            f"{day.values} values; {says[f'erasure_{erasure_state(day, person.erasures)}']}",
        )
    for gone in person.erasures:
        state = "asked" if gone.linked else "cannot_ask"
        answer = says[f"erasure_{state if gone.rows is None else 'confirmed'}"]
        count = "" if gone.rows is None else f", {gone.rows} rows"
        cells = (gone.basis or "", gone.recipient, gone.channel or "", "")
        times = (_iso(gone.since, zone), _iso(gone.until, zone))
        asked = f"{gone.reason}, since {_iso(gone.asked, zone)}: {answer}{count}"
        yield ("erasure", *cells, *times, asked)
    for gap in person.gaps:
        remark = says[f"gap_{gap.kind}"].format(**gap.placeholders(None))
        yield ("unknown", "", gap.recipient, "", "", "", "", harmless(remark))


def _value(value: HeldValue, zone: ZoneInfo) -> tuple[object, ...]:
    fact = "waits" if value.recipient else "register"
    since, what = _iso(value.since, zone), (value.basis, value.recipient, value.channel, value.step)
    return (
        fact,
        *what,
        since,
        _iso(value.t, zone),
        value.remark,
        value.value,
        value.unit,
        value.quality,
    )


def _fact(  # noqa: PLR0913, PLR0917 -- the columns of a line
    zone: ZoneInfo,
    fact: str,
    id_: str,
    recipient: str,
    channels: str,
    step: int | str,
    of: Occupancy | Installation | Consent | Duty,
    remark: str,
) -> tuple[object, ...]:
    cells = (id_, recipient, channels, step, _iso(of.since, zone), _iso(of.until, zone), remark)
    return (fact, *(harmless(str(cell)) for cell in cells))


def _iso(at: int | None, zone: ZoneInfo) -> str:
    return "" if at is None else datetime.fromtimestamp(at, zone).isoformat()
