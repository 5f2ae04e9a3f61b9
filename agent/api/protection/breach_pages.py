"""The pages about a breach: the notification to the authority, and the letter to the people of a
dwelling. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

from agent.api.protection.breach import AUTHORITY_WITHIN, TEXTS, untranslated, whole_day
from agent.api.protection.published import contact
from agent.api.protection.stores import field_label, page_texts, periods, stores
from agent.registry import page
from agent.registry.dates import time_written_out, written_out
from agent.registry.page import Page, colon, joined, texts_of
from agent.registry.place import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.api.protection.breach import Breach, Concerned, Step
    from agent.config import Config
    from agent.registry.dossier import KnowledgeGap, RecipientKnowledge
    from agent.registry.records import Occupancy


@dataclass(frozen=True, slots=True)
class Case:
    """A breach with everything that its pages state."""

    breach: Breach
    config: Config
    concerned: Sequence[Concerned]
    labels: Mapping[str, str]
    """labels of all places, by id"""
    values: int
    """how many values of these people the recipients concerned received in that time"""
    received: Mapping[tuple[str, str], int]
    """the same number by recipient and occupancy"""
    knows: Mapping[tuple[str, str], RecipientKnowledge]
    """what each recipient was told besides values, by recipient and occupancy"""
    waiting: int | None
    """how many values wait on the gateway now; None: this says nothing about the breach"""
    staff: int
    """how many people who act on the gateway are named in the stores concerned"""
    unsure: Sequence[KnowledgeGap]
    """what the gateway cannot know about the data concerned"""
    missing: Sequence[str]
    """names of what must still be added"""

    def at(self, moment: float, language: str | None) -> str:
        """A time in the building's time zone, with minutes; without a language as ISO date."""
        if language is None:
            return datetime.fromtimestamp(moment, self.config.zone).strftime("%Y-%m-%d %H:%M")
        return time_written_out(moment, self.config.zone, language)

    def date_as_given(self, moment: int, language: str | None) -> str:
        """A time as it was given: without minutes if only a day was given."""
        at = datetime.fromtimestamp(moment, self.config.zone)
        # a beginning without a time is stored as 00:00, an end as the last second of its day
        whole = whole_day(moment) or at.time() == time()
        return self.day(moment, language) if whole else self.at(moment, language)

    def day(self, moment: float, language: str | None) -> str:
        """A day in the building's time zone; without a language as ISO date."""
        if language is None:
            return datetime.fromtimestamp(moment, self.config.zone).strftime("%Y-%m-%d")
        return written_out(moment, self.config.zone, language)


def notification(case: Case, language: str) -> Page:
    """The notification with everything that article 33(3) requires, as far as it is known."""
    says, breach = page_texts(language), case.breach
    page = Page(language, says["breach_title"])
    page.paragraph(says["breach_to"])
    number = says["breach_number"].format(id=breach.id, building=case.config.building.name)
    page.paragraph(number)
    # this page is the notification, and informing the people is not part of it
    lacks = [one for one in case.missing if one not in {"notified", "told"}]
    lacks += untranslated(breach, language)
    if lacks:
        page.heading(says["breach_open"])
        page.bullets([field_label(one, language) for one in lacks])
    page.heading(says["breach_who"])
    page.bullets(_who(case, language))
    page.heading(says["breach_when"])
    page.bullets(_when(case, language))
    page.heading(says["breach_what"])
    if breach.kinds:
        kinds = ", ".join(says[f"kind_{one}"] for one in breach.kinds)
        page.paragraph(says["breach_kinds"].format(kinds=kinds))
    page.paragraph(breach.text("what", language) or says["letter_unwritten"])
    if breach.keys:
        keys = ", ".join(says[f"key_{one}"] for one in breach.keys)
        page.paragraph(says["breach_keys"].format(keys=keys))
    if breach.recipients:
        page.paragraph(says["breach_recipients"].format(recipients=", ".join(breach.recipients)))
    if breach.scope or breach.recipients:
        page.heading(says["breach_stores"])
        texts = [
            (stores()[one], stores()[one].texts(case.config, language)) for one in breach.scope
        ]
        rows = [
            (text["name"], text["what"], store.protection(language, breach.keys))
            for store, text in texts
        ]
        rows += [_far(case, one, language) for one in breach.recipients]
        page.grid(rows, says["breach_stores_columns"])
    page.heading(says["breach_people"])
    page.bullets(_people(case, language))
    page.heading(says["breach_consequences"])
    page.paragraph(breach.text("consequences", language) or says["letter_unwritten"])
    if breach.risk:
        risk = says[f"risk_level_{breach.risk}"]
        page.paragraph(says["breach_risk"].format(risk=risk))
    page.heading(says["breach_measures"])
    page.paragraph(breach.text("measures", language) or says["letter_unwritten"])
    page.heading(says["breach_told"])
    notice = says["breach_told_not"]
    if breach.told is not None:
        notice = says["breach_told_on"].format(at=case.date_as_given(breach.told, language))
    page.paragraph(notice[:1].upper() + notice[1:] + ".")
    page.heading(says["breach_steps"])
    page.grid(_steps(case, language), says["breach_steps_columns"], dated=True)
    return page


def _far(case: Case, recipient: str, language: str) -> tuple[str, str, str]:
    """One table row: which data of these people a recipient concerned has."""
    says, homes = (
        page_texts(language),
        [one for one in case.concerned if recipient in one.recipients],
    )
    channels = {name for one in homes for name in one.channels}
    values = sum(n for (of, _home), n in case.received.items() if of == recipient)
    parts = []
    if channels:
        labels = ", ".join(page.label(one, language) for one in sorted(channels))
        parts.append(says["far_values"].format(channels=labels, values=values))
    known = [one for (of, _home), one in case.knows.items() if of == recipient]
    parts.append(_facts(known, recipient, language))
    return says["far_name"].format(recipient=recipient), joined(parts, language), says["far_how"]


def _facts(known: Sequence[RecipientKnowledge], recipient: str, language: str) -> str:
    """What a recipient was told besides values, as text; or that this is not known here."""
    facts = list(dict.fromkeys(fact for one in known for fact in one.facts))
    schemes = ", ".join(sorted({name for one in known for name in one.schemes}))
    labels = [texts_of("letter", language)[f"fact_{one}"].format(schemes=schemes) for one in facts]
    return ", ".join(labels) or page_texts(language)["far_unknown"].format(recipient=recipient)


def _who(case: Case, language: str) -> list[str]:
    says, privacy = page_texts(language), case.config.privacy
    return [
        f"{says[key]}{colon(language)} {contact(one, key, language)}"
        for key, one in (("controller", privacy.controller), ("dpo", privacy.dpo))
    ]


def _when(case: Case, language: str) -> list[str]:
    says, breach = page_texts(language), case.breach
    lines = (
        []
        if breach.began is None
        else [says["breach_began"].format(at=case.date_as_given(breach.began, language))]
    )
    ended = says["breach_going_on"]
    if breach.ended is not None:
        ended = says["breach_ended"].format(at=case.date_as_given(breach.ended, language))
    hours, deadline = AUTHORITY_WITHIN // 3600, case.at(breach.deadline, language)
    lines += [
        ended,
        says["breach_noticed"].format(at=case.at(breach.noticed, language)),
        says["breach_deadline"].format(hours=hours, at=deadline),
    ]
    if breach.noticed_before:
        was = ", ".join(case.at(one, language) for one in breach.noticed_before)
        first = case.at(breach.noticed_before[0] + AUTHORITY_WITHIN, language)
        lines.append(says["breach_moved"].format(was=was, first=first))
    if breach.notified is not None:
        reference = breach.reference or "–"
        at = case.date_as_given(breach.notified, language)
        lines.append(says["breach_notified"].format(at=at, reference=reference))
        if breach.notified > breach.deadline:
            delay = breach.text("delay", language) or says["letter_unwritten"]
            lines.append(says["breach_late"].format(delay=delay))
    return lines


def _people(case: Case, language: str) -> list[str]:
    says = page_texts(language)
    homes = [one for one in case.concerned if one.home is not None]
    dwellings = {one.place for one in case.concerned}
    lines = [says["breach_counts"].format(dwellings=len(dwellings), occupancies=len(homes))]
    scope = {*case.breach.scope}
    if case.breach.recipients or scope & {"kept", "disclosed", "disclosed_before"}:
        lines.append(says["breach_values"].format(values=case.values))
    if scope & {"spool", "quarantine"}:
        how = "breach_waiting" if case.waiting is not None else "breach_waiting_unknown"
        lines.append(says[how].format(values=case.waiting))
    if uncounted := [
        stores()[one].descriptions[language]["name"]
        for one in case.breach.scope
        if one not in {"spool", "quarantine", "kept"}
        and stores()[one].data in {"values", "indexes"}
    ]:
        lines.append(says["breach_uncounted"].format(names=", ".join(uncounted)))
    if case.staff:
        lines.append(says["breach_staff"].format(number=case.staff))
    lines += [gap_text(one, language) for one in case.unsure]
    if nobody := [case.labels[one.place] for one in case.concerned if one.home is None]:
        lines.append(says["breach_nobody"].format(labels=", ".join(nobody)))
    return lines


def gap_text(gap: KnowledgeGap, language: str, *, iso: bool = False) -> str:
    """Why a count is only a minimum. `iso`: with ISO dates, as the terminal has them."""
    says = page_texts(language)
    why = says["gaps"][gap.kind].format(**gap.placeholders(None if iso else language))
    return str(says["breach_values_least"].format(reasons=why))


def _steps(case: Case, language: str) -> list[tuple[str, str, str]]:
    return [
        (case.at(one.at, language), one.who, step_text(case, one, language))
        for one in case.breach.steps
    ]


def step_text(case: Case, step: Step, language: str, *, iso: bool = False) -> str:
    """What a step did, with the old and new value of each change. `iso`: with ISO dates, as the
    terminal has them.
    """
    changes = [_change(case, name, both, language, iso=iso) for name, both in step.changes.items()]
    if (
        step.what == "add" and not changes
    ):  # an earlier version recorded only the names of the members
        changes = [field_label(name, language) for name in step.detail.split()]
    what = page_texts(language)[f"step_{step.what}"]
    return str(what).format(number=step.detail, fields=joined(changes, language))


def _change(case: Case, name: str, values: Sequence[Any], language: str, *, iso: bool) -> str:
    before, after = values
    says, called = page_texts(language), field_label(name, language)
    if isinstance(after, list):
        # entries are only ever added to lists
        shown_ = (_value(case, name, one, language, iso=iso) for one in after if one not in before)
        return f"{called}{colon(language)} {', '.join(shown_)}"
    new = _value(case, name, after, language, iso=iso)
    if name.partition(":")[0] in TEXTS:
        return called if before is None else says["replaced"].format(field=called, before=before)
    if before in (None, ""):
        return f"{called}{colon(language)} {new}"
    old = _value(case, name, before, language, iso=iso)
    return str(says["changed"].format(field=called, before=old, after=new))


def _value(case: Case, name: str, value: Any, language: str, *, iso: bool) -> str:
    says = page_texts(language)
    if isinstance(value, int):
        return case.date_as_given(value, None if iso else language)
    if name == "homes":
        return shown(value)
    if name == "stores":
        return stores()[value].descriptions[language]["name"] if value in stores() else str(value)
    named = {"kinds": "kind", "keys": "key", "risk": "risk_level"}.get(name)
    return str(says[f"{named}_{value}"] if named else case.labels.get(value, value))


def _data(case: Case, of: Concerned, home: Occupancy, language: str) -> list[str]:
    """Which data of these people are concerned, as sentences; each kind of data once."""
    says, reach = page_texts(language), periods(case.config)
    began = case.breach.noticed if case.breach.began is None else case.breach.began
    earliest: dict[str, float] = {}
    for store in (stores()[one] for one in of.stores):
        back = began - reach[store.reach] if store.reach else home.since
        # what was measured before they moved in is not about them
        since = max(home.since, back)
        earliest[store.data] = min(since, earliest.get(store.data, since))
    labels = ", ".join(page.label(one, language) for one in of.channels)
    channels = f" ({labels})" if labels else ""
    sentences = [
        says[f"letter_{data}"].format(since=case.day(since, language), channels=channels)
        for data, since in earliest.items()
    ]
    for recipient in of.recipients:
        values = case.received.get((recipient, home.id), 0)
        known = case.knows.get((recipient, home.id))
        facts = _facts([known] if known else [], recipient, language)
        sentences += [
            says["letter_received"].format(channels=channels, recipient=recipient, values=values),
            says["letter_known"].format(recipient=recipient, facts=facts),
        ]
    return sentences or [says["letter_unnamed"]]


def letter(case: Case, of: Concerned, now: float, language: str) -> Page:
    """The letter that article 34(2) requires, in plain language, for the people who live or lived
    in a dwelling.
    """
    says, breach, home = page_texts(language), case.breach, of.home
    assert home is not None
    label = case.labels[of.place]
    page = Page(language, says["letter_title"].format(label=label))
    number = says["breach_short"].format(id=breach.id)
    page.paragraph(f"{case.config.building.name} · {case.day(now, language)} · {number}")
    reference = f", {home.reference}" if home.reference else ""
    whose = {"label": label, "id": shown(home.id), "reference": reference}
    if home.until is not None and home.until <= now:
        span = {"since": case.day(home.since, language), "until": case.day(home.until, language)}
        page.paragraph(says["letter_gone"].format(**whose, **span))
    else:
        page.paragraph(says["letter_here"].format(**whose))
    page.paragraph(says["letter_intro"])
    page.heading(says["letter_what"])
    page.paragraph(breach.text("what", language) or says["letter_unwritten"])
    since = (
        says["letter_unwritten"]
        if breach.began is None
        else case.date_as_given(breach.began, language)
    )
    until = None if breach.ended is None else case.date_as_given(breach.ended, language)
    how = "since" if until is None else "on" if until == since else "from_to"
    period = says[f"letter_{how}"].format(since=since, until=until)
    page.paragraph(says["letter_when"].format(period=period))
    page.heading(says["letter_data"])
    page.bullets(_data(case, of, home, language))
    if not breach.recipients:  # what the recipient's system knows besides is unknown here
        page.paragraph(says["letter_names"])
    page.heading(says["letter_consequences"])
    page.paragraph(breach.text("consequences", language) or says["letter_unwritten"])
    page.heading(says["letter_measures"])
    page.paragraph(breach.text("measures", language) or says["letter_unwritten"])
    page.heading(says["letter_you"])
    page.paragraph(says["letter_you_words"])
    page.heading(says["letter_contact"])
    page.bullets(_who(case, language))
    page.paragraph(says["letter_cnil"])
    return page
