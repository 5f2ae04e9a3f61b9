"""The letter to the people of a dwelling: what the gateway knows of it, who receives it and why.
Pure.

It answers articles 13 to 15 and 20 of the GDPR as far as the gateway can; it knows no names. The
letter has no readings. The table has those that are still on the gateway.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from agent.core.i18n import Text, joined
from agent.core.quantities import spoken
from agent.core.slot_runs import MISSING
from agent.registry import page
from agent.registry.access_log import YEARS
from agent.registry.consent_policy import LONGEST_KEPT, LONGEST_UNSENT
from agent.registry.dates import DAY, day_written_out, time_written_out, written_out
from agent.registry.dossier import MORE_MAY_LEAVE
from agent.registry.facts.place import described, particulars
from agent.registry.page import render, texts_of
from agent.registry.place import shown
from agent.registry.records import covers
from agent.registry.sheet import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from zoneinfo import ZoneInfo

    from agent.registry.dossier import (
        Announcement,
        Dossier,
        HeldValue,
        Holding,
        KnowledgeGap,
        MeterState,
        PastOrder,
        RecipientKnowledge,
    )
    from agent.registry.records import Consent, Duty, Installation, Occupancy

    Translator = Callable[[str, str], str]

COLUMNS = (
    *("fact", "id", "recipient", "channels", "step", "since", "until", "remark"),
    *("value", "unit", "quality"),
)
HEADINGS = {
    "en": COLUMNS,
    "fr": (
        *("nature", "identifiant", "destinataire", "grandeurs", "pas en s", "depuis", "jusqu'au"),
        *("remarque", "valeur", "unité", "qualité"),
    ),
}
FACTS_FR = {
    "responsible": "responsable", "place": "lieu", "occupancy": "occupation", "meter": "compteur",
    "sent": "envoyé", "not_sent": "pas envoyé", "consent": "accord", "mark": "retrait ou refus",
    "form": "formulaire", "duty": "obligation", "known": "communiqué", "withheld": "retenu",
    "sum": "total", "received": "reçu", "holds": "détenu", "erasure": "effacement",
    "unknown": "inconnu", "look": "consultation", "order": "ordre", "waits": "en attente",
    "register": "relevé de minuit", "announced_missing": "absence annoncée",
    "announced_withheld": "retenue annoncée",
}  # fmt: skip
PERIODS = {
    "unsent": LONGEST_UNSENT // DAY,
    "registers": LONGEST_KEPT // DAY,
    "years": YEARS // (366 * DAY),
}
"""retention in days and years, as the letter states it"""


def _as_it_is(text: str, _language: str) -> str:
    return text


class Wording:
    """The parts of a letter that need more than a look into a table of texts."""

    def __init__(self, dossier: Dossier, language: str) -> None:
        self.says = texts_of("letter", language)
        self._dossier, self._language = dossier, language
        self._mentioned: set[str] = set()
        self._bases: dict[str, Consent | Duty] = {one.id: one for one in dossier.consents}
        self._bases |= {one.id: one for one in dossier.duties}

    def who(self, recipient: str) -> str:
        """What people call a recipient; at its first mention with its DNS name."""
        name = self._dossier.names.get(recipient, "")
        if not name or recipient in self._mentioned:
            return name or recipient
        self._mentioned.add(recipient)
        return f"{name} ({recipient})"

    def unknown(self, gap: KnowledgeGap) -> dict[str, str]:
        """What the text of a gap needs."""
        return gap.placeholders(self._language) | {"recipient": self.who(gap.recipient)}

    def day(self, at: float | None) -> str:
        """A date; empty if there is none."""
        return "" if at is None else written_out(at, self._dossier.zone, self._language)

    def minute(self, at: float | None) -> str:
        """A time; empty if there is none."""
        return "" if at is None else time_written_out(at, self._dossier.zone, self._language)

    def span(self, basis: str) -> str:
        """From when to when a consent or a duty holds."""
        if (of := self._bases.get(basis)) is None:
            return ""
        return self.lasting(of.since, of.until)

    def lasting(self, since: float | None, until: float | None) -> str:
        """From when to when something holds; an end that is not known is left out."""
        kind = "lasts_" + "".join(
            name for name, at in (("from", since), ("to", until)) if at is not None
        )
        days = {"since": self.day(since), "until": self.day(until)}
        return "" if kind == "lasts_" else self.says[kind].format(**days)

    def measures(self, meter: MeterState) -> list[str]:
        """The channels that a meter measures in the dwelling."""
        if meter.installation.channel:
            return [meter.installation.channel]
        name = meter.device.name if meter.device else None
        return sorted({one.channel for one in self._dossier.explanations if one.device == name})

    def value(self, order: PastOrder) -> str:
        """The value of an order with its unit."""
        value = order.value.replace("-", "−")
        value = value.replace(".", ",") if self._language == "fr" else value
        value = f"{value} {spoken(order.unit, shift=order.action == 'offset')}".strip()
        return self.says["shift"].format(value=value) if order.action == "offset" else value

    @staticmethod
    def source(source: str) -> str:
        """The list from which a fact comes, without its folder and line; empty: no list."""
        name = source.rpartition("/")[2].partition(":")[0]
        return "" if name.startswith("gardien ") or not name else f" ({name})"

    def basis(self, basis: str) -> str:
        """The purpose of a consent, or the reference of a duty."""
        of = self._bases.get(basis)
        return "" if of is None else getattr(of, "purpose", "") or getattr(of, "reference", "")

    def often(self, step: int) -> str:
        """How often a value is sent; it need not be an index."""
        if step < DAY:
            return page.step_words(step, self._language)
        return self.says["every_month" if step > DAY else "every_day"]

    def facts(self, known: RecipientKnowledge) -> str:
        """What a recipient knows besides values."""
        schemes = ", ".join(known.schemes)
        texts = (self.says[f"fact_{fact}"] for fact in known.facts)
        return ", ".join(text.format(schemes=schemes) for text in texts)

    def dates(self, duty: Duty) -> str:
        """When the next indexes of a duty are due."""
        dates = self._dossier.duty_dates(duty)
        return ", ".join(self.says[f"due_{due.why}"].format(day=self.day(due.at)) for due in dates)

    def has(self, holding: Holding | Announcement) -> str:
        """How many values a recipient still has."""
        least, most = self.count(holding.least), self.count(holding.most)
        return most if least == most else self.says["between"].format(least=least, most=most)

    def count(self, number: int) -> str:
        """A number as the reader writes it."""
        return f"{number:,}".replace(",", "\u202f" if self._language == "fr" else ",")


def letter(
    dossier: Dossier,
    language: str,
    journal: tuple[Translator, Translator] = (_as_it_is, _as_it_is),
) -> str:
    """The letter as one self-contained HTML page.

    `journal`: put the authorizations of orders, and their worst values, into the language.
    """
    evidence, extremes = journal
    wording = Wording(dossier, language)
    looks: dict[tuple[str, str, str], list[str]] = {}
    for entry in dossier.looks:
        key = (entry.who, entry.what, entry.reason)
        looks.setdefault(key, []).append(wording.day(entry.at))
    names = (
        *("day", "minute", "span", "basis", "often", "facts", "dates", "has", "says"),
        *("lasting", "measures", "source", "value", "who", "unknown", "count"),
    )
    return render(
        "registry/letter.html", language=language,
        title=f"{wording.says['title']} {dossier.place.label}",
        dossier=dossier, now=dossier.now, periods=PERIODS, unsure=MORE_MAY_LEAVE, looks=looks,
        **{name: getattr(wording, name) for name in names},
        evidence=lambda text: evidence(text, language),
        extremes=lambda text: extremes(text, language),
        shown=shown, covers=covers,
        written=lambda date: day_written_out(date, language),
        billing=lambda duty: ", ".join(day_written_out(date, language) for date in duty.billing),
        label=lambda channel: page.label(channel, language),
        recorded=described(particulars(dossier.place), language),
        labels=lambda channels: ", ".join(page.label(name, language) for name in channels),
        shows=lambda channel: page.shows(channel, language),
        step=lambda step: page.step_words(step, language),
    )  # fmt: skip


def table(dossier: Dossier, language: str = "en") -> str:
    """The same facts as CSV with semicolons, one fact per line; below them each value that is still
    on the gateway. Times are local, with their offset.
    """
    zone, says = dossier.zone, texts_of("letter", language)
    rows: list[tuple[object, ...]] = [
        ("responsible", *[""] * 6, harmless(line)) for line in dossier.responsible
    ]
    rows += [
        ("place", dossier.place.id, *[""] * 5, says["recorded"].format(title=title, value=value))
        for title, value in described(particulars(dossier.place), language).items()
    ]
    if dossier.home is not None:
        home = dossier.home
        notified = [one for one in (dossier.moved_in, dossier.moved_out) if one is not None]
        by = (
            Text("recorded by {who}, {day}", who=one.who, day=_iso(one.when, zone))
            for one in notified
        )
        remark = joined("; ", filter(None, (home.reference, *by)))
        rows.append(_fact(zone, "occupancy", home.id, "", "", "", home, remark))
    for meter in dossier.meters:
        installed, device = meter.installation, meter.device
        answered = None if device is None or device.answered is None else int(device.answered)
        remark = Text(says[f"proof_{meter.proof}"])
        if answered is not None:
            remark += Text("; last answer {time}", time=_iso(answered, zone))
        name, channel = installed.meter, installed.channel or ""
        theirs = replace(installed, until=dossier.ends(installed.until))
        rows.append(_fact(zone, "meter", name, "", channel, "", theirs, remark))
    rows += [
        ("sent", reading.basis, reading.recipient, reading.channel, reading.step, "", "", "")
        for reading in dossier.explanations
        if reading.step is not None
    ]
    rows += [
        (
            *("not_sent", "", reading.recipient, reading.channel, "", "", ""),
            says[f"why_{reading.withheld}"],
        )
        for reading in dossier.withheld
    ]
    for consent in dossier.consents:
        remark = Text("{purpose}", purpose=consent.purpose)
        if consent.withdrawn is not None:
            remark += Text("; withdrawn {time}", time=_iso(consent.withdrawn, zone))
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
    rows += _facts_refused(dossier, zone, says)
    rows += _facts_told(dossier, zone, says)
    for sum_ in dossier.summed:
        since, until = _iso(sum_.since, zone), _iso(sum_.until, zone)
        cells = ("rest", sum_.recipient, sum_.channel, sum_.step or "", since, until)
        rows.append(
            ("sum", *cells, Text("one of {number} dwellings in a sum", number=sum_.dwellings))
        )
    rows += _facts_received(dossier, zone, says)
    rows += [
        (
            "look",
            "",
            "",
            "",
            "",
            _iso(one.at, zone),
            "",
            Text(
                "{who}: {what}",
                who=one.who,
                what=says.get(f"look_{one.what}", one.what)
                + (f" ({one.reason})" if one.reason else ""),
            ),
        )
        for one in dossier.looks
    ]
    rows += [_order(one, zone) for one in dossier.orders]
    rows += [_value(one, zone, says) for one in dossier.held]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\n")
    kinds = FACTS_FR if language == "fr" else {}
    writer.writerow(HEADINGS[language])
    writer.writerows(
        (
            kinds.get(str(row[0]), row[0]),
            *(
                harmless(one.in_language(language)) if isinstance(one, Text) else one
                for one in row[1:]
            ),
            *[""] * (len(COLUMNS) - len(row)),
        )
        for row in rows
    )
    return text.getvalue()


def _facts_refused(
    dossier: Dossier, zone: ZoneInfo, says: Mapping[str, str]
) -> Iterable[tuple[object, ...]]:
    """Rows of withdrawals and refusals, and of the forms."""
    for mark in dossier.marks:
        recipient, on = mark.recipient or "", _iso(mark.word.when, zone)
        yield ("mark", mark.id, recipient, "", "", on, "", says[f"mark_{mark.cause}"])
    for form in dossier.forms:
        signed = Text("not answered")
        if form.signed is not None:
            signed = Text("signed {time}", time=_iso(form.signed, zone))
        yield ("form", shown(form.id), "", "", "", _iso(form.printed, zone), "", signed)


def _facts_told(
    dossier: Dossier, zone: ZoneInfo, says: Mapping[str, str]
) -> Iterable[tuple[object, ...]]:
    """Rows of duties, and of what recipients are told besides values."""
    for duty in dossier.duties:
        channels = " ".join(duty.channels)
        remark = Text("{reference}", reference=duty.reference)
        if duty.recipient not in dossier.linked:
            remark += Text(" (no uplink: nothing is sent)")
        due = (
            says[f"due_{one.why}"].format(day=_iso(one.at, zone))
            for one in dossier.duty_dates(duty)
        )
        if dates := ", ".join(due):
            remark += Text("; next: {dates}", dates=dates)
        yield _fact(zone, "duty", duty.id, duty.recipient, channels, "", duty, remark)
    for known in dossier.known:
        facts = (
            says[f"fact_{one}"].format(schemes=", ".join(known.schemes)) for one in known.facts
        )
        facts_text = Text("told besides values: {facts}", facts=", ".join(facts))
        yield ("known", "", known.recipient, "", "", "", "", facts_text)
    for notice in dossier.notices:
        what = ("withheld", "", notice.recipient, notice.channel, notice.step, "", "")
        why = says[f"why_{notice.why}"]
        yield (*what, Text("{why}: the recipient is told, without a value", why=why))


def _facts_received(
    dossier: Dossier, zone: ZoneInfo, says: Mapping[str, str]
) -> Iterable[tuple[object, ...]]:
    """Rows of what was received, what of it was retracted, and what cannot be known."""
    for day in dossier.disclosed:
        what = ("received", day.basis, day.recipient, day.channel, "", day.day, "")
        state = says[f"erasure_{dossier.erasure_of(day)}"]
        yield (*what, Text("{number} values; {state}", number=day.values, state=state))
    for holding in dossier.holdings():
        has = Text("{least} to {most}", least=holding.least, most=holding.most)
        has = Text(str(holding.most)) if holding.least == holding.most else has
        what = ("holds", holding.basis, holding.recipient, holding.channel, "", "", "")
        yield (*what, Text("{has}; {number} values received", has=has, number=holding.received))
    for announced in dossier.announcements():
        has = Text("{least} to {most}", least=announced.least, most=announced.most)
        has = Text(str(announced.most)) if announced.least == announced.most else has
        fact = "missing" if announced.kind == MISSING else "withheld"
        what = f"announced_{fact}", "", announced.recipient, announced.channel, "", "", ""
        without = Text(
            "{has} of {number} readings without a value received",
            has=has,
            number=announced.received,
        )
        yield (*what, without)
    for gone in dossier.erasures:
        state = "asked" if gone.linked else "cannot_ask"
        answer = says[f"erasure_{state if gone.rows is None else 'confirmed'}"]
        cells = (gone.basis or "", gone.recipient, gone.channel or "", "")
        times = (_iso(gone.since, zone), _iso(gone.until, zone))
        asked = Text(
            "{reason}, since {time}: {answer}",
            reason=says.get(f"reason_{gone.reason}", gone.reason),
            time=_iso(gone.asked, zone),
            answer=answer,
        )
        if gone.rows is not None:
            asked += Text(", {number} rows", number=gone.rows)
        yield ("erasure", *cells, *times, asked)
    for gap in dossier.gaps:
        remark = says[f"gap_{gap.kind}"].format(**gap.placeholders(None))
        yield ("unknown", "", gap.recipient, "", "", "", "", harmless(remark))


def _order(order: PastOrder, zone: ZoneInfo) -> tuple[object, ...]:
    begun, ended = (None if at is None else int(at) for at in (order.begun, order.ended))
    parts = (order.by, order.authorization, order.reason, order.seen, order.result)
    remark = joined("; ", filter(None, parts))
    span = (_iso(begun, zone), _iso(ended, zone))
    return ("order", order.control, "", "", "", *span, remark, order.value, order.unit, order.state)


def _value(value: HeldValue, zone: ZoneInfo, says: Mapping[str, str]) -> tuple[object, ...]:
    fact = "waits" if value.recipient else "register"
    since, what = _iso(value.since, zone), (value.basis, value.recipient, value.channel, value.step)
    codes = re.split(r"[ +]", value.remark) if value.remark else []
    remark = "; ".join(
        says.get(f"why_{name}", says.get(f"held_{name}", name)).format(number=number)
        for name, _equals, number in (code.partition("=") for code in codes)
    )
    return (
        fact,
        *what,
        since,
        _iso(value.t, zone),
        remark,
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
    return (fact, *(one if isinstance(one, Text) else harmless(str(one)) for one in cells))


def _iso(at: int | None, zone: ZoneInfo) -> str:
    return "" if at is None else datetime.fromtimestamp(at, zone).isoformat()
