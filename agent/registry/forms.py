"""Consent forms: one page for each dwelling with a box for each purpose, and the list for the
answers. Pure.

The number of a page shows which occupants answer, and which withdrawals they knew of when it was
printed.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from agent.core.errors import Refused
from agent.registry import page, sheet
from agent.registry.dates import written_out
from agent.registry.page import colon, joined, part, texts_of
from agent.registry.place import parse, shown
from agent.registry.words import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.registry.records import ConsentMark, Form

NUMBER = "F"
"""first letter of a form's number"""
MOST_BOXES = 20
NEEDED = ("number", "dwelling", "boxes", "controller", "dpo", "withdraw")
"""placeholders that a template must have"""
FILES = {language: Path(__file__).with_name(f"form.{language}.html") for language in ("fr", "en")}
LIST = {
    "fr": ("formulaire", "logement", "bail", "signé le", "mode", "preuve"),
    "en": ("form", "dwelling", "lease", "signed", "method", "proof"),
}
ANSWER_COLUMNS = {
    **dict.fromkeys(("form", "formulaire", "n° de formulaire"), "form"),
    **dict.fromkeys(("dwelling", "place", "label", "logement", "appartement"), "place"),
    **dict.fromkeys(("lease", "bail", "n° de bail"), "lease"),
    **dict.fromkeys(("signed", "signé le", "given", "date de signature"), "signed"),
    **dict.fromkeys(("method", "mode"), "method"),
    **dict.fromkeys(("proof", "preuve"), "proof"),
    **{str(number): str(number) for number in range(1, MOST_BOXES + 1)},
}
"""the headings of the list for the answers, and what they mean"""


@dataclass(frozen=True, slots=True)
class Box:
    """One request for consent."""

    recipient: str
    purpose: str
    channels: tuple[str, ...]
    step: int
    """seconds"""
    months: int

    def text(self) -> str:
        """The box as a form stores it, in JSON."""
        members = [self.recipient, self.purpose, list(self.channels), self.step, self.months]
        return json.dumps(members, ensure_ascii=False)

    @classmethod
    def of(cls, text: str) -> Box:
        """A box from its stored text."""
        recipient, purpose, channels, step, months = json.loads(text)
        return cls(recipient, purpose, tuple(channels), step, months)


class Question(NamedTuple):
    """A box with its texts from the configuration."""

    box: Box
    name: str
    texts: Mapping[str, str]
    why: Mapping[str, str]


class FormLayout(NamedTuple):
    """What all pages have in common."""

    building: str
    zone: ZoneInfo
    controller: str
    contact: str
    dpo: str
    asks: Sequence[Question]
    templates: Mapping[str, str]
    """by language"""


class FormPage(NamedTuple):
    """One form with what its page shows."""

    form: Form
    label: str
    lease: str
    known: Sequence[ConsentMark]
    """what these people withdrew or refused before it was printed"""


def template(path: Path | None, language: str) -> str:
    """The template of a language, or the manager's own. Raises Refused if it lacks a placeholder or
    has an unknown one. Reads files: call it in a thread.
    """
    try:
        text = (path or FILES[language]).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise Refused(
            "{path}: the form's template cannot be read: {error}", path=path, error=error
        ) from error
    made = Template(text)
    if not made.is_valid():
        raise Refused("{path}: a $ stands alone; write $$ for a $ in the form", path=path)
    lacks = [f"${name}" for name in NEEDED if name not in made.get_identifiers()]
    known = {*NEEDED, "building", "printed", "known", "lease"}
    strange = [f"${name}" for name in made.get_identifiers() if name not in known]
    if lacks or strange:
        raise Refused(
            "{path}: the template lacks {lacks} and contains unknown names: {strange}",
                path=path, lacks=" ".join(lacks) or "-", strange=" ".join(strange) or "-"
        )  # fmt: skip
    # loading the texts and the template engine takes a small gateway seconds: here in a thread
    part("paragraph", texts_of("form", language)["none"])
    return text


def printed(pages: Sequence[FormPage], layout: FormLayout, language: str) -> str:
    """All pages as one HTML document, each on its own sheet."""
    whole = layout.templates[language]
    head, _body, rest = whole.partition("<body>")
    # a template without a body is repeated as a whole
    body, _end, tail = rest.rpartition("</body>")
    made = Template(body if _body and _end else whole)
    sheets = [made.substitute(_filled(page, layout, language)) for page in pages]
    between = '\n<div style="break-after:page"></div>\n'
    return f"{head}{_body}{page.unbroken(between.join(sheets))}{_end}{tail}"


def _filled(page: FormPage, layout: FormLayout, language: str) -> dict[str, str]:
    says, form = texts_of("form", language), page.form
    known = {(question.box.recipient, question.box.purpose): question for question in layout.asks}
    remarks = [
        says[mark.cause].format(
            on=written_out(mark.word.when, layout.zone, language),
            to=_named(mark.recipient, layout.asks) if mark.recipient else says["all"],
        )
        for mark in page.known
    ]
    boxes = [_box(Box.of(text), known, language) for text in form.asked]
    return {
        "number": shown(form.id), "dwelling": escape(page.label), "lease": escape(page.lease),
        "building": escape(layout.building),
        "printed": written_out(form.printed, layout.zone, language),
        "controller": escape(layout.controller), "dpo": escape(layout.dpo or says["none"]),
        "withdraw": escape(says["withdraw"].format(contact=layout.contact)),
        "boxes": part("boxes", boxes, says["box"], colon(language)),
        # two marks may give the same sentence, which the page shows once
        "known": "".join(part("paragraph", remark) for remark in dict.fromkeys(remarks)),
    }  # fmt: skip


def _box(
    box: Box, known: Mapping[tuple[str, str], Question], language: str
) -> tuple[str, list[tuple[str, str]], str]:
    """The question of a box, its facts, and how long the answer holds."""
    says = texts_of("form", language)
    asking = known.get((box.recipient, box.purpose))
    name = f"{asking.name} ({box.recipient})" if asking else box.recipient
    labels = _named_channels(box.channels, language)
    gives: dict[str, list[str]] = {}
    for channel in box.channels:
        gives.setdefault(page.shows(channel, language, box.step), []).append(channel)
    shows = [
        _named_channels(of, language) + colon(language) + f" {what}" if len(gives) > 1 else what
        for what, of in gives.items()
    ]
    facts = [
        (says["to"], name), (says["what"], f"{labels}, {page.step_words(box.step, language)}"),
        (says["shows"], joined(shows, language)),
    ]  # fmt: skip
    if any(map(page.indexed, box.channels)):
        facts.append((says["exchange"], says["exchange_words"]))
    until = says["until"].format(months=box.months, why=asking.why[language] if asking else "-")
    return asking.texts[language] if asking else box.purpose, facts, until


def _named_channels(of: Sequence[str], language: str) -> str:
    return ", ".join(page.label(one, language) for one in of)


def answer_list(pages: Sequence[FormPage], language: str) -> str:
    """The list for the answers, as CSV: a row for each form, a column for each box."""
    form, dwelling, lease, *rest = LIST[language]
    most = max((len(page.form.asked) for page in pages), default=0)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
    writer.writerow([form, dwelling, lease, *range(1, most + 1), *rest])
    for each in pages:
        number = shown(each.form.id)
        about = (sheet.harmless(each.label), sheet.harmless(each.lease))
        writer.writerow([number, *about, *[""] * (most + len(rest))])
    # without the byte order mark, spreadsheet programs show accents wrongly
    return f"\ufeff{text.getvalue()}"


def is_answer_list(text: str) -> bool:
    """Whether a table is a list of answers to forms: its headings have the form's number and a box,
    or a row begins with the number of a form.
    """
    heads = {sheet.plain(one) for one, name in ANSWER_COLUMNS.items() if name == "form"}
    for line in text.removeprefix("\ufeff").splitlines()[: sheet.ABOVE]:
        for mark in (*sheet.SEPARATORS, "|"):
            cells = [cell.strip('" ') for cell in line.split(mark)]
            plain = {sheet.plain(cell) for cell in cells}
            if (plain & heads and "1" in plain) or _is_number(cells[0]):
                return True
    return False


def _is_number(cell: str) -> bool:
    try:
        return bool(parse(cell, NUMBER))
    except Refused:
        return False


def answer(cell: str) -> str:
    """The answer in a cell of the list: `yes`, `no` or empty. Raises Refused."""
    if value := ANSWERS.find(cell):
        return value
    if not cell.strip():
        return ""
    raise Refused(
        '"{cell}" is neither yes nor no; leave the cell empty if there is no answer', cell=cell
    )


def _named(recipient: str, asks: Sequence[Question]) -> str:
    return next((one.name for one in asks if one.box.recipient == recipient), recipient)
