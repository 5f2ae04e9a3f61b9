"""The monthly report on the orders of a building, and the notice for its stairwells. Pure.

Both are made from the answer to `control.report`, in French or English, as text or as a page. Their
texts are in report.toml.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agent.control.history import how_ended
from agent.control.model import FAILSAFE, SUPPLY, OrderState
from agent.core.i18n import Text
from agent.core.quantities import spoken
from agent.registry.dates import MONTHS, day_written_out, time_written_out
from agent.registry.page import Page, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEXTS = Path(__file__).with_name("report.toml")
EXTREME = re.compile(r"(^|, )(lowest|highest) (.*?) (-?[0-9.]+ [^,]*)")
EVIDENCE = re.compile(r"\b(vote|contract|form) ([^;]*) of ([0-9]{4}-[0-9]{2}-[0-9]{2})")
GUARDED = re.compile(r"guard:([^:]*): (.*)")
AS_PLANNED = frozenset({OrderState.COMPLETED, OrderState.SCHEDULED, OrderState.STARTED})
"""states to which the words of the journal add nothing"""


def monthly(document: Mapping[str, Any], language: str) -> Page:
    """The report of one month, for the manager and the operator."""
    wording = _Wording(language, document)
    page = wording.page("report")
    if not document["controls"]:
        page.paragraph(wording.text("report", "no_controls"))
    for name, control in document["controls"].items():
        page.heading(f"{control['object']} ({name})" if control["object"] else name)
        page.bullets(list(_summary(control, wording)))
        for order in control["orders"]:
            value = wording.value(order, control)
            title = wording.text("report", "order", time=wording.at(order["at"]), value=value)
            page.entry(title, list(_rows(order, wording)))
    return page


def stairwell(document: Mapping[str, Any], language: str) -> Page:
    """The notice for the people of the building: what was changed, when, at whose request, and why.

    It has no refused orders, which changed nothing, and no words that could name a person.
    """
    wording = _Wording(language, document)
    page = wording.page("notice")
    if not document["controls"]:
        page.paragraph(wording.text("report", "no_controls"))
    for name, control in document["controls"].items():
        page.heading(control["object"] or name)
        if until := control["opted_out_until"]:
            page.paragraph(wording.text("notice", "paused", time=wording.at(until)))
        concerned = [
            order
            for order in control["orders"]
            if order["begun"] or order["state"] == OrderState.SCHEDULED
        ]
        lines = [wording.sentence(order, control) for order in concerned]
        page.bullets(lines or [wording.text("notice", "nothing")])
        if control["phones"]:
            page.paragraph(wording.text("notice", "phones", phones=", ".join(control["phones"])))
    return page


def _summary(control: Mapping[str, Any], wording: _Wording) -> Iterator[str]:
    orders = control["orders"]
    done = [order for order in orders if order["begun"]]
    running = [order for order in done if order["state"] == OrderState.STARTED]
    held = sum(order["held_s"] for order in done)
    held += sum(wording.seconds_so_far(order["begun"]) for order in running)
    hours, minutes = divmod(held // 60, 60)
    refused = sum(order["state"] == OrderState.REJECTED for order in orders)
    if control["operator"]:
        yield wording.text("report", "operator", operator=control["operator"])
    yield wording.text(
        "report", "summary", done=len(done), hours=hours, minutes=minutes, refused=refused
    )
    if running:
        yield wording.text("report", "running", number=len(running))
    if until := control["opted_out_until"]:
        yield wording.text("report", "paused", time=wording.at(until))
    if (sheet := control["sheet"]) and not sheet["accepted"]:
        yield wording.text("report", "unsigned", version=sheet["version"])


def _rows(order: Mapping[str, Any], wording: _Wording) -> Iterator[tuple[str, str]]:
    def row(name: str, value: str, instead: str = "–") -> tuple[str, str]:
        return wording.text("report", name), value or instead

    if order["by"]:
        yield row("by", wording.by(order))
        yield row("authorization", wording.evidence(order["authorization"]))
        yield row("why", order["why"], wording.text("both", "no_reason"))
    if order["begun"]:
        yield row("begun", wording.at(order["begun"]))
        if order["state"] != OrderState.STARTED:
            over = wording.at(order["released"]) if order["released"] else ""
            yield row("released", over, wording.text("report", "unconfirmed"))
            yield row("seen", wording.seen(order["seen"]), wording.text("report", "unseen"))
    yield row("result", wording.result(order))


class _Wording:
    """Sentences in one language about one document."""

    def __init__(self, language: str, document: Mapping[str, Any]) -> None:
        self._document, self._language = document, language
        self._texts, self._zone = texts(TEXTS, language), ZoneInfo(document["timezone"])

    def text(self, section: str, key: str, /, **values: Any) -> str:
        text: str = self._texts[section][key]
        return text.format(**values)

    def page(self, section: str) -> Page:
        """An empty page with its title, and with what the reader must know of the document."""
        document = self._document
        year, month = document["month"].split("-")
        named = f"{MONTHS[self._language][int(month) - 1]} {year}"
        page = Page(self._language, self.text(section, "title", month=named))
        page.paragraph(document["building"])
        if not document["ended"]:
            page.paragraph(self.text("both", "not_over", time=self.at(document["until"])))
        if not document["complete"]:
            page.paragraph(self.text("both", "incomplete"))
        return page

    def at(self, stamp: str) -> str:
        """A time as people of the building write it."""
        at = datetime.fromisoformat(stamp).timestamp()
        return time_written_out(at, self._zone, self._language)

    def seconds_so_far(self, begun: str) -> int:
        """Seconds from a begin to the end of what the document covers."""
        until = datetime.fromisoformat(self._document["until"])
        return round((until - datetime.fromisoformat(begun)).total_seconds())

    def day(self, stamp: str) -> str:
        """The day of a time."""
        return day_written_out(f"{self._local(stamp):%Y-%m-%d}", self._language)

    def _local(self, stamp: str) -> datetime:
        return datetime.fromisoformat(stamp).astimezone(self._zone)

    def by(self, order: Mapping[str, Any]) -> str:
        """What people call who requested an order."""
        return str(self._document.get("names", {}).get(order["by"], order["by"]))

    def value(self, order: Mapping[str, Any], control: Mapping[str, Any]) -> str:
        """The value of an order with its unit."""
        unit = spoken(control["unit"], shift=control.get("action") == "offset")
        value = decimals(f"{order['value'].replace('-', '−')} {unit}".strip(), self._language)
        failsafe = order["jti"] == FAILSAFE
        if control.get("action") == "offset":
            value = self.text("both", "shift", value=value)
        return self.text("both", "failsafe", value=value) if failsafe else value

    def seen(self, seen: str) -> str:
        """The worst values of the guards."""
        return extremes(seen, self._language)

    def evidence(self, text: str) -> str:
        """What the grants are based on."""
        return evidence(text, self._language)

    def guard(self, name: str) -> str:
        """The name of a guard for people."""
        return _guard(name, self._language)

    def result(self, order: Mapping[str, Any], *, public: bool = False) -> str:
        """How an order ended, and why. `public`: without the words of the journal."""
        ended, code, why = self.text("states", order["state"]), order["code"], order["outcome"]
        guard = GUARDED.match(why)
        if isinstance(why, Text) and not public:
            why = how_ended(why).in_language(self._language)
        elif code:
            why = self._texts["codes"].get(code.partition("(")[0], why)
        elif guard:
            why = self.text("both", "guard", name=self.guard(guard[1]), why=guard[2])
        elif public or self._language != "en":  # the words of an earlier version are English
            why = ""
        if code:
            return self.text("both", "refused", ended=ended, reason=why, code=code)
        plain = not why or order["state"] in AS_PLANNED
        return ended if plain else self.text("both", "ended", ended=ended, why=why)

    def sentence(self, order: Mapping[str, Any], control: Mapping[str, Any]) -> str:
        """One order for the people of the building."""
        begin, end = order["begun"] or order["planned"] or order["at"], order["released"]
        kind = "over" if end else "in_force" if order["begun"] else "planned"
        times = {"begin": self.at(begin), "end": self.at(end) if end else ""}
        if end and self.day(begin) == self.day(end):
            kind, times = (
                "on",
                {"day": self.day(begin)}
                | {
                    name: f"{self._local(at):%H:%M}"
                    for name, at in (("begin", begin), ("end", end))
                },
            )
        what = self.text("notice", kind, **times, value=self.value(order, control))
        return ". ".join((what, *self._reasons(order))) + "."

    def _reasons(self, order: Mapping[str, Any]) -> Iterator[str]:
        if order["by"]:
            why = order["why"].rstrip(".") or self.text("both", "no_reason")
            yield self.text("notice", "by", by=self.by(order))
            yield self.text("notice", "why", why=why)
        else:
            yield self.text("notice", "failsafe")
        if order["released"] and order["state"] != OrderState.COMPLETED:
            yield _capital(self.result(order, public=True))
        if order["seen"]:
            yield _capital(self.seen(order["seen"]))


def extremes(seen: str, language: str) -> str:
    """The worst values of the guards; the journal has them in English."""
    both = texts(TEXTS, language)["both"]
    worst = EXTREME.sub(
        lambda found: (
            found[1] + both[found[2]].format(name=_guard(found[3], language), value=found[4])
        ),
        seen,
    )
    return decimals(worst, language)


def evidence(text: str, language: str) -> str:
    """What the grants are based on; the journal has it as `vote TITLE of DAY; …`."""
    kinds = texts(TEXTS, language)["evidence"]
    return EVIDENCE.sub(
        lambda found: kinds[found[1]].format(
            title=found[2], day=day_written_out(found[3], language)
        ),
        text,
    )


def _guard(name: str, language: str) -> str:
    supply: str = texts(TEXTS, language)["both"]["supply"]
    return supply if name == SUPPLY else name


def decimals(text: str, language: str) -> str:
    """A text with the decimal mark of the language."""
    return re.sub(r"(?<=\d)\.(?=\d)", ",", text) if language == "fr" else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
