"""What a status answers in a few words: four questions, and what works. Pure.

`gardien status` and the page show the same. `spell` writes a time (RFC 3339).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.clock import stamp
from agent.core.finding import ACTORS, Severity
from agent.core.i18n import N_, Plural, Text, joined
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agent.core.finding import Finding

    Spell = Callable[[str], str]

TRUST = {
    "trusted": N_("trusted"),
    "holdover": N_("trusted, not synchronized now"),
    "untrusted": N_("NOT TRUSTED"),
    "person": N_("by a person's word"),
}
CONNECTION = {
    "yes": N_("{uplink} connected, {receipt}"),
    "silent": N_("{uplink} does not answer, {receipt}"),
    "no": N_("{uplink} not connected, {receipt}"),
}
FEW = 3
"""parts that an answer to a question names"""
AND = N_("; ")
"""between the parts of a line"""


class AnsweredQuestion(NamedTuple):
    """One of the questions with which people come, and its answer."""

    text: Text
    answer: Text
    good: bool
    """whether nobody need worry about the answer"""


class Part(NamedTuple):
    """How a part of the gateway is, in a few words."""

    text: Text
    good: bool


def questions(
    answer: Mapping[str, Any], findings: Sequence[Finding], spell: Spell
) -> tuple[AnsweredQuestion, ...]:
    """Answer the four questions from a status and its findings."""
    lost, wrong = _of(findings, Severity.LOST), _of(findings, Severity.EQUIPMENT)
    waiting = _waiting(answer, findings, spell)
    must_act = _actors([one for one in findings if one.fine is False])
    return (
        AnsweredQuestion(Text("Data lost now?"), _lost(lost), good=not lost),
        AnsweredQuestion(
            Text("Data waiting?"),
            Text("yes: {parts}", parts=_few(waiting)) if waiting else Text("no"),
            good=not waiting,
        ),
        AnsweredQuestion(Text("Equipment held?"), _held(answer, wrong, spell), good=not wrong),
        AnsweredQuestion(Text("Who must act?"), must_act or Text("nobody"), good=not must_act),
    )


def _of(findings: Sequence[Finding], severity: Severity) -> list[Finding]:
    return [finding for finding in findings if finding.severity is severity]


def _lost(lost: Sequence[Finding]) -> Text:
    if not lost:
        return Text("no")
    return Text("YES: {subjects}", subjects=_few(list(dict.fromkeys(one.subject for one in lost))))


def _few(parts: Sequence[Text]) -> Text:
    """Return parts in one line of the screen; what does not fit is counted."""
    more = [Text("{number} more", number=len(parts) - FEW)] if len(parts) > FEW else []
    return joined(", ", [*parts[:FEW], *more])


def _waiting(answer: Mapping[str, Any], findings: Sequence[Finding], spell: Spell) -> list[Text]:
    kept = [finding for finding in _of(findings, Severity.WAITING) if not finding.uplink]
    parts = list(dict.fromkeys(finding.subject for finding in kept))
    for name, uplink in answer["uplinks"].items():
        backlog = uplink["backlog"]
        # an agent of an earlier version does not count those in quarantine
        refused = backlog.get("quarantined_rows", 0)
        number = backlog["slots"] + backlog["batch_rows"] + refused
        # what is only as old as the interval of sending lets it be does not wait
        if number and uplink.get("late", True):
            values = Plural("{number:,} value", "{number:,} values", number)
            since = spell(stamp(backlog["oldest"])) if backlog["oldest"] else ""
            oldest = Text(" since {since}", since=since) if since else ""
            parts.append(joined(" ", [name, values]) + oldest)
    return parts


def _held(answer: Mapping[str, Any], wrong: Sequence[Finding], spell: Spell) -> Text:
    held = [
        joined(" ", [name, _value(control["value"], control["unit"])])
        + (Text(" until {time}", time=spell(control["until"])) if control["until"] else "")
        for name, control in answer["controls"].items()
        if control["value"] is not None
    ]
    text = Text("yes: {controls}", controls=_few(held)) if held else Text("no")
    if not wrong:
        return text
    look = Text("LOOK AT {controls}", controls=_few([one.subject for one in wrong]))
    return joined("", [text, Text(AND), look])


def _value(value: str, unit: str) -> Text:
    number = Decimal(value)
    text = Text("−{number}", number=-number) if number < 0 else Text("{number}", number=number)
    return joined(" ", [part for part in (text, spoken(unit)) if part])


def _actors(findings: Sequence[Finding]) -> Text:
    counts = {actor: sum(finding.actor is actor for finding in findings) for actor in ACTORS}
    return joined(
        ", ",
        [
            joined(" ", [Text(ACTORS[actor]), f"({number})"])
            for actor, number in counts.items()
            if number
        ],
    )


def lines(links: Mapping[str, Mapping[str, Any]]) -> Iterator[Part]:
    """Yield how many devices of each line answer."""
    for name, link in links.items():
        text = Text(
            "{line} {answering} of {devices} devices answer",
            line=name,
            answering=answering(link),
            devices=link["devices"],
        )
        yield Part(text, good=answering(link) == link["devices"])


def answering(link: Mapping[str, Any]) -> int:
    """Return how many devices of a line answer."""
    return link["devices"] - link["silent"] if link["open"] else 0


def connection(delivery: Mapping[str, Any]) -> str:
    """Return the key of a connection's state in `CONNECTION`."""
    if not delivery["connected_since"]:
        return "no"
    # a broker that is frozen keeps the connection open
    return "silent" if delivery.get("silent_since") else "yes"


def uplinks(status: Mapping[str, Mapping[str, Any]], spell: Spell) -> Iterator[Part]:
    """Yield whether each uplink is connected, and when its last receipt came."""
    for name, uplink in status.items():
        last = uplink["delivery"]["last_receipt"]
        receipt = Text("last receipt {time}", time=spell(last)) if last else None
        state = connection(uplink["delivery"])
        receipt = receipt or Text("no receipt since the start")
        yield Part(Text(CONNECTION[state], uplink=name, receipt=receipt), good=state == "yes")


def gateway(answer: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the state of clock, certificate and disk."""
    clock = "person" if answer.get("clock_person_until") else answer["clock"]
    trust = Text("clock {trust}", trust=Text(TRUST.get(clock, clock)))
    yield Part(trust, good=clock in {"trusted", "holdover"})
    if certificate := answer["certificate"]:
        valid = Text("certificate {validity}", validity=certificate["validity"])
        yield Part(valid, good=not certificate["alarm"])
    free = Text("{number:,} MB free on the disk", number=answer["disk"]["free"] // 10**6)
    yield Part(free, good=not answer.get("disk_full"))


def dwellings(states: Mapping[str, int]) -> Text:
    """Return how many dwellings are occupied, vacant and unknown."""
    return Text(
        "{occupied} occupied, {vacant} vacant, {unknown} of unknown occupancy",
        occupied=states["occupied"], vacant=states["vacant"], unknown=states["unknown"],
    )  # fmt: skip
