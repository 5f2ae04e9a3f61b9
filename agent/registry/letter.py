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
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from agent.core.clock import stamp
from agent.registry import catalogue
from agent.registry.access_log import YEARS
from agent.registry.consent_policy import LONGEST_KEPT, LONGEST_UNSENT
from agent.registry.dates import DAY, day_written_out
from agent.registry.dates import written_out as _day
from agent.registry.facts.place import described, particulars
from agent.registry.letter_words import WORDS
from agent.registry.page import bullets as _list
from agent.registry.page import document
from agent.registry.page import grid as _table
from agent.registry.page import heading as _title
from agent.registry.page import paragraph as _paragraph
from agent.registry.place import shown
from agent.registry.records import covers
from agent.registry.sheet import harmless

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
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
CSV_WORDS = {state: WORDS["en"][f"erasure_{state}"] for state in STATES}
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
    """names of texts `fact_…` in letter_words.py"""
    schemes: tuple[str, ...]
    """schemes of the dwelling's aliases"""


class KnowledgeGap(NamedTuple):
    """Something that the gateway cannot know about the people of a dwelling."""

    kind: str
    """name of a text `gap_…` in letter_words.py"""
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
    says = WORDS[language]
    title = f"{says['title']} {person.place.label}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _paragraph(f"{person.building} · {_day(now, zone, language)}"),
        _paragraph(says["intro"].format(place=f"{person.place.label} ({shown(person.place.id)})")),
        _paragraph(_home(person, zone, language)),
        *map(_paragraph, person.responsible),
        *(
            _paragraph(says["recorded"].format(title=title, value=value))
            for title, value in described(particulars(person.place), language).items()
        ),
    ]
    if person.gaps:
        gaps = (says[f"gap_{gap.kind}"].format(**gap.placeholders(language)) for gap in person.gaps)
        parts += [_title(says["gaps"]), _paragraph(says["gaps_words"]), _list(gaps)]
    if person.stop:
        parts += [_title(says["stopped"]), _list(_stopped(person, language))]
    parts += [
        _title(says["measured"]),
        *_measured(person, language),
        _title(says["sent"]),
        *_sent(person, zone, language),
        *_in_sums(person, zone, language),
        *_consents(person, zone, language),
        *_marks(person, zone, language),
        *_duties(person, zone, language),
        _title(says["held"]),
        *_held(person, says),
        _title(says["received"]),
        *_received(person, language),
        *_erasures(person, zone, language),
        *_looks(person, zone, language),
        _title(says["kept"]),
        _paragraph(says["kept_words"].format(days=person.keep_days, **PERIODS)),
        _title(says["rights"]),
        _paragraph(says["rights_words"]),
    ]
    return document(language, title, "\n".join(parts))


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
    for day in person.disclosed:
        what = ("received", day.basis, day.recipient, day.channel, "", day.day, "")
        yield (*what, f"{day.values} values; {CSV_WORDS[erasure_state(day, person.erasures)]}")
    for gone in person.erasures:
        answer = CSV_WORDS["confirmed"] if gone.rows is not None else CSV_WORDS["asked"]
        if gone.rows is None and not gone.linked:
            answer = CSV_WORDS["cannot_ask"]
        count = "" if gone.rows is None else f", {gone.rows} rows"
        cells = (gone.basis or "", gone.recipient, gone.channel or "", "")
        times = (_iso(gone.since, zone), _iso(gone.until, zone))
        asked = f"{gone.reason}, since {_iso(gone.asked, zone)}: {answer}{count}"
        yield ("erasure", *cells, *times, asked)
    for gap in person.gaps:
        remark = WORDS["en"][f"gap_{gap.kind}"].format(**gap.placeholders(None))
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


def _home(person: Person, zone: ZoneInfo, language: str) -> str:
    says = WORDS[language]
    if person.home is None and person.vacant_since is None:
        return says["unknown"]
    if person.home is None:
        return says["vacant"].format(since=_day(person.vacant_since or 0, zone, language))
    reference = f" ({person.home.reference})" if person.home.reference else ""
    since = _day(person.home.since, zone, language)
    who = {"id": shown(person.home.id), "reference": reference, "since": since}
    if person.home.until is None:
        return says["lived"].format(**who)
    return says["lived_until"].format(**who, until=_day(person.home.until, zone, language))


def _stopped(person: Person, language: str) -> Iterable[str]:
    says = WORDS[language]
    if not person.stopped:
        yield says["stopped_nothing"]
    for consent in person.stopped:
        how = "stopped_words" if consent.recipient in person.linked else "stopped_no_uplink"
        # whether the waiting values are destroyed is unknown while the spool cannot be read
        if person.lacks("unreadable", consent.recipient):
            how = "stopped_unreadable"
        yield says[how].format(
            recipient=consent.recipient,
            channels=_labels(consent.channels, language),
            purpose=consent.purpose,
        )
    for duty in person.duties:
        if person.here and covers(duty, int(person.now)):
            how = "goes_on" if duty.recipient in person.linked else "goes_on_no_uplink"
            yield says[how].format(recipient=duty.recipient, reference=duty.reference)


def _measured(person: Person, language: str) -> Iterable[str]:
    says = WORDS[language]
    channels = sorted({one.channel for one in person.explanations})
    if channels:
        rows = [
            (catalogue.label(one, language), catalogue.shows(one, language)) for one in channels
        ]
        yield _table(rows, says["measured_columns"])
    elif not person.here:
        yield _paragraph(says["measured_gone"])
    elif not any(one.kind == "meter" for one in person.gaps):
        yield _paragraph(says["measured_nothing"])
    else:
        yield _paragraph(says["measured_unknown"])


def _sent(person: Person, zone: ZoneInfo, language: str) -> Iterable[str]:
    says, rows = WORDS[language], []
    bases: dict[str, Consent | Duty] = {one.id: one for one in person.consents}
    bases |= {one.id: one for one in person.duties}
    for explanation in person.explanations:
        if explanation.step is None:
            continue
        label, step = (
            catalogue.label(explanation.channel, language),
            catalogue.step(explanation.step, language),
        )
        basis = bases.get(explanation.basis)
        dates = "" if basis is None else _span(basis, zone, language)
        rows.append((explanation.recipient, label, step, explanation.why, dates))
    for notice in person.notices:
        what = says["notice"].format(quantity=catalogue.label(notice.channel, language))
        why = says["notice_why"].format(reason=says[f"why_{notice.why}"])
        rows.append((notice.recipient, what, _often(notice.step, language), why, ""))
    if rows:
        yield _table(rows, says["sent_columns"])
    # with a gap, an empty table does not prove that nothing leaves
    if person.gaps and not rows:
        yield _paragraph(says["nothing_known"])
    elif any(one.kind in UNSURE for one in person.gaps):
        yield _paragraph(says["nothing_else_known"])
    elif not rows and any(one.recipient for one in person.held):
        yield _paragraph(says["nothing_new"])
    elif not rows:
        yield _paragraph(says["nothing_alone" if person.summed else "nothing"])
    for known in person.known:
        schemes = ", ".join(known.schemes)
        facts = ", ".join(says[f"fact_{one}"].format(schemes=schemes) for one in known.facts)
        yield _paragraph(says["knows"].format(recipient=known.recipient, facts=facts))


def _consents(person: Person, zone: ZoneInfo, language: str) -> Iterable[str]:
    """All consents of these people and their state."""
    says, rows = WORDS[language], []
    for consent in person.consents:
        until = person.ends(consent.until)
        linked = consent.recipient in person.linked
        if consent.withdrawn is not None:
            how = says["withdrawn"].format(day=_day(consent.withdrawn, zone, language))
        else:
            how = says[_standing(consent.since, until, person.now, linked=linked)]
        rows.append(
            (
                *(
                    consent.recipient,
                    _labels(consent.channels, language),
                    _often(consent.step, language),
                ),
                *(
                    consent.purpose,
                    _day(consent.given_at, zone, language),
                    _day(consent.since, zone, language),
                ),
                *("" if until is None else _day(until, zone, language), how),
            )
        )
    if rows:
        yield _title(says["consents"])
        yield _table(rows, says["consents_columns"])


def _marks(person: Person, zone: ZoneInfo, language: str) -> Iterable[str]:
    """Withdrawals and refusals of these people, and the forms printed for them."""
    says = WORDS[language]
    if person.marks:
        yield _title(says["marks"])
        yield _paragraph(says["marks_words"])
        yield _table(
            [
                (
                    _day(one.word.when, zone, language),
                    one.recipient or says["everyone"],
                    says[f"mark_{one.cause}"],
                )
                for one in person.marks
            ],
            says["marks_columns"],
        )
    if person.forms:
        yield _title(says["forms"])
        yield _table(
            [
                (
                    *(shown(one.id), _day(one.printed, zone, language)),
                    says["not_answered"]
                    if one.signed is None
                    else _day(one.signed, zone, language),
                )
                for one in person.forms
            ],
            says["forms_columns"],
        )


def _duties(person: Person, zone: ZoneInfo, language: str) -> Iterable[str]:
    """What the manager may receive without their consent during their occupancy."""
    says = WORDS[language]
    rows = []
    for duty in person.duties:
        linked = duty.recipient in person.linked
        how = says[_standing(duty.since, person.ends(duty.until), person.now, linked=linked)]
        rows.append(
            (
                *(duty.recipient, _labels(duty.channels, language), duty.reference),
                *(_billing(duty, language), _day(duty.since, zone, language)),
                *("" if duty.until is None else _day(duty.until, zone, language), how),
            )
        )
    if rows:
        yield _title(says["duties"])
        yield _paragraph(says["duties_words"].format(**PERIODS))
        yield _table(rows, says["duties_columns"])


def _standing(since: int, until: int | None, now: float, *, linked: bool) -> str:
    """State of a consent or a duty now, as a name in letter_words.py."""
    if now < since:
        return "begins_later"
    if until is not None and until <= now:
        return "ended"
    return "in_force" if linked else "in_force_no_uplink"


def _held(person: Person, says: Mapping[str, str]) -> Iterable[str]:
    for recipient in sorted({one.recipient for one in person.held}):
        number = sum(one.recipient == recipient for one in person.held)
        text = says["waiting" if recipient else "registers"]
        yield _paragraph(text.format(number=number, recipient=recipient, **PERIODS))
    if any(one.kind == "meter" for one in person.gaps):
        yield _paragraph(says["held_unknown"])
    elif not person.explanations:
        yield _paragraph(says["held_nothing"])
    else:
        yield _paragraph(says["held_words_duty" if person.duties else "held_words"])


def _in_sums(person: Person, zone: ZoneInfo, language: str) -> list[str]:
    """The sums that include the dwelling; they reveal nothing about it alone."""
    says = WORDS[language]
    if not person.summed:
        return []
    rows = [
        (
            one.recipient,
            catalogue.label(one.channel, language),
            says["sum_never"] if one.step is None else catalogue.step(one.step, language),
            str(len(one.members)),
            "" if one.until is None else _day(one.until, zone, language),
        )
        for one in person.summed
    ]
    return [
        _title(says["sums"]),
        _paragraph(says["sums_words"]),
        _table(rows, says["sums_columns"]),
    ]


def _received(person: Person, language: str) -> Iterable[str]:
    says = WORDS[language]
    if not person.disclosed:
        yield _paragraph(says["received_unknown" if person.gaps else "received_nothing"])
        return
    rows = [
        (
            *(day_written_out(one.day, language), one.recipient),
            *(catalogue.label(one.channel, language), str(one.values)),
            says[f"erasure_{erasure_state(one, person.erasures)}"],
        )
        for one in person.disclosed
    ]
    yield _paragraph(says["received_words"])
    yield _table(rows, says["received_columns"])


def _looks(person: Person, zone: ZoneInfo, language: str) -> Iterable[str]:
    """Who looked at their data here: on how many days, by person and command."""
    if person.home is None:
        return
    says = WORDS[language]
    yield _title(says["looks"])
    yield _paragraph(says["looks_words"].format(**PERIODS))
    days: dict[tuple[str, str], list[str]] = {}
    for entry in person.looks:
        days.setdefault((entry.who, entry.what), []).append(_day(entry.at, zone, language))
    rows = [
        (who, says.get(f"look_{what}", what), str(len(on)), on[0], on[-1])
        for (who, what), on in days.items()
    ]
    yield _table(rows, says["looks_columns"]) if rows else _paragraph(says["looks_nothing"])


def _erasures(person: Person, zone: ZoneInfo, language: str) -> Iterable[str]:
    """What recipients were asked to erase, and their answers."""
    says, rows = WORDS[language], []
    for erasure in person.erasures:
        answer = says["answer_waits" if erasure.linked else "answer_never"]
        if erasure.rows is not None:
            answer = says["answer_rows" if erasure.rows else "answer_none"].format(
                rows=erasure.rows
            )
        what = (
            says["everything"]
            if erasure.channel is None
            else catalogue.label(erasure.channel, language)
        )
        until = "" if erasure.until is None else _day(erasure.until, zone, language)
        period = f"{_day(erasure.since, zone, language)} → {until}"
        reason = says.get(f"reason_{erasure.reason}", erasure.reason)
        rows.append(
            (_day(erasure.asked, zone, language), erasure.recipient, what, period, reason, answer)
        )
    if rows:
        yield _title(says["erasures"])
        yield _paragraph(says["erasures_words"])
        yield _table(rows, says["erasures_columns"])


def _often(step: int, language: str) -> str:
    """How often a value is sent; it need not be an index."""
    if step < DAY:
        return catalogue.step(step, language)
    return WORDS[language]["every_month" if step > DAY else "every_day"]


def _billing(duty: Duty, language: str) -> str:
    return ", ".join(day_written_out(one, language) for one in duty.billing)


def _labels(channels: Iterable[str], language: str) -> str:
    return ", ".join(catalogue.label(one, language) for one in channels)


def _span(basis: Consent | Duty, zone: ZoneInfo, language: str) -> str:
    until = "" if basis.until is None else _day(basis.until, zone, language)
    return f"{_day(basis.since, zone, language)} → {until}".strip()


def _iso(at: int | None, zone: ZoneInfo) -> str:
    return "" if at is None else datetime.fromtimestamp(at, zone).isoformat()
