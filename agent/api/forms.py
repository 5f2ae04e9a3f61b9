"""Calls of the commands about consent forms: which are open, which consents end soon, and what came
back. As in calls.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from agent.api import answers
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import text_of
from agent.registry import parsers, sheet
from agent.registry.consent_policy import policy as named_policy
from agent.registry.dates import DAY
from agent.registry.forms import (
    ANSWER_COLUMNS,
    MOST_BOXES,
    NUMBER,
    Box,
    FormPage,
    answer,
    answer_list,
    printed,
)
from agent.registry.index import unknown
from agent.registry.inputs import NewAnswer
from agent.registry.labels import in_order
from agent.registry.place import parse, shown
from agent.registry.records import covers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from agent.api.answers import Answer
    from agent.registry.forms import FormLayout
    from agent.registry.records import Consent, ConsentMark, Form
    from agent.registry.registry import Registry

NO_SCANS: Mapping[str, str] = {}
SOON = 60
"""days before its end from which on a consent is listed for renewal"""


def pages(registry: Registry, forms: Sequence[Form]) -> list[FormPage]:
    """What each form shows."""
    homes = {home.id: home for home in registry.occupancies()}
    return [
        FormPage(
            form,
            registry.label(form.place) or shown(form.place),
            homes[form.occupancy].reference or "",
            [one for one in registry.marks(form.occupancy) if one.id in form.after],
        )
        for form in forms
    ]


def forms(  # noqa: PLR0913 -- as many options
    registry: Registry,
    *,
    who: str,
    now: float,
    places: Sequence[str],
    again: bool,
    due: int,
    boxes: Sequence[Box],
    look: FormLayout,
    language: str,
) -> Answer:
    """Print a form for each of these places, or for each occupied dwelling without an open form.
    `again`: print the open forms anew, with new numbers if people have withdrawn since; `due`:
    print for dwellings where a consent ends within this many days (0: not).
    """
    waits = {form.occupancy: form for form in open_forms(registry, now)}
    if again:
        # a yes on a form that does not know of a withdrawal has no effect: print a new form, which
        # knows of it
        stale = [
            form.place
            for form in waits.values()
            if form.signed is not None or _unknowing(registry, form)
        ]
        made = [form for form in waits.values() if form.place not in stale]
        made += registry.print_forms(stale, boxes, who, now) if stale else []
    else:
        chosen = places or _not_asked(registry, now, set(waits), due)
        made = registry.print_forms(chosen, boxes, who, now) if chosen else []
    of = sorted(pages(registry, made), key=lambda page: in_order(page.label))
    unknown = [
        registry.label(place)
        for place in registry.dwellings()
        if registry.occupancy_at(place, int(now)) is None
    ]
    return {
        "forms": [_form_answer(registry, page.form) for page in of],
        "html": printed(of, look, language) if of else "",
        "list": answer_list(of, language) if of else "",
        "nobody_known": [] if places else sorted(one for one in unknown if one),
    }


def _not_asked(registry: Registry, now: float, waits: set[str], due: int) -> list[str]:
    """Occupied dwellings that have never had a form; with `due`, those where a consent ends
    soon.
    """
    asked = {form.occupancy for form in registry.forms()}
    ends = {one.occupancy for one in ending(registry, now, due)} if due else set()
    homes = [registry.occupancy_at(place, int(now)) for place in registry.dwellings()]
    return [
        home.place
        for home in homes
        if home is not None
        and home.id not in waits
        and (home.id in ends or (home.id not in asked and not due))
    ]


def _unknowing(registry: Registry, form: Form) -> bool:
    """Whether people have withdrawn since a form was printed; then a yes on it has no effect."""
    return bool(_later_marks(registry, form, {Box.of(text).recipient for text in form.asked}))


def open_forms(registry: Registry, now: float) -> list[Form]:
    """The latest form of each occupancy, if it is not answered or a yes on it had no effect."""
    latest = {form.occupancy: form for form in registry.forms()}
    here = {home.id for home in registry.occupancies() if covers(home, int(now))}
    return [
        form
        for form in latest.values()
        if form.occupancy in here and (form.signed is None or _without_effect(registry, form))
    ]


def _without_effect(registry: Registry, form: Form) -> bool:
    """Whether an answer arrived too late: people had withdrawn after the form was printed, and have
    not agreed since by another way.
    """
    ticked = zip(map(Box.of, form.asked), form.answers, strict=False)
    agreed = {
        box.recipient
        for box, tick in ticked
        if tick == "yes"
        and not any(
            one.word.revision > form.word.revision and one.purpose == box.purpose
            for one in registry.consents_of(form.occupancy, box.recipient)
        )
    }
    return any(
        # without the marks that the form's own refusals drew
        mark.word.revision <= form.word.revision and mark.word.source != form.word.source
        for mark in _later_marks(registry, form, agreed)
    )


def _later_marks(registry: Registry, form: Form, recipients: Collection[str]) -> list[ConsentMark]:
    """Marks drawn after a form was printed."""
    marks = (registry.marks_of(form.occupancy, to) for to in recipients)
    return [
        # a pending mark would raise NotYet, and here only the drawn marks are asked for
        mark
        for of in marks
        for mark in unknown(of._replace(pending=False), form.after, (), "")
    ]


def ending(registry: Registry, now: float, days: int = SOON) -> list[Consent]:
    """Consents in force that end within this many days and are not continued by a later one."""
    homes = {home.id: home for home in registry.occupancies()}
    live = [
        one
        for one in registry.consents()
        if one.withdrawn is None
        and one.since <= now < one.until
        and covers(homes[one.occupancy], int(now))
    ]
    last: dict[tuple[str, str, str], Consent] = {}
    for consent in sorted(live, key=lambda one: one.until):
        # the consent that ends last continues the earlier ones
        last[consent.occupancy, consent.recipient, consent.purpose] = consent
    return sorted(
        (one for one in last.values() if one.until <= now + days * DAY), key=lambda one: one.until
    )


def due(registry: Registry, *, who: str, now: float, days: float = SOON) -> Answer:  # noqa: ARG001
    """List the forms without an answer and the consents that end within this many days."""
    waits = sorted(
        open_forms(registry, now), key=lambda form: in_order(registry.label(form.place) or "")
    )
    return {
        "forms": [_form_answer(registry, form) for form in waits],
        "printed": len(registry.forms()),
        **answers.consents(registry, ending(registry, now, int(days)), now),
    }


def _form_answer(registry: Registry, form: Form) -> Answer:
    return {
        "form": shown(form.id),
        "label": registry.label(form.place),
        "occupancy": form.occupancy,
        "printed": stamp(form.printed),
        "signed": stamp(form.signed) if form.signed is not None else None,
        "without_effect": form.signed is not None and _without_effect(registry, form),
        "boxes": len(form.asked),
        "answers": list(form.answers),
    }


def back(  # noqa: PLR0913 -- as many options
    registry: Registry,
    *,
    who: str,
    now: float,
    text: str,
    name: str = "",
    scans: Mapping[str, str] = NO_SCANS,
    kept: str = "",
    zone: str | None = None,
    policy: str = "FR-1",
    preview: bool = False,
) -> Answer:
    """Record the answers of a list: all rows or none. `scans`: SHA-256 of the scanned page by the
    number of its form; `kept`: where the signed pages are kept.
    """
    rows = []
    for line in sheet.read(text, name, ANSWER_COLUMNS, ("form", "signed")):
        (signed,), fault = parsers.dated(line, zone, "signed")
        cells = line.cells
        ticks: tuple[str, ...] = ()
        try:
            ticks = tuple(answer(cells.get(str(n), "")) for n in range(1, MOST_BOXES + 1))
        except Refused as error:
            fault = fault or text_of(error)
        rows.append(
            NewAnswer(
                cells.get("form", ""), _without_end(ticks), signed,
                cells.get("method", "") or "paper",
                _proof(cells, scans, kept), cells.get("place", ""), where=line.where, fault=fault,
            )
        )  # fmt: skip
    unknowing: list[Refused] = []
    under = named_policy(policy, zone=ZoneInfo(zone) if zone else None)
    before = {one.id for one in registry.consents()}
    changed = registry.answer(
        rows, who, name, now, under, without_effect=unknowing, preview=preview
    )
    ended = {one.id for one in changed if one.withdrawn is not None}
    replaced = {one.id for one in changed if one.replaced is not None}
    return answers.consents(registry, changed, now) | {
        "given": sum(one.id not in before for one in changed),
        "ended": len(ended),
        "replaced": len(replaced - ended),
        "proved": sum(one.id in before - ended - replaced for one in changed),
        "without_effect": [one.text for one in unknowing],
        "answers": len(rows),
        "refused": sum(row.answers.count("no") for row in rows),
        "without_scan": [] if not scans else sorted(_lacks(rows, scans)),
        "not_read": sheet.unread(text, name, ANSWER_COLUMNS),
    }


def _without_end(ticks: tuple[str, ...]) -> tuple[str, ...]:
    """The answers without empty ones at the end."""
    # so that answers compare as equal, however many columns the list has
    last = max((n for n, tick in enumerate(ticks, 1) if tick), default=0)
    return ticks[:last]


def _proof(cells: Mapping[str, str], scans: Mapping[str, str], kept: str) -> str:
    """The proof of an answer: the hash of its scan, and where the page is kept."""
    try:
        scan = scans.get(parse(cells.get("form", ""), NUMBER), "")
    except Refused:
        scan = ""
    parts = (cells.get("proof", ""), f"sha256:{scan}" if scan else "", kept)
    return " ".join(one for one in parts if one)


def _lacks(rows: Sequence[NewAnswer], scans: Mapping[str, str]) -> list[str]:
    """Forms without a scan, in a list where others have one."""
    lacks = []
    for row in rows:
        try:
            number = parse(row.form, NUMBER)
        except Refused:
            continue
        if number not in scans:
            lacks.append(shown(number))
    return lacks
